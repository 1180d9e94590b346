"""The runs with sanitizers report faults: those that are planted, and nothing less in a build that they watch."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import sanitized

ROOT = sanitized.TESTS.parent
OPTIONS = ["ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS"]  # of the run that this is a test of
FLAGS = {"asan": "-fsanitize=address,undefined", "tsan": "-fsanitize=thread"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where the planted faults lie as a Python module, built for each sanitizer."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in FLAGS}
    source = sanitized.TESTS / "sanitizers" / "planted.c"
    include = sysconfig.get_paths()["include"]
    for kind, folder in folders.items():
        target = folder / f"planted{sysconfig.get_config_var('EXT_SUFFIX')}"
        command = [os.environ.get("CC", "cc"), FLAGS[kind], "-g", "-O1", "-shared", "-fPIC", "-pthread"]
        subprocess.run([*command, "-isystem", include, str(source), "-o", str(target)], check=True, timeout=60)
    return folders


def run_planted(kind: str, folder: Path, call: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); import planted; planted.{call}; print('went on')"
    environment = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", *OPTIONS)}
    command = [str(ROOT / "scripts" / "sanitized"), kind, sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


REPORTS = {
    ("asan", "overflow(16)"): "heap-buffer-overflow",
    ("asan", f"undefined({2**31 - 1})"): "signed integer overflow",
    ("tsan", "race(100000)"): "data race",
}


@pytest.mark.parametrize(("kind", "call"), REPORTS)
def test_a_planted_fault_is_reported_and_ends_the_process(folders: dict[str, Path], kind: str, call: str) -> None:
    done = run_planted(kind, folders[kind], call)
    assert done.returncode != 0
    assert REPORTS[kind, call] in done.stderr
    assert "went on" not in done.stdout


@pytest.mark.parametrize("kind", FLAGS)
def test_the_same_calls_without_a_fault_are_not_reported(folders: dict[str, Path], kind: str) -> None:
    for call in ("overflow(15)", "undefined(1)", "race(0)"):
        done = run_planted(kind, folders[kind], call)
        assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr


def test_a_run_with_a_sanitizer_tests_a_build_with_it_and_any_other_run_one_without() -> None:
    modules = sanitized.modules()
    assert {"engine", "capi", "files", "zstd"} <= {module.name.split(".")[0] for module in modules}
    for kind in sanitized.MARKS:
        for module in modules:
            assert sanitized.is_instrumented(module, kind) == (kind == sanitized.KIND), module


def test_what_the_runs_leave_out_exists_and_has_a_reason() -> None:
    for name, reason in sanitized.left_out().items():
        assert (sanitized.TESTS / name).is_file(), name
        assert reason


def test_no_module_declares_that_it_works_without_the_gil() -> None:
    """It needs a run of the suite on a free-threaded Python, which docs/internals.md says."""
    for source in [ROOT / "CMakeLists.txt", *(ROOT / "cmake").iterdir(), *(ROOT / "zarrcy").rglob("*.py*")]:
        if source.suffix in (".txt", ".cmake", ".py", ".pyx", ".pxd"):
            assert "freethreading_compatible" not in source.read_text(), source


@pytest.mark.parametrize("name", ["asan.txt", "tsan.txt", "ubsan.txt"])
def test_every_suppression_has_a_reason_above_it(name: str) -> None:
    lines = (sanitized.TESTS / "sanitizers" / name).read_text().splitlines()
    for before, line in itertools.pairwise(lines):
        assert line.startswith("#") or before.startswith("#"), line
