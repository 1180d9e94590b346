"""One process for each peer, which measures what it is asked for: ``python -m comparison.work PEER DIRECTORY SCALE``.

A line of JSON on the standard input asks, a line on the standard output answers.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .data import Data, remove, written_below
from .peers import PEERS, Peer
from .rows import ROWS, Row, orthogonal, selections


class WrongValuesError(Exception):
    """A peer read something else than what was written."""


def clock() -> tuple[float, float]:
    """CPU time of all threads of this process, and wall time, in seconds."""
    return time.process_time(), time.perf_counter()


def timed(work: Callable[[], Any], n_calls: int) -> tuple[dict[str, float], Any]:
    start = clock()
    result = work()
    cpu, wall = (after - before for before, after in zip(start, clock()))
    return {"cpu": cpu / n_calls, "wall": wall / n_calls}, result


def check(read: Any, expected: np.ndarray, what: str) -> None:
    values = np.asarray(read)  # some peers keep an axis that an integer takes away
    if values.size != expected.size or not np.array_equal(values.reshape(expected.shape), expected):
        raise WrongValuesError(f"{what}: expected what was written, got other values")


class Bench:
    """The operations, on one peer."""

    def __init__(self, peer: Peer) -> None:
        self.peer, self.data = peer, peer.data

    def measure(self, row: Row, seed: int, checked: bool) -> dict[str, float]:
        """CPU and wall time in seconds for each call, or memory in MiB."""
        return getattr(self, row.operation)(row, seed, checked)

    def everything(self, row: Row, seed: int, checked: bool) -> dict[str, float]:
        times, read = timed(self.peer.everything(row.array), 1)
        if checked:
            check(read, self.data.values(row.array.field), row.name)
        return times

    def small(self, row: Row, seed: int, checked: bool, how: str) -> dict[str, float]:
        """Many calls, after a few that are not timed."""
        chosen = selections(row, self.data, seed)
        asked = orthogonal(chosen) if how == "oindex" else chosen
        prepare = getattr(self.peer, how)
        prepare(row.array, asked[: max(1, len(asked) // 20)])()
        times, read = timed(prepare(row.array, asked), len(asked))
        if checked:
            check(read, self.data.values(row.array.field)[chosen[-1]], row.name)
        return times

    def chunks(self, row: Row, seed: int, checked: bool) -> dict[str, float]:
        return self.small(row, seed, checked, "chunks")

    def items(self, row: Row, seed: int, checked: bool) -> dict[str, float]:
        return self.small(row, seed, checked, "items")

    def oindex(self, row: Row, seed: int, checked: bool) -> dict[str, float]:
        return self.small(row, seed, checked, "oindex")

    def slice(self, row: Row, seed: int, checked: bool) -> dict[str, float]:
        return self.small(row, seed, checked, "box")

    def opening(self, row: Row, seed: int, checked: bool) -> dict[str, float]:
        self.peer.reopen(row.array, 2)()
        return timed(self.peer.reopen(row.array, row.n_calls), row.n_calls)[0]

    def writing(self, row: Row, seed: int, checked: bool) -> dict[str, float]:
        """Into a new place, from values that are in memory. The place is removed afterwards."""
        values = np.ascontiguousarray(self.data.values(row.array.field))
        path = written_below(self.data) / f"zarrcy-comparison-{os.getpid()}"
        try:
            times, _ = timed(lambda: self.peer.write(row.array, path, values), 1)
            if checked and self.peer.file_format == "zarr":
                self.check_written(row, path, values)
        finally:
            remove(path)
        return times

    def check_written(self, row: Row, path: Path, values: np.ndarray) -> None:
        import zarrcy

        if not (path / "zarr.json").exists():  # the reference writes chunks alone
            document = (self.data.path(row.array) / "zarr.json").read_bytes()
            (path / "zarr.json").write_bytes(document)
        check(zarrcy.open_array(path, mode="r")[...], values, row.name)

    def memory(self, row: Row, seed: int, checked: bool) -> dict[str, float]:
        """The most memory that a read takes, above what the process has with the array open."""
        work = self.peer.everything(row.array)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew (proc(5))
        before = peak_mib()
        times, read = timed(work, 1)
        peak = peak_mib() - before
        if checked:
            check(read, self.data.values(row.array.field), row.name)
        return {**times, "memory": peak}

    def importing(self, row: Row, seed: int, checked: bool) -> dict[str, float]:
        """New interpreters that import NumPy and the peer, less those that import NumPy, which take as long each time
        as ten of the difference."""
        both = f"import numpy; {self.peer.import_statement}"
        pairs = [(time_python("import numpy"), time_python(both)) for _ in range(row.n_calls)]
        return {name: statistics.median(more[name] - less[name] for less, more in pairs) for name in ("cpu", "wall")}


def peak_mib() -> float:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


def time_python(statement: str) -> dict[str, float]:
    def cpu() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    start = cpu(), time.perf_counter()
    # The other threads of OpenBLAS spin for as long as anything else is imported.
    subprocess.run([sys.executable, "-c", statement], check=True, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    return {"cpu": cpu() - start[0], "wall": time.perf_counter() - start[1]}


def serve(peer_name: str, data: Data) -> None:
    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    bench: Bench | None = None
    for line in sys.stdin:
        question = json.loads(line)
        row = ROWS[question["row"]]
        try:
            bench = bench or Bench(PEERS[peer_name](data))
            if question["slice"]:
                answer = bench.slice(row, question["seed"], question["checked"])
            else:
                answer = bench.measure(row, question["seed"], question["checked"])
        except Exception as error:  # whatever a peer raises is its answer
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], Data(Path(sys.argv[2]), sys.argv[3]))
