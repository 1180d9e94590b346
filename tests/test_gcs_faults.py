"""`GCSStore` through a proxy that breaks what passes."""

from __future__ import annotations

import random
import threading
import time

import numpy as np
import pytest
import servers.gcs
from servers.faults import TO_CLIENT, TO_SERVER, Fault, Proxy

import zarrcy
from zarrcy.errors import (
    ConflictError,
    OutcomeUnknownError,
    StoreError,
    UnavailableError,
)
from zarrcy.stores import GCSStore, gcs_client, obstore_client
from zarrcy.stores.clock import VirtualClock
from zarrcy.stores.retry import Retry

# What an upload begins with, by each engine.
UPLOADS = {None: b"POST /upload", "obstore": b"PUT /"}


@pytest.fixture
def patience(monkeypatch):
    monkeypatch.setattr(gcs_client, "TIMEOUT", (5.0, 0.3))
    monkeypatch.setattr(obstore_client, "TIMEOUT", "500ms")


@pytest.fixture(params=UPLOADS)
def through_faults(patience, request):
    front = servers.gcs.xml_front() if request.param else servers.gcs.server()
    proxy = Proxy(front.port, seed=3)
    options = {"credentials": servers.gcs.credentials, "engine": "obstore"} if request.param else {}
    endpoint = f"http://127.0.0.1:{proxy.port}"
    store = GCSStore(servers.gcs.server().bucket(), endpoint=endpoint, retry=Retry(initial=0.01), **options)
    yield store, proxy
    store.close()
    proxy.close()


def check_operations(store: GCSStore, proxy: Proxy, n: int) -> None:
    """Reads, parts, writes, listings and deletions beside a dict; every answer is right, and no error is seen."""
    draw = random.Random(5)
    model: dict[str, bytes] = {}
    for i in range(n):
        key = f"c/{draw.randrange(20)}"
        match draw.choice(["set", "get", "get", "part", "part", "delete", "list", "update"]):
            case "set":
                model[key] = draw.randbytes(draw.choice([0, 10, 3000, 70_000]))
                store.set(key, model[key])
            case "get":
                found = store.get(key)
                assert (None if found is None else bytes(found)) == model.get(key)
            case "part":
                a, b = sorted(draw.randrange(4000) for _ in range(2))
                found = store.get(key, slice(a, b))
                assert (None if found is None else bytes(found)) == (model[key][a:b] if key in model else None)
            case "delete":
                store.delete(key)
                model.pop(key, None)
            case "update":
                store.update(key, lambda old, i=i: bytes(old or b"")[:100] + b"%d" % i)
                model[key] = model.get(key, b"")[:100] + b"%d" % i
            case "list":
                assert sorted(store.list_prefix()) == sorted(model)
    assert proxy.hits > n // 40


@pytest.mark.parametrize("kind", ["reset", "cut"])
def test_broken_connections_are_not_seen_by_the_caller(through_faults, kind):
    store, proxy = through_faults
    store.set_if("warm", b"", None)
    store.delete("warm")
    proxy.arm(TO_CLIENT, Fault(kind, after=200, times=None, share=0.05))
    check_operations(store, proxy, 400)


def test_a_flipped_bit_in_an_answer_never_gives_wrong_bytes(through_faults):
    store, proxy = through_faults
    store.clock = VirtualClock()  # half of the answers are broken, and so the pace falls
    value = random.Random(2).randbytes(3000)
    store.set("k", value)
    hits = 0
    for after in range(0, 3300, 13):
        proxy.arm(TO_CLIENT, Fault("flip", after=after))
        try:
            assert store.get("k") == value, after
        except StoreError as error:
            # The first line, or a header, says something else now: an error of its own.
            assert after < 800 and not isinstance(error, UnavailableError), (after, error)
        hits += 1
    assert proxy.hits == hits


@pytest.mark.parametrize("direction", [TO_CLIENT, TO_SERVER])
def test_a_conditional_write_whose_answer_was_lost_has_one_winner(through_faults, direction):
    store, proxy = through_faults
    store.set_if("probe", b"", None)
    for i in range(100):
        # Obstore's requests are shorter.
        after = 0 if direction == TO_CLIENT else i * (9 if store.engine is None else 4)
        proxy.arm(direction, Fault("reset", after=after, request=UPLOADS[store.engine]))
        version = store.set_if(f"k{i}", b"first", None)
        assert store.get_with_version(f"k{i}") == (b"first", version)
        with pytest.raises(ConflictError):
            store.set_if(f"k{i}", b"second", None)
        proxy.arm(direction, Fault("reset", after=after, request=UPLOADS[store.engine]))
        again = store.set_if(f"k{i}", b"second", version)
        assert again != version and store.get(f"k{i}") == b"second"
    assert proxy.hits > 150


def check_contended_writes(store: GCSStore, proxy: Proxy, n: int) -> None:
    """Four writers create each of `n` keys, and three in ten answers are lost."""
    store.set_if("probe", b"", None)
    proxy.arm(TO_CLIENT, Fault("reset", after=0, times=None, share=0.3, request=UPLOADS[store.engine]))
    outcomes: dict[str, list[tuple[str, bytes]]] = {f"k{i}": [] for i in range(n)}

    def write(own: bytes) -> None:
        for key in outcomes:
            try:
                store.set_if(key, own, None)
            except ConflictError:
                outcomes[key].append(("lost", own))
            except OutcomeUnknownError:
                outcomes[key].append(("unknown", own))
            else:
                outcomes[key].append(("won", own))

    writers = [threading.Thread(target=write, args=(b"writer %d" % i,)) for i in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    proxy.heal()
    for key, found in outcomes.items():
        winners = [own for outcome, own in found if outcome == "won"]
        assert len(found) == 4 and len(winners) <= 1
        stored = store.get(key)
        assert [bytes(stored)] == winners if winners else (b"%s" % stored, "unknown") in [o[::-1] for o in found]


def test_of_contended_writes_with_lost_answers_each_has_one_winner_or_an_unknown_outcome(through_faults):
    check_contended_writes(*through_faults, 60)


@pytest.mark.long
def test_of_1000_contended_writes_with_lost_answers_each_has_one_winner_or_an_unknown_outcome(through_faults):
    check_contended_writes(*through_faults, 1000)


def test_a_stall_ends_with_the_time_limit_and_is_tried_again(through_faults):
    store, proxy = through_faults
    store.set("k", b"0123456789abcdef")
    proxy.arm(TO_CLIENT, Fault("stall", after=10))
    begin = time.monotonic()
    assert store.get("k") == b"0123456789abcdef"
    assert time.monotonic() - begin < 20


def test_arrays_survive_faults(through_faults):
    store, proxy = through_faults
    store.set_if("warm", b"", None)
    store.delete("warm")
    proxy.arm(TO_CLIENT, Fault("reset", after=150, times=None, share=0.05))
    array = zarrcy.create_array(store, shape=(40, 40), chunks=(10, 10), dtype="f8")
    data = np.random.default_rng(1).random((40, 40))
    array[:] = data
    array[3:17, 5:35] *= 2
    data[3:17, 5:35] *= 2
    assert np.array_equal(zarrcy.open_array(store)[:], data)
