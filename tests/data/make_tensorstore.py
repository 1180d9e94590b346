"""Write tests/data/tensorstore: what tensorstore writes, v2 and v3.

Run with the versions in tests/data/tensorstore/versions.json: python make_tensorstore.py
"""

from __future__ import annotations

import importlib.metadata
import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore
from formulas import describe, pack, values

SOME = [[[0, 3], [4, 7]], [[3, 5], [0, 4]]]
V3_DTYPES = "|b1 |i1 |u1 <i2 <u2 <i4 <u4 <i8 <u8 <f2 <f4 <f8 <c8 <c16".split()
V2_DTYPES = [*V3_DTYPES, "|S5", "|V4", *(">" + dtype[1:] for dtype in V3_DTYPES if dtype[0] == "<")]
LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
BIG = {"name": "bytes", "configuration": {"endian": "big"}}
CRC32C = {"name": "crc32c"}


def codec(name: str, **configuration: Any) -> dict[str, Any]:
    return {"name": name, "configuration": configuration}


def sharding(
    chunk_shape: list[int], *codecs: Any, index: Any = (LITTLE, CRC32C), location: str = "end"
) -> dict[str, Any]:
    return codec(
        "sharding_indexed", chunk_shape=chunk_shape, codecs=codecs, index_codecs=index, index_location=location
    )


class Tree:
    """One directory: creates arrays with tensorstore and takes down what they must decode to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.about: dict[str, Any] = {}

    def write(
        self,
        path: str,
        driver: str,
        metadata: dict[str, Any],
        dtype: str,
        *,
        fill: Any,
        written: Any,
        facts: dict[str, Any],
    ) -> None:
        shape = tuple(metadata["shape"])
        kvstore = {"driver": "file", "path": f"{self.root / path}/"}
        array = tensorstore.open({"driver": driver, "kvstore": kvstore, "metadata": metadata, "create": True}).result()
        self.about[path] = describe(shape, dtype, fill=fill, written=written, **facts)
        whole = values(shape, dtype)
        if whole.dtype.kind in "SV":  # tensorstore has them as an inner axis of characters or bytes
            whole = whole.view("S1" if whole.dtype.kind == "S" else "V1").reshape(*shape, -1)
        for region in self.about[path]["written"]:
            array[tuple(slice(*span) for span in region)].write(whole[tuple(slice(*span) for span in region)]).result()

    def v2(
        self,
        path: str,
        shape: tuple[int, ...] = (5, 7),
        chunks: tuple[int, ...] = (3, 4),
        dtype: str = "<f4",
        *,
        spelling: Any = None,
        fill: Any = None,
        written: Any = None,
        order: str = "C",
        separator: str = ".",
        compressor: Any = None,
    ) -> None:
        metadata = {"shape": shape, "chunks": chunks, "dtype": dtype, "fill_value": spelling, "order": order}
        metadata |= {"compressor": compressor, "filters": None, "dimension_separator": separator}
        self.write(path, "zarr", metadata, dtype, fill=fill, written=written, facts={})

    def v3(
        self,
        path: str,
        shape: tuple[int, ...] = (5, 7),
        chunks: tuple[int, ...] = (3, 4),
        dtype: str = "<f4",
        *,
        spelling: Any = ...,
        fill: Any = None,
        written: Any = None,
        codecs: Any = (LITTLE,),
        keys: Any = None,
        **more: Any,
    ) -> None:
        kind = np.dtype(dtype).kind
        zero = {"c": [0, 0], "b": False}.get(kind, 0)
        metadata = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": shape,
            "data_type": np.dtype(dtype).name,
            "chunk_grid": codec("regular", chunk_shape=chunks),
            "chunk_key_encoding": keys or {"name": "default"},
            "fill_value": zero if spelling is ... else spelling,
            "codecs": codecs,
            **more,
        }
        self.write(path, "zarr3", metadata, dtype, fill=fill, written=written, facts=more)


FILLS: dict[str, tuple[str, Any, Any]] = {
    "nan": ("<f4", "NaN", np.nan),
    "inf": ("<f8", "Infinity", np.inf),
    "minus_inf": ("<f2", "-Infinity", -np.inf),
    "minus_zero": ("<f8", -0.0, -0.0),
    "bool": ("|b1", True, True),
    "uint64": ("<u8", 2**64 - 1, 2**64 - 1),
    "int64": ("<i8", -(2**63), -(2**63)),
    "tiny": ("<f8", 5e-324, 5e-324),
}


def v2(tree: Tree) -> None:
    for dtype in V2_DTYPES:
        tree.v2(f"dtypes/{'big_' * (dtype[0] == '>')}{np.dtype(dtype).name}", dtype=dtype)
    for name, (dtype, spelling, fill) in {
        **FILLS,
        "complex": ("<c16", ["NaN", "-Infinity"], complex(np.nan, -np.inf)),
    }.items():
        tree.v2(f"fill/{name}", dtype=dtype, spelling=spelling, fill=fill, written=SOME)
    tree.v2("fill/null", written=[[[0, 3], [4, 7]]])
    tree.v2("shapes/scalar", (), (), "<i4")
    tree.v2("shapes/no_items", (0,), (4,), "<i2", written=[])
    tree.v2("shapes/edges_3d", (5, 4, 7), (2, 3, 4), "<i4")
    for order, separator in itertools.product("CF", "./"):
        name = f"layout/{order}_{'dot' if separator == '.' else 'slash'}"
        tree.v2(
            name, (5, 4, 7), (2, 3, 4), ">i4", order=order, separator=separator, compressor={"id": "zlib", "level": 1}
        )
    compressors: dict[str, Any] = {name: {"id": name, "level": 3} for name in ("zstd", "gzip", "zlib", "bz2")}
    for cname, shuffle in itertools.product(("lz4", "lz4hc", "blosclz", "zlib", "zstd"), (-1, 0, 1, 2)):
        compressors[f"blosc_{cname}_{shuffle}"] = {
            "id": "blosc",
            "cname": cname,
            "clevel": 5,
            "shuffle": shuffle,
            "blocksize": 0,
        }
    for name, compressor in compressors.items():
        tree.v2(f"compressors/{name}", (40, 30), (24, 20), "<i4", compressor=compressor)


def v3(tree: Tree) -> None:
    for dtype in V3_DTYPES:
        tree.v3(f"dtypes/{np.dtype(dtype).name}", dtype=dtype)
        if np.dtype(dtype).itemsize > 1:
            tree.v3(f"big_endian/{np.dtype(dtype).name}", dtype=dtype, codecs=[BIG])
    hexadecimal = {
        "payload": ("<f4", "0x7fc01234", np.frombuffer(b"\x34\x12\xc0\x7f", "<f4")[0]),
        "negative_nan": ("<f8", "0xfff8000000000001", np.frombuffer(b"\x01\0\0\0\0\0\xf8\xff", "<f8")[0]),
        "complex": ("<c8", ["NaN", "0xc0490fdb"], np.frombuffer(b"\0\0\xc0\x7f\xdb\x0f\x49\xc0", "<c8")[0]),
    }
    for name, (dtype, spelling, fill) in {**FILLS, **hexadecimal}.items():
        tree.v3(f"fill/{name}", dtype=dtype, spelling=spelling, fill=fill, written=SOME)
    tree.v3("shapes/scalar", (), (), "<i4")
    tree.v3("shapes/no_items", (0,), (4,), "<i2", written=[])
    tree.v3("shapes/edges_3d", (5, 4, 7), (2, 3, 4), "<i4")
    for name, separator in itertools.product(("default", "v2"), "./"):
        tree.v3(f"keys/{name}_{'dot' if separator == '.' else 'slash'}", keys=codec(name, separator=separator))
    tree.v3("names/some", dimension_names=["x", None], attributes={"units": "°C", "nested": [{"a": None}]})
    chains: dict[str, Any] = {
        "zstd": [codec("zstd", level=3)],
        "zstd_checksum": [codec("zstd", level=3, checksum=True)],
        "gzip": [codec("gzip", level=3)],
        "crc32c": [CRC32C],
        "zstd_crc32c": [codec("zstd", level=1), CRC32C],
    }
    for cname, shuffle in itertools.product(
        ("lz4", "lz4hc", "blosclz", "zlib", "zstd"), ("noshuffle", "shuffle", "bitshuffle")
    ):
        chains[f"blosc_{cname}_{shuffle}"] = [
            codec("blosc", cname=cname, clevel=5, shuffle=shuffle, typesize=4, blocksize=0)
        ]
    for name, chain in chains.items():
        tree.v3(f"codecs/{name}", (40, 30), (24, 20), "<i4", codecs=[LITTLE, *chain])
    snappy = codec("blosc", cname="snappy", clevel=5, shuffle="shuffle", typesize=4, blocksize=0)
    tree.v3("refused/blosc_snappy", (40, 30), (24, 20), "<i4", codecs=[LITTLE, snappy])
    cube: Any = ((5, 4, 7), (2, 3, 4), "<i4")
    transpose = codec("transpose", order=[2, 0, 1])
    tree.v3("codecs/transpose", *cube, codecs=[transpose, BIG, codec("gzip", level=1)])
    tree.v3("codecs/transpose_twice", *cube, codecs=[transpose, codec("transpose", order=[1, 0, 2]), LITTLE])
    shards(tree)


def shards(tree: Tree) -> None:
    def sharded(
        name: str, *codecs: Any, shape: tuple[int, ...] = (11, 14), outer: tuple[int, ...] = (6, 8), **options: Any
    ) -> None:
        tree.v3(f"shards/{name}", shape, outer, codecs=codecs, **options)

    zstd, some = codec("zstd", level=3), [[[0, 3], [4, 7]], [[9, 11], [0, 4]]]
    for location, (name, index) in itertools.product(
        ("start", "end"), {"plain": [LITTLE], "crc32c": [LITTLE, CRC32C]}.items()
    ):
        sharded(f"{location}_{name}", sharding([3, 4], LITTLE, zstd, index=index, location=location))
        sharded(
            f"{location}_{name}_missing",
            sharding([3, 4], LITTLE, index=index, location=location),
            spelling=7.5,
            fill=7.5,
            written=some,
        )
    sharded("big_endian", sharding([3, 4], BIG, index=[BIG, CRC32C]), dtype="<i4")
    blosc = codec("blosc", cname="lz4", clevel=5, shuffle="shuffle", typesize=4, blocksize=0)
    sharded("inner_blosc", sharding([3, 4], LITTLE, blosc))
    sharded("inner_zstd_crc32c", sharding([3, 4], LITTLE, zstd, CRC32C))
    sharded("inner_transpose", sharding([3, 4], codec("transpose", order=[1, 0]), LITTLE, codec("gzip", level=1)))
    sharded("transpose_outside", codec("transpose", order=[1, 0]), sharding([4, 3], LITTLE, zstd))
    nested = sharding([6, 4], sharding([2, 2], LITTLE, zstd, location="start"))
    sharded("nested", nested, shape=(25, 14), outer=(12, 8))
    sharded("nested_missing", nested, shape=(25, 14), outer=(12, 8), spelling=3, fill=3, written=[[[0, 2], [4, 6]]])


def main() -> None:
    here = Path(__file__).resolve().parent / "tensorstore"
    for make in (v2, v3):
        with tempfile.TemporaryDirectory() as temporary:
            tree = Tree(Path(temporary))
            make(tree)
            versions = {"tensorstore": importlib.metadata.version("tensorstore")}
            pack(tree.root, here / f"{make.__name__}.zip", tree.about, versions)


if __name__ == "__main__":
    main()
