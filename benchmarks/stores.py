"""What zarrcy costs over the plain client of each store: values one by one, and one array as a whole.

``python benchmarks/stores.py`` prints two Markdown tables. The reference does the same with what a program would use
without zarrcy (`plain_clients.py`): ``open``, ``write`` and ``rename`` for a directory, a dict for memory, `zipfile`
for an archive, `sqlite3` for a database file. Rounds of the two are interleaved and their medians compared, in CPU time
and in wall time; above 1.0, zarrcy takes longer. The CPU time is that of this process, without that of a server.

A store is an entry of `STORES`: how to open it, and its plain client.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import zarrcy
from zarrcy.stores import (
    AzureBlobStore,
    FilesystemStore,
    GCSStore,
    GridFSStore,
    MemoryStore,
    MnesiaStore,
    MockStore,
    S3Store,
    SharedMemoryStore,
    SQLiteStore,
    Store,
    ZipStore,
)

sys.path.insert(0, str(Path(__file__).resolve().parent))  # PYTHONSAFEPATH leaves it out

from cloud_clients import GCS, Azure, Boto, azure_container, gcs_place, s3_server
from plain_clients import Archive, Blocks, Client, Database, Dict, Files, GridFS, Libei, erlang_node, mongodb_server

SIZES = {"1 KiB": 1 << 10, "100 KiB": 100 << 10, "8 MiB": 8 << 20}
THREADS = (1, 8, 32)
CHUNK_NBYTES = 1 << 20
LEAST_SECONDS = 0.4  # of the rounds of a comparison: what is quick has more of them
N_KEYS = 8  # of the values that are set and got one after another


def mnesia(place: Path) -> Store:
    store = MnesiaStore("benchmark", erlang_node().name)
    store.prepare()
    return store


def mongo_gridfs(place: Path) -> Store:
    return GridFSStore(mongodb_server().url(), bucket="store", array_id="benchmark")


def s3(place: Path) -> Store:
    return S3Store("arrays", prefix="benchmark", endpoint_url=s3_server().endpoint)


def gcs(place: Path) -> Store:
    return GCSStore(**gcs_place(), prefix="benchmark")


def azure_blob(place: Path) -> Store:
    return AzureBlobStore(**azure_container(), prefix="benchmark")


@contextmanager
def shared_memory(place: Path) -> Iterator[Store]:
    """A new table that this process owns."""
    with SharedMemoryStore(f"benchmark {place.name}") as store:
        store.prepare()
        try:
            yield store
        finally:
            # The table would take memory until some other process opens one.
            store.delete_table()


class Entry(NamedTuple):
    """A store, and the plain client that it is measured against; both take a new directory."""

    store: Callable[[Path], AbstractContextManager[Store]]
    client: Callable[[Path], Client]
    reference: str


STORES: dict[str, Entry] = {
    "azure_blob": Entry(azure_blob, Azure, "azure-storage-blob"),
    "filesystem": Entry(lambda place: FilesystemStore(place / "store"), Files, "open, write, rename"),
    "gcs": Entry(gcs, GCS, "google-cloud-storage"),
    "memory": Entry(lambda place: MemoryStore(), Dict, "dict"),
    "mnesia": Entry(mnesia, Libei, "libei"),
    "mock over memory": Entry(lambda place: MockStore(), Dict, "dict"),
    "mongo_gridfs": Entry(mongo_gridfs, GridFS, "gridfs of pymongo"),
    "s3": Entry(s3, Boto, "boto3"),
    "shared_memory": Entry(shared_memory, Blocks, "a new SharedMemory for each value"),
    "sqlite": Entry(lambda place: SQLiteStore(place / "store.db"), Database, "sqlite3"),
    "zip": Entry(lambda place: ZipStore(place / "a.zip", mode="w"), Archive, "zipfile"),
}


class Times(NamedTuple):
    """Seconds of zarrcy and of the plain client: medians of the rounds."""

    cpu: float
    wall: float
    plain_cpu: float
    plain_wall: float


def once(work: Callable[[], Any]) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def compare(ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int) -> Times:
    ours()
    theirs()
    times: tuple[list[Any], list[Any]] = [], []
    end = time.perf_counter() + LEAST_SECONDS
    while len(times[0]) < rounds or time.perf_counter() < end:
        for work, found in zip((ours, theirs), times):
            found.append(once(work))
    medians = [[statistics.median(column) for column in zip(*found)] for found in times]
    return Times(*medians[0], *medians[1])


def values(store: Store, client: Client, nbytes: int, rounds: int) -> dict[str, Times]:
    """Getting and setting values of one size, in seconds for one value."""
    n_sets, n_gets = (max(N_KEYS, min(400, most // nbytes) // N_KEYS * N_KEYS) for most in (4 << 20, 40 << 20))
    random = np.random.default_rng(1)
    # Another value than the key has: a database does not write a page whose bytes are the same.
    contents = [value for value in (random.bytes(nbytes), random.bytes(nbytes)) for _ in range(N_KEYS)]
    keys = [f"v/{i}" for i in range(N_KEYS)]

    def setting(target: Any) -> Callable[[], None]:
        coming = itertools.cycle(contents)

        def work() -> None:
            for key, value in zip(keys * (n_sets // N_KEYS), coming):
                target.set(key, value)

        return work

    def getting(target: Any) -> Callable[[], None]:
        def work() -> None:
            for key in keys * (n_gets // N_KEYS):
                target.get(key)

        return work

    # Values are set first: getting finds them.
    return {
        "set": Times(*(seconds / n_sets for seconds in compare(setting(store), setting(client), rounds))),
        "get": Times(*(seconds / n_gets for seconds in compare(getting(store), getting(client), rounds))),
    }


def whole(store: Store, client: Client, mib: int, n_threads: int, rounds: int) -> dict[str, Times]:
    """Writing and reading an array of float32 in chunks of 1 MiB without a codec, in seconds for all of it."""
    n_items = CHUNK_NBYTES // 4
    items = np.random.default_rng(2).random((mib, n_items), dtype="float32")
    contents = items, items[::-1].copy()  # in turn, as above
    array = zarrcy.create_array(
        store, f"a{n_threads}", shape=items.shape, chunks=(1, n_items), dtype="float32", compressor=None
    )
    out = np.empty_like(items)
    if store.concurrency:
        # A store whose threads wait takes as many as it says, whatever is said to those that compute.
        store.concurrency = n_threads

    mine, theirs = itertools.cycle(contents), itertools.cycle(contents)

    def read_plain(i: int) -> None:
        out[i] = np.frombuffer(client.get(f"c/{i}"), "float32")

    with ThreadPoolExecutor(n_threads) as pool, zarrcy.use_threads(n_threads):

        def all_by(work: Callable[[int], None]) -> Callable[[], Any]:
            return lambda: list(pool.map(work, range(mib)))

        def write_plain() -> None:
            now = next(theirs)
            all_by(lambda i: client.set(f"c/{i}", now[i].tobytes()))()

        found = {"write": compare(lambda: array.set_slice(next(mine)), write_plain, rounds)}
        found["read"] = compare(lambda: array.get_slice(out=out), all_by(read_plain), rounds)
    last = array[...]
    assert any((last == each).all() for each in contents) and (out == last).all()
    return found


class Value(NamedTuple):
    """Getting or setting a value, in seconds for one."""

    store: str
    what: str
    size: str
    times: Times


class Whole(NamedTuple):
    """Reading or writing an array, in seconds for all of it."""

    store: str
    what: str
    n_threads: int
    nbytes: int
    times: Times


def measure(name: str, place: Path, mib: int, rounds: int) -> Iterator[Value | Whole]:
    """All that is measured of a store."""
    entry = STORES[name]
    with entry.store(place) as store:
        client = entry.client(place)
        try:
            for size, nbytes in SIZES.items():
                for what, times in values(store, client, nbytes, rounds).items():
                    yield Value(name, what, size, times)
            for n_threads in THREADS:
                for what, times in whole(store, client, mib, n_threads, rounds).items():
                    yield Whole(name, what, n_threads, mib * CHUNK_NBYTES, times)
        finally:
            client.close()


def ratios(times: Times) -> list[str]:
    """CPU and wall time over those of the plain client. A clock that saw no time of the client gives no ratio."""
    pairs = (times.cpu, times.plain_cpu), (times.wall, times.plain_wall)
    return [f"{ours / theirs:.2f}" if theirs > 0 else "-" for ours, theirs in pairs]


def table(titles: str, rows: Iterable[Sequence[str]]) -> str:
    names = titles.split(", ")
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (names, ["---"] * len(names), *rows))


def tables(records: Sequence[Value | Whole]) -> tuple[str, str]:
    """The table of values and that of arrays."""
    latencies, throughputs = [], []
    for it in records:
        reference = STORES[it.store].reference
        if isinstance(it, Value):
            cells = [f"{1e6 * seconds:.1f}" for seconds in (it.times.wall, it.times.plain_wall)]
            latencies.append([it.store, f"{it.what} {it.size}", *cells, *ratios(it.times), reference])
        else:
            cells = [f"{it.nbytes / seconds / 1e6:.0f}" for seconds in (it.times.wall, it.times.plain_wall)]
            throughputs.append([it.store, it.what, str(it.n_threads), *cells, *ratios(it.times), reference])
    return (
        table("store, call, µs, µs plain, CPU ratio, wall ratio, plain client", latencies),
        table("store, array, threads, MB/s, MB/s plain, CPU ratio, wall ratio, plain client", throughputs),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", nargs="*", metavar="STORE", help=f"some of {', '.join(STORES)}; by default all")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each measurement (7)")
    parser.add_argument("--mib", type=int, default=64, help="size of the array in MiB (64)")
    parser.add_argument("--place", help="directory for the stores on disk; by default a temporary one")
    parser.add_argument("--output", type=Path, help="write the page on the comparison of stores to this file")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.stores if name not in STORES]
    if unknown:
        parser.error(f"expected some of {', '.join(STORES)}, got {', '.join(unknown)}")
    records: list[Value | Whole] = []
    for name in arguments.stores or STORES:
        with tempfile.TemporaryDirectory(dir=arguments.place) as place:
            records += measure(name, Path(place), arguments.mib, arguments.rounds)
            print(f"{name}: measured", file=sys.stderr)
    if arguments.output is None:
        print("\n\n".join(tables(records)))
    else:
        from stores_page import page

        arguments.output.write_text(page(records, *tables(records), rounds=arguments.rounds, mib=arguments.mib))


if __name__ == "__main__":
    main()
