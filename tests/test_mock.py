"""The store that fails on order: which calls meet a fault, what each fault does, the journal and the clock."""

import collections
import os
import pickle
import random
import re
import signal
import statistics
import threading
import time

import numpy as np
import pytest
from zip_files import fork

import zarrcy
from zarrcy.errors import (
    ConflictError,
    OutcomeUnknownError,
    PermissionDeniedError,
    StoreError,
    ThrottledError,
    UnavailableError,
)
from zarrcy.stores.filesystem import FilesystemStore
from zarrcy.stores.memory import MemoryStore
from zarrcy.stores.mock import (
    Crash,
    Crashed,
    DiskFull,
    Duplicate,
    Effect,
    Exponential,
    Fail,
    Fault,
    Flip,
    LogNormal,
    MockStore,
    Reset,
    Slow,
    Stale,
    Status,
    Timeout,
    Truncate,
    Uniform,
    VirtualClock,
)


def outcomes(store, calls):
    """The name of the error of each call, None where it works."""
    found = []
    for method, *arguments in calls:
        try:
            answer = getattr(store, method)(*arguments)
            if method.startswith("list"):
                list(answer)
            found.append(None)
        except (StoreError, Crashed) as error:
            found.append(type(error).__name__)
    return found


def mock(*faults, **options):
    return MockStore(MemoryStore({"a": b"abcd", "c/0": b"0", "c/1": b"1"}), faults, clock=VirtualClock(), **options)


# Which calls


def test_without_a_plan_nothing_fails():
    store = mock()
    assert (
        outcomes(store, [("get", "a"), ("set", "b", b"1"), ("delete", "b"), ("list_prefix",), ("size", "a")])
        == [None] * 5
    )


def test_the_nth_call_that_matches_meets_the_fault():
    store = mock(Fault(Status(503), method="set", nth=2))
    calls = [("get", "a"), ("set", "b", b"1"), ("get", "a"), ("set", "b", b"2"), ("set", "b", b"3")]
    assert outcomes(store, calls) == [None, None, None, "UnavailableError", None]
    store = mock(Fault(Status(503), nth=range(2, 4)))
    assert outcomes(store, [("get", "a")] * 4) == [None, "UnavailableError", "UnavailableError", None]


@pytest.mark.parametrize(
    ("key", "met"),
    [
        ("c/0", ["c/0"]),
        ("c/", ["c/0", "c/1"]),
        ("c/?", ["c/0", "c/1"]),
        ("*0", ["c/0"]),
        (re.compile(r"c/[1-9]"), ["c/1"]),
        (re.compile("c"), []),
        (None, ["a", "c/0", "c/1"]),
    ],
)
def test_a_fault_is_for_a_key_a_prefix_or_a_pattern(key, met):
    store = mock(Fault(Status(403), key=key))
    assert [k for k in ("a", "c/0", "c/1") if outcomes(store, [("get", k)]) != [None]] == met


@pytest.mark.parametrize(
    ("method", "met"),
    [
        ("get", {"get"}),
        (("set", "delete"), {"set", "delete"}),
        ("read", {"get", "get_with_version", "size", "exists", "list_prefix", "list_dir"}),
        ("write", {"set", "set_if", "delete"}),
        ("list", {"list_prefix", "list_dir"}),
        (None, {"get", "get_with_version", "size", "exists", "list_prefix", "list_dir", "set", "set_if", "delete"}),
    ],
)
def test_a_fault_is_for_a_method_or_several(method, met):
    store = mock(Fault(Fail(), method=method))
    arguments = {"list_prefix": ["c/"], "list_dir": ["c/"], "set": ["a", b"1"], "set_if": ["b", b"1", None]}
    methods = ["get", "get_with_version", "size", "exists", "list_prefix", "list_dir", "set", "set_if", "delete"]
    assert {name for name in methods if outcomes(store, [(name, *arguments.get(name, ["a"]))]) != [None]} == met


def test_a_share_of_calls_is_chosen_by_the_seed():
    def met(seed):
        return outcomes(mock(Fault(Status(503), share=0.2), seed=seed), [("get", "a")] * 2000)

    first = met(1)
    assert 300 < 2000 - first.count(None) < 500
    assert met(1) == first
    assert met(2) != first
    assert 2000 - outcomes(mock(Fault(Status(503), share=1, times=3)), [("get", "a")] * 2000).count(None) == 3


def test_a_fault_that_another_one_hides_stays_where_it_was():
    calls = [("get", "a")] * 200
    alone = outcomes(mock(Fault(Fail(), share=0), Fault(Status(503), share=0.3)), calls)
    both = outcomes(mock(Fault(Fail(), share=0.5), Fault(Status(503), share=0.3)), calls)
    assert {"StoreError", "UnavailableError", None} == set(both)
    assert all(second in ("StoreError", first) for first, second in zip(alone, both))


def test_an_armed_fault_meets_the_next_call_once_and_before_the_plan():
    store = mock(Fault(Status(503), method="get"))
    store.arm(Status(429), method="get", key="c/")
    assert outcomes(store, [("get", "a"), ("get", "c/1"), ("get", "c/1")]) == [
        "UnavailableError",
        "ThrottledError",
        "UnavailableError",
    ]


def test_many_keys_at_once_meet_their_faults_one_by_one():
    store = mock(Fault(Status(503), key="c/1"))
    with pytest.raises(UnavailableError):
        store.set_many([("c/0", b"new"), ("c/1", b"new"), ("c/2", b"new")])
    assert (store.store.get("c/0"), store.store.get("c/1"), store.store.get("c/2")) == (b"new", b"1", None)
    with pytest.raises(UnavailableError):
        dict(store.get_many([("c/0", None), ("c/1", None)]))
    with pytest.raises(UnavailableError):
        store.delete_prefix("c/")
    assert store.call_count("get") == 2


def test_what_makes_no_plan_is_refused():
    for make in (
        lambda: Fault(Status(503), share=1.5),
        lambda: Fault(Status(503), nth=0),
        lambda: Fault(Status(503), nth=[1, 0]),
        lambda: Status(200),
        lambda: MockStore(error_mode="sometimes"),
        lambda: MockStore(delay=50, latency=0.1),
    ):
        with pytest.raises(ValueError, match="expected"):
            make()
    with pytest.raises(TypeError, match="Effect"):
        Fault(503)


# What happens


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (Status(400), StoreError, "bad_request"),
        (Status(400, "expired_token"), PermissionDeniedError, "expired_token"),
        (Status(401), PermissionDeniedError, "unauthorized"),
        (Status(403), PermissionDeniedError, "forbidden"),
        (Status(404), StoreError, "no_such_bucket"),
        (Status(408), UnavailableError, "request_timeout"),
        (Status(409), ConflictError, "conflict"),
        (Status(410), StoreError, "gone"),
        (Status(412), ConflictError, "precondition_failed"),
        (Status(429), ThrottledError, "too_many_requests"),
        (Status(500), UnavailableError, "internal_server_error"),
        (Status(503), UnavailableError, "service_unavailable"),
        (Status(503, "slow_down"), ThrottledError, "slow_down"),
        (Status(599), UnavailableError, "http_599"),
        (Fail(), StoreError, "mock_error"),
        (DiskFull(), StoreError, "enospc"),
    ],
)
def test_a_refusal_is_the_error_of_that_kind_and_nothing_happens(status, kind, code):
    store = mock()
    for method, arguments in (("set", ["a", b"new"]), ("set_if", ["new", b"1", None])):
        store.arm(status)
        with pytest.raises(StoreError) as caught:
            getattr(store, method)(*arguments)
        assert type(caught.value) is kind
        assert (caught.value.code, caught.value.key) == (code, arguments[0])
        assert caught.value.store == store.url
    assert store.get("a") == b"abcd" and store.get("new") is None


def test_an_error_is_never_a_fill_value():
    array = zarrcy.create_array(store := mock(), "x", shape=10, chunks=5, dtype="int8", fill_value=7)
    for status in range(400, 600):
        store.arm(Status(status), key="x/c/")
        with pytest.raises(StoreError):
            array[:]
    assert array[:].tolist() == [7] * 10


def test_a_full_disk_still_reads_and_deletes():
    store = mock(Fault(DiskFull()))
    assert outcomes(store, [("get", "a"), ("delete", "c/0"), ("set", "c/0", b"")]) == [None, None, "StoreError"]


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("fault", [Timeout, Reset])
def test_a_lost_answer_leaves_the_outcome_of_a_write_unknown(fault, stored):
    store = mock()
    for method, arguments in (("set", ["a", b"new"]), ("set_if", ["b", b"new", None]), ("delete", ["c/0"])):
        store.arm(fault(stored=stored))
        with pytest.raises(OutcomeUnknownError):
            getattr(store, method)(*arguments)
    assert [store.get(key) for key in ("a", "b", "c/0")] == (
        [b"new", b"new", None] if stored else [b"abcd", None, b"0"]
    )
    store.arm(fault(stored=stored))
    with pytest.raises(UnavailableError) as caught:
        store.get("a")
    assert caught.value.code == fault.__name__.lower()
    assert store.clock.monotonic() == (120 if fault is Timeout else 0)


def test_values_are_cut_and_bits_are_inverted():
    value = bytes(range(100))
    store = mock()
    store.store.set("a", value)
    store.arm(Truncate(keep=10))
    assert store.get("a") == value[:10]
    lengths = set()
    for _ in range(200):
        store.arm(Truncate())
        got = store.get("a")
        assert value.startswith(got) and len(got) < 100
        lengths.add(len(got))
    assert len(lengths) > 50
    for n_bits in (1, 5, 800, 10_000):
        store.arm(Flip(n_bits))
        got = np.frombuffer(store.get_with_version("a")[0], "u1")
        assert np.unpackbits(got ^ np.frombuffer(value, "u1")).sum() == min(n_bits, 800)
    store.arm(Flip())
    part = store.get("a", slice(10, 12))
    assert part != value[10:12] and len(part) == 2
    assert store.get("a") == value
    store.arm(Truncate(keep=3), method="set")
    store.set("a", bytearray(value))
    assert store.get("a") == value[:3]
    store.arm(Flip())
    store.set("a", b"")
    assert store.get("a") == b""


def test_a_damaged_chunk_is_noticed_by_an_array():
    array = zarrcy.create_array(store := mock(), "x", shape=1000, chunks=1000, dtype="int32")
    array[:] = np.arange(1000)
    for effect in (Flip(), Truncate()):
        for _ in range(50):
            store.arm(effect, key="x/c/")
            with pytest.raises(zarrcy.CodecError):
                array[:]
    assert (array[:] == np.arange(1000)).all()


def test_stale_answers_are_those_from_before_the_last_write():
    store = mock(Fault(Stale(), method="read", nth=range(7, 100)))
    old, version = store.get_with_version("a")
    store.set("a", b"new")
    store.set("new", b"1")
    store.delete("c/0")
    assert [store.get(key) for key in ("a", "new", "c/0", "c/1", "absent")] == [b"new", b"1", None, b"1", None]
    assert [store.get(key) for key in ("a", "new", "c/0", "c/1", "absent")] == [b"abcd", None, b"0", b"1", None]
    assert store.get("a", slice(1, 3)) == b"bc"
    assert [store.size("new"), store.size("c/0"), store.exists("new"), store.exists("c/0")] == [None, 1, False, True]
    assert sorted(store.list_prefix()) == ["a", "c/0", "c/1"] and sorted(store.list_dir("c/")) == ["0", "1"]
    assert store.get_with_version("a") == (old, version)
    with pytest.raises(ConflictError):
        store.set_if("a", b"newer", version)


def test_a_duplicate_makes_a_conditional_write_a_false_conflict():
    store = mock()
    store.arm(Duplicate())
    with pytest.raises(ConflictError):
        store.set_if("b", b"1", None)
    assert store.get("b") == b"1"
    store.arm(Duplicate())
    assert store.get("b") == b"1"


def test_a_late_duplicate_overwrites_what_came_in_between():
    store = mock()
    value = bytearray(b"first")
    store.arm(Duplicate(after=2))
    store.set("b", value)
    value[:] = b"other"
    store.set("b", b"second")
    assert store.store.get("b") == b"second"
    assert store.get("b") == b"first"
    assert store.call_count() == 3


@pytest.mark.parametrize("stored", [False, True])
def test_after_a_crash_nothing_runs_until_the_store_is_reset(stored):
    store = mock(Fault(Crash(stored=stored), method="set", nth=1, times=1))
    with pytest.raises(Crashed):
        store.update("a", lambda old: store.set("a", b"new") or old)
    assert outcomes(store, [("get", "a"), ("set", "b", b"1"), ("list_prefix",)]) == ["Crashed"] * 3
    assert not issubclass(Crashed, Exception)
    store.close()
    assert store.store.get("a") == (b"new" if stored else b"abcd")
    store.reset()
    assert outcomes(store, [("get", "a")]) == [None]


@pytest.mark.parametrize("method", ["get", "set"])
def test_no_other_thread_gets_a_call_in_while_one_crashes(method):
    class Asks(MemoryStore):
        def set(self, key, value):
            thread = threading.Thread(target=lambda: found.extend(outcomes(store, [(method, "b", b"1")[:n_args]])))
            thread.start()
            thread.join()
            super().set(key, value)

    found, n_args = [], 2 if method == "get" else 3
    store = MockStore(Asks(), [Fault(Crash(stored=True), method="set", nth=1)], clock=VirtualClock())
    with pytest.raises(Crashed):
        store.set("a", b"1")
    assert found == ["Crashed"]
    assert list(store.store.list_prefix()) == ["a"]


def test_a_crash_goes_through_the_loop_over_chunks():
    array = zarrcy.create_array(store := mock(), "x", shape=100, chunks=5, dtype="int8")
    store.arm(Crash(), key="x/c/7")
    with pytest.raises(Crashed):
        array[:] = 1
    store.reset()
    assert set(array[:].tolist()) <= {0, 1}


@pytest.mark.parametrize("stored", [False, True])
def test_a_crash_may_be_a_real_one(tmp_path, stored):
    store = MockStore(FilesystemStore(tmp_path), [Fault(Crash(stored=stored, kill=True), method="set", nth=3)])
    child = fork()
    if child == 0:
        for i in range(5):
            store.set(f"c/{i}", b"1")
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert sorted(FilesystemStore(tmp_path).list_prefix()) == ["c/0", "c/1", *(["c/2"] if stored else [])]


def test_an_effect_of_ones_own_does_what_it_wants():
    class Swapped(Effect):
        def apply(self, delivery):
            assert not delivery.writes
            return delivery.perform()[::-1]

    store = mock(Fault(Swapped(), method="get"))
    assert store.get("a") == b"dcba"


# The options of the guide


def test_error_mode_always_and_random():
    assert (
        outcomes(MockStore(error_mode="always"), [("get", "a"), ("set", "a", b"1"), ("list_prefix",)])
        == ["StoreError"] * 3
    )
    found = outcomes(MockStore(error_mode="random", seed=5), [("get", "a")] * 1000)
    assert 400 < found.count(None) < 600
    assert found == outcomes(MockStore(error_mode="random", seed=5), [("get", "a")] * 1000)


@pytest.mark.parametrize(
    ("name", "works"),
    [
        ("write_chunk", ["create", "read", "open"]),
        ("read_chunk", ["create", "write", "open"]),
        ("write_metadata", []),
        ("read_metadata", ["create", "write", "read"]),
        ("get", ["create", "write"]),
        ("delete_chunk", ["create", "write", "read", "open"]),
    ],
)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_fail_on_takes_the_operations_on_arrays_and_methods(name, works, zarr_format):
    store = MockStore(fail_on=[name])
    work = {
        "create": lambda: zarrcy.create_array(store, shape=4, chunks=2, dtype="int8", zarr_format=zarr_format),
        "write": lambda: array.__setitem__(..., 1),
        "read": lambda: array[...],
        "open": lambda: zarrcy.open_array(store),
    }
    array, done = None, []
    for what in work:
        try:
            made = work[what]()
        except StoreError as error:
            assert error.code == "mock_fail_on"
            if what == "create":
                break
        else:
            array = made if what == "create" else array
            done.append(what)
    assert done == works


def test_delay_is_in_milliseconds():
    store = MockStore(delay=50, clock=VirtualClock())
    for _ in range(10):
        store.get("a")
    assert store.clock.monotonic() == pytest.approx(0.5)


def test_storage_mock_is_an_array_like_any_other():
    array = zarrcy.create(shape=(100,), chunks=(10,), dtype="int16", storage="mock")
    array[:] = range(100)
    assert (array[:] == np.arange(100)).all()
    assert array.store.call_count("write", "c/") == 10


# Time


@pytest.mark.parametrize(
    ("latency", "median"), [(0.1, 0.1), (Uniform(0.1, 0.3), 0.2), (Exponential(0.1), 0.0693), (LogNormal(0.05), 0.05)]
)
def test_latency_is_a_number_or_a_distribution(latency, median):
    def seconds(seed):
        store = mock(latency=latency, seed=seed)
        for _ in range(2000):
            store.get("a")
        return [call.seconds for call in store.journal]

    drawn = seconds(3)
    assert statistics.median(drawn) == pytest.approx(median, rel=0.1)
    assert min(drawn) >= 0
    assert seconds(3) == drawn
    assert (seconds(4) == drawn) == isinstance(latency, float)


def test_a_slow_call_may_meet_another_fault_too():
    store = mock(Fault(Slow(2), method="get"), Fault(Status(503), nth=2), latency=1)
    assert outcomes(store, [("get", "a"), ("get", "a"), ("size", "a")]) == [None, "UnavailableError", None]
    assert [call.seconds for call in store.journal] == [3, 3, 1]


def test_a_virtual_clock_takes_no_time_and_is_shared_by_who_waits():
    clock = VirtualClock()
    store = MockStore(faults=[Fault(ConflictAlways(), method="set_if")], latency=0.01, clock=clock)
    began = time.process_time()
    with pytest.raises(ConflictError):
        store.update("n", lambda old: b"1")
    assert 120 < clock.monotonic() < 121
    assert store.call_count("set_if") > 100
    assert time.process_time() - began < 30


class ConflictAlways(Effect):
    def apply(self, delivery):
        raise ConflictError("expected peace, got a conflict", store=delivery.url, key=delivery.key)


def test_a_clock_counts_what_all_threads_sleep():
    clock = VirtualClock(5)
    threads = [threading.Thread(target=lambda: [clock.sleep(0.5) for _ in range(100)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.monotonic() == 405
    with pytest.raises(ValueError, match="-1"):
        clock.sleep(-1)


def test_without_a_clock_of_its_own_time_is_that_of_the_wrapped_store():
    assert MockStore().clock is time
    assert MockStore(mock()).clock == VirtualClock()


# The journal


def test_the_journal_says_what_was_called_and_what_came_of_it():
    store = mock(Fault(Status(503), method="set"), latency=2)
    outcomes(store, [("get", "a", slice(0, 1)), ("get", "b"), ("set", "b", b""), ("list_prefix", "c/"), ("sync",)])
    assert store.journal == [
        (1, "get", "a", slice(0, 1), "ok", None, 0, 2),
        (2, "get", "b", None, "missing", None, 2, 2),
        (3, "set", "b", None, "UnavailableError", Status(503), 4, 2),
        (4, "list_prefix", "c/", None, "ok", None, 6, 2),
        (5, "sync", "", None, "ok", None, 8, 2),
    ]
    assert [call.number for call in store.calls("get")] == [1, 2]
    assert (store.call_count(), store.call_count("read"), store.call_count("get", "b")) == (5, 3, 1)


def test_reset_begins_the_plan_and_the_journal_anew_and_keeps_the_values():
    store = mock(Fault(Status(503), share=0.5), seed=9)
    calls = [("get", "a"), ("set", "b", b"1")] * 50
    first = outcomes(store, calls)
    store.arm(Crash())
    store.reset()
    assert store.journal == []
    assert outcomes(store, calls) == first
    assert store.call_count() == 100
    assert store.store.get("b") == b"1"


def test_every_call_of_many_threads_is_written_down_once():
    store = mock(Fault(Status(503), share=0.3))

    def work(number):
        choice = random.Random(number)
        outcomes(store, [(choice.choice(["get", "size", "exists"]), "a") for _ in range(200)])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal = store.journal
    assert [call.number for call in journal] == list(range(1, 1601))
    alone = mock(Fault(Status(503), share=0.3))
    outcomes(alone, [("get", "a")] * 1600)
    count = collections.Counter(call.outcome for call in journal)
    assert count == collections.Counter(call.outcome for call in alone.journal)


# The store as a thing to hand on


def test_a_pickle_is_the_recipe_without_what_has_happened(tmp_path):
    faults = [Fault(Status(503), key=re.compile("c/[1-9]"), share=0.5), Fault(Flip(), nth=range(2, 9))]
    store = MockStore(FilesystemStore(tmp_path), faults, latency=Uniform(0, 1), seed=4, clock=VirtualClock())
    outcomes(store, [("set", "c/1", b"1"), ("get", "c/1")] * 20)
    again = pickle.loads(pickle.dumps(store))
    assert again == store and again.journal == [] and again.clock.monotonic() == 0
    assert repr(again) == repr(store)
    store.reset()
    calls = [("get", f"c/{i % 3}") for i in range(50)]
    assert outcomes(again, calls) == outcomes(store, calls)
    assert MockStore(FilesystemStore(tmp_path), faults[:1]) != store
    with pytest.raises(StoreError, match="memory of this one"):
        pickle.dumps(MockStore())


def test_a_forked_child_is_not_stuck():
    store = mock()
    with store._run.lock:
        child = fork()
        if child == 0:
            os._exit(0 if store.get("a") == b"abcd" and store.call_count() == 1 else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_mocks_may_be_stacked():
    inner = mock(Fault(Status(429), nth=2))
    store = MockStore(inner, [Fault(Status(503), nth=1)])
    assert outcomes(store, [("get", "a")] * 3) == ["UnavailableError", None, "ThrottledError"]
    assert (store.call_count(), inner.call_count()) == (3, 2)


def test_a_wrapped_directory_is_read_through_the_mock(tmp_path):
    array = zarrcy.create_array(MockStore(FilesystemStore(tmp_path / "a")), shape=4, dtype="int8")
    array[:] = 1
    assert array.store.native_reader() is None
    array.store.arm(Status(503), key="c/")
    with pytest.raises(UnavailableError):
        array[:]


class Transactional(MemoryStore):
    """A store with transactions of the simplest kind: a copy, and back."""

    def transaction(self):
        import contextlib

        @contextlib.contextmanager
        def context():
            copy = MemoryStore(dict(self._data))
            yield copy
            self._data = copy._data

        return context()


def test_a_transaction_meets_the_faults_and_a_failed_commit_rolls_back():
    store = MockStore(Transactional(), [Fault(Status(409), method="commit", nth=2)])
    with store.transaction() as tx:
        tx.set("a", b"1")
        assert store.get("a") is None
    assert store.get("a") == b"1"
    with pytest.raises(ConflictError), store.transaction() as tx:
        tx.set("a", b"2")
    assert store.get("a") == b"1"
    assert [call.method for call in store.calls(("transaction", "commit", "set"))] == [
        "transaction",
        "set",
        "commit",
    ] * 2
    with pytest.raises(StoreError, match="transactions"):
        MockStore().transaction().__enter__()
