"""Reading an array from cloud services with 20 ms of latency, as a ratio to the bare SDK that does the same requests.

The servers are those of the tests, on this machine, behind a proxy that lets each answer wait.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

import zarrcy
from zarrcy.stores import AzureBlobStore, GCSStore, S3Store, Store

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cloud_clients import GCS, Azure, Boto, azure_container, gcs_place, s3_server
from plain_clients import of_the_tests

LATENCY = 0.02
CONCURRENCY = 32
N_CHUNKS = 256
CHUNK_NBYTES = 100 << 10

# The URL of a service, and what opens a store and the plain client at another one.
Opening = tuple[Callable[[], str], Callable[[str], Store], Callable[[str], Any]]
SERVICES: dict[str, Opening] = {
    "s3": (
        lambda: s3_server().endpoint,
        lambda url: S3Store("arrays", prefix="remote", endpoint_url=url),
        lambda url: Boto(Path(), url),
    ),
    "gcs": (
        lambda: gcs_place()["endpoint"],
        lambda url: GCSStore(gcs_place()["bucket"], prefix="remote", endpoint=url),
        lambda url: GCS(Path(), url),
    ),
    "azure_blob": (
        lambda: azure_container()["endpoint"],
        lambda url: AzureBlobStore(**{**azure_container(), "endpoint": url}, prefix="remote"),
        lambda url: Azure(Path(), url),
    ),
}


class RemoteReads:
    params = list(SERVICES)
    param_names = ["service"]
    timeout = 300

    def setup(self, name: str) -> None:
        find, open_store, open_client = SERVICES[name]
        url = urlsplit(find())
        assert url.port is not None
        self.proxy = of_the_tests("faults").Proxy(url.port, latency=LATENCY)
        near = url._replace(netloc=f"127.0.0.1:{self.proxy.port}").geturl()
        n_items = CHUNK_NBYTES // 4
        items = np.random.default_rng(5).random((N_CHUNKS, n_items), dtype="float32")
        with open_store(url.geturl()) as store:
            store.delete_prefix("")
            made = zarrcy.create_array(store, shape=items.shape, chunks=(1, n_items), dtype="float32", compressor=None)
            made[...] = items
        self.client, self.array = open_client(near), zarrcy.open_array(open_store(near))
        plain = open_client(url.geturl())
        for i in range(N_CHUNKS):
            plain.set(f"c/{i}", items[i].tobytes())
        plain.close()
        self.out = np.empty_like(items)

    def teardown(self, name: str) -> None:
        self.array.store.close()
        self.client.close()
        self.proxy.close()

    def by_sdk(self) -> None:
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            for i, value in enumerate(pool.map(lambda i: self.client.get(f"c/{i}"), range(N_CHUNKS))):
                self.out[i] = np.frombuffer(value, "float32")

    def ratio(self, clock: Callable[[], float]) -> float:
        """The least of five rounds over the least of five of the SDK, which take turns."""
        ours, theirs = [], []
        for _ in range(5):
            for work, found in ((lambda: self.array.get_slice(out=self.out), ours), (self.by_sdk, theirs)):
                begin = clock()
                work()
                found.append(clock() - begin)
        return min(ours) / min(theirs)

    def track_wall_over_sdk(self, name: str) -> float:
        return self.ratio(time.perf_counter)

    def track_cpu_over_sdk(self, name: str) -> float:
        return self.ratio(time.process_time)
