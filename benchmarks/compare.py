"""zarrcy beside its peers, and beside the least work in C, on the rows of docs/performance.md.

    python benchmarks/compare.py                                  every row, every peer; about half an hour
    python benchmarks/compare.py --quick                          small data: what takes part, and about how fast
    python benchmarks/compare.py --rows chunk-raw-1k open --peers zarrcy zarrs
    python benchmarks/compare.py --output docs/performance.md --plot docs/performance.svg

The rounds are interleaved, with a process for each peer. CPU time, threads included, is what counts: wall time depends
on what else the machine does. The values that were read are compared with those that were written.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # PYTHONSAFEPATH leaves it out

from comparison import instructions, report
from comparison.data import Data, written_below
from comparison.peers import PEERS, is_installed
from comparison.rounds import Comparison, Result
from comparison.rows import ROWS

NEEDED = ("reference", "zarrcy")


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, metavar="NAME", default=list(ROWS), help=", ".join(ROWS))
    peers = [peer for peer in PEERS if peer not in NEEDED]
    parser.add_argument("--peers", nargs="*", choices=PEERS, metavar="NAME", default=peers, help=", ".join(peers))
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds, of which the median counts")
    parser.add_argument("--quick", action="store_true", help="small data; the targets are for the full data")
    parser.add_argument("--data", type=Path, help="keep the data here, about 5 GB, for the next time")
    parser.add_argument("--output", type=Path, help="write the report to this Markdown file")
    parser.add_argument("--plot", type=Path, help="write a plot to this file, .svg or .png")
    parser.add_argument(
        "--instructions",
        action="store_true",
        help="count the instructions of small reads of zarrcy and the reference too",
    )
    return parser.parse_args(given)


def page(results: Sequence[Result], peers: Sequence[str], options: argparse.Namespace, data: Data, counted: str) -> str:
    """The report."""
    import zarrcy

    linked = zarrcy.show_config("dicts")["codecs"]  # type: ignore[index]
    deflate = next((name for name in ("libdeflate", "zlib-ng") if name in linked), "zlib")
    scale = "quick" if options.quick else "full"
    picture = f"![CPU time of each peer over that of the reference]({options.plot.name})" if options.plot else ""
    parts = [
        INTRODUCTION.format(
            rounds=options.rounds,
            data="16 MiB" if options.quick else "256 MiB",
            command=f"python benchmarks/compare.py{' --quick' * options.quick}",
        ),
        report.summary(results, deflate) if scale == "full" else "Small data: whether targets are met is not said.",
        "## CPU time",
        report.table(results, peers, deflate, targets=scale == "full"),
        report.remarks(results, deflate) if scale == "full" else "",
        picture,
        "## Wall time",
        report.table([result for result in results if result.row.unit != "MiB"], peers, deflate, "wall", targets=False),
        counted,
        "## What was measured",
        f"{report.machine()}. Written below `{written_below(data)}`.",
        report.versions(peers),
        report.failures(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


INTRODUCTION = """\
# Performance

How much CPU time, threads included, reading and writing takes, over that of *the least work in C*: a program that does
nothing but these rows, with the codec libraries that zarrcy is linked with (`benchmarks/comparison/reference.c`). 1.00
is as fast as that; lower is better. The column *zarrcy* gives the median of {rounds} interleaved rounds, and their
range; *of the best peer* is zarrcy's value over the least of the others'. A line with a unit gives the quantity itself.
{data} of float32, in Zarr v3 (HDF5 and b2nd files of the same chunks for h5py and blosc2), in the page cache, unless
the line says otherwise.

Made by `{command}`."""


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    peers = [peer for peer in PEERS if peer in (*NEEDED, *options.peers) and is_installed(PEERS[peer])]
    with ExitStack() as stack:
        root = options.data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="zarrcy-comparison-")))
        data = Data(root.resolve(), "quick" if options.quick else "full")
        comparison = stack.enter_context(Comparison(data, peers, options.rounds, say))
        results: list[Result] = []
        for name in options.rows:
            results.append(comparison.measure(ROWS[name]))
            values = (f"{peer} {report.number(results[-1].value(peer), ROWS[name])}" for peer in peers)
            say(f"{name}: {', '.join(values)}")
            if options.output:  # a run that is cut keeps what it has
                options.output.write_text(page(results, peers, options, data, ""))
        counted = instructions.table(data, NEEDED) if options.instructions else ""
        text = page(results, peers, options, data, counted)
    print(text)
    if options.output:
        options.output.write_text(text)
    if options.plot:
        report.plot(results, peers, options.plot)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
