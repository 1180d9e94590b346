"""64 threads of mixed operations against a serial model.

Each thread has a row of its own, which must hold what it wrote last. Other rows belong to all. There, each operation
has an interval, from before it is called until after it returned. What a read gives, and what is there at the end, must
be what some order of the operations within their intervals gives: never a value that was written over before, never one
that is yet to be written, never an item of a torn or lost write.
"""

from __future__ import annotations

import bisect
import itertools
import random
import threading
from pathlib import Path
from typing import Any, NamedTuple

import array_cases as cases
import numpy as np
import pytest

import zarrcy

N_THREADS, N_SHARED, N_COLUMNS = 64, 10, 45
SHAPE = (N_THREADS + N_SHARED, N_COLUMNS)
Key = tuple[slice, slice]


class Operation(NamedTuple):
    begin: int
    end: int
    key: Key
    items: np.ndarray  # read, or written


def keys(choice: random.Random) -> Key:
    """A box of the rows that are shared; sometimes all of them, so that chunks are written whole."""
    if choice.random() < 0.2:
        return slice(N_THREADS, SHAPE[0]), slice(0, N_COLUMNS)
    first = N_THREADS + choice.randrange(N_SHARED)
    columns = sorted(choice.sample(range(N_COLUMNS + 1), 2))
    rows = slice(first, choice.randrange(first, SHAPE[0]) + 1, choice.choice([1, 1, 3]))
    return rows, slice(*columns, choice.choice([1, 1, 1, 2, 7]))


class Run:
    """The operations of all threads on one array."""

    def __init__(self, array: zarrcy.Array, n_steps: int) -> None:
        self.array = array
        self.n_steps = n_steps
        self.own = np.zeros((N_THREADS, N_COLUMNS), "int32")
        self.ticks = itertools.count(1)
        self.writes: list[Operation] = []
        self.reads: list[Operation] = []
        self.failures: list[BaseException] = []

    def work(self, number: int) -> None:
        choice = random.Random(number)
        try:
            for step in range(self.n_steps):
                if choice.random() < 0.5:
                    self.step_of_own(number, choice)
                else:
                    self.step_of_shared(1 + number * self.n_steps + step, choice)
        except BaseException as error:
            self.failures.append(error)

    def step_of_own(self, row: int, choice: random.Random) -> None:
        key: Any = (row, slice(*sorted(choice.sample(range(N_COLUMNS + 1), 2)), choice.choice([1, 2, 5])))
        if choice.random() < 0.25:
            key = (row, choice.sample(range(N_COLUMNS), 6))
        if choice.random() < 0.7:
            items = np.arange(self.own[key].size, dtype="int32") + choice.randrange(2**20)
            self.array[key] = items
            self.own[key] = items
        assert (self.array[key] == self.own[key]).all()
        assert (self.array[row] == self.own[row]).all()

    def step_of_shared(self, value: int, choice: random.Random) -> None:
        key = keys(choice)
        begin = next(self.ticks)
        if choice.random() < 0.6:
            self.array[key] = value
            self.writes.append(Operation(begin, next(self.ticks), key, np.int32(value)))
        else:
            items = self.array[key]
            self.reads.append(Operation(begin, next(self.ticks), key, items))

    def check(self) -> None:
        if self.failures:
            raise self.failures[0]
        items = self.array[...]
        assert (items[:N_THREADS] == self.own).all()
        now = next(self.ticks)
        everything = (slice(N_THREADS, SHAPE[0]), slice(0, N_COLUMNS))
        self.reads.append(Operation(now, now, everything, items[N_THREADS:]))
        histories = self.histories()
        numbers = np.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE)
        for read in self.reads:
            for item, value in zip(numbers[read.key].ravel(), read.items.ravel()):
                histories[item].check(int(value), read)

    def histories(self) -> dict[int, History]:
        numbers = np.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE)
        writes: dict[int, list[Operation]] = {int(item): [] for item in numbers[N_THREADS:].ravel()}
        for write in self.writes:
            for item in numbers[write.key].ravel():
                writes[int(item)].append(write)
        return {item: History(of_item) for item, of_item in writes.items()}


class History:
    """The writes of one item."""

    def __init__(self, writes: list[Operation]) -> None:
        self.by_value = {int(write.items): write for write in writes} | {0: Operation(0, 0, (slice(0),) * 2, None)}
        by_end = sorted((write.end, write.begin) for write in writes)
        self.ends = [end for end, _ in by_end]
        self.latest_begin = list(itertools.accumulate((begin for _, begin in by_end), max))

    def check(self, value: int, read: Operation) -> None:
        assert value in self.by_value, f"{value} was never written there"
        write = self.by_value[value]
        assert write.begin < read.end, f"{value} was read before it was written"
        n_before = bisect.bisect_left(self.ends, read.begin)
        if n_before:
            assert write.end > self.latest_begin[n_before - 1], f"{value} had been written over before it was read"


def run_threads(run: Run) -> None:
    threads = [threading.Thread(target=run.work, args=(number,)) for number in range(N_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.check()


LAYOUTS: dict[str, dict[str, Any]] = {
    "chunks": {"chunks": (7, 9), "compressor": "zstd"},
    "raw": {"chunks": (7, 9), "compressor": None},
    "sharded": {"chunks": (7, 9), "shards": (14, 18), "compressor": "zstd"},
    "one chunk": {"chunks": SHAPE, "compressor": None},
}


@pytest.mark.parametrize("n_steps", [12, pytest.param(200, marks=pytest.mark.long)])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["memory", "filesystem", "subclass", "zip"])
def test_64_threads_agree_with_a_serial_model(tmp_path: Path, kind: str, layout: str, n_steps: int) -> None:
    store = cases.make_store(kind, tmp_path)
    array = zarrcy.create_array(store, shape=SHAPE, dtype="int32", **LAYOUTS[layout])
    with zarrcy.use_threads(3):
        run_threads(Run(array, n_steps))


def test_the_model_notices_what_no_order_gives() -> None:
    everything = (slice(0),) * 2
    intervals = {1: (1, 2), 2: (3, 6), 3: (9, 10)}
    first, second, late = [Operation(*intervals[value], everything, np.int32(value)) for value in intervals]
    history = History([first, second, late])
    history.check(1, Operation(4, 5, everything, None))  # beside the second
    history.check(2, Operation(4, 5, everything, None))
    history.check(2, Operation(7, 8, everything, None))
    for value, interval in [(1, (7, 8)), (0, (4, 5)), (3, (7, 8)), (4, (7, 8)), (2, (11, 12))]:
        with pytest.raises(AssertionError):
            history.check(value, Operation(*interval, everything, None))
