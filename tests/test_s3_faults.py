"""`S3Store` over connections that break: no wrong bytes, no lost answer taken for a result, no endless wait."""

from __future__ import annotations

import itertools
import random
import threading

import numpy as np
import pytest
import servers.s3
from servers.faults import TO_CLIENT, TO_SERVER, Fault, Proxy
from servers.scripted import RESET, Answer, Request, Scripted

from zarrcy.errors import ConflictError, OutcomeUnknownError, StoreError
from zarrcy.stores import s3_client
from zarrcy.stores.clock import VirtualClock
from zarrcy.stores.retry import Retry
from zarrcy.stores.s3 import S3Store

numbers = itertools.count()
VALUE = np.random.default_rng(5).bytes(200_000)
ERROR = Answer(503, {"Content-Type": "application/xml"}, b"<Error><Code>SlowDown</Code></Error>")


@pytest.fixture
def direct():
    with S3Store("arrays", prefix=f"faults{next(numbers)}", endpoint_url=servers.s3.server().endpoint) as store:
        yield store


@pytest.fixture
def proxy():
    proxy = Proxy(servers.s3.server().port, seed=3)
    yield proxy
    proxy.close()


def through(direct: S3Store, endpoint: str, retry: Retry | None = None) -> S3Store:
    store = S3Store("arrays", prefix=direct.prefix, endpoint_url=endpoint, retry=retry or Retry(seed=1))
    store.clock = VirtualClock()
    return store


@pytest.fixture
def store(direct, proxy):
    with through(direct, f"http://127.0.0.1:{proxy.port}") as store:
        yield store


def test_a_flipped_bit_never_gives_a_wrong_value(proxy, direct, monkeypatch):
    """In the head or the body of an answer, or of what is written. Another try heals nearly all of them."""
    monkeypatch.setattr(s3_client, "READ_SECONDS", 0.3)  # a length that grew is waited for
    store = through(direct, f"http://127.0.0.1:{proxy.port}")
    choice = random.Random(1)
    direct.set("k", VALUE)
    n_errors = 0
    for i in range(200):
        after = choice.randrange(600) if i % 2 else choice.randrange(600, 200_000)
        proxy.arm(TO_CLIENT, Fault("flip", after, request=b"GET"))
        try:
            assert store.get("k") == VALUE
        except StoreError:
            n_errors += 1
    hits, proxy.hits = proxy.hits, 0
    assert hits > 150 and n_errors < 60
    for i in range(60):
        proxy.arm(TO_SERVER, Fault("flip", choice.randrange(900, 200_000), request=b"PUT"))
        store.set(f"c/{i % 7}", VALUE)
        assert direct.get(f"c/{i % 7}") == VALUE
    assert proxy.hits > 50


@pytest.mark.parametrize("kind", ["cut", "reset"])
def test_a_body_that_breaks_off_anywhere_is_read_whole(kind, proxy, store, direct):
    choice = random.Random(2)
    direct.set("k", VALUE)
    for _ in range(60):
        proxy.arm(TO_CLIENT, Fault(kind, choice.randrange(200_000), times=2, request=b"GET"))
        begin = choice.choice([0, 70_000])
        assert store.get("k", slice(begin, None)) == VALUE[begin:]
    assert proxy.hits > 60


def test_a_server_that_says_nothing_is_asked_again(proxy, direct, monkeypatch):
    monkeypatch.setattr(s3_client, "READ_SECONDS", 0.2)
    direct.set("k", VALUE)
    with through(direct, f"http://127.0.0.1:{proxy.port}") as store:
        for after in (0, 100_000):
            proxy.arm(TO_CLIENT, Fault("stall", after, request=b"GET"))
            assert store.get("k") == VALUE
        assert proxy.hits == 2


def test_a_connection_that_was_closed_meanwhile_is_made_again(proxy, store, direct):
    direct.set("k", VALUE)
    for _ in range(20):
        assert store.get("k") == VALUE
        proxy.reset()
    assert store.clock.monotonic() < 5


def unreliable(seed: int):
    """The server, but one answer in five is 503, one in twenty is lost, one body in twenty is cut."""
    choice, lock = random.Random(seed), threading.Lock()

    def answers(request: Request) -> Answer:
        with lock:
            drawn, cut = choice.random(), choice.random()
        if drawn < 0.2:
            return ERROR
        answer = servers.s3.server().answer(request)
        if drawn < 0.25:
            return RESET
        return answer._replace(cut=int(cut * len(answer.body))) if drawn < 0.3 and answer.body else answer

    return answers


def check_operations(direct: S3Store, seed: int, n: int) -> None:
    choice = random.Random(seed)
    model: dict[str, bytes] = {}
    with Scripted(unreliable(seed)) as server, through(direct, server.url) as store:
        for _ in range(n):
            key = f"c/{choice.randrange(8)}"
            step = choice.randrange(6)
            if step == 0:
                store.delete(key)
                model.pop(key, None)
            elif step == 1:
                assert sorted(store.list_prefix("c/")) == sorted(model)
            elif step == 2:
                model[key] = choice.randbytes(choice.choice([0, 10, 50_000]))
                store.set(key, model[key])
            elif step == 3:
                begin = choice.randrange(-20, 20)
                assert store.get(key, slice(begin, None)) == (model[key][begin:] if key in model else None)
            elif step == 4:
                assert store.size(key) == (len(model[key]) if key in model else None)
            else:
                assert store.get(key) == model.get(key)
        assert len(server.requests) > 1.2 * n
    assert {key: bytes(direct.get(key)) for key in direct.list_prefix()} == model


def test_operations_through_faults_have_no_wrong_byte_and_no_error(direct):
    check_operations(direct, 0, 2000)


@pytest.mark.long
def test_10000_operations_through_faults_have_no_wrong_byte_and_no_error(direct):
    check_operations(direct, 1, 10_000)


def check_winners(direct: S3Store, n: int) -> None:
    """Four writers create each key; every second answer to a conditional write is lost after the server stored it."""
    choice, lock = random.Random(4), threading.Lock()

    def answers(request: Request) -> Answer:
        answer = servers.s3.server().answer(request)
        with lock:
            lost = "If-None-Match" in request.headers and choice.random() < 0.5
        return RESET if lost else answer

    outcomes: dict[str, list[str]] = {f"c/{i}": [] for i in range(n)}
    with Scripted(answers) as server:
        stores = [through(direct, server.url, Retry(seed=i)) for i in range(4)]
        stores[0].set_if("first", b"", None)  # finds out whether conditions are obeyed

        def write(i: int) -> None:
            for key, found in outcomes.items():
                try:
                    stores[i].set_if(key, b"%d" % i, None)
                except ConflictError:
                    found.append("conflict")
                except OutcomeUnknownError:
                    found.append("unknown")
                else:
                    found.append(f"won by {i}")

        threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for key, found in outcomes.items():
        winners = [each for each in found if each.startswith("won")]
        stored = f"won by {int(direct.get(key))}"
        assert len(found) == 4 and winners in ([stored], []), key
        assert winners or "unknown" in found, key
    assert sum(any(each.startswith("won") for each in found) for found in outcomes.values()) > 0.9 * n


def test_conditional_writes_whose_answers_are_lost_have_one_winner(direct):
    check_winners(direct, 250)


@pytest.mark.long
def test_1000_conditional_writes_whose_answers_are_lost_have_one_winner(direct):
    check_winners(direct, 1000)


def test_a_compare_and_swap_whose_answer_was_lost_is_known_by_its_writer(direct):
    lost = [True]

    def answers(request: Request) -> Answer:
        answer = servers.s3.server().answer(request)
        if "If-Match" in request.headers and request.method == "PUT" and request.body == b"new" and lost:
            lost.clear()
            return RESET
        return answer

    with Scripted(answers) as server, through(direct, server.url) as store:
        store.set("k", b"old")
        version = store.get_with_version("k")[1]
        made = store.set_if("k", b"new", version)
        assert not lost and store.get_with_version("k") == (b"new", made)
        with pytest.raises(ConflictError):
            store.set_if("k", b"newer", version)
