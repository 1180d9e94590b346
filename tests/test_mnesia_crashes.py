"""`MnesiaStore` while nodes are killed. Killed writers, forks and increments are in test_store_sharing.py."""

from __future__ import annotations

import itertools
import random
import threading
import time

import pytest
from servers import erlang

from zarrcy.errors import StoreError
from zarrcy.stores.mnesia import MnesiaStore


# A restart of a node costs about a second: 200 of them are the long version.
@pytest.mark.parametrize("n", [12, pytest.param(200, marks=pytest.mark.long)])
def test_a_killed_node_has_every_acknowledged_write_when_it_is_back(n):
    node = erlang.Node()
    node.start_mnesia()
    store = MnesiaStore("a", node.name)
    store.prepare()
    choice = random.Random(3)
    acknowledged = {}
    serials = itertools.count(1)
    try:
        for _ in range(n):
            writers = [
                threading.Thread(target=write_until_killed, args=(store, k, serials, acknowledged)) for k in "abc"
            ]
            for writer in writers:
                writer.start()
            time.sleep(0.02 + choice.random() / 20)
            node.kill()
            for writer in writers:
                writer.join()
            node.restart()
            for key, serial in acknowledged.items():
                value = store.get(key)
                assert value is not None, f"an acknowledged write of {key} is lost"
                found = int(value[:10])
                assert value == make_value(found) and found >= serial, f"{key}: {serial} acknowledged, {found} there"
        assert len(acknowledged) == 3
    finally:
        node.stop()


def make_value(serial):
    return b"%010d" % serial * (1 + serial % 50)


def write_until_killed(store, key, serials, acknowledged):
    try:
        while True:
            serial = next(serials)
            # As a partial write of a chunk does: read, compare, swap.
            store.update(key, lambda _, serial=serial: make_value(serial))
            acknowledged[key] = serial
    except StoreError:
        pass
