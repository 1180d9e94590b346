"""`ObjectStore`: what it makes of the answers, and of the silence, of a service. The services are tested elsewhere."""

from __future__ import annotations

import gc
import itertools
import pickle
import random
import ssl
import threading
import time
from contextlib import suppress

import pytest
from object_clients import DictClient, DictService, DictStore

from zarrcy.errors import (
    ChecksumError,
    ConcurrentWriteWarning,
    ConflictError,
    OutcomeUnknownError,
    PermissionDeniedError,
    ThrottledError,
    UnavailableError,
)
from zarrcy.stores.clock import VirtualClock
from zarrcy.stores.object_client import BrokenBodyError, Found
from zarrcy.stores.object_reads import span_of
from zarrcy.stores.object_service import TURN_SECONDS
from zarrcy.stores.object_store import NOT_SENT
from zarrcy.stores.retry import Retry
from zarrcy.stores.service_errors import connection_error
from zarrcy.testing import check_store

_numbers = itertools.count()


@pytest.fixture
def store():
    store = DictStore(f"s{next(_numbers)}", prefix="lab/a", retry=Retry(seed=1))
    store.clock = VirtualClock()
    return store


def fails(error):
    def fault(request):
        raise error

    return fault


def loses_the_answer(request):
    request()
    raise UnavailableError("the connection was lost", code="connection_lost")


def cut_after(n):
    def fault(request):
        found = request()
        raise BrokenBodyError("cut", found=found._replace(value=found.value[:n]))

    return fault


def flipped(request):
    found = request()
    return found._replace(value=bytes([found.value[0] ^ 1]) + found.value[1:])


def shortened(request):
    found = request()
    return found._replace(value=found.value[:-1])


def test_the_laws_hold():
    check_store(DictStore(f"s{next(_numbers)}"))
    check_store(DictStore(f"s{next(_numbers)}", prefix="lab/a"))


def test_every_part_is_what_the_slice_of_the_value_is(store):
    for n in (0, 1, 5):
        value = bytes(range(n))
        store.set("k", value)
        bounds = [None, *range(-7, 8)]
        for part in itertools.starmap(slice, itertools.product(bounds, bounds)):
            assert bytes(store.get("k", part)) == value[part], part


def test_a_part_costs_one_request(store):
    store.set("k", b"abcdef")
    store.service.requests.clear()
    for part in (slice(1, 3), slice(-2, None), slice(2, None), slice(1, -1), slice(-4, -2), slice(3, 3), slice(90, 99)):
        store.get("k", part)
    assert store.service.requests == ["get"] * 7


def test_a_step_is_refused():
    with pytest.raises(ValueError, match="step"):
        span_of(slice(0, 9, 2))


@pytest.mark.parametrize("part", [None, slice(3, None), slice(-40, None), slice(2, 60)])
def test_a_cut_body_is_resumed_with_the_version_it_began_with(store, part):
    value = random.Random(3).randbytes(100)
    store.set("k", value)
    store.service.faults += [cut_after(7), cut_after(0), fails(UnavailableError("down")), shortened, cut_after(5)]
    assert bytes(store.get("k", part)) == value[slice(None) if part is None else part]
    assert store.service.requests[1:] == ["get"] * 6


def test_a_value_that_is_replaced_while_it_is_read_is_read_anew(store):
    store.set("k", b"old value")

    def replaced(request):
        store.service.objects["lab/a/k"] = b"new", "900", ""
        return request()

    store.service.faults += [cut_after(3), replaced]
    assert store.get("k") == b"new"


def test_a_version_that_is_replaced_while_it_is_read_is_a_conflict(store):
    store.set("k", b"old value")
    version = store.get_with_version("k")[1]

    def replaced(request):
        store.service.objects["lab/a/k"] = b"new", "900", ""
        return request()

    store.service.faults += [cut_after(3), replaced]
    with pytest.raises(ConflictError):
        store.get_with_version("k", if_version=version)


def test_a_flipped_bit_is_read_again(store):
    store.set("k", b"value")
    store.service.faults += [flipped, flipped]
    assert store.get("k") == b"value"


def test_a_value_that_never_has_its_checksum_is_an_error(store):
    store.set("k", b"value")
    store.service.faults += [flipped] * 3
    with pytest.raises(ChecksumError, match="k: crc32c: expected"):
        store.get("k")


def test_a_refusal_is_raised_at_once_with_the_store_and_the_key(store):
    store.service.faults.append(fails(PermissionDeniedError("no")))
    with pytest.raises(PermissionDeniedError) as caught:
        store.get("c/0")
    assert (caught.value.store, caught.value.key) == (store.url, "c/0")
    assert store.service.requests == ["get"]


def test_a_busy_service_is_asked_again_until_the_deadline(store):
    store.service.faults += [fails(ThrottledError("busy")) for _ in range(5)]
    store.set("k", b"1")
    store.service.faults += [fails(ThrottledError("busy")) for _ in range(5000)]
    with pytest.raises(ThrottledError, match="busy"):
        store.get("k")
    assert 60 < store.clock.monotonic() < 260


def test_a_write_whose_answer_is_lost_happens_again(store):
    store.service.faults += [loses_the_answer] * 3
    store.set("k", b"1")
    assert store.get("k") == b"1"


def test_a_write_that_never_gets_an_answer_is_of_unknown_outcome(store):
    store.service.faults += [loses_the_answer] * 5000
    with pytest.raises(OutcomeUnknownError):
        store.set("k", b"1")


def test_a_write_that_never_left_did_not_happen(store):
    store.service.faults += [fails(UnavailableError("refused", code="unreachable")) for _ in range(5000)]
    with pytest.raises(UnavailableError) as caught:
        store.set("k", b"1")
    assert not isinstance(caught.value, OutcomeUnknownError)


def test_what_breaks_within_tls_may_have_been_sent():
    # As an end of file, or a record that was changed on the way: the answer to a write may be lost.
    for error in (ssl.SSLEOFError(8, "EOF occurred"), ssl.SSLError(1, "bad record mac")):
        assert connection_error("It", error, store="it://").code not in NOT_SENT
    assert connection_error("It", ssl.SSLCertVerificationError("expired"), store="it://").code in NOT_SENT


def probed(store):
    store.set_if("probe", b"", None)
    store.service.requests.clear()
    return store


def test_a_conditional_write_whose_answer_is_lost_is_known_by_its_writer(store):
    probed(store).service.faults.append(loses_the_answer)
    version = store.set_if("k", b"1", None)
    assert store.get_with_version("k") == (b"1", version)
    store.service.faults.append(loses_the_answer)
    assert store.set_if("k", b"2", version) != version
    assert store.service.requests.count("put") == 4


@pytest.mark.parametrize("deleted", [False, True])
def test_a_conditional_write_that_another_one_may_have_replaced_is_of_unknown_outcome(store, deleted):
    def replaced(request):
        request()
        if deleted:
            del store.service.objects["lab/a/k"]
            store.service.faults.append(fails(ConflictError("expected an absent key")))
        else:
            store.service.objects["lab/a/k"] = b"theirs", "900", "them"
        raise UnavailableError("the connection was lost")

    probed(store).service.faults.append(replaced)
    with pytest.raises(OutcomeUnknownError):
        store.set_if("k", b"1", None)


def test_a_conditional_write_that_was_heard_is_a_plain_conflict(store):
    probed(store).set("k", b"1")
    with pytest.raises(ConflictError):
        store.set_if("k", b"2", None)


def test_conflicts_are_answers_of_a_service_that_works(store):
    probed(store).set("k", b"1")
    for i in range(60):
        if i % 3 == 0:
            store.service.faults.append(fails(UnavailableError("down", code="unreachable")))
        with pytest.raises(ConflictError):
            store.set_if("k", b"2", None)
    assert store.retrier.pace.rate is None


def test_the_probe_runs_once_and_leaves_nothing(store):
    store.set_if("a", b"", None)
    n = len(store.service.requests)
    store.set_if("b", b"", None)
    assert n > 4 and len(store.service.requests) == n + 1
    assert sorted(store.list_prefix()) == ["a", "b"]


def test_a_service_that_ignores_conditions_is_found_out(store):
    store.service.obeys = False
    with pytest.warns(ConcurrentWriteWarning):
        store.set_if("k", b"1", None)
    assert not store.supports_cas
    with pytest.warns(ConcurrentWriteWarning):
        store.update("k", lambda old: bytes(old) + b"2")
    assert store.get("k") == b"12"


def test_reading_never_probes(store):
    assert store.supports_cas and store.get("k") is None and store.get_with_version("k") == (None, None)
    assert store.service.requests == ["get", "get"]


def test_a_long_listing_gives_each_key_once(store):
    keys = {f"c/{i}/{j}" for i in range(20) for j in range(9)} | {f"k{i}" for i in range(25)}
    store.set_many((key, b"1") for key in keys)
    store.service.objects["lab/a/c/"] = store.service.objects["lab/a/c//x"] = store.service.objects["lab/a/k1"]
    assert sorted(store.list_prefix()) == sorted(keys)
    assert sorted(store.list_prefix("c/3/")) == sorted(key for key in keys if key.startswith("c/3/"))
    assert sorted(store.list_dir()) == sorted(["c/", *(f"k{i}" for i in range(25))])
    store.delete_prefix("c/")
    assert sorted(store.list_prefix()) == sorted(f"k{i}" for i in range(25))


def test_many_values_come_as_they_arrive_and_an_error_ends_them(store):
    keys = [f"c/{i}" for i in range(50)]
    store.set_many((key, key.encode()) for key in keys)
    assert sorted(store.get_many((key, None) for key in keys)) == [(i, keys[i].encode()) for i in range(50)]
    store.service.requests.clear()
    store.service.faults.append(fails(PermissionDeniedError("no")))
    with pytest.raises(PermissionDeniedError):
        list(store.get_many((key, None) for key in keys))
    assert len(store.service.requests) < 30


def test_one_client_serves_every_store_of_a_container_and_closes_with_the_last(monkeypatch):
    name = f"s{next(_numbers)}"
    first, second = DictStore(name), DictStore(name, prefix="b")
    assert first.client is second.client
    closed = []
    monkeypatch.setattr(type(first.client), "close", lambda self: closed.append(self))
    first.close()
    assert not closed
    second.close()
    assert len(closed) == 1
    assert isinstance(first.service, DictService) and first.get("k") is None


def test_a_store_that_is_collected_while_another_one_connects_holds_nothing_up():
    class Slow(DictStore):
        def _make_client(self):
            gone = self.others.pop()
            gone.others = gone  # a cycle: the collector finds it
            del gone
            gc.collect()
            return super()._make_client()

    def connect():
        name = f"s{next(_numbers)}"
        store = Slow(name)
        other = DictStore(f"{name} of another")
        other.get("k")
        store.others = [other]
        del other
        assert store.get("k") is None

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


def test_a_refused_condition_is_an_answer_and_does_not_slow_down(store):
    probed(store).set("k", b"1")
    for _ in range(300):
        store.service.faults.append(fails(UnavailableError("refused", code="unreachable")))
        for _ in range(3):
            with pytest.raises(ConflictError):
                store.set_if("k", b"2", None)
    assert store.retrier.pace.rate is None


# ---- several stores of one place


class Interruption(VirtualClock):
    """A clock whose first sleeper lets another one work before."""

    work = None

    def sleep(self, seconds):
        work, self.work = self.work, None
        if work is not None:
            work()
        super().sleep(seconds)


CALLS = {
    "get": lambda store: store.get("k"),
    "get_with_version": lambda store: store.get_with_version("k"),
    "get_many": lambda store: list(store.get_many([("k", None)])),
    "size": lambda store: store.size("k"),
    "list_prefix": lambda store: list(store.list_prefix()),
    "list_dir": lambda store: list(store.list_dir()),
    "set": lambda store: store.set("k", b"1"),
    "set_many": lambda store: store.set_many([("k", b"1")]),
    "set_if": lambda store: store.set_if("k", b"1", None),
    "delete": lambda store: store.delete("k"),
    "delete_prefix": lambda store: store.delete_prefix("c/"),
    "update": lambda store: store.update("k", lambda old: b"2"),
}


@pytest.mark.parametrize("theirs", ["get", "set_if", "update"])
@pytest.mark.parametrize("ours", CALLS)
def test_what_a_service_asks_of_one_store_holds_no_other_one_beyond_its_deadline(ours, theirs):
    """In the probe and in the turn of a key too, while the other store pauses in them."""
    name, clock = f"s{next(_numbers)}", Interruption()
    patient, hasty = DictStore(name, retry=Retry()), DictStore(name, retry=Retry(deadline=0.05))
    patient.clock = hasty.clock = clock
    seen = []

    def work():
        n, begin = len(patient.service.requests), time.monotonic()
        with pytest.raises(ThrottledError, match=r"expected to send a request within 0.05 s, got no turn") as caught:
            CALLS[ours](hasty)
        assert caught.value.store == hasty.url and caught.value.retry_after == 60
        assert len(patient.service.requests) == n and time.monotonic() - begin < TURN_SECONDS / 2
        seen.append(clock.monotonic())

    patient.service.faults.append(fails(ThrottledError("busy", retry_after=60)))
    clock.work = work
    CALLS[theirs](patient)
    assert seen == [0] and clock.monotonic() >= 60
    if ours != "set_if":
        CALLS[ours](hasty)  # the pause is over


def test_a_call_that_was_tried_ends_with_its_own_error_when_its_time_is_over(store):
    hasty = DictStore(store.name, prefix=store.prefix, retry=Retry(initial=1, longest=1, deadline=5, seed=2))
    hasty.clock = store.clock = clock = Interruption()
    clock.work = lambda: store.retrier.pace.hold(60)  # while it pauses, the service asks another one for more
    store.service.faults.append(fails(UnavailableError("down")))
    with pytest.raises(UnavailableError, match="down") as caught:
        hasty.get("k")
    assert clock.monotonic() <= 5 and store.service.requests == ["get"]
    assert "the service asks to wait for 5" in caught.value.__notes__[-1]
    assert store.get("k") is None and clock.monotonic() >= 60


def test_a_conditional_write_that_may_have_happened_says_so_when_its_time_is_over(store):
    hasty = DictStore(store.name, prefix=store.prefix, retry=Retry(deadline=5, seed=2))
    hasty.clock = store.clock = clock = Interruption()
    probed(hasty)
    clock.work = lambda: store.retrier.pace.hold(60)
    store.service.faults.append(loses_the_answer)
    with pytest.raises(OutcomeUnknownError):
        hasty.set_if("k", b"1", None)
    assert clock.monotonic() <= 5


# ---- what a second pair of eyes has found


def test_a_lost_answer_to_the_probe_does_not_turn_compare_and_swap_off(store):
    def passes(request):
        return request()

    def loses_even_a_refusal(request):
        with suppress(ConflictError):
            request()
        raise UnavailableError("the connection was lost", code="connection_lost")

    for position, fault in itertools.product(range(8), (loses_the_answer, loses_even_a_refusal)):
        fresh = DictStore(f"s{next(_numbers)}", retry=Retry(seed=1))
        fresh.clock = VirtualClock()
        fresh.service.faults += [passes] * position + [fault]
        fresh.set_if("k", b"1", None)
        assert fresh.supports_cas and fresh._connected().conditions == {"absent": True, "version": True}


@pytest.mark.parametrize(
    "error", [PermissionDeniedError("no"), ThrottledError("busy"), UnavailableError("down", code="unreachable")]
)
def test_a_write_that_may_have_happened_is_of_unknown_outcome_whatever_comes_after_it(store, error):
    probed(store)
    for write in (
        lambda: store.set("k", b"1"),
        lambda: store.set_if("j", b"1", None),
    ):
        store.service.faults[:] = [loses_the_answer] + [fails(error)] * 5000
        with pytest.raises(OutcomeUnknownError):
            write()


def test_a_broken_body_is_a_plain_error_that_can_be_pickled(store):
    store.set("k", b"value")
    store.service.faults += [cut_after(0)] * 5000
    with pytest.raises(UnavailableError) as caught:
        store.get("k")
    assert type(caught.value) is UnavailableError
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_value_that_is_cut_and_replaced_again_and_again_ends_at_the_deadline(store):
    store.set("k", b"value")
    store.service.faults += [cut_after(3), fails(ConflictError("another"))] * 20_000
    with pytest.raises(UnavailableError):
        store.get("k")
    assert store.clock.monotonic() < 300


def test_a_service_that_ignores_the_version_of_a_read_gives_no_torn_value(store):
    store.set("k", b"old value")
    version = store.get_with_version("k")[1]

    def ignores(request):
        store.service.objects["lab/a/k"] = b"new value", "900", ""
        found = store.service.objects["lab/a/k"]
        return Found(found[0][3:], found[1], len(found[0]))

    store.service.faults += [cut_after(3), ignores]
    assert store.get("k", slice(0, 9)) == b"new value"
    store.service.faults.append(lambda request: Found(b"new value", "900", 9))
    with pytest.raises(ConflictError):
        store.get_with_version("k", if_version=version)


def test_the_probe_needs_no_right_to_delete_and_is_never_listed(store):
    delete = DictClient.delete

    def forbidden(self, name):
        if "probe" in name:
            raise PermissionDeniedError("no")
        delete(self, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DictClient, "delete", forbidden)
        store.set_if("k", b"1", None)
    assert any("probe" in name for name in store.service.objects)
    assert list(store.list_prefix()) == list(store.list_dir()) == ["k"]


@pytest.mark.parametrize("folder", ["", ".", "..", "a\\b"])
def test_a_long_listing_with_one_folder_that_is_no_key_leaves_it_out(store, folder):
    for i in range(30):
        store.service.objects[f"lab/a/{folder}/{i}"] = b"", "1", ""
    assert list(store.list_prefix()) == []


def test_a_conflict_of_the_callers_own_is_not_tried_again(store):
    calls = []

    def change(old):
        calls.append(old)
        raise ConflictError("mine")

    with pytest.raises(ConflictError, match="mine"):
        store.update("k", change)
    assert len(calls) == 1


def test_a_doctor_is_not_misled_by_a_service_that_ignores_conditions(store, monkeypatch):
    from zarrcy.cli.diagnosis import Diagnosis

    store.service.obeys = False
    it = Diagnosis("dict://")
    it.store = store
    store.set(it.key, it.value)
    with pytest.warns(ConcurrentWriteWarning):
        assert "ignored" in it.conditions()


@pytest.mark.parametrize("version", [5, "€", "a\r\nX: y", b"1"])
def test_a_version_that_no_service_gives_is_a_conflict(store, version):
    store.set("k", b"1")
    with pytest.raises(ConflictError):
        store.set_if("k", b"2", version)
    with pytest.raises(ConflictError):
        store.get_with_version("k", if_version=version)
