"""Stored bytes that were changed, cut, swapped or made up: noticed, told apart, and bounded in memory and time."""

from __future__ import annotations

import json
import random
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import array_cases as cases
import numpy as np
import pytest

import zarrcy
from zarrcy.codecs import registry
from zarrcy.stores.filesystem import FilesystemStore
from zarrcy.stores.memory import MemoryStore

SCRIPT = Path(__file__).parent / "array_memory.py"

# The default chains, and the same in shards. Noise on a curve, rounded, so that every codec has something to do.
ITEMS = (
    np.round(np.sin(np.arange(96 * 64) / 40) + np.random.default_rng(6).normal(0, 0.02, 96 * 64), 2)
    .astype("f4")
    .reshape(96, 64)
)
CHAINS: dict[str, dict[str, Any]] = {
    "v3": {"chunks": (32, 32)},
    "v2": {"chunks": (32, 32), "zarr_format": 2},
    "shards": {"chunks": (16, 16), "shards": (32, 32)},
    "bytes": {"chunks": (32, 32), "dtype": "u1"},
}


def damaged_array(chain: str) -> tuple[zarrcy.Array, dict[str, bytes]]:
    """An array in memory, and its stored chunks."""
    options = CHAINS[chain]
    items = (ITEMS * 50).astype("i1").astype("u1") if options.get("dtype") == "u1" else ITEMS
    array = zarrcy.array(items, MemoryStore(), **options)
    keys = [array.chunk_key(index) for index in array.stored_chunks()]
    return array, {key: bytes(array.store.get(key)) for key in keys}


def read_with(
    array: zarrcy.Array, key: str, value: bytes, key_of_items: Any = Ellipsis
) -> np.ndarray | zarrcy.CodecError:
    """What a read gives with another value under a key: items, or the error. Anything else but a CodecError fails."""
    before = array.store.get(key)
    array.store.set(key, value)
    try:
        return array[key_of_items]
    except zarrcy.CodecError as error:
        return error
    finally:
        array.store.set(key, before)


def tell(error: zarrcy.CodecError, array: zarrcy.Array, key: str) -> None:
    """An error about a chunk carries what is needed to find it."""
    assert error.key == key
    assert error.store == array.store.url
    assert key in str(error) and array.store.url in str(error)


def flips(choice: random.Random, values: dict[str, bytes], n: int) -> Iterator[tuple[str, bytes]]:
    for _ in range(n):
        key = choice.choice(sorted(values))
        value = bytearray(values[key])
        bit = choice.randrange(8 * len(value))
        value[bit // 8] ^= 1 << bit % 8
        yield key, bytes(value)


def cuts(choice: random.Random, values: dict[str, bytes], n: int) -> Iterator[tuple[str, bytes]]:
    for _ in range(n):
        key = choice.choice(sorted(values))
        yield key, values[key][: choice.randrange(len(values[key]))]


def chunk_of(array: zarrcy.Array, key: str) -> tuple[slice, ...]:
    index = next(index for index in array.stored_chunks() if array.chunk_key(index) == key)
    shape = array.shards or array.chunks
    return tuple([slice(i * n, (i + 1) * n) for i, n in zip(index, shape, strict=True)])


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("damage", [flips, cuts])
def test_none_of_10000_flipped_bits_and_10000_cuts_is_silent(chain: str, damage: Any) -> None:
    array, values = damaged_array(chain)
    whole = array[...]
    harmless = 0
    regions = {key: chunk_of(array, key) for key in values}
    for key, value in damage(random.Random(17), values, 10_000):
        got = read_with(array, key, value, regions[key])
        if isinstance(got, zarrcy.CodecError):
            tell(got, array, key)
        else:
            assert got.tobytes() == whole[regions[key]].tobytes(), f"{key}: other items, silently"
            harmless += 1
    if damage is cuts:
        assert harmless == 0
    else:
        # Only the header of a zstd frame has bits that nobody reads; a crc32c covers everything.
        assert harmless == 0 or chain == "v2"
        assert harmless < 100


@pytest.mark.parametrize("kind", ["filesystem", "subclass"])
def test_damage_in_files_is_noticed_on_both_paths(tmp_path: Path, kind: str) -> None:
    for chain, options in CHAINS.items():
        if options.get("dtype"):
            continue
        store = (FilesystemStore if kind == "filesystem" else cases.SubclassedStore)(tmp_path / chain)
        array = zarrcy.array(ITEMS, store, **options)
        values = {array.chunk_key(index): store.get(array.chunk_key(index)) for index in array.stored_chunks()}
        choice = random.Random(3)
        for damage in (flips, cuts):
            for key, value in damage(choice, values, 150):
                got = read_with(array, key, value)
                if isinstance(got, zarrcy.CodecError):
                    tell(got, array, key)
                else:
                    assert chain == "v2" and got.tobytes() == ITEMS.tobytes()


def test_a_damaged_chunk_does_not_spoil_its_neighbours() -> None:
    for chain in CHAINS:
        array, values = damaged_array(chain)
        key = sorted(values)[0]
        region = chunk_of(array, key)
        whole = array[...]
        array.store.set(key, values[key][:-1] + bytes([values[key][-1] ^ 1]))
        with pytest.raises(zarrcy.CodecError):
            array[region]
        assert (array[region[0].stop :] == whole[region[0].stop :]).all()


def test_a_flip_in_one_inner_chunk_is_noticed_where_that_one_is_read() -> None:
    array, values = damaged_array("shards")
    key = "c/0/0"
    value = bytearray(values[key])
    value[10] ^= 4  # the first inner chunk comes first
    assert isinstance(read_with(array, key, bytes(value), (0, 0)), zarrcy.ChecksumError)
    got = read_with(array, key, bytes(value), np.s_[16:32, 16:32])
    assert isinstance(got, np.ndarray) and (got == ITEMS[16:32, 16:32]).all()
    value = bytearray(values[key])
    value[-3] ^= 4  # the checksum of the index
    for region in (np.s_[0, 0], np.s_[16:32, 16:32], np.s_[:]):
        assert isinstance(read_with(array, key, bytes(value), region), zarrcy.ChecksumError)


@pytest.mark.parametrize("chain", ["v3", "v2", "shards"])
def test_a_damaged_chunk_is_not_overwritten_by_a_partial_write(chain: str) -> None:
    array, values = damaged_array(chain)
    key = sorted(values)[0]
    damaged = values[key][:20] + bytes([values[key][20] ^ 255]) + values[key][21:]
    array.store.set(key, damaged)
    with pytest.raises(zarrcy.CodecError):
        array[0, 0] = 1
    assert array.store.get(key) == damaged
    array[:32, :32] = 1  # all of it: nothing of the old one is needed
    assert (array[:32, :32] == 1).all()


def test_chunks_of_arrays_with_another_size_are_noticed() -> None:
    """2,000 swaps: a chunk of another array decodes to another number of bytes."""
    choice = random.Random(5)
    dtypes, chunks = ["u1", "<i2", ">i2", "f4", "f8", "c16", "U3", "S5"], [(4, 4), (4, 8), (8, 8), (16, 4), (5, 7)]
    noticed = 0
    arrays = []
    for dtype in dtypes:
        for chunk in chunks:
            for options in ({}, {"zarr_format": 2}, {"compressor": "gzip"}, {"shards": tuple(2 * n for n in chunk)}):
                items = cases.random_items(
                    np.random.default_rng(len(arrays)), (2 * chunk[0], 2 * chunk[1]), np.dtype(dtype)
                )
                arrays.append((zarrcy.array(items, MemoryStore(), chunks=chunk, dtype=dtype, **options), items))

    def size(array: zarrcy.Array) -> int:
        return int(np.prod(array.chunks)) * array.itemsize

    while noticed < 2000:
        (victim, _), (other, _) = choice.sample(arrays, 2)
        if size(victim) == size(other) and (victim.shards is None) == (other.shards is None):
            continue  # nothing in such a chunk tells it from another one
        key, foreign = [array.chunk_key(choice.choice(sorted(array.stored_chunks()))) for array in (victim, other)]
        got = read_with(victim, key, bytes(other.store.get(foreign)))
        assert isinstance(got, zarrcy.CodecError), f"{other!r} in the place of {victim!r}"
        tell(got, victim, key)
        noticed += 1


def test_what_is_read_is_always_a_whole_chunk_that_someone_wrote() -> None:
    """Two chunks of one array that change places are whole ones: a checksum per chunk cannot tell. None is mixed."""
    array, values = damaged_array("v3")
    got = read_with(array, "c/0/0", values["c/1/1"], np.s_[:32, :32])
    assert isinstance(got, np.ndarray) and (got == ITEMS[32:64, 32:64]).all()


# ---- shards that lie


INNER = [cases.named("bytes", endian="little"), cases.named("crc32c")]
INDEX = [cases.named("bytes", endian="little"), cases.named("crc32c")]


def crc32c(data: bytes) -> bytes:
    return bytes(registry.get("crc32c")().encode(data))


def made_up_shard(entries: list[tuple[int, int]], body: bytes, location: str = "end") -> bytes:
    index = crc32c(b"".join(struct.pack("<QQ", *entry) for entry in entries))
    return body + index if location == "end" else index + body


def sharded(store: Any, location: str = "end", around: Any = ()) -> zarrcy.Array:
    codec = cases.named("sharding_indexed", chunk_shape=[4], codecs=INNER, index_codecs=INDEX, index_location=location)
    return zarrcy.create_array(store, shape=16, chunks=16, dtype="i4", codecs=[codec, *around])


CHUNK = crc32c(np.arange(4, dtype="i4").tobytes())
ABSENT = (2**64 - 1, 2**64 - 1)
LIES = [
    (0, 21),
    (1, 20),
    (0, 19),
    (0, 0),
    (0, 2**40),
    (0, 2**63),
    (0, 2**64 - 1),
    (2**64 - 1, 20),
    (2**64 - 1, 0),
    (2**63, 20),
    (2**64 - 20, 20),
    (2**64 - 10, 20),
    (20, 2**64 - 20),
    (2**62, 2**62),
    (10**6, 20),
    (70, 20),
]


@pytest.mark.parametrize("kind", ["memory", "filesystem", "subclass"])
@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize("around", [(), (cases.named("gzip", level=1),)])
def test_a_lying_shard_index_is_a_typed_error(tmp_path: Path, kind: str, location: str, around: Any) -> None:
    array = sharded(cases.make_store(kind, tmp_path), location, around)
    start = 0 if location == "end" else 68
    encode = registry.get("gzip")(level=1).encode if around else bytes
    good = [(start, 20), ABSENT, ABSENT, ABSENT]
    got = read_with_new(array, encode(made_up_shard(good, CHUNK, location)))
    assert isinstance(got, np.ndarray) and got.tolist() == [0, 1, 2, 3] + [0] * 12
    for offset, nbytes in LIES:
        shift = start if offset < 2**32 else 0
        entries = [(offset + shift, nbytes), ABSENT, ABSENT, ABSENT]
        for region in (np.s_[:], np.s_[1], np.s_[[0, 3]]):
            got = read_with_new(array, encode(made_up_shard(entries, CHUNK, location)), region)
            assert isinstance(got, zarrcy.CodecError), f"{offset}, {nbytes}: {got}"
            tell(got, array, "c/0")
        array.store.set("c/0", encode(made_up_shard(entries, CHUNK, location)))
        with pytest.raises(zarrcy.CodecError):
            array[0] = 1
    for n in range(len(made_up_shard(good, CHUNK, location))):
        assert isinstance(read_with_new(array, encode(made_up_shard(good, CHUNK, location)[:n])), zarrcy.CodecError)


def read_with_new(array: zarrcy.Array, value: bytes, region: Any = np.s_[:]) -> Any:
    array.store.set("c/0", bytes(value))
    return read_with(array, "c/0", bytes(value), region)


@pytest.mark.parametrize("kind", ["memory", "filesystem", "subclass"])
def test_inner_chunks_may_share_bytes_but_never_reach_into_others(tmp_path: Path, kind: str) -> None:
    array = sharded(cases.make_store(kind, tmp_path))
    got = read_with_new(array, made_up_shard([(0, 20)] * 4, CHUNK))
    assert got.tolist() == [0, 1, 2, 3] * 4
    got = read_with_new(array, made_up_shard([(0, 20), (10, 20), ABSENT, (0, 20)], CHUNK + CHUNK))
    assert isinstance(got, zarrcy.ChecksumError)
    # Written in part, each gets bytes of its own.
    array.store.set("c/0", made_up_shard([(0, 20)] * 4, CHUNK))
    array[5] = 9
    assert array[:].tolist() == [0, 1, 2, 3, 0, 9, 2, 3] + [0, 1, 2, 3] * 2


@pytest.mark.parametrize("n_inner", [2**20, 2**30, 2**39, 2**41, 2**60, 2**62])
def test_a_shard_of_a_huge_number_of_chunks_is_an_error_before_memory_is_spent(tmp_path: Path, n_inner: int) -> None:
    document = json.loads(
        zarrcy.create_array(tmp_path / "a", shape=4, chunks=2, shards=4, dtype="u1").store.get("zarr.json")
    )
    document["shape"] = document["chunk_grid"]["configuration"]["chunk_shape"] = [n_inner]
    document["codecs"][0]["configuration"]["chunk_shape"] = [1]
    store = FilesystemStore(tmp_path / "a")
    store.set("zarr.json", json.dumps(document).encode())
    for value in (b"", b"1234", bytes(100)):
        store.set("c/0", value)
        for mine in (store, cases.SubclassedStore(store.path)):
            with pytest.raises((zarrcy.CodecError, zarrcy.MetadataError)):
                zarrcy.open_array(mine)[3]


@pytest.mark.parametrize(
    "codecs",
    [
        [cases.named("transpose", order=order), cases.named("bytes", endian="little")]
        for order in ([0], [1, 0], [0, 1, 2, 3], [])
    ]
    + [[cases.named("bytes")], [*INDEX, cases.named("zstd", level=1)], []],
)
def test_codecs_that_do_not_fit_the_index_of_a_shard_are_refused(codecs: Any) -> None:
    shard = cases.named("sharding_indexed", chunk_shape=[2, 2], codecs=INNER, index_codecs=codecs)
    with pytest.raises(zarrcy.MetadataError):
        zarrcy.create_array(MemoryStore(), shape=(4, 4), chunks=(4, 4), dtype="i4", codecs=[shard])


# ---- memory and time


def run_script(*args: object) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PYTHONPATH": str(Path(zarrcy.__file__).parents[1]), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.bounds
def test_bombs_are_typed_errors_within_a_second_and_16_mib() -> None:
    with cases.directory_in_memory() as place:
        worst = run_script("bombs", place)
    assert worst["growth"] <= 16 * 2**20 + 8192
    assert worst["seconds"] < 1


@pytest.mark.bounds
@pytest.mark.parametrize("action", ["read", "write"])
@pytest.mark.parametrize("kind", ["plain", "shards", "memory"])
def test_256_mib_in_chunks_of_1_mib_take_little_beside_the_items(action: str, kind: str) -> None:
    with cases.directory_in_memory() as place:
        assert run_script("peak", place / "a", action, kind)["growth"] <= 24 * 2**20
