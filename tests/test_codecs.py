"""The codecs: their laws, and what other libraries write and read."""

import doctest
import gzip
import hashlib
import json
import pickle
import random
import zlib

import numcodecs
import numpy as np
import pytest
import zstandard

from zarrcy.codecs import (
    ChunkSpec,
    Codec,
    blosc,
    checksums,
    deflate,
    from_metadata,
    lz4,
    zstd,
)
from zarrcy.codecs import codec as codec_module
from zarrcy.codecs.blosc import Blosc
from zarrcy.codecs.checksums import Crc32c
from zarrcy.codecs.config import linked
from zarrcy.codecs.deflate import Gzip, Zlib
from zarrcy.codecs.laws import check_codec
from zarrcy.codecs.lz4 import LZ4
from zarrcy.codecs.numcodecs import NumcodecsAdapter
from zarrcy.codecs.zstd import Zstd
from zarrcy.errors import ChecksumError, CodecError, MetadataError
from zarrcy.kernels.checksum import crc32c_of, crc32c_of_chunks


def spec(dtype="float32", n=1000):
    return ChunkSpec((n,), np.dtype(dtype))


def waves(nbytes, seed=1):
    """Bytes that compress about as well as measurements do."""
    n = nbytes // 4 + 1
    noise = np.random.default_rng(seed).normal(0, 0.01, n)
    return (np.sin(np.arange(n) / 50) + noise).astype("<f4").tobytes()[:nbytes]


BLOSC_V3 = {"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": 4, "blocksize": 0}

LAWFUL = [
    *[("zstd", {"level": level, "checksum": check}, "f4") for level in (-5, 0, 3, 9) for check in (True, False)],
    *[("gzip", {"level": level}, "f4") for level in range(10)],
    *[("numcodecs.zlib", {"level": level}, "f4") for level in (-1, 0, 1, 6, 9)],
    *[("numcodecs.lz4", {"acceleration": speed}, "f8") for speed in (-3, 0, 1, 50)],
    ("crc32c", {}, "i2"),
    *[("blosc", {**BLOSC_V3, "cname": cname}, "f4") for cname in sorted(blosc.LINKED_CNAMES)],
    ("blosc", {**BLOSC_V3, "shuffle": "bitshuffle"}, "f4"),
    ("blosc", {**BLOSC_V3, "shuffle": "bitshuffle", "typesize": 1}, "u1"),
    ("blosc", {**BLOSC_V3, "shuffle": "noshuffle", "blocksize": 1000}, "f4"),
    ("blosc", {**BLOSC_V3, "typesize": 400}, "S400"),
    ("numcodecs.blosc", {"cname": "zstd", "shuffle": -1}, "u1"),
    ("numcodecs.zstd", {"level": 2}, "f4"),
    ("numcodecs.gzip", {}, "f4"),
    ("numcodecs.crc32c", {}, "f4"),
    ("numcodecs.crc32", {}, "f4"),
    ("numcodecs.adler32", {}, "f4"),
    ("numcodecs.fletcher32", {}, "f4"),
    ("numcodecs.jenkins_lookup3", {"initval": 3}, "f4"),
    ("numcodecs.base64", {}, "f4"),
]

WHOLE_ITEMS = [
    ("numcodecs.shuffle", {"elementsize": 4}, "f4", True),
    ("numcodecs.delta", {"dtype": "<i4"}, "i4", True),
    ("numcodecs.packbits", {}, "bool", False),
    ("numcodecs.fixedscaleoffset", {"offset": 0, "scale": 1, "dtype": "<i8", "astype": "<i8"}, "i8", False),
    ("numcodecs.quantize", {"digits": 2, "dtype": "<f4"}, "f4", False),
    ("numcodecs.astype", {"encode_dtype": "<i8", "decode_dtype": "|i1"}, "i1", True),
    ("numcodecs.bitround", {"keepbits": 8}, "f4", False),
]


@pytest.mark.parametrize(("name", "configuration", "dtype"), LAWFUL, ids=lambda value: json.dumps(value))
def test_the_codec_keeps_the_laws(name, configuration, dtype):
    check_codec(from_metadata(name, configuration, "codecs[0]"), spec(dtype))


@pytest.mark.parametrize(
    ("name", "configuration", "dtype", "lossless"), WHOLE_ITEMS, ids=lambda value: json.dumps(value)
)
def test_a_filter_of_numcodecs_keeps_the_laws_for_whole_items(name, configuration, dtype, lossless):
    check_codec(from_metadata(name, configuration, "codecs[0]"), spec(dtype), whole_items=True, lossless=lossless)


@pytest.mark.parametrize("codec_id", ["bz2", "lzma"])
def test_a_slow_codec_of_numcodecs_keeps_the_laws(codec_id):
    check_codec(NumcodecsAdapter.from_v2({"id": codec_id}), spec("u1"))


class Broken(Codec):
    """A codec whose fault the laws must find."""

    name = "example.broken"

    def __init__(self, fault=""):
        self.fault = fault
        self.calls = 0

    def configuration(self):
        return {} if self.fault == "forgetful" else {"fault": self.fault}

    def encode(self, data):
        self.calls += 1
        if self.fault == "moody":
            return bytes(data) + bytes([self.calls % 2])
        if self.fault == "wasteful":
            return bytes(data) + bytes(8 * len(data) + 70000)
        return bytes(data)

    def decode(self, data, max_nbytes):
        if self.fault == "wrong":
            return bytes(data)[::-1]
        if self.fault == "unbounded":
            return bytes(data)[:max_nbytes]
        if self.fault == "forgetful":
            return bytes(data) if self.fault else b""
        return bytes(data)


@pytest.mark.parametrize("fault", ["moody", "wasteful", "wrong", "unbounded"])
def test_the_laws_find_a_broken_codec(fault):
    with pytest.raises(AssertionError):
        check_codec(Broken(fault), spec())


def test_the_laws_pass_a_sound_codec_in_python():
    check_codec(Broken(), spec())


def test_the_examples_of_the_compiled_modules_are_true():
    for module in (codec_module, zstd, deflate, blosc, lz4, checksums):
        result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
        assert result.attempted > 0
        assert result.failed == 0


# Zstandard


def test_zstd_reads_what_zstandard_writes():
    data = waves(300_001)
    for level in (-3, 1, 3, 12):
        for check in (False, True):
            encoded = zstandard.ZstdCompressor(level=level, write_checksum=check).compress(data)
            assert Zstd().decode(encoded, len(data)) == data


def test_zstandard_reads_what_zstd_writes():
    data = waves(300_001)
    for level in (-100, 0, 1, 3, 19):
        encoded = Zstd(level, checksum=level > 1).encode(data)
        assert zstandard.ZstdDecompressor().decompress(encoded) == data
        assert zstandard.get_frame_parameters(encoded).has_checksum == (level > 1)


def test_zstd_reads_frames_that_do_not_tell_their_size():
    data = waves(300_001)
    stream = zstandard.ZstdCompressor(level=3).compressobj()
    encoded = b"".join(stream.compress(data[i : i + 1000]) for i in range(0, len(data), 1000)) + stream.flush()
    assert zstandard.frame_content_size(encoded) == -1
    assert Zstd().decode(encoded, len(data)) == data
    with pytest.raises(CodecError, match="expected at most 300000 bytes"):
        Zstd().decode(encoded, len(data) - 1)


def test_zstd_reads_several_frames_and_passes_over_skippable_ones():
    parts = [waves(1000), b"", waves(70_000), b"x"]
    skippable = (0x184D2A53).to_bytes(4, "little") + (5).to_bytes(4, "little") + b"hello"
    encoded = skippable.join(Zstd(checksum=True).encode(part) for part in parts) + skippable
    assert Zstd().decode(encoded, 100_000) == b"".join(parts)


def test_zstd_levels_come_from_the_library():
    assert Zstd(-131072).level == -131072
    for level in (-131073, 23):
        with pytest.raises(MetadataError, match="from -131072 to 22"):
            Zstd(level)


def test_a_wrong_zstd_checksum_is_a_checksum_error():
    encoded = bytearray(Zstd(checksum=True).encode(b"chunk"))
    encoded[-1] ^= 1
    with pytest.raises(ChecksumError, match="checksum"):
        Zstd().decode(bytes(encoded), 5)


# Deflate


def test_gzip_reads_several_members():
    parts = [waves(1000), b"", waves(70_000), b"x"]
    encoded = b"".join(gzip.compress(part) for part in parts)
    assert Gzip().decode(encoded, 71_001) == b"".join(parts)
    with pytest.raises(CodecError, match="holds more"):
        Gzip().decode(encoded, 71_000)


def test_gzip_reads_every_optional_field_of_a_header():
    stream = gzip.compress(b"chunk")[10:]
    extra, name, comment = b"\x05\x00extra", b"name\x00", b"comment\x00"
    for flags in range(32):
        header = b"\x1f\x8b\x08" + bytes([flags]) + b"\x01\x02\x03\x04\x00\x03"
        header += (extra if flags & 4 else b"") + (name if flags & 8 else b"") + (comment if flags & 16 else b"")
        if flags & 2:
            header += (zlib.crc32(header) & 0xFFFF).to_bytes(2, "little")
        assert Gzip().decode(header + stream, 5) == b"chunk"
        assert gzip.decompress(header + stream) == b"chunk"
        for end in range(len(header)):
            with pytest.raises(CodecError):
                Gzip().decode(header[:end], 5)
        with pytest.raises(CodecError, match="gzip header"):
            Gzip().decode(header[:3] + bytes([flags | 32]) + header[4:] + stream, 5)
        if flags & 2:
            with pytest.raises(CodecError, match="gzip header"):
                Gzip().decode(header[:-1] + bytes([header[-1] ^ 1]) + stream, 5)


@pytest.mark.parametrize("codec", [Gzip(), Zlib()], ids=repr)
@pytest.mark.parametrize("garbage", [b"\x00", b"garbage", b"\x1f\x8b"])
def test_bytes_behind_a_deflate_stream_are_an_error(codec, garbage):
    with pytest.raises(CodecError):
        codec.decode(codec.encode(b"chunk") + garbage, 100)


def test_a_wrong_deflate_checksum_is_a_checksum_error():
    for codec, positions in ((Gzip(), (-8, -1)), (Zlib(), (-4, -1))):
        for position in positions:
            encoded = bytearray(codec.encode(b"chunk"))
            encoded[position] ^= 1
            with pytest.raises(ChecksumError):
                codec.decode(bytes(encoded), 5)


def test_python_reads_what_gzip_and_zlib_write():
    for n in (0, 1, 1000, 300_001):
        for data in (waves(n), bytes(n), random.Random(n).randbytes(n)):
            for level in range(10):
                assert gzip.decompress(Gzip(level).encode(data)) == data
                assert zlib.decompress(Zlib(level).encode(data)) == data
                assert Gzip().decode(gzip.compress(data, level), n) == data
                assert Zlib().decode(zlib.compress(data, level), n) == data


def test_gzip_writes_the_same_bytes_at_any_time():
    encoded = Gzip(5).encode(b"chunk")
    assert encoded[:10] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


def test_a_preset_zlib_dictionary_is_an_error():
    stream = zlib.compressobj(zdict=b"chunk")
    with pytest.raises(CodecError, match="zlib header"):
        Zlib().decode(stream.compress(b"chunk") + stream.flush(), 5)


# Blosc


@pytest.mark.parametrize("cname", sorted(blosc.LINKED_CNAMES & set(numcodecs.blosc.list_compressors())))
@pytest.mark.parametrize("shuffle", blosc.SHUFFLES)
def test_blosc_and_numcodecs_read_each_other(cname, shuffle):
    code = blosc.SHUFFLES.index(shuffle)
    for typesize in (1, 2, 3, 4, 7, 8, 16, 255):
        for clevel in (0, 1, 5, 9):
            for nbytes in (1, 15, 128, 1000, 10_007, 70_001):
                data = waves(nbytes)
                theirs = numcodecs.Blosc(cname, clevel, code, typesize=typesize)
                ours = Blosc(cname, clevel, shuffle, typesize)
                assert ours.decode(bytes(theirs.encode(data)), nbytes) == data
                assert theirs.decode(ours.encode(data)) == data


def test_blosc_reads_a_bitshuffled_frame_with_an_odd_tail():
    # C-Blosc2 gives zeros for the last nbytes % typesize bytes of these.
    data = random.Random(3).randbytes(4096 * 4 + 3)
    for nbytes in range(len(data) - 40, len(data)):
        encoded = numcodecs.Blosc("lz4", 5, 2, typesize=4).encode(bytes(range(256)) * 64 + data[:nbytes])
        assert Blosc().decode(bytes(encoded), 1 << 20) == bytes(range(256)) * 64 + data[:nbytes]


def test_blosc_binds_the_typesize_and_the_shuffle_to_the_data_type():
    assert Blosc().bind(spec("float64")) == Blosc(shuffle="shuffle", typesize=8)
    assert Blosc().bind(spec("int8")) == Blosc(shuffle="bitshuffle", typesize=1)
    assert Blosc().bind(spec("U100")) == Blosc(shuffle="shuffle", typesize=1)
    assert Blosc(shuffle="noshuffle", typesize=3).bind(spec("float64")) == Blosc(shuffle="noshuffle", typesize=3)


def test_a_typesize_beyond_255_is_kept_and_not_shuffled():
    codec = Blosc(shuffle="shuffle", typesize=400)
    data = bytes(range(200)) * 40
    assert codec.configuration()["typesize"] == 400
    assert numcodecs.Blosc().decode(codec.encode(data)) == data


def test_an_unbound_blosc_pickles():
    assert pickle.loads(pickle.dumps(Blosc("zstd", 3))) == Blosc("zstd", 3)


def test_blosc_refuses_chunks_of_2_gib():
    with pytest.raises(MetadataError, match="2147483631"):
        Blosc().bind(spec("float32", 2**29))
    assert Blosc().bind(spec("float32", 2**29 - 5)).typesize == 4


def test_blosc_keeps_a_large_block_size():
    data = waves(100_000)
    for blocksize in (1, 16, 1000, 2**20, 2**31 - 1):
        codec = Blosc(shuffle="shuffle", typesize=4, blocksize=blocksize)
        assert codec.decode(codec.encode(data), len(data)) == data


def test_a_compressor_that_is_not_linked_is_named():
    for cname in set(blosc.CNAMES) - blosc.LINKED_CNAMES:
        with pytest.raises(MetadataError, match=cname):
            Blosc(cname)


# LZ4, CRC-32C


def test_lz4_and_numcodecs_read_each_other():
    for n in (1, 12, 1000, 300_001):
        data = waves(n)
        assert LZ4().decode(numcodecs.LZ4().encode(data), n) == data
        assert numcodecs.LZ4().decode(LZ4(7).encode(data)) == data


def test_lz4_refuses_chunks_longer_than_a_block():
    with pytest.raises(MetadataError, match="2113929216"):
        LZ4().bind(spec("u1", 2113929217))


def crc32c_by_definition(data):
    """The remainder of a division by the polynomial, bit by bit for each value of a byte (RFC 3720, appendix B.4)."""
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def test_crc32c_is_right_for_every_length_and_alignment():
    data = random.Random(5).randbytes(30_000)
    lengths = [*range(300), 767, 768, 769, 1535, 4095, 4096, 12287, 12288, 12289, 13056, 24577, 29_990]
    for n in lengths:
        for start in (0, 1, 7):
            part = memoryview(data)[start : start + n]
            expected = crc32c_by_definition(part)
            assert crc32c_of(part) == expected
            assert crc32c_of(part, by_tables=True) == expected


def test_crc32c_gives_the_values_of_the_standard():
    # RFC 3720, B.4.
    assert crc32c_of(bytes(32)) == 0x8A9136AA
    assert crc32c_of(b"\xff" * 32) == 0x62A8AB43
    assert crc32c_of(bytes(range(32))) == 0x46DD794E


def test_the_crc_of_all_is_joined_from_those_of_the_chunks():
    data = np.random.default_rng(3).bytes(100_000)
    for nbytes in (0, 1, 7, 8, 9, 4096, 30_000, 100_000):
        for chunk_nbytes in (1, 7, 4096, 12_288, 30_000, 10**9):
            if nbytes / chunk_nbytes <= 1000:
                checksums, whole = crc32c_of_chunks(data[:nbytes], chunk_nbytes)
                assert whole == crc32c_of(data[:nbytes])
                assert checksums == [
                    crc32c_of(data[start : min(nbytes, start + chunk_nbytes)])
                    for start in range(0, nbytes, chunk_nbytes)
                ]
    with pytest.raises(ValueError, match="at least one byte"):
        crc32c_of_chunks(b"1", 0)


def test_crc32c_stands_behind_the_bytes_in_little_endian_order():
    assert Crc32c().encode(b"123456789") == b"123456789" + (0xE3069283).to_bytes(4, "little")


def test_crc32c_notices_every_flipped_bit():
    encoded = Crc32c().encode(waves(300))
    for bit in range(8 * len(encoded)):
        broken = bytearray(encoded)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ChecksumError, match="expected checksum"):
            Crc32c().decode(bytes(broken), 300)


# All of them


def test_what_is_linked_is_named():
    libraries = linked()
    assert libraries["from"] in ("wheels", "system")
    assert libraries["zstd"].startswith("1.")
    assert {"c-blosc", "lz4", "crc32c"} <= set(libraries)
    assert {"libdeflate", "zlib-ng", "zlib"} & set(libraries)


def test_encoding_gives_the_same_bytes_whatever_was_encoded_before():
    inputs = [waves(n, seed=n) for n in (10, 70_000, 1000, 0, 300_000)]
    codecs = [Zstd(3, checksum=True), Zstd(1), Gzip(1), Gzip(6), Zlib(9), LZ4(), Blosc("zstd", 3, "shuffle", 4)]
    fresh = {}
    for shift in range(5):
        for i in range(5):
            for codec in codecs:
                data = inputs[(i * 2 + shift) % 5]
                digest = hashlib.sha256(codec.encode(data)).hexdigest()
                assert fresh.setdefault((codec, data), digest) == digest
