"""Many readers and writers of one array: threads, processes, forks, Ctrl-C, a directory replaced below it."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import array_cases as cases
import numpy as np
import pytest
from child_scripts import run_script

import zarrcy
from zarrcy.stores.memory import MemoryStore
from zarrcy.threads import pause, run_with_helpers


def run_workers(*arguments: object, timeout: float = 120) -> str:
    return run_script("array_workers.py", *arguments, timeout=timeout)


def test_16_processes_and_32_threads_increment_items_of_one_shard_and_lose_nothing() -> None:
    with cases.directory_in_memory() as place:
        assert "24000 increments, none lost" in run_workers("increments", place / "a", "shards", 16, 32, 500)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["plain", "shards", "python", "sqlite"])
def test_increments_of_one_chunk_on_a_disk_lose_nothing(tmp_path: Path, kind: str) -> None:
    assert "24000 increments, none lost" in run_workers("increments", tmp_path / "a", kind, 16, 32, 500, timeout=900)


@pytest.mark.parametrize(
    ("kind", "processes", "n"), [("plain", 8, 40), ("shards", 8, 40), ("python", 4, 60), ("memory", 0, 500)]
)
def test_increments_through_other_stores_and_on_a_disk_lose_nothing(
    tmp_path: Path, kind: str, processes: int, n: int
) -> None:
    assert "none lost" in run_workers("increments", tmp_path / "a", kind, processes, 16, n)


@pytest.mark.parametrize("kind", ["plain", "shards", "python", "v2", "memory", "sqlite", "shared_memory"])
def test_appends_of_processes_and_threads_lose_nothing(tmp_path: Path, kind: str) -> None:
    assert "1280 items appended, none lost" in run_workers("appends", tmp_path / "a", kind)


@pytest.mark.parametrize("kind", ["plain", "shards", "python", "memory", "sqlite", "shared_memory"])
def test_readers_never_see_two_versions_of_a_chunk_or_shard(tmp_path: Path, kind: str) -> None:
    assert "none mixed" in run_workers("readers", tmp_path / "a", kind, 500)


# The runtime of AddressSanitizer waits for ever in a child that was forked beside other threads.
@pytest.mark.bounds
def test_100_forks_while_other_threads_read_and_write(tmp_path: Path) -> None:
    assert "100 forks" in run_workers("forks", tmp_path, 100)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_arrays_work_in_processes_started_in_any_way(tmp_path: Path, method: str) -> None:
    assert "20 tasks" in run_workers("start", method, tmp_path / "a")


@pytest.mark.bounds
@pytest.mark.parametrize(
    ("kind", "n"),
    [
        *[("plain", 24), ("shards", 14), ("python", 14), ("sqlite", 14)],
        *[("one shard", 8), ("raw", 12), ("one raw chunk", 8), ("tiny", 8)],
    ],
)
def test_ctrl_c_is_heard_within_a_second_and_leaves_whole_chunks(tmp_path: Path, kind: str, n: int) -> None:
    assert f"{n} interrupts" in run_workers("interrupts", tmp_path / "a", kind, n)


@pytest.mark.bounds
@pytest.mark.long
@pytest.mark.parametrize("kind", ["plain", "shards", "python", "sqlite"])
def test_200_interrupts(tmp_path: Path, kind: str) -> None:
    assert "200 interrupts" in run_workers("interrupts", tmp_path / "a", kind, 200, timeout=900)


def run_threads(functions: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_threads_that_grow_and_annotate_an_array_lose_nothing() -> None:
    store = cases.make_store("memory", None)
    zarrcy.create_array(store, shape=0, chunks=4, dtype="int32")

    def work(number: int) -> None:
        array = zarrcy.open_array(store)
        array.attrs[f"name{number}"] = number
        array.append([number] * 3)

    run_threads([lambda i=i: work(i) for i in range(32)])
    array = zarrcy.open_array(store)
    assert dict(array.attrs) == {f"name{i}": i for i in range(32)}
    assert sorted(array[:].tolist()) == sorted(list(range(32)) * 3)


# ---- the directory below an open array


def two_arrays(tmp_path: Path, **options: Any) -> tuple[zarrcy.Array, Callable[[], zarrcy.Array]]:
    """An array of ones, and how to make one of twos at the same place."""

    def make(number: int) -> zarrcy.Array:
        items = np.full((8, 8), number, "int32")
        return zarrcy.array(items, str(tmp_path / "a"), chunks=(2, 2), fill_value=-1, **options)

    return make(1), lambda: make(2)


@pytest.mark.parametrize("options", [{}, {"shards": (4, 4)}])
def test_a_directory_that_was_made_again_is_the_one_that_is_read(tmp_path: Path, options: Any) -> None:
    array, make_again = two_arrays(tmp_path, **options)
    assert (array[...] == 1).all()
    shutil.rmtree(tmp_path / "a")
    make_again()
    assert (array[...] == 2).all()
    shutil.rmtree(tmp_path / "a")
    make_again()
    array[0, 0] = 5
    assert (zarrcy.open_array(tmp_path / "a")[...] == np.where(np.arange(64).reshape(8, 8) == 0, 5, 2)).all()
    assert array[7, 7] == 2


@pytest.mark.parametrize("options", [{}, {"shards": (4, 4)}])
def test_a_directory_that_is_gone_is_an_error_and_never_the_fill_value(tmp_path: Path, options: Any) -> None:
    array, _ = two_arrays(tmp_path, **options)
    assert (array[...] == 1).all()
    shutil.rmtree(tmp_path / "a")
    for call in (
        lambda: array[...],
        lambda: array[0, 0],
        lambda: array[[0, 7], [0, 7]],
        lambda: array.__setitem__((0, 0), 1),
        lambda: array.__setitem__(..., 1),
        lambda: array.__setitem__(..., -1),
    ):
        with pytest.raises(zarrcy.StoreError) as caught:
            call()
        assert caught.value.code == "enoent"
        assert str(tmp_path / "a") in str(caught.value)
    assert not (tmp_path / "a").exists()


def test_a_directory_that_was_moved_away_is_not_written_to(tmp_path: Path) -> None:
    array, make_again = two_arrays(tmp_path)
    array[0, 0] = 1
    (tmp_path / "a").rename(tmp_path / "backup")
    make_again()
    array[0, 0] = 5
    array[2:4] = 6
    assert (zarrcy.open_array(tmp_path / "backup")[...] == 1).all()
    assert zarrcy.open_array(tmp_path / "a")[0:3, 0].tolist() == [5, 2, 6]


def test_a_writer_beside_one_that_removes_empty_folders_makes_them_again(tmp_path: Path) -> None:
    """A writer keeps the folder of the last chunk open, and nothing can be made in one that was removed."""
    array = zarrcy.create_array(tmp_path / "a", shape=(64, 2), chunks=(1, 1), dtype="u1", fill_value=0)
    written = threading.Event()

    def remove() -> None:
        while not written.is_set():
            array[...] = 0

    with ThreadPoolExecutor() as executor, zarrcy.use_threads(1):
        remover = executor.submit(remove)
        try:
            for value in range(1, 41):
                array[...] = value
        finally:
            written.set()
        remover.result()
    array[...] = 41
    assert (array[...] == 41).all()


def test_readers_beside_one_that_replaces_the_directory_never_see_fill_values(tmp_path: Path) -> None:
    array, _ = two_arrays(tmp_path)
    for number in range(2, 22):
        zarrcy.array(np.full((8, 8), number, "int32"), str(tmp_path / f"next{number}"), chunks=(2, 2), fill_value=-1)
    stop = threading.Event()
    seen: set[int] = set()

    def read() -> None:
        mine = zarrcy.open_array(tmp_path / "a")
        while not stop.is_set():
            with contextlib.suppress(zarrcy.StoreError):  # between the two renames there is no directory
                seen.update(np.unique(mine[...]).tolist())

    def replace() -> None:
        try:
            for number in range(2, 22):
                (tmp_path / "a").rename(tmp_path / f"old{number}")
                (tmp_path / f"next{number}").rename(tmp_path / "a")
                shutil.rmtree(tmp_path / f"old{number}")
        finally:
            stop.set()

    run_threads([read, read, replace])
    assert seen <= set(range(1, 22))
    assert (array[...] == 21).all()


def test_a_read_within_a_call_that_has_failed_leaves_the_error_to_that_call() -> None:
    """Only a helper of the read notices: the read would have an error of its own, of no words."""
    caller = threading.current_thread()
    both, inside = threading.Barrier(2), threading.Event()

    class Waiting(MemoryStore):
        concurrency = 2

        def get(self, key: str, part: slice | None = None) -> Any:
            if key.startswith("c/"):
                both.wait(10)
                if threading.current_thread() is not caller:
                    inside.set()
                    pause(10)
            return super().get(key, part)

    array = zarrcy.create_array(Waiting(), shape=4, chunks=2, dtype="int8")

    def work() -> None:
        if threading.current_thread() is caller:
            array[:]
        else:
            assert inside.wait(10)
            raise RuntimeError("failed")

    with pytest.raises(RuntimeError, match="failed"):
        run_with_helpers(work, 2)
