"""A read of a part of a chunk decodes that part: the same items as ever, broken bytes noticed as before, less work."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import array_cases as cases
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

import zarrcy
from zarrcy.codecs import pipeline
from zarrcy.codecs.blosc import LINKED_CNAMES, Blosc
from zarrcy.codecs.codec import Codec
from zarrcy.codecs.zstd import Zstd
from zarrcy.stores.filesystem import FilesystemStore
from zarrcy.stores.memory import MemoryStore

SHAPE = (700, 500)
NEVER = 2**60
LITTLE = cases.named("bytes", endian="little")
CRC = cases.named("crc32c")


def blosc(cname: str, shuffle: str = "shuffle", typesize: int = 4, blocksize: int = 8192) -> dict[str, Any]:
    return cases.named("blosc", cname=cname, clevel=5, shuffle=shuffle, typesize=typesize, blocksize=blocksize)


def zstd(*, checksum: bool) -> dict[str, Any]:
    return cases.named("zstd", level=1, checksum=checksum)


def shards(*inner: dict[str, Any]) -> dict[str, Any]:
    return cases.named("sharding_indexed", chunk_shape=[256, 256], codecs=list(inner), index_codecs=[LITTLE, CRC])


OPTIONS: dict[str, dict[str, Any]] = {
    "blosc-lz4": {"codecs": [LITTLE, blosc("lz4")]},
    "blosc-zstd": {"codecs": [LITTLE, blosc("zstd", "bitshuffle")]},
    "blosc-blosclz": {"codecs": [LITTLE, blosc("blosclz", "noshuffle")]},
    "blosc-zlib": {"codecs": [LITTLE, blosc("zlib", "shuffle", 3)]},
    "blosc-crc32c": {"codecs": [LITTLE, blosc("lz4"), CRC]},
    "blosc-transpose": {"codecs": [cases.named("transpose", order=[1, 0]), LITTLE, blosc("lz4")]},
    "blosc-big": {"codecs": [cases.named("bytes", endian="big"), blosc("lz4")]},
    "blosc-shards": {"codecs": [shards(LITTLE, blosc("lz4"))], "chunks": (512, 256)},
    "blosc-v2": {"zarr_format": 2, "compressor": {"id": "blosc", "cname": "lz4", "clevel": 1, "blocksize": 4096}},
    "blosc-stored": {"codecs": [LITTLE, cases.named("blosc", cname="lz4", clevel=0, shuffle="noshuffle", blocksize=0)]},
    "zstd": {"codecs": [LITTLE, zstd(checksum=False)]},
    "zstd-checksum": {"codecs": [LITTLE, zstd(checksum=True)]},
    "zstd-crc32c": {"codecs": [LITTLE, zstd(checksum=True), CRC]},
    "zstd-shards": {"codecs": [shards(LITTLE, zstd(checksum=False), CRC)], "chunks": (512, 256)},
    "gzip": {"codecs": [LITTLE, cases.named("gzip", level=1)]},
}


def model(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    noise = np.random.default_rng(6).normal(0, 0.02, shape)
    return np.round(np.add.outer(np.sin(np.arange(shape[0]) / 40), np.arange(shape[1]) / 90) + noise, 2).astype("f4")


MODEL = model()


def opened(array: zarrcy.Array, limit: int, monkeypatch: pytest.MonkeyPatch) -> zarrcy.Array:
    """The array, chunks of fewer bytes than that decoded whole."""
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "MIN_PART_NBYTES", limit)
        return zarrcy.open(array.store, mode="r")


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[zarrcy.Array]]]:
    """Each array twice, decoding parts and not, in files and in memory."""
    place = tmp_path_factory.mktemp("partial")
    found: dict[str, list[zarrcy.Array]] = {}
    for name, options in OPTIONS.items():
        found[name] = []
        for store in (FilesystemStore(place / name), MemoryStore()):
            array = zarrcy.create_array(store, **{"shape": SHAPE, "chunks": (512, 512), "dtype": "f4", **options})
            array[...] = MODEL
            for limit in (0, NEVER):
                with pytest.MonkeyPatch.context() as patch:
                    found[name].append(opened(array, limit, patch))
    yield found


def small_index(choice: random.Random, shape: tuple[int, ...]) -> Any:
    """A point, a row, a column, a box, or one with steps."""
    key = []
    for n in shape:
        begin = choice.randrange(n)
        end = min(n, begin + 1 + choice.randrange(choice.choice((1, 5, n))))
        key.append(choice.choice((begin, slice(begin, end), slice(begin, end, 3), slice(end, begin, -2), slice(None))))
    return tuple(key)


def choose(choice: random.Random) -> tuple[Callable[[zarrcy.Array], Any], Any]:
    kind = choice.randrange(4)
    if kind < 2:
        n = choice.choice((1, 3, 40))
        key = tuple([np.array([choice.randrange(length) for _ in range(n)]) for length in SHAPE])
        if kind == 0:
            return (lambda array: array.vindex[key]), MODEL[key]
        return (lambda array: array.oindex[key]), MODEL[np.ix_(*key)]
    key = small_index(choice, SHAPE)
    return (lambda array: array[key]), MODEL[key]


@pytest.mark.parametrize("name", OPTIONS)
@settings(max_examples=120)
@given(seed=st.integers(0, 2**32))
def test_a_part_of_a_chunk_is_what_numpy_gives(arrays: dict[str, list[zarrcy.Array]], name: str, seed: int) -> None:
    read, expected = choose(random.Random(seed))
    for array in arrays[name]:
        assert np.array_equal(read(array), expected)


# Less work


LONG = np.repeat(MODEL.ravel()[: 2**15], 4).tobytes()  # 512 KiB, which every codec compresses
HITS = [[(0, 1)], [(2**18, 2**18 + 4)], [(2**19 - 1, 2**19)], [(5, 9), (2**17, 2**17 + 9000), (400_000, 400_001)]]


@pytest.mark.parametrize("shuffle", ["noshuffle", "shuffle", "bitshuffle"])
@pytest.mark.parametrize("cname", sorted(LINKED_CNAMES - {"snappy"}))
def test_only_the_blosc_blocks_that_are_hit_are_read_and_decoded(cname: str, shuffle: str) -> None:
    codec = Blosc(cname, 5, shuffle, 4, blocksize=16384)
    encoded = bytearray(codec.encode(LONG))
    blocksize, n_blocks = block_table(encoded)
    for parts in HITS:
        hit = {block for begin, end in parts for block in range(begin // blocksize, (end - 1) // blocksize + 1)}
        out = bytearray(b"\xee" * len(LONG))
        nbytes, n_read = codec.decode_part_to(encoded, out, parts)
        assert nbytes == len(LONG)
        assert n_read < 4096 + (len(hit) + 1) * blocksize
        for block in range(n_blocks):
            place = slice(block * blocksize, (block + 1) * blocksize)
            assert out[place] == (LONG[place] if block in hit else b"\xee" * len(LONG[place]))


def block_table(frame: bytes | bytearray) -> tuple[int, int]:
    """The block size of a Blosc frame, and how many blocks it has."""
    nbytes, blocksize = struct.unpack("<2I", frame[4:12])
    return blocksize, -(-nbytes // blocksize)


def test_zstd_stops_behind_the_last_byte_that_is_needed() -> None:
    encoded = Zstd(1, checksum=False).encode(LONG)
    for end in (1, 1000, 2**17, 2**17 + 1, 2**18):
        out = bytearray(b"\xee" * len(LONG))
        nbytes, n_read = Zstd().decode_part_to(encoded, out, [(end - 1, end)])
        last = -(-end // 2**17) * 2**17  # blocks of Zstandard hold 128 KiB
        assert nbytes == len(LONG)
        assert out[:end] == LONG[:end]
        assert out[last:] == b"\xee" * (len(LONG) - last)
        assert n_read < len(encoded) * (last + 2**16) / len(LONG)


def test_a_frame_that_holds_its_content_as_it_is_gives_the_part_without_a_copy_of_the_rest() -> None:
    codec = Blosc("lz4", 0, "noshuffle", 4)
    out = bytearray(len(LONG))
    assert codec.decode_part_to(codec.encode(LONG), out, [(70_000, 70_100)]) == (len(LONG), 4096 + 100)
    assert out[70_000:70_100] == LONG[70_000:70_100]


def test_a_point_of_a_file_is_read_without_the_blocks_that_it_does_not_touch(tmp_path: Path) -> None:
    array = zarrcy.create_array(
        FilesystemStore(tmp_path),
        shape=(2**20,),
        chunks=(2**20,),
        dtype="f4",
        codecs=[LITTLE, blosc("lz4", blocksize=2**16)],
    )
    array[...] = np.resize(MODEL, 2**20)
    path = tmp_path / array.chunk_key((0,))
    frame = bytearray(path.read_bytes())
    frame[-1000:] = b"\xff" * 1000
    path.write_bytes(frame)
    assert array[5] == MODEL.ravel()[5]
    with pytest.raises(zarrcy.CodecError):
        array[-1]


# Broken bytes


@pytest.mark.parametrize("name", ["blosc-crc32c", "zstd-checksum", "zstd-crc32c", "zstd-shards"])
def test_a_checksum_is_verified_although_a_part_is_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for store in (FilesystemStore(tmp_path), MemoryStore()):
        options = {"shape": (512, 512), "chunks": (512, 512), "dtype": "f4", **OPTIONS[name]}
        array = zarrcy.create_array(store, **options)
        array[...] = MODEL[:1, :1]
        array[...] = model((512, 512))
        array = opened(array, 0, monkeypatch)
        for index in array.stored_chunks():
            key = array.chunk_key(index)
            value = bytearray(store.get(key))
            value[len(value) * 3 // 4] ^= 1  # of a shard: in an inner chunk
            store.set(key, bytes(value))
        if name == "zstd-shards":
            with pytest.raises(zarrcy.ChecksumError):
                [array[i, 0] for i in range(0, 512, 256)] + [array[i, 256] for i in range(0, 512, 256)]
        else:
            with pytest.raises(zarrcy.ChecksumError):
                array[0, 0]


def test_the_order_of_the_blocks_in_a_frame_does_not_matter() -> None:
    # Several threads write the blocks in the order in which they get done.
    codec = Blosc("lz4", 5, "shuffle", 4, blocksize=16384)
    frame = bytes(codec.encode(LONG))
    _, n_blocks = block_table(frame)
    table = 16 + 4 * n_blocks
    starts = [*struct.unpack(f"<{n_blocks}I", frame[16:table]), len(frame)]
    order = random.Random(3).sample(range(n_blocks), n_blocks)
    body, moved = b"", {}
    for block in order:
        moved[block] = table + len(body)
        body += frame[starts[block] : starts[block + 1]]
    shuffled = frame[:16] + struct.pack(f"<{n_blocks}I", *(moved[block] for block in range(n_blocks))) + body
    for begin, end in [part for parts in HITS for part in parts]:
        out = bytearray(len(LONG))
        codec.decode_part_to(shuffled, out, [(begin, end)])
        assert out[begin:end] == LONG[begin:end]


def test_frames_of_unknown_size_and_several_frames_are_decoded_whole() -> None:
    stream = zstandard.ZstdCompressor(level=1).compressobj()
    unknown = stream.compress(LONG) + stream.flush()
    several = Zstd(1, checksum=False).encode(LONG[:5000]) + Zstd(1, checksum=False).encode(LONG[5000:])
    for encoded in (unknown, several):
        out = bytearray(len(LONG))
        assert Zstd().decode_part_to(encoded, out, [(10, 20)]) == (len(LONG), len(encoded) + 18)
        assert out == LONG


def test_a_chunk_of_another_length_is_refused_in_parts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("blosc-lz4", "blosc-stored", "zstd"):
        store = FilesystemStore(tmp_path / name)
        array = zarrcy.create_array(store, shape=(512, 512), chunks=(512, 512), dtype="f4", **OPTIONS[name])
        codec = array.metadata.codecs[-1]
        for nbytes in (2**20 - 4, 2**20 + 4, 4, 0):
            store.set(array.chunk_key((0, 0)), codec.encode(np.resize(MODEL, nbytes // 4).tobytes()))
            with pytest.raises(zarrcy.CodecError):
                opened(array, 0, monkeypatch)[0, 0]


MUTATED: list[Codec] = [
    Zstd(1, checksum=False),
    Zstd(1, checksum=True),
    *[
        Blosc(cname, 1, shuffle, 4, blocksize=1024)
        for cname in sorted(LINKED_CNAMES - {"snappy"})
        for shuffle in ("noshuffle", "shuffle", "bitshuffle")
    ],
]


def fuzz(codec: Codec, n: int, nbytes: int) -> int:
    """Decode parts of mutated values; how many of them decoded."""
    chance = random.Random(12)
    value = LONG[:nbytes]
    encoded = bytes(codec.encode(value))
    n_decoded = 0
    for _ in range(n):
        broken = bytearray(encoded)
        for _ in range(chance.choice((1, 1, 2, 5))):
            at = chance.randrange(min(len(broken), chance.choice((32, 200, 1 << 30))))
            broken[at] = chance.choice((0, 255, broken[at] ^ 1 << chance.randrange(8), chance.randrange(256)))
        if chance.random() < 0.1:
            del broken[chance.randrange(len(broken)) :]
            if len(broken) >= 16 and isinstance(codec, Blosc):
                broken[12:16] = struct.pack("<I", len(broken))
        begin = chance.randrange(nbytes)
        end = min(nbytes, begin + chance.choice((1, 100, 2000)))
        memory = bytearray(b"\xa5" * 64 + bytes(nbytes) + b"\xa5" * 64)
        out = memoryview(memory)[64 : 64 + nbytes]
        whole = bytearray(nbytes)
        try:
            codec.decode_part_to(broken, out, [(begin, end)], verified=chance.random() < 0.5)
        except zarrcy.CodecError:
            continue
        finally:
            assert memory[:64] == memory[64 + nbytes :] == b"\xa5" * 64
        n_decoded += 1
        try:
            codec.decode_to(broken, whole)
        except zarrcy.CodecError:
            continue
        assert out[begin:end] == whole[begin:end]
    return n_decoded


@pytest.mark.parametrize("codec", MUTATED, ids=repr)
def test_parts_of_mutated_values_do_no_harm(codec: Codec) -> None:
    assert fuzz(codec, 1500, 10_000 if isinstance(codec, Blosc) else 2**18 + 100) > 20


@pytest.mark.long
@pytest.mark.parametrize("codec", MUTATED, ids=repr)
def test_parts_of_many_mutated_values_do_no_harm(codec: Codec) -> None:
    assert fuzz(codec, 20_000, 10_000 if isinstance(codec, Blosc) else 2**18 + 100) > 200
