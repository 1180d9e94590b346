"""The C API reads and writes what NumPy says, from any thread, with the GIL and without."""

from __future__ import annotations

import gc
import random
import resource
import sys
import weakref
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from embedding_cases import ARRAYS, RESULTS, SHAPE, Outcome, call, fine, job, run, taken, values_of

import zarrcy
from zarrcy.stores.filesystem import FilesystemStore
from zarrcy.stores.zip import ZipStore


def random_region(rng: random.Random) -> tuple[list[int], list[int], list[int], tuple[Any, ...]]:
    """start, shape, step, and the same as NumPy's index."""
    start, shape, step, index = [], [], [], []
    for extent in SHAPE:
        indices = range(extent)
        if rng.random() < 0.7:
            begin = rng.randrange(extent)
            indices = indices[begin : rng.randint(begin + 1, extent) : rng.choice([1, 1, 1, 2, 3, 7])]
        if rng.random() < 0.2:
            indices = indices[::-1]
        start.append(indices[0])
        shape.append(len(indices))
        step.append(indices.step)
        index.append(list(indices))
    return start, shape, step, np.ix_(*index)


def scattered(shape: list[int], dtype: np.dtype[Any], rng: random.Random) -> np.ndarray[Any, Any]:
    """Memory for so many items, with its axes in any order, gaps, and backwards along some."""
    order = rng.sample(range(len(shape)), len(shape))
    gaps = [rng.choice([1, 1, 2, 3]) * rng.choice([1, 1, -1]) for _ in shape]
    room = np.zeros([shape[axis] * abs(gap) for axis, gap in zip(order, gaps)], dtype)
    view = room[tuple([slice(None, None, gap) for gap in gaps])]
    return view.transpose(np.argsort(order))


@pytest.mark.parametrize("kind", ARRAYS)
def test_regions_with_steps_and_strides_are_what_numpy_says(kind: str, probe: ModuleType, tmp_path: Path) -> None:
    array = ARRAYS[kind](tmp_path / "a.zarr")
    expected = np.full(SHAPE, array.fill_value, array.dtype)
    rng = random.Random(1)
    with taken(probe, array) as handle:
        for turn in range(60):
            start, shape, step, index = random_region(rng)
            memory = scattered(shape, array.dtype, rng)
            options = {"step": None if set(step) == {1} else step, "without_gil": rng.random() < 0.5}
            if turn % 2:
                memory[...] = values_of(array.dtype, tuple(shape), turn)
                fine(call(probe, handle, True, start, shape, memory, **options))
                expected[index] = memory
            else:
                fine(call(probe, handle, False, start, shape, memory, **options))
                assert (memory == expected[index]).all()
    assert (array[...] == expected).all()


@pytest.mark.parametrize("kind", ["files", "memory"])
def test_no_strides_are_c_order_and_nothing_around_the_region_is_touched(
    kind: str, probe: ModuleType, tmp_path: Path
) -> None:
    array = ARRAYS[kind](tmp_path / "a.zarr")
    values = values_of(array.dtype, SHAPE, 1)
    array[...] = values
    room = np.full(2 + 3 * 4 * 5, 77, array.dtype)
    with taken(probe, array) as handle:
        fine(call(probe, handle, False, [5, 2, 6], [3, 4, 5], room[1:], strides=None))
    assert (room[1:-1].reshape(3, 4, 5) == values[5:8, 2:6, 6:11]).all()
    assert room[0] == room[-1] == 77


@pytest.mark.parametrize("kind", ["files", "memory"])
def test_a_stride_of_0_writes_one_item_everywhere(kind: str, probe: ModuleType, tmp_path: Path) -> None:
    array = ARRAYS[kind](tmp_path / "a.zarr")
    item = np.array(5, array.dtype)
    with taken(probe, array) as handle:
        fine(call(probe, handle, True, [1, 0, 0], [9, 9, 11], item, strides=[0, 0, 0]))
        outcome = call(probe, handle, False, [1, 0, 0], [9, 9, 11], item, strides=[0, 0, 0])
    assert outcome.result == RESULTS["INVALID_ARGUMENT"]
    assert (array[1:10] == 5).all() and (array[0] == -1).all() and (array[10:] == -1).all()


@pytest.mark.parametrize("store", ["filesystem", "memory"])
def test_an_array_without_axes_and_an_empty_region_are_regions(store: str, probe: ModuleType, tmp_path: Path) -> None:
    options = {"path": str(tmp_path / "s")} if store == "filesystem" else {}
    scalar = zarrcy.create(shape=(), dtype="float64", storage=store, **options)
    one = np.array([2.5])
    with taken(probe, scalar, "f8") as handle:
        assert probe.info(handle)["ndim"] == 0
        fine(call(probe, handle, True, None, [], one, strides=None, ndim=0))
        one[0] = 0
        fine(call(probe, handle, False, None, [], one, strides=None, ndim=0))
    assert one[0] == scalar[()] == 2.5
    array = zarrcy.zeros((4, 10**12), chunks=(2, 1000), dtype="int8")
    with taken(probe, array) as handle:
        fine(call(probe, handle, False, [4, 0], [0, 10**12], None))
        fine(call(probe, handle, True, [4, 0], [0, 10**12], None))
        fine(call(probe, handle, False, [0, 10**12 - 1], [4, 1], np.ones((4, 1), "int8")))


# ---- Opening


def test_a_path_opens_what_a_python_array_has_written(probe: ModuleType, tmp_path: Path) -> None:
    array = ARRAYS["shards"](tmp_path / "ä.zarr")
    values = values_of(array.dtype, SHAPE, 2)
    array[...] = values
    read = np.empty(SHAPE, array.dtype)
    for mode, dtype in (("r", "int32"), ("r+", None), ("r", "<i4")):
        opened = Outcome(*probe.open_array(str(tmp_path / "ä.zarr"), "group/a", mode, dtype))
        fine(opened)
        assert probe.info(opened.handle) == {
            "ndim": 3,
            "is_writable": mode == "r+",
            "itemsize": 4,
            "shape": SHAPE,
            "chunk_shape": (2, 3, 5),
            "shard_shape": (8, 6, 5),
            "dtype": np.dtype("i4").str,
        }
        read[...] = 0
        fine(call(probe, opened.handle, False, [0, 0, 0], SHAPE, read))
        assert (read == values).all()
        fine(probe.close_array(opened.handle))
    fine(probe.open_array(str(tmp_path / "ä.zarr" / "group" / "a"), None, "r", None))


def test_what_is_written_into_an_archive_is_there_after_the_handle_is_closed(probe: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with ZipStore(path) as store:
        zarrcy.create_array(store, shape=8, chunks=4, dtype="int16")
    opened = Outcome(*probe.open_array(str(path), "", "r+", "i2"))
    fine(opened)
    fine(call(probe, opened.handle, True, [2], [3], np.array([7, 8, 9], "int16")))
    fine(probe.close_array(opened.handle))
    with ZipStore(path, mode="r") as store:
        assert zarrcy.open_array(store)[:].tolist() == [0, 0, 7, 8, 9, 0, 0, 0]


def test_a_store_that_was_opened_for_a_handle_is_closed_with_it_and_no_other(
    probe: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = ARRAYS["files"](tmp_path / "a.zarr")

    def close(store: FilesystemStore) -> None:
        raise zarrcy.StoreError("the last of it cannot be written", store=store.url)

    with monkeypatch.context() as patch:
        patch.setattr(FilesystemStore, "close", close)
        opened = Outcome(*probe.open_array(str(tmp_path / "a.zarr"), "group/a", "r", None))
        fine(opened)
        outcome = Outcome(*probe.close_array(opened.handle))
        assert outcome.result == RESULTS["STORE_FAILED"]
        assert outcome.message == f"{array.store.url}: the last of it cannot be written"
        with taken(probe, array):
            pass


@pytest.mark.parametrize("kind", ["files", "memory"])
def test_a_handle_keeps_its_array_and_gives_it_back(kind: str, probe: ModuleType, tmp_path: Path) -> None:
    array = ARRAYS[kind](tmp_path / "a.zarr")
    array[...] = 3
    dtype = array.dtype
    alive = weakref.ref(array)
    with taken(probe, array) as handle:
        del array
        gc.collect()
        assert alive() is not None
        read = np.zeros(SHAPE, dtype)
        fine(call(probe, handle, False, [0, 0, 0], SHAPE, read))
        assert (read == 3).all()
    gc.collect()
    assert alive() is None


def test_a_resize_is_not_seen_by_a_handle_that_is_open(probe: ModuleType, tmp_path: Path) -> None:
    array = zarrcy.create_array(FilesystemStore(tmp_path / "a"), shape=4, chunks=2, dtype="int8")
    with taken(probe, array) as handle:
        array.resize(9)
        array[...] = 1
        assert probe.info(handle)["shape"] == (4,)
        assert call(probe, handle, False, [4], [1], np.zeros(1, "int8")).result == RESULTS["OUT_OF_BOUNDS"]


# ---- Threads


@pytest.mark.parametrize("kind", ["files", "shards", "v2, big-endian, F", "text"])
def test_threads_that_python_never_saw_read_and_write_files_while_the_gil_is_held(
    kind: str, probe: ModuleType, tmp_path: Path
) -> None:
    """Whoever took the GIL here would wait for a thread that waits for it."""
    made_by = ARRAYS[kind](tmp_path / "a.zarr")
    array = zarrcy.Array(FilesystemStore(tmp_path / "a.zarr"), "group/a", made_by.metadata)  # nothing is open yet
    values = values_of(array.dtype, SHAPE, 3)
    with taken(probe, array) as handle:
        rows = [values[i : i + 1] for i in range(SHAPE[0])]
        jobs = [job(handle, True, [i, 0, 0], row.shape, row) for i, row in enumerate(rows)]
        for outcome in probe.run_in_threads(jobs, 3, True):
            fine(outcome)
        read = [np.zeros_like(values) for _ in range(8)]
        jobs = [job(handle, False, [0, 0, 0], SHAPE, memory) for memory in read]
        for outcome in probe.run_in_threads(jobs, 20, True):
            fine(outcome)
    assert all((memory == values).all() for memory in read)


@pytest.mark.parametrize("kind", ARRAYS)
def test_threads_that_python_never_saw_read_and_write_any_store(kind: str, probe: ModuleType, tmp_path: Path) -> None:
    """Eight threads, whose parts share chunks."""
    array = ARRAYS[kind](tmp_path / "a.zarr")
    values = values_of(array.dtype, SHAPE, 4)
    with taken(probe, array) as handle:
        parts = [values[k::8] for k in range(8)]
        jobs = [
            job(handle, True, [k, 0, 0], part.shape, part, step=[8 if len(part) > 1 else 1, 1, 1])
            for k, part in enumerate(parts)
        ]
        for outcome in probe.run_in_threads(jobs, 1, False):
            fine(outcome)
        read = [np.zeros_like(part) for part in parts]
        jobs = [
            job(handle, False, [k, 0, 0], part.shape, part, step=[8 if len(part) > 1 else 1, 1, 1])
            for k, part in enumerate(read)
        ]
        for outcome in probe.run_in_threads(jobs, 2, False):
            fine(outcome)
    assert all((got == part).all() for got, part in zip(read, parts))
    assert (array[...] == values).all()


@pytest.mark.parametrize("kind", ["files", "memory"])
def test_200_calls_at_one_time_are_all_answered(kind: str, probe: ModuleType, tmp_path: Path) -> None:
    array = ARRAYS[kind](tmp_path / "a.zarr")
    values = values_of(array.dtype, SHAPE, 5)
    array[...] = values
    read = [np.zeros_like(values) for _ in range(200)]
    with taken(probe, array) as handle:
        jobs = [job(handle, False, [0, 0, 0], SHAPE, memory) for memory in read]
        for outcome in probe.run_in_threads(jobs, 5, False):
            fine(outcome)
    assert all((memory == values).all() for memory in read)


@pytest.mark.bounds
def test_calls_leave_no_memory_behind(probe: ModuleType, tmp_path: Path) -> None:
    """A million table entries of 80 bytes in 500 calls, and none of them kept."""
    array = zarrcy.create_array(FilesystemStore(tmp_path / "a"), shape=2000, chunks=1, dtype="int8")
    memory = np.zeros(2000, "int8")
    with taken(probe, array) as handle:
        jobs = [job(handle, False, [0], [2000], memory)]
        fine(probe.run_in_threads(jobs, 20, False)[0])
        before = resident_nbytes()
        fine(probe.run_in_threads(jobs, 500, False)[0])
        assert resident_nbytes() - before < 16 << 20


def resident_nbytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize("kind", ["files", "memory"])
def test_errors_in_threads_that_python_never_saw_have_their_messages(
    kind: str, probe: ModuleType, tmp_path: Path
) -> None:
    array = ARRAYS[kind](tmp_path / "a.zarr")
    array[...] = 1
    key = array.chunk_key((0, 0, 0))
    array.store.set(key, b"nothing that a codec wrote")
    memory = [np.zeros(SHAPE, array.dtype) for _ in range(8)]
    with taken(probe, array) as handle:
        jobs = [job(handle, False, [0, 0, 0], SHAPE, part) for part in memory]
        for outcome in map(Outcome._make, probe.run_in_threads(jobs, 1, False)):
            assert outcome.result == RESULTS["CODEC_FAILED"]
            assert outcome.message.startswith(f"{array.store.url}: {key}: ")


FORK = """
import os, sys, threading
import numpy as np
import zarrcy
sys.path.insert(0, sys.argv[1])
import probe
array = zarrcy.create_array(sys.argv[2], shape=(64, 64), chunks=(8, 64), dtype="float64")
values = np.arange(64.0 * 64).reshape(64, 64)
array[...] = values
handle = probe.from_object(array, "f8")[3]
assert probe.set_threads(handle, 4)[0] == 0
def move(writes, data):
    return (handle, writes, 2, (0, 0), (64, 64), None, data.ctypes.data, data.strides, True)
read = [np.zeros_like(values) for _ in range(8)]
def keep_reading():
    assert {answer[0] for answer in probe.run_in_threads([move(False, memory) for memory in read], 200, False)} == {0}
for turn in range(5):
    thread = threading.Thread(target=keep_reading)
    thread.start()
    child = os.fork()
    if child == 0:
        own = np.zeros_like(values)
        assert probe.run(move(False, own), True)[0] == 0 and (own == values).all()
        assert probe.run(move(True, values), True)[0] == 0
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    thread.join()
    assert all((memory == values).all() for memory in read)
assert probe.close_array(handle)[0] == 0
print("both did")
"""


def test_a_handle_works_in_a_child_that_is_forked_while_others_read(probe_path: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, str(probe_path.parent)]
    assert "both did" in run([*command, str(tmp_path / "a.zarr")])
