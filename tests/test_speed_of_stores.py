"""The script that measures the stores runs, and has a line for each store and size.

What it measures is not judged here: one round beside other programs says nothing.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "stores.py"
PEERS = SCRIPT.with_name("remote_peers.py")
STORES = ("azure_blob", "filesystem", "gcs", "memory", "mnesia", "mock over memory", "mongo_gridfs", "s3")
STORES += ("shared_memory", "sqlite", "zip")


def run(*arguments: str, script: Path = SCRIPT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, timeout=300)


def test_every_store_is_measured_against_its_plain_client() -> None:
    done = run("--rounds", "1", "--mib", "2")
    assert done.returncode == 0, done.stderr
    rows = [tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in done.stdout.splitlines() if line]
    for store in STORES:
        mine = [row[1:3] for row in rows if row[0] == store]
        sizes = [("set", size) for size in ("1 KiB", "100 KiB", "8 MiB")]
        assert {row[0] for row in mine[:6]} == {f"{what} {size}" for _, size in sizes for what in ("set", "get")}
        assert mine[6:] == [(what, threads) for threads in ("1", "8", "32") for what in ("write", "read")]
        assert all(re.fullmatch(r"\d+\.\d\d|-", ratio) for row in rows if row[0] == store for ratio in row[-3:-1])


@pytest.mark.parametrize("wrong", ["s4", "disk"])
def test_a_store_that_is_not_in_the_table_is_refused(wrong: str) -> None:
    done = run(wrong)
    assert done.returncode == 2
    assert f"got {wrong}" in done.stderr and ", ".join(STORES) in " ".join(done.stderr.split())


def test_the_page_that_compares_stores_has_a_row_for_each_and_says_how_it_was_measured(tmp_path: Path) -> None:
    page = tmp_path / "comparison.md"
    done = run("--rounds", "1", "--mib", "2", "--output", str(page), "memory", "s3", "sqlite")
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    overview = text.split("## Overview")[1].split("## ")[0]
    assert re.findall(r"^\| (\w+) \| \d+ \| \d+ \| \d+ \| \d+ \| [\d.]+ × one thread \|$", overview, re.M) == [
        "memory",
        "s3",
        "sqlite",
    ]
    assert "median of 1 rounds" in " ".join(text.split()) and "s3: SeaweedFS." in " ".join(text.split())
    assert "mongo_gridfs:" not in text
    above = text.split("## Above 1.10")[1]
    assert re.findall(r"^- (?:\*\*)?(\w+)(?:\*\*)?: ", above, re.M) == ["memory", "s3", "sqlite"]
    # A dict takes less by its nature, and why is said.
    assert re.search(r"^- \*\*memory\*\*: set 100 KiB,.* A key is checked", above, re.M), above
    assert len(re.findall(r"^\| (?:memory|s3|sqlite) \| (?:get|set) ", text, re.M)) == 18
    # Every store has a line in the guide to choosing.
    for store in ("filesystem", "gcs", "azure", "gridfs", "mnesia", "shared_memory", "zip"):
        assert f"({store}.md)" in text


def test_both_engines_of_s3_read_what_was_written_through_a_proxy_with_latency() -> None:
    readers = ["zarrcy", "zarrcy, obstore"]
    done = run(*readers, "zarr-python, s3fs", "--chunks", "12", "--rounds", "1", "--concurrency", "4", script=PEERS)
    assert done.returncode == 0, done.stderr
    for reader in readers:
        (row,) = re.findall(rf"^\| {reader} \| ([\d.]+) \| (\d+) \| ([\d.]+) \|$", done.stdout, re.M)
        # 12 answers that wait for 20 ms each, 4 at once.
        assert int(row[1]) <= 200, reader
    if importlib.util.find_spec("s3fs") is None:
        assert "Not measured, because not installed: zarr-python, s3fs (s3fs)." in done.stdout


def test_a_reader_that_is_not_known_is_refused() -> None:
    done = run("zarrista", script=PEERS)
    assert done.returncode == 2 and "got zarrista" in done.stderr
