"""Documents that mean harm give an error with the JSON path or sound metadata, quickly and in little memory."""

import copy
import json
import random
import re
import time
import tracemalloc

import pytest

from zarrcy import metadata_v2
from zarrcy.errors import MetadataError, UnknownExtensionError
from zarrcy.metadata import MAX_NDIM, ArrayMetadata, GroupMetadata, from_json
from zarrcy.stores.memory import MemoryStore

MAX_SECONDS = 0.1
MAX_NBYTES = 50 * 2**20

LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
INDEX = [LITTLE, {"name": "crc32c"}]
SHARDING = {"chunk_shape": [5, 5], "codecs": [LITTLE], "index_codecs": INDEX, "index_location": "end"}
TIME = {"name": "numpy.datetime64", "configuration": {"unit": "ns", "scale_factor": 1}}


def array(**changes):
    plain = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [100, 50],
        "data_type": "float32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [10, 10]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": "NaN",
        "codecs": [LITTLE, {"name": "zstd", "configuration": {"level": 3, "checksum": True}}],
        "attributes": {"units": "K"},
        "dimension_names": ["y", None],
        "storage_transformers": [],
    }
    return {name: value for name, value in {**plain, **changes}.items() if value is not ...}


def grid(chunk_shape):
    return {"name": "regular", "configuration": {"chunk_shape": chunk_shape}}


def sharded(**changes):
    return [{"name": "sharding_indexed", "configuration": {**SHARDING, **changes}}]


def group(members):
    document = {"zarr_format": 3, "node_type": "group", "attributes": {}}
    return {**document, "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": members}}


def array_v2(**changes):
    plain = {
        "zarr_format": 2,
        "shape": [100, 50],
        "chunks": [10, 10],
        "dtype": "<f4",
        "compressor": {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0},
        "fill_value": 0.0,
        "order": "F",
        "filters": [{"id": "delta", "dtype": "<f4"}],
        "dimension_separator": ".",
    }
    return {**plain, **changes}


def consolidated_v2():
    documents = {
        ".zgroup": {"zarr_format": 2},
        ".zattrs": {"a": 1},
        "b/.zarray": array_v2(),
        "b/.zattrs": {"units": "K"},
    }
    return {"zarr_consolidated_format": 1, "metadata": documents}


def parse(key, document):
    """Reads a document as a hierarchy does, all its members included; returns the metadata."""
    if key == "zarr.json":
        found = from_json(document)
    else:
        store = MemoryStore()
        store.set(key, document)
        read = metadata_v2.read_consolidated if key == ".zmetadata" else metadata_v2.read
        found = read(store, "")
        if found is not None:
            found.whole()
    if isinstance(found, GroupMetadata) and found.consolidated is not None:
        for path in found.consolidated:
            found.consolidated[path]
    return found


def measured(key, document):
    """The metadata or the error that a document gives; fails when it takes too long or too much."""
    # Once for the time and once for the memory: tracing memory more than doubles the time.
    start = time.process_time()
    outcome(key, document)
    assert time.process_time() - start < MAX_SECONDS
    tracemalloc.start()
    try:
        result = outcome(key, document)
        assert tracemalloc.get_traced_memory()[1] < MAX_NBYTES
    finally:
        tracemalloc.stop()
    return result


def outcome(key, document):
    """The metadata that a document gives, or its error."""
    try:
        return parse(key, document)
    except (MetadataError, UnknownExtensionError) as error:
        assert len(str(error)) < 4000
        return error


def nested(depth, opening="[", closing="]"):
    return opening * depth + "0" + closing * depth


def with_text(name, text):
    """The document of an array in which the JSON text of one field is replaced."""
    return json.dumps(array(**{name: "HERE"})).replace('"HERE"', text).encode()


TABLE = [
    ("shape [true]", array(shape=[True], chunk_grid=grid([1])), "shape[0]: expected a whole number ≥ 0, got true"),
    (
        "shape [2**80]",
        array(shape=[2**80, 1]),
        "shape[0]: expected a whole number below 2**63, got 1208925819614629174706176",
    ),
    ("shape [2**63]", array(shape=[2**63, 1]), "shape[0]: expected a whole number below 2**63"),
    (
        "rank 2000",
        array(shape=[1] * 2000, chunk_grid=grid([1] * 2000)),
        f"shape: expected at most {MAX_NDIM} axes, got 2000",
    ),
    ("negative", array(shape=[1, -1]), "shape[1]: expected a whole number ≥ 0, got -1"),
    ("float", array(shape=[1, 2.0]), "shape[1]: expected a whole number ≥ 0, got 2.0"),
    ("text", array(shape="11"), 'shape: expected a list of whole numbers, got "11"'),
    ("null extent", array(shape=[None, 1]), "shape[0]: expected a whole number ≥ 0, got null"),
    ("list extent", array(shape=[[1], 1]), "shape[0]: expected a whole number ≥ 0, got [1]"),
    ("no shape", array(shape=...), "shape: expected this field, got nothing"),
    (
        "chunk of 0",
        array(chunk_grid=grid([10, 0])),
        "chunk_grid.configuration.chunk_shape[1]: expected a whole number ≥ 1, got 0",
    ),
    (
        "chunk of true",
        array(chunk_grid=grid([10, True])),
        "chunk_grid.configuration.chunk_shape[1]: expected a whole number",
    ),
    (
        "huge chunks",
        array(chunk_grid=grid([2**31, 2**31])),
        "chunk_grid: expected chunks of less than 2**63 bytes, got",
    ),
    (
        "huge extents",
        array(chunk_grid=grid([2**62, 2**62])),
        "chunk_grid: expected chunks of less than 2**63 bytes, got",
    ),
    ("rank of chunks", array(chunk_grid=grid([10])), "chunk_grid.configuration.chunk_shape: expected 2 extents"),
    (
        "rectilinear",
        array(chunk_grid={"name": "rectilinear"}),
        'chunk_grid: chunk grid "rectilinear": expected regular',
    ),
    ("names of 1", array(dimension_names=["x"]), "dimension_names: expected 2 names, one for each axis, got 1"),
    (
        "names of 1,000",
        array(dimension_names=["x"] * 1000),
        "dimension_names: expected 2 names, one for each axis, got 1000",
    ),
    ("names of numbers", array(dimension_names=["x", 1]), "dimension_names[1]: expected text or null, got 1"),
    ("names as text", array(dimension_names="xy"), 'dimension_names: expected a list of names, got "xy"'),
    ("fill value of another type", array(fill_value=[0]), "fill_value: expected a number for float32, got [0]"),
    ("fill value null", array(fill_value=None), "fill_value: expected a number for float32, got null"),
    ("fill value missing", array(fill_value=...), "fill_value: expected this field, got nothing"),
    (
        "fill value out of range",
        array(data_type="uint8", fill_value=300),
        "fill_value: expected a whole number from 0 to 255",
    ),
    ("fill value of 10 MB", array(fill_value="x" * 10**7), 'fill_value: expected a number, "NaN"'),
    (
        "base64 of 10 MB",
        array(data_type="r8", fill_value="A" * 10**7),
        "fill_value: expected at most 1 bytes for r8",
    ),
    ("time in floats", array(data_type=TIME, fill_value=0.5), "fill_value: expected a whole number"),
    ("unknown data type", array(data_type="float8_e4m3"), 'data_type: data type "float8_e4m3": expected one of bool'),
    ("data type of 1 MB", array(data_type="x" * 10**6), "data_type: data type"),
    ("item of 2**40 bytes", array(data_type="r8796093022208"), "data_type: expected a multiple of 8 bits, at most"),
    ("zarr_format text", array(zarr_format="3"), 'zarr_format: expected 3, got "3"'),
    ("zarr_format float", array(zarr_format=3.0), "zarr_format: expected 3, got 3.0"),
    ("zarr_format 4", array(zarr_format=4), "zarr_format: expected 3, got 4"),
    ("zarr_format missing", array(zarr_format=...), "zarr_format: expected 3, got null"),
    ("node_type list", array(node_type=["array"]), 'node_type: expected "array" or "group", got ["array"]'),
    ("codecs null", array(codecs=None), "codecs: expected a list of codecs, got null"),
    ("no codecs", array(codecs=[]), "codecs: expected one codec that turns an array into bytes"),
    ("100,000 codecs", array(codecs=["bytes"] * 100_000), "codecs: expected at most 64 codecs, got 100000"),
    ("unknown codec", array(codecs=[LITTLE, "gnu"]), "codecs[1]: codec 'gnu': expected one of"),
    (
        "configuration list",
        array(codecs=[{"name": "bytes", "configuration": []}]),
        "codecs[0].configuration: expected an object",
    ),
    (
        "codec of many fields",
        array(codecs=[LITTLE, {"name": "gzip", "configuration": {"level": 1, "x": 2}}]),
        "codecs[1].configuration",
    ),
    (
        "level of text",
        array(codecs=[LITTLE, {"name": "gzip", "configuration": {"level": "1"}}]),
        "codecs[1].configuration.level",
    ),
    (
        "transpose of 3",
        array(codecs=[{"name": "transpose", "configuration": {"order": [0, 1, 2]}}, LITTLE]),
        "codecs[0].configuration.order",
    ),
    (
        "nested sharding without byte order",
        array(codecs=sharded(codecs=["bytes"])),
        "codecs[0].configuration.codecs[0].configuration.endian",
    ),
    ("shard of true", array(codecs=sharded(chunk_shape=[True, 5])), "chunk_shape"),
    ("shard of nothing", array(codecs=[{"name": "sharding_indexed"}]), "codecs[0]"),
    ("transformer", array(storage_transformers=[{"name": "cache"}]), 'storage_transformers[0]: "cache"'),
    ("transformer of null", array(storage_transformers=[None]), "storage_transformers[0]: null"),
    ("unknown field", array(later=1), "later: expected a field that zarrcy knows or need not understand, got 1"),
    ("name of an unknown field of 1 MB", array(**{"x" * 10**6: 1}), "expected a field that zarrcy knows"),
    ("attributes list", array(attributes=[]), "attributes: expected an object, got []"),
    (
        "separator",
        array(chunk_key_encoding={"name": "default", "configuration": {"separator": "../"}}),
        "separator: expected",
    ),
    ("member above the root", group({"../x": array()}), "consolidated_metadata.metadata: expected paths of nodes"),
    ("member with a NUL", group({"a\0": array()}), "consolidated_metadata.metadata: expected paths of nodes"),
    ("member of shape [true]", group({"x": array(shape=[True])}), 'consolidated_metadata.metadata["x"]: shape[0]'),
]


@pytest.mark.parametrize("name, document, message", TABLE, ids=[name for name, _, _ in TABLE])
def test_a_hostile_document_is_refused_with_its_path(name, document, message):
    error = measured("zarr.json", json.dumps(document).encode())
    assert isinstance(error, (MetadataError, UnknownExtensionError)), error
    assert message in str(error)


TEXTS = [
    ("empty", b"", "expected JSON: Expecting value"),
    ("a list", b"[]", "expected an object, got []"),
    ("null", b"null", "expected an object, got null"),
    ("not UTF-8", b'{"zarr_format": "\xff"}', "expected UTF-8, got byte 0xff at 17"),
    ("UTF-16", json.dumps(array()).encode("utf-16"), "expected UTF-8, got byte 0xff at 0"),
    ("byte order mark", b"\xef\xbb\xbf{}", "expected JSON: "),
    ("cut", json.dumps(array()).encode()[:-5], "expected JSON: "),
    ("more behind", json.dumps(array()).encode() + b"x", "expected JSON: Extra data"),
    (
        "a field twice",
        b'{"zarr_format": 3, "node_type": "group", "zarr_format": 2}',
        'expected each field once, got "zarr_format" twice',
    ),
    ("a field twice within", with_text("attributes", '{"a": 1, "a": 2}'), 'expected each field once, got "a" twice'),
    ("nested lists", with_text("attributes", nested(100_000)), "expected fewer nested values"),
    ("nested objects", with_text("attributes", nested(100_000, '{"a":', "}")), "expected fewer nested values"),
    ("nested shape", with_text("shape", nested(100_000)), "expected fewer nested values"),
    ("nested and cut", b"[" * 1_000_000, "expected fewer nested values"),
    ("5,000 digits", with_text("shape", f"[{'9' * 5000}, 1]"), "expected JSON with numbers that can be read"),
    (
        "4,000 digits",
        with_text("shape", f"[{'9' * 4000}, 1]"),
        "shape[0]: expected a whole number below 2**63, got a whole number of",
    ),
    (
        "4,000 digits to fill",
        with_text("fill_value", "9" * 4000),
        "fill_value: expected a number within its range for float32",
    ),
    (
        "1e999 to fill an integer",
        with_text("fill_value", "1e999").replace(b"float32", b"int8"),
        "fill_value: expected a whole number",
    ),
    ("NaN as an extent", with_text("shape", "[NaN, 1]"), "shape[0]: expected a whole number ≥ 0, got nan"),
    ("Infinity as an extent", with_text("shape", "[Infinity, 1]"), "shape[0]: expected a whole number ≥ 0, got inf"),
    ("lone surrogate", with_text("data_type", '"\\ud800"'), "data_type: data type"),
    ("control characters", b'{"zarr_format": "a\nb"}', "expected JSON: Invalid control character"),
]


@pytest.mark.parametrize("name, document, message", TEXTS, ids=[name for name, _, _ in TEXTS])
def test_a_hostile_text_is_refused(name, document, message):
    error = measured("zarr.json", document)
    assert isinstance(error, (MetadataError, UnknownExtensionError)), error
    assert str(error).startswith("zarr.json: ")
    assert message in str(error)
    error = measured(".zarray", document)
    assert isinstance(error, (MetadataError, UnknownExtensionError)), error


@pytest.mark.parametrize("depth", [100, 400, 5000])
def test_shards_nested_without_end_are_refused(depth):
    innermost = json.dumps(array(codecs=sharded(codecs=["bytes"]))["codecs"])
    opening, closing = json.dumps(sharded(codecs="HERE")).split('"HERE"')
    text = opening * depth + innermost + closing * depth
    assert isinstance(measured("zarr.json", with_text("codecs", text)), MetadataError)


def test_groups_nested_without_end_are_refused():
    text = '{"zarr_format": 3, "node_type": "group"'
    opening = text + ', "consolidated_metadata": {"kind": "inline", "metadata": {"a": '
    error = measured("zarr.json", (opening * 2000 + text + "}" + "}}}" * 2000).encode())
    assert isinstance(error, MetadataError)


def test_members_that_are_many_are_read_one_by_one():
    members = {f"group/array_{i}": array() for i in range(300)}
    found = from_json(json.dumps(group(members)).encode())
    start = time.process_time()
    assert found.consolidated["group/array_7"].shape == (100, 50)
    assert time.process_time() - start < 0.02


VALUES = [
    *(None, True, False, 0, 1, -1, 2, 3, 64, 255, 2**31, 2**63 - 1, 2**63, 2**64, 2**80, -(2**63), 10**400),
    *(0.0, -0.0, 0.5, 1e300, float("nan"), float("inf"), 3.0),
    *(
        "",
        "a",
        "NaN",
        "0x7fc00001",
        "float32",
        "r16",
        "bytes",
        "regular",
        "/",
        "..",
        "\0",
        "\ud800",
        "é" * 100,
        "A" * 1000,
    ),
    *("<f4", "|S3", "<M8[ns]", "|O", ">i8", "array", "group", "C", "F"),
    *([], [[]], {}, [None], [1, 2, 3], [0] * 100, ["a"], [True, True], {"name": "bytes"}, {"name": None}),
    *(
        {"name": "x", "configuration": {}},
        {"configuration": {}},
        {"id": "zlib", "level": 1},
        {"id": None},
        {"must_understand": False},
    ),
    *(TIME, LITTLE, SHARDING, {"name": "raw_bytes", "configuration": {"length_bytes": 2**31 - 1}}),
]
NAMES = [
    "name",
    "configuration",
    "must_understand",
    "id",
    "level",
    "endian",
    "shape",
    "later",
    "__class__",
    "",
    "\0",
    "codecs",
]


def places(value, path=()):
    """Every place in a JSON value, as the path to it."""
    yield path
    if isinstance(value, dict):
        for name in value:
            yield from places(value[name], (*path, name))
    elif isinstance(value, list):
        for i in range(len(value)):
            yield from places(value[i], (*path, i))


def mutated(draw, document):
    """A copy of a document with a change or three: a value replaced, removed, repeated, renamed, wrapped or moved."""
    document = json.loads(json.dumps(document))
    for _ in range(draw.choice([1, 1, 1, 3])):
        spots = [path for path in places(document) if path]
        if not spots:
            break
        *way, last = draw.choice(spots)
        holder = document
        for step in way:
            holder = holder[step]
        change = draw.randrange(7)
        if change <= 2:
            alike = [value for value in VALUES if change == 0 or type(value) is type(holder[last])]
            holder[last] = copy.deepcopy(draw.choice(alike))
        elif change == 3:
            del holder[last]
        elif change == 4 and isinstance(holder, list):
            holder.extend([holder[last]] * draw.choice([1, 3, 100]))
        elif change == 4:
            holder[draw.choice(NAMES)] = holder[last]
        elif change == 5:
            holder[last] = draw.choice(
                [lambda value: [value], lambda value: {"name": value}, lambda value: [[value] * 5]]
            )(holder[last])
        else:
            other = document
            for step in draw.choice(spots):
                if not isinstance(other, (dict, list)) or (
                    step not in other if isinstance(other, dict) else not 0 <= step < len(other)
                ):
                    break
                other = other[step]
            holder[last] = json.loads(json.dumps(other))
    return json.dumps(document)


def damaged(draw, text):
    """Bytes of a document, cut, flipped or with a piece repeated."""
    data = bytearray(text.encode())
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(data) + 1)
        change = draw.randrange(4)
        if change == 0:
            del data[at : at + draw.randint(1, 10)]
        elif change == 1:
            data[at : at + 1] = bytes([draw.randrange(256)])
        elif change == 2:
            data[at:at] = data[max(0, at - 20) : at]
        else:
            data[at:at] = draw.choice([b"[", b"{", b'"', b"]", b"}", b",", b"9" * 30, b"-", b"null", b"\\u0000"])
    return bytes(data)


SEEDS = [
    ("zarr.json", array()),
    ("zarr.json", array(codecs=sharded(), data_type="complex64", fill_value=[1, "NaN"])),
    (
        "zarr.json",
        array(
            data_type=TIME, fill_value="NaT", codecs=[{"name": "transpose", "configuration": {"order": [1, 0]}}, LITTLE]
        ),
    ),
    ("zarr.json", group({"a": array(), "b": {"zarr_format": 3, "node_type": "group"}})),
    (".zarray", array_v2()),
    (".zarray", array_v2(dtype="|S3", fill_value="YWI=", filters=None)),
    (".zmetadata", consolidated_v2()),
]
for seed_key, seed_document in SEEDS:  # imports what they need, which is not what is measured
    parse(seed_key, json.dumps(seed_document).encode())
PATH = re.compile(r"^\S+: ")


@pytest.mark.parametrize("block", range(10))
def test_a_hundred_mutated_documents_are_metadata_or_errors_of_zarrcy(block):
    draw = random.Random(f"hostile {block}")
    n_refused = 0
    for i in range(100):
        key, seed = SEEDS[i % len(SEEDS)]
        text = mutated(draw, seed)
        document = damaged(draw, text) if draw.random() < 0.1 else text.encode("ascii")
        result = measured(key, document)
        if isinstance(result, Exception):
            n_refused += 1
            assert PATH.match(str(result)), result
        else:
            holds_together(result)
    assert 40 <= n_refused <= 95


def holds_together(found):
    if isinstance(found, ArrayMetadata):
        assert len(found.shape) == len(found.chunk_shape) <= MAX_NDIM
        assert all(type(extent) is int and 0 <= extent < 2**63 for extent in found.shape)
        assert all(type(chunk) is int and 1 <= chunk < 2**63 for chunk in found.chunk_shape)
        assert found.order in ("C", "F")
    else:
        assert isinstance(found, GroupMetadata)
    if found.zarr_format == 3 and "NaN" not in str(found.attributes):
        written = found.to_json()
        assert from_json(written).to_json() == written
