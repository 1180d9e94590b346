"""What `GCSStore` makes of answers that no emulator gives."""

from __future__ import annotations

import base64
import random
import socket
import threading
import time

import pytest
from servers.faults import TO_CLIENT, Fault, Proxy
from servers.gcs import as_json, path_of, query_of
from servers.scripted import RESET, SILENCE, Answer, Request, Scripted

import zarrcy
from zarrcy.errors import (
    ConflictError,
    OutcomeUnknownError,
    PermissionDeniedError,
    StoreError,
    ThrottledError,
    UnavailableError,
)
from zarrcy.stores import GCSStore, gcs_client
from zarrcy.stores.clock import VirtualClock
from zarrcy.stores.object_reads import checksum_of
from zarrcy.stores.retry import Retry

BUCKET = "my-bucket"
VALUE = bytes(range(100))


def refusal(status: int, reason: str, message: str) -> Answer:
    return as_json(
        {"error": {"code": status, "message": message, "errors": [{"reason": reason, "message": message}]}}, status
    )


def no_such_object(request: Request) -> Answer:
    """As the service says it: one line to a download, JSON to the rest; the listing is empty."""
    if path_of(request) == f"/storage/v1/b/{BUCKET}/o":
        return as_json({"kind": "storage#objects"})
    message = f"No such object: {path_of(request).split('/b/')[1].replace('/o/', '/', 1)}"
    if "alt" in query_of(request):
        return Answer(404, {"Content-Type": "text/html; charset=UTF-8"}, message.encode())
    return refusal(404, "notFound", message)


def only_the_listing(request: Request, otherwise: Answer) -> Answer:
    return no_such_object(request) if path_of(request).endswith("/o") else otherwise


NO_BUCKET = refusal(404, "notFound", "The specified bucket does not exist.")
FORBIDDEN = refusal(403, "forbidden", "x@y.iam does not have storage.objects.get access to the object.")
PAGE = Answer(404, {"Content-Type": "text/html"}, b"<html><body>Not found: no such object</body></html>")
BUSY = refusal(429, "rateLimitExceeded", "The rate of requests is too high.")

# What comes: the class of the error, its code, the answer.
OUTCOMES = {
    "404 of a missing bucket": (StoreError, "no_bucket", lambda request: NO_BUCKET),
    "404 of a bucket in other words": (StoreError, "no_bucket", lambda request: refusal(404, "notFound", "Not Found")),
    "404 page of a proxy": (StoreError, "not_found", lambda request: PAGE),
    "200 page of a proxy": (UnavailableError, "broken_answer", lambda request: PAGE._replace(status=200)),
    "302 of a proxy": (StoreError, "redirect", lambda request: Answer(302, {"Location": "/login"})),
    "403": (PermissionDeniedError, "forbidden", lambda request: FORBIDDEN),
    "400 of an expired token": (
        PermissionDeniedError,
        "expired",
        lambda request: refusal(400, "ExpiredToken", "The provided token has expired."),
    ),
    "401": (PermissionDeniedError, "unauthorized", lambda request: refusal(401, "authError", "Invalid Credentials")),
    "410": (StoreError, "gone", lambda request: refusal(410, "gone", "Gone.")),
    "416": (StoreError, "bad_range", lambda request: refusal(416, "requestedRangeNotSatisfiable", "Range.")),
    "429": (ThrottledError, "throttled", lambda request: BUSY),
    "403 of a quota": (ThrottledError, "throttled", lambda request: refusal(403, "userRateLimitExceeded", "Slow.")),
    "500": (UnavailableError, "unavailable", lambda request: refusal(500, "backendError", "Backend Error")),
    "502": (UnavailableError, "unavailable", lambda request: Answer(502, {}, b"<html>Bad Gateway</html>")),
    "503": (ThrottledError, "throttled", lambda request: refusal(503, "backendError", "Backend Error")),
    "504": (UnavailableError, "unavailable", lambda request: Answer(504)),
    "reset": (UnavailableError, "connection_lost", lambda request: RESET),
    "timeout": (UnavailableError, "timeout", lambda request: SILENCE),
}
OPERATIONS = {
    "get": lambda store: store.get("c/0"),
    "range": lambda store: store.get("c/0", slice(2, 6)),
    "suffix": lambda store: store.get("c/0", slice(-4, None)),
    "version": lambda store: store.get_with_version("c/0"),
    "many": lambda store: list(store.get_many([("c/0", None)])),
    "exists": lambda store: store.exists("c/0"),
    "list": lambda store: list(store.list_prefix("c/")),
    "list_dir": lambda store: list(store.list_dir()),
}


@pytest.fixture
def patience(monkeypatch, request):
    """Little of it, but only where no answer will come."""
    if {"timeout", "stall"} & set(map(str, request.node.callspec.params.values())):
        monkeypatch.setattr(gcs_client, "TIMEOUT", (5.0, 0.3))


def store_at(endpoint: str, deadline: float = 0, **options: object) -> GCSStore:
    options = {"prefix": "lab/a", "credentials": "anonymous", **options}
    store = GCSStore(BUCKET, endpoint=endpoint, retry=Retry(initial=0.01, deadline=deadline), **options)
    store.clock = VirtualClock()  # pauses cost nothing
    return store


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_no_answer_but_that_of_an_absent_object_is_an_absent_key(outcome, patience):
    kind, code, answer = OUTCOMES[outcome]
    with Scripted(answer) as server, store_at(server.url) as store:
        for name, operation in OPERATIONS.items():
            with pytest.raises(StoreError) as caught:
                operation(store)
            assert (type(caught.value), caught.value.code) == (kind, code), name
            assert caught.value.store == "gs://my-bucket/lab/a" and caught.value.hint, name
            assert caught.value.key == ("c/0" if not name.startswith("list") else None), name
        if kind is not PermissionDeniedError:
            return
        for write in (lambda: store.set("k", b""), lambda: store.delete("k"), lambda: store.set_if("k", b"", None)):
            with pytest.raises(PermissionDeniedError):
                write()


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_no_answer_but_that_of_an_absent_object_is_a_fill_value(outcome, patience):
    kind, _, answer = OUTCOMES[outcome]
    document = zarrcy.create_array("memory://", shape=4, chunks=2, dtype="i4", fill_value=7)
    metadata = bytes(document.store.get("zarr.json"))
    broken = threading.Event()

    def answers(request):
        if path_of(request).endswith("zarr.json"):
            return an_object(metadata)
        return answer(request) if broken.is_set() else no_such_object(request)

    with Scripted(answers) as server, store_at(server.url) as store:
        array = zarrcy.open_array(store)
        assert array[:].tolist() == [7] * 4
        broken.set()
        with pytest.raises(kind):
            array[:]
        with pytest.raises(kind):
            array[1]


def test_a_name_that_cannot_be_looked_up_is_an_error(monkeypatch):
    def fails(*arguments, **options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    with store_at("http://storage.invalid") as store:
        for operation in OPERATIONS.values():
            with pytest.raises(UnavailableError, match="cannot be looked up") as caught:
                operation(store)
            assert caught.value.code == "name_lookup"


def test_nobody_at_the_endpoint_is_an_error_and_the_write_has_not_happened():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with store_at(f"http://127.0.0.1:{port}") as store:
        for call in (*OPERATIONS.values(), lambda store: store.set("k", b""), lambda store: store.delete("k")):
            with pytest.raises(UnavailableError, match="refused") as caught:
                call(store)
            assert caught.value.code == "unreachable"


# ---- what is absent


def test_an_object_that_the_service_says_is_absent_is_an_absent_key():
    with Scripted(no_such_object) as server, store_at(server.url) as store:
        for name, operation in OPERATIONS.items():
            absent = {"version": (None, None), "many": [(0, None)], "exists": False, "list": [], "list_dir": []}
            assert operation(store) == absent.get(name)
        store.delete("c/0")
        # The first one was confirmed: the bucket is there. After that, each costs one request.
        n = len(server.requests)
        assert store.get("c/1") is None and store.get("c/2", slice(3)) is None and not store.exists("c/3")
        assert len(server.requests) == n + 3


def test_the_words_for_an_absent_object_do_not_count_before_the_bucket_was_seen():
    def answers(request):
        return NO_BUCKET if path_of(request).endswith("/o") else no_such_object(request)

    with Scripted(answers) as server, store_at(server.url) as store:
        for call in (*list(OPERATIONS.values())[:6], lambda store: store.delete("k")):
            with pytest.raises(StoreError, match="bucket does not exist") as caught:
                call(store)
            assert caught.value.code == "no_bucket"


def test_a_bucket_that_goes_away_is_noticed(monkeypatch):
    monkeypatch.setattr(gcs_client, "SEEN_SECONDS", 0.05)
    gone = threading.Event()

    def answers(request):
        # To a deletion at least, the service has said so of a bucket that was not there.
        return NO_BUCKET if gone.is_set() and path_of(request).endswith("/o") else no_such_object(request)

    with Scripted(answers) as server, store_at(server.url) as store:
        assert store.get("k") is None
        gone.set()
        time.sleep(0.06)
        with pytest.raises(StoreError, match="bucket does not exist"):
            store.get("k")


def test_words_about_another_object_do_not_count():
    def answers(request):
        other = Answer(404, {}, b"No such object: my-bucket/other")
        return other if "/o/" in path_of(request) else NO_BUCKET

    with Scripted(answers) as server, store_at(server.url) as store:
        store.client._seen = time.monotonic()
        with pytest.raises(StoreError, match="bucket does not exist"):
            store.get("k")


def test_whether_an_object_is_absent_cannot_be_told_without_the_right_to_list():
    def answers(request):
        return no_such_object(request) if "/o/" in path_of(request) else FORBIDDEN

    with Scripted(answers) as server, store_at(server.url) as store:
        for operation in list(OPERATIONS.values())[:6]:
            with pytest.raises(PermissionDeniedError):
                operation(store)


def test_an_object_that_is_listed_is_not_absent():
    def answers(request):
        if "/o/" in path_of(request):
            return PAGE
        return as_json({"kind": "storage#objects", "items": [{"name": query_of(request)["prefix"]}]})

    with Scripted(answers) as server, store_at(server.url) as store:
        for operation in list(OPERATIONS.values())[:6]:
            with pytest.raises(UnavailableError) as caught:
                operation(store)
            assert caught.value.code == "broken_answer"


# ---- whole and sound


def an_object(value: bytes, *, generation: str = "5", request: Request | None = None, **headers: str) -> Answer:
    """An answer to a download, as the service gives it."""
    crc32c = base64.b64encode(checksum_of("crc32c", value)).decode()
    known = {
        "X-Goog-Generation": generation,
        "X-Goog-Hash": f"crc32c={crc32c},md5=1B2M2Y8AsgTpgAmY7PhCfg==",
        "X-Goog-Stored-Content-Length": str(len(value)),
        "X-Goog-Stored-Content-Encoding": "identity",
        **headers,
    }
    wanted = request.headers.get("range", "") if request is not None else ""
    if not wanted:
        return Answer(200, known, value)
    begin, _, end = wanted.removeprefix("bytes=").partition("-")
    if begin:
        bounds = slice(int(begin), int(end) + 1 if end else None)
    else:
        bounds = slice(-int(end), None)
    start, stop, _ = bounds.indices(len(value))
    if start >= stop:
        return Answer(416)
    return Answer(206, {**known, "Content-Range": f"bytes {start}-{stop - 1}/{len(value)}"}, value[bounds])


def test_a_part_of_an_object_is_what_the_slice_is():
    def answers(request):
        if "alt" not in query_of(request):
            return as_json({"generation": "5", "size": str(len(VALUE))})
        return an_object(VALUE, request=request)

    with Scripted(answers) as server, store_at(server.url) as store:
        for part in (None, slice(3), slice(2, 9), slice(95, 200), slice(-5, None), slice(-200, None), slice(-9, -2)):
            assert store.get("k", part) == VALUE[slice(None) if part is None else part]
        assert len(server.requests) == 7
        assert store.get("k", slice(100, 200)) == store.get("k", slice(7, 7)) == b""


@pytest.mark.parametrize("kind", ["reset", "cut", "stall"])
@pytest.mark.parametrize("part", [None, slice(100_000, 900_000)])
def test_a_body_that_breaks_is_resumed_with_its_generation(kind, part, patience):
    value = random.Random(1).randbytes(1 << 20)
    with Scripted(lambda request: an_object(value, request=request)) as server:
        proxy = Proxy(server.port)
        proxy.arm(TO_CLIENT, Fault(kind, after=300_000))
        with store_at(f"http://127.0.0.1:{proxy.port}", deadline=20) as store:
            assert store.get("k", part) == value[slice(None) if part is None else part]
        proxy.close()
        first, second = server.requests
        assert "ifGenerationMatch" not in query_of(first) and query_of(second)["ifGenerationMatch"] == "5"
        begin = int(second.headers["range"].removeprefix("bytes=").partition("-")[0])
        # A reset drops what had not been read yet.
        assert kind == "reset" or begin - (0 if part is None else part.start) >= 1 << 18


def test_a_value_that_is_replaced_between_two_parts_of_its_body_is_read_anew():
    def answers(request):
        if len(server.requests) == 1:
            return an_object(VALUE)._replace(cut=50)
        # Emulators ignore the condition: the generation in the answer tells.
        return an_object(b"new" * 40, generation="6", request=request)

    with Scripted(answers) as server, store_at(server.url, deadline=20) as store:
        assert store.get("k") == b"new" * 40


@pytest.mark.parametrize("found", ["6", None])
def test_another_generation_than_the_one_that_was_asked_for_is_a_conflict(found):
    def answers(request):
        if found is None:
            return no_such_object(request)
        return as_json({"generation": found, "size": "3"}) if "alt" not in query_of(request) else an_object(b"new")

    with Scripted(answers) as server, store_at(server.url) as store:
        for version in ("7", "0", "not a number", 7):
            with pytest.raises(ConflictError):
                store.get_with_version("k", if_version=version)
            if version != "7":
                with pytest.raises(ConflictError):
                    store.client.get("lab/a/k", None, str(version))


def test_a_flipped_bit_is_noticed_and_read_again():
    flipped = [True]

    def answers(request):
        whole = an_object(VALUE)
        return whole._replace(body=b"!" + VALUE[1:]) if flipped and flipped.pop() else whole

    with Scripted(answers) as server, store_at(server.url, deadline=20) as store:
        assert store.get("k") == VALUE
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("part", "headers"),
    [
        (None, {"X-Goog-Generation": ""}),
        (slice(2, 6), {"X-Goog-Generation": "5x"}),
        (None, {"X-Goog-Stored-Content-Length": "1x"}),
        (None, {"X-Goog-Hash": "crc32c=!"}),
        (slice(2, 6), {"Content-Range": "bytes 3-7/100"}),
        (slice(2, 6), {"Content-Range": "3"}),
    ],
)
def test_an_answer_that_is_none_of_the_service_is_no_value(part, headers):
    with Scripted(lambda request: an_object(VALUE, request=request)) as server:
        script = server.answers

        def answers(request):
            answer = script(request)
            return answer._replace(headers={**answer.headers, **headers})

        server.answers = answers
        with store_at(server.url) as store, pytest.raises(UnavailableError) as caught:
            store.get("k", part)
        assert caught.value.code == "broken_answer"


def test_an_object_that_is_stored_compressed_is_given_as_it_is_stored():
    with (
        Scripted(
            lambda request: an_object(
                VALUE, **{"X-Goog-Stored-Content-Encoding": "gzip", "Content-Encoding": "gzip", "X-Accept": "gzip"}
            )
        ) as server,
        store_at(server.url) as store,
    ):
        assert store.get("k") == VALUE
        assert server.requests[0].headers["accept-encoding"] == "gzip"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"<html>", b'{"kind": "x"}', b'{"kind": "storage#objects", "items": [1]}']
)
def test_a_listing_that_is_none_is_an_error(body):
    with Scripted(lambda request: Answer(200, {}, body)) as server, store_at(server.url) as store:
        for operation in ("list", "list_dir", "exists"):
            with pytest.raises(UnavailableError):
                OPERATIONS[operation](store)
        with pytest.raises(OutcomeUnknownError):
            store.set("k", b"1")


# ---- writing


def test_an_upload_says_all_that_the_service_can_check():
    with Scripted(lambda request: as_json({"generation": "8"})) as server:
        options = {"storage_class": "NEARLINE", "project": "payer"}
        with store_at(server.url, **options) as store:
            store.set("größe/0", memoryview(VALUE))
            (request,) = server.requests
            assert request.method == "POST" and path_of(request) == f"/upload/storage/v1/b/{BUCKET}/o"
            assert query_of(request) == {"uploadType": "multipart", "fields": "generation", "userProject": "payer"}
            boundary = request.headers["content-type"].partition("boundary=")[2].encode()
            _, resource, media, end = request.body.split(b"--" + boundary)
            assert media == b"\r\nContent-Type: application/octet-stream\r\n\r\n" + VALUE + b"\r\n" and end == b"--"
            for text in (b'"crc32c": "', b'"storageClass": "NEARLINE"', b'"cacheControl": "no-cache"'):
                assert text in resource
            assert store.client.put("k", b"", None, "me") == "8"
            assert b'"metadata": {"zarrcy-writer": "me"}' in server.requests[1].body


def test_bytes_that_change_on_the_way_up_are_sent_again():
    def answers(request):
        if len(server.requests) == 1:
            return refusal(400, "invalid", 'Provided CRC32C "AAAAAA==" doesn\'t match calculated CRC32C "KAwGng==".')
        return as_json({"generation": "8"})

    with Scripted(answers) as server, store_at(server.url, deadline=20) as store:
        store.set("k", VALUE)
        assert len(server.requests) == 2


def test_a_busy_service_is_given_the_time_that_it_asks_for():
    def answers(request):
        if len(server.requests) <= 2:
            return BUSY._replace(headers={"Retry-After": "7"})
        return an_object(VALUE)

    with Scripted(answers) as server, store_at(server.url, deadline=60) as store:
        assert store.get("k") == VALUE
        assert store.clock.monotonic() >= 14


# ---- the guide


def test_the_guide_authentication_failed():
    """Invalid JSON, missing permissions, expired credentials: each says what it is, and what to do."""
    with Scripted(lambda request: FORBIDDEN) as server, store_at(server.url) as store:
        with pytest.raises(PermissionDeniedError) as caught:
            store.get("k")
        text = "\n".join([str(caught.value), *caught.value.__notes__])
        for words in ("gs://my-bucket/lab/a: k", "storage.objects.get", "roles/storage.objectViewer"):
            assert words in text
