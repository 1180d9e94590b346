"""What the tests of the C API share: how an extension is built, calls through the probe, and arrays of every kind.

`probe` (tests/embedding/probe.c) makes every function of the API callable from Python.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import array_cases as cases
import numpy as np

import zarrcy
from zarrcy.stores.filesystem import FilesystemStore
from zarrcy.stores.memory import MemoryStore
from zarrcy.stores.zip import ZipStore

ROOT = Path(__file__).resolve().parent.parent
PROBE = ROOT / "tests" / "embedding" / "probe.c"
HEADER = Path(zarrcy.get_include()) / "zarrcy" / "zarrcy.h"
RESULTS = {name: int(number) for name, number in re.findall(r"ZARRCY_(\w+) = (\d+)", HEADER.read_text())}
STRICT = ["-Wall", "-Wextra", "-pedantic", "-Werror"]

cases.register_codec()


def compiler(name: str, default: str) -> list[str]:
    return shlex.split(os.environ.get(name) or default)


def run(command: list[str], **options: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build_extension(source: Path, folder: Path, *flags: str) -> Path:
    """A C extension, compiled as docs/embedding.md says, but with the strictest warnings as errors."""
    target = folder / (source.stem + str(sysconfig.get_config_var("EXT_SUFFIX")))
    python = ["-isystem", sysconfig.get_paths()["include"]]
    options = ["-std=c99", *STRICT, "-O1", "-g", "-shared", "-fPIC", "-pthread", *python, "-I", zarrcy.get_include()]
    run([*compiler("CC", "cc"), *options, *flags, str(source), "-o", str(target)])
    return target


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.name.split(".")[0], path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Outcome(NamedTuple):
    result: int
    os_error: int
    message: str
    handle: int


Numbers = Any  # a sequence of int, or None for NULL


def job(
    handle: int,
    writes: bool,
    start: Numbers,
    shape: Numbers,
    data: np.ndarray[Any, Any] | None,
    *,
    step: Numbers = None,
    strides: Numbers = "of data",
    ndim: int | None = None,
    with_error: bool = True,
) -> tuple[Any, ...]:
    """What the probe takes for one call."""
    address = 0 if data is None else data.ctypes.data
    if isinstance(strides, str):
        strides = None if data is None else data.strides
    return (handle, writes, len(shape) if ndim is None else ndim, start, shape, step, address, strides, with_error)


def call(probe: ModuleType, *args: Any, without_gil: bool = True, **options: Any) -> Outcome:
    return Outcome(*probe.run(job(*args, **options), without_gil))


def fine(outcome: Any) -> None:
    assert Outcome(*outcome)[:3] == (0, 0, "")


@contextmanager
def taken(probe: ModuleType, array: zarrcy.Array, dtype: str | None = None) -> Iterator[int]:
    """A handle of an array."""
    outcome = Outcome(*probe.from_object(array, dtype))
    fine(outcome)
    yield outcome.handle
    fine(probe.close_array(outcome.handle))


Make = Callable[[Path], zarrcy.Array]
SHAPE = (13, 9, 11)


def made(store: Any, **options: Any) -> zarrcy.Array:
    options = {"shape": SHAPE, "chunks": (4, 3, 5), "dtype": "int32", "fill_value": -1, **options}
    return zarrcy.create_array(store, "group/a", **options)


SHARDS = {"chunks": (2, 3, 5), "shards": (8, 6, 5)}
PYTHON_CODEC = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "tests.inverted"}]
ARRAYS: dict[str, Make] = {
    "files": lambda path: made(FilesystemStore(path)),
    "shards": lambda path: made(FilesystemStore(path), **SHARDS),
    "v2, big-endian, F": lambda path: made(FilesystemStore(path), zarr_format=2, dtype=">f8", order="F"),
    "files, by Python": lambda path: made(cases.SubclassedStore(path)),
    "shards, by Python": lambda path: made(MemoryStore(), **SHARDS),
    "memory": lambda path: made(MemoryStore(), dtype="complex128"),
    "zip": lambda path: made(ZipStore(path.with_suffix(".zip"))),
    "codec in Python": lambda path: made(FilesystemStore(path), codecs=PYTHON_CODEC),
    "text": lambda path: made(FilesystemStore(path), dtype="U3", fill_value=""),
}


def values_of(dtype: np.dtype[Any], shape: tuple[int, ...], seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(-99, 999, shape).astype(dtype)
