"""Metadata in memory and in zarr.json: round trips, what other writers made, stores, consolidated metadata."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zarrcy import metadata, metadata_v2
from zarrcy.chunk_grid import ChunkKeyEncoding, RegularGrid
from zarrcy.codecs.chain import check_order, codecs_from_json, codecs_to_json
from zarrcy.codecs.codec import ChunkSpec, Codec
from zarrcy.codecs.layout import BytesCodec, Transpose
from zarrcy.dtypes import from_numpy
from zarrcy.errors import MetadataError, UnknownExtensionError
from zarrcy.metadata import ArrayMetadata, GroupMetadata, from_json
from zarrcy.stores.memory import MemoryStore

settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
settings.load_profile("fixed")

DATA = Path(__file__).parent / "data" / "metadata"
WRITERS = [json.loads((DATA / f"{name}.json").read_text()) for name in ("zarr_python", "tensorstore")]
CASES = [case for writer in WRITERS for case in writer["cases"]]


def array(shape=(100, 50), dtype="float32", chunk_shape=None, codecs=None, **fields):
    data_type = from_numpy(dtype)
    fields.setdefault("fill_value", data_type.zero())
    fields.setdefault("chunk_key_encoding", ChunkKeyEncoding())
    if codecs is None:
        codecs = [BytesCodec("little" if data_type.word > 1 else None)]
    grid = RegularGrid(chunk_shape or [max(1, extent // 2) for extent in shape])
    return ArrayMetadata(shape=shape, data_type=data_type, chunk_grid=grid, codecs=codecs, **fields)


def bits(found):
    return np.asarray(found.fill_value, found.dtype).tobytes().hex()


def read_any(store, path=""):
    found = metadata.read(store, path)
    if found is not None:
        return found
    return metadata_v2.read_consolidated(store, path) or metadata_v2.read(store, path)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_documents_of_other_writers_mean_what_their_writers_say(case):
    store = MemoryStore()
    for key, document in case["documents"].items():
        store.set(key, document.encode())
    found, meaning = read_any(store), case["meaning"]
    assert found.zarr_format == meaning["zarr_format"]
    assert json.dumps(found.attributes) == json.dumps(meaning["attributes"])
    if meaning["node"] == "group":
        members = found.consolidated
        shapes = members and {path: getattr(node, "shape", None) for path, node in members.items()}
        assert json.loads(json.dumps(shapes)) == meaning["members"]
    else:
        assert list(found.shape) == meaning["shape"]
        assert list(found.chunk_shape) == meaning["chunk_shape"]
        assert found.dtype.str == meaning["dtype"]
        # tensorstore says zero where the document says null.
        assert found.fill_value is None or bits(found) == meaning["fill_value"]
        assert found.fill_value is not None or ("null" in case["documents"][".zarray"] and found.zarr_format == 2)
        for name in ("order", "endian"):
            assert getattr(found, name) == meaning.get(name, getattr(found, name))
        if "last_key" in meaning:
            assert found.chunk_key_encoding.key((1,) * found.ndim) == meaning["last_key"]
        if found.zarr_format == 3 and "codecs" in meaning:
            assert [codec.name for codec in found.codecs] == meaning["codecs"]
            assert (found.dimension_names and list(found.dimension_names)) == meaning["dimension_names"]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_documents_of_other_writers_are_written_back_with_the_same_meaning(case):
    store = MemoryStore()
    for key, document in case["documents"].items():
        store.set(key, document.encode())
    found = read_any(store)
    if isinstance(found, GroupMetadata) and found.consolidated is not None and found.zarr_format == 2:
        metadata_v2.write_consolidated(store, "", found.consolidated)
        assert json.loads(store.get(".zmetadata")) == json.loads(case["documents"][".zmetadata"])
        return
    again = MemoryStore()
    (metadata if found.zarr_format == 3 else metadata_v2).write(again, "", found)
    reread = read_any(again)
    if isinstance(found, GroupMetadata) and found.consolidated is not None:
        assert dict(reread.consolidated) == dict(found.consolidated)
        reread, found = reread.replace(consolidated=None), found.replace(consolidated=None)
    if "missing" in found.attributes:  # NaN is not equal to itself
        assert np.isnan(reread.attributes["missing"])
        reread, found = reread.replace(attributes={}), found.replace(attributes={})
    assert reread == found


GOLDEN = {
    "plain": array(),
    "no axes": array(shape=(), dtype="int64", fill_value=np.int64(7)),
    "nan with payload": array(fill_value=np.array(0x7FC00001, "u4").view("f4")[()]),
    "complex": array(dtype="complex64", fill_value=np.complex64(complex(1, np.inf))),
    "not a time": array(dtype="M8[ns]", fill_value=np.datetime64("NaT", "ns")),
    "text": array(dtype="U3", fill_value=np.str_("é")),
    "byte string": array(dtype="S3", fill_value=np.bytes_(b"ab")),
    "raw": array(dtype="V2", fill_value=np.frombuffer(b"\x01\xff", "V2")[0]),
    "boolean": array(dtype="bool", fill_value=np.bool_(True)),
    "big-endian": array(codecs=[BytesCodec("big")]),
    "transposed": array(codecs=[Transpose((1, 0)), BytesCodec("little")]),
    "names": array(dimension_names=["x", None], attributes={"title": "héé", "list": [1, 2.5, None, {"a": True}]}),
    "keys": array(chunk_key_encoding=ChunkKeyEncoding("v2", ".")),
    "compressed": array(
        codecs=codecs_from_json(["bytes", {"name": "zstd", "configuration": {"level": 3, "checksum": True}}], "c"),
        dtype="uint8",
    ),
    "group": GroupMetadata({"title": "ocean"}),
    "consolidated": GroupMetadata(
        {"title": "ocean"}, consolidated={"a": array(), "b": GroupMetadata(), "b/c": array((3,))}
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_documents_that_zarr_python_and_tensorstore_accepted_are_still_written(name):
    golden = json.loads((DATA / "zarrcy.json").read_text())["cases"]
    assert GOLDEN[name].to_json().decode() == golden[name]
    assert from_json(golden[name].encode()).to_json().decode() == golden[name]


def test_the_fields_stand_in_a_fixed_order():
    document = json.loads(array(dimension_names=["x", "y"]).to_json())
    assert list(document) == [
        *("zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs"),
        *("dimension_names", "attributes"),
    ]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=8,
)


@st.composite
def arrays(draw):
    shape = draw(st.lists(st.integers(0, 2**63 - 1), max_size=5))
    dtype = draw(st.sampled_from(["bool", "uint8", "int64", "float16", "float64", "complex64", "M8[ms]", "S4", "V3"]))
    data_type = from_numpy(dtype)
    raw = draw(st.binary(min_size=data_type.itemsize, max_size=data_type.itemsize))
    fill_value = np.frombuffer(bytes([raw[0] % 2]) if dtype == "bool" else raw, data_type.dtype)[0]
    codecs = [BytesCodec(draw(st.sampled_from(["little", "big"] + [None] * (data_type.word == 1))))]
    if draw(st.booleans()):
        codecs.insert(0, Transpose(draw(st.permutations(range(len(shape))))))
    return array(
        shape=shape,
        dtype=dtype,
        chunk_shape=draw(st.lists(st.integers(1, 2**10), min_size=len(shape), max_size=len(shape))),
        codecs=codecs,
        fill_value=fill_value,
        attributes=draw(st.dictionaries(st.text(max_size=5), JSON_VALUES, max_size=3)),
        dimension_names=draw(st.none() | st.lists(st.none() | st.text(), min_size=len(shape), max_size=len(shape))),
        chunk_key_encoding=ChunkKeyEncoding(
            draw(st.sampled_from(["default", "v2"])), draw(st.sampled_from(["/", "."]))
        ),
        extra_fields=draw(st.sampled_from([{}, {"later": {"must_understand": False, "n": 1}}])),
    )


@given(arrays())
@settings(max_examples=200)
def test_metadata_survives_its_document(found):
    again = from_json(found.to_json())
    assert again == found
    assert again.to_json() == found.to_json()
    assert pickle.loads(pickle.dumps(found)) == found


@given(st.dictionaries(st.text(max_size=5), JSON_VALUES, max_size=4))
def test_a_group_survives_its_document(attributes):
    found = GroupMetadata(attributes, extra_fields={"later": {"must_understand": False}})
    assert from_json(found.to_json()) == found
    assert pickle.loads(pickle.dumps(found)) == found


def test_metadata_does_not_change_but_has_changed_copies():
    found = array()
    with pytest.raises(AttributeError, match="use replace"):
        found.shape = (1,)
    with pytest.raises(AttributeError, match="use replace"):
        del found.shape
    longer = found.replace(shape=(200, 50))
    assert (found.shape, longer.shape, longer.chunk_shape) == ((100, 50), (200, 50), found.chunk_shape)
    assert longer != found
    with pytest.raises(MetadataError, match="chunk_grid: expected 1 extents"):
        found.replace(shape=(1,))
    with pytest.raises(TypeError):
        found.replace(colour=1)
    with pytest.raises(AttributeError, match="use replace"):
        GroupMetadata().attributes = {}


def test_metadata_differs_where_the_bits_of_the_fill_value_do():
    found = array(fill_value=np.float32("nan"))
    assert found == array(fill_value=np.float32("nan"))
    assert found != found.replace(fill_value=np.array(0x7FC00001, "u4").view("f4")[()])
    assert array(fill_value=np.float32(0.0)) != array(fill_value=np.float32(-0.0))


def test_the_layout_is_seen_in_the_metadata():
    assert (array().order, array().endian, array().ndim, array().dtype) == ("C", "little", 2, np.dtype("f4"))
    assert array(codecs=[Transpose((1, 0)), BytesCodec("big")]).order == "F"
    assert array(codecs=[Transpose((0, 1)), BytesCodec("big")]).order == "C"
    assert array(codecs=[BytesCodec("big")]).endian == "big"
    assert array(dtype="uint8").endian is None
    index = [{"name": "bytes", "configuration": {"endian": "little"}}, "crc32c"]
    inner = {
        "chunk_shape": [5, 5],
        "codecs": [{"name": "bytes", "configuration": {"endian": "big"}}],
        "index_codecs": index,
    }
    sharded = codecs_from_json([{"name": "sharding_indexed", "configuration": inner}], "codecs")
    assert array(codecs=sharded).endian == "big"
    assert from_json(array(codecs=sharded).to_json()).codecs == sharded


def test_unknown_fields_that_need_not_be_understood_are_kept():
    document = json.loads(array().to_json())
    document["later"] = {"must_understand": False, "what": [1]}
    found = from_json(json.dumps(document).encode())
    assert found.extra_fields == {"later": {"must_understand": False, "what": [1]}}
    assert json.loads(found.replace(attributes={"a": 1}).to_json())["later"] == document["later"]


@pytest.mark.parametrize(
    "value", [1, None, {}, {"must_understand": True}, {"must_understand": 0}, [{"must_understand": False}]]
)
@pytest.mark.parametrize("found", [array(), GroupMetadata()], ids=["array", "group"])
def test_other_unknown_fields_are_refused_by_name(found, value):
    document = json.loads(found.to_json())
    document["later"] = value
    with pytest.raises(UnknownExtensionError, match=r"^zarr.json: later: expected a field that zarrcy knows"):
        from_json(json.dumps(document).encode())
    with pytest.raises(UnknownExtensionError, match="later"):
        found.replace(extra_fields={"later": value})


def test_storage_transformers_are_refused_by_name():
    document = json.loads(array().to_json())
    for none in ([], None):
        assert from_json(json.dumps({**document, "storage_transformers": none}).encode()) == array()
    for transformer in ("cache", {"name": "cache", "configuration": {}}):
        with pytest.raises(UnknownExtensionError, match=r'storage_transformers.0.: "cache"'):
            from_json(json.dumps({**document, "storage_transformers": [transformer]}).encode())


def test_metadata_is_read_from_and_written_to_a_store():
    store = MemoryStore()
    assert metadata.read(store, "") is None
    assert metadata.read(store, "a/b") is None
    metadata.write(store, "", GroupMetadata({"x": 1}))
    metadata.write(store, "a/b", array())
    assert sorted(store.list_prefix()) == ["a/b/zarr.json", "zarr.json"]
    assert metadata.document_keys("") == ["zarr.json"]
    assert metadata.document_keys("a/b") == ["a/b/zarr.json"]
    assert metadata.read(store, "") == GroupMetadata({"x": 1})
    assert metadata.read(store, "a/b") == array()


def test_an_error_names_store_key_and_path():
    store = MemoryStore()
    store.set("a/zarr.json", array().to_json().replace(b"100", b"-1"))
    with pytest.raises(MetadataError) as info:
        metadata.read(store, "a")
    assert str(info.value) == f"{store.url}: a/zarr.json: shape[0]: expected a whole number ≥ 0, got -1"
    assert (info.value.store, info.value.key) == (store.url, "a/zarr.json")


def test_a_document_that_cannot_be_written_leaves_the_old_one():
    store = MemoryStore()
    metadata.write(store, "a", array())
    with pytest.raises(MetadataError, match=r"a/zarr.json: expected values that JSON can hold") as info:
        metadata.write(store, "a", array(attributes={"x": {1, 2}}))
    assert "JSON holds text" in info.value.__notes__[0]
    assert metadata.read(store, "a") == array()


def test_numpy_values_among_the_attributes_become_json():
    attributes = {
        "scale": np.float32(0.5),
        "n": np.int64(3),
        "flag": np.bool_(True),
        "range": np.array([1, 2]),
        "name": np.str_("x"),
    }
    found = from_json(GroupMetadata(attributes).to_json())
    assert found.attributes == {"scale": 0.5, "n": 3, "flag": True, "range": [1, 2], "name": "x"}
    for value in (np.datetime64("2020-01-01"), np.complex64(1), np.array([b"x"]), object(), b"x"):
        with pytest.raises(MetadataError):
            GroupMetadata({"x": value}).to_json()


def test_numbers_that_are_not_finite_survive_among_the_attributes_only():
    document = GroupMetadata({"a": float("nan"), "b": [float("inf"), float("-inf")]}).to_json()
    assert b'"a": NaN' in document
    found = from_json(document).attributes
    assert np.isnan(found["a"])
    assert found["b"] == [float("inf"), float("-inf")]
    nan = array(fill_value=np.float32("nan")).to_json()
    assert json.loads(nan, parse_constant=lambda name: pytest.fail(name))["fill_value"] == "NaN"


def test_attributes_nested_too_deeply_are_an_error():
    nested = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(MetadataError, match="nested"):
        GroupMetadata({"x": nested}).to_json()
    while nested:
        nested = nested.pop()


def consolidated(members):
    document = {"zarr_format": 3, "node_type": "group", "attributes": {}}
    document["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": members}
    return json.dumps(document).encode()


def test_consolidated_metadata_is_parsed_node_by_node():
    unknown = json.loads(array().to_json()) | {"data_type": "string"}
    found = from_json(
        consolidated({"a": json.loads(array().to_json()), "b": unknown, "c": json.loads(GroupMetadata().to_json())})
    )
    members = found.consolidated
    assert list(members) == ["a", "b", "c"]
    assert len(members) == 3
    assert "a" in members and "x" not in members
    assert members["a"] == array()
    assert members["c"] == GroupMetadata()
    with pytest.raises(
        UnknownExtensionError, match=r'consolidated_metadata.metadata."b".: data_type: data type "string"'
    ):
        members["b"]
    with pytest.raises(KeyError):
        members["x"]
    assert json.loads(found.to_json())["consolidated_metadata"]["metadata"]["b"] == unknown
    again = pickle.loads(pickle.dumps(found))
    assert again.consolidated["a"] == array()


def test_nested_consolidated_metadata_is_laid_flat():
    inner = json.loads(consolidated({"x": json.loads(array().to_json())}))
    found = from_json(consolidated({"a": inner, "a/y": json.loads(GroupMetadata().to_json())}))
    assert sorted(found.consolidated) == ["a", "a/x", "a/y"]
    assert found.consolidated["a"].consolidated is None
    assert found.consolidated["a/x"] == array()


def test_a_group_without_consolidated_metadata_has_none():
    document = {"zarr_format": 3, "node_type": "group", "consolidated_metadata": None}
    assert from_json(json.dumps(document).encode()) == GroupMetadata()


@pytest.mark.parametrize(
    "data, error, message",
    [
        (5, MetadataError, "consolidated_metadata: expected an object, got 5"),
        ({"metadata": {}}, UnknownExtensionError, "consolidated_metadata.kind: expected inline, got null"),
        ({"kind": "remote", "metadata": {}}, UnknownExtensionError, 'kind: expected inline, got "remote"'),
        ({"kind": "inline"}, MetadataError, "consolidated_metadata.metadata: expected an object, got null"),
        (
            {"kind": "inline", "metadata": {"a": 1}},
            MetadataError,
            'consolidated_metadata.metadata["a"]: expected an object, got 1',
        ),
        (
            {"kind": "inline", "metadata": {"../a": {}}},
            MetadataError,
            "consolidated_metadata.metadata: expected paths of nodes",
        ),
        ({"kind": "inline", "metadata": {"/a": {}}}, MetadataError, "expected paths of nodes"),
        ({"kind": "inline", "metadata": {"": {}}}, MetadataError, "expected paths of nodes"),
    ],
)
def test_wrong_consolidated_metadata_is_refused_with_its_path(data, error, message):
    document = {"zarr_format": 3, "node_type": "group", "consolidated_metadata": data}
    with pytest.raises(error) as info:
        from_json(json.dumps(document).encode())
    assert message in str(info.value)


def test_v2_members_cannot_be_consolidated_into_a_v3_group():
    member = array(zarr_format=2, chunk_key_encoding=ChunkKeyEncoding("v2"))
    with pytest.raises(MetadataError, match="zarr_format: expected 3"):
        GroupMetadata(consolidated={"a": member}).to_json()


class Inverted(Codec):
    """A codec of a user: bytes to bytes, as it says nothing else."""

    name = "example.inverted"


class Strange(Codec):
    name = "example.strange"
    kind = "sideways"


@pytest.mark.parametrize(
    "codecs, message",
    [
        ([], "codecs: expected one codec that turns an array into bytes, such as bytes, got 0"),
        ([Transpose((0,))], "such as bytes, got 0"),
        ([BytesCodec(), BytesCodec()], "such as bytes, got 2"),
        ([BytesCodec(), Transpose((0,))], 'codecs[1]: expected a codec that encodes bytes, got "transpose"'),
        ([Inverted(), BytesCodec()], 'codecs[0]: expected a codec that encodes arrays, got "example.inverted"'),
        (
            [BytesCodec(), Strange()],
            "codecs[1]: expected a codec of kind array_to_array, array_to_bytes, bytes_to_bytes",
        ),
    ],
)
def test_a_chain_in_the_wrong_order_is_refused(codecs, message):
    with pytest.raises(MetadataError) as info:
        check_order(tuple(codecs), "codecs")
    assert message in str(info.value)


def test_a_chain_in_the_right_order_passes():
    check_order((Transpose((1, 0)), Transpose((0, 1)), BytesCodec(), Inverted(), Inverted()), "codecs")


def test_filters_of_numcodecs_stand_before_little_endian_bytes():
    delta = {"name": "numcodecs.delta", "configuration": {"dtype": "<f4"}}
    little, big = ({"name": "bytes", "configuration": {"endian": endian}} for endian in ("little", "big"))
    assert [codec.name for codec in codecs_from_json([delta, little], "codecs")] == ["numcodecs.delta", "bytes"]
    with pytest.raises(UnknownExtensionError, match=r"codecs\[0\]: numcodecs.delta before big-endian bytes"):
        codecs_from_json([delta, big], "codecs")
    with pytest.raises(MetadataError, match=r"codecs\[1\]: expected a codec that encodes bytes"):
        codecs_from_json([little, delta], "codecs")
    with pytest.raises(MetadataError, match=r"codecs\[0\]: expected a codec that encodes arrays"):
        codecs_from_json([{"name": "numcodecs.zlib", "configuration": {"level": 1}}, little], "codecs")


@pytest.mark.parametrize(
    "documents, error, message",
    [
        (None, MetadataError, "codecs: expected a list of codecs, got null"),
        ({}, MetadataError, "codecs: expected a list of codecs, got an object of 0"),
        ([3], MetadataError, "codecs[0]: expected an object with a name, got 3"),
        (["bytes", "gnu"], UnknownExtensionError, "codecs[1]: codec 'gnu': expected one of blosc, bytes, "),
        (["bytes", {"name": "gnu", "must_understand": False}], UnknownExtensionError, "codecs[1]: codec 'gnu'"),
        (
            [{"name": "bytes", "configuration": {"endian": "middle"}}],
            MetadataError,
            "codecs[0].configuration.endian: expected",
        ),
        (
            [{"name": "bytes", "configuration": {"endian": []}}],
            MetadataError,
            "codecs[0].configuration.endian: expected",
        ),
        ([{"name": "bytes", "configuration": {"x": 1}}], MetadataError, "codecs[0].configuration"),
        ([{"name": "transpose"}], MetadataError, "codecs[0].configuration"),
        (
            [{"name": "transpose", "configuration": {"order": "F"}}],
            MetadataError,
            "codecs[0].configuration.order: expected",
        ),
        (
            [{"name": "transpose", "configuration": {"order": 1}}],
            MetadataError,
            "codecs[0].configuration.order: expected",
        ),
        (
            [{"name": "transpose", "configuration": {"order": [1, 1]}}],
            MetadataError,
            "codecs[0].configuration.order: expected",
        ),
        ([{"name": "transpose", "configuration": {"order": [True, False]}}], MetadataError, "order: expected"),
    ],
)
def test_a_wrong_codec_is_refused_with_its_path(documents, error, message):
    with pytest.raises(error) as info:
        codecs_from_json(documents, "codecs")
    assert message in str(info.value)


def test_the_constants_of_drafts_for_transpose_have_a_hint():
    with pytest.raises(MetadataError) as info:
        codecs_from_json([{"name": "transpose", "configuration": {"order": "C"}}, "bytes"], "codecs")
    assert "write the axes" in info.value.__notes__[0]


def test_a_configuration_is_left_out_when_it_is_empty():
    chain = codecs_from_json(["bytes", {"name": "crc32c", "configuration": {}, "must_understand": True}], "codecs")
    assert codecs_to_json(chain) == [{"name": "bytes"}, {"name": "crc32c"}]


def test_the_layout_codecs_are_checked_against_the_chunks():
    spec = ChunkSpec((4, 5), np.dtype("f4"))
    for codec in (BytesCodec("little"), BytesCodec("big"), Transpose((1, 0))):
        assert codec.bind(spec) is codec
        assert pickle.loads(pickle.dumps(codec)) == codec
    with pytest.raises(MetadataError, match='endian: expected "little" or "big" for float32'):
        BytesCodec().bind(spec)
    assert BytesCodec().bind(ChunkSpec((4,), np.dtype("S3"))) == BytesCodec()
    with pytest.raises(MetadataError, match="order: expected 2 axes"):
        Transpose((0, 1, 2)).bind(spec)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"shape": (1, -1)}, "shape[1]: expected a whole number ≥ 0, got -1"),
        ({"shape": (1, True)}, "shape[1]: expected a whole number ≥ 0, got true"),
        ({"shape": (1, 2**63)}, "shape[1]: expected a whole number below 2**63"),
        ({"shape": (1,)}, "chunk_grid: expected 1 extents"),
        ({"chunk_grid": RegularGrid((2**62, 2**62))}, "chunk_grid: expected chunks of less than 2**63 bytes"),
        ({"dimension_names": ["x"]}, "dimension_names: expected 2 names, one for each axis, got 1"),
        ({"dimension_names": ["x", 1]}, "dimension_names[1]: expected text or null, got 1"),
        ({"fill_value": None}, "fill_value: expected one for float32, got null"),
        ({"zarr_format": 4}, "zarr_format: expected 2 or 3, got 4"),
        (
            {"codecs": [BytesCodec()]},
            'codecs[0].configuration.endian: expected "little" or "big" for float32, got nothing',
        ),
        ({"codecs": [Transpose((0,)), BytesCodec("big")]}, "codecs[0].configuration.order: expected 2 axes, got [0]"),
        ({"zarr_format": 2, "dimension_names": ["x", "y"]}, "dimension_names: expected none in Zarr v2"),
    ],
)
def test_metadata_that_does_not_fit_together_is_refused(changes, message):
    with pytest.raises(MetadataError) as info:
        array().replace(**changes)
    assert str(info.value).startswith(message)


def test_a_group_has_a_known_format():
    with pytest.raises(MetadataError, match="zarr_format: expected 2 or 3, got 1"):
        GroupMetadata(zarr_format=1)
    with pytest.raises(MetadataError, match=r"zarr_format: expected 3 for zarr.json, got 2"):
        GroupMetadata(zarr_format=2).to_json()
