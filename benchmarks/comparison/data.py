"""The arrays that are read: their fields, and how they are laid out in files. Made once, by zarrcy, h5py and blosc2."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SCALES = ("full", "quick")
CODECS = ("raw", "zstd", "gzip", "blosc")
LEVELS = {"raw": 0, "zstd": 3, "gzip": 5, "blosc": 5}
FORMATS = {"zarr": ".zarr", "h5": ".h5", "b2nd": ".b2nd"}


@dataclass(frozen=True)
class Field:
    """Values: a function of a shape, and a shape for each scale."""

    make: Callable[[tuple[int, ...]], np.ndarray]
    full: tuple[int, ...]
    quick: tuple[int, ...]

    def shape(self, scale: str) -> tuple[int, ...]:
        return self.full if scale == "full" else self.quick


def temperature(shape: tuple[int, ...]) -> np.ndarray:
    """Days of a smooth field with noise, rounded to 1/64: float32 that compresses about as measured fields do."""
    days, height, width = shape
    latitude = np.linspace(-1, 1, height)[:, None]
    longitude = np.linspace(0, 2 * np.pi, width)[None, :]
    noise = np.random.default_rng(1)
    base = 288 - 45 * latitude**2 + 6 * np.sin(3 * longitude) * np.cos(4 * latitude)
    field = np.empty(shape, "<f4")
    for day in range(days):
        weather = 3 * np.sin(0.2 * day + 2 * longitude) + noise.normal(0, 0.15, (height, width))
        field[day] = np.round(64 * (base + weather)) / 64
    return field


def microscopy(shape: tuple[int, ...]) -> np.ndarray:
    """Blobs on a background with the noise of counted photons, as uint16."""
    depth, height, width = shape
    z, y, x = (np.linspace(0, 12, n, dtype="f4") for n in shape)
    blobs = np.sin(y)[:, None] * np.cos(1.3 * x)[None, :]
    noise = np.random.default_rng(2)
    field = np.empty(shape, "<u2")
    for plane in range(depth):
        light = 300 + 900 * np.maximum(0, blobs * np.sin(0.7 * z[plane] + 1)) ** 2
        field[plane] = np.maximum(0, light + 0.5 * np.sqrt(light) * noise.standard_normal((height, width)))
    return field


def series(shape: tuple[int, ...]) -> np.ndarray:
    """A long series of float32, a slow wave with noise, rounded to 1/64."""
    x = np.arange(shape[0], dtype="f4")
    noise = np.random.default_rng(3).normal(0, 0.1, shape).astype("f4")
    return (np.round(64 * (280 + 10 * np.sin(1e-4 * x) + noise)) / 64).astype("<f4")


FIELDS = {
    "temperature": Field(temperature, (64, 1024, 1024), (16, 512, 512)),
    "microscopy": Field(microscopy, (512, 512, 512), (128, 256, 256)),
    "tiny": Field(series, (100_000 * 256,), (2_000 * 256,)),
    "small": Field(series, (20_000 * 1024,), (1_000 * 1024,)),
}


@dataclass(frozen=True)
class Layout:
    """How a field lies in files. `chunks` are the inner chunks where there are shards."""

    name: str
    field: str
    codec: str
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None = None

    @property
    def dtype(self) -> np.dtype:
        return np.dtype("<u2" if self.field == "microscopy" else "<f4")

    @property
    def chunk_nbytes(self) -> int:
        return int(np.prod(self.chunks)) * self.dtype.itemsize

    def shape(self, scale: str) -> tuple[int, ...]:
        return FIELDS[self.field].shape(scale)

    def grid(self, scale: str) -> tuple[int, ...]:
        """The number of chunks along each axis."""
        return tuple(n // side for n, side in zip(self.shape(scale), self.chunks))

    def zarr_codecs(self) -> list[dict[str, Any]]:
        """The codecs of a chunk, as zarr.json spells them."""
        level = LEVELS[self.codec]
        configurations: dict[str, dict[str, Any]] = {
            "zstd": {"level": level, "checksum": False},
            "gzip": {"level": level},
            "blosc": {
                "cname": "lz4",
                "clevel": level,
                "shuffle": "shuffle",
                "typesize": self.dtype.itemsize,
                "blocksize": 0,
            },
        }
        little = {"name": "bytes", "configuration": {"endian": "little"}}
        if self.codec == "raw":
            return [little]
        return [little, {"name": self.codec, "configuration": configurations[self.codec]}]

    def zarr_options(self) -> dict[str, Any]:
        """The arguments of zarrcy.create_array, but for the place and the shape."""
        if not self.shards:
            return {"chunks": self.chunks, "dtype": self.dtype, "codecs": self.zarr_codecs()}
        inner = {
            "chunk_shape": list(self.chunks),
            "codecs": self.zarr_codecs(),
            "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
            "index_location": "end",
        }
        codecs = [{"name": "sharding_indexed", "configuration": inner}]
        return {"chunks": self.shards, "dtype": self.dtype, "codecs": codecs}


_SQUARE, _MIB, _LARGE = (1, 128, 128), (4, 256, 256), (8, 512, 512)  # 64 KiB, 1 MiB, 8 MiB of float32
LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout("raw-64k", "temperature", "raw", _SQUARE),
        Layout("raw-8m", "temperature", "raw", _LARGE),
        Layout("zstd-64k", "temperature", "zstd", _SQUARE),
        Layout("zstd-1m", "temperature", "zstd", _MIB),
        Layout("gzip-1m", "temperature", "gzip", _MIB),
        Layout("blosc-64k", "temperature", "blosc", _SQUARE),
        Layout("blosc-1m", "temperature", "blosc", _MIB),
        Layout("blosc-8m", "temperature", "blosc", _LARGE),
        Layout("shards-zstd", "temperature", "zstd", _SQUARE, shards=(16, 512, 512)),
        Layout("shards-uint16", "microscopy", "zstd", (32, 32, 32), shards=(128, 256, 256)),
        Layout("raw-1k", "tiny", "raw", (256,)),
        Layout("zstd-4k", "small", "zstd", (1024,)),
    )
}


@dataclass(frozen=True)
class Data:
    """The directory with the data of one scale."""

    root: Path
    scale: str

    def values(self, field: str) -> np.ndarray:
        """The values of a field, mapped from a file that is made on the first call."""
        path = self.root / f"{field}-{self.scale}.npy"
        if not path.exists():
            with _made_at(path) as partial, partial.open("wb") as file:
                np.save(file, FIELDS[field].make(FIELDS[field].shape(self.scale)))
        return np.load(path, mmap_mode="r")

    @functools.cache  # noqa: B019 - of one directory; the row of opening would measure pathlib
    def path(self, layout: Layout, file_format: str = "zarr") -> Path:
        """Where an array lies; `prepare` makes it."""
        return self.root / f"{layout.name}-{self.scale}{FORMATS[file_format]}"

    def prepare(self, layout: Layout, file_format: str) -> None:
        """Make the array, unless it is there."""
        path = self.path(layout, file_format)
        if path.exists():
            return
        with _made_at(path) as partial:
            MAKERS[file_format](layout, partial, np.ascontiguousarray(self.values(layout.field)))


class _made_at:  # noqa: N801 (it reads as a function where it is used)
    """A place beside `path`, renamed to `path` when the block ends well: a killed run leaves no half of an array."""

    def __init__(self, path: Path) -> None:
        self.path, self.partial = path, path.with_name(f"partial-{os.getpid()}-{path.name}")

    def __enter__(self) -> Path:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self.partial

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.partial.rename(self.path)
        else:
            remove(self.partial)


def written_below(data: Data) -> Path:
    """Where new arrays are written: in memory, where there is a file system for that, else beside the data.

    On ext4 most of the time would go into the search for an inode that was not deleted a moment ago.
    """
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK | os.X_OK) else data.root


def remove(path: Path) -> None:
    """Remove a file or a directory, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def make_zarr(layout: Layout, path: Path, values: np.ndarray) -> None:
    import zarrcy

    zarrcy.create_array(path, shape=values.shape, **layout.zarr_options())[...] = values


def h5_filters(layout: Layout) -> dict[str, Any]:
    """The filters of h5py that correspond to a codec."""
    import hdf5plugin

    level = LEVELS[layout.codec]
    return {
        "raw": dict,
        "zstd": lambda: dict(hdf5plugin.Zstd(clevel=level)),
        "gzip": lambda: {"compression": "gzip", "compression_opts": level},
        "blosc": lambda: dict(hdf5plugin.Blosc("lz4", level, 1)),
    }[layout.codec]()


def make_h5(layout: Layout, path: Path, values: np.ndarray) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("array", data=values, chunks=layout.chunks, **h5_filters(layout))


def make_b2nd(layout: Layout, path: Path, values: np.ndarray) -> None:
    import blosc2

    parameters = {"codec": blosc2.Codec.LZ4, "clevel": LEVELS[layout.codec], "filters": [blosc2.Filter.SHUFFLE]}
    blosc2.asarray(values, chunks=layout.chunks, urlpath=str(path), cparams=parameters, mode="w")


MAKERS: dict[str, Callable[[Layout, Path, np.ndarray], None]] = {"zarr": make_zarr, "h5": make_h5, "b2nd": make_b2nd}
