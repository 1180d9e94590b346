"""Hostile bytes: bombs, lying headers, mutations. Each gives a typed error or other bytes, and memory stays bounded."""

import contextlib
import json
import random
import struct
import subprocess
import sys

import numpy as np
import pytest
import zstandard

from zarrcy.codecs.blosc import LINKED_CNAMES, Blosc
from zarrcy.codecs.checksums import Crc32c
from zarrcy.codecs.deflate import Gzip, Zlib
from zarrcy.codecs.lz4 import LZ4
from zarrcy.codecs.numcodecs import NumcodecsAdapter
from zarrcy.codecs.zstd import Zstd
from zarrcy.errors import ChecksumError, CodecError

NATIVE = [
    Zstd(3),
    Zstd(3, checksum=True),
    Gzip(5),
    Zlib(1),
    LZ4(),
    Crc32c(),
    *[
        Blosc(cname, 5, shuffle, 4)
        for cname in sorted(LINKED_CNAMES)
        for shuffle in ("noshuffle", "shuffle", "bitshuffle")
    ],
]


def measurements(nbytes):
    n = nbytes // 4 + 1
    noise = np.random.default_rng(6).normal(0, 0.02, n)
    return np.round(np.sin(np.arange(n) / 40) + noise, 2).astype("<f4").tobytes()[:nbytes]


# Bombs

BOMBS = """
import bz2, gzip, json, lzma, mmap, struct, time, zlib
from zarrcy.codecs.blosc import Blosc
from zarrcy.codecs.deflate import Gzip, Zlib
from zarrcy.codecs.lz4 import LZ4
from zarrcy.codecs.numcodecs import NumcodecsAdapter
from zarrcy.codecs.zstd import Zstd
from zarrcy.errors import CodecError

GIB, MIB = 1 << 30, 1 << 20

NOTHING = mmap.mmap(-1, GIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

NOTHING.madvise(mmap.MADV_HUGEPAGE)

def zeros(codec):
    return codec.encode(NOTHING)

def deflate_stream():
    # 16 MiB of zeros that end at a byte, 64 times: a stream of 1 GiB.
    stream = zlib.compressobj(9)
    head = stream.compress(bytes(16 * MIB)) + stream.flush(zlib.Z_FULL_FLUSH)
    part = stream.compress(bytes(16 * MIB)) + stream.flush(zlib.Z_FULL_FLUSH)
    return head + part * 63 + stream.flush()

def blosc_frame(cname):
    # The last block of a small frame, again and again: a frame of 1 GiB.
    small = Blosc(cname, 5, "shuffle", 4, blocksize=MIB).encode(bytes(2 * MIB))
    blocksize = struct.unpack("<I", small[8:12])[0]
    start = struct.unpack("<I", small[16 + 4 * (2 * MIB // blocksize - 1):][:4])[0]
    n_blocks, block = GIB // blocksize, small[start:]
    table = 16 + 4 * n_blocks
    starts = [table + i * len(block) for i in range(n_blocks)]
    header = struct.pack("<3I", GIB, blocksize, table + n_blocks * len(block))
    return small[:4] + header + struct.pack(f"<{n_blocks}I", *starts) + block * n_blocks

zstd = zeros(Zstd(3))
unknown = zstd[:4] + bytes([zstd[4] & 0x1C]) + b"\\x58" + zstd[4 + 1 + 4:]   # window of 2 MiB, no content size
bombs = {
    "zstd": (Zstd(), [zstd]),
    "zstd with a checksum": (Zstd(), [zeros(Zstd(3, checksum=True))]),
    "zstd of unknown size": (Zstd(), [unknown]),
    "zstd of many frames": (Zstd(), [Zstd(3).encode(bytes(MIB // 2)) * 2048]),
    "zstd twice": (Zstd(), [Zstd(3).encode(zstd), None]),
    "gzip": (Gzip(), [b"\\x1f\\x8b\\x08" + bytes(7) + deflate_stream()[2:-4] + bytes(8)]),
    "gzip of many members": (Gzip(), [gzip.compress(bytes(MIB // 2)) * 2048]),
    "gzip twice": (Gzip(), [Gzip(9).encode(gzip.compress(bytes(16 * MIB), 9) * 64), None]),
    "zlib": (Zlib(), [deflate_stream()]),
    "zlib twice": (Zlib(), [Zlib(9).encode(deflate_stream()), None]),
    "lz4": (LZ4(), [zeros(LZ4())]),
    "lz4 that lies": (LZ4(), [(MIB).to_bytes(4, "little") + zeros(LZ4())[4:]]),
    "bz2": (NumcodecsAdapter("bz2", {}), [bz2.compress(bytes(16 * MIB)) * 64]),
    "lzma": (NumcodecsAdapter("lzma", {}), [lzma.compress(bytes(16 * MIB)) * 64]),
}
for cname in ("lz4", "zstd", "zlib", "blosclz"):
    frame = blosc_frame(cname)
    bombs[f"blosc {cname}"] = (Blosc(), [frame])
    bombs[f"blosc {cname} that lies"] = (Blosc(), [frame[:4] + MIB.to_bytes(4, "little") + frame[8:]])
    bombs[f"blosc {cname} twice"] = (Blosc(), [Blosc(cname, 9, "noshuffle").encode(frame), None])

def peak():
    with open("/proc/self/status") as status:
        return {line.split(":")[0]: int(line.split()[1]) for line in status if line.startswith("Vm")}["VmHWM"] * 1024

out = bytearray(MIB)
for name, (codec, values) in bombs.items():
    codec.decode_to(bytes(codec.encode(memoryview(bytes(100)))), out)
    with open("/proc/self/clear_refs", "w") as reset:
        reset.write("5")
    before, start, outcome = peak(), time.process_time(), "decoded"
    try:
        value = values[0]
        if len(values) == 2:    # the outer layer may hold what encoding a chunk of 1 MiB can give
            value = codec.decode(value, codec.max_encoded_nbytes(MIB))
        codec.decode_to(value, out)
    except CodecError as error:
        outcome = error.code
    print(json.dumps([name, outcome, len(values[0]), peak() - before, time.process_time() - start]))
"""


@pytest.mark.bounds
def test_no_bomb_grows_memory_or_takes_a_second():
    run = subprocess.run([sys.executable, "-c", BOMBS], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    results = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(results) == 26
    for name, outcome, nbytes, growth, seconds in results:
        assert outcome == "too_large" or (outcome == "corrupt" and "lies" in name), (name, outcome)
        assert nbytes < 6 << 20, (name, nbytes)
        assert growth <= 17 << 20, (name, growth)
        assert seconds < 1, (name, seconds)


# Lying headers


def test_a_zstd_header_that_promises_more_than_there_is_room_for_is_refused():
    for nbytes in (5, 300, 70_000, 2**32 - 1, 2**63):
        header = b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", nbytes)
        with pytest.raises(CodecError, match=f"promises {nbytes}") as raised:
            Zstd().decode(header + Zstd().encode(b"chunk")[6:], 4)
        assert raised.value.code == "too_large"


def test_a_zstd_header_that_promises_another_size_is_refused():
    encoded = Zstd().encode(b"chunk")
    assert encoded[5] == 5
    for promised in (0, 4, 6, 100):
        with pytest.raises(CodecError):
            Zstd().decode(encoded[:5] + bytes([promised]) + encoded[6:], 100)


def test_a_huge_zstd_window_allocates_nothing():
    # No content size, the largest window descriptor of each exponent, one raw block of five bytes.
    block = (5 << 3 | 1).to_bytes(3, "little") + b"chunk"
    for exponent in range(32):
        frame = b"\x28\xb5\x2f\xfd\x00" + bytes([exponent << 3 | 7]) + block
        try:
            assert Zstd().decode(frame, 5) == b"chunk"
        except CodecError as error:
            assert exponent >= 21, error


def test_a_zstd_frame_that_wants_a_dictionary_is_refused():
    dictionary = zstandard.ZstdCompressionDict(b"chunk of measurements " * 100)
    encoded = zstandard.ZstdCompressor(dict_data=dictionary).compress(b"chunk of measurements")
    for broken in (encoded, b"\x28\xb5\x2f\xfd\x21\x07" + encoded[5:]):
        with pytest.raises(CodecError):
            Zstd().decode(broken, 100)


def blosc_header(**changes):
    encoded = bytearray(Blosc("lz4", 5, "shuffle", 4).encode(measurements(4000)))
    fields = {"version": (0, "B"), "lz": (1, "B"), "flags": (2, "B"), "typesize": (3, "B")}
    fields |= {"nbytes": (4, "<I"), "blocksize": (8, "<I"), "cbytes": (12, "<I"), "bstart": (16, "<I")}
    for name, value in changes.items():
        position, kind = fields[name]
        struct.pack_into(kind, encoded, position, value)
    return bytes(encoded)


@pytest.mark.parametrize(
    "changes",
    [
        *[{"version": version} for version in (0, 3, 4, 5, 6, 7, 255)],
        *[{"lz": lz} for lz in (0, 2, 255)],
        *[{"flags": flags} for flags in (0x08, 0x0D, 0x05, 0x21 | 0x04, 0xA1, 0xE1, 0xFF)],
        {"typesize": 0},
        *[{"nbytes": nbytes} for nbytes in (3999, 4001, 1 << 20, 2**31 - 1, 2**31, 2**32 - 1)],
        *[{"blocksize": blocksize} for blocksize in (0, 4001, 2**31, 2**32 - 1)],
        *[{"cbytes": cbytes} for cbytes in (0, 15, 16, 17, 2**31 - 1, 2**31, 2**32 - 1)],
        *[{"bstart": bstart} for bstart in (2**31 - 1, 2**31, 2**32 - 1, 100_000)],
        {"blocksize": 1},
        {"blocksize": 3, "typesize": 255},
        {"flags": 0x02},
        {"flags": 0x03, "nbytes": 4000},
    ],
    ids=str,
)
def test_a_lying_blosc_header_is_refused(changes):
    with pytest.raises(CodecError):
        Blosc().decode(blosc_header(**changes), 4000)


def test_a_blosc_header_that_promises_more_than_there_is_room_for_is_too_large():
    for nbytes in (4001, 2**31 - 1, 2**32 - 1):
        with pytest.raises(CodecError, match=f"promises {nbytes}") as raised:
            Blosc().decode(blosc_header(nbytes=nbytes), 4000)
        assert raised.value.code == "too_large"


def test_a_frame_of_blosc2_is_refused_by_name():
    with pytest.raises(CodecError, match="C-Blosc2"):
        Blosc().decode(blosc_header(version=5), 4000)


def test_a_lying_lz4_length_is_refused():
    encoded = LZ4().encode(measurements(4000))
    for promised in (0, 1, 3999, 4001, 2**31 - 1, 2**31, 2**32 - 1):
        with pytest.raises(CodecError):
            LZ4().decode(struct.pack("<I", promised) + encoded[4:], 5000)
    with pytest.raises(CodecError, match="no block can have"):
        LZ4().decode(struct.pack("<I", 2**32 - 1) + encoded[4:], 2**32)


def test_a_lying_gzip_length_is_a_checksum_error():
    encoded = Gzip().encode(measurements(4000))
    for promised in (0, 3999, 4001, 2**32 - 1):
        with pytest.raises(ChecksumError, match="length"):
            Gzip().decode(encoded[:-4] + struct.pack("<I", promised), 4000)


@pytest.mark.parametrize("codec", NATIVE, ids=repr)
def test_a_value_without_bytes_or_of_foreign_bytes_is_refused(codec):
    for value in (b"", b"\0", b"{}", b"<html><body>404 Not Found</body></html>", bytes(100), b"\xff" * 100):
        with pytest.raises(CodecError):
            codec.decode(value, 1000)


# Mutations


def mutated(encoded, other, chance):
    """The bytes after one to four edits: flips, other words, cuts, repeats, insertions, a piece of another value."""
    value = bytearray(encoded)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(value) + 1) if chance.random() < 0.6 else chance.randrange(min(len(value), 40) + 1)
        kind = chance.randrange(7)
        if kind == 0 and at < len(value):
            value[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            word = chance.choice((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFF, chance.getrandbits(32)))
            value[at : at + 4] = word.to_bytes(4, "little")
        elif kind == 2:
            del value[at : at + chance.choice((1, 2, 4, 100))]
        elif kind == 3:
            value[at:at] = value[at : at + chance.choice((1, 4, 16, 300))]
        elif kind == 4:
            value[at:at] = chance.randbytes(chance.choice((1, 4, 16)))
        elif kind == 5:
            value[at : at + 50] = other[at : at + 50]
        elif at < len(value):
            value[at] = chance.randrange(256)
    return bytes(value)


def fuzz(codec, n, seed):
    """Decodes `n` mutated values between guards; returns how many were refused."""
    chance = random.Random(seed)
    values = [measurements(3001), bytes(5000), chance.randbytes(700), measurements(40_000)]
    encoded = [bytes(codec.encode(memoryview(value))) for value in values]
    refused = 0
    for i in range(n):
        k = i % 16 % 4 if i % 16 < 13 else i % 3
        capacity = chance.choice((len(values[k]), len(values[k]), 100, 0, len(values[k]) + 1000))
        memory = bytearray(b"\xa5" * 64 + bytes(capacity) + b"\xa5" * 64)
        try:
            codec.decode_to(mutated(encoded[k], encoded[(k + 1) % 4], chance), memoryview(memory)[64 : 64 + capacity])
        except CodecError:
            refused += 1
        assert memory[:64] == memory[64 + capacity :] == b"\xa5" * 64
    return refused


@pytest.mark.parametrize("codec", NATIVE, ids=repr)
def test_mutated_values_do_no_harm(codec):
    assert fuzz(codec, 3000, seed=8) > 1000


@pytest.mark.long
@pytest.mark.parametrize("codec", NATIVE, ids=repr)
def test_many_mutated_values_do_no_harm(codec):
    assert fuzz(codec, 300_000, seed=9) > 100_000


@pytest.mark.parametrize(
    "codec",
    [
        NumcodecsAdapter("bz2", {}),
        NumcodecsAdapter("lzma", {}),
        NumcodecsAdapter("fletcher32", {}),
        NumcodecsAdapter("crc32", {}),
        NumcodecsAdapter("jenkins_lookup3", {}),
        NumcodecsAdapter("packbits", {}),
        NumcodecsAdapter("base64", {}),
    ],
    ids=repr,
)
def test_mutated_values_do_no_harm_to_the_adapter(codec):
    assert fuzz(codec, 500, seed=10) > 100


@pytest.mark.parametrize("codec", [Zstd(3, checksum=True), Gzip(5), Zlib(1), Crc32c()], ids=repr)
def test_a_checksummed_codec_never_gives_other_values_for_a_flipped_bit_or_a_cut(codec):
    chance = random.Random(11)
    data = measurements(2000)
    encoded = codec.encode(data)
    for _ in range(2000):
        broken = bytearray(encoded)
        broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
        with contextlib.suppress(CodecError):
            assert codec.decode(bytes(broken), len(data)) == data
    for end in range(len(encoded)):
        with pytest.raises(CodecError):
            codec.decode(encoded[:end], len(data))
