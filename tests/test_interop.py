"""zarrcy and its peers share arrays, both ways.

What one writes the others read, over data type, codec, format and sharding.

The peers are zarr-python, tensorstore and zarrs, in the versions that install on the running Python. They are
requirements, not options. Codecs are given as in the metadata documents, so that all four take the same text.
"""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import tensorstore
import zarr
import zarr.registry
import zarr.storage
import zarrs  # noqa: F401  the codec pipeline that zarr-python finds by name

import zarrcy
from zarrcy.stores.zip import ZipStore

SHAPE, CHUNKS = (13, 10), (4, 6)

# Written as the peers write them: the byte order is in the data type in v2 and in the `bytes` codec in v3.
DTYPES = "|b1 |i1 |u1 <i2 <u2 <i4 <u4 <i8 <u8 <f2 <f4 <f8 <c8 <c16".split()
ZARR_DTYPES = [*DTYPES, "<M8[ns]", "<M8[10s]", "<m8[D]", "|S5", "<U4", "|V6"]


def dtypes_of_zarr(chain: str) -> list[str]:
    """All of them; zarr-python 3.1, the last for Python 3.11, fails on raw bytes in shards."""
    old = tuple(map(int, zarr.__version__.split(".")[:2])) < (3, 2)
    return [dtype for dtype in ZARR_DTYPES if not (old and chain.startswith("sharded") and dtype == "|V6")]


def codec(name: str, **configuration: Any) -> dict[str, Any]:
    return {"name": name, "configuration": configuration} if configuration else {"name": name}


LITTLE, BIG, CRC32C = codec("bytes", endian="little"), codec("bytes", endian="big"), codec("crc32c")
ZSTD = codec("zstd", level=3, checksum=False)


def blosc(cname: str, shuffle: str) -> dict[str, Any]:
    return codec("blosc", cname=cname, clevel=5, shuffle=shuffle, typesize=4, blocksize=0)


def sharded(*codecs: Any, chunk_shape: tuple[int, ...] = (2, 3), location: str = "end") -> dict[str, Any]:
    index = [LITTLE, CRC32C]
    return codec(
        "sharding_indexed",
        chunk_shape=list(chunk_shape),
        codecs=list(codecs),
        index_codecs=index,
        index_location=location,
    )


V3: dict[str, list[dict[str, Any]]] = {
    "raw": [LITTLE],
    "big_endian": [BIG],
    "zstd": [LITTLE, ZSTD],
    "zstd_checksum": [LITTLE, codec("zstd", level=1, checksum=True)],
    "gzip": [LITTLE, codec("gzip", level=1)],
    "crc32c": [LITTLE, CRC32C],
    "zstd_crc32c": [LITTLE, ZSTD, CRC32C],
    "transpose": [codec("transpose", order=[1, 0]), LITTLE, ZSTD],
    "blosc_lz4": [LITTLE, blosc("lz4", "shuffle")],
    "blosc_zstd": [LITTLE, blosc("zstd", "bitshuffle")],
    "blosc_zlib": [LITTLE, blosc("zlib", "noshuffle")],
    "blosc_blosclz": [LITTLE, blosc("blosclz", "shuffle")],
    "blosc_lz4hc": [LITTLE, blosc("lz4hc", "shuffle")],
    "sharded_raw": [sharded(LITTLE)],
    "sharded_zstd": [sharded(LITTLE, ZSTD)],
    "sharded_start_big_crc32c": [sharded(BIG, CRC32C, location="start")],
    "sharded_blosc": [sharded(LITTLE, blosc("lz4", "shuffle"))],
    "sharded_transpose": [sharded(codec("transpose", order=[1, 0]), LITTLE, codec("gzip", level=1))],
    "sharded_twice": [sharded(sharded(LITTLE, ZSTD, chunk_shape=(1, 3)))],
}
V2: dict[str, dict[str, Any] | None] = {
    "raw": None,
    "zlib": {"id": "zlib", "level": 1},
    "gzip": {"id": "gzip", "level": 1},
    "zstd": {"id": "zstd", "level": 1},
    "bz2": {"id": "bz2", "level": 1},
    **{
        f"blosc_{cname}_{shuffle}": {"id": "blosc", "cname": cname, "clevel": 5, "shuffle": shuffle, "blocksize": 0}
        for cname, shuffle in itertools.product(("lz4", "zstd", "blosclz", "zlib", "lz4hc"), (0, 1, 2))
    },
}


def values(dtype: str, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Every bit pattern is fair.

    The bytes come from a fixed generator. Only booleans, text and bytes have rules to keep.
    """
    of = np.dtype(dtype)
    random = np.random.default_rng(of.num)
    n = int(np.prod(shape))
    if of.kind == "b":
        return random.integers(0, 2, shape).astype(bool)
    if of.kind == "U":
        return random.choice(["", "a", "é漢", "𝄞𝄞𝄞𝄞"], shape).astype(of)
    if of.kind == "S":
        return random.choice([b"", b"a", b"\xff\x01", b"abcde"], shape).astype(of)
    patterns = np.array([0, 0, 0, 1, 2, 0x7F, 0x80, 0xFF], np.uint8)
    return random.choice(patterns, n * of.itemsize).view(of).reshape(shape)


def same(got: Any, want: np.ndarray) -> bool:
    """Equal in shape, type and every bit, whatever the byte order is."""
    got = np.asarray(got)
    native = want.dtype.newbyteorder("=")
    return (
        got.shape == want.shape
        and got.dtype.newbyteorder("=") == native
        and np.ascontiguousarray(got.astype(native)).tobytes() == np.ascontiguousarray(want.astype(native)).tobytes()
    )


@contextlib.contextmanager
def peer() -> Iterator[None]:
    """Warnings of the peers are theirs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def with_tensorstore(path: Path, zarr_format: int, **options: Any) -> Any:
    driver = {2: "zarr", 3: "zarr3"}[zarr_format]
    return tensorstore.open({"driver": driver, "kvstore": {"driver": "file", "path": f"{path}/"}, **options}).result()


def metadata_v3(dtype: str, codecs: list[dict[str, Any]], chunks: tuple[int, ...] = CHUNKS) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": SHAPE,
        "data_type": np.dtype(dtype).name,
        "chunk_grid": codec("regular", chunk_shape=chunks),
        "chunk_key_encoding": codec("default", separator="/"),
        "fill_value": {"c": [0, 0], "b": False}.get(np.dtype(dtype).kind, 0),
        "codecs": codecs,
    }


def in_zarr(codecs: list[dict[str, Any]]) -> dict[str, Any]:
    """A chain as zarr-python takes it: filters, serializer, compressors, from the same text."""
    objects = [zarr.registry.get_codec_class(each["name"]).from_dict(each) for each in codecs]
    at = next(i for i, each in enumerate(codecs) if each["name"] in ("bytes", "sharding_indexed"))
    return {"filters": objects[:at], "serializer": objects[at], "compressors": objects[at + 1 :]}


@pytest.mark.parametrize("chain", V3)
def test_peers_read_a_v3_array_of_zarrcy(chain: str, tmp_path: Path) -> None:
    for i, dtype in enumerate(dtypes_of_zarr(chain)):
        path, want = tmp_path / str(i), values(dtype)
        a = zarrcy.create_array(path, shape=SHAPE, chunks=CHUNKS, dtype=dtype, codecs=V3[chain])
        a[...] = want
        with peer():
            assert same(zarr.open_array(path, mode="r")[...], want), dtype
            if dtype in DTYPES:
                assert same(with_tensorstore(path, 3).read().result(), want), dtype


@pytest.mark.parametrize("chain", V3)
def test_zarrcy_reads_v3_arrays_of_peers(chain: str, tmp_path: Path) -> None:
    for i, dtype in enumerate(dtypes_of_zarr(chain)):
        want, theirs = values(dtype), tmp_path / f"zarr{i}"
        with peer():
            a = zarr.create_array(
                theirs, shape=SHAPE, chunks=CHUNKS, dtype=np.dtype(dtype), zarr_format=3, **in_zarr(V3[chain])
            )
            a[...] = want
        assert same(zarrcy.open_array(theirs, mode="r")[...], want), dtype
        if dtype in DTYPES:
            path = tmp_path / f"tensorstore{i}"
            with_tensorstore(path, 3, create=True, metadata=metadata_v3(dtype, V3[chain])).write(want).result()
            assert same(zarrcy.open_array(path, mode="r")[...], want), dtype


def v2_dtypes(chain: str) -> Iterator[str]:
    """Both byte orders of all; for the many settings of blosc, one of each item size."""
    for dtype in ["|i1", "<i2", "<f4", "<M8[ns]", "<c16", "|S5"] if chain.startswith("blosc") else ZARR_DTYPES:
        yield dtype
        if dtype[0] == "<":
            yield ">" + dtype[1:]


@pytest.mark.parametrize("chain", V2)
def test_peers_read_a_v2_array_of_zarrcy(chain: str, tmp_path: Path) -> None:
    orders = itertools.cycle("CF")
    for i, dtype in enumerate(v2_dtypes(chain)):
        path, want = tmp_path / str(i), values(dtype)
        options = {"zarr_format": 2, "compressor": V2[chain], "order": next(orders)}
        a = zarrcy.create_array(path, shape=SHAPE, chunks=CHUNKS, dtype=dtype, **options)
        a[...] = want
        assert a.dtype == np.dtype(dtype).newbyteorder("=")
        with peer():
            assert same(zarr.open_array(path, mode="r")[...], want), dtype
            if dtype.replace(">", "<") in DTYPES:
                assert same(with_tensorstore(path, 2).read().result(), want), dtype


@pytest.mark.parametrize("chain", V2)
def test_zarrcy_reads_v2_arrays_of_peers(chain: str, tmp_path: Path) -> None:
    orders, separators = itertools.cycle("CFF"), itertools.cycle("./")
    compressor = V2[chain]
    for i, dtype in enumerate(v2_dtypes(chain)):
        want, theirs = values(dtype), tmp_path / f"zarr{i}"
        order, separator = next(orders), next(separators)
        with peer():
            a = zarr.create_array(
                theirs,
                shape=SHAPE,
                chunks=CHUNKS,
                dtype=np.dtype(dtype),
                zarr_format=2,
                order=order,
                chunk_key_encoding={"name": "v2", "separator": separator},
                compressors=compressor and numcodecs.get_codec(compressor),
            )
            a[...] = want
        assert same(zarrcy.open_array(theirs, mode="r")[...], want), dtype
        if dtype.replace(">", "<") in DTYPES:
            path = tmp_path / f"tensorstore{i}"
            metadata = {
                "shape": SHAPE,
                "chunks": CHUNKS,
                "dtype": dtype,
                "order": order,
                "dimension_separator": separator,
            }
            metadata |= {"compressor": compressor, "fill_value": None}
            with_tensorstore(path, 2, create=True, metadata=metadata).write(want).result()
            assert same(zarrcy.open_array(path, mode="r")[...], want), dtype


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_peers_read_what_zarrcy_writes_by_default(zarr_format: int, tmp_path: Path) -> None:
    for i, dtype in enumerate(ZARR_DTYPES):
        path, want = tmp_path / str(i), values(dtype)
        zarrcy.create_array(path, shape=SHAPE, dtype=dtype, zarr_format=zarr_format)[...] = want
        with peer():
            assert same(zarr.open_array(path, mode="r")[...], want), dtype
            if dtype in DTYPES:
                assert same(with_tensorstore(path, zarr_format).read().result(), want), dtype


@pytest.mark.parametrize(
    "chain", ["raw", "zstd", "gzip", "blosc_lz4", "crc32c", "sharded_zstd", "sharded_raw", "sharded_blosc"]
)
def test_zarrs_reads_what_zarrcy_writes_and_the_reverse(chain: str, tmp_path: Path) -> None:
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "codec_pipeline.strict": True}):
        for i, dtype in enumerate(DTYPES):
            if chain == "sharded_blosc" and np.dtype(dtype).itemsize == 1:
                continue  # zarrs 0.2.3 fails on its own: blosc frames whose length is no multiple of the typesize
            want, ours, theirs = values(dtype), tmp_path / f"ours{i}", tmp_path / f"theirs{i}"
            zarrcy.create_array(ours, shape=SHAPE, chunks=CHUNKS, dtype=dtype, codecs=V3[chain])[...] = want
            with peer():
                assert same(zarr.open_array(ours, mode="r")[...], want), dtype
                a = zarr.create_array(theirs, shape=SHAPE, chunks=CHUNKS, dtype=np.dtype(dtype), **in_zarr(V3[chain]))
                a[...] = want
            assert same(zarrcy.open_array(theirs, mode="r")[...], want), dtype


@pytest.mark.parametrize("chain", ["zstd", "sharded_zstd", "sharded_start_big_crc32c", "sharded_twice", "blosc_lz4"])
def test_all_write_parts_of_one_array_in_turn(chain: str, tmp_path: Path) -> None:
    want = np.zeros(SHAPE, "<f4")
    ours = zarrcy.create_array(tmp_path, shape=SHAPE, chunks=CHUNKS, dtype="<f4", codecs=V3[chain])
    with peer():
        writers = [ours, zarr.open_array(tmp_path, mode="r+"), with_tensorstore(tmp_path, 3)]
        parts = [np.s_[1:9, 2:7], np.s_[0:3, :], np.s_[5:12, 5:10], np.s_[:, 4:5], np.s_[12:13, 0:10], np.s_[2:11, 3:9]]
        for i, (part, writer) in enumerate(zip(parts, itertools.cycle(writers))):
            want[part] = writer_value = i + 1.5
            writer[part] = np.full(want[part].shape, writer_value, "<f4")
            assert same(zarrcy.open_array(tmp_path, mode="r")[...], want), i
            assert same(zarr.open_array(tmp_path, mode="r")[...], want), i
            assert same(with_tensorstore(tmp_path, 3).read().result(), want), i


FILLS: list[tuple[str, Any]] = [
    ("<f4", np.nan),
    ("<f8", np.inf),
    ("<f2", -np.inf),
    ("<f8", -0.0),
    ("<f8", 0.1),
    ("<c16", complex(np.nan, -np.inf)),
    ("<u8", 2**64 - 1),
    ("<i8", -(2**63)),
    ("|b1", True),
    ("<M8[s]", np.datetime64("2001-02-03T04:05:06")),
    ("<m8[ms]", np.timedelta64("NaT", "ms")),
    ("|S4", b"ab"),
    ("<U3", "ñ漢"),
    ("|V3", np.void(b"\x01\x00\xff")),
]


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(("dtype", "fill"), FILLS, ids=str)
def test_a_fill_value_means_the_same_to_all(zarr_format: int, dtype: str, fill: Any, tmp_path: Path) -> None:
    options = {"shape": (3,), "chunks": (2,), "zarr_format": zarr_format, "fill_value": fill}
    want = np.full((3,), fill, dtype)
    zarrcy.create_array(tmp_path / "ours", dtype=dtype, **options)
    with peer():
        zarr.create_array(tmp_path / "theirs", dtype=np.dtype(dtype), **options)
        assert same(zarr.open_array(tmp_path / "ours", mode="r")[...], want)
        if dtype in DTYPES:
            assert same(with_tensorstore(tmp_path / "ours", zarr_format).read().result(), want)
    assert same(zarrcy.open_array(tmp_path / "theirs", mode="r")[...], want)
    assert (
        np.asarray(zarrcy.open_array(tmp_path / "theirs", mode="r").fill_value, dtype).tobytes() == want[:1].tobytes()
    )


def test_a_fill_value_with_a_payload_is_the_same_to_tensorstore(tmp_path: Path) -> None:
    """zarr-python reads every NaN as the one NaN; tensorstore keeps the bits."""
    want = np.frombuffer(b"\x34\x12\xc0\x7f" * 3, "<f4")
    zarrcy.create_array(tmp_path, shape=(3,), chunks=(2,), dtype="<f4", fill_value=want[0])
    assert same(with_tensorstore(tmp_path, 3).read().result(), want)
    assert same(zarrcy.open_array(tmp_path, mode="r")[...], want)


ATTRIBUTES = {"title": "été 🌊", "nested": {"a": [1, 2.5, None, True], "b": {}}, "big": 2**60, "empty": ""}


def tree_of_zarrcy(store: Any, zarr_format: int) -> None:
    root = zarrcy.create_group(store, zarr_format=zarr_format, attributes=ATTRIBUTES)
    inner = root.create_group("ocean/surface", attributes={"depth": 0})
    a = inner.create_array("tos", shape=SHAPE, chunks=CHUNKS, dtype="<f4", attributes={"units": "°C"})
    a[...] = values("<f4")
    root.create_array("z", shape=(), dtype="<i4")[...] = 7


def tree_of_zarr(store: Any, zarr_format: int) -> None:
    root = zarr.create_group(store, zarr_format=zarr_format, attributes=ATTRIBUTES)
    inner = root.create_group("ocean/surface", attributes={"depth": 0})
    a = inner.create_array("tos", shape=SHAPE, chunks=CHUNKS, dtype="<f4", attributes={"units": "°C"})
    a[...] = values("<f4")
    root.create_array("z", shape=(), chunks=(), dtype="<i4")[...] = 7


def check_tree(root: Any) -> None:
    """The same questions to a group of zarrcy and to one of zarr-python."""
    assert dict(root.attrs) == ATTRIBUTES
    assert sorted(root.keys()) == ["ocean", "z"]
    assert dict(root["ocean/surface"].attrs) == {"depth": 0}
    tos = root["ocean"]["surface"]["tos"]
    assert dict(tos.attrs) == {"units": "°C"}
    assert same(tos[...], values("<f4"))
    assert root["z"][()] == 7
    assert "ocean/surface/tos" in root
    assert "ocean/surface/sos" not in root


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_groups_and_attributes_cross_in_both_directions(zarr_format: int, tmp_path: Path) -> None:
    tree_of_zarrcy(tmp_path / "ours", zarr_format)
    with peer():
        tree_of_zarr(tmp_path / "theirs", zarr_format)
        check_tree(zarr.open_group(tmp_path / "ours", mode="r", use_consolidated=False))
    check_tree(zarrcy.open_group(tmp_path / "theirs", mode="r"))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_consolidated_metadata_crosses_in_both_directions(zarr_format: int, tmp_path: Path) -> None:
    tree_of_zarrcy(tmp_path / "ours", zarr_format)
    zarrcy.consolidate_metadata(tmp_path / "ours")
    with peer():
        tree_of_zarr(tmp_path / "theirs", zarr_format)
        zarr.consolidate_metadata(tmp_path / "theirs", zarr_format=zarr_format)
    names = (".zarray", ".zattrs", ".zgroup") if zarr_format == 2 else ("zarr.json",)
    for path in list(tmp_path.glob("*/*/**/*")):
        if path.name in names:
            path.unlink()  # only the copy in the root is left
    with peer():
        check_tree(zarr.open_consolidated(tmp_path / "ours", zarr_format=zarr_format))
    check_tree(zarrcy.open_group(tmp_path / "theirs", mode="r"))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zip_archives_cross_in_both_directions(zarr_format: int, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.zip", tmp_path / "theirs.zip"
    with ZipStore(ours, mode="w") as store:
        tree_of_zarrcy(store, zarr_format)
    with peer():
        with zarr.storage.ZipStore(theirs, mode="w") as store:
            tree_of_zarr(store, zarr_format)
        with zarr.storage.ZipStore(ours, mode="r") as store:
            check_tree(zarr.open_group(store, mode="r"))
    with ZipStore(theirs, mode="r") as store:
        check_tree(zarrcy.open_group(store, mode="r"))
    kvstore = {"driver": "zip", "base": {"driver": "file", "path": str(ours)}, "path": "ocean/surface/tos/"}
    array = tensorstore.open({"driver": {2: "zarr", 3: "zarr3"}[zarr_format], "kvstore": kvstore}).result()
    assert same(array.read().result(), values("<f4"))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_resized_array_has_the_same_shape_for_all(zarr_format: int, tmp_path: Path) -> None:
    want = np.vstack([values("<i4"), values("<i4")[:5]])
    ours = zarrcy.create_array(tmp_path, shape=SHAPE, chunks=CHUNKS, dtype="<i4", zarr_format=zarr_format)
    ours[...] = values("<i4")
    ours.append(values("<i4")[:5])
    with peer():
        theirs = zarr.open_array(tmp_path, mode="r+")
        assert same(theirs[...], want)
        theirs.append(want[:3])
    assert same(with_tensorstore(tmp_path, zarr_format).read().result(), np.vstack([want, want[:3]]))
    assert same(zarrcy.open_array(tmp_path, mode="r")[...], np.vstack([want, want[:3]]))


def test_dimension_names_cross_in_both_directions(tmp_path: Path) -> None:
    zarrcy.create_array(tmp_path / "ours", shape=SHAPE, chunks=CHUNKS, dtype="<i4", dimension_names=["time", None])
    with peer():
        zarr.create_array(tmp_path / "theirs", shape=SHAPE, chunks=CHUNKS, dtype="<i4", dimension_names=["time", None])
        assert zarr.open_array(tmp_path / "ours", mode="r").metadata.dimension_names == ("time", None)
    assert with_tensorstore(tmp_path / "ours", 3).domain.labels == ("time", "")
    assert zarrcy.open_array(tmp_path / "theirs", mode="r").metadata.dimension_names == ("time", None)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (5, 4, 3, 2)], ids=str)
def test_unusual_shapes_cross_in_both_directions(zarr_format: int, shape: tuple[int, ...], tmp_path: Path) -> None:
    chunks = tuple(max(1, n // 2) for n in shape)
    want = values("<f8", shape)
    zarrcy.create_array(tmp_path / "ours", shape=shape, chunks=chunks, dtype="<f8", zarr_format=zarr_format)[...] = want
    with peer():
        theirs = zarr.create_array(
            tmp_path / "theirs", shape=shape, chunks=chunks, dtype="<f8", zarr_format=zarr_format
        )
        theirs[...] = want
        assert same(zarr.open_array(tmp_path / "ours", mode="r")[...], want)
    assert same(with_tensorstore(tmp_path / "ours", zarr_format).read().result(), want)
    assert same(zarrcy.open_array(tmp_path / "theirs", mode="r")[...], want)
