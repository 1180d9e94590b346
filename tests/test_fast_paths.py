"""Every fast path against the same call with it turned off: the same items, and the same bytes in the store.

The tables below are the fast paths. What is random is the array (shape, chunks, shards, data type, byte order, codecs),
what of it is stored, and the selection. The arrays are large enough for the paths to be taken: rows of pages, many
blocks of a blosc chunk, work for several threads.
"""

from __future__ import annotations

import math
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import array_cases as cases
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sanitized import share

import zarrcy
from zarrcy.stores.filesystem import FilesystemStore
from zarrcy.stores.memory import MemoryStore

cases.register_codec()

EXTENTS = {1: (60_000,), 2: (250, 300), 3: (30, 50, 60)}  # at most
DTYPES = ["u1", "<u2", "<i4", ">i4", "<f8", ">f8", "<c16", ">M8[us]", "S5", "V24", "bool"]
SMALL_BLOCKS = cases.named("blosc", cname="zstd", clevel=1, shuffle="bitshuffle", typesize=4, blocksize=4096)
STEPS = [*cases.STEPS_V3, [], [], [SMALL_BLOCKS], [cases.BLOSC, cases.named("crc32c")], [cases.named("zstd", level=1)]]


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    with cases.directory_in_memory() as place:
        yield place


@st.composite
def layouts(draw: Any) -> dict[str, Any]:
    """The options of `zarrcy.create_array`."""
    extents = EXTENTS[draw(st.integers(1, 3))]
    shape = tuple([draw(st.integers(1, extent)) for extent in extents])
    chunks = [draw(st.integers(1, extent)) for extent in shape]
    while math.prod(-(-extent // n) for extent, n in zip(shape, chunks)) > 100:
        chunks = [2 * n for n in chunks]
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    chain = [cases.named("transpose", order=list(draw(st.permutations(range(len(shape))))))]
    chain = draw(st.sampled_from([[], [], chain]))
    endian = {">": "big", "|": None}.get(dtype.str[0], "little")
    chain = [*chain, cases.named("bytes", **({"endian": endian} if endian else {})), *draw(st.sampled_from(STEPS))]
    if draw(st.integers(0, 2)) == 0:
        inner, chunks = chunks, [n * draw(st.integers(1, 4)) for n in chunks]
        index = [cases.named("bytes", endian="little"), cases.named("crc32c")]
        location = draw(st.sampled_from(["start", "end"]))
        options = {"chunk_shape": inner, "codecs": chain, "index_codecs": index, "index_location": location}
        chain = [cases.named("sharding_indexed", **options)]
    return {"shape": shape, "chunks": tuple(chunks), "dtype": dtype, "codecs": chain}


# ---- reads

Read = Callable[[zarrcy.Array, str, Any], Any]


def plainly(array: zarrcy.Array, kind: str, key: Any) -> Any:
    return (array if kind == "basic" else getattr(array, kind))[key]


def with_threads(n: int) -> Read:
    def read(array: zarrcy.Array, kind: str, key: Any) -> Any:
        with zarrcy.use_threads(n):
            return plainly(array, kind, key)

    return read


def from_all_items(array: zarrcy.Array, kind: str, key: Any) -> Any:
    """NumPy selects: each chunk is decoded whole, and goes to where whole chunks go."""
    items = array[...]
    return items[orthogonal(array, key)].reshape(key_shape(array, kind, key)) if kind == "oindex" else items[key]


def into_a_strided_array(array: zarrcy.Array, kind: str, key: Any) -> Any:
    """The same region into memory that is neither contiguous nor aligned, in the other order of axes."""
    if kind != "basic":
        return plainly(array, kind, key)
    slices = [item if isinstance(item, slice) else slice(item, item + 1 or None) for item in key]
    lengths = [len(range(*item.indices(n))) for item, n in zip(slices, array.shape)]
    out = np.empty([2 * n + 3 for n in lengths], array.dtype, order="F")[tuple([slice(3, None, 2)] * len(lengths))]
    names = ("start", "stop", "step")
    array.get_slice(**{name: [getattr(item, name) for item in slices] for name in names}, out=out)
    return out.reshape(key_shape(array, kind, key))


def by_positions(array: zarrcy.Array, kind: str, key: Any) -> Any:
    """A slice as the positions that are in it, which is another way through selection and plan."""
    if kind == "vindex":
        return plainly(array, kind, key)
    positions = tuple([np.atleast_1d(np.arange(n)[item]) for item, n in zip(key, array.shape)])
    return array.oindex[positions].reshape(key_shape(array, kind, key))


def orthogonal(array: zarrcy.Array, key: Any) -> Any:
    return np.ix_(*[np.atleast_1d(np.arange(n)[item]) for item, n in zip(key, array.shape)])


def key_shape(array: zarrcy.Array, kind: str, key: Any) -> tuple[int, ...]:
    """The shape of a basic or an orthogonal selection."""
    along = [np.arange(n)[item] for item, n in zip(key, array.shape)]
    return tuple([len(items) for items in along if np.ndim(items)])


# What is turned off or on: threads; the parts of chunks that are decoded, and where to; plans of slices.
READS: dict[str, Read] = {
    "plain": plainly,
    "one thread": with_threads(1),
    "seven threads": with_threads(7),
    "whole chunks": from_all_items,
    "strided memory": into_a_strided_array,
    "positions": by_positions,
}


def openers(path: str) -> dict[str, Callable[[], Any]]:
    """The compiled reader and writer of files, the same directory without, and with batches of chunks, and memory."""
    return {
        "compiled": lambda: FilesystemStore(path),
        "store in Python": lambda: cases.SubclassedStore(path),
        "in batches": lambda: cases.BatchingStore(path),
        "memory": lambda: MemoryStore({key: bytes(value) for key, value in values(FilesystemStore(path)).items()}),
    }


def values(store: Any) -> dict[str, bytes]:
    if isinstance(store, FilesystemStore) and not Path(store.path).exists():
        return {}
    return {key: bytes(store.get(key)) for key in store.list_prefix()}


def test_the_compiled_reader_is_on_and_off_where_the_table_says_so(tmp_path: Path) -> None:
    is_on = {name: make().native_reader() is not None for name, make in openers(str(tmp_path)).items()}
    assert is_on == {"compiled": True, "store in Python": False, "in batches": False, "memory": False}


def selections(choice: random.Random, shape: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    full = tuple([slice(None)] * len(shape))
    yield "basic", full
    for _ in range(3):
        yield "basic", tuple([box(choice, n) for n in shape])
    yield "basic", tuple([cases._axis_index(choice, n) for n in shape])
    yield "oindex", tuple([positions(choice, n) if choice.random() < 0.5 else box(choice, n) for n in shape])
    yield "vindex", tuple(np.array([choice.randrange(n) for _ in range(30)]) for n in shape)


def box(choice: random.Random, n: int) -> slice:
    begin, end = sorted(choice.randrange(n + 1) for _ in range(2))
    return choice.choice([slice(begin, end), slice(begin, end), slice(begin, begin + 1), slice(None), slice(0, n, 3)])


def positions(choice: random.Random, n: int) -> np.ndarray:
    return np.array([choice.randrange(n) for _ in range(choice.randrange(1, 20))])


def expected_of(items: np.ndarray, array: zarrcy.Array, kind: str, key: Any) -> np.ndarray:
    if kind == "oindex":
        return items[orthogonal(array, key)].reshape(key_shape(array, kind, key))
    return np.asarray(items[key])


@settings(max_examples=share(60))
@given(layout=layouts(), seed=st.integers(0, 2**32))
def test_every_way_to_read_gives_the_same_items(scratch: Path, layout: Any, seed: int) -> None:
    place = tempfile.mkdtemp(dir=scratch)
    choice = random.Random(seed)
    array = zarrcy.create_array(f"{place}/a", **layout)
    items = cases.random_items(np.random.default_rng(seed), array.shape, array.dtype).astype(array.dtype)
    n_stored = choice.choice([0, 1, 1, 1]) * array.shape[0] or choice.randrange(array.shape[0] + 1)
    items[n_stored:] = np.zeros((), array.dtype)
    array[:n_stored] = items[:n_stored]
    opened = {name: zarrcy.open_array(make()) for name, make in openers(f"{place}/a").items()}
    for kind, key in selections(choice, array.shape):
        expected = expected_of(items, array, kind, key)
        for source, each in opened.items():
            for way, read in READS.items():
                got = np.asarray(read(each, kind, key))
                same = got.shape == expected.shape and got.tobytes() == expected.tobytes()
                assert same, f"{source}, {way}: {kind}[{key}]"
    shutil.rmtree(place)


# ---- writes

# How the items lie that are written: rows that can go out as they are, and such as have to be gathered.
FORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "contiguous": np.ascontiguousarray,
    "other order": np.asfortranarray,
    "backwards": lambda items: np.ascontiguousarray(items[..., ::-1])[..., ::-1] if items.ndim else items,
    "strided": lambda items: np.repeat(items, 2, axis=-1)[..., ::2] if items.ndim else items,
}
# A store, a number of threads, a form of the items.
WRITES = [
    ("compiled", 1, "contiguous"),
    ("compiled", 7, "strided"),
    ("compiled", 3, "other order"),
    ("store in Python", 1, "backwards"),
    ("store in Python", 7, "contiguous"),
    ("in batches", 1, "strided"),
    ("in batches", 3, "contiguous"),
    ("memory", 2, "other order"),
]


@settings(max_examples=share(40))
@given(layout=layouts(), seed=st.integers(0, 2**32))
def test_every_way_to_write_stores_the_same_bytes(scratch: Path, layout: Any, seed: int) -> None:
    place = tempfile.mkdtemp(dir=scratch)
    stored = []
    for number, (source, n_threads, form) in enumerate(WRITES):
        path = f"{place}/{number}"
        choice, rng = random.Random(seed), np.random.default_rng(seed)
        array = zarrcy.create_array(openers(path)[source](), **layout)
        model = np.zeros(array.shape, array.dtype)
        with zarrcy.use_threads(n_threads):
            for kind, key in selections(choice, array.shape):
                shape = expected_of(model, array, kind, key).shape
                items = cases.random_items(rng, shape, array.dtype).astype(array.dtype)
                if kind == "basic":
                    array[key] = FORMS[form](items)
                    model[key] = items
                elif kind == "oindex" and all(is_unique(item) for item in key):
                    array.oindex[key] = FORMS[form](items)
                    index = orthogonal(array, key)
                    model[index] = items.reshape(model[index].shape)
        assert array[...].tobytes() == model.tobytes(), (source, n_threads, form)
        stored.append(values(array.store))
        assert stored[0] == stored[-1], (source, n_threads, form)
    shutil.rmtree(place)


def is_unique(item: Any) -> bool:
    return isinstance(item, (slice, int)) or len(set(item.tolist())) == len(item)
