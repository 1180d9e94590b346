"""Ctrl-C while a service is silent: nobody waits for it until a timeout of a minute."""

from __future__ import annotations

import signal
import threading
import time

import pytest
import urllib3
from servers.scripted import SILENCE, Scripted

from zarrcy.stores.azure import AzureBlobStore
from zarrcy.stores.connections import Connections
from zarrcy.stores.gcs import GCSStore
from zarrcy.stores.s3 import S3Store

STORES = {
    "azure_blob": lambda url: AzureBlobStore(
        "account", container="data", endpoint=f"{url}/account", account_key="c2VjcmV0", max_concurrency=8
    ),
    "gcs": lambda url: GCSStore("bucket", endpoint=url, credentials="anonymous", max_concurrency=8),
    "s3": lambda url: S3Store("bucket", endpoint_url=url, anonymous=True, max_concurrency=8),
}
WORKS = {
    "get_many": lambda store: list(store.get_many([(f"c/{i}", None) for i in range(100)])),
    "set_many": lambda store: store.set_many([(f"c/{i}", b"1") for i in range(100)]),
    "get": lambda store: store.get("c/0"),
}


@pytest.mark.bounds
@pytest.mark.parametrize("work", WORKS)
@pytest.mark.parametrize("name", STORES)
def test_ctrl_c_does_not_wait_for_a_silent_service(name, work):
    with Scripted(SILENCE) as server, STORES[name](server.url) as store:
        moment = []

        def interrupt():
            while len(server.requests) < (1 if work == "get" else 8):
                time.sleep(0.01)
            moment.append(time.monotonic())
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                WORKS[work](store)
        finally:
            thread.join()
            signal.signal(signal.SIGINT, before)
        assert time.monotonic() - moment[0] < 2
        n = len(server.requests)
        time.sleep(0.1)
        assert len(server.requests) == n


def test_a_connection_that_is_made_while_others_are_broken_off_is_not_used(monkeypatch):
    connections = Connections()
    pools = connections.of(urllib3.PoolManager())
    connect = urllib3.connection.HTTPConnection.connect

    def interrupted(self):
        connect(self)
        connections.break_off()

    with Scripted(SILENCE) as server:
        monkeypatch.setattr(urllib3.connection.HTTPConnection, "connect", interrupted)
        with pytest.raises(urllib3.exceptions.HTTPError, match="broken off"):
            pools.urlopen("GET", server.url, retries=False)
        assert server.requests == []
