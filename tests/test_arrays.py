"""What an array does beside answering selections: writing into buffers, growing, counting chunks, pickling."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import pickle
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import array_cases as cases
import numpy as np
import pytest

import zarrcy
from zarrcy.errors import SelectionError
from zarrcy.selection import parse
from zarrcy.stores.filesystem import FilesystemStore
from zarrcy.stores.memory import MemoryStore
from zarrcy.stores.store import Store
from zarrcy.stores.zip import ZipStore

MODEL = np.arange(60, dtype="int32").reshape(6, 10)


class CountingStore(MemoryStore):
    """Counts the reads of each key."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[str] = Counter()

    def get(self, key: str, part: slice | None = None) -> Any:
        self.reads[key] += 1
        return super().get(key, part)


def filled(store: Any = None, **options: Any) -> zarrcy.Array:
    return zarrcy.array(MODEL, store, **{"chunks": (4, 3), **options})


def stored_keys(array: zarrcy.Array) -> set[str]:
    return {key for key in array.store.list_prefix() if not key.endswith("zarr.json")}


# ---- into buffers of the caller


def layouts(shape: tuple[int, ...], dtype: str) -> list[np.ndarray]:
    """Buffers of that shape that lie in memory in every way."""
    rows, columns = shape
    return [
        np.empty(shape, dtype),
        np.empty(shape, dtype, order="F"),
        np.empty((2 * rows, 3 * columns), dtype)[::2, 1::3],
        np.empty(shape, dtype)[::-1, ::-1],
        np.empty(shape, dtype)[:, ::-1],
        np.empty((columns, rows), dtype)[::-1].T,
        np.empty(rows * columns * 4 + 1, np.uint8)[1:].view(dtype).reshape(shape),
        np.empty(shape, ">i4"),
        np.empty(shape, "int64"),
        np.empty(shape, "float64"),
    ]


@pytest.mark.parametrize("options", [{}, {"order": "F"}, {"shards": (8, 6)}, {"dtype": ">i4"}, {"chunks": (6, 10)}])
def test_get_slice_writes_into_a_buffer_of_any_layout(options: Any) -> None:
    array = filled(**options)
    for out in layouts((6, 10), "int32"):
        assert array.get_slice(out=out) is out
        assert (out == MODEL).all()
    for out in layouts((2, 5), "int32"):
        assert array.get_slice((5, None), (1, None), (-2, 2), out=out) is out
        assert (out == MODEL[5:1:-2, ::2]).all()


def test_get_slice_changes_nothing_around_the_buffer() -> None:
    array = filled()
    memory = np.full((20, 40), -1, "int32")
    array.get_slice(out=memory[3:15:2, 5:35:3])
    expected = np.full((20, 40), -1, "int32")
    expected[3:15:2, 5:35:3] = MODEL
    assert (memory == expected).all()


def test_a_buffer_of_another_shape_is_an_error() -> None:
    for shape in [(6, 9), (10, 6), (60,), (1, 6, 10), ()]:
        with pytest.raises(zarrcy.SelectionError, match="expected shape"):
            filled().get_slice(out=np.empty(shape, "int32"))


def test_a_read_only_buffer_is_an_error() -> None:
    out = np.empty((6, 10), "int32")
    out.flags.writeable = False
    with pytest.raises(ValueError, match="writable"):
        filled().get_slice(out=out)
    with pytest.raises(ValueError, match="writable"):
        filled().get_slice(out=np.broadcast_to(np.int32(1), (6, 10)))


def test_a_buffer_that_cannot_hold_the_items_is_an_error() -> None:
    with pytest.raises(TypeError):
        zarrcy.array([1.5]).get_slice(out=np.empty(1, "int64"))


def test_set_slice_takes_and_broadcasts_like_an_assignment() -> None:
    array, model = filled(), MODEL.copy()
    array.set_slice([[1], [2]], start=(1, 2), stop=(3, None), step=(1, 4))
    model[1:3, 2::4] = [[1], [2]]
    array.set_slice(7, start=5)
    model[5:] = 7
    assert (array[:] == model).all()
    with pytest.raises(ValueError, match="broadcasts"):
        array.set_slice([1, 2, 3], start=(0, 0), stop=(1, 2))


@pytest.mark.parametrize(
    "items", [MODEL.T.copy().T, MODEL[::-1].copy()[::-1], MODEL.astype(">i4"), MODEL.astype("float64"), MODEL.tolist()]
)
def test_values_of_any_layout_are_written(items: Any) -> None:
    array = zarrcy.create(shape=(6, 10), chunks=(4, 3), dtype="int32")
    array[...] = items
    assert (array[...] == MODEL).all()


@pytest.mark.parametrize("options", [{}, {"shards": 4}, {"shards": 8}])
@pytest.mark.parametrize(
    "positions",
    [
        [0, 1, 2, 2],
        [1, 0, 3, 2],
        [0, 1, 3, 3],
        [0, 2, 4, 6],
        [0, 1, 2, 3],
        [4, 5, 6, 6],
        [3, 2, 1, 0],
        [0, 0, 1, 1],
        [5, 6, 2],
    ],
)
def test_index_arrays_that_are_even_in_some_chunks_write_and_read_like_numpy(options: Any, positions: Any) -> None:
    model = np.arange(100, 112)
    array = zarrcy.array(model, chunks=2, **options)
    values = np.arange(len(positions)) * 7
    array.oindex[positions] = values
    model[positions] = values
    assert (array[...] == model).all()
    assert (array.oindex[positions] == model[positions]).all()


@pytest.mark.parametrize("shards", [None, (8, 4, 16)])
@pytest.mark.parametrize("is_sorted", [True, False])
def test_many_points_are_read_and_written_like_numpy(shards: Any, is_sorted: bool) -> None:
    """Enough chunks for more than one digit of the radix sort, and points that repeat."""
    random = np.random.default_rng(11)
    model = random.integers(0, 1000, (64, 64, 64))
    store = CountingStore()
    array = zarrcy.create_array(store, shape=model.shape, chunks=(2, 4, 4), shards=shards, dtype=model.dtype)
    array[...] = model
    store.reads.clear()
    flat = random.integers(0, model.size, 5000)
    points = np.unravel_index(np.sort(flat) if is_sorted else flat, model.shape)
    assert (array.vindex[points] == model[points]).all()
    if shards is None:
        assert set(store.reads.values()) == {1}
    array.vindex[points] = np.arange(5000)
    model[points] = np.arange(5000)
    assert (array[...] == model).all()


def test_points_of_a_grid_of_more_chunks_than_an_integer_counts() -> None:
    array = zarrcy.create(shape=(2**62, 2**62), chunks=(1, 1), dtype="u1", fill_value=5)
    points = [2**61, 3, 2**61, 7], [0, 2**60, 0, 1]
    array.vindex[points] = [1, 2, 3, 4]
    assert array.vindex[points].tolist() == [3, 2, 3, 4]


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (2, 1, 0)])
@pytest.mark.parametrize("chunks", [(2, 3, 1024), (1, 6, 1024), (2, 2, 2048), (4, 1, 512)])
def test_long_rows_of_raw_chunks_are_written_from_where_they_lie(
    tmp_path: Path, axes: tuple[int, ...], order: tuple[int, ...], chunks: tuple[int, ...]
) -> None:
    """Raw chunks whose rows are 2 KiB and longer, or are not, out of buffers of any layout."""
    raw = [
        {"name": "transpose", "configuration": {"order": order}},
        {"name": "bytes", "configuration": {"endian": "little"}},
    ]
    values = np.random.default_rng(5).integers(0, 2**16, (4, 6, 2048), "u2")
    values[:2, :, :1024] = 7  # some chunks that are empty, and some whose first rows are
    array = zarrcy.create_array(tmp_path / "a", shape=values.shape, chunks=chunks, dtype="u2", fill_value=7, codecs=raw)
    array[...] = values.transpose(axes).copy().transpose(np.argsort(axes))
    assert (array[...] == values).all()
    array[:, ::-1] = values
    assert (array[...] == values[:, ::-1]).all()
    array[...] = 7
    assert array.nchunks_initialized == 0


@pytest.mark.parametrize(
    "key",
    [
        slice(None, None, 0),
        (slice(None), slice(0, 3, 0)),
        slice(1.0, 2),
        1.5,
        "a",
        (0, 0, 0),
        6,
        -7,
        [6],
        (Ellipsis, Ellipsis),
    ],
)
def test_what_is_no_index_is_a_selection_error_and_writes_nothing(key: Any) -> None:
    array = filled()
    with pytest.raises(zarrcy.SelectionError):
        array[key]
    with pytest.raises(zarrcy.SelectionError):
        array[key] = 1
    assert (array[:] == MODEL).all()


# ---- growing and shrinking


@pytest.mark.parametrize(
    "options", [{}, {"order": "F"}, {"shards": (8, 6)}, {"zarr_format": 2}, {"write_empty_chunks": True}]
)
@pytest.mark.parametrize("fill_value", [0, -5])
def test_what_was_cut_off_is_the_fill_value_when_the_array_grows_again(options: Any, fill_value: int) -> None:
    for small in itertools.product([0, 1, 3, 4, 6], [0, 2, 3, 7, 10]):
        array = filled(fill_value=fill_value, **options)
        array.resize(small)
        assert array.shape == small
        assert (array[:] == MODEL[: small[0], : small[1]]).all()
        array.resize((9, 12))
        expected = np.full((9, 12), fill_value)
        expected[: small[0], : small[1]] = MODEL[: small[0], : small[1]]
        assert (array[:] == expected).all()
        assert zarrcy.open(array.store).shape == (9, 12)


@pytest.mark.parametrize("dtype", ["S3", "U3", "V3", "M8[s]", "f4", "bool"])
def test_without_a_fill_value_what_was_cut_off_comes_back_as_zero_bytes(dtype: str) -> None:
    items = cases.random_items(np.random.default_rng(1), (7,), np.dtype(dtype))
    array = zarrcy.array(items, chunks=4, zarr_format=2, fill_value=None)
    array.resize(2)
    array.resize(7)
    assert array[:2].tobytes() == items[:2].tobytes()
    assert not any(array[2:].tobytes())


def test_chunks_beyond_the_shape_are_deleted() -> None:
    array = filled()
    array.resize((4, 3))
    assert stored_keys(array) == {"c/0/0"}
    array.resize((0, 3))
    assert stored_keys(array) == set()


def test_resizing_to_what_is_no_shape_changes_nothing() -> None:
    array = filled()
    for shape in [(6,), (6, 10, 1), (-1, 10), (2**63, 1)]:
        with pytest.raises(zarrcy.MetadataError):
            array.resize(shape)
    for shape in [(1.5, 2), "ab"]:
        with pytest.raises((TypeError, zarrcy.MetadataError)):
            array.resize(shape)
    assert array.shape == zarrcy.open(array.store).shape == (6, 10)
    assert (array[:] == MODEL).all()


@pytest.mark.parametrize("options", [{}, {"shards": (8, 6)}, {"zarr_format": 2, "order": "F"}])
def test_append_makes_an_array_longer_along_any_axis(options: Any) -> None:
    array = filled(**options)
    assert array.append(MODEL[:1]) == (7, 10)
    assert array.append(np.ones((7, 2)), axis=-1) == (7, 12)
    assert array.append(np.ones((0, 12))) == (7, 12)
    expected = np.concatenate([np.concatenate([MODEL, MODEL[:1]]), np.ones((7, 2))], axis=1)
    assert (array[:] == expected).all()
    for items, axis in [(np.ones(12), 0), (np.ones((1, 11)), 0), (np.ones((1, 12)), 1)]:
        with pytest.raises(ValueError, match="extents"):
            array.append(items, axis)
    with pytest.raises(zarrcy.SelectionError):
        array.append(np.ones((1, 12)), axis=2)
    assert array.shape == (7, 12)


def _append(path: str, number: int, times: int, length: int) -> None:
    array = zarrcy.open_array(path)
    for _ in range(times):
        array.append(np.full(length, number))


@pytest.mark.parametrize("options", [{}, {"shards": 70}, {"zarr_format": 2}])
def test_appends_of_processes_and_threads_lose_nothing(tmp_path: Path, options: Any) -> None:
    path = str(tmp_path / "a")
    zarrcy.create_array(path, shape=0, chunks=7, dtype="int32", compressor=None, fill_value=-1, **options)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_append, args=(path, i, 40, 3)) for i in range(1, 5)]
    threads = [threading.Thread(target=_append, args=(path, i, 40, 5)) for i in range(5, 8)]
    for worker in [*processes, *threads]:
        worker.start()
    for worker in [*processes, *threads]:
        worker.join()
    assert [process.exitcode for process in processes] == [0] * 4
    items = zarrcy.open_array(path)[:]
    assert Counter(items.tolist()) == {**dict.fromkeys(range(1, 5), 120), **dict.fromkeys(range(5, 8), 200)}
    # Each append lies together.
    runs = [(number, len(list(run))) for number, run in itertools.groupby(items.tolist())]
    assert all(n % (3 if number < 5 else 5) == 0 for number, n in runs)


@pytest.mark.parametrize("make", [MemoryStore, None])
def test_a_writer_that_does_not_know_of_new_items_keeps_them(tmp_path: Path, make: Any) -> None:
    for shards in (None, 20):
        store = make() if make else FilesystemStore(tmp_path / f"a{shards}")
        old = zarrcy.create_array(store, shape=15, chunks=10, shards=shards, dtype="int32")
        new = zarrcy.open_array(store)
        new.resize(20)
        new[:] = 7
        old[10:15] = 1  # all that it knows of the second chunk
        old[12] = 2
        assert new[:].tolist() == [7] * 10 + [1, 1, 2, 1, 1] + [7] * 5
        old[10:15] = 0
        assert new[:].tolist() == [7] * 10 + [0] * 5 + [7] * 5


# ---- which chunks are read and stored


def test_iteration_reads_each_chunk_once() -> None:
    store = CountingStore()
    array = filled(store)
    store.reads.clear()
    rows = list(array)
    assert (np.array(rows) == MODEL).all()
    assert set(store.reads.values()) == {1}
    assert len(store.reads) == array.nchunks == 8
    scalars = list(filled(shards=None)[0])
    assert scalars == MODEL[0].tolist()


@pytest.mark.parametrize("key", [np.s_[:], np.s_[::2, ::-1], np.s_[[0, 5, 0, 5], :], np.s_[MODEL > 20]])
def test_a_selection_reads_each_chunk_it_needs_once_and_no_other(key: Any) -> None:
    store = CountingStore()
    array = filled(store)
    store.reads.clear()
    array[key]
    touched = np.zeros((6, 10), bool)
    touched[key] = True
    needed = {f"c/{i // 4}/{j // 3}" for i, j in np.argwhere(touched)}
    assert store.reads == dict.fromkeys(needed, 1)


def test_a_shard_is_read_by_ranges_when_little_of_it_is_needed() -> None:
    store = CountingStore()
    nbytes: list[int] = []
    original = CountingStore.get_with_version

    class Recording(CountingStore):
        def get_with_version(self, key: str, part: slice | None = None, **options: Any) -> Any:
            value, version = original(self, key, part, **options)
            nbytes.append(0 if value is None else len(value))
            return value, version

    store = Recording()
    array = zarrcy.array(np.arange(4096), store, chunks=16, shards=4096, compressor=None)
    nbytes.clear()
    assert array[100] == 100
    assert sum(nbytes) == 16 * 8 + 256 * 16 + 4  # the chunk, and the index with its checksum


@pytest.mark.parametrize("options", [{}, {"shards": (8, 6)}, {"zarr_format": 2}])
@pytest.mark.parametrize("kind", cases.STORES)
def test_a_whole_chunk_of_fill_values_is_not_stored_unless_that_is_asked_for(
    tmp_path: Path, options: Any, kind: str
) -> None:
    for write_empty_chunks in (False, True):
        with cases.make_store(kind, tmp_path) as store:
            array = zarrcy.create_array(
                store,
                f"a{write_empty_chunks:d}",
                shape=(8, 6),
                chunks=(4, 3),
                write_empty_chunks=write_empty_chunks,
                fill_value=3,
                **options,
            )
            array[...] = 3
            assert array.nchunks_initialized == (4 if write_empty_chunks else 0)
            array[...] = 4
            assert array.nchunks_initialized == array.nchunks == 4
            array[...] = 3
            assert array.nchunks_initialized == (4 if write_empty_chunks else 0)
            assert (array[...] == 3).all()


@pytest.mark.parametrize("options", [{}, {"shards": 8}, {"zarr_format": 2, "compressor": "lz4"}, {"compressor": None}])
@pytest.mark.parametrize("kind", cases.STORES)
def test_a_partial_write_stores_the_chunk_also_when_it_equals_the_fill_value(
    tmp_path: Path, options: Any, kind: str
) -> None:
    with cases.make_store(kind, tmp_path) as store:
        array = zarrcy.create_array(store, shape=8, chunks=4, missing="raise", **options)
        array[1] = 0
        assert array[:4].tolist() == [0] * 4
        array[1:3] = 5
        array[2] = array[1] = 0
        assert array[:4].tolist() == [0] * 4
        with pytest.raises(zarrcy.MissingChunkError):
            array[4]


def test_negative_zero_and_nan_payloads_are_no_fill_values() -> None:
    array = zarrcy.create(shape=4, chunks=2)
    array[:] = -0.0
    assert array.nchunks_initialized == 2
    assert np.signbit(array[:]).all()
    payload = np.array([0x7FF8000000000001] * 4, "u8").view("f8")
    array = zarrcy.create(shape=4, chunks=2, fill_value=np.nan)
    array[:] = np.nan
    assert array.nchunks_initialized == 0
    array[:] = payload
    assert array[:].tobytes() == payload.tobytes()


@pytest.mark.parametrize("kind", cases.STORES)
@pytest.mark.parametrize("shards", [None, (8, 6)])
def test_missing_raise_names_the_chunk(tmp_path: Path, kind: str, shards: Any) -> None:
    with cases.make_store(kind, tmp_path) as store:
        array = zarrcy.create_array(
            store, "x/y", shape=(16, 12), chunks=(4, 3), shards=shards, missing="raise", compressor=None
        )
        array[0:4, 0:3] = 1
        assert (array[0:4, 0:3] == 1).all()
        inside = (4, 0) if shards else (0, 3)
        for index, key in [
            (inside, "x/y/c/0/0" if shards else "x/y/c/0/1"),
            ((15, 11), "x/y/c/1/1" if shards else "x/y/c/3/3"),
        ]:
            with pytest.raises(zarrcy.MissingChunkError) as caught:
                array[index]
            assert caught.value.key == key
            assert caught.value.store == store.url
            assert key in str(caught.value)
        opened = zarrcy.open_array(store, "x/y", missing="raise", mode="r+")
        with pytest.raises(zarrcy.MissingChunkError):
            opened[...]
        assert zarrcy.open_array(store, "x/y")[15, 11] == 0
    with pytest.raises(ValueError, match="missing"):
        zarrcy.create(shape=1, missing="ignore")


def test_chunks_are_counted() -> None:
    array = zarrcy.create(shape=(9, 10), chunks=(4, 3))
    assert (array.cdata_shape, array.nchunks, array.nchunks_initialized) == ((3, 4), 12, 0)
    array[0, 0] = array[8, 9] = 1
    assert array.nchunks_initialized == 2
    assert set(array.stored_chunks()) == {(0, 0), (2, 3)}
    sharded = zarrcy.create(shape=(9, 10), chunks=(2, 3), shards=(4, 6))
    assert (sharded.chunks, sharded.shards, sharded.nchunks) == ((2, 3), (4, 6), 20)
    sharded[8, 9] = 1
    assert sharded.nchunks_initialized == 2  # what lies in the array of the one shard at its corner
    store = array.store
    assert array.nbytes_stored == sum(store.size(key) for key in store.list_prefix())
    assert zarrcy.create(shape=(0, 3), chunks=(2, 2)).nchunks == 0
    assert zarrcy.create(shape=()).nchunks == 1


def test_bytes_stored_do_not_count_what_belongs_to_others() -> None:
    store = MemoryStore()
    array = zarrcy.create_array(store, "a", shape=4, chunks=2, zarr_format=2)
    array[:] = 1
    before = array.nbytes_stored
    store.set("a/notes.txt", b"not mine")
    store.set("a/0/0", b"nor this")
    store.set("ab/0", b"nor this")
    assert array.nbytes_stored == before
    assert array.nchunks_initialized == 2


# ---- as other things


def test_len_bool_int_and_float_are_those_of_numpy() -> None:
    assert len(filled()) == 6
    scalar = zarrcy.array(np.float32(2.5))
    assert (float(scalar), int(scalar), bool(scalar)) == (2.5, 2, True)
    assert not zarrcy.zeros(())
    for call in (len, iter):
        with pytest.raises(TypeError):
            call(scalar)
    for call in (int, float):
        with pytest.raises(TypeError):
            call(filled())
    with pytest.raises(ValueError, match="ambiguous"):
        bool(filled())


def test_numpy_takes_an_array() -> None:
    array = filled()
    assert cases.bits(np.asarray(array)) == cases.bits(MODEL)
    assert np.asarray(array, "float32").dtype == np.float32
    assert np.array(array, dtype=">i8").dtype == np.dtype(">i8")
    assert (np.add(array, 1) == MODEL + 1).all()
    assert np.array(array, copy=True).flags.writeable
    with pytest.raises(ValueError, match="copy"):
        array.__array__(copy=False)
    assert array.__array__(np.dtype("int64"), copy=None).dtype == np.int64


def test_an_array_can_be_assigned_to_another() -> None:
    target = zarrcy.create(shape=(6, 10), chunks=(2, 7), dtype="int64")
    target[...] = filled()
    target[0] = filled()[5]
    assert (target[1:] == MODEL[1:]).all()
    assert (target[0] == MODEL[5]).all()


@pytest.mark.parametrize("options", [{}, {"shards": (8, 6), "dtype": ">i4"}, {"zarr_format": 2, "compressor": "zlib"}])
@pytest.mark.parametrize("kind", ["filesystem", "zip"])
def test_a_pickle_opens_the_same_array(tmp_path: Path, kind: str, options: Any) -> None:
    with cases.make_store(kind, tmp_path) as store:
        array = filled(store, path="deep/a", attributes={"unit": "K"}, **options)
        array.store.sync()
        again = pickle.loads(pickle.dumps(array))
        assert (again[...] == MODEL).all()
        assert (again.path, again.shape, again.metadata) == (array.path, array.shape, array.metadata)
        assert again.attrs["unit"] == "K"
        if kind == "filesystem":
            assert again == array
            assert hash(again) == hash(array)
            again[0, 0] = 99
            assert array[0, 0] == 99
        assert len(pickle.dumps(array)) < 5000


def test_a_pickle_keeps_how_the_array_was_opened(tmp_path: Path) -> None:
    zarrcy.create_array(tmp_path / "a", shape=4, chunks=2)
    array = pickle.loads(pickle.dumps(zarrcy.open_array(tmp_path / "a", mode="r", missing="raise")))
    assert array.read_only
    with pytest.raises(zarrcy.MissingChunkError):
        array[:]
    group = pickle.loads(pickle.dumps(zarrcy.open_group(zarrcy.create_group(tmp_path / "g").store, mode="r")))
    assert group.read_only


def test_an_array_in_memory_refuses_to_be_pickled_and_says_what_to_do() -> None:
    with pytest.raises(zarrcy.StoreError) as caught:
        pickle.dumps(filled())
    assert "memory" in str(caught.value)
    assert any("file system" in note for note in caught.value.__notes__)


def _token(path: str) -> Any:
    return zarrcy.open_array(path).__dask_tokenize__()


def test_dask_tokens_are_the_same_in_every_process_and_differ_between_arrays(tmp_path: Path) -> None:
    filled(str(tmp_path / "a"), fill_value=np.nan, dtype="f8")
    filled(str(tmp_path / "b"), fill_value=np.nan, dtype="f8")
    here = _token(str(tmp_path / "a"))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_token, (str(tmp_path / "a"),)) == here
    assert _token(str(tmp_path / "b")) != here
    array = zarrcy.open_array(tmp_path / "a")
    array.resize((7, 10))
    assert array.__dask_tokenize__() != here


def test_what_an_array_is_shows() -> None:
    array = filled(attributes={"unit": "K"}, dimension_names=("y", "x"), shards=(8, 6))
    assert repr(array) == "<zarrcy.Array / int32 (6, 10), chunks (4, 3) in shards (8, 6), 240 bytes>"
    text = str(array.info)
    for part in ("int32", "(6, 10)", "(4, 3)", "(8, 6)", "memory://", "sharding_indexed", "blosc", "y"):
        assert part in text
    assert "svg" in array._repr_html_()
    assert (array.name, array.basename, array.ndim, array.size, array.itemsize, array.nbytes) == (
        "/",
        "",
        2,
        60,
        4,
        240,
    )


# ---- what is refused


def test_a_read_only_array_refuses_every_change(tmp_path: Path) -> None:
    filled(str(tmp_path / "a"), attributes={"unit": "K"})
    before = {key: FilesystemStore(tmp_path / "a").get(key) for key in FilesystemStore(tmp_path / "a").list_prefix()}
    array = zarrcy.open_array(tmp_path / "a", mode="r")
    changes: list[Any] = [
        lambda: array.__setitem__((0, 0), 1),
        lambda: array.__setitem__(Ellipsis, 1),
        lambda: array.oindex.__setitem__(([0], [1]), 1),
        lambda: array.vindex.__setitem__(([0], [1]), 1),
        lambda: array.blocks.__setitem__((0, 0), 1),
        lambda: array.set_slice(1),
        lambda: array.resize((1, 1)),
        lambda: array.append(MODEL),
        lambda: array.attrs.__setitem__("unit", "C"),
        lambda: array.attrs.__delitem__("unit"),
        lambda: array.attrs.put({}),
    ]
    for change in changes:
        with pytest.raises(zarrcy.ReadOnlyError):
            change()
    assert array.attrs["unit"] == "K"
    store = FilesystemStore(tmp_path / "a")
    assert {key: store.get(key) for key in store.list_prefix()} == before


def test_a_finished_archive_is_read_only(tmp_path: Path) -> None:
    with ZipStore(tmp_path / "a.zip", mode="w") as store:
        filled(store)
    array = zarrcy.open_array(tmp_path / "a.zip")
    assert array.read_only
    with pytest.raises(zarrcy.ReadOnlyError):
        array[0, 0] = 1


def test_a_failing_write_of_several_chunks_says_which_one_failed(tmp_path: Path) -> None:
    array = zarrcy.create_array(tmp_path / "a", shape=(8, 8), chunks=(4, 4))
    (tmp_path / "a/c/1/1").mkdir(parents=True)
    (tmp_path / "a/c/1/1/x").touch()
    with pytest.raises(zarrcy.StoreError) as caught:
        array[...] = 1
    assert caught.value.key == "c/1/1"


def test_refresh_sees_what_others_changed() -> None:
    array = filled()
    other = zarrcy.open_array(array.store)
    other.resize((7, 11))
    other.attrs["unit"] = "K"
    assert array.shape == (6, 10)
    array.refresh()
    assert array.shape == (7, 11)
    assert array.attrs["unit"] == "K"
    other.store.delete("zarr.json")
    with pytest.raises(zarrcy.NodeNotFoundError):
        array.refresh()


def test_a_signal_handler_that_raises_is_heard_as_it_is(tmp_path: Path) -> None:
    import signal

    class AlarmError(Exception):
        pass

    def handler(number: int, frame: Any) -> None:
        raise AlarmError

    array = zarrcy.create_array(tmp_path / "a", shape=(1000, 2**16), chunks=(1, 2**16), dtype="int8", compressor="gzip")
    items = np.random.default_rng(0).integers(0, 9, (1000, 2**16), "int8")
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.15)
        with pytest.raises(AlarmError):
            array[...] = items
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class PlainStore(Store):
    """The least that a store author writes: neither compare-and-swap nor locks."""

    concurrency = 4

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}

    @property
    def url(self) -> str:
        return "plain://here"

    def options(self) -> dict[str, Any]:
        return {}

    def get(self, key: str, part: slice | None = None) -> Any:
        value = self.data.get(key)
        return value if value is None or part is None else memoryview(value)[part]

    def set(self, key: str, value: Any) -> None:
        self.data[key] = bytes(value)

    def delete(self, key: str) -> None:
        self.data.pop(key, None)

    def list_prefix(self, prefix: str = "") -> Any:
        return [key for key in list(self.data) if key.startswith(prefix)]


@pytest.mark.parametrize("options", [{}, {"shards": (8, 6)}, {"zarr_format": 2}])
def test_the_least_of_a_store_holds_arrays_and_warns_where_writers_could_lose_data(options: Any) -> None:
    array = filled_whole(PlainStore(), **options)
    assert (array[:6, :10] == MODEL).all()
    assert array[5, 3:7].tolist() == MODEL[5, 3:7].tolist()
    assert array[[5, 0], [9, 0]].tolist() == [59, 0]
    with pytest.warns(zarrcy.ConcurrentWriteWarning, match="plain://here"):
        array[5, 9] = 7
    with pytest.warns(zarrcy.ConcurrentWriteWarning):
        array.attrs["unit"] = "K"
    assert array[5, 9] == 7
    assert zarrcy.open_array(array.store).attrs["unit"] == "K"


def filled_whole(store: Any, **options: Any) -> zarrcy.Array:
    """The items of the model in an array of whole chunks and shards, which needs no merging."""
    array = zarrcy.create_array(store, shape=(8, 12), chunks=(4, 3), dtype="int32", **options)
    items = np.zeros((8, 12), "int32")
    items[:6, :10] = MODEL
    array[...] = items
    return zarrcy.open_array(store)


def test_arrays_of_64_axes_and_long_paths_work(tmp_path: Path) -> None:
    ndim = 64 if int(np.__version__.split(".")[0]) >= 2 else 32
    shape = (2,) * 3 + (1,) * (ndim - 3)
    items = np.arange(8, dtype="int32").reshape(shape)
    for store in (MemoryStore(), FilesystemStore(tmp_path / "a")):
        for options in ({}, {"order": "F"}, {"shards": (2,) * 3 + (1,) * (ndim - 3)}):
            array = zarrcy.array(items, store, chunks=(1,) * ndim, overwrite=True, **options)
            assert cases.bits(array[...]) == cases.bits(items)
            array[(1,) * 3] = 70
            assert array[(1,) * 3 + (0,) * (ndim - 3)] == 70
    path = "/".join(["x" * 200] * 4)
    array = zarrcy.array(MODEL, FilesystemStore(tmp_path / "b"), path, chunks=(2, 2))
    array[0, 0] = 5
    assert array[0].tolist() == [5, *MODEL[0, 1:].tolist()]
    too_long = zarrcy.create_array(MemoryStore(), f"{path}/{path}", shape=2)
    too_long[...] = 1
    with pytest.raises(zarrcy.StoreError):
        zarrcy.create_array(FilesystemStore(tmp_path / "c"), f"{path}/{path}", shape=2)


def test_arrays_of_almost_any_extent_are_indexed_and_absurd_selections_are_errors() -> None:
    for shards in (None, 49):
        array = zarrcy.create(shape=2**63 - 1, chunks=7, shards=shards, dtype="int32")
        array[-1], array[2**62] = 5, 6
        array[[1, -2]] = 3
        assert array[-3:].tolist() == [0, 3, 5]
        assert array[:: 2**62].tolist() == [0, 6]
        assert array[:: -(2**62)].tolist() == [5, 0]
        assert array.nchunks == -(-(2**63 - 1) // 7)
        for call in (lambda a=array: a[...], lambda a=array: a.__setitem__(..., 1), lambda a=array: a.append([1])):
            with pytest.raises((MemoryError, ValueError)):
                call()
    flat = zarrcy.create(shape=(2**62, 0), chunks=1, dtype="u1")
    assert flat[...].shape == (2**62, 0)


def test_items_of_any_size_are_moved() -> None:
    for dtype in ("S100000", "V3", "V7", "U1000", "S1"):
        items = cases.random_items(np.random.default_rng(0), (5, 3), np.dtype(dtype))
        for order in "CF":
            array = zarrcy.array(items, chunks=(2, 2), order=order)
            assert cases.bits(array[::-1, 1:]) == cases.bits(items[::-1, 1:])
            array[[0, 3], 1] = items[4, 2]
            assert array[3, 1] == items[4, 2]


def test_writing_to_nothing_writes_nothing_and_wrong_shapes_are_errors() -> None:
    array = filled()
    before = dict(array.store._data)
    array[3:3] = 7
    array[[], 2] = 7
    array[np.zeros((6, 10), bool)] = 7
    array[0:0, 5:5] = np.empty((0, 0))
    for key, value in [
        (np.s_[0], [1, 2]),
        (np.s_[:, :], np.zeros((10, 6))),
        (np.s_[0, 0], [1, 2]),
        (MODEL > 3, [1, 2]),
    ]:
        with pytest.raises(ValueError, match="broadcasts"):
            array[key] = value
    for value in ("text", [[1], [2, 3]], object()):
        with pytest.raises((TypeError, ValueError)):
            array[0] = value
    assert array.store._data == before


def test_a_refresh_that_fails_leaves_the_array_as_it_was() -> None:
    store = MemoryStore()
    array = zarrcy.array(MODEL[0], store, chunks=5)
    document = json.loads(store._data["zarr.json"])
    inner = {
        "chunk_shape": [3],
        "codecs": [{"name": "bytes"}],
        "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
    }
    codecs = [{"name": "sharding_indexed", "configuration": inner}]  # of shards of 5
    other = {**document, "shape": [70], "data_type": "uint8", "codecs": codecs}
    store.set("zarr.json", json.dumps(other).encode())
    with pytest.raises(zarrcy.errors.MetadataError):
        array.refresh()
    assert (array.shape, array.dtype) == ((10,), MODEL.dtype)
    array[0] = 300
    out = np.zeros(10, "uint8")
    with pytest.raises(TypeError):  # not written past its end by items of four bytes
        array.get_slice(out=out)
    assert array[...].tolist() == [300, *MODEL[0, 1:]]


@pytest.mark.parametrize(("n_axes", "n_selected"), [(1, 2), (2, 1), (6, 1), (1, 0)])
def test_a_selection_of_what_the_array_was_before_another_thread_refreshed_it_is_an_error(
    n_axes: int, n_selected: int
) -> None:
    array = zarrcy.create(shape=(4,) * n_axes, chunks=2)
    selection = parse(..., (4,) * n_selected)
    with pytest.raises(SelectionError, match=f"along {n_axes} axes, got {n_selected}"):
        array._transfer.read(selection, None)
    with pytest.raises(SelectionError, match=f"along {n_axes} axes, got {n_selected}"):
        array._transfer.write(selection, np.ones(selection.transfer_shape))


class Unbegun(zarrcy.Array):
    def __init__(self) -> None:
        pass


@pytest.mark.parametrize("key", [..., 0, (), slice(None), "x"])
def test_an_array_whose_init_has_not_run_is_an_error(key: Any) -> None:
    for array in (Unbegun(), zarrcy.Array.__new__(zarrcy.Array)):
        with pytest.raises(TypeError, match="__init__ has not run"):
            array[key]


def test_missing_may_be_any_text() -> None:
    array = filled()
    for missing in ("fill", np.str_("fill"), np.str_("raise")):
        other = zarrcy.open(array.store, missing=missing)
        assert (other[...] == MODEL).all()
