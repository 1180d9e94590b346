"""benchmarks/compare.py, on small data, with zarrcy and the reference in C alone: what it prints is whole and right."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
QUICK = ["read-raw-64k", "chunk-zstd-4k", "chunk-inner", "point-blosc-8m", "oindex", "write-raw-64k", "open", "memory"]


@pytest.fixture(scope="module")
def comparison() -> Iterator[Any]:
    sys.path.insert(0, str(BENCHMARKS))
    import comparison.data
    import comparison.peers
    import comparison.report
    import comparison.rounds
    import comparison.rows
    import comparison.work

    yield comparison
    sys.path.remove(str(BENCHMARKS))
    for name in [name for name in sys.modules if name.split(".")[0] == "comparison"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def data(comparison: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return comparison.data.Data(tmp_path_factory.mktemp("comparison"), "quick")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_quick_run_prints_a_whole_table_and_says_what_was_not_measured(comparison: Any, data: Any) -> None:
    output = data.root / "performance.md"
    command = [sys.executable, str(BENCHMARKS / "compare.py"), "--quick", "--rounds", "1", "--data", str(data.root)]
    command += ["--output", str(output), "--rows", *QUICK, "--peers"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    text = output.read_text()
    assert finished.stdout.strip() == text.strip()
    lines = text.split("## CPU time")[1].split("## Wall time")[0].strip().splitlines()
    assert cells(lines[0]) == ["workload", "reference", "zarrcy", "of the best peer"]
    assert [cells(line)[0] for line in lines[2:]] == [comparison.rows.ROWS[name].title for name in QUICK]
    for line in lines[2:]:
        assert "–" not in cells(line)[1:2] and cells(line)[2].startswith("**"), line
    for peer in comparison.peers.PEERS:
        assert peer in ("reference", "zarrcy") or peer in text.split("## What was measured")[1], peer


def test_a_peer_that_reads_other_values_is_found_out(comparison: Any, data: Any) -> None:
    class Liar(comparison.peers.Zarrcy):
        def read(self, array: Any, selection: Any) -> np.ndarray:
            return array[selection] + 1

    bench = comparison.work.Bench(Liar(data))
    for name in ("read-raw-64k", "chunk-zstd-4k", "point-blosc-8m"):
        row = comparison.rows.ROWS[name]
        data.prepare(row.array, "zarr")
        with pytest.raises(comparison.work.WrongValuesError, match=name):
            bench.measure(row, 0, True)


def result(comparison: Any, name: str, **samples: list[float]) -> Any:
    of = {peer: [{"cpu": value, "wall": 2 * value} for value in values] for peer, values in samples.items()}
    return comparison.rounds.Result(comparison.rows.ROWS[name], of)


def test_a_ratio_is_the_median_of_the_ratios_of_each_round(comparison: Any) -> None:
    measured = result(comparison, "read-raw-64k", reference=[1, 2, 10], zarrcy=[2, 3, 11], zarrs=[4, 4, 4])
    assert measured.value("zarrcy") == 1.5
    assert measured.best(["zarrcy", "zarrs", "zarr"]) == "zarrs"
    assert not comparison.report.is_met(measured, "zlib-ng")
    assert comparison.report.is_met(result(comparison, "read-raw-64k", reference=[1], zarrcy=[1.05]), "zlib-ng")


def test_a_quantity_is_compared_in_its_own_unit(comparison: Any) -> None:
    fast = result(comparison, "open", reference=[7e-6], zarrcy=[15e-6])
    slow = result(comparison, "open", reference=[7e-6], zarrcy=[16e-6])
    assert comparison.report.is_met(fast, "zlib-ng") and not comparison.report.is_met(slow, "zlib-ng")
    assert comparison.report.number(fast.value("zarrcy"), fast.row) == "15 µs"


def test_the_target_of_gzip_depends_on_the_library_that_is_linked(comparison: Any) -> None:
    row = comparison.rows.ROWS["read-gzip-1m"]
    assert (row.limit("libdeflate"), row.limit("zlib-ng"), row.limit("zlib")) == (1.15, 1.6, 1.6)


def test_every_row_has_a_layout_and_an_operation_that_is_measured(comparison: Any) -> None:
    for row in comparison.rows.ROWS.values():
        assert hasattr(comparison.work.Bench, row.operation), row.name
        assert row.operation in comparison.peers.Peer.operations
        for peer in comparison.peers.PEERS.values():
            assert peer.operations <= comparison.peers.Peer.operations


def test_a_peer_that_fails_is_named_and_the_others_are_measured(comparison: Any, data: Any) -> None:
    said: list[str] = []
    run = comparison.rounds.Comparison(data, ["reference", "zarrcy", "zarr"], 1, said.append)

    class Broken:
        def ask(self, *_: object) -> dict[str, str]:
            return {"error": "it is broken"}

        def close(self) -> None: ...

    row = comparison.rows.ROWS["open"]
    measured = comparison.rounds.Result(row)
    run.workers = {"zarr": Broken(), "zarrcy": Broken()}
    run.sample(measured, "zarr", 0)
    assert measured.missing == {"zarr": "it is broken"} and "it is broken" in said[0]
    assert "it is broken" in comparison.report.failures([measured])
    with pytest.raises(RuntimeError, match="zarrcy: it is broken"):
        run.sample(measured, "zarrcy", 0)


def test_a_worker_answers_in_lines_of_json(comparison: Any, data: Any) -> None:
    row = comparison.rows.ROWS["open"]
    data.prepare(row.array, "zarr")
    worker = comparison.rounds.Worker("zarrcy", data)
    answer = worker.ask(row, 0, True, False)
    worker.close()
    assert set(answer) == {"cpu", "wall"} and all(value > 0 for value in json.loads(json.dumps(answer)).values())
