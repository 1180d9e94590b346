"""What the benchmarks read and write: a smooth field with measured noise, and the ways to store it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}


def _blosc(cname: str) -> dict[str, Any]:
    configuration = {"cname": cname, "clevel": 5, "shuffle": "shuffle", "typesize": 4, "blocksize": 0}
    return {"name": "blosc", "configuration": configuration}


CHAINS: dict[str, list[dict[str, Any]]] = {
    "raw": [_BYTES],
    "zstd": [_BYTES, {"name": "zstd", "configuration": {"level": 3, "checksum": False}}],
    "gzip": [_BYTES, {"name": "gzip", "configuration": {"level": 5}}],
    "blosc-lz4": [_BYTES, _blosc("lz4")],
    "blosc-zstd": [_BYTES, _blosc("zstd")],
    "crc32c": [_BYTES, {"name": "crc32c"}],
}


def field(side: int) -> npt.NDArray[np.float32]:
    """A square field of waves, with noise, to two decimals: it compresses about as measured data do."""
    x = np.linspace(0, 12, side, dtype="float32")
    waves = 100 * (np.sin(x)[:, None] * np.cos(2 * x)[None, :])
    noise = np.random.default_rng(7).normal(0, 0.05, (side, side))
    return np.round(waves + noise, 2).astype("float32")
