"""`AzureBlobStore` through servers that fail: busy answers, resets, cut bodies, flipped bits, lost answers."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import servers.azure
from servers.azure import ACCOUNT, CONTAINER, KEY
from servers.faults import TO_CLIENT, TO_SERVER, Fault, Proxy
from servers.scripted import RESET, Answer, Request, Scripted, forward

from zarrcy.errors import ChecksumError, ConflictError, OutcomeUnknownError, ThrottledError, UnavailableError
from zarrcy.stores import azure_client, obstore_client
from zarrcy.stores.azure import AzureBlobStore
from zarrcy.stores.clock import VirtualClock
from zarrcy.stores.retry import Retry
from zarrcy.threads import map_unordered

QUICK = Retry(initial=0.005, longest=0.05, deadline=60, seed=1)
BUSY = Answer(503, {"x-ms-error-code": "ServerBusy", "x-ms-request-id": "1"})
ENGINE: dict[str, Any] = {}


@pytest.fixture(params=[None, "obstore"])
def both_engines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stores of the test are of one engine, and then of the other."""
    monkeypatch.setitem(ENGINE, "engine", request.param)


def store_at(port: int, prefix: str, **options: Any) -> AzureBlobStore:
    endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
    options = {"retry": QUICK, "account_key": KEY, **ENGINE, **options}
    return AzureBlobStore(ACCOUNT, container=CONTAINER, prefix=prefix, endpoint=endpoint, **options)


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    return tmp_path.as_posix().strip("/")


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    proxy = Proxy(servers.azure.server().port, seed=3)
    yield proxy
    proxy.close()


def faulty(seed: int, busy: float, reset: float, cut: float) -> Callable[[Request], Answer]:
    """What Azurite answers, but for shares of the requests; of those that are reset half have arrived."""
    chance = random.Random(seed)
    lock = threading.Lock()
    port = servers.azure.server().port

    def answer(request: Request) -> Answer:
        with lock:
            drawn, stored, place = chance.random(), chance.random() < 0.5, chance.random()
        if drawn < busy:
            return BUSY
        if drawn < busy + reset:
            if stored:
                forward(port, request)
            return RESET
        found = forward(port, request)
        if drawn < busy + reset + cut and found.body:
            return found._replace(cut=int(place * len(found.body)))
        return found

    return answer


def check_operations(prefix: str, n: int) -> None:
    """`n` operations on 40 keys, through 20 % 503, 5 % resets and 5 % cut bodies: nothing of it shows."""
    values = {f"c/{i}": random.Random(i).randbytes(random.Random(i).choice((0, 10, 3000, 50_000))) for i in range(40)}

    def work(number: int) -> None:
        chance = random.Random(number)
        key = chance.choice(list(values))
        begin = chance.randrange(60_000)
        if chance.random() < 0.3:
            store.set(key, values[key])
        elif chance.random() < 0.4:
            assert store.get(key, slice(begin, begin + 1000)) == values[key][begin : begin + 1000]
        elif chance.random() < 0.1:
            assert store.size(key) == len(values[key])
        elif chance.random() < 0.05:
            assert sorted(store.list_prefix("c/")) == sorted(values)
        else:
            assert store.get(key) == values[key]

    with Scripted(faulty(7, 0.2, 0.05, 0.05)) as between, store_at(between.port, prefix) as store:
        # It would slow down, as it must: see test_retrying.py.
        store.retrier.pace.failed = lambda error: None  # type: ignore[method-assign]
        store.set_many(values.items())
        for _ in map_unordered(work, range(n), 16):
            continue
        assert len(between.requests) > 1.2 * n


@pytest.mark.usefixtures("both_engines")
def test_busy_answers_resets_and_cut_bodies_do_not_show(prefix: str) -> None:
    check_operations(prefix, 400)


@pytest.mark.long
def test_10000_operations_through_faults_have_no_wrong_byte_and_no_error(prefix: str) -> None:
    check_operations(prefix, 10_000)


def test_a_cut_body_is_resumed_where_it_ended(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azure_client, "PIECE", 1000)
    value = random.Random(1).randbytes(100_000)
    port = servers.azure.server().port
    with store_at(port, prefix) as store:
        store.set("k", value)
    cuts = iter([40_000, 30_000, 0, None])

    def answer(request: Request) -> Answer:
        return forward(port, request)._replace(cut=next(cuts))

    with Scripted(answer) as between, store_at(between.port, prefix) as store:
        assert store.get("k") == value
    ranges = [request.headers["x-ms-range"] for request in between.requests]
    assert ranges == [None, "bytes=40000-99999", "bytes=70000-99999", "bytes=70000-99999"]
    assert len({request.headers["If-Match"] for request in between.requests[1:]} - {None}) == 1


@pytest.mark.usefixtures("both_engines")
def test_a_body_that_stalls_is_read_again(prefix: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azure_client, "READ_TIMEOUT", 0.3)
    monkeypatch.setattr(obstore_client, "TIMEOUT", "500ms")
    with store_at(proxy.port, prefix) as store:
        store.set("k", b"1" * 100_000)
        proxy.arm(TO_CLIENT, Fault("stall", after=5000, request=b"GET /"))
        assert store.get("k") == b"1" * 100_000
        assert proxy.hits == 1


@pytest.mark.parametrize("part", [None, slice(100, 60_000), slice(-60_000, None)])
def test_a_flipped_bit_on_the_way_gives_no_wrong_byte(prefix: str, proxy: Proxy, part: slice | None) -> None:
    value = random.Random(2).randbytes(100_000)
    with store_at(proxy.port, prefix) as store:
        store.set("k", value)
        chance = random.Random(3)
        for n in range(25):
            proxy.arm(TO_CLIENT, Fault("flip", after=chance.randrange(2000, 50_000), request=b"GET /"))
            assert store.get("k", part) == value[slice(None) if part is None else part]
            assert proxy.hits == n + 1


def test_a_flipped_bit_in_what_is_written_is_not_stored(prefix: str, proxy: Proxy) -> None:
    value = random.Random(4).randbytes(100_000)
    with store_at(proxy.port, prefix) as store:
        for n in range(30):
            proxy.arm(TO_SERVER, Fault("flip", after=5000 + 3000 * n, request=b"PUT /"))
            store.set(f"k{n}", value)
            assert store.get(f"k{n}") == value
        assert proxy.hits == 30


@pytest.mark.usefixtures("both_engines")
def test_a_flipped_bit_that_is_stored_is_an_error(prefix: str) -> None:
    azurite = servers.azure.server()
    blob = azurite.plain_client().get_blob_client(CONTAINER, f"{prefix}/k")
    with store_at(azurite.port, prefix) as store:
        store.set("k", b"12345678")
        # As a disc that changes a bit: the checksums stay.
        metadata = blob.get_blob_properties().metadata
        blob.upload_blob(b"1234567x", overwrite=True, metadata=metadata)
        with pytest.raises(ChecksumError, match="crc32c"):
            store.get("k")


def loses_answers(methods: str, share: float, seed: int) -> Callable[[Request], Answer]:
    """Azurite, whose answers to some requests are lost after it has done them."""
    port = servers.azure.server().port
    chance, lock = random.Random(seed), threading.Lock()

    def answer(request: Request) -> Answer:
        found = forward(port, request)
        with lock:
            lost = request.method in methods and "If-" in str(request.headers) and chance.random() < share
        return RESET if lost else found

    return answer


def check_contended_writes(prefix: str, n_keys: int) -> None:
    """Four writers create each key; answers are lost. One wins, or nobody knows, and what is stored is the winner's."""
    outcomes: dict[str, list[str]] = {f"k{i}": [] for i in range(n_keys)}
    with Scripted(loses_answers("PUT", 0.3, 5)) as between, store_at(between.port, prefix) as store:
        store.set_if("probe", b"", None)

        def write(item: tuple[str, int]) -> None:
            key, writer = item
            try:
                store.set_if(key, f"value of {writer}".encode(), None)
            except ConflictError:
                return
            except OutcomeUnknownError:
                outcomes[key].append("?")
            else:
                outcomes[key].append(str(writer))

        for _ in map_unordered(write, [(key, writer) for key in outcomes for writer in range(4)], 16):
            continue
        for key, found in outcomes.items():
            winners = [each for each in found if each != "?"]
            assert len(winners) <= 1 and found, (key, found)
            stored = bytes(store.get(key) or b"").decode()
            assert stored.startswith("value of ")
            assert not winners or stored == f"value of {winners[0]}"


@pytest.mark.usefixtures("both_engines")
def test_of_contended_writes_with_lost_answers_each_has_one_winner_or_an_unknown_outcome(prefix: str) -> None:
    check_contended_writes(prefix, 50)


@pytest.mark.long
def test_of_1000_contended_writes_with_lost_answers_each_has_one_winner(prefix: str) -> None:
    check_contended_writes(prefix, 1000)


@pytest.mark.usefixtures("both_engines")
def test_no_update_is_lost_or_done_twice_when_answers_are_lost(prefix: str) -> None:
    with Scripted(loses_answers("PUT", 0.3, 6)) as between, store_at(between.port, prefix) as store:
        store.set("n", b"0")
        unknown = []

        def add(_: int) -> None:
            try:
                store.update("n", lambda old: str(int(bytes(old or b"0")) + 1).encode())
            except OutcomeUnknownError:
                unknown.append(1)

        for _ in map_unordered(add, range(60), 8):
            continue
        n = int(bytes(store.get("n") or b""))
        assert 60 - len(unknown) <= n <= 60


def test_a_read_that_finds_nobody_gives_up_at_the_deadline(prefix: str) -> None:
    with Scripted(BUSY) as between:
        store = store_at(between.port, prefix, retry=Retry(deadline=60, seed=1))
        store.clock = VirtualClock()
        with store, pytest.raises(ThrottledError, match="ServerBusy"):
            store.get("k")
        assert len(between.requests) > 2
    with store_at(between.port, prefix, retry=Retry(deadline=0)) as store, pytest.raises(UnavailableError):
        store.get("k")
