"""Writes what zarr-python and tensorstore make of metadata: zarr_python.json and tensorstore.json beside this file.

Run it where both are installed (zarr 3.4.2 and tensorstore 0.1.86 made the files that are here):
``python tests/data/metadata/make.py``. A case holds the documents as they lie in the store, and what the writer itself
says that they mean.
"""

import json
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

import numcodecs
import numpy as np
import tensorstore
import zarr
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec
from zarr.storage import MemoryStore

HERE = Path(__file__).parent
DOCUMENTS = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")


def bits(value, dtype):
    return np.asarray(value, dtype).tobytes().hex()


def void(data):
    return np.frombuffer(data, f"V{len(data)}")[0]


FILL_VALUES = [
    *[("bool", np.bool_(True)), ("int8", np.int8(-3)), ("int16", np.int16(-300)), ("int32", np.int32(-(2**31)))],
    *[("int64", np.int64(2**63 - 1)), ("uint8", np.uint8(255)), ("uint16", np.uint16(9)), ("uint32", np.uint32(9))],
    *[("uint64", np.uint64(2**64 - 1)), ("float16", np.float16(1.5)), ("float32", np.float32(0.1))],
    *[("float64", np.float64(-0.0)), ("float32", np.float32("nan")), ("float64", np.float64("-inf"))],
    *[("complex64", np.complex64(1 - 2j)), ("complex128", np.complex128(complex(np.nan, np.inf)))],
    *[("M8[ns]", np.datetime64("NaT", "ns")), ("M8[10s]", np.datetime64(5, "10s"))],
    *[
        ("M8[D]", np.datetime64(19000, "D")),
        ("m8[us]", np.timedelta64(-7, "us")),
        ("S5", np.bytes_(b"ab")),
        ("U7", np.str_("h\u00e9\U0001f600")),
    ],
    ("V4", void(b"\x01\x02\x00\xff")),
]


def arrays():
    """Keyword arguments of zarr.create_array, by name."""
    for dtype, fill_value in FILL_VALUES:
        for zarr_format in (2, 3):
            name = f"{dtype} {fill_value!r} v{zarr_format}"
            yield name, {"dtype": dtype, "fill_value": fill_value, "zarr_format": zarr_format, "compressors": None}
    for dtype in (">i4", ">f8", ">c16", ">M8[s]", ">U3"):
        yield f"big-endian {dtype} v2", {"dtype": dtype, "zarr_format": 2, "compressors": None}
    yield "big-endian v3", {"dtype": "i4", "serializer": BytesCodec(endian="big"), "compressors": None}
    yield "default v2", {"dtype": "f4", "zarr_format": 2}
    yield "default v3", {"dtype": "f4"}
    yield "attributes", {"dtype": "f4", "attributes": {"title": "héé", "n": [1, 2.5, None], "missing": float("nan")}}
    yield "dimension names", {"dtype": "f4", "dimension_names": ["x", None]}
    yield (
        "v2 keys with a slash",
        {"dtype": "f4", "zarr_format": 2, "chunk_key_encoding": {"name": "v2", "separator": "/"}},
    )
    yield "dot keys", {"dtype": "f4", "chunk_key_encoding": {"name": "default", "separator": "."}}
    yield "v2 keys in v3", {"dtype": "f4", "chunk_key_encoding": {"name": "v2", "separator": "."}}
    yield "order F v2", {"dtype": "f4", "zarr_format": 2, "order": "F"}
    yield "transposed", {"dtype": "f4", "filters": [TransposeCodec(order=(1, 0))], "compressors": [GzipCodec(level=3)]}
    yield (
        "blosc and crc32c",
        {"dtype": "f4", "compressors": [BloscCodec(cname="lz4", shuffle="bitshuffle"), Crc32cCodec()]},
    )
    yield "zstd with checksum", {"dtype": "f4", "compressors": [ZstdCodec(level=5, checksum=True)]}
    yield "sharded", {"dtype": "f4", "chunks": (5, 5), "shards": (10, 10)}
    for compressor in (
        numcodecs.Zlib(2),
        numcodecs.GZip(3),
        numcodecs.Blosc("zstd", 3, 2),
        numcodecs.LZ4(),
        numcodecs.Zstd(7),
    ):
        yield f"{compressor.codec_id} v2", {"dtype": "f4", "zarr_format": 2, "compressors": compressor}
    delta = numcodecs.Delta(dtype="<i4")
    yield "delta v2", {"dtype": "<i4", "zarr_format": 2, "filters": [delta], "compressors": numcodecs.Zlib(1)}
    yield "no axes v2", {"shape": (), "chunks": (), "dtype": "f4", "zarr_format": 2}
    yield "no axes v3", {"shape": (), "chunks": (), "dtype": "f4"}
    yield "no items", {"shape": (0, 20), "chunks": (1, 10), "dtype": "f4"}


def documents(store):
    return {
        key: value.to_bytes().decode() for key, value in sorted(store._store_dict.items()) if key.endswith(DOCUMENTS)
    }


def zarr_cases():
    for name, options in arrays():
        store = MemoryStore()
        options = {"shape": (30, 20), "chunks": (10, 10), **options}
        array = zarr.create_array(store, **options)
        dtype = array.dtype.newbyteorder("=")
        meaning = {
            "node": "array",
            "zarr_format": array.metadata.zarr_format,
            "shape": list(array.shape),
            "chunk_shape": list(array.shards or array.chunks),
            "dtype": dtype.str,
            "fill_value": None if array.metadata.fill_value is None else bits(array.fill_value, dtype),
            "attributes": json.loads(json.dumps(dict(array.attrs))),
            "last_key": array.metadata.encode_chunk_key((1,) * array.ndim),
        }
        if array.metadata.zarr_format == 2:
            meaning["order"] = array.metadata.order
            meaning["endian"] = {"<": "little", ">": "big"}.get(np.dtype(array.dtype).str[0])
        else:
            meaning["dimension_names"] = array.metadata.dimension_names and list(array.metadata.dimension_names)
            meaning["codecs"] = [codec.to_dict()["name"] for codec in array.metadata.codecs]
        yield {"name": name, "documents": documents(store), "meaning": meaning}
    for zarr_format in (2, 3):
        store = MemoryStore()
        group = zarr.create_group(store, attributes={"title": "ocean"}, zarr_format=zarr_format)
        yield {
            "name": f"group v{zarr_format}",
            "documents": documents(store),
            "meaning": group_meaning(zarr_format, None),
        }
        group.create_array("temperature", shape=(4,), dtype="f4")
        group.create_group("deep").create_array("salt", shape=(5,), dtype="i2")
        zarr.consolidate_metadata(store)
        held = documents(store)
        root = {key: held[key] for key in held if "/" not in key}
        members = {"temperature": [4], "deep": None, "deep/salt": [5]}
        yield {
            "name": f"consolidated v{zarr_format}",
            "documents": root,
            "meaning": group_meaning(zarr_format, members),
        }


def group_meaning(zarr_format, members):
    return {"node": "group", "zarr_format": zarr_format, "attributes": {"title": "ocean"}, "members": members}


def tensorstore_specs():
    gzip = {"name": "gzip", "configuration": {"level": 5}}
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    for dtype, fill_value in FILL_VALUES:
        if np.dtype(dtype).kind in "biufc":
            yield f"{dtype} {fill_value!r}", {"dtype": dtype}, fill_value
    yield "gzip", {"dtype": "float32", "codecs": [little, gzip]}, np.float32(0)
    order = {"name": "transpose", "configuration": {"order": [1, 0]}}
    yield "transposed", {"dtype": "float32", "codecs": [order, little]}, np.float32(0)
    index = [little, {"name": "crc32c"}]
    shard = {"chunk_shape": [5, 5], "codecs": [little, gzip], "index_codecs": index, "index_location": "start"}
    yield "sharded", {"dtype": "int32", "codecs": [{"name": "sharding_indexed", "configuration": shard}]}, np.int32(0)


def tensorstore_cases():
    for name, options, fill_value in tensorstore_specs():
        for driver in ("zarr3", "zarr"):
            if driver == "zarr" and "codecs" in options:
                continue
            with tempfile.TemporaryDirectory() as folder:
                spec = {"driver": driver, "kvstore": {"driver": "file", "path": folder}}
                if "codecs" in options:
                    spec["metadata"] = {"codecs": options["codecs"]}
                layout = tensorstore.ChunkLayout(write_chunk_shape=[10, 10])
                array = tensorstore.open(
                    spec,
                    create=True,
                    dtype=options["dtype"],
                    shape=[30, 20],
                    chunk_layout=layout,
                    fill_value=fill_value,
                ).result()
                found = {path.name: path.read_text() for path in Path(folder).iterdir() if path.name in DOCUMENTS}
                dtype = np.dtype(options["dtype"])
                meaning = {
                    "node": "array",
                    "zarr_format": 3 if driver == "zarr3" else 2,
                    "shape": list(array.shape),
                    "chunk_shape": list(array.chunk_layout.write_chunk.shape),
                    "dtype": dtype.str,
                    "fill_value": None if array.fill_value is None else bits(array.fill_value, dtype),
                    "attributes": {},
                }
                yield {"name": f"{name} {driver}", "documents": found, "meaning": meaning}


def save(writer, cases):
    data = {"writer": writer, "version": version(writer), "cases": list(cases)}
    name = {"zarr": "zarr_python.json"}.get(writer, f"{writer}.json")
    (HERE / name).write_text(json.dumps(data, indent=1, ensure_ascii=True) + "\n")
    print(name, len(data["cases"]))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    save("zarr", zarr_cases())
    save("tensorstore", tensorstore_cases())
