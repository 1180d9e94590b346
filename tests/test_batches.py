"""Whole chunks go to and from a store in batches where it asks for that: how large, and what goes by itself."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest

import zarrcy
from zarrcy.errors import CodecError, MissingChunkError, StoreError, UnavailableError
from zarrcy.stores import ReadOnlyStore
from zarrcy.stores.memory import MemoryStore

N, LENGTH = 10, 1000
ITEMS = np.arange(1, N * LENGTH + 1, dtype="float64")


class Batching(MemoryStore):
    """`calls` are the calls that concern chunks: the method, and the keys."""

    batch = 4

    def __init__(self):
        super().__init__()
        self.calls = []

    def note(self, method, *keys):
        keys = [key for key in keys if key.startswith("c/")]
        if keys:
            self.calls.append((method, *keys))

    def get(self, key, part=None):
        self.note("get", key)
        return super().get(key, part)

    def get_with_version(self, key, part=None, *, if_version=None):
        self.note("get_with_version", key)
        return super().get_with_version(key, part, if_version=if_version)

    def get_many(self, requests):
        requests = list(requests)
        self.note("get_many", *(key for key, _ in requests))
        # In the order of arrival, which is another one.
        for i, (key, part) in reversed(list(enumerate(requests))):
            yield i, MemoryStore.get(self, key, part)

    def set(self, key, value):
        self.note("set", key)
        super().set(key, value)

    def set_if(self, key, value, version):
        self.note("set_if", key)
        return super().set_if(key, value, version)

    def set_many(self, items):
        items = list(items)
        self.note("set_many", *(key for key, _ in items))
        for key, value in items:
            MemoryStore.set(self, key, value)

    def delete(self, key):
        self.note("delete", key)
        super().delete(key)

    def taken(self):
        """The calls since the last time."""
        calls, self.calls = self.calls, []
        return calls


def sizes(calls, method):
    """How many keys each call had; there was no other one."""
    assert {call[0] for call in calls} == {method}
    return [len(call) - 1 for call in calls]


@pytest.fixture
def store():
    with zarrcy.use_threads(1):
        yield Batching()


def filled(store, **options):
    array = zarrcy.create_array(store, shape=N * LENGTH, chunks=LENGTH, dtype="float64", **options)
    array[...] = ITEMS
    return array


@pytest.mark.parametrize("compressor", [None, "default"])
def test_whole_chunks_go_in_batches(store, compressor):
    array = filled(store, **({} if compressor else {"compressor": None}))
    assert sizes(store.taken(), "set_many") == [4, 4, 2]
    assert (array[...] == ITEMS).all()
    assert sizes(store.taken(), "get_many") == [4, 4, 2]
    assert (zarrcy.open(ReadOnlyStore(store))[...] == ITEMS).all()
    assert sizes(store.taken(), "get_many") == [4, 4, 2]


def test_a_store_that_asks_for_no_batches_gets_none():
    class Single(Batching):
        batch = 1

    store = Single()
    array = filled(store)
    assert sizes(store.taken(), "set") == [1] * N
    assert (array[...] == ITEMS).all()
    assert sizes(store.taken(), "get") == [1] * N


def test_a_store_without_a_call_of_several_is_asked_for_one_at_a_time():
    class Writing(Batching):
        get_many = MemoryStore.get_many

    store = Writing()
    with zarrcy.use_threads(1):
        array = filled(store)
        assert sizes(store.taken(), "set_many") == [4, 4, 2]
        assert (array[...] == ITEMS).all()
        assert sizes(store.taken(), "get") == [1] * N


def test_one_chunk_goes_by_itself(store):
    array = filled(store)
    store.taken()
    assert array[2500] == ITEMS[2500]
    array[2000:3000] = 7
    assert store.taken() == [("get", "c/2"), ("set", "c/2")]


def test_absent_chunks_of_a_batch_are_the_fill_value_or_named(store):
    filled(store, fill_value=-1)
    MemoryStore.delete(store, "c/3")
    MemoryStore.delete(store, "c/6")
    found = zarrcy.open(store)[...].reshape(N, LENGTH)
    absent = np.isin(np.arange(N), [3, 6])
    assert (found[absent] == -1).all() and (found[~absent] == ITEMS.reshape(N, LENGTH)[~absent]).all()
    with pytest.raises(MissingChunkError) as caught:
        zarrcy.open(store, missing="raise")[...]
    assert caught.value.key in ("c/3", "c/6")


def test_chunks_that_are_written_in_part_are_compared_and_swapped_one_by_one(store):
    array = filled(store)
    store.taken()
    array[500:9500] = -ITEMS[500:9500]
    calls = store.taken()
    assert [call for call in calls if call[0] == "set_if"] == [("set_if", "c/0"), ("set_if", "c/9")]
    batches = [call for call in calls if call[0] == "set_many"]
    assert sorted(key for call in batches for key in call[1:]) == [f"c/{i}" for i in range(1, 9)]
    assert (array[500:9500] == -ITEMS[500:9500]).all() and (array[:500] == ITEMS[:500]).all()


def test_chunks_equal_to_the_fill_value_are_deleted_and_the_others_of_the_batch_written(store):
    array = filled(store)
    items = ITEMS.copy()
    items[1000:3000] = 0
    store.taken()
    array[...] = items
    calls = store.taken()
    assert [call for call in calls if call[0] == "delete"] == [("delete", "c/1"), ("delete", "c/2")]
    assert ("set_many", "c/0", "c/3") in calls
    assert "c/1" not in list(store.list_prefix()) and (array[...] == items).all()


def test_a_batch_stays_within_the_budget_of_bytes_and_leaves_every_thread_its_share():
    store = Batching()
    store.concurrency = 2
    store.byte_budget = 2 * 2 * (8 * LENGTH + 100)
    array = filled(store, compressor=None)
    assert max(sizes(store.taken(), "set_many")) == 2
    assert (array[...] == ITEMS).all()
    assert max(sizes(store.taken(), "get_many")) == 2
    store.byte_budget = 1
    assert (array[...] == ITEMS).all()
    assert sizes(store.taken(), "get") == [1] * N
    store.byte_budget, store.concurrency = 0, 5
    assert (array[...] == ITEMS).all()
    assert sizes(store.taken(), "get_many") == [2] * 5


def test_a_shard_of_which_little_is_read_is_asked_for_its_parts(store):
    array = zarrcy.create_array(store, shape=N * LENGTH, shards=LENGTH, chunks=10, dtype="float64")
    array[...] = ITEMS
    assert sizes(store.taken(), "set_many") == [4, 4, 2]
    # Of the first shard a tenth, of the second all.
    assert (array[900:2000] == ITEMS[900:2000]).all()
    calls = store.taken()
    assert {call for call in calls if call[0] != "get_many"} == {("get_with_version", "c/0")}
    assert ("get_many", "c/1") in calls


def test_a_damaged_chunk_of_a_batch_is_named(store):
    array = filled(store)
    MemoryStore.set(store, "c/5", b"no chunk")
    with pytest.raises(CodecError) as caught:
        array[...]
    assert caught.value.key == "c/5"


ANSWERS = {
    "stops early": lambda numbered: numbered[:-1],
    "leaves out one": lambda numbered: [numbered[0], *numbered[2:]],
    "one twice": lambda numbered: [numbered[0], *numbered],
    "beyond the end": lambda numbered: [*numbered[:-1], (len(numbered), numbered[-1][1])],
    "before the start": lambda numbered: [(i - len(numbered), request) for i, request in numbered],
}


@pytest.mark.parametrize("answers", ANSWERS.values(), ids=ANSWERS)
def test_a_store_that_does_not_answer_each_request_once_is_an_error_and_not_what_lay_in_memory(answers):
    class Careless(Batching):
        def get_many(self, requests):
            for i, (key, _) in answers(list(enumerate(requests))):
                yield i, MemoryStore.get(self, key)

    array = filled(Careless())
    with (
        zarrcy.use_threads(1),
        pytest.raises(StoreError, match="get_many: expected each of 4 positions once") as caught,
    ):
        array[: 4 * LENGTH]
    assert caught.value.code == "bad_answer"


@pytest.mark.parametrize("n_threads", [1, 3])
def test_an_error_of_a_batch_is_raised_and_no_batch_follows(store, n_threads):
    class Failing(Batching):
        fails = False

        def get_many(self, requests):
            yield from super().get_many(requests)
            if self.fails:
                raise UnavailableError("broken", store=self.url, code="broken")

        def set_many(self, items):
            super().set_many(items)
            if self.fails:
                raise UnavailableError("broken", store=self.url, code="broken")

    store = Failing()
    store.batch, store.concurrency = 2, n_threads
    array = filled(store)
    store.fails = True
    for work in (lambda: array[...], lambda: array.set_slice(ITEMS)):
        store.taken()
        with pytest.raises(UnavailableError, match="broken"):
            work()
        assert 1 <= len(store.taken()) <= n_threads


@pytest.mark.bounds
def test_ctrl_c_is_heard_between_the_chunks_of_a_batch(store):
    """Nothing of Python runs while a batch is gathered. All of it takes seconds to encode."""
    store.batch = n = 800
    items = np.random.default_rng(1).integers(0, 12, 1 << 18, "int8")
    slow = {"name": "gzip", "configuration": {"level": 9}}
    array = zarrcy.create_array(store, shape=(n, 1 << 18), chunks=(1, 1 << 18), dtype="int8", compressor=slow)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT])
    timer.start()
    begin = time.perf_counter()
    try:
        with pytest.raises(KeyboardInterrupt):
            array[...] = items
        assert time.perf_counter() - begin < 1.2
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)
    assert store.taken() == []
