"""Write tests/data/zarr_python: what zarr-python writes, v2 and v3.

Run with the versions in tests/data/zarr_python/versions.json: python make_zarr_python.py
"""

from __future__ import annotations

import itertools
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr
from formulas import describe, pack, values, write_json
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, TransposeCodec, ZstdCodec

DTYPES = "|b1 |i1 |u1 <i2 <u2 <i4 <u4 <i8 <u8 <f2 <f4 <f8 <c8 <c16 <M8[ns] <M8[10s] <m8[D] <m8[us] |S5 <U4 |V6".split()
ATTRIBUTES = {"title": "温度 – été 🌊", "nested": {"a": [1, 2.5, None, True], "b": {}}, "empty": "", "bound": 2**53}


class Tree:
    """One hierarchy: creates arrays with zarr-python and takes down what they must decode to."""

    def __init__(self, root: Path, zarr_format: int) -> None:
        self.root, self.zarr_format = root, zarr_format
        self.about: dict[str, Any] = {"": {"kind": "group", "attributes": ATTRIBUTES}}
        self.group = zarr.create_group(root, zarr_format=zarr_format, attributes=ATTRIBUTES)

    def array(
        self,
        path: str,
        shape: tuple[int, ...] = (5, 7),
        chunks: tuple[int, ...] = (3, 4),
        dtype: str = "<f4",
        fill: Any = ...,
        written: list[Any] | None = None,
        facts: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if fill is not ...:
            options["fill_value"] = fill
        options.setdefault("compressors", None)
        a = self.group.create_array(path, shape=shape, chunks=chunks, dtype=np.dtype(dtype), **options)
        self.about[path] = describe(shape, dtype, fill=None if fill is ... else fill, written=written, **(facts or {}))
        whole = values(shape, dtype, finite="finite" in self.about[path])
        for region in self.about[path]["written"]:
            at = tuple(slice(*span) for span in region)
            a[at if shape else ()] = whole[at]

    def finish(self, archive: Path, **versions: Any) -> None:
        for path in list(self.about):
            for parent in list(Path(path).parents)[:-1]:
                self.about.setdefault(str(parent), {"kind": "group", "attributes": {}})
        pack(self.root, archive, self.about, {"zarr": zarr.__version__, "numcodecs": numcodecs.__version__, **versions})


def common(tree: Tree) -> None:
    """What both formats have: data types, shapes, fill values, missing chunks, attributes."""
    for dtype in DTYPES:
        tree.array(f"dtypes/{np.dtype(dtype).name}", dtype=dtype)
    tree.array("shapes/scalar", (), (), "<i4")
    tree.array("shapes/scalar_unwritten", (), (), "<f8", fill=2.5, written=[])
    tree.array("shapes/no_items", (0,), (4,), "<i2")
    tree.array("shapes/no_items_3d", (3, 0, 2), (2, 2, 2), "<i2")
    tree.array("shapes/one_chunk", (4, 3), (4, 3), "<i2")
    tree.array("shapes/chunk_over_shape", (4, 3), (10, 10), "<i2")
    tree.array("shapes/edges_3d", (5, 4, 7), (2, 3, 4), "<i4")
    tree.array("shapes/five_axes", (2, 3, 2, 2, 3), (1, 2, 2, 1, 2), "<u2")
    some = [[[0, 3], [4, 7]], [[3, 5], [0, 4]]]
    tree.array("missing/some", fill=-1.5, written=some)
    tree.array("missing/all", dtype="<i4", fill=-7, written=[])
    fills = {
        "nan": ("<f4", np.nan),
        "inf": ("<f8", np.inf),
        "minus_inf": ("<f2", -np.inf),
        "minus_zero": ("<f8", -0.0),
        "complex": ("<c16", complex(np.nan, -np.inf)),
        "bool": ("|b1", True),
        "uint64": ("<u8", 2**64 - 1),
        "int64": ("<i8", -(2**63)),
        "date": ("<M8[s]", np.datetime64("2001-02-03T04:05:06")),
        "nat": ("<m8[ms]", np.timedelta64("NaT", "ms")),
        "bytes": ("|S4", b"ab"),
        "text": ("<U3", "ñ漢"),
        "raw": ("|V3", np.void(b"\x01\x00\xff")),
        "tiny": ("<f8", 5e-324),
    }
    for name, (dtype, fill) in fills.items():
        tree.array(f"fill/{name}", dtype=dtype, fill=fill, written=some)
    tree.group["dtypes"].attrs.update({"deep": [[1], [2, [3]]], "unicode ключ": "значение"})
    tree.about["dtypes"] = {"kind": "group", "attributes": {"deep": [[1], [2, [3]]], "unicode ключ": "значение"}}
    attributes = {"units": "K", "missing": float("nan"), "range": [float("-inf"), float("inf")], "_FillValue": -999}
    tree.array("attributes/array", facts={"attributes": attributes}, attributes=attributes)


def v2(root: Path, tree_of: type[Tree] = Tree) -> Tree:
    tree = tree_of(root, 2)
    common(tree)
    for dtype in DTYPES:
        if np.dtype(dtype).byteorder != "|" and np.dtype(dtype).itemsize > 1:
            tree.array(f"big_endian/{np.dtype(dtype).name}", dtype=np.dtype(dtype).newbyteorder(">").str)
    tree.array("fill/null", fill=None)
    tree.array("order/F", order="F")
    tree.array("order/F_3d_zlib", (5, 4, 7), (2, 3, 4), ">i4", order="F", compressors=numcodecs.Zlib(1))
    for separator, name in ((".", "dot"), ("/", "slash")):
        tree.array(f"separator/{name}", chunk_key_encoding={"name": "v2", "separator": separator})
        tree.array(f"separator/{name}_scalar", (), (), chunk_key_encoding={"name": "v2", "separator": separator})
    compressors = {
        "zlib": numcodecs.Zlib(6),
        "gzip": numcodecs.GZip(1),
        "bz2": numcodecs.BZ2(1),
        "lzma": numcodecs.LZMA(),
        "lz4": numcodecs.LZ4(),
        "zstd": numcodecs.Zstd(3),
        "zstd_checksum": numcodecs.Zstd(1, checksum=True),
    }
    for cname, shuffle in itertools.product(numcodecs.blosc.list_compressors(), range(3)):
        compressors[f"blosc_{cname}_{shuffle}"] = numcodecs.Blosc(cname, 5, shuffle)
    for name, compressor in compressors.items():
        tree.array(f"compressors/{name}", (40, 30), (24, 20), "<i4", compressors=compressor)
    tree.array("compressors/blosc_blocks", (30000,), (20000,), "<i2", compressors=numcodecs.Blosc("lz4", 1, 1, 4096))
    filters: dict[str, Any] = {
        "delta": ("<i4", [numcodecs.Delta("<i4")]),
        "fixedscaleoffset": ("<f8", [numcodecs.FixedScaleOffset(-8.0, 4, "<f8", "<i4")]),
        "shuffle": ("<i8", [numcodecs.Shuffle(8)]),
        "packbits": ("|b1", [numcodecs.PackBits()]),
        "delta_shuffle": ("<u4", [numcodecs.Delta("<u4"), numcodecs.Shuffle(4)]),
        "crc32": ("<u2", [numcodecs.CRC32()]),
    }
    for name, (dtype, chain) in filters.items():
        facts = {"finite": True}
        tree.array(f"filters/{name}", dtype=dtype, facts=facts, filters=chain)
        tree.array(f"filters/{name}_zlib", dtype=dtype, facts=facts, filters=chain, compressors=numcodecs.Zlib(1))
    return tree


def v3(root: Path, tree_of: type[Tree] = Tree) -> Tree:
    tree = tree_of(root, 3)
    common(tree)
    for dtype in DTYPES:
        if np.dtype(dtype).byteorder != "|" and np.dtype(dtype).itemsize > 1:
            tree.array(f"big_endian/{np.dtype(dtype).name}", dtype=dtype, serializer=BytesCodec(endian="big"))
    for name, separator in itertools.product(("default", "v2"), "./"):
        key = f"keys/{name}_{'dot' if separator == '.' else 'slash'}"
        tree.array(key, chunk_key_encoding={"name": name, "separator": separator})
        tree.array(f"{key}_scalar", (), (), chunk_key_encoding={"name": name, "separator": separator})
    tree.array("names/all", dimension_names=["x", "y"], facts={"dimension_names": ["x", "y"]})
    tree.array("names/some", dimension_names=[None, "y"], facts={"dimension_names": [None, "y"]})
    chains: dict[str, Any] = {
        "zstd": ZstdCodec(level=3),
        "zstd_checksum": ZstdCodec(level=-5, checksum=True),
        "gzip": GzipCodec(level=5),
        "crc32c": Crc32cCodec(),
        "zstd_crc32c": (ZstdCodec(level=0), Crc32cCodec()),
        "gzip_zstd": (GzipCodec(level=1), ZstdCodec(level=1)),
    }
    for cname, shuffle in itertools.product(
        ("lz4", "lz4hc", "blosclz", "zlib", "zstd"), ("noshuffle", "shuffle", "bitshuffle")
    ):
        chains[f"blosc_{cname}_{shuffle}"] = BloscCodec(cname=cname, clevel=5, shuffle=shuffle)
    chains["blosc_crc32c"] = (BloscCodec(cname="lz4"), Crc32cCodec())
    for name, chain in chains.items():
        tree.array(f"codecs/{name}", (40, 30), (24, 20), "<i4", compressors=chain)
    transpose = TransposeCodec(order=(2, 0, 1))
    tree.array("codecs/transpose", (5, 4, 7), (2, 3, 4), "<i4", filters=transpose)
    tree.array(
        "codecs/transpose_big_zstd",
        (5, 4, 7),
        (2, 3, 4),
        "<f8",
        filters=transpose,
        serializer=BytesCodec(endian="big"),
        compressors=ZstdCodec(),
    )
    tree.array(
        "codecs/transpose_twice", (5, 4, 7), (2, 3, 4), "<i2", filters=[transpose, TransposeCodec(order=(1, 0, 2))]
    )
    shards(tree)
    return tree


def shards(tree: Tree) -> None:
    def sharded(
        name: str, outer: tuple[int, ...], codec: ShardingCodec, shape: tuple[int, ...] = (11, 14), **options: Any
    ) -> None:
        tree.array(f"shards/{name}", shape, outer, serializer=codec, **options)

    little, big = BytesCodec(), BytesCodec(endian="big")
    some = [[[0, 3], [4, 7]], [[8, 11], [0, 4]]]
    for location in ("start", "end"):
        for index in ("plain", "crc32c"):
            index_codecs = [little, Crc32cCodec()] if index == "crc32c" else [little]
            codec = ShardingCodec(
                chunk_shape=(3, 4), codecs=[little, ZstdCodec()], index_codecs=index_codecs, index_location=location
            )
            sharded(f"{location}_{index}", (6, 8), codec)
            sharded(f"{location}_{index}_missing", (6, 8), codec, fill=7.5, written=some)
    big_index = ShardingCodec(chunk_shape=(3, 4), codecs=[big], index_codecs=[big, Crc32cCodec()])
    sharded("big_endian", (6, 8), big_index, dtype="<i4")
    inner = {
        "raw": [little],
        "crc32c": [little, Crc32cCodec()],
        "gzip": [little, GzipCodec(level=1)],
        "blosc": [little, BloscCodec(cname="lz4", typesize=4)],
        "zstd_crc32c": [little, ZstdCodec(), Crc32cCodec()],
        "transpose": [TransposeCodec(order=(1, 0)), little, ZstdCodec()],
    }
    for name, chain in inner.items():
        sharded(f"inner_{name}", (6, 8), ShardingCodec(chunk_shape=(3, 4), codecs=chain))
    transposed = ShardingCodec(chunk_shape=(6, 3), codecs=[little])
    sharded("transpose_outside", (6, 12), transposed, filters=TransposeCodec(order=(1, 0)))
    sharded("zstd_outside", (6, 8), ShardingCodec(chunk_shape=(3, 4), codecs=[little]), compressors=ZstdCodec())
    nested = ShardingCodec(chunk_shape=(2, 2), codecs=[little, GzipCodec(level=1)], index_location="start")
    sharded("nested", (12, 8), ShardingCodec(chunk_shape=(6, 4), codecs=[nested]), (25, 14))
    sharded(
        "nested_missing",
        (12, 8),
        ShardingCodec(chunk_shape=(6, 4), codecs=[nested]),
        (25, 14),
        fill=3,
        written=[[[0, 3], [4, 7]]],
    )
    sharded("bool", (6, 8), ShardingCodec(chunk_shape=(3, 4), codecs=[little, ZstdCodec()]), dtype="|b1")
    sharded(
        "text",
        (6, 8),
        ShardingCodec(chunk_shape=(3, 4), codecs=[little, ZstdCodec()]),
        dtype="<U4",
        fill="-",
        written=some,
    )


def main() -> None:
    warnings.simplefilter("ignore")
    here = Path(__file__).resolve().parent / "zarr_python"
    with tempfile.TemporaryDirectory() as temporary:
        for make in (v2, v3):
            tree = make(Path(temporary) / make.__name__)
            tree.finish(here / f"{make.__name__}.zip")
            consolidate(tree, here)
    written_as_zip(here)


def consolidate(tree: Tree, here: Path) -> None:
    """The same kind of tree, small, with the metadata of all nodes in the root."""
    root = tree.root.with_name(f"consolidated_v{tree.zarr_format}")
    small = Tree(root, tree.zarr_format)
    small.array("a/b/temperature", facts={"attributes": {"units": "K"}}, attributes={"units": "K"})
    small.array("a/empty", dtype="<i4", fill=3, written=[])
    small.array("z", (), (), "<f8")
    zarr.consolidate_metadata(root, zarr_format=tree.zarr_format)
    small.finish(here / f"{root.name}.zip")


def written_as_zip(here: Path) -> None:
    """An archive as zarr's own ZipStore leaves it."""
    archive = here / "zipstore.zip"
    archive.unlink(missing_ok=True)
    about: dict[str, Any] = {"": {"kind": "group", "attributes": {}}}
    with zarr.storage.ZipStore(archive, mode="w") as store:
        root = zarr.create_group(store, zarr_format=3)
        for name, options in {"plain": {}, "sharded": {"shards": (6, 8)}}.items():
            a = root.create_array(
                name, shape=(11, 14), chunks=(3, 4), dtype="<f4", attributes={"name": name}, **options
            )
            a[...] = values((11, 14), "<f4")
            about[name] = describe((11, 14), "<f4", attributes={"name": name})
    write_json(archive.with_suffix(".expected.json"), about)


if __name__ == "__main__":
    main()
