"""What the tests of arrays draw from: data types, chains of codecs, stores and indices, and bit-for-bit comparison."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from store_makers import EVERY

from zarrcy.codecs import Codec, registry
from zarrcy.stores.filesystem import FilesystemStore
from zarrcy.stores.memory import MemoryStore
from zarrcy.stores.zip import ZipStore

NUMBERS = [
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128", "M8[ns]", "M8[10s]", "m8[us]", "M8[D]"),
]
DTYPES = [
    "bool",
    "S1",
    "S5",
    "U1",
    "U3",
    "V1",
    "V6",
    *NUMBERS,
    *(np.dtype(name).newbyteorder().str for name in (*NUMBERS, "U3")),
]


class SlowInverted(Codec):
    """A plug-in codec in plain Python, as the documentation shows one."""

    name = "tests.inverted"

    def encode(self, data: memoryview) -> bytes:
        return bytes(255 - np.frombuffer(data, np.uint8))

    def decode(self, data: memoryview, max_nbytes: int) -> bytes:
        return bytes(255 - np.frombuffer(data, np.uint8))


class SubclassedStore(FilesystemStore):
    """The same directory without the native reader and writer: a subclass may have another `get`."""


class BatchingStore(SubclassedStore):
    """The same, with several chunks in a call."""

    batch = 3

    def get_many(self, requests: Iterable[tuple[str, slice | None]]) -> Iterator[tuple[int, Any]]:
        return super().get_many(requests)

    def set_many(self, items: Iterable[tuple[str, Any]]) -> None:
        super().set_many(items)


def register_codec() -> None:
    registry.register("tests.inverted", SlowInverted)


def named(name: str, **configuration: Any) -> dict[str, Any]:
    return {"name": name, "configuration": configuration} if configuration else {"name": name}


BLOSC = named("blosc", cname="lz4", clevel=1, shuffle="shuffle", typesize=4, blocksize=0)
STEPS_V3: list[list[dict[str, Any]]] = [
    [],
    [],
    [named("zstd", level=1, checksum=True)],
    [named("gzip", level=1)],
    [BLOSC],
    [named("crc32c")],
    [named("zstd", level=0, checksum=False), named("crc32c")],
    [named("tests.inverted")],
    [named("numcodecs.bz2", level=1)],
]
COMPRESSORS_V2: list[dict[str, Any] | None] = [
    None,
    None,
    {"id": "zstd", "level": 1},
    {"id": "zlib", "level": 1},
    {"id": "gzip", "level": 1},
    {"id": "lz4", "acceleration": 1},
    {"id": "blosc", "cname": "zstd", "clevel": 1, "shuffle": 2, "blocksize": 0},
    {"id": "bz2", "level": 1},
]


def bits(items: Any) -> tuple[Any, ...]:
    """All that must be equal: the type of container, data type, shape and every bit."""
    if isinstance(items, (str, bytes)):  # an item that NumPy has made a scalar of
        return False, type(items), items
    array = np.asarray(items)
    return isinstance(items, np.ndarray), array.dtype, array.shape, array.tobytes()


def random_items(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """Items of any bits: NaN with payloads, -0.0, infinities, NaT. Some are all alike."""
    dtype = dtype.newbyteorder("=")
    n = int(np.prod(shape, dtype=int))
    if dtype.kind == "b":
        items = rng.integers(0, 2, n).astype(bool)
    elif dtype.kind == "U":
        letters = np.array(list("aé中🦜"))
        length = dtype.itemsize // 4
        items = np.array(["".join(rng.choice(letters, rng.integers(0, length + 1))) for _ in range(n)], dtype)
    else:
        items = np.frombuffer(rng.bytes(n * dtype.itemsize), dtype)
        if dtype.kind in "fc" and n:
            # Items that comparisons get wrong: NaN != NaN, -0.0 == 0.0.
            special = np.array([np.nan, -0.0, np.inf, 0.0], dtype)
            items = np.where(rng.random(n) < 0.5, special[rng.integers(0, 4, n)], items)
    return items.reshape(shape)


def _axis_index(choice: random.Random, length: int) -> Any:
    kind = choice.randrange(5)
    if kind == 0 and length:
        return choice.randrange(-length, length)
    if kind == 1:
        return slice(None, None, choice.choice([None, 1, -1, 2, -3]))
    bound = lambda: choice.choice([None, choice.randrange(-length - 2, length + 3)])  # noqa: E731
    return slice(bound(), bound(), choice.choice([None, 1, 1, 2, 3, 7, -1, -2, -5]))


def _positions(choice: random.Random, length: int, shape: tuple[int, ...]) -> Any:
    n = int(np.prod(shape, dtype=int))
    if not length:
        return np.empty(0, int)
    values = [choice.randrange(-length, length) for _ in range(n)]
    array = np.array(values, choice.choice(["i8", "i4", "i1"])).reshape(shape)
    return array.tolist() if n and choice.random() < 0.3 else array


def basic_index(choice: random.Random, shape: tuple[int, ...]) -> Any:
    items = [_axis_index(choice, n) for n in shape[: choice.randrange(len(shape) + 1)]]
    if choice.random() < 0.3:
        items.insert(choice.randrange(len(items) + 1), None)
    if choice.random() < 0.3:
        items.insert(len(items), Ellipsis)
    return items[0] if len(items) == 1 and choice.random() < 0.5 else tuple(items)


def orthogonal_index(choice: random.Random, shape: tuple[int, ...]) -> tuple[Any, ...]:
    items: list[Any] = []
    for n in shape:
        kind = choice.randrange(4)
        if kind == 0:
            items.append(_positions(choice, n, (choice.randrange(1, 5),)))
        elif kind == 1:
            items.append(np.array([choice.random() < 0.5 for _ in range(n)], bool))
        else:
            items.append(_axis_index(choice, n))
    return tuple(items)


def mixed_index(choice: random.Random, shape: tuple[int, ...]) -> Any:
    """Masks of one or several axes, integer arrays that broadcast together, slices, integers and new axes."""
    together = tuple([choice.randrange(1, 4) for _ in range(choice.randrange(1, 3))])
    items: list[Any] = []
    axis = 0
    has_mask = False
    while axis < len(shape):
        kind = choice.randrange(6)
        if kind == 0 and not has_mask and not any(isinstance(item, (np.ndarray, list)) for item in items):
            # A mask of k axes counts as index arrays of one dimension; alone it always fits.
            k = choice.randrange(1, len(shape) - axis + 1)
            items.append(np.array([choice.random() < 0.4 for _ in range(int(np.prod(shape[axis : axis + k])))], bool))
            items[-1] = items[-1].reshape(shape[axis : axis + k])
            has_mask = True
            axis += k
            continue
        if kind <= 2 and not has_mask:
            begin = choice.randrange(len(together))
            own = tuple([n if choice.random() < 0.8 else 1 for n in together[begin:]])
            items.append(_positions(choice, shape[axis], own))
        else:
            items.append(_axis_index(choice, shape[axis]))
        axis += 1
        if choice.random() < 0.1:
            items.append(None)
    return tuple(items)


def whole_mask(choice: random.Random, shape: tuple[int, ...]) -> Any:
    n = int(np.prod(shape, dtype=int))
    share = choice.choice([0.0, 0.2, 0.9, 1.0])
    return np.array([choice.random() < share for _ in range(n)], bool).reshape(shape)


def coordinates(choice: random.Random, shape: tuple[int, ...]) -> tuple[Any, ...] | None:
    if not shape or 0 in shape:
        return None
    together = tuple([choice.randrange(1, 4) for _ in range(choice.randrange(1, 3))])
    return tuple([_positions(choice, n, together) for n in shape])


def orthogonal_result(model: np.ndarray, key: tuple[Any, ...]) -> tuple[Any, tuple[int, ...]]:
    """The same as one NumPy index for all axes, and the shape of its result without the axes of integers."""
    positions = []
    kept = []
    for axis, item in enumerate(key):
        along = np.arange(model.shape[axis])[item]
        kept += [len(along)] if np.ndim(along) else []
        positions.append(np.atleast_1d(along))
    return np.ix_(*positions), tuple(kept)


def block_slices(choice: random.Random, shape: tuple[int, ...], chunks: tuple[int, ...]) -> tuple[Any, Any]:
    key: list[Any] = []
    slices: list[slice] = []
    for n, chunk in zip(shape, chunks):
        count = -(-n // chunk)
        if count and choice.random() < 0.5:
            i = choice.randrange(-count, count)
            key.append(i)
            i %= count
            slices.append(slice(i * chunk, (i + 1) * chunk))
        else:
            begin, end = sorted(choice.randrange(count + 1) for _ in range(2))
            key.append(slice(begin, end))
            slices.append(slice(begin * chunk, end * chunk))
    return tuple(key), tuple(slices)


@contextmanager
def directory_in_memory() -> Iterator[Path]:
    """A directory on a file system in memory where there is one: for tests of many small writes."""
    shm = Path("/dev/shm")
    place = Path(tempfile.mkdtemp(dir=shm if os.access(shm, os.W_OK) else None))
    try:
        yield place
    finally:
        shutil.rmtree(place)


# Every store of the table, and a directory without the compiled reader and writer.
STORES = [*EVERY, "subclass"]


def make_store(kind: str, place: Any) -> Any:
    if kind == "memory":
        return MemoryStore()
    if kind == "zip":
        return ZipStore(f"{place}/a.zip", mode="w")
    if kind in ("filesystem", "subclass"):
        return (FilesystemStore if kind == "filesystem" else SubclassedStore)(f"{place}/a")
    return EVERY[kind](Path(tempfile.mkdtemp(dir=place)))
