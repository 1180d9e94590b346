"""New arrays: where they go, every spelling of what they are, the defaults, and the shortcuts."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest

import zarrcy
from zarrcy import ChunkCountWarning, MetadataError, NodeExistsError
from zarrcy.metadata_v2 import encode_node
from zarrcy.stores.filesystem import FilesystemStore
from zarrcy.stores.memory import MemoryStore
from zarrcy.stores.zip import ZipStore

ITEMS = np.arange(24, dtype="float32").reshape(4, 6)


def document(array: zarrcy.Array) -> dict[str, Any]:
    """The stored metadata, read without the library."""
    name = "zarr.json" if array.metadata.zarr_format == 3 else ".zarray"
    key = f"{array.path}/{name}" if array.path else name
    found: dict[str, Any] = json.loads(bytes(array.store.get(key) or b""))
    return found


def codec_names(array: zarrcy.Array) -> list[str]:
    return [codec["name"] for codec in document(array)["codecs"]]


def keeps(array: zarrcy.Array, items: Any) -> zarrcy.Array:
    """Write items, and read them back through an array that is opened anew."""
    array[...] = items
    found: zarrcy.Array = zarrcy.open_array(array.store, array.path, mode="r")
    assert found[...].tobytes() == np.asarray(items, array.dtype).tobytes()
    assert encode_node(found.metadata) == encode_node(array.metadata)
    return found


# ---- where


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_array_goes_where_its_store_or_path_says(tmp_path: Path, zarr_format: int) -> None:
    data: dict[str, bytes] = {}
    targets = {
        "text": str(tmp_path / "text"),
        "path": tmp_path / "path",
        "url": (tmp_path / "url").as_uri(),
        "zip": tmp_path / "a.zip",
        "zip url": f"zip://{tmp_path}/b.zip",
        "store": FilesystemStore(tmp_path / "store"),
        "memory": "memory://",
        "dict": data,
    }
    kinds = {"zip": ZipStore, "zip url": ZipStore, "memory": MemoryStore, "dict": MemoryStore}
    for name, target in targets.items():
        array = zarrcy.create_array(target, "a/b", shape=(4, 6), dtype="float32", zarr_format=zarr_format)
        assert type(array.store) is kinds.get(name, FilesystemStore)
        assert array.path == "a/b"
        keeps(array, ITEMS)
        array.store.close()
    assert ("a/b/zarr.json" if zarr_format == 3 else "a/b/.zarray") in data
    for name in ("text", "path", "url", "store"):
        assert zarrcy.open(tmp_path / name / "a" / "b", mode="r")[1, 1] == 7


def test_create_takes_the_name_of_a_store_and_its_options(tmp_path: Path) -> None:
    made = zarrcy.create(shape=3, storage="filesystem", path=tmp_path / "a", durable=True)
    assert isinstance(made.store, FilesystemStore) and made.store.durable and made.path == ""
    assert isinstance(zarrcy.create(shape=3, path=tmp_path / "b").store, FilesystemStore)
    assert isinstance(zarrcy.create(shape=3, path=str(tmp_path / "c.zip")).store, ZipStore)
    assert isinstance(zarrcy.create(shape=3, storage="zip", path=tmp_path / "d").store, ZipStore)
    assert isinstance(zarrcy.create(shape=3).store, MemoryStore)
    assert zarrcy.create(shape=3, storage="memory", name="of-the-test").store.url == "memory://of-the-test"
    with pytest.raises(NodeExistsError):
        zarrcy.create(shape=3, path=tmp_path / "a")
    assert zarrcy.create(shape=4, path=tmp_path / "a", overwrite=True).shape == (4,)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"storage": "no such store"}, zarrcy.UnknownExtensionError),
        ({"storage": "filesystem"}, TypeError),
        ({"storage": "memory", "no_such_option": 1}, TypeError),
        ({"no_such_option": 1}, TypeError),
        ({"path": ""}, None),
    ],
)
def test_a_store_that_cannot_be_is_an_error(options: Any, error: Any) -> None:
    if error is None:
        assert zarrcy.create(shape=2, **options).store.url.startswith("memory://")
        return
    with pytest.raises(error):
        zarrcy.create(shape=2, **options)


# ---- chunks and shards


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ((2, 3), (2, 3)),
        ([2, 3], (2, 3)),
        (3, (3, 3)),
        (np.int16(3), (3, 3)),
        ((2, -1), (2, 6)),
        ((None, 3), (4, 3)),
        (-1, (4, 6)),
        (None, (4, 6)),
        (False, (4, 6)),
        ((10, 10), (10, 10)),
        ("auto", (4, 6)),
        (True, (4, 6)),
    ],
)
def test_chunks_in_every_spelling(chunks: Any, expected: Any, zarr_format: int) -> None:
    array = zarrcy.create(shape=(4, 6), chunks=chunks, dtype="float32", zarr_format=zarr_format)
    assert array.chunks == expected
    keeps(array, ITEMS)


@pytest.mark.parametrize("shape", [(100_000_000,), (20_000, 20_000), (3, 5_000, 7_000), (10**6, 3, 3, 3), (2**40,)])
@pytest.mark.parametrize("dtype", ["int8", "float64", "S100"])
def test_automatic_chunks_hold_about_a_mebibyte(shape: tuple[int, ...], dtype: str) -> None:
    array = zarrcy.create(shape=shape, dtype=dtype)
    nbytes = np.prod(array.chunks, dtype=object) * array.itemsize
    assert 2**18 <= nbytes <= 2**20
    assert all(1 <= chunk <= n for chunk, n in zip(array.chunks, shape, strict=True))


@pytest.mark.parametrize("shape", [(), 0, (0,), (0, 5), (5, 0)])
@pytest.mark.parametrize("chunks", ["auto", None, -1, 2])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_arrays_without_axes_or_items(shape: Any, chunks: Any, zarr_format: int) -> None:
    array = zarrcy.create(shape=shape, chunks=chunks, zarr_format=zarr_format, dtype="int16")
    keeps(array, np.full(array.shape, 3, "int16"))
    assert array.nbytes == (2 if shape == () else 0)


@pytest.mark.parametrize(
    ("chunks", "shards", "expected"),
    [((2, 3), (4, 6), (4, 6)), ((2, 3), 6, (6, 6)), ((2, 3), -1, (4, 6)), ((1, 1), (2, None), (2, 6)), (2, 8, (8, 8))],
)
def test_shards_in_every_spelling(chunks: Any, shards: Any, expected: Any) -> None:
    array = zarrcy.create(shape=(4, 6), chunks=chunks, shards=shards, dtype="float32", compressor="zstd")
    assert array.shards == expected
    assert document(array)["chunk_grid"]["configuration"]["chunk_shape"] == list(expected)
    (sharding,) = document(array)["codecs"]
    assert sharding["name"] == "sharding_indexed"
    assert sharding["configuration"]["chunk_shape"] == list(array.chunks)
    assert [codec["name"] for codec in sharding["configuration"]["index_codecs"]] == ["bytes", "crc32c"]
    assert [codec["name"] for codec in sharding["configuration"]["codecs"]] == ["bytes", "zstd"]
    keeps(array, ITEMS)


# ---- codecs


@pytest.mark.parametrize("dtype", ["int8", "int16", "float32", "float64", "complex128", "U3"])
def test_the_default_chain_of_v3_is_the_one_that_was_decided(dtype: str) -> None:
    array = zarrcy.create(shape=(10,), dtype=dtype)
    assert codec_names(array) == ["bytes", "blosc", "crc32c"]
    blosc = document(array)["codecs"][1]["configuration"]
    assert (blosc["cname"], blosc["clevel"], blosc["typesize"]) == ("lz4", 5, np.dtype(dtype).itemsize)
    assert blosc["shuffle"] == ("bitshuffle" if dtype == "int8" else "shuffle")


def test_the_default_chain_of_v2_is_the_one_that_was_decided() -> None:
    array = zarrcy.create(shape=(1000,), dtype="int32", chunks=1000, zarr_format=2)
    assert (document(array)["compressor"], document(array)["filters"]) == ({"id": "zstd", "level": 1}, None)
    array[:] = np.arange(1000)
    frame = bytes(array.store.get("0") or b"")
    assert frame[:4] == b"\x28\xb5\x2f\xfd" and frame[4] & 0b100, "the frame says that it ends in a checksum"


def test_chunks_that_blosc_cannot_hold_have_another_default() -> None:
    array = zarrcy.create(shape=(2**31,), chunks=(2**31,), dtype="int8")
    assert codec_names(array) == ["bytes", "zstd"]
    assert document(array)["codecs"][1]["configuration"] == {"level": 1, "checksum": True}


@pytest.mark.parametrize(
    ("compressor", "expected"),
    [
        ("zstd", ["zstd"]),
        ("gzip", ["gzip"]),
        ("blosc", ["blosc"]),
        ("crc32c", ["crc32c"]),
        ("zlib", ["numcodecs.zlib"]),
        ("lz4", ["numcodecs.lz4"]),
        ("bz2", ["numcodecs.bz2"]),
        (None, []),
        ([], []),
        (["zstd", "crc32c"], ["zstd", "crc32c"]),
        ({"name": "gzip", "configuration": {"level": 7}}, ["gzip"]),
        ({"id": "zstd", "level": 3}, ["zstd"]),
        ({"id": "zlib", "level": 3}, ["numcodecs.zlib"]),
        (numcodecs.Zstd(level=4), ["zstd"]),
        (numcodecs.GZip(level=4), ["gzip"]),
        (numcodecs.Blosc("zstd", 3, numcodecs.Blosc.SHUFFLE), ["blosc"]),
        (numcodecs.BZ2(level=2), ["numcodecs.bz2"]),
        (zarrcy.codecs.registry.get("gzip")(level=2), ["gzip"]),
        ([numcodecs.LZ4(), {"name": "crc32c"}], ["numcodecs.lz4", "crc32c"]),
    ],
)
def test_compressors_of_v3_in_every_spelling(compressor: Any, expected: list[str]) -> None:
    array = zarrcy.create(shape=(4, 6), chunks=(2, 3), dtype="float32", compressor=compressor)
    assert codec_names(array) == ["bytes", *expected]
    keeps(array, ITEMS)


@pytest.mark.parametrize(
    ("compressor", "expected"),
    [
        ("zstd", {"id": "zstd"}),
        ("zlib", {"id": "zlib"}),
        ("gzip", {"id": "gzip"}),
        ("lz4", {"id": "lz4"}),
        ("blosc", {"id": "blosc"}),
        (None, None),
        ([], None),
        ({"id": "gzip", "level": 6}, {"id": "gzip", "level": 6}),
        ({"name": "gzip", "configuration": {"level": 7}}, {"id": "gzip", "level": 7}),
        (numcodecs.Zlib(level=4), {"id": "zlib", "level": 4}),
        (
            numcodecs.Blosc("zstd", 3, numcodecs.Blosc.BITSHUFFLE),
            {"id": "blosc", "cname": "zstd", "clevel": 3, "shuffle": 2},
        ),
        (numcodecs.BZ2(level=2), {"id": "bz2", "level": 2}),
    ],
)
def test_compressors_of_v2_in_every_spelling(compressor: Any, expected: Any) -> None:
    array = zarrcy.create(shape=(4, 6), chunks=(2, 3), dtype="float32", compressor=compressor, zarr_format=2)
    found = document(array)["compressor"]
    assert found == expected if expected is None else expected.items() <= found.items()
    keeps(array, ITEMS)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    "filters",
    [
        [numcodecs.Delta(dtype="<i4")],
        numcodecs.Delta(dtype="<i4"),
        {"id": "delta", "dtype": "<i4"},
        [numcodecs.Delta(dtype="<i4"), numcodecs.FixedScaleOffset(offset=0, scale=1, dtype="<i4", astype="<i4")],
        [],
        None,
    ],
)
def test_filters_of_numcodecs(filters: Any, zarr_format: int) -> None:
    array = zarrcy.create(
        shape=(20,), chunks=(7,), dtype="int32", filters=filters, compressor="zstd", zarr_format=zarr_format
    )
    keeps(array, np.arange(20) ** 2)
    wanted = filters if isinstance(filters, list) else [filters] if filters else []
    names = (
        [name["id"] for name in document(array)["filters"] or []]
        if zarr_format == 2
        else codec_names(array)[: len(wanted)]
    )
    assert len(names) == len(wanted)
    assert not wanted or names[0].endswith("delta")


def test_the_whole_chain_can_be_given() -> None:
    chain = [
        {"name": "transpose", "configuration": {"order": [1, 0]}},
        {"name": "bytes", "configuration": {"endian": "big"}},
        {"name": "gzip", "configuration": {"level": 1}},
    ]
    array = zarrcy.create(shape=(4, 6), chunks=(2, 3), dtype="float32", codecs=chain)
    assert document(array)["codecs"] == chain
    keeps(array, ITEMS)
    assert zarrcy.create(shape=(4, 6), codecs=array.codecs, dtype="float32", chunks=(2, 3)).codecs == array.codecs


@pytest.mark.parametrize(
    "beside", [{"compressor": "zstd"}, {"compressor": None}, {"filters": ["delta"]}, {"shards": (4, 6)}, {"order": "F"}]
)
def test_a_whole_chain_stands_alone(beside: Any) -> None:
    with pytest.raises(TypeError, match=f"codecs: expected no {next(iter(beside))}"):
        zarrcy.create(shape=(4, 6), chunks=(2, 3), codecs=[{"name": "bytes"}], **beside)


# ---- what else an array is


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_order_f_stores_columns_together(zarr_format: int) -> None:
    array = zarrcy.create(
        shape=(4, 6), chunks=(4, 6), dtype="float32", order="F", compressor=None, zarr_format=zarr_format
    )
    keeps(array, ITEMS)
    assert array.order == "F"
    key = array.chunk_key((0, 0))
    assert bytes(array.store.get(key) or b"") == ITEMS.tobytes("F")
    if zarr_format == 2:
        assert document(array)["order"] == "F"


NUMBERS = "int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128".split()
SPELLINGS = [
    *NUMBERS,
    *(np.dtype(name) for name in NUMBERS),
    *("bool", bool, int, float, complex, "<i4", ">i4", ">f8", "i2", "f4", np.float32, np.dtype(">u2"), "d", "?"),
    *("S5", "U3", ">U3", "V4", "M8[ns]", ">M8[s]", "m8[25us]", "datetime64[D]"),
]


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", SPELLINGS, ids=str)
def test_data_types_in_every_spelling_and_byte_order(dtype: Any, zarr_format: int) -> None:
    wanted = np.dtype(dtype)
    array = zarrcy.create(shape=(6,), chunks=(4,), dtype=dtype, compressor=None, zarr_format=zarr_format)
    assert array.dtype == wanted.newbyteorder("=")
    items = np.arange(6).astype("S1" if wanted.kind == "V" else "i8")
    items = np.array([bytes([i]) * 4 for i in range(6)], "V4") if wanted.kind == "V" else items.astype(wanted)
    keeps(array, items)
    stored = bytes(array.store.get(array.chunk_key((0,))) or b"")
    assert stored == items[:4].tobytes(), "stored in the byte order that was asked for"


FILLS: list[tuple[str, Any]] = [
    *[
        ("int16", 7),
        ("int16", np.int64(-7)),
        ("uint8", 255),
        ("uint64", 2**64 - 1),
        ("bool", True),
        ("bool", np.bool_(False)),
    ],
    *[("float32", 1.5), ("float64", float("nan")), ("float64", float("inf")), ("float32", -0.0), ("float16", 3)],
    *[("complex64", 1 - 2j), ("complex128", complex("nan")), ("S3", b"ab"), ("U3", "é中"), ("V2", b"\x01\x02")],
    *[("M8[ns]", np.datetime64("2020-01-01")), ("M8[s]", np.datetime64("NaT", "s")), ("m8[s]", np.timedelta64(5, "s"))],
    *[("int64", 0), ("U3", 0), ("S3", 0), ("V2", 0), ("M8[s]", 0)],
]


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(("dtype", "fill_value"), FILLS)
def test_fill_values_of_every_kind(dtype: str, fill_value: Any, zarr_format: int) -> None:
    array = zarrcy.create(shape=(3,), chunks=2, dtype=dtype, fill_value=fill_value, zarr_format=zarr_format)
    kind = np.dtype(dtype).kind
    zero = type(fill_value) is int and fill_value == 0
    if zero:
        expected = np.zeros(3, dtype)
    else:
        expected = np.full(3, np.void(fill_value) if kind == "V" else fill_value, dtype)
    for found in (array, zarrcy.open(array.store)):
        assert found[:].tobytes() == expected.tobytes()
    assert array.nchunks_initialized == 0


def test_a_nan_keeps_its_payload_in_v3() -> None:
    nan = np.array([0x7FC00ABC], "uint32").view("float32")[0]
    array = zarrcy.create(shape=(1,), dtype="float32", fill_value=nan)
    assert zarrcy.open(array.store)[:].view("uint32")[0] == 0x7FC00ABC


def test_no_fill_value_is_null_in_v2_and_zero_in_v3() -> None:
    old = zarrcy.create(shape=(3,), dtype="int16", fill_value=None, zarr_format=2)
    assert document(old)["fill_value"] is None and zarrcy.open(old.store).fill_value is None
    new = zarrcy.create(shape=(3,), dtype="int16", fill_value=None)
    assert document(new)["fill_value"] == 0 and new.fill_value == 0
    keeps(old, [1, 2, 3])


def test_dimension_names_and_attributes_are_kept() -> None:
    attributes = {"unit": "K", "nested": {"a": [1, None]}}
    array = zarrcy.create(shape=(2, 3), dimension_names=["time", None], attributes=attributes)
    found = zarrcy.open(array.store)
    assert found.dimension_names == ("time", None) and dict(found.attrs) == attributes
    array.attrs["new"] = 1
    assert "new" not in attributes, "the caller's dictionary is not the array's"
    old = zarrcy.create(shape=(2, 3), attributes=attributes, zarr_format=2)
    assert json.loads(bytes(old.store.get(".zattrs") or b"")) == attributes


@pytest.mark.parametrize(
    ("zarr_format", "separator", "key"), [(2, None, "1.0"), (2, "/", "1/0"), (3, None, "c/1/0"), (3, ".", "c.1.0")]
)
def test_the_separator_of_chunk_keys_can_be_chosen(zarr_format: int, separator: Any, key: str) -> None:
    array = zarrcy.create(shape=(4, 6), chunks=(2, 3), zarr_format=zarr_format, dimension_separator=separator)
    array[2:, :3] = 1
    assert array.store.exists(key)


# ---- too many files


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        ({"shape": 1_000_001, "chunks": 1}, "larger chunks"),
        ({"shape": (1001, 1000), "chunks": 1, "zarr_format": 2}, "keys with '/'"),
        ({"shape": (1001, 1000), "chunks": 1, "dimension_separator": "."}, "shards="),
        ({"shape": (3, 1_000_001), "chunks": 1}, "larger chunks"),
    ],
)
def test_more_than_a_million_files_in_a_directory_are_warned_of(tmp_path: Path, options: Any, cure: str) -> None:
    with pytest.warns(ChunkCountWarning, match=cure) as caught:
        zarrcy.create_array(tmp_path / "a", **options)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    "options",
    [
        {"shape": 1_000_000, "chunks": 1},
        {"shape": 1_000_001, "chunks": 2},
        {"shape": 1_000_001, "chunks": 1, "shards": 10},
        {"shape": (1001, 1000), "chunks": 1},
        {"shape": (1001, 1000), "chunks": 1, "zarr_format": 2, "dimension_separator": "/"},
        {"shape": (10**6 + 1, 0), "chunks": 1},
    ],
)
def test_the_cures_for_too_many_files_work(tmp_path: Path, options: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        zarrcy.create_array(tmp_path / "a", **options)


def test_only_directories_are_warned_of(tmp_path: Path) -> None:
    zarrcy.create_array(MemoryStore(), shape=2_000_000, chunks=1)
    zarrcy.create_array(tmp_path / "a.zip", shape=2_000_000, chunks=1)


# ---- shortcuts


def test_zeros_ones_full_and_empty_are_those_of_numpy(tmp_path: Path) -> None:
    for zarr_format in (2, 3):
        options: dict[str, Any] = {"chunks": 2, "zarr_format": zarr_format}
        for made, expected in (
            (zarrcy.zeros((2, 3), **options), np.zeros((2, 3))),
            (zarrcy.ones((2, 3), **options), np.ones((2, 3))),
            (zarrcy.empty((2, 3), dtype="int8", **options), np.zeros((2, 3), "int8")),
            (zarrcy.full((2, 3), 7, **options), np.full((2, 3), 7)),
            (zarrcy.full(3, 2.5, **options), np.full(3, 2.5)),
            (zarrcy.full(3, "abc", **options), np.full(3, "abc")),
            (zarrcy.ones(3, dtype="complex64", **options), np.ones(3, "complex64")),
            (zarrcy.ones(3, dtype=bool, **options), np.ones(3, bool)),
        ):
            assert made.dtype == expected.dtype and np.array_equal(made[...], expected)
            assert made.nchunks_initialized == 0
    assert zarrcy.ones(3, tmp_path / "a", "b/c")[:].tolist() == [1, 1, 1]
    assert zarrcy.open(tmp_path / "a", "b/c").fill_value == 1


@pytest.mark.parametrize(
    "options", [{}, {"zarr_format": 2}, {"shards": (4, 6)}, {"order": "F"}, {"compressor": "gzip"}]
)
def test_like_takes_shape_data_type_chunks_and_codecs(options: Any) -> None:
    other = zarrcy.create(shape=(4, 6), chunks=(2, 3), dtype=">i2", fill_value=9, **options)
    for made, item in (
        (zarrcy.zeros_like(other), 0),
        (zarrcy.ones_like(other), 1),
        (zarrcy.empty_like(other), 0),
        (zarrcy.full_like(other, -5), -5),
    ):
        same = ("shape", "dtype", "chunks", "shards", "codecs", "order")
        assert all(getattr(made, name) == getattr(other, name) for name in same)
        assert made.metadata.zarr_format == other.metadata.zarr_format
        assert np.array_equal(made[...], np.full((4, 6), item))
        keeps(made, ITEMS.astype("int16"))


def test_like_can_differ_from_the_other_array() -> None:
    other = zarrcy.create(shape=(4, 6), chunks=(2, 3), dtype="int16", dimension_names=["y", "x"])
    assert zarrcy.zeros_like(other).dimension_names == ("y", "x")
    assert zarrcy.zeros_like(other, chunks=(1, 6)).chunks == (1, 6)
    assert zarrcy.zeros_like(other, dtype="float64").dtype == "float64"
    assert codec_names(zarrcy.zeros_like(other, compressor="gzip")) == ["bytes", "gzip"]
    assert zarrcy.zeros_like(other, shape=(8, 8)).dimension_names == ("y", "x")
    assert zarrcy.zeros_like(other, shape=5).shape == (5,)
    assert zarrcy.zeros_like(other, zarr_format=2).metadata.zarr_format == 2
    assert zarrcy.ones_like(np.zeros((2, 2), "int8"))[:].tolist() == [[1, 1], [1, 1]]
    assert zarrcy.zeros_like([[1.5]]).dtype == "float64"


def test_array_stores_what_numpy_would_hold(tmp_path: Path) -> None:
    for data in (
        [1, 2, 3],
        [[1.5], [2.5]],
        7,
        "text",
        b"bytes",
        True,
        np.array([], "int8"),
        ITEMS,
        ITEMS.T,
        ITEMS[::-2],
    ):
        made = zarrcy.array(data)
        expected = np.asarray(data)
        assert (made.shape, made.dtype) == (expected.shape, expected.dtype)
        assert np.array_equal(made[...], expected)
    again = zarrcy.array(zarrcy.array(ITEMS, chunks=2), tmp_path / "a", dtype="float64", chunks=3)
    assert again.dtype == "float64" and np.array_equal(again[...], ITEMS)
    with pytest.raises(zarrcy.UnknownExtensionError):
        zarrcy.array([object()], tmp_path / "b")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("name", ["a", "a.zip"])
def test_what_was_saved_is_loaded(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    zarrcy.save(path, ITEMS)
    assert np.array_equal(zarrcy.load(path), ITEMS)
    with pytest.raises(NodeExistsError):
        zarrcy.save(path, ITEMS)
    zarrcy.save(tmp_path / f"several-{name}", ITEMS, [1, 2], path="in/here", depth=[3], **{"b/c": 4})
    found = zarrcy.load(tmp_path / f"several-{name}", "in/here")
    assert list(found) == ["arr_0", "arr_1", "b", "depth"]
    assert np.array_equal(found["arr_0"], ITEMS) and found["arr_1"].tolist() == [1, 2]
    assert found["depth"].tolist() == [3] and found["b"]["c"] == 4


@pytest.mark.parametrize(
    ("arrays", "named", "error"),
    [
        ((), {}, TypeError),
        (([object()],), {}, zarrcy.UnknownExtensionError),
        (([1],), {"a": [object()]}, zarrcy.UnknownExtensionError),
        (([1],), {"a": [[1], [1, 2]]}, ValueError),
        (([1],), {"../a": [1]}, ValueError),
        (([1], [2]), {"arr_1": [1]}, TypeError),
    ],
)
def test_what_cannot_be_saved_is_an_error_before_anything_is_written(
    tmp_path: Path, arrays: Any, named: Any, error: Any
) -> None:
    for name in ("a", "a.zip"):
        with pytest.raises(error):
            zarrcy.save(tmp_path / name, *arrays, **named)
        assert not (tmp_path / name).exists()


def test_loading_nothing_is_an_error_that_makes_nothing(tmp_path: Path) -> None:
    for name in ("a", "a.zip"):
        with pytest.raises(zarrcy.NodeNotFoundError):
            zarrcy.load(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(MetadataError, match="zarr_format"):
        zarrcy.create(shape=1, zarr_format=5)
