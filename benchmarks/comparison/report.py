"""The results as Markdown and as a plot."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from .peers import PEERS, is_installed
from .remarks import REMARKS
from .rounds import Result
from .rows import PER_SECOND, Row


def number(value: float | None, row: Row) -> str:
    if value is None:
        return "–"
    if row.unit == "ratio":
        return f"{value:.2f}"
    return f"{value:.0f} MiB" if row.unit == "MiB" else seconds(value / PER_SECOND[row.unit])


def seconds(value: float) -> str:
    factor, unit = next(((f, u) for f, u in ((1, "s"), (1e3, "ms")) if abs(value) * f >= 1), (1e6, "µs"))
    return f"{value * factor:.{1 if abs(value) * factor < 9.95 else 0}f} {unit}"


def denominator(result: Result, of: str) -> str:
    """What the reference took, as a quantity."""
    if result.row.unit != "ratio":
        return number(result.value("reference", of), result.row)
    samples = [sample[of] for sample in result.samples.get(result.row.reference, [])]
    if not samples:
        return "–"
    return seconds(statistics.median(samples)) + (" (slice)" if result.row.reference == "slice" else "")


def spread(result: Result, peer: str, of: str) -> str:
    """The median, and from where to where the rounds went."""
    values = result.values(peer, of)
    text = f"**{number(result.value(peer, of), result.row)}**"
    if len(values) < 2:
        return text
    return f"{text} ({number(min(values), result.row)}–{number(max(values), result.row)})"


def goal(row: Row, deflate: str) -> str:
    limit = row.limit(deflate)
    return f"{limit:g}" if row.unit == "ratio" else f"{limit:g} {row.unit.replace('us', 'µs')}"


def is_met(result: Result, deflate: str) -> bool:
    value = result.value("zarrcy")
    return value is not None and value <= result.row.limit(deflate)


def table(results: Sequence[Result], peers: Sequence[str], deflate: str, of: str = "cpu", targets: bool = True) -> str:
    """A Markdown table: one line for each row, the ratio to the reference or the quantity itself."""
    others = [peer for peer in peers if peer not in ("reference", "zarrcy")]
    titles = ["workload", "reference", "zarrcy", *(["target", "met"] if targets else []), "of the best peer", *others]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for result in results:
        row = result.row
        cells = [row.title, denominator(result, of), spread(result, "zarrcy", of)]
        if targets:
            cells += [f"≤ {goal(row, deflate)}", "yes" if is_met(result, deflate) else "**no**"]
        cells += [beside_best(result, others, of), *(number(result.value(peer, of), row) for peer in others)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def beside_best(result: Result, others: Sequence[str], of: str) -> str:
    best, ours = result.best(others, of), result.value("zarrcy", of)
    theirs = result.value(best, of) if best else None
    if not best or ours is None or not theirs or theirs <= 0:
        return "–"
    return f"{ours / theirs:.2f} ({best})"


def machine() -> str:
    model = [
        line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return (
        f"{model[0] if model else platform.machine()}, {len(os.sched_getaffinity(0))} processors, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}; "
        f"load when it ended: {os.getloadavg()[0]:.1f}"
    )


def versions(peers: Sequence[str]) -> str:
    """What was measured, and what could not be."""
    import numpy as np

    import zarrcy

    linked = zarrcy.show_config("dicts")["codecs"]  # type: ignore[index]
    distributions = sorted({name for peer in peers for name in PEERS[peer].distributions})
    present = [f"{name} {importlib.metadata.version(name)}" for name in distributions]
    absent = [peer for peer in PEERS if not is_installed(PEERS[peer])]
    left_out = [peer for peer in PEERS if peer not in peers and peer not in absent]
    libraries = ", ".join(f"{name} {value}" for name, value in linked.items() if name != "from")
    lines = [
        f"Versions: numpy {np.__version__}, {', '.join(present)}.",
        f"Linked into zarrcy and the reference, from {linked['from']}: {libraries}.",
    ]
    if absent:
        running = ".".join(map(str, sys.version_info[:2]))
        lines.append(f"Not measured, because not installed for Python {running}: {', '.join(absent)}.")
    if left_out:
        lines.append(f"Not asked for: {', '.join(left_out)}.")
    return "\n".join(lines)


def failures(results: Sequence[Result]) -> str:
    """Peers that gave an error instead of a time."""
    lines = [
        f"- {result.row.title}: {peer}: {why}"
        for result in results
        for peer, why in result.missing.items()
        if PEERS[peer].lacks(result.row.operation, result.row.array) is None
    ]
    return "\n".join(["Errors of peers:", "", *lines]) if lines else ""


def summary(results: Sequence[Result], deflate: str) -> str:
    missed = [result.row.title for result in results if not is_met(result, deflate)]
    text = f"{len(results) - len(missed)} of {len(results)} targets are met."
    return text + (f" Not met: {'; '.join(missed)}." if missed else "")


def remarks(results: Sequence[Result], deflate: str) -> str:
    """Why rows that miss their target do."""
    lines = [
        f"- **{result.row.title}**: {REMARKS.get(result.row.name, 'not looked into.')}"
        for result in results
        if not is_met(result, deflate)
    ]
    return "\n".join(["## Rows that miss their target", "", *lines]) if lines else ""


def plot(results: Sequence[Result], peers: Sequence[str], path: Path) -> None:
    """The CPU ratios, one line for each row and one mark for each peer; the format is the suffix's."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [result for result in results if result.row.unit == "ratio"]
    figure, axes = pyplot.subplots(figsize=(9, 1.5 + 0.32 * len(rows)))
    for peer in (peer for peer in peers if peer != "reference"):
        points = [(value, -i) for i, result in enumerate(rows) if (value := result.value(peer)) is not None]
        if points:
            ours = peer == "zarrcy"
            size = {"s": 60, "zorder": 3, "marker": "D"} if ours else {"s": 30, "marker": "o", "alpha": 0.75}
            axes.scatter(*zip(*points), label=peer, **size)
    axes.axvline(1, color="0.4", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks([-i for i in range(len(rows))], [result.row.title for result in rows])
    axes.set_xlabel("CPU time over that of the least work in C")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)
