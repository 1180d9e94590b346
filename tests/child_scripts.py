"""Runs a script of the tests in a Python of its own, which may fork beside threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from sanitized import patience

import zarrcy

TESTS = Path(__file__).parent


def run_script(name: str, *arguments: object, timeout: float = 120) -> str:
    """What it prints. Its assertions are the test's, and one that hangs fails here."""
    # The modules beside it, and the package under test.
    places = os.pathsep.join([str(TESTS), str(Path(zarrcy.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, str(TESTS / name), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": places},
        capture_output=True,
        text=True,
        timeout=patience(timeout),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
