"""`GridFSStore` over a connection that breaks: no wrong bytes, no lost answer taken for a result, no endless wait."""

import itertools
import random
import threading
import time

import numpy as np
import pytest
import servers.mongodb
from servers.faults import TO_CLIENT, TO_SERVER, Fault, Proxy

from zarrcy.errors import ChecksumError, ConflictError, OutcomeUnknownError, StoreError, UnavailableError
from zarrcy.stores.gridfs import GridFSStore

numbers = itertools.count()
VALUE = np.random.default_rng(5).bytes(300_000)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """After a broken connection pymongo looks for the server at once, and not half a second later."""
    monkeypatch.setattr("pymongo.common.MIN_HEARTBEAT_INTERVAL", 0.005)
    monkeypatch.setattr("zarrcy.stores.gridfs_writing.pause", lambda attempt: None)
    monkeypatch.setattr("zarrcy.stores.gridfs_bucket.pause", lambda attempt: None)


@pytest.fixture
def proxy():
    proxy = Proxy(servers.mongodb.server().ports[0], seed=3)
    yield proxy
    proxy.close()


@pytest.fixture
def direct():
    with GridFSStore(servers.mongodb.server().url(), bucket=f"faulty{next(numbers)}", array_id="a") as store:
        store.set("first", b"")  # makes the indexes
        yield store


@pytest.fixture
def store(proxy, direct):
    # The driver looks for the server in a rhythm; with "poll" it does so at once when a connection broke.
    options = {"socketTimeoutMS": 1000, "serverSelectionTimeoutMS": 2000, "heartbeatFrequencyMS": 500}
    url = servers.mongodb.server().url(hosts=f"127.0.0.1:{proxy.port}", serverMonitoringMode="poll", **options)
    with GridFSStore(url, bucket=direct.bucket, array_id="a") as store:
        store.set("through", b"")
        yield store


def test_a_flipped_bit_in_an_answer_never_gives_wrong_bytes(proxy, store):
    """Bits of the documents, the chunks and what is around them; 400 reads, of which another read heals most."""
    store.set("c/0", VALUE)
    choice = random.Random(1)
    n_errors = 0
    for i in range(400):
        after = choice.randrange(400) if i % 2 else choice.randrange(300_000)
        proxy.arm(TO_CLIENT, Fault("flip", after, request=b"find"))
        part = None if i % 3 else slice(100_000, 290_000)
        try:
            got = store.get("c/0", part)
        except (StoreError, ChecksumError):
            n_errors += 1
        else:
            assert got == VALUE[part or slice(None)]
    proxy.heal()
    assert proxy.hits > 150 and n_errors < 60
    assert store.get("c/0") == VALUE


def test_a_flipped_bit_in_a_stored_chunk_is_noticed_by_the_reader(proxy, store, direct):
    choice = random.Random(2)
    for i in range(20):
        proxy.arm(TO_SERVER, Fault("flip", choice.randrange(1000, 250_000), request=b"chunks"))
        store.set(f"c/{i}", VALUE)
        with pytest.raises(ChecksumError):
            direct.get(f"c/{i}")
    assert proxy.hits == 20


@pytest.mark.parametrize("kind", ["cut", "reset", "stall"])
def test_a_broken_answer_is_asked_for_again(kind, proxy, store):
    store.set("c/0", VALUE)
    for after in (0, 10, 100, 70_000, 250_000):
        proxy.arm(TO_CLIENT, Fault(kind, after, request=b"find"))
        assert store.get("c/0") == VALUE
        assert proxy.hits
        proxy.hits = 0
        proxy.heal()


@pytest.mark.parametrize("kind", ["cut", "reset", "stall"])
def test_a_value_of_several_answers_is_asked_for_again_when_one_after_the_first_breaks(kind, proxy, store):
    value = np.random.default_rng(6).bytes(10 << 20)
    store.set("c/0", value)
    for after in (0, 50, 1_000_000):
        proxy.arm(TO_CLIENT, Fault(kind, after, request=b"getMore"))
        assert store.get("c/0") == value
        assert proxy.hits
        proxy.hits = 0
        proxy.heal()


def test_a_flipped_bit_in_the_head_of_an_answer_after_the_first_never_gives_wrong_bytes(proxy, store):
    value = np.random.default_rng(7).bytes(10 << 20)
    store.set("c/0", value)
    n_errors = 0
    for after in range(0, 150, 3):
        proxy.arm(TO_CLIENT, Fault("flip", after, request=b"getMore"))
        try:
            assert store.get("c/0") == value
        except (StoreError, ChecksumError):
            n_errors += 1
    proxy.heal()
    assert proxy.hits > 30 and n_errors < 10
    assert store.get("c/0") == value


def test_a_server_that_says_nothing_is_an_error_after_a_while(proxy, store, monkeypatch):
    monkeypatch.setattr("zarrcy.stores.gridfs_bucket.RETRY_SECONDS", 1.0)
    proxy.arm(TO_CLIENT, Fault("stall", times=None))
    started = time.monotonic()
    with pytest.raises(UnavailableError):
        store.get("c/0")
    assert time.monotonic() - started < 20


def test_a_server_that_is_gone_is_an_error_after_a_while(proxy, store):
    proxy.refuses = True
    proxy.reset()
    for call in (lambda: store.get("c/0"), lambda: list(store.list_prefix()), lambda: store.set("c/0", b"1")):
        with pytest.raises(UnavailableError) as caught:
            call()
        assert caught.value.code == "unreachable" and "canary" not in str(caught.value)
    proxy.heal()
    store.set("c/0", b"1")
    assert store.get("c/0") == b"1"


LOSSES = [Fault(kind, times=times, request=b"findAndModify") for kind in ("cut", "reset") for times in (1, 2, 3, 5)]


def test_a_conditional_write_whose_answer_was_lost_has_one_winner(proxy, store, direct):
    """The change happened, the answer is cut: the write succeeds, once, though the driver gave up."""
    version = store.set_if("n", b"0", None)
    for i in range(200):
        proxy.arm(TO_CLIENT, LOSSES[i % len(LOSSES)])
        before, version = version, store.set_if("n", b"%d" % (i + 1), version)
        assert direct.get_with_version("n") == (b"%d" % (i + 1), version)
        proxy.heal()
        with pytest.raises(ConflictError):
            store.set_if("n", b"stale", before)
    assert proxy.hits >= 200


def test_a_creation_whose_answer_was_lost_has_one_winner(proxy, store, direct):
    for i in range(40):
        proxy.arm(TO_CLIENT, Fault("reset", times=1 + i % 4, request=b"current"))
        try:
            version = store.set_if(f"c/{i}", b"mine", None)
        except ConflictError:
            pytest.fail("its own write was taken for another's")
        proxy.heal()
        assert direct.get_with_version(f"c/{i}") == (b"mine", version)


def test_lost_answers_between_two_writers_lose_and_invent_nothing(proxy, store, direct):
    """Both add to one number; every third answer of one is lost. Each success counts once, a conflict never."""
    counts = {"sure": 0, "unknown": 0}
    lock = threading.Lock()

    def add(to):
        while True:
            value, version = to.get_with_version("n")
            outcome = "sure"
            try:
                to.set_if("n", b"%d" % (int(value or b"0") + 1), version)
            except ConflictError:
                continue
            except OutcomeUnknownError:
                outcome = "unknown"
            with lock:
                counts[outcome] += 1
            return

    proxy.arm(TO_CLIENT, Fault("reset", times=None, request=b"findAndModify", share=0.33))
    threads = [threading.Thread(target=lambda to=to: [add(to) for _ in range(60)]) for to in (store, direct)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    proxy.heal()
    assert sum(counts.values()) == 120 and proxy.hits
    assert counts["sure"] <= int(direct.get("n")) <= 120


def test_when_nothing_says_what_happened_the_outcome_is_unknown(proxy, store, direct, monkeypatch):
    version = store.set_if("n", b"0", None)
    find_out = store._writer._find_out

    def replaced_and_deleted_meanwhile(*arguments):
        direct.delete("n")
        return find_out(*arguments)

    monkeypatch.setattr(store._writer, "_find_out", replaced_and_deleted_meanwhile)
    proxy.arm(TO_CLIENT, Fault("reset", times=4, request=b"findAndModify"))
    with pytest.raises(OutcomeUnknownError) as caught:
        store.set_if("n", b"1", version)
    assert caught.value.code == "outcome_unknown"


@pytest.mark.parametrize("value", [b"", b"x"])
def test_a_file_is_on_the_majority_before_it_becomes_current(store, monkeypatch, value):
    """What is found out after a lost answer is read there: a file that it lacks would pass for one that was removed."""
    insert, waited = store._writer._insert, []

    def note(name, documents, key, *, majority=True):
        waited.append(majority)
        insert(name, documents, key, majority=majority)

    monkeypatch.setattr(store._writer, "_insert", note)
    store.set("k", value)
    assert waited == ([True] if not value else [False, True]) and store.get("k") == value


def test_resets_and_cuts_are_not_seen_by_the_caller(proxy, store):
    """One answer in twenty is cut or reset: 400 operations behave as on a dict, and none of them fails."""
    choice = random.Random(4)
    model = {"first": b"", "through": b""}
    for i in range(400):
        kind = "cut" if i % 2 else "reset"
        proxy.arm(TO_CLIENT if i % 3 else TO_SERVER, Fault(kind, choice.randrange(200), times=None, share=0.05))
        key = f"c/{choice.randrange(5)}"
        step = choice.randrange(5)
        if step == 0:
            store.delete(key)
            model.pop(key, None)
        elif step == 1:
            assert sorted(store.list_prefix()) == sorted(model)
        elif step == 2:
            items = {f"c/{n}": choice.randbytes(100) for n in range(3)}
            store.set_many(items.items())
            model.update(items)
        elif step == 3:
            model[key] = choice.randbytes(choice.choice([0, 10, 100_000]))
            store.set(key, model[key])
        assert store.get(key) == model.get(key)
    assert proxy.hits > 20
