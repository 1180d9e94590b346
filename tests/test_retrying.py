"""The store that tries again: what it gets over, what it raises at once, lost answers, and how fast it sends."""

import contextlib
import os
import pickle
import random
import threading

import pytest
from zip_files import fork

from zarrcy.errors import (
    ConflictError,
    OutcomeUnknownError,
    PermissionDeniedError,
    ReadOnlyError,
    StoreError,
    ThrottledError,
    UnavailableError,
)
from zarrcy.stores.clock import VirtualClock
from zarrcy.stores.filesystem import FilesystemStore
from zarrcy.stores.memory import MemoryStore
from zarrcy.stores.mock import Crash, Crashed, DiskFull, Effect, Fail, Fault, MockStore, Reset, Slow, Status, Timeout
from zarrcy.stores.readonly import ReadOnlyStore
from zarrcy.stores.retry import Pace, Retrier, Retry
from zarrcy.stores.retrying import RetryingStore


class CutBody(Effect):
    """A body that ends early, and a client that counts its bytes: the value is read, or not stored, for nothing."""

    def apply(self, delivery):
        if not delivery.writes:
            delivery.perform()
        raise UnavailableError("expected a whole body", store=delivery.url, key=delivery.key, code="cut_body")


def flaky(*faults, seed=0, retry=None, **options):
    """A store that tries again, and the mock below it."""
    mock = MockStore(None, faults, seed=seed, clock=VirtualClock(), **options)
    return RetryingStore(mock, retry or Retry(seed=seed)), mock


EVERY_CALL = {
    "get": ["a"],
    "get_with_version": ["a"],
    "size": ["a"],
    "exists": ["a"],
    "list_prefix": [],
    "list_dir": [],
    "set": ["a", b"1"],
    "set_if": ["b", b"1", None],
    "delete": ["a"],
    "sync": [],
    "repair": [],
    "lock": ["a"],
}


# What is tried again


@pytest.mark.parametrize("effect", [Status(429), Status(503), Status(500), Status(408), Status(503, "slow_down")])
@pytest.mark.parametrize("method", EVERY_CALL)
def test_a_call_that_fails_for_the_moment_is_made_again(method, effect):
    store, mock = flaky(Fault(effect, nth=range(1, 4)))
    getattr(store, method)(*EVERY_CALL[method])
    assert mock.call_count(method) == 4
    assert 0 < mock.clock.monotonic() < 30


@pytest.mark.parametrize(
    ("effect", "kind"),
    [
        (Status(401), PermissionDeniedError),
        (Status(403), PermissionDeniedError),
        (Status(404), StoreError),
        (Status(409), ConflictError),
        (Fail(), StoreError),
        (Crash(), Crashed),
    ],
)
@pytest.mark.parametrize("method", EVERY_CALL)
def test_other_errors_are_raised_at_once(method, effect, kind):
    store, mock = flaky(Fault(effect, nth=1))
    with pytest.raises(kind):
        getattr(store, method)(*EVERY_CALL[method])
    assert mock.call_count() == 1 and mock.clock.monotonic() == 0


@pytest.mark.parametrize("effect", [Timeout(seconds=1), Reset(), Timeout(seconds=1, stored=True), Reset(stored=True)])
@pytest.mark.parametrize("method", ["get", "size", "list_prefix", "set", "delete"])
def test_a_call_without_an_answer_is_made_again(method, effect):
    store, mock = flaky(Fault(effect, method=method, nth=range(1, 3)))
    getattr(store, method)(*EVERY_CALL[method])
    assert mock.call_count(method) == 3
    assert mock.store.get("a") == (b"1" if method == "set" else None)


def test_a_full_disk_is_not_tried_again():
    store, mock = flaky(Fault(DiskFull()))
    with pytest.raises(StoreError) as caught:
        store.set("a", b"1")
    assert caught.value.code == "enospc" and mock.call_count() == 1


def check_operations(seed):
    store, mock = flaky(
        Fault(Status(503), share=0.2),
        Fault(Reset(), share=0.025),
        Fault(Reset(stored=True), method=("get", "size", "set", "delete", "list_prefix"), share=0.025),
        Fault(CutBody(), share=0.05),
        latency=0.01,
        seed=seed,
    )
    choice, model = random.Random(seed), {}
    keys = [f"c/{i}" for i in range(50)]
    for _ in range(10_000):
        key, value = choice.choice(keys), choice.randbytes(choice.randrange(100))
        what = choice.choice(["get", "get", "part", "many", "set", "set", "set_if", "delete", "size", "list"])
        if what == "get":
            assert store.get(key) == model.get(key)
        elif what == "part":
            assert store.get(key, slice(-7, -2)) == (model[key][-7:-2] if key in model else None)
        elif what == "many":
            found = dict(store.get_many([(key, None) for key in keys[:10]]))
            assert found == {i: model.get(key) for i, key in enumerate(keys[:10])}
        elif what == "set":
            store.set(key, value)
            model[key] = value
        elif what == "set_if":
            store.set_if(key, value, store.get_with_version(key)[1])
            model[key] = value
        elif what == "delete":
            store.delete(key)
            model.pop(key, None)
        elif what == "size":
            assert store.size(key) == (len(model[key]) if key in model else None)
        else:
            assert sorted(store.list_prefix("c/")) == sorted(model)
    assert mock.call_count() > 15_000
    assert {type(call.fault) for call in mock.journal} == {type(None), Status, Reset, CutBody}


def test_10000_operations_through_faults_have_no_wrong_byte_and_no_error():
    check_operations(0)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 10))
def test_10000_other_operations_have_no_wrong_byte_and_no_error(seed):
    check_operations(seed)


def test_many_values_go_on_where_they_broke_off():
    store, mock = flaky(Fault(Status(503), nth=[3, 4, 9]))
    for i in range(10):
        mock.store.set(f"c/{i}", bytes([i]))
    assert list(store.get_many([(f"c/{i}", None) for i in range(10)])) == [(i, bytes([i])) for i in range(10)]
    assert mock.call_count("get") == 13


def test_what_a_store_leaves_out_of_many_values_is_not_asked_for_without_end():
    class Forgetful(MemoryStore):
        n_calls = 0

        def get_many(self, requests):
            self.n_calls += 1
            assert self.n_calls < 3
            return ((i, value) for i, value in super().get_many(requests) if value is not None)

    store = Forgetful({"a": b"1", "c": b"3"})
    assert list(RetryingStore(store).get_many([(key, None) for key in "abc"])) == [(0, b"1"), (2, b"3")]


# When


def test_pauses_grow_with_full_jitter_up_to_the_longest():
    retry, choice = Retry(initial=0.1, longest=10), random.Random(1)
    for number, bound in ((1, 0.1), (2, 0.2), (5, 1.6), (8, 10), (1000, 10)):
        drawn = [retry.pause(number, choice) for _ in range(1000)]
        assert 0 <= min(drawn) < 0.02 * bound and 0.98 * bound < max(drawn) <= bound


def test_the_deadline_ends_it_with_the_last_error_and_how_often_it_was_tried():
    store, mock = flaky(Fault(Status(503)))
    with pytest.raises(UnavailableError) as caught:
        store.get("a")
    assert 100 < mock.clock.monotonic() <= 120
    assert f"Tried {mock.call_count()} times" in caught.value.__notes__[-1]
    store, mock = flaky(Fault(Status(503)), retry=Retry(deadline=0))
    with pytest.raises(UnavailableError):
        store.get("a")
    assert mock.call_count() == 1


class Busy(Effect):
    """Throttled, for a number of seconds."""

    def __init__(self, seconds):
        self.seconds = seconds

    def apply(self, delivery):
        raise ThrottledError("expected fewer requests", store=delivery.url, key=delivery.key, retry_after=self.seconds)


def test_what_the_service_asks_for_is_waited_for_by_every_call():
    store, mock = flaky(Fault(Busy(17), nth=1))
    store.get("a")
    assert mock.clock.monotonic() == 17
    clock = VirtualClock()
    retrier = Retrier(Retry(), clock)
    retrier.begin().failed(ThrottledError("busy", retry_after=17))
    assert clock.monotonic() == 17
    retrier.pace.hold(5)
    retrier.pace.wait()
    assert clock.monotonic() == 22


@pytest.mark.parametrize("method", EVERY_CALL)
def test_a_pause_beyond_the_deadline_of_a_call_is_an_error_of_its_store_at_once(method):
    store, mock = flaky(retry=Retry(deadline=5))
    store._retrier.pace.hold(60)
    with pytest.raises(ThrottledError, match=f"^{store.url}: expected to send a request within 5 s") as caught:
        getattr(store, method)(*EVERY_CALL[method])
    assert (caught.value.retry_after, mock.call_count(), mock.clock.monotonic()) == (60, 0, 0)
    with pytest.raises(ThrottledError):
        next(store.get_many([("a", None)]))
    mock.clock.sleep(55)
    getattr(store, method)(*EVERY_CALL[method])
    assert mock.clock.monotonic() == 60


def test_a_wait_beyond_the_deadline_is_not_begun():
    store, mock = flaky(Fault(Busy(3600)))
    with pytest.raises(ThrottledError) as caught:
        store.get("a")
    assert mock.clock.monotonic() == 0 and mock.call_count() == 1
    assert "3600 s" in caught.value.__notes__[-1]
    mock.reset()
    mock.faults = ()
    assert pickle.loads(pickle.dumps(caught.value)).retry_after == 3600
    assert ThrottledError("busy").retry_after is None


def test_numbers_that_make_no_policy_are_refused():
    for options in ({"initial": -1}, {"initial": 20}, {"deadline": -1}):
        with pytest.raises(ValueError, match="expected"):
            Retry(**options)


# Lost answers to conditional writes


def test_a_conditional_write_that_did_not_happen_is_made_again():
    for effect in (Reset(), Timeout(seconds=1), Status(503)):
        store, mock = flaky(Fault(effect, method="set_if", nth=range(1, 4)))
        version = store.set_if("a", b"1", None)
        assert store.get_with_version("a") == (b"1", version)
        assert mock.call_count("set_if") == 4


def test_a_conditional_write_that_may_have_happened_is_neither_a_success_nor_a_conflict():
    for effect in (Reset(stored=True), Timeout(stored=True)):
        store, mock = flaky(Fault(effect, method="set_if", nth=1))
        with pytest.raises(OutcomeUnknownError):
            store.set_if("a", b"1", None)
        assert mock.store.get("a") == b"1" and mock.call_count("set_if") == 1


def test_an_equal_value_of_another_writer_is_no_success():
    class Faster(Effect):
        def apply(self, delivery):
            store.set_if("a", b"1", None)
            return Reset().apply(delivery)

    store, mock = flaky()
    mock.arm(Faster(), method="set_if")
    with pytest.raises(OutcomeUnknownError):
        store.set_if("a", b"1", None)


def test_a_write_that_arrives_late_is_no_conflict():
    """The version is still the old one when it is read back; then the first request arrives, before the second."""

    class Late(Effect):
        def apply(self, delivery):
            delivery.perform_again_after(2)
            return Reset().apply(delivery)

    store, mock = flaky(Fault(Late(), method="set_if", nth=1))
    with pytest.raises(OutcomeUnknownError):
        store.set_if("a", b"1", None)
    assert mock.store.get("a") == b"1"


def test_a_conflict_that_is_one_stays_one():
    store, _ = flaky(Fault(Status(503), method="set_if", nth=1))
    store.set("a", b"0")
    with pytest.raises(ConflictError):
        store.set_if("a", b"1", None)


def test_of_1000_contended_writes_with_lost_answers_each_has_one_winner_or_an_unknown_outcome():
    store, mock = flaky(
        Fault(Reset(stored=True), method="set_if", share=0.1),
        Fault(Reset(), method="set_if", share=0.1),
        Fault(Status(503), share=0.1),
    )
    outcomes = [[None] * 4 for _ in range(1000)]

    def write(number):
        for i, row in enumerate(outcomes):
            try:
                store.set_if(f"k/{i}", bytes([number]), None)
                row[number] = "won"
            except ConflictError:
                row[number] = "lost"
            except OutcomeUnknownError:
                row[number] = "unknown"

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, row in enumerate(outcomes):
        winner = mock.store.get(f"k/{i}")[0]
        assert row.count("won") <= 1
        assert row[winner] in ("won", "unknown")
        assert row.count("won") == 0 or row[winner] == "won"
    assert sum(row.count("won") for row in outcomes) > 700


def test_increments_over_lost_requests_are_counted_once_or_said_to_be_unknown():
    store, mock = flaky(Fault(Reset(), method="set_if", share=0.3), Fault(Status(503), share=0.2))
    outcomes = []

    def count():
        for _ in range(50):
            try:
                store.update("n", lambda old: str(int(old or b"0") + 1).encode())
                outcomes.append("done")
            except OutcomeUnknownError:
                outcomes.append("unknown")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # None of the lost requests arrived.
    assert int(mock.store.get("n")) == outcomes.count("done") > 100
    count()
    assert outcomes[200:] == ["done"] * 50


# How fast


def requests_in(mock, begin, end):
    return sum(begin <= call.time < end for call in mock.journal)


class Phase(Effect):
    """Fails, or asks for fewer requests, for a while."""

    def __init__(self, begin, end, effect):
        self.begin, self.end, self.effect = begin, end, effect

    def apply(self, delivery):
        if self.begin <= delivery.clock.monotonic() < self.end:
            return self.effect.apply(delivery)
        return delivery.perform()


@pytest.mark.parametrize("effect", [Status(503), Status(429)])
def test_while_the_service_fails_the_rate_falls_to_a_tenth_within_5_s(effect):
    """Callers that each give up at once, and others that come in their place: it is the pace that slows them."""
    store, mock = flaky(Fault(Phase(10, 30, effect)), latency=0.01, retry=Retry(deadline=0))
    while mock.clock.monotonic() < 90:
        with contextlib.suppress(UnavailableError, ThrottledError):
            store.get("a")
    healthy = requests_in(mock, 0, 10) / 10
    assert healthy > 95
    for begin in range(15, 30):
        assert requests_in(mock, begin, begin + 1) <= 0.1 * healthy
    assert requests_in(mock, 60, 90) / 30 > 0.9 * healthy
    assert store._retrier.pace.rate is None


def test_callers_that_try_again_send_no_more_than_that():
    store, mock = flaky(Fault(Phase(10, 30, Status(503))), latency=0.01)
    while mock.clock.monotonic() < 60:
        store.get("a")
    healthy = requests_in(mock, 0, 10) / 10
    for begin in range(15, 30):
        assert requests_in(mock, begin, begin + 1) <= 0.1 * healthy


def test_single_failures_do_not_slow_the_others_and_throttling_settles_near_what_is_allowed():
    store, mock = flaky(Fault(Status(503), share=0.2), latency=0.001, retry=Retry(initial=0))
    for _ in range(5000):
        store.get("a")
    assert store._retrier.pace.rate is None

    class Limit(Effect):
        """Throttles what comes faster than 50 in a second."""

        times = ()

        def apply(self, delivery):
            now = delivery.clock.monotonic()
            self.times = [time for time in self.times if time > now - 1]
            if len(self.times) >= 50:
                return Status(429).apply(delivery)
            self.times.append(now)
            return delivery.perform()

    store, mock = flaky(Fault(Limit()), latency=0.001)
    while mock.clock.monotonic() < 100:
        store.get("a")
    late = [call for call in mock.journal if call.time > 50]
    refused = sum(call.outcome == "ThrottledError" for call in late)
    assert 25 < (len(late) - refused) / 50 < 51
    assert refused < 0.1 * len(late)


def test_slow_answers_are_not_failures():
    store, mock = flaky(Fault(Slow(5)))
    for _ in range(100):
        store.get("a")
    assert mock.call_count() == 100 and store._retrier.pace.rate is None


# The store as a thing to hand on


def test_it_is_a_wrapper_like_the_others(tmp_path):
    inner = FilesystemStore(tmp_path)
    store = RetryingStore(inner, Retry(deadline=5))
    assert (store.url, store.supports_cas, store.concurrency) == (inner.url, inner.supports_cas, inner.concurrency)
    assert pickle.loads(pickle.dumps(store)) == store != RetryingStore(inner)
    assert repr(RetryingStore(inner)) == f"RetryingStore(store={inner!r})"
    assert store.native_reader() is None
    with pytest.raises(ReadOnlyError):
        RetryingStore(ReadOnlyStore(MemoryStore())).set("a", b"1")
    with pytest.raises(StoreError, match="transactions"):
        store.transaction()


def test_a_forked_child_is_not_stuck_and_draws_other_pauses():
    retrier = Retrier(Retry(), VirtualClock())
    pace = Pace(VirtualClock())
    reader, writer = os.pipe()
    with pace._lock, retrier.pace._lock:
        child = fork()
        if child == 0:
            pace.wait()
            retrier.pace.wait()
            os.write(writer, repr(retrier.random.random()).encode())
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    assert os.read(reader, 100).decode() != repr(retrier.random.random())
