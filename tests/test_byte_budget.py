"""How many chunks are in flight: what the store bears, within its budget of bytes."""

from __future__ import annotations

import itertools
import random
import threading
import time

import numpy as np
import pytest
from object_clients import DictClient, DictStore

import zarrcy
from zarrcy.stores.memory import MemoryStore
from zarrcy.stores.room import FIRST_NBYTES
from zarrcy.threads import map_unordered


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


# ---- many values of a service

_numbers = itertools.count()


class Measuring(DictStore):
    """Notes the bytes that were asked for and are not with the caller, and the requests at once: the most of both.

    From the 40th on, requests wait until `n` of them are under way at once.
    """

    def __init__(self, budget, sizes, n=1):
        super().__init__(f"budget{next(_numbers)}", max_concurrency=16)
        self.byte_budget = budget
        self.n = n
        self.changed = threading.Condition()
        self.nbytes = self.most = self.n_active = self.most_active = self.n_begun = 0
        for i, nbytes in enumerate(sizes):
            self.set(f"c/{i}", bytes(nbytes))

    def _make_client(self):
        store = self

        class Client(DictClient):
            def get(self, name, span, version):
                nbytes = len(self.service.objects[name][0])
                begin, end = (0, nbytes) if span is None else span.within(nbytes)
                store.begin(end - begin)
                try:
                    return super().get(name, span, version)
                finally:
                    store.end()

        return Client(self.service)

    def begin(self, nbytes):
        with self.changed:
            self.nbytes += nbytes
            self.most = max(self.most, self.nbytes)
            self.n_active += 1
            self.most_active = max(self.most_active, self.n_active)
            self.n_begun += 1
            self.changed.notify_all()
            if self.n_begun >= 40:
                assert self.changed.wait_for(lambda: self.most_active >= self.n, timeout=30)

    def end(self):
        with self.changed:
            self.n_active -= 1

    def read(self, requests, pause=0.0):
        for _, value in self.get_many(requests):
            with self.changed:
                self.nbytes -= len(value)
            time.sleep(pause)


@pytest.mark.parametrize("pause", [0, 0.002])
def test_many_parts_stay_within_the_budget_and_use_it(pause):
    random.seed(8)
    store = Measuring(8 * 50_000, [100_000] * 100, n=7)
    lengths = [random.randrange(10_000, 50_000) for _ in range(100)]
    parts = [slice(None, n) if n % 3 else slice(-n, None) for n in lengths]
    store.read([(f"c/{i}", part) for i, part in enumerate(parts)], pause)
    assert store.most <= 9 * 50_000
    assert store.nbytes == 0


@pytest.mark.parametrize("pause", [0, 0.002])
def test_many_whole_values_stay_within_the_budget_by_the_length_of_those_that_came(pause):
    size = FIRST_NBYTES // 16
    store = Measuring(8 * size, [size] * 100, n=7)
    store.read([(f"c/{i}", None) for i in range(100)], pause)
    assert store.most <= 9 * size


def test_the_first_whole_values_are_taken_for_long_ones():
    store = Measuring(3 * FIRST_NBYTES, [10] * 100, n=9)
    begun, n_begun, get = [], [], store.client.get

    def look():
        time.sleep(0.05)  # others have the time to begin
        n_begun.append(len(begun))

    meeting = threading.Barrier(3, action=look, timeout=30)

    def counted(name, span, version):
        begun.append(name)
        if len(begun) <= 3:
            meeting.wait()
        return get(name, span, version)

    store.client.get = counted
    store.read([(f"c/{i}", None) for i in range(100)])
    assert n_begun == [3]  # no other one, until one of them was here
    assert store.most_active >= 9


def test_values_longer_than_the_budget_come_one_by_one():
    store = Measuring(1000, [5000] * 20)
    store.read([(f"c/{i}", None) for i in range(20)])
    assert (store.most, store.most_active, store.nbytes) == (5000, 1, 0)


def test_without_a_budget_all_threads_are_used():
    store = Measuring(0, [1 << 16] * 64, n=16)
    store.read([(f"c/{i}", None) for i in range(64)])
    assert store.most_active == 16


def test_without_room_one_item_is_done_at_a_time_and_all_are():
    n_active, most = 0, 0
    lock = threading.Lock()

    def work(i):
        nonlocal n_active, most
        with lock:
            n_active += 1
            most = max(most, n_active)
        time.sleep(0.0005)
        with lock:
            n_active -= 1
        return i

    assert sorted(map_unordered(work, range(100), 8, lambda: False)) == list(range(100))
    assert most == 1
