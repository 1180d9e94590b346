"""`docs/stores/comparison.md`: what `stores.py` measured, what the services charge, and how to choose."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import zarrcy
from zarrcy import cost

__all__ = ["page"]

SERVERS = {
    "azure_blob": "Azurite 3.35",
    "gcs": "fake-gcs-server, in memory",
    "mnesia": "one Erlang node, OTP of Debian",
    "mongo_gridfs": "MongoDB 6, a replica set of one member",
    "s3": "SeaweedFS",
}
PACKAGES = ("numpy", "boto3", "google-cloud-storage", "azure-storage-blob", "pymongo")

HEAD = """# Comparison

All stores side by side: measured on one machine with `python benchmarks/stores.py --output
docs/stores/comparison.md`, which writes this page.

{machine}. Each number is the median of {rounds} rounds and more, in which zarrcy and the plain client take turns.
Databases and services ran on the same machine, as the servers of the tests: {servers}. A service in another place has
the latency of the way there on top, 20 to 200 ms; its throughput grows with the requests in flight.

## Overview

A value of 100 KiB, set and got by one thread, and an array of {mib} MiB in chunks of 1 MiB without a codec, written
and read as a whole by 1, 8 or 32 threads, whichever was the fastest.
"""

COSTS = """
## What it costs

Memory, disks and databases of your own cost nothing for each request. Services of objects do, by list prices of
{date}; see [costs](../costs.md).

{table}

## Choosing

| you have | take |
|---|---|
| a notebook, a test, an intermediate result | [memory](memory.md) |
| several processes on one machine, and nothing to keep | [shared memory](shared_memory.md) |
| a disk, or a parallel file system | [file system](filesystem.md); with shards where files are many |
| one finished data set to hand over | [zip](zip.md) |
| changes of chunks and metadata that belong together | [SQLite](sqlite.md) |
| an Erlang or Elixir system | [Mnesia](mnesia.md) |
| a MongoDB, and queries over what is stored | [GridFS](gridfs.md) |
| readers in many places, or more data than disks | [S3](s3.md), [GCS](gcs.md), [Azure](azure.md), where they compute |
| remote data that is read again and again | [cached](cached.md) in front of it |
| code that must bear failing storage | [mock](mock.md) in its tests |

## One value

Microseconds for one value, by one thread; the ratios are zarrcy's time over the plain client's. The CPU time is
that of the program, without that of a server. The plain client of shared memory makes a new block for each value, and
finds it by its name: as of the store, a reader in whatever process sees all of the old value or of the new one. (A
block that stays open and is written over in place takes a fifth of the store's time to get 100 KiB, and a sixteenth to
set them; a reader may see parts of both values.)

{latencies}

## A whole array

Megabytes a second, for 1, 8 and 32 threads.

{throughputs}

## Above {bar:.2f}

A store is to take no more than {bar:.2f} of the processor time of its plain client, with values of 100 KiB and more.
Where it takes more, this is why.

{remarks}
"""

# Of the CPU time of the plain client.
BAR = 1.10

# Why a store is above the bar: what a profile says.
REMARKS = {
    "azure_blob": (
        "a value goes with its MD5, which Azure compares: 13 of 18 ms for 8 MiB. The package leaves it out unless "
        "asked for it."
    ),
    "memory": (
        "a dict copies nothing, whatever the length. A key is checked, and a set takes a lock, so that a "
        "compare-and-swap sees one value: half a microsecond. An array is where bytes move, and takes no more."
    ),
    "mnesia": (
        "4 of 74 µs to get 100 KiB: whether the connection still lives, and what it takes to call another node when "
        "one is gone. What is above that is the server, which shares the processors."
    ),
    "mock over memory": "every call is written down in a journal, and looked up in the plan of faults.",
    "mongo_gridfs": (
        "every chunk of GridFS is compared with its CRC-32C, 0.4 of 5 ms for 8 MiB. It takes less than the plain "
        "client elsewhere: chunks come in answers of 4 MiB, which stay in the cache of the processor."
    ),
    "sqlite": (
        "what a get takes more is the look whether the path still leads to the file that was opened, which the plain "
        "client does not do. A set writes over the old value, where the plain client deletes a row and makes another. "
        "Values of an array go up to 32 in a transaction."
    ),
}


def page(records: Sequence[Any], latencies: str, throughputs: str, *, rounds: int, mib: int) -> str:
    """The page, in Markdown.

    Parameters
    ----------
    records : sequence of Value and Whole
        As of `stores.py`.
    latencies, throughputs : str
        Its tables.
    rounds, mib : int
        How it measured.
    """
    names = list(dict.fromkeys(it.store for it in records))
    rows = [
        row("store", "get, µs", "set, µs", "read, MB/s", "write, MB/s", "at once"),
        row(*["---"] * 6),
        *(overview(name, [it for it in records if it.store == name]) for name in names),
    ]
    machine = f"{datetime.date.today()}: zarrcy {zarrcy.__version__}, Python {platform.python_version()}, "
    machine += f"{platform.system()} on {platform.machine()}, {os.cpu_count()} processors; "
    machine += ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    servers = ", ".join(f"{store}: {server}" for store, server in SERVERS.items() if store in names)
    head = HEAD.format(machine=machine, rounds=rounds, servers=servers, mib=mib)
    costs = COSTS.format(
        date=cost.PRICES_DATE,
        table=prices(),
        latencies=latencies,
        throughputs=throughputs,
        bar=BAR,
        remarks="\n".join(remark(name, [it for it in records if it.store == name]) for name in names),
    )
    return head + "\n" + "\n".join(rows) + "\n" + costs


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def overview(name: str, records: Sequence[Any]) -> str:
    """The row of a store: small values by one thread, the array by the most threads that were measured."""
    of_value = {it.what: it.times.wall for it in records if getattr(it, "size", None) == "100 KiB"}
    whole = [it for it in records if hasattr(it, "n_threads")]
    best = {what: max(it.nbytes / it.times.wall / 1e6 for it in whole if it.what == what) for what in ("read", "write")}
    taken = {it.n_threads: it.nbytes / it.times.wall for it in whole if it.what == "read"}
    speed_up = max(taken.values()) / taken[min(taken)]
    cells = [f"{1e6 * of_value[what]:.0f}" for what in ("get", "set")]
    return row(name, *cells, *(f"{best[what]:.0f}" for what in ("read", "write")), f"{speed_up:.1f} × one thread")


def remark(name: str, records: Sequence[Any]) -> str:
    """The calls of a store that are above the bar, and why."""
    above = []
    for it in records:
        size = getattr(it, "size", None)
        # A clock that saw no time of the client gives no ratio.
        if size != "1 KiB" and it.times.cpu > BAR * it.times.plain_cpu > 0:
            above.append(f"{it.what} {size}" if size else f"{it.what} by {it.n_threads}")
    return f"- **{name}**: {', '.join(above)}. {REMARKS.get(name, 'Not looked into.')}" if above else f"- {name}: none."


def prices() -> str:
    """The table of what the services charge."""
    rows = [row("store", "prices of", "GB and month", "1,000 PUT", "1,000 GET", "GB out"), row(*["---"] * 6)]
    for name, it in cost.PRICES.items():
        cells = (it.storage, it.put, it.get, it.egress[0].price)
        rows.append(row(name, it.region, *(f"US$ {price:g}" for price in cells)))
    return "\n".join(rows)
