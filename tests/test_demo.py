"""The demo on some of its files: it finds no difference, and it would report one."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import zarrcy

SCRIPT = Path(__file__).parent.parent / "scripts" / "demo.py"
_spec = importlib.util.spec_from_file_location("demo", SCRIPT)
assert _spec and _spec.loader
demo = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(demo)


def test_the_quick_demo_finds_every_variable_identical() -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(zarrcy.__file__).parent.parent)}  # the package that is under test
    done = subprocess.run([sys.executable, SCRIPT, "--quick"], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "all identical to the source, bit for bit" in done.stdout
    assert done.stdout.count("identical") == 7


@pytest.mark.parametrize("form", demo.FORMS)
def test_one_changed_bit_is_a_difference(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    variable = demo.Variable(
        "t", np.arange(1000, dtype="<f4").reshape(50, 20), ("y", "x"), {"units": "K"}, np.float32(1e20)
    )
    dataset = demo.Dataset("file", {"title": "é"}, [variable])
    assert demo.run(tmp_path / "a.zarr", [dataset], form) == []
    changed = variable.values.copy()
    changed.view("<u4")[30, 10] ^= 1
    changes = {
        "file/t: 1 of 1000 values": {"values": changed},
        "file/t: dimension names": {"dimensions": ("x", "y")},
        "file/t: attributes": {"attributes": {"units": "C"}},
        "file/t: fill value": {"fill_value": np.float32(-1)},
    }
    root = zarrcy.open_group(tmp_path / "a.zarr", mode="r")
    arrays = {"file/t": root["file/t"][...]}
    for line, change in changes.items():
        other = demo.Dataset("file", {"title": "é"}, [variable._replace(**change)])
        assert [found[: len(line)] for found in demo.differences(root, [other], form, arrays)] == [line]
    capsys.readouterr()
