"""The rounds: each peer in a process of its own, asked in turn, so that all see the same load of the machine."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .data import Data
from .peers import PEERS
from .rows import PER_SECOND, Row

Sample = dict[str, float]  # "cpu" and "wall" in seconds, "memory" in MiB
OURS = ("reference", "zarrcy", "slice")  # what may not fail; "slice" is zarrcy too


class Worker:
    """The process of one peer."""

    def __init__(self, peer: str, data: Data) -> None:
        here = str(Path(__file__).parents[1])
        command = [sys.executable, "-m", "comparison.work", peer, str(data.root), data.scale]
        environment = {**os.environ, "PYTHONPATH": here, "PYTHONSAFEPATH": "1"}  # the installed zarrcy
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, row: Row, seed: int, checked: bool, as_slice: bool) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        question = {"row": row.name, "seed": seed, "checked": checked, "slice": as_slice}
        try:
            print(json.dumps(question), file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        return json.loads(answer) if answer else {"error": f"the process ended with {self.process.wait()}"}

    def close(self) -> None:
        self.process.communicate()


@dataclass
class Result:
    """What was measured of one row: samples of each peer, or why there are none."""

    row: Row
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def value(self, peer: str, of: str = "cpu") -> float | None:
        """The median, in the row's unit: a ratio to the reference of the same round, or an absolute number."""
        values = self.values(peer, of)
        return statistics.median(values) if values else None

    def values(self, peer: str, of: str = "cpu") -> list[float]:
        samples = self.samples.get(peer, [])
        if self.row.unit == "MiB":
            return [sample["memory"] for sample in samples]
        if self.row.unit != "ratio":
            return [sample[of] * PER_SECOND[self.row.unit] for sample in samples]
        references = self.samples.get(self.row.reference, [])
        return [sample[of] / reference[of] for sample, reference in zip(samples, references)]

    def best(self, peers: Iterable[str], of: str = "cpu") -> str | None:
        """The peer that takes least, zarrcy not counted."""
        found = {peer: value for peer in peers if peer not in OURS and (value := self.value(peer, of)) is not None}
        return min(found, key=lambda peer: found[peer]) if found else None


class Comparison:
    """Measures rows of the table, with one process for each peer until the block ends."""

    def __init__(self, data: Data, peers: Sequence[str], rounds: int, say: Callable[[str], None]) -> None:
        self.data, self.peers, self.rounds, self.say = data, peers, rounds, say
        self.workers: dict[str, Worker] = {}

    def __enter__(self) -> Comparison:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers.values():
            worker.close()

    def prepare(self, row: Row) -> None:
        """Make the data of a row, so that nobody makes it while the clock runs."""
        if row.array:
            self.data.values(row.array.field)
            for file_format in {"zarr", *(PEERS[p].file_format for p in self.peers if not self.lacks(row, p))}:
                self.data.prepare(row.array, file_format)

    @staticmethod
    def lacks(row: Row, peer: str) -> str | None:
        return PEERS[peer].lacks(row.operation, row.array)

    def measure(self, row: Row) -> Result:
        """The rounds of one row. Each begins with another peer, so that none always runs after the same one."""
        self.prepare(row)
        result = Result(row, missing={peer: why for peer in self.peers if (why := self.lacks(row, peer))})
        names = [peer for peer in self.peers if peer not in result.missing]
        if row.reference == "slice" and "zarrcy" in names:
            names.insert(0, "slice")
        for seed in range(self.rounds):
            turn = seed % len(names)
            for name in names[turn:] + names[:turn]:
                if name not in result.missing:
                    self.sample(result, name, seed)
        return result

    def sample(self, result: Result, name: str, seed: int) -> None:
        """One sample of one peer; a failure takes the peer out of the row."""
        row, peer = result.row, "zarrcy" if name == "slice" else name
        if row.fresh and peer in self.workers:
            self.workers.pop(peer).close()
        if peer not in self.workers:
            self.workers[peer] = Worker(peer, self.data)
        answer = self.workers[peer].ask(row, seed, seed == 0, name == "slice")
        if "error" not in answer:
            result.samples.setdefault(name, []).append(answer)
        elif name in OURS:
            raise RuntimeError(f"{row.name}: {name}: {answer['error']}")
        else:
            self.say(f"{row.name}: {name}: {answer['error']}")
            self.workers.pop(peer).close()  # it may be dead
            result.missing[name] = answer["error"]
            result.samples.pop(name, None)
