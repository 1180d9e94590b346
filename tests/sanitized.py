"""What a run with a sanitizer needs to know (scripts/test --asan and --tsan): whether this is one, and what it leaves
out."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

TESTS = Path(__file__).resolve().parent
KIND = os.environ.get("SANITIZED")  # "asan" or "tsan", set by scripts/sanitized
# What is only in objects that were compiled with the sanitizer.
MARKS = {"asan": b"__asan_init", "tsan": b"__tsan_init"}


def left_out() -> dict[str, str]:
    """The test files that are not of the core suite, and why."""
    lines = (TESTS / "sanitizers" / "left_out.txt").read_text().splitlines()
    return dict(line.split(": ", 1) for line in lines if not line.startswith("#"))


def share(n_examples: int) -> int:
    """How many random examples a test draws: with a sanitizer each takes many times as long."""
    return n_examples // 10 if KIND else n_examples


def patience(seconds: float) -> float:
    """After how long a child process is taken to hang."""
    return 20 * seconds if KIND else seconds


def modules() -> list[Path]:
    """The compiled modules of the package under test."""
    import zarrcy

    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    return sorted(Path(zarrcy.__file__).parent.rglob(f"*{suffix}"))


def is_instrumented(module: Path, kind: str) -> bool:
    return MARKS[kind] in module.read_bytes()


def preloaded(library: object) -> str:
    """LD_PRELOAD for a library of a test: behind the runtime of a sanitizer, which has to be the first."""
    return ":".join(filter(None, [os.environ.get("LD_PRELOAD"), str(library)]))
