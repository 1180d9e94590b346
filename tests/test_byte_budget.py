"""How many chunks are in flight: what the store bears, within its budget of bytes."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import zarrcy
from zarrcy.stores.memory import MemoryStore


class Meeting(MemoryStore):
    """Reads wait until `n` of them are under way at once; `most` is how many there were."""

    concurrency = 8

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n
        self.n_active = self.most = 0
        self.changed = threading.Condition()

    def get_with_version(self, key, part=None, *, if_version=None):
        return self.meet(key, lambda: MemoryStore.get_with_version(self, key, part, if_version=if_version))

    def get(self, key, part=None):
        return self.meet(key, lambda: MemoryStore.get(self, key, part))

    def meet(self, key, read):
        if not key.startswith("c/"):
            return read()
        with self.changed:
            self.n_active += 1
            self.most = max(self.most, self.n_active)
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.most >= self.n, timeout=30)
        try:
            return read()
        finally:
            with self.changed:
                self.n_active -= 1


@pytest.mark.parametrize(("budget", "n"), [(0, 8), (1 << 30, 8), (3 * 8000 + 100, 3), (1, 1)])
def test_chunks_in_flight_stay_within_the_budget_and_use_it(budget, n):
    store = Meeting(n)
    store.byte_budget = budget
    a = zarrcy.create_array(store, shape=20_000, chunks=1000, dtype="float64", compressor=None)
    a[...] = np.arange(20_000)
    assert (a[...] == np.arange(20_000)).all()
    assert store.most == n


def test_a_shard_of_which_little_is_read_counts_for_what_is_read():
    store = Meeting(8)
    store.byte_budget = 8 * 2000
    a = zarrcy.create_array(store, shape=20_000, shards=1000, chunks=10, dtype="float64", compressor=None)
    a[...] = np.arange(20_000)
    assert (a[::1000] == np.arange(0, 20_000, 1000)).all()
    assert store.most == 8
