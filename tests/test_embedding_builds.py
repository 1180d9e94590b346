"""The header compiles, the right versions fit together, and the examples of docs/embedding.md are built and run."""

from __future__ import annotations

import re
import shutil
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from embedding_cases import HEADER, RESULTS, ROOT, STRICT, build_extension, compiler, load, run

import zarrcy
from zarrcy.stores.filesystem import FilesystemStore
from zarrcy.stores.memory import MemoryStore

EXAMPLES = ROOT / "docs" / "examples"


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
