"""CPU time of reads relative to zarr-python's, both on the same arrays in the same process.

``python benchmarks/against_zarr.py`` prints a Markdown table of ratios; below 1.0, zarrcy is faster. CPU time, threads
included, because wall time depends on what else the machine does; rounds of the two are interleaved and the medians
compared.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr

import zarrcy

LAYOUTS = ("v2", "v3", "v3 sharded")
CODECS: dict[str, tuple[Any, list[Any]]] = {  # as v2 and as v3 spell them
    "raw": (None, []),
    "zstd": ({"id": "zstd", "level": 3}, [{"name": "zstd", "configuration": {"level": 3, "checksum": False}}]),
    "gzip": ({"id": "gzip", "level": 1}, [{"name": "gzip", "configuration": {"level": 1}}]),
    **{
        f"blosc-{cname}": (
            {"id": "blosc", "cname": cname, "clevel": 5, "shuffle": 1, "blocksize": 0},
            [
                {
                    "name": "blosc",
                    "configuration": {"cname": cname, "clevel": 5, "shuffle": "shuffle", "typesize": 4, "blocksize": 0},
                }
            ],
        )
        for cname in ("lz4", "zstd")
    },
}
SIDES = {4: 32, 64: 128, 1024: 512}  # KiB of a square float32 chunk: items of its side
GRIDS = {4: (16, 16), 64: (4, 8), 1024: (2, 4)}  # chunks along each axis
SHARDS = {4: (4, 4), 64: (2, 4), 1024: (2, 2)}  # inner chunks along each axis of a shard


class Case(NamedTuple):
    """One array to read: a codec, a layout and a chunk size in KiB."""

    codec: str
    layout: str
    kib: int


CASES = [Case(*each) for each in itertools.product(CODECS, LAYOUTS, SIDES)]


class Ratio(NamedTuple):
    """CPU and wall time of zarrcy over those of zarr-python, medians of the rounds."""

    cpu: float
    wall: float


def field(shape: tuple[int, int]) -> np.ndarray:
    """A smooth field with noise, rounded: float32 that compresses about as measured fields do."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    noise = np.random.default_rng(7).standard_normal(shape)
    return np.round(280 + 15 * np.sin(x / 60) * np.cos(y / 45) + 0.2 * noise, 2).astype(np.float32)


def write(path: Path, case: Case) -> None:
    """Create the array of a case at `path`, with values."""
    chunks = (SIDES[case.kib],) * 2
    shape = tuple(n * side for n, side in zip(GRIDS[case.kib], chunks))
    v2, v3 = CODECS[case.codec]
    options: dict[str, Any] = {"zarr_format": 2, "compressor": v2}
    if case.layout != "v2":
        little = {"name": "bytes", "configuration": {"endian": "little"}}
        options = {"codecs": [little, *v3]}
    if case.layout == "v3 sharded":
        inner = {"chunk_shape": list(chunks), "codecs": options["codecs"], "index_codecs": [little, {"name": "crc32c"}]}
        options = {"codecs": [{"name": "sharding_indexed", "configuration": {**inner, "index_location": "end"}}]}
        chunks = tuple(n * side for n, side in zip(SHARDS[case.kib], chunks))
    array = zarrcy.create_array(path, shape=shape, chunks=chunks, dtype="<f4", **options)
    array[...] = field(shape)


def selections(case: Case) -> Iterator[tuple[slice, slice]]:
    """One chunk after another, along the diagonal, for ever."""
    side, grid = SIDES[case.kib], GRIDS[case.kib]
    for i in itertools.count():
        y, x = (i % n * side for n in grid)
        yield np.s_[y : y + side, x : x + side]


def once(work: Callable[[], Any]) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def measure(path: Path, case: Case, workload: str, more: int = 4, goal: float = 1.0) -> Ratio:
    """The ratio of one case.

    While it is over `goal`, up to `more` times as many rounds are added: noise goes, slowness stays.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arrays = zarrcy.open_array(path, mode="r"), zarr.open_array(path, mode="r")
    rounds, calls = {"all": (5, 1), "one": (7, 10)}[workload]
    at = [selections(case), selections(case)]
    times: tuple[list[Any], list[Any]] = [], []

    def work(i: int) -> None:
        for _ in range(calls):
            arrays[i][next(at[i]) if workload == "one" else ...]

    for i in (0, 1):
        work(i)
    ratio = Ratio(float("inf"), float("inf"))
    for _ in range(1 + more):
        for _, i in itertools.product(range(rounds), (0, 1)):
            times[i].append(once(lambda i=i: work(i)))
        ours, theirs = ([statistics.median(column) for column in zip(*each)] for each in times)
        ratio = Ratio(*(a / b for a, b in zip(ours, theirs)))
        if ratio.cpu <= goal:
            break
    return ratio


def table(ratios: dict[tuple[str, Case], Ratio], of: str) -> str:
    names = {"all": "whole array", "one": "one chunk"}
    columns = list(itertools.product(names, SIDES))
    lines = [
        f"| {of} time, zarrcy / zarr-python {zarr.__version__} | "
        + " | ".join(f"{names[w]}, {kib} KiB" for w, kib in columns)
        + " |"
    ]
    lines.append("|---" * (len(columns) + 1) + "|")
    for codec, layout in itertools.product(CODECS, LAYOUTS):
        cells = [f"{getattr(ratios[w, Case(codec, layout, kib)], of):.3f}" for w, kib in columns]
        lines.append(f"| {codec}, {layout} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    ratios = {}
    with tempfile.TemporaryDirectory() as temporary:
        for i, case in enumerate(CASES):
            write(Path(temporary, str(i)), case)
            for workload in ("all", "one"):
                ratios[workload, case] = measure(Path(temporary, str(i)), case, workload)
    print(table(ratios, "cpu"), table(ratios, "wall"), sep="\n\n")
    print(f"\nworst: cpu {max(ratio.cpu for ratio in ratios.values()):.3f}")


if __name__ == "__main__":
    main()
