"""The rows of the comparison: what is done, on which array, and how little time or memory it may take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .data import LAYOUTS, Data, Layout

PER_SECOND = {"us": 1e6, "ms": 1e3}


@dataclass(frozen=True)
class Row:
    """One row.

    Parameters
    ----------
    name, title : str
        For the command line, for the table.
    operation : str
        A name of `Peer.operations`.
    layout : str or None
        The array's.
    target : float or mapping of str to float
        The most that zarrcy may take, in `unit`; a mapping gives it for each library that inflates gzip.
    unit : {"ratio", "us", "ms", "MiB"}, default "ratio"
        What is compared with the target: CPU time over that of the reference, or the quantity itself.
    n_calls : int, default 1
        Calls that are timed together; in a quick run a tenth.
    reference : str, default "reference"
        "slice": the denominator is the same box, read as a slice by zarrcy.
    """

    name: str
    title: str
    operation: str
    layout: str | None
    target: float | Mapping[str, float]
    unit: str = "ratio"
    n_calls: int = 1
    reference: str = "reference"

    @property
    def array(self) -> Layout | None:
        return LAYOUTS[self.layout] if self.layout else None

    @property
    def fresh(self) -> bool:
        """Whether each measurement wants a new process."""
        return self.operation == "memory"

    def limit(self, deflate: str) -> float:
        """The target, where `deflate` is the library that zarrcy inflates gzip with."""
        if isinstance(self.target, Mapping):
            return self.target.get(deflate, max(self.target.values()))
        return self.target


_READ, _WRITE = "read all, ", "write all, "
ROWS = {
    row.name: row
    for row in (
        Row("read-raw-64k", _READ + "raw, 64 KiB chunks", "everything", "raw-64k", 1.05),
        Row("read-raw-8m", _READ + "raw, 8 MiB chunks", "everything", "raw-8m", 0.95),
        Row("read-zstd-1m", _READ + "zstd 3, 1 MiB", "everything", "zstd-1m", 1.02),
        Row("read-blosc-1m", _READ + "blosc-lz4, 1 MiB", "everything", "blosc-1m", 0.95),
        Row("read-blosc-64k", _READ + "blosc-lz4, 64 KiB", "everything", "blosc-64k", 1.05),
        Row("read-gzip-1m", _READ + "gzip 5, 1 MiB", "everything", "gzip-1m", {"libdeflate": 1.15, "zlib-ng": 1.6}),
        Row("read-shards-zstd", _READ + "shards of zstd, 64 KiB", "everything", "shards-zstd", 1.05),
        Row("read-shards-uint16", _READ + "shards of uint16, zstd, 32³", "everything", "shards-uint16", 1.1),
        Row("read-tiny-raw", _READ + "100,000 × 1 KiB raw", "everything", "raw-1k", 1.1),
        Row("read-tiny-zstd", _READ + "20,000 × 4 KiB zstd", "everything", "zstd-4k", 1.1),
        Row("chunk-raw-64k", "one chunk, raw, 64 KiB", "chunks", "raw-64k", 1.0, n_calls=300),
        Row("chunk-zstd-64k", "one chunk, zstd, 64 KiB", "chunks", "zstd-64k", 1.05, n_calls=300),
        Row("chunk-raw-1k", "one chunk, raw, 1 KiB", "chunks", "raw-1k", 1.4, n_calls=1000),
        Row("chunk-zstd-4k", "one chunk, zstd, 4 KiB", "chunks", "zstd-4k", 1.2, n_calls=1000),
        Row("chunk-inner", "one inner chunk of a shard, zstd, 64 KiB", "chunks", "shards-zstd", 1.0, n_calls=300),
        Row("point-blosc-8m", "one point, blosc-lz4, 8 MiB", "items", "blosc-8m", 150, "us", n_calls=50),
        Row("oindex", "oindex, beside the equal slice", "oindex", "raw-64k", 1.3, n_calls=20, reference="slice"),
        Row("write-raw-64k", _WRITE + "raw, 64 KiB", "writing", "raw-64k", 1.15),
        Row("write-zstd-1m", _WRITE + "zstd 3, 1 MiB", "writing", "zstd-1m", 1.03),
        Row("write-gzip-1m", _WRITE + "gzip 5, 1 MiB", "writing", "gzip-1m", {"libdeflate": 1.02, "zlib-ng": 1.3}),
        Row("open", "open an array", "opening", "zstd-1m", 15, "us", n_calls=1000),
        Row("import", "import, above NumPy", "importing", None, 15, "ms", n_calls=9),
        Row("memory", "peak memory of read all, zstd 3, 1 MiB", "memory", "zstd-1m", 280, "MiB"),
    )
}


def selections(row: Row, data: Data, seed: int) -> list[tuple[Any, ...]]:
    """What the calls of a row select: chunks, items or boxes at random places, the same for every peer."""
    layout = row.array
    assert layout is not None
    random = np.random.default_rng(seed)
    n = row.n_calls if data.scale == "full" else max(1, row.n_calls // 10)
    shape = layout.shape(data.scale)
    if row.operation == "chunks":
        places = random.integers(0, layout.grid(data.scale), (n, len(shape)))
        return [
            tuple(slice(i * side, (i + 1) * side) for i, side in zip(place, layout.chunks)) for place in places.tolist()
        ]
    if row.operation == "items":
        return [tuple(point) for point in random.integers(0, shape, (n, len(shape))).tolist()]
    box = tuple(max(1, side // 4) for side in shape)
    corners = random.integers(0, [side - length + 1 for side, length in zip(shape, box)], (n, len(shape)))
    return [tuple(slice(i, i + length) for i, length in zip(corner, box)) for corner in corners.tolist()]


def orthogonal(boxes: list[tuple[slice, ...]]) -> list[tuple[np.ndarray, ...]]:
    """The same boxes, as lists of indices along each axis."""
    return [tuple(np.arange(side.start, side.stop) for side in box) for box in boxes]
