"""Instructions of a small read, counted by perf or valgrind: they do not depend on what else the machine does.

``python -m comparison.instructions PEER DIRECTORY SCALE ROW N`` makes a row's calls for N rounds. It is run for two
numbers of rounds; the difference is what the calls take, without the start of Python.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .data import Data
from .peers import PEERS
from .rows import ROWS, selections

SMALL = ("chunk-raw-64k", "chunk-raw-1k", "chunk-zstd-4k", "chunk-inner")
N_CALLS = 100
ROUNDS = (1, 41)


def counter() -> str | None:
    """The tool: "perf" where the processor's counters may be read, else "valgrind", else ``None``."""
    if shutil.which("perf") and _perf(["true"]) is not None:
        return "perf"
    return "valgrind" if shutil.which("valgrind") else None


def _perf(command: Sequence[str], environment: dict[str, str] | None = None) -> int | None:
    counted = ["perf", "stat", "-x", ",", "-e", "instructions:u", "--", *command]
    finished = subprocess.run(counted, env=environment, capture_output=True, text=True)
    found = re.search(r"^(\d+),.*instructions:u", finished.stderr, re.MULTILINE)
    return int(found[1]) if found and not finished.returncode else None


def _valgrind(command: Sequence[str], environment: dict[str, str] | None = None) -> int | None:
    with tempfile.TemporaryDirectory() as temporary:
        counted = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={temporary}/out", *command]
        finished = subprocess.run(counted, env=environment, capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", finished.stderr)
    return int(found[1]) if found and not finished.returncode else None


def count(peer: str, row: str, data: Data, how: str) -> float | None:
    """Instructions of one call, or ``None`` where the peer does not run under the counter."""
    here = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": here, "PYTHONSAFEPATH": "1"}
    # What differs from run to run: the order of hashes, and the threads of NumPy's library, which wait in a loop.
    environment |= {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}
    run = _perf if how == "perf" else _valgrind
    counts = []
    for rounds in ROUNDS:
        module = [sys.executable, "-m", "comparison.instructions", peer, str(data.root), data.scale, row, str(rounds)]
        counts.append(run(module, environment))
    few, many = counts
    if few is None or many is None:
        return None
    return (many - few) / (N_CALLS * (ROUNDS[1] - ROUNDS[0]))


def table(data: Data, peers: Sequence[str], rows: Sequence[str] = SMALL) -> str:
    """A Markdown section: thousands of instructions of a call, for the reference, zarrcy and the other peers."""
    how = counter()
    title = "## Instructions of a small read"
    if how is None:
        return f"{title}\n\nNot counted: neither perf, with access to the processor's counters, nor valgrind is here."
    lines = [f"| thousands of instructions, by {how} | {' | '.join(peers)} |", "|---" * (len(peers) + 1) + "|"]
    for name in rows:
        row = ROWS[name]
        assert row.array
        data.prepare(row.array, "zarr")
        cells = []
        for peer in peers:
            counted = None if PEERS[peer].lacks(row.operation, row.array) else count(peer, name, data, how)
            cells.append("–" if counted is None else f"{counted / 1000:.1f}")
        lines.append(f"| {row.title} | {' | '.join(cells)} |")
    return f"{title}\n\n" + "\n".join(lines)


def main(peer: str, directory: str, scale: str, name: str, rounds: str) -> None:
    data, row = Data(Path(directory), scale), ROWS[name]
    assert row.array
    chosen = (selections(row, data, 0) * N_CALLS)[:N_CALLS]
    work = PEERS[peer](data).chunks(row.array, chosen)
    for _ in range(int(rounds)):
        work()


if __name__ == "__main__":
    main(*sys.argv[1:])
