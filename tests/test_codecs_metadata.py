"""From metadata documents to codecs and back; the adapter for numcodecs; codecs written in Python."""

import json
import pickle
import subprocess
import sys

import numcodecs
import numpy as np
import pytest
import zstandard

from zarrcy.codecs import (
    ChunkSpec,
    Codec,
    from_metadata,
    from_v2,
    registry,
    to_v2,
)
from zarrcy.codecs.blosc import Blosc
from zarrcy.codecs.checksums import Crc32c
from zarrcy.codecs.deflate import Gzip, Zlib
from zarrcy.codecs.lz4 import LZ4
from zarrcy.codecs.numcodecs import NumcodecsAdapter
from zarrcy.codecs.zstd import Zstd
from zarrcy.errors import ChecksumError, CodecError, MetadataError, UnknownExtensionError


def spec(dtype="float32", n=1000):
    return ChunkSpec((n,), np.dtype(dtype))


BLOSC_V3 = {"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": 4, "blocksize": 0}


class Stored(Codec):
    """A codec that changes nothing, with one member to configure."""

    name = "example.stored"

    def __init__(self, note=""):
        self.note = note

    def configuration(self):
        return {"note": self.note}

    def encode(self, data):
        return bytes(data)

    def decode(self, data, max_nbytes):
        return bytes(data)


BAD = [
    ("zstd", {"level": True}, "level"),
    ("zstd", {"level": 1.0}, "level"),
    ("zstd", {"level": "1"}, "level"),
    ("zstd", {"level": None}, "level"),
    ("zstd", {"level": 10**40}, "level"),
    ("zstd", {"level": -(10**40)}, "level"),
    ("zstd", {}, "level"),
    ("zstd", {"level": 1, "checksum": 1}, "checksum"),
    ("zstd", {"level": 1, "chekcsum": True}, "chekcsum"),
    ("gzip", {}, "level"),
    ("gzip", {"level": 10}, "level"),
    ("gzip", {"level": -1}, "level"),
    ("gzip", {"level": [5]}, "level"),
    ("numcodecs.zlib", {"level": 10}, "level"),
    ("numcodecs.zlib", {"id": "zlib"}, "id"),
    ("numcodecs.lz4", {"acceleration": 2**31}, "acceleration"),
    ("crc32c", {"x": 1}, "x"),
    ("numcodecs.crc32c", {"location": "start"}, "location"),
    *[("blosc", {k: v for k, v in BLOSC_V3.items() if k != name}, name) for name in BLOSC_V3],
    *[
        ("blosc", {**BLOSC_V3, name: value}, name)
        for name, value in [
            ("cname", "lz5"), ("cname", 1), ("cname", ["lz4"]), ("clevel", 10), ("clevel", True), ("clevel", -1),
            ("shuffle", 1), ("shuffle", None), ("shuffle", "auto"), ("typesize", 0), ("typesize", None),
            ("typesize", 2**31), ("blocksize", -1), ("blocksize", 2**31), ("blocksize", 10**100), ("nthreads", 2),
        ]
    ],
    ("numcodecs.blosc", {"shuffle": "shuffle"}, "shuffle"),
    ("numcodecs.bz2", {"level": "x"}, "level"),
    ("numcodecs.shuffle", {"elementsize": 0}, "elementsize"),
    ("numcodecs.bz2", {"id": "lzma"}, "id"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "configuration", "member"), BAD, ids=lambda value: json.dumps(value)[:50])
def test_a_bad_configuration_is_a_metadata_error_with_its_json_path(name, configuration, member):
    with pytest.raises(MetadataError) as raised:
        from_metadata(name, configuration, "codecs[1]")
    assert str(raised.value).startswith(f"codecs[1].configuration.{member}: expected ")


@pytest.mark.parametrize(
    "configuration",
    [{"dtype": "no such type"}, {"dtype": "O"}, {}, {"dtype": "<f4", "x": 1}, {"dtype": []}, {"dtype": {"a": 1}}],
    ids=json.dumps,
)
def test_a_configuration_that_numcodecs_refuses_is_a_metadata_error(configuration):
    with pytest.raises(MetadataError, match=r"^codecs\[0\]\.configuration"):
        from_metadata("numcodecs.delta", configuration, "codecs[0]")


@pytest.mark.parametrize("bad", [None, 1, "level", [1], True])
def test_a_configuration_that_is_no_object_is_a_metadata_error(bad):
    with pytest.raises(MetadataError, match=r"^codecs\[0\]\.configuration: expected an object"):
        from_metadata("zstd", bad, "codecs[0]")
    with pytest.raises(MetadataError, match=r"^compressor: expected an object"):
        from_v2(bad, "compressor")


@pytest.mark.parametrize("name", ["lzo", "numcodecs.lzo", "numcodecs.", ""])
def test_an_unknown_codec_is_named(name):
    with pytest.raises(UnknownExtensionError, match=rf"^codecs\[2\]: .*'{name}'"):
        from_metadata(name, {}, "codecs[2]")


@pytest.mark.parametrize("bad", [None, 1, ["zstd"], {"zstd": 1}])
def test_a_name_that_is_no_string_is_a_metadata_error(bad):
    with pytest.raises(MetadataError, match=r"^codecs\[2\]\.name"):
        from_metadata(bad, {}, "codecs[2]")


@pytest.mark.parametrize(
    "name", ["categorize", "json2", "msgpack2", "pickle", "vlen-utf8", "vlen-bytes", "vlen-array", "zfpy", "pcodec"]
)
def test_codecs_for_objects_and_shaped_arrays_are_refused(name):
    with pytest.raises(UnknownExtensionError, match=name):
        from_metadata(f"numcodecs.{name}", {}, "codecs[0]")
    with pytest.raises(UnknownExtensionError, match=name):
        from_v2({"id": name}, "filters[0]")


V2 = [
    ({"id": "blosc", "cname": "zstd", "clevel": 3, "shuffle": 2, "blocksize": 0}, Blosc("zstd", 3, "bitshuffle")),
    ({"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": -1, "blocksize": 0}, Blosc()),
    (
        {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 0, "blocksize": 9},
        Blosc(shuffle="noshuffle", blocksize=9),
    ),
    ({"id": "zstd", "level": 7}, Zstd(7, checksum=True)),
    ({"id": "zlib", "level": -1}, Zlib(-1)),
    ({"id": "gzip", "level": 2}, Gzip(2)),
    ({"id": "lz4", "acceleration": 4}, LZ4(4)),
    ({"id": "crc32c"}, Crc32c()),
    ({"id": "delta", "dtype": "<f4", "astype": "<f4"}, NumcodecsAdapter("delta", {"dtype": "<f4"})),
    ({"id": "bz2", "level": 4}, NumcodecsAdapter("bz2", {"level": 4})),
]


@pytest.mark.parametrize(
    ("document", "codec"), V2, ids=lambda value: json.dumps(value) if isinstance(value, dict) else ""
)
def test_a_v2_configuration_goes_both_ways(document, codec):
    assert from_v2(document, "compressor") == codec
    assert to_v2(codec) == document


@pytest.mark.parametrize("check", [True, False])
def test_a_v2_document_keeps_saying_whether_zstd_has_checksums(check):
    document = {"id": "zstd", "level": 7, "checksum": check}
    codec = from_v2(document, "compressor")
    assert codec.checksum is check
    assert to_v2(codec) == document
    assert to_v2(pickle.loads(pickle.dumps(codec))) == document


def test_v2_frames_of_zstd_have_checksums_unless_the_document_says_no():
    encoded = from_v2({"id": "zstd", "level": 1}, "compressor").encode(b"chunk")
    assert zstandard.get_frame_parameters(encoded).has_checksum
    assert numcodecs.Zstd(1).decode(encoded) == b"chunk"


def test_old_v2_documents_without_some_members_are_read():
    assert from_v2({"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1}, "compressor") == Blosc(shuffle="shuffle")
    assert from_v2({"id": "zlib"}, "compressor") == Zlib(1)
    assert from_v2({"id": "gzip"}, "compressor") == Gzip(1)


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({}, "filters[0].id"),
        ({"id": 1}, "filters[0].id"),
        ({"id": None}, "filters[0].id"),
        ({"id": "zlib", "level": True}, "filters[0].level"),
        ({"id": "blosc", "shuffle": 3}, "filters[0].shuffle"),
        ({"id": "blosc", "shuffle": True}, "filters[0].shuffle"),
        ({"id": "blosc", "cname": []}, "filters[0].cname"),
        ({"id": "zstd", "levle": 1}, "filters[0].levle"),
    ],
    ids=str,
)
def test_a_bad_v2_configuration_is_a_metadata_error_with_its_json_path(document, path):
    with pytest.raises(MetadataError) as raised:
        from_v2(document, "filters[0]")
    assert str(raised.value).startswith(f"{path}: expected ")


@pytest.mark.parametrize("name", ["transpose", "bytes", "sharding_indexed"])
def test_v2_has_no_codecs_of_v3(name):
    with pytest.raises(UnknownExtensionError, match="v2"):
        from_v2({"id": name}, "filters[0]")


# The adapter, plug-ins, errors


def test_filters_of_numcodecs_give_what_numcodecs_gives():
    values = np.cumsum(np.random.default_rng(4).integers(-9, 9, 5000)).astype("<i4")
    for document in (
        {"id": "delta", "dtype": "<i4", "astype": "<i2"},
        {"id": "fixedscaleoffset", "offset": 10, "scale": 2, "dtype": "<i4", "astype": "<f8"},
        {"id": "astype", "encode_dtype": "<f8", "decode_dtype": "<i4"},
        {"id": "shuffle", "elementsize": 4},
    ):
        codec = from_v2(document, "filters[0]").bind(spec("<i4"))
        encoded = codec.encode(memoryview(values.tobytes()))
        assert bytes(encoded) == np.asarray(numcodecs.get_codec(document).encode(values)).tobytes()
        assert bytes(codec.decode(encoded, values.nbytes)) == values.tobytes()


def test_bitround_takes_its_data_type_from_the_array():
    values = np.linspace(0, 1, 1000)
    expected = numcodecs.BitRound(10).encode(values).view("f8")
    for dtype in ("<f8", ">f8"):
        codec = from_v2({"id": "bitround", "keepbits": 10}, "filters[0]").bind(spec(dtype))
        encoded = codec.encode(memoryview(values.astype(dtype).tobytes()))
        assert (np.frombuffer(encoded, dtype) == expected).all()
    with pytest.raises(CodecError, match="bound"):
        from_v2({"id": "bitround", "keepbits": 10}, "filters[0]").encode(memoryview(values))
    with pytest.raises(MetadataError, match="floating-point"):
        from_v2({"id": "bitround", "keepbits": 10}, "filters[0]").bind(spec("<i4"))


def test_only_filters_of_arrays_stand_before_bytes():
    takes = {
        name: from_metadata(f"numcodecs.{name}", c, "codecs[0]").takes_array
        for name, c in [("delta", {"dtype": "<f4"}), ("bz2", {})]
    }
    assert takes == {"delta": True, "bz2": False}


@pytest.mark.parametrize("codec_id", ["crc32", "adler32", "fletcher32", "jenkins_lookup3"])
def test_a_wrong_checksum_of_numcodecs_is_a_checksum_error(codec_id):
    codec = NumcodecsAdapter(codec_id, {})
    encoded = bytearray(codec.encode(memoryview(b"chunks, many chunks!")))
    encoded[9] ^= 1
    for decode in (lambda: codec.decode(memoryview(encoded), 20), lambda: codec.decode_to(encoded, bytearray(20))):
        with pytest.raises(ChecksumError) as raised:
            decode()
        assert raised.value.codec == f"numcodecs.{codec_id}"


def test_an_exception_of_a_codec_in_python_becomes_a_codec_error():
    class Failing(Codec):
        name = "example.failing"

        def decode(self, data, max_nbytes):
            items = np.frombuffer(data, "u1")  # still alive in the traceback
            raise KeyError(int(items[0]))

    with pytest.raises(CodecError, match=r"^example\.failing: KeyError: 7$") as raised:
        Failing().decode_to(b"\x07", bytearray(10))
    assert isinstance(raised.value.__cause__, KeyError)


def test_an_interrupt_in_a_codec_in_python_stays_one():
    class Interrupted(Codec):
        def decode(self, data, max_nbytes):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Interrupted().decode_to(b"", bytearray(10))


def test_a_codec_in_python_may_give_anything_with_a_buffer():
    class Given(Codec):
        def decode(self, data, max_nbytes):
            return np.frombuffer(data, "<u2")

    out = bytearray(6)
    assert Given().decode_to(b"chunks", out) == 6
    assert out == b"chunks"


def test_a_registered_codec_is_found_in_both_versions():
    registry.register("example.stored", Stored)
    assert from_metadata("example.stored", {"note": ""}, "codecs[0]") == Stored()
    assert from_v2({"id": "example.stored", "note": ""}, "compressor") == Stored()
    assert to_v2(Stored()) == {"id": "example.stored", "note": ""}
    with pytest.raises(MetadataError, match=r"^codecs\[0\]\.configuration: TypeError"):
        from_metadata("example.stored", {"no": "such"}, "codecs[0]")


def test_numcodecs_is_imported_only_when_needed():
    program = """
import sys
from zarrcy.codecs import from_metadata, from_v2
for document in ({"id": "zlib"}, {"id": "blosc"}, {"id": "zstd"}, {"id": "gzip"}, {"id": "lz4"}, {"id": "crc32c"}):
    from_v2(document, "compressor").encode(b"chunk")
for name in ("blosc", "zstd", "gzip", "lz4", "zlib", "crc32c"):
    from_metadata(f"numcodecs.{name}", {}, "codecs[0]").encode(b"chunk")
assert "numcodecs" not in sys.modules
sys.modules["numcodecs"] = None
try:
    from_v2({"id": "delta", "dtype": "<f4"}, "filters[0]")
except LookupError as error:
    print(error, *error.__notes__)
"""
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.startswith("filters[0]: codec 'numcodecs.delta': expected the package numcodecs")
    assert 'pip install "zarrcy[numcodecs]"' in output
