"""The rows of docs/performance.md, small and for zarrcy alone; benchmarks/compare.py has them beside the peers."""

from __future__ import annotations

import tempfile
from pathlib import Path

from comparison import instructions
from comparison.data import LAYOUTS, Data, remove, written_below
from comparison.peers import Zarrcy
from comparison.rows import ROWS, orthogonal, selections


def prepared(*names: str) -> str:
    """The directory with the data of some rows: asv keeps the current one as long as the benchmarks run."""
    data = Data(Path.cwd(), "quick")
    for name in names:
        row = ROWS[name]
        assert row.array
        data.prepare(row.array, "zarr")
    return str(data.root)


READS = [name for name, row in ROWS.items() if row.operation == "everything"]
SMALL_READS = [name for name, row in ROWS.items() if row.operation in ("chunks", "items", "oindex")]
WRITES = [name for name, row in ROWS.items() if row.operation == "writing"]


class ReadEverything:
    params = READS
    param_names = ["row"]

    def setup_cache(self) -> str:
        return prepared(*READS)

    def setup(self, root: str, name: str) -> None:
        row = ROWS[name]
        assert row.array
        self.work = Zarrcy(Data(Path(root), "quick")).everything(row.array)

    def time_row(self, root: str, name: str) -> None:
        self.work()

    def peakmem_row(self, root: str, name: str) -> None:
        self.work()


class SmallReads:
    """A tenth of a row's calls, at the same places each time."""

    params = SMALL_READS
    param_names = ["row"]

    def setup_cache(self) -> str:
        return prepared(*SMALL_READS)

    def setup(self, root: str, name: str) -> None:
        row = ROWS[name]
        assert row.array
        data = Data(Path(root), "quick")
        chosen = selections(row, data, 0)
        asked = orthogonal(chosen) if row.operation == "oindex" else chosen
        self.work = getattr(Zarrcy(data), row.operation)(row.array, asked)

    def time_row(self, root: str, name: str) -> None:
        self.work()


class WriteEverything:
    """Into a new directory each time."""

    params = WRITES
    param_names = ["row"]
    number = 1
    warmup_time = 0

    def setup_cache(self) -> str:
        return prepared(*WRITES)

    def setup(self, root: str, name: str) -> None:
        row = ROWS[name]
        assert row.array
        data = Data(Path(root), "quick")
        self.peer, self.layout = Zarrcy(data), row.array
        self.values = data.values(self.layout.field).copy()
        self.path = Path(tempfile.mkdtemp(dir=written_below(data)), "new.zarr")

    def teardown(self, root: str, name: str) -> None:
        remove(self.path.parent)

    def time_row(self, root: str, name: str) -> None:
        self.peer.write(self.layout, self.path, self.values)

    def peakmem_row(self, root: str, name: str) -> None:
        self.peer.write(self.layout, self.path, self.values)


class PeakMemory:
    """256 MiB, which are large beside the interpreter: less than 280 MiB more than that is the promise."""

    params = ["zstd-1m", "shards-zstd"]
    param_names = ["layout"]
    timeout = 600

    def setup_cache(self) -> str:
        data = Data(Path.cwd(), "full")
        for name in self.params:
            data.prepare(LAYOUTS[name], "zarr")
        return str(data.root)

    def setup(self, root: str, name: str) -> None:
        self.work = Zarrcy(Data(Path(root), "full")).everything(LAYOUTS[name])

    def peakmem_everything(self, root: str, name: str) -> None:
        self.work()


class Instructions:
    """What a small read costs, however busy the machine is; nothing where neither perf nor valgrind can count."""

    params = ["chunk-raw-1k", "chunk-zstd-4k"]
    param_names = ["row"]
    timeout = 900

    def setup_cache(self) -> str:
        return prepared(*self.params)

    def track_call(self, root: str, name: str) -> float:
        how = instructions.counter()
        counted = instructions.count("zarrcy", name, Data(Path(root), "quick"), how) if how else None
        return float("nan") if counted is None else counted

    track_call.unit = "instructions"  # type: ignore[attr-defined]
