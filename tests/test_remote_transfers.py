"""Arrays over a service of objects: how many requests, how many at once, how much memory, and Ctrl-C."""

from __future__ import annotations

import itertools
import signal
import threading
import time
import tracemalloc

import numpy as np
import pytest
from object_clients import DictStore

import zarrcy
from zarrcy.errors import ThrottledError
from zarrcy.stores import MemoryStore, copy_store
from zarrcy.stores.retry import Retry

_numbers = itertools.count()


def new(**options):
    return DictStore(f"remote{next(_numbers)}", **{"max_concurrency": 32, **options})


def filled(store, n=40, shape=100, **options):
    array = zarrcy.create_array(store, shape=n * shape, chunks=shape, dtype="i4", **options)
    array[...] = np.arange(n * shape)
    store.service.requests.clear()
    store.service.begun.clear()
    return array


def counts(store):
    """The requests since the last call, by kind."""
    found = {kind: store.service.requests.count(kind) for kind in sorted(set(store.service.requests))}
    store.service.requests.clear()
    return found


def test_no_request_is_made_twice():
    store = new()
    filled(store)
    array = zarrcy.open_array(store, zarr_format=3)
    assert counts(store) == {"get": 1}
    zarrcy.open_array(store)
    assert counts(store) == {"get": 1}
    zarrcy.open(store)
    assert counts(store) == {"get": 1}
    assert (array[...] == np.arange(4000)).all()
    assert counts(store) == {"get": 40}
    assert array[150:250].sum() == np.arange(150, 250).sum()
    assert counts(store) == {"get": 2}
    array[:1000] = 1
    assert counts(store) == {"put": 10}


def test_opening_a_v2_array_asks_for_its_attributes_when_they_are_used():
    store = new()
    filled(store, zarr_format=2, attributes={"units": "K"})
    for _ in range(2):  # the second time, the document is known
        array = zarrcy.open_array(store, zarr_format=2)
        assert counts(store) == {"get": 1}
        zarrcy.open_array(store)
        assert counts(store) == {"get": 2}
        zarrcy.open(store)
        assert counts(store) == {"get": 2}
        assert (array[...] == np.arange(4000)).all()
        assert counts(store) == {"get": 40}
        repr(array), repr(array.metadata), array.__dask_tokenize__()
        assert counts(store) == {}
        assert array.attrs["units"] == "K"
        assert counts(store) == {"get": 1}
        assert array.attrs.asdict() == array.metadata.attributes == {"units": "K"}
        assert counts(store) == {}


def test_a_write_of_the_shape_of_a_v2_array_asks_for_no_attributes():
    store = new()
    filled(store, zarr_format=2, attributes={"units": "K"})
    array = zarrcy.open_array(store, zarr_format=2)
    array.resize(4100)  # the first conditional write tries whether the service obeys
    counts(store)
    array.resize(4200)
    assert counts(store) == {"get": 1, "put": 1}
    assert array.attrs["units"] == "K"
    assert zarrcy.open_array(store).attrs["units"] == "K"


def test_a_write_of_attributes_of_a_v2_array_asks_for_them_once():
    store = new()
    filled(store, zarr_format=2, attributes={"units": "K"})
    array = zarrcy.open_array(store, zarr_format=2)
    zarrcy.open_array(store).attrs["title"] = "ocean"
    counts(store)
    array.attrs["depth"] = 3
    assert counts(store) == {"get": 1, "put": 1}
    assert dict(array.attrs) == {"units": "K", "title": "ocean", "depth": 3}
    assert counts(store) == {}


@pytest.mark.parametrize("is_consolidated", [False, True])
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_opening_a_v2_group_asks_for_at_most_three_documents(mode, is_consolidated):
    store = new()
    group = zarrcy.create_group(store, zarr_format=2, attributes={"title": "ocean"})
    group.create_array("a", shape=4, attributes={"units": "K"})
    if is_consolidated:
        zarrcy.consolidate_metadata(store)
    counts(store)
    group = zarrcy.open_group(store, mode=mode, zarr_format=2)
    assert counts(store) == {"get": 2}
    group = zarrcy.open(store, mode=mode)
    assert counts(store) == {"get": 3}
    # For reading, the consolidated document is asked for first, and has everything.
    has_all = mode == "r" and is_consolidated
    assert group.attrs["title"] == "ocean"
    assert counts(store) == {"get": 2 if mode == "r" and not has_all else 1}
    member = group["a"]
    assert counts(store) == ({} if has_all else {"get": 1})
    assert member.attrs["units"] == "K"
    assert counts(store) == ({} if has_all else {"get": 1})
    assert group["a"].shape == (4,)
    assert counts(store) == ({} if has_all else {"get": 1})


def test_inner_chunks_that_lie_close_are_asked_for_together():
    store = new()
    array = zarrcy.create_array(store, shape=64_000, shards=64_000, chunks=1000, dtype="i4")
    array[...] = np.arange(64_000)
    counts(store)
    assert (array[10_000:20_000] == np.arange(10_000, 20_000)).all()
    # The index, and the ten chunks that follow each other.
    assert counts(store) == {"get": 2}


@pytest.mark.bounds
def test_ten_chunks_at_once_take_little_longer_than_one():
    store = new()
    array = filled(store, n=10)
    store.service.latency = 0.1
    begin = time.monotonic()
    assert (array[...] == np.arange(1000)).all()
    assert time.monotonic() - begin < 10 * 0.1 / 6.7 + 0.3  # one by one it is a second; 0.3 s are the machine's
    begin = store.service.begun
    assert len([t for t in begin if t < begin[0] + 0.1]) == 10


@pytest.mark.bounds
def test_memory_stays_within_the_output_and_the_budget():
    """32 chunks of 8 MiB at once would be 256 MiB, encoded and decoded twice that."""
    store = new()
    n, nbytes = 40, 8 << 20
    array = zarrcy.create_array(
        store, shape=n * nbytes, chunks=nbytes, dtype="u1", fill_value=1, compressor=None, write_empty_chunks=True
    )
    for i in range(n):
        array[i * nbytes : (i + 1) * nbytes] = np.full(nbytes, i, "u1")
    store.service.latency = 0.01
    out = np.empty(n * nbytes, "u1")
    tracemalloc.start()
    try:
        array.get_slice(out=out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 300 << 20
    assert (out[::nbytes] == np.arange(n)).all()


def interrupted(work, after=0.15):
    """Do `work`, with a Ctrl-C after some time; how long it went on, and when it was."""
    moment = []

    def interrupt():
        moment.append(time.monotonic())
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(after, interrupt)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            work()
    finally:
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGINT, before)
    return time.monotonic() - moment[0], moment[0]


WORKS = {
    "read": lambda array: array[...],
    "write": lambda array: array.set_slice(np.zeros(array.shape, array.dtype)),
    "update": lambda array: array.set_slice(np.zeros(10_000 * 50, "i4"), start=(50,)),
    "copy_store": lambda array: copy_store(array.store, MemoryStore()),
    "get_many": lambda array: list(array.store.get_many([(f"c/{i}", None) for i in range(10_000)])),
    "delete": lambda array: array.store.delete_prefix("c/"),
}


@pytest.mark.bounds
@pytest.mark.parametrize("what", WORKS)
def test_ctrl_c_ends_within_a_second_and_no_request_begins_after_it(what):
    store = new(max_concurrency=8)
    array = filled(store, n=10_001, shape=50)
    store.service.latency = 0.03
    took, moment = interrupted(lambda: WORKS[what](array))
    assert took < 1
    n = len(store.service.begun)
    time.sleep(0.1)
    assert len(store.service.begun) == n
    late = [t for t in store.service.begun if t > moment + 0.3]
    assert late == []


@pytest.mark.bounds
def test_ctrl_c_does_not_wait_for_the_next_try_of_a_busy_service():
    store = new(max_concurrency=8, retry=Retry(initial=60, longest=60))
    array = filled(store, n=100)

    def busy(request):
        raise ThrottledError("busy", retry_after=30)

    store.service.faults += [busy] * 10_000
    took, _ = interrupted(lambda: array[...])
    assert took < 1
