"""Writes zarrcy.json beside this file: documents that zarr-python and tensorstore opened and understood as zarrcy does.

Run it where zarrcy, zarr and tensorstore are installed, from the root of the project:
``python tests/data/metadata/accept.py``. It stops at the first document that is refused or means something else.
tensorstore has no times, texts and byte strings.
"""

import json
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import tensorstore
import zarr

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[2]), str(HERE.parents[1])]

from test_metadata import GOLDEN  # noqa: E402
from test_metadata_v2 import GOLDEN_V2  # noqa: E402

from zarrcy.metadata import ArrayMetadata  # noqa: E402
from zarrcy.metadata_v2 import to_documents  # noqa: E402


def check_zarr(folder, metadata):
    node = zarr.open(folder, mode="r")
    assert dict(node.attrs) == metadata.attributes
    if not isinstance(metadata, ArrayMetadata):
        assert {path for path, _ in node.members(max_depth=None)} == set(metadata.consolidated or {})
        return
    assert node.shape == metadata.shape
    assert node.chunks == metadata.chunk_shape
    assert node.dtype.newbyteorder("=") == metadata.dtype
    if metadata.fill_value is None:
        assert node.metadata.fill_value is None
    else:
        found, expected = (np.asarray(value, metadata.dtype) for value in (node.fill_value, metadata.fill_value))
        assert found.tobytes() == expected.tobytes()
    assert node.metadata.encode_chunk_key((1,) * node.ndim) == metadata.chunk_key_encoding.key((1,) * node.ndim)
    if metadata.zarr_format == 2:
        assert node.order == metadata.order
    else:
        assert node.metadata.dimension_names == metadata.dimension_names
        assert [codec.to_dict()["name"] for codec in node.metadata.codecs] == [codec.name for codec in metadata.codecs]


def check_tensorstore(folder, metadata):
    driver = "zarr" if metadata.zarr_format == 2 else "zarr3"
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": folder}}
    node = tensorstore.open(spec, open=True).result()
    if metadata.dtype.kind == "V":  # bytes along one more axis
        assert node.shape == (*metadata.shape, metadata.dtype.itemsize)
        return
    assert node.shape == metadata.shape
    assert node.dtype.numpy_dtype == metadata.dtype
    assert (node.chunk_layout.write_chunk.shape or ()) == metadata.chunk_shape
    if metadata.fill_value is not None:
        assert node.fill_value.tobytes() == np.asarray(metadata.fill_value, metadata.dtype).tobytes()
    assert list(node.domain.labels) == [name or "" for name in metadata.dimension_names or [None] * metadata.ndim]


def documents(metadata):
    if metadata.zarr_format == 3:
        return {"zarr.json": metadata.to_json().decode()}
    return {name: json.dumps(document) for name, document in to_documents(metadata).items()}


def accepted(metadata, seen_by_tensorstore):
    with tempfile.TemporaryDirectory() as folder:
        for name, document in documents(metadata).items():
            (Path(folder) / name).write_text(document)
        check_zarr(folder, metadata)
        if seen_by_tensorstore:
            check_tensorstore(folder, metadata)
    return documents(metadata)


def main():
    v3 = {}
    for name, metadata in GOLDEN.items():
        seen = isinstance(metadata, ArrayMetadata) and metadata.dtype.kind in "biufcV"
        v3[name] = accepted(metadata, seen)["zarr.json"]
    v2 = {}
    for name, metadata in GOLDEN_V2.items():
        # Its v2 driver has no filters either.
        seen = isinstance(metadata, ArrayMetadata) and metadata.dtype.kind in "biufc" and name != "filter"
        v2[name] = accepted(metadata, seen)
    peers = {"zarr": version("zarr"), "tensorstore": version("tensorstore")}
    (HERE / "zarrcy.json").write_text(json.dumps({"accepted_by": peers, "cases": v3, "v2_cases": v2}, indent=1) + "\n")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
