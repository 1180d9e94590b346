"""zarrcy is nowhere slower than zarr-python: whole arrays and single chunks, every codec, chunks from 4 KiB up."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location(
    "against_zarr", Path(__file__).parent.parent / "benchmarks" / "against_zarr.py"
)
assert _spec and _spec.loader
against_zarr = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(against_zarr)


@pytest.mark.parametrize("case", against_zarr.CASES, ids=lambda case: f"{case.codec}-{case.layout}-{case.kib}KiB")
def test_a_read_takes_no_more_cpu_time_than_zarr_python(case: against_zarr.Case, tmp_path: Path) -> None:
    against_zarr.write(tmp_path, case)
    for workload in ("all", "one"):
        ratio = against_zarr.measure(tmp_path, case, workload)
        assert ratio.cpu <= 1.0, f"{workload}: CPU time is {ratio.cpu:.2f} of zarr-python's"
