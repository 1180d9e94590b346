"""The v2 documents: .zarray, .zgroup, .zattrs, .zmetadata. What other writers made of them is in test_metadata.py."""

import copy
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zarrcy import metadata_v2
from zarrcy.chunk_grid import ChunkKeyEncoding, RegularGrid
from zarrcy.codecs import from_v2
from zarrcy.codecs.layout import BytesCodec, Transpose
from zarrcy.dtypes import from_numpy
from zarrcy.errors import MetadataError, UnknownExtensionError
from zarrcy.metadata import ArrayMetadata, GroupMetadata
from zarrcy.stores.memory import MemoryStore

settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
settings.load_profile("fixed")

DATA = Path(__file__).parent / "data" / "metadata"
ZLIB = from_v2({"id": "zlib", "level": 1}, "compressor")
DELTA = from_v2({"id": "delta", "dtype": ">f4"}, "filters[0]")


def array(shape=(100, 50), dtype="<f4", chunk_shape=(10, 10), before=(), after=(), separator=".", **fields):
    data_type = from_numpy(dtype)
    endian = None if data_type.word == 1 else {"<": "little", ">": "big"}[np.dtype(dtype).str[0]]
    fields.setdefault("fill_value", data_type.zero())
    return ArrayMetadata(
        shape=shape,
        data_type=data_type,
        chunk_grid=RegularGrid(chunk_shape),
        chunk_key_encoding=ChunkKeyEncoding("v2", separator),
        codecs=[*before, BytesCodec(endian), *after],
        zarr_format=2,
        **fields,
    )


def document(**changes):
    plain = {
        "zarr_format": 2,
        "shape": [100, 50],
        "chunks": [10, 10],
        "dtype": "<f4",
        "compressor": None,
        "fill_value": 0,
        "order": "C",
        "filters": None,
    }
    return {name: value for name, value in {**plain, **changes}.items() if value is not ...}


def read(attributes=None, **changes):
    store = MemoryStore()
    store.set(".zarray", json.dumps(document(**changes)).encode())
    if attributes is not None:
        store.set(".zattrs", json.dumps(attributes).encode())
    return metadata_v2.read(store, "")


def written(found):
    store = MemoryStore()
    metadata_v2.write(store, "a", found)
    return {key.removeprefix("a/"): json.loads(store.get(key)) for key in store.list_prefix("a/")}


def test_a_document_becomes_metadata():
    assert read() == array()
    assert read({"units": "K"}) == array(attributes={"units": "K"})
    found = read(
        order="F", dtype=">f4", filters=[{"id": "delta", "dtype": ">f4"}], compressor={"id": "zlib", "level": 1}
    )
    assert found == array(dtype=">f4", before=[Transpose((1, 0)), DELTA], after=[ZLIB])
    assert (found.order, found.endian) == ("F", "big")


def test_metadata_becomes_the_document_it_came_from():
    changes = {"order": "F", "dtype": ">f4", "filters": [DELTA.configuration() | {"id": "delta"}]}
    changes |= {"compressor": {"id": "zlib", "level": 1}, "dimension_separator": "/", "fill_value": "NaN"}
    assert written(read({"a": [1]}, **changes)) == {".zarray": document(**changes), ".zattrs": {"a": [1]}}


@pytest.mark.parametrize("separator, expected", [(..., "."), (".", "."), ("/", "/")])
def test_the_separator_of_chunk_keys_is_a_dot_unless_it_is_said(separator, expected):
    found = read(dimension_separator=separator)
    assert found.chunk_key_encoding == ChunkKeyEncoding("v2", expected)
    assert written(found)[".zarray"]["dimension_separator"] == expected


DTYPES = [f"{order}{kind}" for order in "<>" for kind in ("i2", "u8", "f2", "f8", "c8", "U7")]
DTYPES += ["|b1", "|i1", "|u1", "|S5", "|V4", "<M8[ns]", ">M8[10s]", "<m8[D]", ">m8[25us]", "<M8"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_dtype_survives(dtype):
    found = read(dtype=dtype, fill_value=None)
    assert found.dtype == np.dtype(dtype).newbyteorder("=")
    assert found.endian == {"<": "little", ">": "big", "|": None}[dtype[0]]
    assert written(found)[".zarray"]["dtype"] == dtype


@pytest.mark.parametrize(
    "dtype, same", [("<u1", "|u1"), (">S3", "|S3"), ("<M8[generic]", "<M8"), ("<M8[1ns]", "<M8[ns]")]
)
def test_another_spelling_of_a_dtype_means_the_same(dtype, same):
    assert read(dtype=dtype, fill_value=None) == read(dtype=same, fill_value=None)


@pytest.mark.parametrize("dtype", ["|O", "<f16", "<i3", [["a", "<i4"]], [], "|S0", "<U0", "<b4", "<t4"])
def test_an_unknown_dtype_is_named(dtype):
    with pytest.raises(UnknownExtensionError, match=r"^memory:.*: .zarray: dtype: "):
        read(dtype=dtype)


@pytest.mark.parametrize(
    "dtype",
    [
        *("f4", "=f4", "|f4", "float32", "<f4,<f4", "", None, 4, {}, True),
        *("<S5[ns]", "<M8[furlong]", "<M8[0ns]", "<i" + "9" * 500, "(2,)<f4"),
    ],
)
def test_a_wrong_dtype_is_refused_with_its_path(dtype):
    with pytest.raises(MetadataError, match=r"^memory:.*: .zarray: dtype"):
        read(dtype=dtype)


@pytest.mark.parametrize(
    "dtype, value, expected",
    [
        ("<f4", None, None),
        ("<f4", ..., None),
        ("<f4", "NaN", np.float32("nan")),
        ("<f4", "-Infinity", np.float32("-inf")),
        (">f8", 1.5, np.float64(1.5)),
        ("<c8", [1, "NaN"], np.complex64(complex(1, np.nan))),
        ("|b1", True, np.bool_(True)),
        ("|b1", 0, np.bool_(False)),
        ("|b1", 1, np.bool_(True)),
        ("|S3", "YWI=", np.bytes_(b"ab")),
        ("|S3", 0, np.bytes_(b"")),
        ("<U3", "ab", np.str_("ab")),
        ("<U3", "", np.str_("")),
        ("<U3", 0, np.str_("")),
        ("|V2", "AQI=", np.frombuffer(b"\x01\x02", "V2")[0]),
        ("|V2", 0, np.frombuffer(b"\0\0", "V2")[0]),
        ("<M8[s]", 5, np.datetime64(5, "s")),
        ("<M8[s]", "NaT", np.datetime64("NaT", "s")),
        ("<M8[s]", -(2**63), np.datetime64("NaT", "s")),
    ],
)
def test_a_fill_value_is_read(dtype, value, expected):
    found = read(dtype=dtype, fill_value=value)
    if expected is None:
        assert found.fill_value is None
        assert written(found)[".zarray"]["fill_value"] is None
    else:
        assert np.asarray(found.fill_value, found.dtype).tobytes() == np.asarray(expected, found.dtype).tobytes()
        assert read(dtype=dtype, fill_value=written(found)[".zarray"]["fill_value"]) == found


def test_v2_has_one_nan_and_counts_for_times():
    payload = np.array(0x7FC00001, "u4").view("f4")[()]
    assert written(array(fill_value=payload))[".zarray"]["fill_value"] == "NaN"
    both = np.array([payload, 1], "f4").view("c8")[0]
    assert written(array(dtype="<c8", fill_value=both))[".zarray"]["fill_value"] == ["NaN", 1.0]
    nat = array(dtype="<M8[s]", fill_value=np.datetime64("NaT", "s"))
    assert written(nat)[".zarray"]["fill_value"] == -(2**63)


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"zarr_format": 3}, MetadataError, "zarr_format: expected 2, got 3"),
        ({"zarr_format": 2.0}, MetadataError, "zarr_format: expected 2, got 2.0"),
        ({"zarr_format": True}, MetadataError, "zarr_format: expected 2, got true"),
        ({"zarr_format": ...}, MetadataError, "zarr_format: expected 2, got null"),
        ({"shape": ...}, MetadataError, "shape: expected this field, got nothing"),
        ({"order": ...}, MetadataError, "order: expected this field, got nothing"),
        ({"order": "A"}, MetadataError, 'order: expected "C" or "F", got "A"'),
        ({"order": ["C"]}, MetadataError, 'order: expected "C" or "F", got ["C"]'),
        ({"shape": [1, True]}, MetadataError, "shape[1]: expected a whole number ≥ 0, got true"),
        ({"shape": [1] * 65, "chunks": [1] * 65}, MetadataError, "shape: expected at most 64 axes, got 65"),
        ({"chunks": [10]}, MetadataError, "chunks: expected 2 extents"),
        ({"chunks": [10, 0]}, MetadataError, "chunks[1]: expected a whole number ≥ 1, got 0"),
        ({"chunks": True}, MetadataError, "chunks: expected a list of whole numbers, got true"),
        ({"dimension_separator": "-"}, MetadataError, 'dimension_separator: expected "/" or ".", got "-"'),
        ({"dimension_separator": None}, MetadataError, "dimension_separator: expected"),
        ({"fill_value": "x"}, MetadataError, "fill_value: expected a number"),
        ({"filters": {}}, MetadataError, "filters: expected null or a list, got an object of 0"),
        ({"filters": [None]}, MetadataError, "filters[0]: expected an object with an id, got null"),
        ({"filters": [{"id": "delta"}]}, MetadataError, "filters[0]"),
        ({"filters": [{"id": "gnu"}]}, UnknownExtensionError, "filters[0]: codec "),
        ({"compressor": "zlib"}, MetadataError, 'compressor: expected an object with an id, got "zlib"'),
        ({"compressor": {"id": 5}}, MetadataError, "compressor: expected an object with an id"),
        ({"compressor": {"id": "gnu"}}, UnknownExtensionError, "compressor: codec "),
        ({"compressor": {"id": "bytes"}}, UnknownExtensionError, "compressor: codec 'bytes'"),
        ({"compressor": {"id": "zlib", "level": 99}}, MetadataError, "compressor.level: expected"),
    ],
)
def test_a_wrong_document_is_refused_with_its_path(changes, error, message):
    with pytest.raises(error) as info:
        read(**changes)
    assert f": .zarray: {message}" in str(info.value)


def test_an_empty_list_of_filters_is_none():
    assert read(filters=[]) == read(filters=None) == read(filters=..., compressor=...)
    assert written(read(filters=[]))[".zarray"]["filters"] is None


def test_unknown_fields_are_kept():
    found = read(later={"a": 1})
    assert found.extra_fields == {"later": {"a": 1}}
    assert written(found)[".zarray"]["later"] == {"a": 1}


def test_the_names_of_xarray_stay_attributes():
    found = read({"_ARRAY_DIMENSIONS": ["x", "y"]})
    assert found.dimension_names is None
    assert found.attributes == {"_ARRAY_DIMENSIONS": ["x", "y"]}


def test_the_order_of_an_array_with_few_axes_is_kept():
    for shape in ([], [5]):
        for order in "CF":
            assert written(read(shape=shape, chunks=shape, order=order))[".zarray"]["order"] == order


def test_several_codecs_behind_bytes_become_filters_and_a_compressor():
    found = array(after=[DELTA, ZLIB])
    assert written(found)[".zarray"]["filters"] == [{"id": "delta", **DELTA.configuration()}]
    assert written(found)[".zarray"]["compressor"] == {"id": "zlib", "level": 1}


@pytest.mark.parametrize(
    "found, message",
    [
        (array().replace(zarr_format=3), "zarr_format: expected 2 for .zarray and .zgroup, got 3"),
        (GroupMetadata(), "zarr_format: expected 2 for .zarray and .zgroup, got 3"),
        (
            array().replace(chunk_key_encoding=ChunkKeyEncoding()),
            "chunk_key_encoding: expected v2 in Zarr v2, got default",
        ),
        (array(shape=(1, 2, 3), chunk_shape=(1, 1, 1), before=[Transpose((1, 0, 2))]), "transpose"),
        (array(after=[BytesCodec("big")]), "codecs: expected bytes once, got it 2 times"),
        (array().replace(codecs=[]), "codecs: expected bytes once, got it 0 times"),
    ],
)
def test_what_v2_cannot_hold_is_refused_and_nothing_is_written(found, message):
    store = MemoryStore()
    with pytest.raises(MetadataError, match=message):
        metadata_v2.write(store, "a", found)
    assert list(store.list_prefix()) == []


def test_a_group_survives():
    store = MemoryStore()
    group = GroupMetadata({"title": "ocean"}, 2, extra_fields={"later": 1})
    metadata_v2.write(store, "a/b", group)
    assert sorted(store.list_prefix()) == ["a/b/.zattrs", "a/b/.zgroup"]
    assert metadata_v2.read(store, "a/b") == group


def test_a_node_without_attributes_has_none():
    store = MemoryStore()
    store.set(".zgroup", b'{"zarr_format": 2}')
    assert metadata_v2.read(store, "") == GroupMetadata(zarr_format=2)
    assert metadata_v2.read(store, "a") is None
    store.set("b/.zattrs", b"{}")
    assert metadata_v2.read(store, "b") is None


def test_attributes_are_written_alone():
    store = MemoryStore()
    metadata_v2.write(store, "a", array(attributes={"x": 1}))
    before = bytes(store.get("a/.zarray"))
    metadata_v2.write_attributes(store, "a", {"y": 2})
    assert metadata_v2.read(store, "a") == array(attributes={"y": 2})
    assert bytes(store.get("a/.zarray")) == before
    with pytest.raises(MetadataError, match=r"a/.zattrs: expected values that JSON can hold"):
        metadata_v2.write_attributes(store, "a", {"y": object()})
    assert metadata_v2.read(store, "a").attributes == {"y": 2}


def test_wrong_attributes_are_named():
    store = MemoryStore()
    metadata_v2.write(store, "a", array())
    for value in (b"[]", b"{", b"\xff"):
        store.set("a/.zattrs", value)
        found = metadata_v2.read(store, "a")
        assert found.shape == array().shape
        for _ in range(2):
            with pytest.raises(MetadataError, match=r"a/.zattrs: expected"):
                _ = found.attributes
        with pytest.raises(MetadataError, match=r"a/.zattrs: expected"):
            found.whole()


class Counting(MemoryStore):
    """Counts the attributes that are read."""

    n_read = 0

    def get(self, key, part=None):
        self.n_read += key.endswith(".zattrs")
        return super().get(key, part)


def unread(**attributes):
    store = Counting()
    metadata_v2.write(store, "a", array(attributes=attributes))
    return store, metadata_v2.read(store, "a")


def test_attributes_are_read_at_their_first_use_and_once():
    store, found = unread(x=1)
    assert (found.shape, found.ndim, found.order, store.n_read) == (array().shape, array().ndim, array().order, 0)
    assert "attributes=..." in repr(found)
    assert (found.attributes, found.attributes is found.attributes, store.n_read) == ({"x": 1}, True, 1)
    assert "attributes={'x': 1}" in repr(found)


@pytest.mark.parametrize(
    "use",
    [
        lambda found: found == array(attributes={"x": 1}),
        lambda found: pickle.loads(pickle.dumps(found)).attributes == {"x": 1},
        lambda found: copy.deepcopy(found).attributes == {"x": 1},
        lambda found: metadata_v2.to_documents(found)[".zattrs"] == {"x": 1},
        lambda found: found.whole().attributes == {"x": 1},
        lambda found: found.replace(fill_value=None).attributes == {"x": 1},
    ],
)
def test_whatever_needs_the_attributes_reads_them(use):
    store, found = unread(x=1)
    assert use(found)
    assert store.n_read == 1


def test_what_does_not_need_the_attributes_reads_none():
    store, found = unread(x=1)
    assert found.replace(attributes={"y": 2}).attributes == {"y": 2}
    assert found.with_attributes({"y": 2}).attributes == {"y": 2}
    shorter = found.replace(fill_value=None)
    assert (shorter.fill_value, store.n_read) == (None, 0)
    assert hasattr(found, "shape") and not hasattr(found, "no_such_field")
    with pytest.raises(AttributeError, match="no_such_field"):
        _ = found.no_such_field
    assert store.n_read == 0


def test_attributes_that_cannot_be_read_are_asked_for_again():
    store, found = unread(x=1)
    store.set("a/.zattrs", b"[]")
    with pytest.raises(MetadataError):
        _ = found.attributes
    store.set("a/.zattrs", b'{"x": 2}')
    assert found.attributes == {"x": 2}


def test_threads_that_use_the_attributes_at_once_all_get_them():
    for _ in range(50):
        _, found = unread(x=1)
        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(lambda _, found=found: found.attributes["x"], range(16))) == [1] * 16


def test_the_keys_of_a_node_are_named():
    assert metadata_v2.document_keys("") == [".zarray", ".zgroup", ".zattrs", ".zmetadata"]
    assert metadata_v2.document_keys("a/b")[0] == "a/b/.zarray"


def hierarchy():
    store = MemoryStore()
    members = {
        "a": array(attributes={"x": 1}),
        "g": GroupMetadata(zarr_format=2),
        "g/b": array(shape=(3,), chunk_shape=(2,)),
    }
    metadata_v2.write(store, "root", GroupMetadata({"title": "ocean"}, 2))
    for path, found in members.items():
        metadata_v2.write(store, f"root/{path}", found)
    return store, members


def test_consolidated_metadata_survives():
    store, members = hierarchy()
    metadata_v2.write_consolidated(store, "root", members)
    held = json.loads(store.get("root/.zmetadata"))
    assert held["zarr_consolidated_format"] == 1
    assert sorted(held["metadata"]) == sorted(
        key.removeprefix("root/") for key in store.list_prefix("root/") if "zmeta" not in key
    )
    group = metadata_v2.read_consolidated(store, "root")
    assert group.attributes == {"title": "ocean"}
    assert dict(group.consolidated) == members
    assert metadata_v2.read(store, "root").consolidated is None
    assert metadata_v2.read_consolidated(store, "root/g") is None


def test_consolidating_says_what_the_group_is_or_reads_it():
    store, members = hierarchy()
    metadata_v2.write_consolidated(store, "root", members)
    read_root = bytes(store.get("root/.zmetadata"))
    metadata_v2.write_consolidated(store, "root", {"": GroupMetadata({"title": "ocean"}, 2), **members})
    assert bytes(store.get("root/.zmetadata")) == read_root
    with pytest.raises(MetadataError, match=r"nowhere/.zmetadata: expected a group"):
        metadata_v2.write_consolidated(store, "nowhere", members)


def test_a_consolidated_array_that_cannot_be_read_fails_alone():
    store, members = hierarchy()
    metadata_v2.write_consolidated(store, "root", members)
    held = json.loads(store.get("root/.zmetadata"))
    held["metadata"]["a/.zarray"]["dtype"] = "|O"
    store.set("root/.zmetadata", json.dumps(held).encode())
    group = metadata_v2.read_consolidated(store, "root")
    assert group.consolidated["g/b"] == members["g/b"]
    with pytest.raises(UnknownExtensionError, match=r"^.zmetadata: a: dtype: .*object"):
        group.consolidated["a"]


@pytest.mark.parametrize(
    "data, message",
    [
        ({"metadata": {".zgroup": {"zarr_format": 2}}}, "zarr_consolidated_format: expected 1, got null"),
        ({"zarr_consolidated_format": True, "metadata": {}}, "zarr_consolidated_format: expected 1, got true"),
        ({"zarr_consolidated_format": 1}, "metadata: expected an object, got null"),
        ({"zarr_consolidated_format": 1, "metadata": {}}, "metadata: expected .zgroup, got nothing"),
        ({"zarr_consolidated_format": 1, "metadata": {"../a/.zgroup": {}}}, "metadata: expected paths of nodes"),
        (
            {"zarr_consolidated_format": 1, "metadata": {"a/.zgroup": 3}},
            'metadata["a/.zgroup"]: expected an object, got 3',
        ),
        ({"zarr_consolidated_format": 1, "metadata": {".zgroup": {}}}, "zarr_format: expected 2, got null"),
    ],
)
def test_wrong_consolidated_metadata_is_refused_with_its_path(data, message):
    store = MemoryStore()
    store.set(".zmetadata", json.dumps(data).encode())
    with pytest.raises(MetadataError) as info:
        metadata_v2.read_consolidated(store, "")
    assert f".zmetadata: {message}" in str(info.value)


@given(
    st.lists(st.integers(0, 2**63 - 1), max_size=5),
    st.sampled_from(DTYPES),
    st.booleans(),
    st.sampled_from([[], [DELTA]]),
    st.sampled_from([[], [ZLIB]]),
    st.sampled_from("./"),
    st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text(max_size=5), max_size=3),
    st.data(),
)
@settings(max_examples=150)
def test_metadata_survives_its_documents(shape, dtype, reverse, filters, compressor, separator, attributes, data):
    data_type = from_numpy(dtype)
    raw = data.draw(st.binary(min_size=data_type.itemsize, max_size=data_type.itemsize))
    fill_value = None
    if data_type.dtype.kind in "iuSVMm" and data.draw(st.booleans()):
        fill_value = np.frombuffer(raw, data_type.dtype)[0]
    found = array(
        shape=shape,
        dtype=dtype,
        chunk_shape=data.draw(st.lists(st.integers(1, 2**10), min_size=len(shape), max_size=len(shape))),
        before=[Transpose(range(len(shape))[::-1])] * reverse + filters,
        after=compressor,
        separator=separator,
        attributes=attributes,
        fill_value=fill_value,
    )
    store = MemoryStore()
    metadata_v2.write(store, "a", found)
    assert metadata_v2.read(store, "a") == found


GOLDEN_V2 = {
    "plain": array(),
    "order F": array(before=[Transpose((1, 0))]),
    "big-endian": array(dtype=">f8", fill_value=np.float64("nan")),
    "zlib": array(after=[ZLIB]),
    "slash": array(separator="/", attributes={"title": "héé"}),
    "no fill value": array(fill_value=None),
    "no axes": array(shape=(), chunk_shape=()),
    "boolean": array(dtype="|b1", fill_value=np.bool_(True)),
    "complex": array(dtype="<c16", fill_value=np.complex128(complex(np.inf, 1))),
    "filter": array(dtype=">f4", before=[DELTA], after=[ZLIB]),
    "not a time": array(dtype="<M8[ns]", fill_value=np.datetime64("NaT", "ns")),
    "text": array(dtype="<U3", fill_value=np.str_("é")),
    "byte string": array(dtype="|S3", fill_value=np.bytes_(b"ab")),
    "raw": array(dtype="|V2", fill_value=np.frombuffer(b"\x01\xff", "V2")[0]),
    "group": GroupMetadata({"title": "ocean"}, 2),
}


@pytest.mark.parametrize("name", GOLDEN_V2)
def test_the_documents_that_zarr_python_and_tensorstore_accepted_are_still_written(name):
    golden = json.loads((DATA / "zarrcy.json").read_text())["v2_cases"]
    assert written(GOLDEN_V2[name]) == {key: json.loads(value) for key, value in golden[name].items()}
