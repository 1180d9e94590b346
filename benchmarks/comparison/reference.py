"""The reference in C: compiled on demand, linked with the codec libraries that zarrcy is linked with."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import shlex
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from .data import LEVELS, Layout

SOURCE = Path(__file__).with_name("reference.c")
DECLARATIONS = Path(__file__).parents[2] / "zarrcy" / "codecs" / "lib"
MAX_DIMS = 4
CODES = {"raw": 0, "zstd": 1, "gzip": 2, "blosc": 3}


class CLayout(ctypes.Structure):
    """`Layout` of reference.c."""

    _fields_ = [(name, ctypes.c_int32) for name in ("directory", "codec", "level", "n_dims", "itemsize", "n_workers")]
    _fields_ += [(name, ctypes.c_int64 * MAX_DIMS) for name in ("shape", "chunk", "shard")]


def libraries() -> list[str]:
    """The compiler's arguments for the codec libraries: the same decisions as in cmake/ZarrcyCodecs.cmake."""
    import zarrcy

    linked = zarrcy.show_config("dicts")["codecs"]  # type: ignore[index]
    arguments = []
    if linked["from"] == "system":
        arguments += _pkg_config("libzstd", "liblz4", "blosc", "zlib")
    else:
        blosc1 = {file.name: Path(file.locate()).resolve() for file in importlib.metadata.files("blosc") or ()}
        blosc2 = Path(importlib.util.find_spec("blosc2").origin).parent  # type: ignore[union-attr, arg-type]
        arguments += ["-DZARRCY_HAVE_BLOSC2", "-DZARRCY_HAVE_ZLIB_NG", "-DZARRCY_NO_HEADERS"]
        arguments += [f"-I{blosc1['blosc.h'].parent}", f"-I{blosc2 / 'include'}"]
        arguments += [str(blosc2 / "lib" / "libblosc2.a"), str(blosc1["libblosc.a"])]
    if "libdeflate" in linked:
        arguments += ["-DZARRCY_HAVE_LIBDEFLATE", *_pkg_config("libdeflate")]
    return arguments


def _pkg_config(*names: str) -> list[str]:
    return shlex.split(subprocess.check_output(["pkg-config", "--cflags", "--libs", *names], text=True))


def build(directory: Path) -> Path:
    """Compile the reference into `directory`, unless it is there as the sources and the libraries are now."""
    arguments = ["-O3", "-march=native", "-std=gnu11", "-fPIC", "-shared", "-Wall", "-Wno-unused-function"]
    arguments += [f"-I{DECLARATIONS}", str(SOURCE), *libraries(), "-lpthread", "-lm", "-ldl", "-Wl,--exclude-libs,ALL"]
    stamp = hashlib.sha256(" ".join([platform.node(), *arguments]).encode() + SOURCE.read_bytes()).hexdigest()[:16]
    library = directory / f"reference-{stamp}.so"
    if not library.exists():
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory) as temporary:
            fresh = Path(temporary, "reference.so")
            subprocess.run([os.environ.get("CC", "cc"), *arguments, "-o", str(fresh)], check=True)
            fresh.rename(library)
    return library


@functools.cache
def load(library: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(library))


class ReferenceArray:
    """An array of the data, or a new one, open for the reference."""

    def __init__(self, library: Path, layout: Layout, path: Path, shape: tuple[int, ...]) -> None:
        self.c = load(library)
        self.path, self.shape, self.layout = path, shape, layout
        self.directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.parameters = CLayout(
            directory=self.directory,
            codec=CODES[layout.codec],
            level=LEVELS[layout.codec],
            n_dims=len(shape),
            itemsize=layout.dtype.itemsize,
            n_workers=len(os.sched_getaffinity(0)),
        )
        for axis, n in enumerate(shape):
            self.parameters.shape[axis] = n
            self.parameters.chunk[axis] = layout.chunks[axis]
            self.parameters.shard[axis] = layout.shards[axis] if layout.shards else 0

    def close(self) -> None:
        os.close(self.directory)

    def read(self) -> np.ndarray:
        out = np.empty(self.shape, self.layout.dtype)  # NumPy's allocator allows huge pages
        self._call("read", ctypes.c_void_p(out.ctypes.data))
        return out

    def read_chunks(self, indices: np.ndarray) -> np.ndarray:
        """The chunks at `indices`, one call each inside C; gives the last one."""
        last = np.empty(self.layout.chunks, self.layout.dtype)
        self._call_many("read_chunks", indices, last)
        return last

    def read_items(self, coordinates: np.ndarray) -> np.ndarray:
        """The items at `coordinates`, one call each inside C; gives the last one."""
        last = np.empty((), self.layout.dtype)
        self._call_many("read_items", coordinates, last)
        return last

    def open_again(self, n: int) -> None:
        if self.c.reference_open(os.fsencode(self.path), ctypes.c_int64(n)):
            raise OSError(f"{self.path}: the reference cannot open it")

    def write(self, values: np.ndarray) -> None:
        self._call("write", ctypes.c_void_p(values.ctypes.data))

    def _call_many(self, name: str, places: np.ndarray, last: np.ndarray) -> None:
        places = np.ascontiguousarray(places, "i8")
        n, at = ctypes.c_int64(len(places)), ctypes.c_void_p(places.ctypes.data)
        self._call(name, n, at, ctypes.c_void_p(last.ctypes.data))

    def _call(self, name: str, *arguments: object) -> None:
        if getattr(self.c, f"reference_{name}")(ctypes.byref(self.parameters), *arguments):
            raise OSError(f"{self.path}: {name}: the reference failed")
