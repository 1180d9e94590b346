"""Reading one array from S3 with latency: zarrcy by both of its engines, beside zarr-python over obstore and over s3fs.

``python benchmarks/remote_peers.py`` prints a Markdown table of 10,000 chunks of 100 KiB of zstd at 20 ms. The server
is the SeaweedFS of the tests, behind a proxy in a process of its own that lets each answer wait. Each reader is a
process of its own too; they take turns, and the medians count. The CPU time is the reader's alone; on the clock,
reader, proxy and server share the machine.

A reader whose packages are missing is named. s3fs is not among the requirements of the benchmarks, as it wants a boto3
of its own: ``pip install s3fs boto3`` in an environment apart.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))  # PYTHONSAFEPATH leaves it out

from comparison.data import series
from plain_clients import of_the_tests

BUCKET, PREFIX = "arrays", "remote-peers"
CHUNK_ITEMS = 25_600  # 100 KiB of float32

Reader = Callable[[str, int], Callable[[], Any]]


def zarrcy_reader(engine: str | None) -> Reader:
    def make(endpoint: str, concurrency: int) -> Callable[[], Any]:
        import zarrcy
        from zarrcy.stores import S3Store

        store = S3Store(BUCKET, prefix=PREFIX, endpoint_url=endpoint, engine=engine, max_concurrency=concurrency)
        array = zarrcy.open_array(store, mode="r")
        return lambda: array[...]

    return make


def zarr_python(make_store: Callable[[str], Any]) -> Reader:
    def make(endpoint: str, concurrency: int) -> Callable[[], Any]:
        import zarr

        zarr.config.set({"async.concurrency": concurrency})
        array = zarr.open_array(make_store(endpoint), mode="r")
        return lambda: array[...]

    return make


def by_obstore(endpoint: str) -> Any:
    from obstore.store import S3Store
    from zarr.storage import ObjectStore

    store = S3Store(BUCKET, prefix=PREFIX, endpoint=endpoint, client_options={"allow_http": True})
    return ObjectStore(store, read_only=True)


def by_s3fs(endpoint: str) -> Any:
    from zarr.storage import FsspecStore

    options = {"endpoint_url": endpoint, "client_kwargs": {"region_name": os.environ["AWS_REGION"]}}
    return FsspecStore.from_url(f"s3://{BUCKET}/{PREFIX}", storage_options=options, read_only=True)


READERS: dict[str, Reader] = {
    "zarrcy": zarrcy_reader(None),
    "zarrcy, obstore": zarrcy_reader("obstore"),
    "zarr-python, obstore": zarr_python(by_obstore),
    "zarr-python, s3fs": zarr_python(by_s3fs),
}

PACKAGES = {
    "zarrcy, obstore": ("obstore",),
    "zarr-python, obstore": ("zarr", "obstore"),
    "zarr-python, s3fs": ("zarr", "s3fs"),
}


def missing(name: str) -> list[str]:
    """The packages that a reader lacks."""
    return [package for package in PACKAGES.get(name, ()) if importlib.util.find_spec(package) is None]


def delay(port: int, latency: float, answers: Connection) -> None:
    """The process of the proxy: says its port, and ends with the connection."""
    proxy = of_the_tests("faults").Proxy(port, latency=latency)
    answers.send(proxy.port)
    answers.poll(None)
    proxy.close()


def serve(name: str, endpoint: str, concurrency: int, answers: Connection) -> None:
    """The process of one reader: reads whenever it is asked, and answers with seconds of CPU and wall time."""
    read = READERS[name](endpoint, concurrency)
    while answers.recv():
        cpu, wall = time.process_time(), time.perf_counter()
        values = read()
        times = time.process_time() - cpu, time.perf_counter() - wall
        answers.send((*times, float(np.sum(values[::997], dtype="f8"))))


def start(target: Callable[..., None], *arguments: Any) -> tuple[Any, Connection]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=target, args=(*arguments, there), daemon=True)
    process.start()
    there.close()
    return process, here


def write(endpoint: str, n_chunks: int) -> float:
    """Store the array, and return what the readers must find."""
    import zarrcy
    from zarrcy.stores import S3Store

    items = series((n_chunks * CHUNK_ITEMS,))
    with S3Store(BUCKET, prefix=PREFIX, endpoint_url=endpoint) as store:
        array = zarrcy.create_array(
            store,
            shape=items.shape,
            chunks=(CHUNK_ITEMS,),
            dtype=items.dtype,
            compressor={"name": "zstd", "configuration": {"level": 3, "checksum": False}},
            overwrite=True,
        )
        array[...] = items
    return float(np.sum(items[::997], dtype="f8"))


def measure(names: list[str], n_chunks: int, latency: float, concurrency: int, rounds: int) -> dict[str, list[Any]]:
    """Seconds of CPU and wall time of each round of each reader."""
    server = of_the_tests("s3").server()
    expected = write(server.endpoint, n_chunks)
    proxy, answers = start(delay, server.port, latency)
    endpoint = f"http://127.0.0.1:{answers.recv()}"
    found: dict[str, list[Any]] = {name: [] for name in names}
    readers = {name: start(serve, name, endpoint, concurrency)[1] for name in names}
    for number in range(rounds + 1):
        for name, reader in readers.items():
            reader.send(True)
            cpu, wall, total = reader.recv()
            if total != expected:
                raise SystemExit(f"{name}: expected the values that were written, got others")
            if number:  # the first round makes the connections
                found[name].append((cpu, wall))
            print(f"{name}: {cpu:.1f} s of CPU time, {wall:.1f} s", file=sys.stderr)
    for reader in readers.values():
        reader.send(False)
    answers.close()
    proxy.join()
    return found


def table(found: dict[str, list[Any]], n_chunks: int) -> str:
    lines = ["| reader | wall, s | chunks/s | CPU, ms a chunk |", "|---|---|---|---|"]
    for name, times in found.items():
        cpu, wall = (statistics.median(column) for column in zip(*times))
        lines.append(f"| {name} | {wall:.1f} | {n_chunks / wall:.0f} | {1e3 * cpu / n_chunks:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"some of {', '.join(READERS)}; by default all")
    parser.add_argument("--chunks", type=int, default=10_000, help="of 100 KiB each (10000)")
    parser.add_argument("--latency", type=float, default=0.02, help="seconds before an answer (0.02)")
    parser.add_argument("--concurrency", type=int, default=64, help="requests in flight (64)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds, of which the median counts (3)")
    arguments = parser.parse_args()
    names = arguments.readers or list(READERS)
    unknown = [name for name in names if name not in READERS]
    if unknown:
        parser.error(f"expected some of {', '.join(READERS)}, got {', '.join(unknown)}")
    lacking = {name: missing(name) for name in names if missing(name)}
    names = [name for name in names if name not in lacking]
    found = measure(names, arguments.chunks, arguments.latency, arguments.concurrency, arguments.rounds)
    print(table(found, arguments.chunks))
    for name, packages in lacking.items():
        print(f"\nNot measured, because not installed: {name} ({', '.join(packages)}).")


if __name__ == "__main__":
    main()
