"""The C API: what other extensions read and write through it is what NumPy says, from any thread, and errors are codes.

`probe` (tests/embedding/probe.c) makes every function of the API callable from here. The examples of docs/embedding.md
are built and run as they stand there.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import array_cases as cases
import numpy as np
import pytest

import zarrcy
from zarrcy.stores.filesystem import FilesystemStore
from zarrcy.stores.memory import MemoryStore
from zarrcy.stores.zip import ZipStore

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "docs" / "examples"
HEADER = Path(zarrcy.get_include()) / "zarrcy" / "zarrcy.h"
RESULTS = {name: int(number) for name, number in re.findall(r"ZARRCY_(\w+) = (\d+)", HEADER.read_text())}
STRICT = ["-Wall", "-Wextra", "-pedantic", "-Werror"]


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


@pytest.fixture(scope="module")
def probe_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_extension(ROOT / "tests" / "embedding" / "probe.c", tmp_path_factory.mktemp("probe"))


@pytest.fixture(scope="module")
def probe(probe_path: Path) -> ModuleType:
    return load(probe_path)


# ---- What is installed


@pytest.mark.parametrize("language", ["c", "c++"])
@pytest.mark.parametrize("with_python", [False, True], ids=["alone", "after Python.h"])
def test_the_header_compiles_without_a_warning(language: str, with_python: bool, tmp_path: Path) -> None:
    source = tmp_path / "unit"
    lines = ["#include <zarrcy/zarrcy.h>", "const zarrcy_api *table;"]
    if with_python:
        lines = ["#include <Python.h>", *lines, "const zarrcy_api *(*import_it)(void) = zarrcy_import;"]
    source.write_text("\n".join([*lines, ""]))
    command = compiler("CC", "cc") if language == "c" else compiler("CXX", "c++")
    standards = ["c99", "c11"] if language == "c" else ["c++11", "c++17"]
    for standard in standards:
        flags = [f"-std={standard}", *STRICT, "-isystem", sysconfig.get_paths()["include"], "-I", zarrcy.get_include()]
        run([*command, "-x", language, *flags, "-c", str(source), "-o", str(tmp_path / "unit.o")])


def test_what_other_builds_need_is_installed() -> None:
    package = Path(zarrcy.__file__).parent
    wanted = {"include/zarrcy/zarrcy.h", "cmake/zarrcyConfig.cmake", "cmake/zarrcyConfigVersion.cmake"}
    wanted |= {str(path.relative_to(ROOT / "zarrcy")) for path in (ROOT / "zarrcy").rglob("*.pxd")}
    assert [name for name in sorted(wanted) if not (package / name).exists()] == []


def test_cython_and_c_see_the_same_results_and_functions() -> None:
    header = HEADER.read_text()
    declared = (ROOT / "zarrcy" / "capi.pxd").read_text()
    assert re.findall(r"^ +ZARRCY_(\w+)$", declared, re.MULTILINE) == list(RESULTS)
    pointers = re.findall(r"\(\*(\w+)\)\(", header[header.index("typedef struct zarrcy_api") :])
    assert re.findall(r"\(\*(\w+)\)\(", declared) == pointers
    assert re.findall(r"^cdef .*?(\w+)\(", declared, re.MULTILINE) == pointers


IMPORT = """
import ctypes, importlib.util, zarrcy.capi
python = ctypes.pythonapi
python.PyCapsule_GetPointer.restype = ctypes.c_void_p
python.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
class Head(ctypes.Structure):
    _fields_ = [("version", ctypes.c_int32), ("oldest_version", ctypes.c_int32), ("nbytes", ctypes.c_uint64)]
head = Head.from_address(python.PyCapsule_GetPointer(zarrcy.capi._C_API, b"zarrcy.capi._C_API"))
head.FIELD += CHANGE
spec = importlib.util.spec_from_file_location("probe", PATH)
try:
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
except ImportError as error:
    print(error)
else:
    print("imported")
"""


@pytest.mark.parametrize(
    ("field", "change", "said"),
    [
        ("version", 0, "imported"),
        ("version", 1, "imported"),  # functions were added
        ("nbytes", 8, "imported"),
        ("version", -1, "expected version 1 .* got version 0. Install a newer zarrcy"),
        ("nbytes", -8, "Install a newer zarrcy"),
        ("oldest_version", 1, "expected version 1 .* got versions 2 to 1. Build the extension again"),
    ],
)
def test_an_extension_refuses_a_zarrcy_that_it_was_not_built_for(
    field: str, change: int, said: str, probe_path: Path
) -> None:
    code = IMPORT.replace("FIELD", field).replace("CHANGE", str(change)).replace("PATH", repr(str(probe_path)))
    assert re.search(said, run([sys.executable, "-c", code]))


# ---- Reading and writing


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


@pytest.fixture(autouse=True)
def codec() -> None:
    if "tests.inverted" not in zarrcy.codecs.registry.names():
        cases.register_codec()


def values_of(dtype: np.dtype[Any], shape: tuple[int, ...], seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(-99, 999, shape).astype(dtype)


def random_region(rng: random.Random) -> tuple[list[int], list[int], list[int], tuple[Any, ...]]:
    """start, shape, step, and the same as NumPy's index."""
    start, shape, step, index = [], [], [], []
    for extent in SHAPE:
        indices = range(extent)
        if rng.random() < 0.7:
            begin = rng.randrange(extent)
            indices = indices[begin : rng.randint(begin + 1, extent) : rng.choice([1, 1, 1, 2, 3, 7])]
        if rng.random() < 0.2:
            indices = indices[::-1]
        start.append(indices[0])
        shape.append(len(indices))
        step.append(indices.step)
        index.append(list(indices))
    return start, shape, step, np.ix_(*index)


def scattered(shape: list[int], dtype: np.dtype[Any], rng: random.Random) -> np.ndarray[Any, Any]:
    """Memory for so many items, with its axes in any order, gaps, and backwards along some."""
    order = rng.sample(range(len(shape)), len(shape))
    gaps = [rng.choice([1, 1, 2, 3]) * rng.choice([1, 1, -1]) for _ in shape]
    room = np.zeros([shape[axis] * abs(gap) for axis, gap in zip(order, gaps)], dtype)
    view = room[tuple([slice(None, None, gap) for gap in gaps])]
    return view.transpose(np.argsort(order))


@pytest.mark.parametrize("kind", ARRAYS)
def test_regions_with_steps_and_strides_are_what_numpy_says(kind: str, probe: ModuleType, tmp_path: Path) -> None:
    array = ARRAYS[kind](tmp_path / "a.zarr")
    expected = np.full(SHAPE, array.fill_value, array.dtype)
    rng = random.Random(1)
    with taken(probe, array) as handle:
        for turn in range(60):
            start, shape, step, index = random_region(rng)
            memory = scattered(shape, array.dtype, rng)
            options = {"step": None if set(step) == {1} else step, "without_gil": rng.random() < 0.5}
            if turn % 2:
                memory[...] = values_of(array.dtype, tuple(shape), turn)
                fine(call(probe, handle, True, start, shape, memory, **options))
                expected[index] = memory
            else:
                fine(call(probe, handle, False, start, shape, memory, **options))
                assert (memory == expected[index]).all()
    assert (array[...] == expected).all()


@pytest.mark.parametrize("kind", ["files", "memory"])
def test_no_strides_are_c_order_and_nothing_around_the_region_is_touched(
    kind: str, probe: ModuleType, tmp_path: Path
) -> None:
    array = ARRAYS[kind](tmp_path / "a.zarr")
    values = values_of(array.dtype, SHAPE, 1)
    array[...] = values
    room = np.full(2 + 3 * 4 * 5, 77, array.dtype)
    with taken(probe, array) as handle:
        fine(call(probe, handle, False, [5, 2, 6], [3, 4, 5], room[1:], strides=None))
    assert (room[1:-1].reshape(3, 4, 5) == values[5:8, 2:6, 6:11]).all()
    assert room[0] == room[-1] == 77


@pytest.mark.parametrize("kind", ["files", "memory"])
def test_a_stride_of_0_writes_one_item_everywhere(kind: str, probe: ModuleType, tmp_path: Path) -> None:
    array = ARRAYS[kind](tmp_path / "a.zarr")
    item = np.array(5, array.dtype)
    with taken(probe, array) as handle:
        fine(call(probe, handle, True, [1, 0, 0], [9, 9, 11], item, strides=[0, 0, 0]))
        outcome = call(probe, handle, False, [1, 0, 0], [9, 9, 11], item, strides=[0, 0, 0])
    assert outcome.result == RESULTS["INVALID_ARGUMENT"]
    assert (array[1:10] == 5).all() and (array[0] == -1).all() and (array[10:] == -1).all()


@pytest.mark.parametrize("store", ["filesystem", "memory"])
def test_an_array_without_axes_and_an_empty_region_are_regions(store: str, probe: ModuleType, tmp_path: Path) -> None:
    options = {"path": str(tmp_path / "s")} if store == "filesystem" else {}
    scalar = zarrcy.create(shape=(), dtype="float64", storage=store, **options)
    one = np.array([2.5])
    with taken(probe, scalar, "f8") as handle:
        assert probe.info(handle)["ndim"] == 0
        fine(call(probe, handle, True, None, [], one, strides=None, ndim=0))
        one[0] = 0
        fine(call(probe, handle, False, None, [], one, strides=None, ndim=0))
    assert one[0] == scalar[()] == 2.5
    array = zarrcy.zeros((4, 10**12), chunks=(2, 1000), dtype="int8")
    with taken(probe, array) as handle:
        fine(call(probe, handle, False, [4, 0], [0, 10**12], None))
        fine(call(probe, handle, True, [4, 0], [0, 10**12], None))
        fine(call(probe, handle, False, [0, 10**12 - 1], [4, 1], np.ones((4, 1), "int8")))


# ---- Opening


def test_a_path_opens_what_a_python_array_has_written(probe: ModuleType, tmp_path: Path) -> None:
    array = ARRAYS["shards"](tmp_path / "ä.zarr")
    values = values_of(array.dtype, SHAPE, 2)
    array[...] = values
    read = np.empty(SHAPE, array.dtype)
    for mode, dtype in (("r", "int32"), ("r+", None), ("r", "<i4")):
        opened = Outcome(*probe.open_array(str(tmp_path / "ä.zarr"), "group/a", mode, dtype))
        fine(opened)
        assert probe.info(opened.handle) == {
            "ndim": 3,
            "is_writable": mode == "r+",
            "itemsize": 4,
            "shape": SHAPE,
            "chunk_shape": (2, 3, 5),
            "shard_shape": (8, 6, 5),
            "dtype": np.dtype("i4").str,
        }
        read[...] = 0
        fine(call(probe, opened.handle, False, [0, 0, 0], SHAPE, read))
        assert (read == values).all()
        fine(probe.close_array(opened.handle))
    fine(probe.open_array(str(tmp_path / "ä.zarr" / "group" / "a"), None, "r", None))


def test_what_is_written_into_an_archive_is_there_after_the_handle_is_closed(probe: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with ZipStore(path) as store:
        zarrcy.create_array(store, shape=8, chunks=4, dtype="int16")
    opened = Outcome(*probe.open_array(str(path), "", "r+", "i2"))
    fine(opened)
    fine(call(probe, opened.handle, True, [2], [3], np.array([7, 8, 9], "int16")))
    fine(probe.close_array(opened.handle))
    with ZipStore(path, mode="r") as store:
        assert zarrcy.open_array(store)[:].tolist() == [0, 0, 7, 8, 9, 0, 0, 0]


@pytest.mark.parametrize("kind", ["files", "memory"])
def test_a_handle_keeps_its_array_and_gives_it_back(kind: str, probe: ModuleType, tmp_path: Path) -> None:
    array = ARRAYS[kind](tmp_path / "a.zarr")
    array[...] = 3
    dtype = array.dtype
    alive = weakref.ref(array)
    with taken(probe, array) as handle:
        del array
        gc.collect()
        assert alive() is not None
        read = np.zeros(SHAPE, dtype)
        fine(call(probe, handle, False, [0, 0, 0], SHAPE, read))
        assert (read == 3).all()
    gc.collect()
    assert alive() is None


def test_a_resize_is_not_seen_by_a_handle_that_is_open(probe: ModuleType, tmp_path: Path) -> None:
    array = zarrcy.create_array(FilesystemStore(tmp_path / "a"), shape=4, chunks=2, dtype="int8")
    with taken(probe, array) as handle:
        array.resize(9)
        array[...] = 1
        assert probe.info(handle)["shape"] == (4,)
        assert call(probe, handle, False, [4], [1], np.zeros(1, "int8")).result == RESULTS["OUT_OF_BOUNDS"]


# ---- What goes wrong


INT64 = 2**63
REGIONS = [
    ([0, 0], [1, 1], None, 2, "INVALID_ARGUMENT", "expected 3 axes, got 2"),
    ([0, 0, 0, 0], [1, 1, 1, 1], None, 4, "INVALID_ARGUMENT", "expected 3 axes, got 4"),
    ([0, 0, 0], [1, 1, 1], None, -1, "INVALID_ARGUMENT", "expected 3 axes, got -1"),
    (None, [1, 1, 1], None, 3, "INVALID_ARGUMENT", "start and shape"),
    ([0, 0, 0], None, None, 3, "INVALID_ARGUMENT", "start and shape"),
    ([0, 0, 0], [1, -1, 1], None, 3, "INVALID_ARGUMENT", "axis 1"),
    ([0, 0, 0], [1, 1, 1], [1, 1, 0], 3, "INVALID_ARGUMENT", "axis 2"),
    ([0, 0, 0], [1, 1, 1], [-INT64, 1, 1], 3, "INVALID_ARGUMENT", "axis 0"),
    (
        [0, 0, 0],
        [14, 1, 1],
        None,
        3,
        "OUT_OF_BOUNDS",
        "axis 0: expected items of 0 ... 12, got 14 from 0 on with step 1",
    ),
    ([0, 9, 0], [1, 1, 1], None, 3, "OUT_OF_BOUNDS", "axis 1"),
    ([0, 0, -1], [1, 1, 1], None, 3, "OUT_OF_BOUNDS", "axis 2"),
    ([0, 0, 14], [1, 1, 0], None, 3, "OUT_OF_BOUNDS", "axis 2"),
    ([0, 0, 0], [7, 1, 6], [2, 1, 3], 3, "OUT_OF_BOUNDS", "axis 2"),
    ([1, 0, 0], [3, 1, 1], [-1, 1, 1], 3, "OUT_OF_BOUNDS", "axis 0"),
    ([0, 0, 0], [1, INT64 - 1, 1], None, 3, "OUT_OF_BOUNDS", "axis 1"),
    ([0, 0, 0], [1, INT64 - 1, 1], [1, INT64 - 1, 1], 3, "OUT_OF_BOUNDS", "axis 1"),
    ([INT64 - 1, 0, 0], [1, 1, 1], None, 3, "OUT_OF_BOUNDS", "axis 0"),
    ([-INT64, 0, 0], [2, 1, 1], [INT64 - 1, 1, 1], 3, "OUT_OF_BOUNDS", "axis 0"),
]


@pytest.mark.parametrize(("start", "shape", "step", "ndim", "name", "said"), REGIONS)
@pytest.mark.parametrize("kind", ["files", "memory"])
def test_a_region_that_is_no_region_of_the_array_is_refused_and_nothing_happens(
    kind: str, start: Any, shape: Any, step: Any, ndim: int, name: str, said: str, probe: ModuleType, tmp_path: Path
) -> None:
    array = ARRAYS[kind](tmp_path / "a.zarr")
    array[...] = 1
    with taken(probe, array) as handle:
        for writes in (False, True):
            memory = np.full(4, 9, array.dtype)
            options = {"step": step, "strides": None, "ndim": ndim}
            outcome = call(probe, handle, writes, start, shape, memory, **options)
            assert outcome.result == RESULTS[name]
            assert said in outcome.message and outcome.message.startswith(f"{array.store.url}: group/a: region: ")
            assert (memory == 9).all()
            without = call(probe, handle, writes, start, shape, memory, with_error=False, **options)
            assert without.result == outcome.result
    assert (array[...] == 1).all()


def test_null_is_refused_wherever_something_is_needed(probe: ModuleType, tmp_path: Path) -> None:
    array = ARRAYS["files"](tmp_path / "a.zarr")
    fine(probe.close_array(0))
    assert probe.info(0) is None
    refused = [
        Outcome(*probe.open_array(None, "", "r", None)),
        Outcome(*probe.open_array(str(tmp_path), "", None, None)),
        Outcome(*probe.from_object(None, None)),
        Outcome(*probe.set_threads(0, 1)),
        call(probe, 0, False, [0, 0, 0], [1, 1, 1], np.zeros((1, 1, 1))),
        call(probe, 0, True, [0, 0, 0], [1, 1, 1], np.zeros((1, 1, 1))),
    ]
    with taken(probe, array) as handle:
        refused += [call(probe, handle, writes, [0, 0, 0], [1, 1, 1], None) for writes in (False, True)]
        refused += [Outcome(*probe.set_threads(handle, 0))]
    assert {outcome.result for outcome in refused} == {RESULTS["INVALID_ARGUMENT"]}
    assert all("expected" in outcome.message for outcome in refused)
    assert all(outcome.handle == 0 for outcome in refused)


def test_what_cannot_be_opened_is_a_result_and_no_handle(probe: ModuleType, tmp_path: Path) -> None:
    array = ARRAYS["files"](tmp_path / "a.zarr")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "zarr.json").write_text('{"zarr_format": 3, "node_type": "array"}')
    place = str(tmp_path / "a.zarr")
    cases_ = [
        (probe.open_array(str(tmp_path / "none"), "", "r", None), "NOT_FOUND", "none"),
        (probe.open_array(place, "group", "r", None), "NOT_FOUND", "expected an array, got a group"),
        (probe.open_array(place, "group/b", "r", None), "NOT_FOUND", "group/b"),
        (probe.open_array(place, "group/a", "w", None), "INVALID_ARGUMENT", 'mode: expected "r" or "r+", got \'w\''),
        (probe.open_array(place, "group/a", "r", "f4"), "WRONG_DTYPE", "group/a: expected items of float32, got int32"),
        (probe.open_array(place, "group/a", "r", ">i4"), "WRONG_DTYPE", "expected items of >i4, got int32"),
        (probe.open_array(place, "group/a", "r", "(,"), "WRONG_DTYPE", "expected a data type of NumPy"),
        (probe.open_array(str(broken), "", "r", None), "BAD_METADATA", "zarr.json"),
        (probe.from_object({}, None), "INVALID_ARGUMENT", "expected a zarrcy.Array, got dict"),
        (probe.from_object(array, "f4"), "WRONG_DTYPE", "expected items of float32"),
    ]
    for outcome, name, said in cases_:
        assert (outcome[0], outcome[3]) == (RESULTS[name], 0), outcome
        assert said in outcome[2]


@pytest.mark.parametrize("opened_by", ["path", "object"])
def test_an_array_for_reading_is_not_written_to(opened_by: str, probe: ModuleType, tmp_path: Path) -> None:
    array = ARRAYS["files"](tmp_path / "a.zarr")
    array[...] = 1
    if opened_by == "path":
        opened = probe.open_array(str(tmp_path / "a.zarr"), "group/a", "r", None)
    else:
        opened = probe.from_object(zarrcy.open_array(array.store, "group/a", mode="r"), None)
    outcome = call(probe, opened[3], True, [0, 0, 0], SHAPE, np.zeros(SHAPE, "int32"))
    assert outcome.result == RESULTS["READ_ONLY"]
    assert outcome.message.startswith(f"{array.store.url}: group/a: the array is read-only")
    fine(probe.close_array(opened[3]))
    assert (array[...] == 1).all()


def python_says(function: Callable[[], Any]) -> str:
    """The message of an exception and its notes."""
    with pytest.raises(zarrcy.ZarrcyError) as caught:
        function()
    return "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())])


@pytest.mark.parametrize("store", [FilesystemStore, cases.SubclassedStore])
def test_the_message_of_a_failure_is_that_of_pythons_exception(
    store: type[FilesystemStore], probe: ModuleType, tmp_path: Path
) -> None:
    array = made(store(tmp_path / "a.zarr"))
    array[...] = values_of(array.dtype, SHAPE, 1)
    memory = np.zeros(SHAPE, array.dtype)
    chunk = tmp_path / "a.zarr" / array.chunk_key((1, 1, 1))
    whole = chunk.read_bytes()
    with taken(probe, array) as handle:
        chunk.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        outcome = call(probe, handle, False, [0, 0, 0], SHAPE, memory)
        assert outcome.result == RESULTS["CODEC_FAILED"]
        assert outcome.message == python_says(lambda: array[...])
        assert array.chunk_key((1, 1, 1)) in outcome.message
        assert call(probe, handle, False, [0, 0, 0], SHAPE, memory, with_error=False).result == outcome.result
        chunk.unlink()
        chunk.mkdir()
        for writes in (False, True):
            outcome = call(probe, handle, writes, [4, 3, 5], [1, 1, 1], memory[:1, :1, :1])
            assert outcome.result == RESULTS["STORE_FAILED"] and outcome.os_error > 0
            assert array.chunk_key((1, 1, 1)) in outcome.message
        chunk.rmdir()
        fine(call(probe, handle, False, [0, 0, 0], SHAPE, memory))
    strict = zarrcy.open_array(array.store, "group/a", missing="raise")
    with taken(probe, strict) as handle:
        outcome = call(probe, handle, False, [0, 0, 0], SHAPE, memory)
        assert outcome.result == RESULTS["MISSING_CHUNK"]
        assert outcome.message == python_says(lambda: strict[...])


def test_a_store_that_is_gone_is_an_error_and_no_fill_value(probe: ModuleType, tmp_path: Path) -> None:
    array = ARRAYS["files"](tmp_path / "a.zarr")
    memory = np.zeros(SHAPE, array.dtype)
    with taken(probe, array) as handle:
        shutil.move(tmp_path / "a.zarr", tmp_path / "b.zarr")
        for writes in (False, True):
            outcome = call(probe, handle, writes, [0, 0, 0], SHAPE, memory)
            assert outcome.result == RESULTS["STORE_FAILED"]
            assert "a.zarr" in outcome.message
        shutil.move(tmp_path / "b.zarr", tmp_path / "a.zarr")
        fine(call(probe, handle, False, [0, 0, 0], SHAPE, memory))
    assert (memory == -1).all()


@pytest.mark.parametrize(
    ("raised", "name", "said"),
    [
        (ValueError("no\0good " + "é" * 3000 + " at all"), "FAILED", r"^ValueError: no\\0good é+…é+ at all$"),
        (MemoryError(), "NO_MEMORY", "^MemoryError$"),
        (zarrcy.PermissionDeniedError("no", key="k"), "PERMISSION_DENIED", "^k: no$"),
        (zarrcy.ConflictError("busy"), "CONFLICT", "^busy$"),
        (zarrcy.ReadOnlyError("no"), "READ_ONLY", "^no$"),
        (KeyboardInterrupt(), "INTERRUPTED", "^KeyboardInterrupt$"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_a_store_raises_is_a_result(raised: BaseException, name: str, said: str, probe: ModuleType) -> None:
    class Failing(MemoryStore):
        def get(self, key: str, part: slice | None = None) -> Any:
            if key.startswith("group/a/c/"):
                raise raised
            return super().get(key, part)

    with taken(probe, made(Failing())) as handle:
        outcome = call(probe, handle, False, [0, 0, 0], SHAPE, np.zeros(SHAPE, "int32"))
        assert outcome.result == RESULTS[name]
        assert re.search(said, outcome.message)


# ---- Threads


@pytest.mark.parametrize("kind", ["files", "shards", "v2, big-endian, F", "text"])
def test_threads_that_python_never_saw_read_and_write_files_while_the_gil_is_held(
    kind: str, probe: ModuleType, tmp_path: Path
) -> None:
    """Whoever took the GIL here would wait for a thread that waits for it."""
    array = ARRAYS[kind](tmp_path / "a.zarr")
    values = values_of(array.dtype, SHAPE, 3)
    with taken(probe, array) as handle:
        rows = [values[i : i + 1] for i in range(SHAPE[0])]
        jobs = [job(handle, True, [i, 0, 0], row.shape, row) for i, row in enumerate(rows)]
        for outcome in probe.run_in_threads(jobs, 3, True):
            fine(outcome)
        read = [np.zeros_like(values) for _ in range(8)]
        jobs = [job(handle, False, [0, 0, 0], SHAPE, memory) for memory in read]
        for outcome in probe.run_in_threads(jobs, 20, True):
            fine(outcome)
    assert all((memory == values).all() for memory in read)


@pytest.mark.parametrize("kind", ARRAYS)
def test_threads_that_python_never_saw_read_and_write_any_store(kind: str, probe: ModuleType, tmp_path: Path) -> None:
    """Eight threads, whose parts share chunks."""
    array = ARRAYS[kind](tmp_path / "a.zarr")
    values = values_of(array.dtype, SHAPE, 4)
    with taken(probe, array) as handle:
        parts = [values[k::8] for k in range(8)]
        jobs = [
            job(handle, True, [k, 0, 0], part.shape, part, step=[8 if len(part) > 1 else 1, 1, 1])
            for k, part in enumerate(parts)
        ]
        for outcome in probe.run_in_threads(jobs, 1, False):
            fine(outcome)
        read = [np.zeros_like(part) for part in parts]
        jobs = [
            job(handle, False, [k, 0, 0], part.shape, part, step=[8 if len(part) > 1 else 1, 1, 1])
            for k, part in enumerate(read)
        ]
        for outcome in probe.run_in_threads(jobs, 2, False):
            fine(outcome)
    assert all((got == part).all() for got, part in zip(read, parts))
    assert (array[...] == values).all()


@pytest.mark.parametrize("kind", ["files", "memory"])
def test_200_calls_at_one_time_are_all_answered(kind: str, probe: ModuleType, tmp_path: Path) -> None:
    array = ARRAYS[kind](tmp_path / "a.zarr")
    values = values_of(array.dtype, SHAPE, 5)
    array[...] = values
    read = [np.zeros_like(values) for _ in range(200)]
    with taken(probe, array) as handle:
        jobs = [job(handle, False, [0, 0, 0], SHAPE, memory) for memory in read]
        for outcome in probe.run_in_threads(jobs, 5, False):
            fine(outcome)
    assert all((memory == values).all() for memory in read)


@pytest.mark.parametrize("kind", ["files", "memory"])
def test_errors_in_threads_that_python_never_saw_have_their_messages(
    kind: str, probe: ModuleType, tmp_path: Path
) -> None:
    array = ARRAYS[kind](tmp_path / "a.zarr")
    array[...] = 1
    key = array.chunk_key((0, 0, 0))
    array.store.set(key, b"nothing that a codec wrote")
    memory = [np.zeros(SHAPE, array.dtype) for _ in range(8)]
    with taken(probe, array) as handle:
        jobs = [job(handle, False, [0, 0, 0], SHAPE, part) for part in memory]
        for outcome in map(Outcome._make, probe.run_in_threads(jobs, 1, False)):
            assert outcome.result == RESULTS["CODEC_FAILED"]
            assert outcome.message.startswith(f"{array.store.url}: {key}: ")


FORK = """
import os, sys, threading
import numpy as np
import zarrcy
sys.path.insert(0, sys.argv[1])
import probe
array = zarrcy.create_array(sys.argv[2], shape=(64, 64), chunks=(8, 64), dtype="float64")
values = np.arange(64.0 * 64).reshape(64, 64)
array[...] = values
handle = probe.from_object(array, "f8")[3]
assert probe.set_threads(handle, 4)[0] == 0
def move(writes, data):
    return (handle, writes, 2, (0, 0), (64, 64), None, data.ctypes.data, data.strides, True)
read = [np.zeros_like(values) for _ in range(8)]
def keep_reading():
    assert {answer[0] for answer in probe.run_in_threads([move(False, memory) for memory in read], 200, False)} == {0}
for turn in range(5):
    thread = threading.Thread(target=keep_reading)
    thread.start()
    child = os.fork()
    if child == 0:
        own = np.zeros_like(values)
        assert probe.run(move(False, own), True)[0] == 0 and (own == values).all()
        assert probe.run(move(True, values), True)[0] == 0
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    thread.join()
    assert all((memory == values).all() for memory in read)
assert probe.close_array(handle)[0] == 0
print("both did")
"""


def test_a_handle_works_in_a_child_that_is_forked_while_others_read(probe_path: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, str(probe_path.parent)]
    assert "both did" in run([*command, str(tmp_path / "a.zarr")])


# ---- The examples of the documentation


@pytest.mark.parametrize("kind", ["files", "memory"])
def test_the_c_extension_of_the_documentation_computes_what_numpy_does(kind: str, tmp_path: Path) -> None:
    example = load(build_extension(EXAMPLES / "column_means" / "column_means.c", tmp_path))
    store = FilesystemStore(tmp_path / "a.zarr") if kind == "files" else MemoryStore()
    array = zarrcy.create_array(store, shape=(37, 53), chunks=(10, 8), dtype="float64")
    values = np.random.default_rng(1).normal(size=(37, 53))
    array[...] = values
    for n_threads in (1, 2, 8, 20):
        np.testing.assert_allclose(example.column_means(array, n_threads), values.mean(axis=0), rtol=1e-12)
    with pytest.raises(TypeError, match="expected items of float64, got float32"):
        example.column_means(zarrcy.zeros((4, 4), dtype="float32"), 2)
    array.store.set(array.chunk_key((1, 2)), b"broken")
    with pytest.raises(RuntimeError, match=re.escape(array.chunk_key((1, 2)))):
        example.column_means(array, 4)


CLIP = """
import sys
sys.path.insert(0, sys.argv[1])
import clip, numpy as np, zarrcy
array = zarrcy.create_array(sys.argv[2], shape=10_007, chunks=100, shards=1000, dtype="float32")
values = np.random.default_rng(1).normal(size=10_007).astype("float32")
array[...] = values
clip.clip(sys.argv[2], -0.5, 0.25)
assert (array[...] == values.clip(-0.5, 0.25)).all()
try:
    clip.clip(sys.argv[2] + "/nothing", 0, 1)
except OSError as error:
    print(error)
"""


def test_the_cython_project_of_the_documentation_finds_zarrcy_and_clips(tmp_path: Path) -> None:
    """find_package(zarrcy) and cimport, from the installed package, in a build without a network."""
    source = shutil.copytree(EXAMPLES / "clip", tmp_path / "source")
    options = "--quiet --disable-pip-version-check --no-build-isolation --no-deps --no-index".split()
    run(
        [sys.executable, "-m", "pip", "install", *options, "--target", str(tmp_path / "lib"), str(source)], cwd=tmp_path
    )
    said = run([sys.executable, "-c", CLIP, str(tmp_path / "lib"), str(tmp_path / "a.zarr")])
    assert "nothing" in said


def test_the_documentation_shows_the_files_that_are_built_here() -> None:
    page = (ROOT / "docs" / "embedding.md").read_text()
    shown = re.findall(r"```\{literalinclude\} (\S+)", page)
    files = [path for path in EXAMPLES.glob("*/*") if path.is_file()]
    assert {(ROOT / "docs" / name).resolve() for name in shown} >= set(files)
    header = HEADER.read_text()
    assert [name for name in re.findall(r"^\| `(\w+)\(?", page, re.MULTILINE) if name not in header] == []
    assert [name for name in RESULTS if name != "OK" and f"| `ZARRCY_{name}` |" not in page] == []
