"""What `S3Store` makes of answers that a server on loopback gives: an error is never an absent key or a fill value."""

from __future__ import annotations

import itertools
import socket
import threading

import pytest
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
from zarrcy.stores import s3_client
from zarrcy.stores.clock import VirtualClock
from zarrcy.stores.retry import Retry
from zarrcy.stores.s3 import S3Store


def refusal(status: int, code: str, more: str = "", **headers: str) -> Answer:
    text = f"<Error><Code>{code}</Code><Message>about it</Message>{more}</Error>"
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, {"Content-Type": "application/xml", **names}, text.encode())


def listing(*names: str, more: str = "") -> Answer:
    objects = "".join(f"<Contents><Key>{name}</Key></Contents>" for name in names)
    return Answer(body=f"<ListBucketResult>{objects}{more}</ListBucketResult>".encode())


def an_object(value: bytes, **headers: str) -> Answer:
    return Answer(200, {"ETag": '"1"', **headers}, value)


def is_listing(request: Request) -> bool:
    return "list-type=2" in request.path


def absent(request: Request) -> Answer:
    return listing() if is_listing(request) else refusal(404, "NoSuchKey")


PAGE = Answer(404, {"Content-Type": "text/html"}, b"<html><body>NoSuchKey: <b>no such page</body></html>")

# What comes: the class of the error, its code, the answer.
OUTCOMES = {
    "404 of a missing bucket": (StoreError, "no_bucket", refusal(404, "NoSuchBucket")),
    "404 page of a proxy": (StoreError, "not_found", PAGE),
    "404 without a body": (StoreError, "not_found", Answer(404)),
    "200 page of a proxy": (StoreError, "broken_answer", PAGE._replace(status=200)),
    "302 of a proxy": (StoreError, "redirect", Answer(302, {"Location": "http://127.0.0.1:9/login"})),
    "403 with permission to list": (PermissionDeniedError, "access_denied", refusal(403, "AccessDenied")),
    "403 without a body": (PermissionDeniedError, "access_denied", Answer(403)),
    "403 of a wrong secret": (PermissionDeniedError, "wrong_secret", refusal(403, "SignatureDoesNotMatch")),
    "403 of an unknown key": (PermissionDeniedError, "unknown_access_key", refusal(403, "InvalidAccessKeyId")),
    "403 of a wrong clock": (PermissionDeniedError, "clock", refusal(403, "RequestTimeTooSkewed")),
    "403 of an archive": (StoreError, "archived", refusal(403, "InvalidObjectState")),
    "400 of an expired token": (PermissionDeniedError, "expired_token", refusal(400, "ExpiredToken")),
    "400 of another region": (StoreError, "wrong_region", refusal(400, "AuthorizationHeaderMalformed")),
    "301 of another region": (StoreError, "wrong_region", Answer(301, {"x-amz-bucket-region": "eu-west-3"})),
    "400 of a value that is too large": (StoreError, "too_large", refusal(400, "EntityTooLarge")),
    "401": (PermissionDeniedError, "unauthorized", Answer(401)),
    "410": (StoreError, "gone", Answer(410)),
    "416": (StoreError, "bad_range", refusal(416, "InvalidRange")),
    "416 of a proxy": (StoreError, "bad_range", Answer(416)),
    "429": (ThrottledError, "throttled", refusal(429, "TooManyRequests")),
    "400 of a timeout": (UnavailableError, "timeout", refusal(400, "RequestTimeout")),
    "500": (UnavailableError, "unavailable", refusal(500, "InternalError")),
    "502": (UnavailableError, "unavailable", Answer(502, {}, b"<html>Bad Gateway</html>")),
    "503": (ThrottledError, "throttled", refusal(503, "SlowDown")),
    "504": (UnavailableError, "unavailable", Answer(504)),
    "reset": (UnavailableError, "connection_lost", RESET),
    "timeout": (UnavailableError, "timeout", SILENCE),
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
WRITES = {
    "set": lambda store: store.set("k", b"1"),
    "delete": lambda store: store.delete("k"),
    "set_if": lambda store: store.set_if("k", b"1", None),
}


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    monkeypatch.setattr(s3_client, "READ_SECONDS", 0.3)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary of the secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "canary of the token")


def store_at(endpoint: str, **options: object) -> S3Store:
    options = {"prefix": "lab/a", "retry": Retry(deadline=0), "region": "us-west-2", **options}
    store = S3Store("my-zarr-data", endpoint_url=endpoint, **options)
    store.clock = VirtualClock()
    return store


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_no_answer_but_that_of_an_absent_object_is_an_absent_key(outcome):
    kind, code, answer = OUTCOMES[outcome]
    with Scripted(answer) as server, store_at(server.url) as store:
        for name, operation in OPERATIONS.items():
            with pytest.raises(StoreError) as caught:
                operation(store)
            error = caught.value
            assert (type(error), error.code) == (kind, code), name
            assert error.store == store.url and error.hint, name
            assert error.key == ("c/0" if not name.startswith("list") else None), name
            assert "canary" not in f"{error} {error!r} {error.__notes__}"


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_no_answer_but_that_of_an_absent_object_is_a_fill_value(outcome):
    kind, _, answer = OUTCOMES[outcome]
    document = zarrcy.create_array("memory://", shape=4, chunks=2, dtype="i4", fill_value=7)
    metadata = bytes(document.store.get("zarr.json"))
    broken = threading.Event()

    def answers(request):
        if request.path.endswith("zarr.json"):
            return an_object(metadata)
        return answer if broken.is_set() else absent(request)

    with Scripted(answers) as server, store_at(server.url) as store:
        array = zarrcy.open_array(store)
        assert array[:].tolist() == [7] * 4
        broken.set()
        for index in (slice(None), 1):
            with pytest.raises(kind):
                array[index]


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_no_refused_write_is_a_success(outcome):
    kind, code, answer = OUTCOMES[outcome]
    with Scripted(answer) as server, store_at(server.url) as store:
        store._connected().conditions.update(absent=True, version=True)
        for name, write in WRITES.items():
            if code == "broken_answer" and name == "delete":
                continue  # a success without a body looks the same
            with pytest.raises(StoreError) as caught:
                write(store)
            assert isinstance(caught.value, OutcomeUnknownError if kind is UnavailableError else kind), name


def test_an_absent_object_is_an_absent_key_and_costs_one_request():
    with Scripted(absent) as server, store_at(server.url) as store:
        for name, operation in OPERATIONS.items():
            nothing = {"version": (None, None), "many": [(0, None)], "exists": False, "list": [], "list_dir": []}
            assert operation(store) == nothing.get(name)
        assert len(server.requests) == len(OPERATIONS)


def test_a_name_that_cannot_be_looked_up_is_an_error(monkeypatch):
    def fails(*arguments, **options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    with store_at("http://storage.invalid") as store:
        for operation in (*OPERATIONS.values(), *WRITES.values()):
            with pytest.raises(UnavailableError, match="cannot be looked up") as caught:
                operation(store)
            assert caught.value.code == "name_lookup" and not isinstance(caught.value, OutcomeUnknownError)


def test_nobody_at_the_endpoint_is_an_error_and_the_write_has_not_happened():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with store_at(f"http://127.0.0.1:{port}") as store:
        for operation in (*OPERATIONS.values(), *WRITES.values()):
            with pytest.raises(UnavailableError, match="refused") as caught:
                operation(store)
            assert caught.value.code == "unreachable" and not isinstance(caught.value, OutcomeUnknownError)


def test_tls_where_none_is_spoken_is_an_error():
    with Scripted(absent) as server, store_at(server.url.replace("http:", "https:")) as store:
        for operation in OPERATIONS.values():
            with pytest.raises(UnavailableError, match="TLS") as caught:
                operation(store)
            assert caught.value.code == "tls"


def test_the_region_of_the_bucket_is_named():
    answers = [
        Answer(301, {"x-amz-bucket-region": "eu-west-3"}),
        refusal(400, "AuthorizationHeaderMalformed", "<Region>eu-west-3</Region>"),
    ]
    for answer in answers:
        with Scripted(answer) as server, store_at(server.url) as store:
            with pytest.raises(StoreError) as caught:
                store.get("c/0")
            assert "region='eu-west-3'" in caught.value.hint


def test_access_denied_names_the_causes_of_the_guide():
    with Scripted(refusal(403, "AccessDenied", x_amz_request_id="4711")) as server, store_at(server.url) as store:
        text = r"AccessDenied: about it \(request 4711\)"
        with pytest.raises(PermissionDeniedError, match=text) as caught:
            store.get("c/0")
    for cause in ("s3:GetObject", "s3:PutObject", "s3:ListBucket", "aws s3 ls s3://", "region="):
        assert cause in caught.value.hint


def test_what_s3_asks_to_wait_is_waited():
    answers = [refusal(503, "SlowDown", Retry_After="7"), an_object(b"value")]
    with Scripted(answers) as server, store_at(server.url, retry=Retry(seed=1)) as store:
        assert store.get("c/0") == b"value"
        assert store.clock.monotonic() >= 7


# ---- odd answers of success


def test_a_range_that_is_ignored_is_cut_here():
    with Scripted(an_object(b"0123456789")) as server, store_at(server.url) as store:
        assert store.get("c/0", slice(2, 6)) == b"2345"
        assert store.get("c/0", slice(-3, None)) == b"789"
        assert store.size("c/0") == 10


def test_a_range_that_is_ignored_and_cut_gives_no_wrong_bytes():
    value = bytes(range(100))

    def answers(request):
        return an_object(value)._replace(cut=next(cuts, None))

    parts = slice(20, 60), slice(-30, None), slice(50, None)
    for part, cut in itertools.product(parts, (0, 10, 40, 55, 80)):
        cuts = iter([cut])
        with Scripted(answers) as server, store_at(server.url, retry=Retry(initial=0.001)) as store:
            assert store.get("c/0", part) == value[part]


@pytest.mark.parametrize("length", ["", "-1", "1x", "9" * 30])
def test_a_length_that_is_none_is_an_error(length):
    for answer in (an_object(b"123", **{"Content-Length": length}), Answer(206, {"ETag": '"1"'}, b"123")):
        with Scripted(answer._replace(cut=3)) as server, store_at(server.url) as store:
            for read in (lambda: store.get("c/0"), lambda: store.get("c/0", slice(1, 3))):
                with pytest.raises(UnavailableError):
                    read()


def test_what_is_left_of_an_answer_is_not_taken_for_the_next_one():
    longer = Answer(206, {"ETag": '"1"', "Content-Range": "bytes 2-5/10"}, b"2345 and more")
    with Scripted([longer, an_object(b"next")]) as server, store_at(server.url) as store:
        assert store.get("c/0", slice(2, 6)) == b"2345"
        assert store.get("c/1") == b"next"


@pytest.mark.parametrize("cut", [0, 5, 16, 50])
def test_an_object_that_grows_while_its_last_bytes_are_read_gives_no_wrong_bytes(cut):
    """It is shorter than what is asked for, then longer, and the connection breaks."""
    value = bytes(range(100))
    answers = iter([refusal(416, "InvalidRange"), an_object(value)._replace(cut=cut)])

    def answer(request):
        given = next(answers, None)
        if given is not None:
            return given
        begin, _, end = request.headers["Range"].removeprefix("bytes=").partition("-")
        span = slice(int(begin), int(end) + 1) if begin else slice(-int(end), None)
        first, last, _ = span.indices(100)
        return Answer(206, {"ETag": '"1"', "Content-Range": f"bytes {first}-{last - 1}/100"}, value[span])

    with Scripted(answer) as server, store_at(server.url, retry=Retry(initial=0.001)) as store:
        assert store.get("c/0", slice(-16, None)) == value[-16:]


def test_another_range_than_was_asked_for_is_an_error():
    answer = Answer(206, {"ETag": '"1"', "Content-Range": "bytes 0-3/10"}, b"0123")
    with Scripted(answer) as server, store_at(server.url) as store:
        with pytest.raises(UnavailableError, match="expected the bytes") as caught:
            store.get("c/0", slice(2, 6))
        assert caught.value.code == "broken_answer"


def test_a_part_that_comes_with_the_status_of_a_whole_is_not_cut_again():
    answer = Answer(200, {"ETag": '"1"', "Content-Range": "bytes 2-5/10"}, b"2345")
    with Scripted(answer) as server, store_at(server.url) as store:
        assert store.get("c/0", slice(2, 6)) == b"2345"
        for part in (slice(1, 5), slice(2, 4), None):
            with pytest.raises(UnavailableError, match="expected the bytes"):
                store.get("c/0", part)


@pytest.mark.parametrize("size", ["<ActualObjectSize>{}</ActualObjectSize>", "", "header"])
@pytest.mark.parametrize("value", [b"", b"abc"])
def test_a_range_behind_the_end_is_empty_and_no_absence(value, size):
    def answers(request):
        asked = request.headers.get("Range")
        if asked is None:
            return an_object(value)
        if value and asked == "bytes=0-0":
            return Answer(206, {"ETag": '"1"', "Content-Range": f"bytes 0-0/{len(value)}"}, value[:1])
        named = {"Content_Range": f"bytes */{len(value)}"} if size == "header" else {}
        return refusal(416, "InvalidRange", size.format(len(value)) if "<" in size else "", **named)

    with Scripted(answers) as server, store_at(server.url) as store:
        assert store.get_with_version("c/0", slice(5, 9)) == (b"", '"1"')
        assert store.size("c/0") == len(value)
        assert store.exists("c/0")


@pytest.mark.parametrize("cut", [0, 3])
def test_a_cut_body_is_resumed_with_a_range_and_the_version(cut):
    value = b"0123456789"

    def answers(request):
        if "Range" not in request.headers:
            return an_object(value)._replace(cut=cut)
        begin = int(request.headers["Range"].split("=")[1].split("-")[0])
        return Answer(206, {"ETag": '"1"', "Content-Range": f"bytes {begin}-9/10"}, value[begin:])

    with Scripted(answers) as server, store_at(server.url, retry=Retry(initial=0.001)) as store:
        assert store.get("c/0") == value
        ranges = [(each.headers.get("Range"), each.headers.get("If-Match")) for each in server.requests]
        assert ranges == [(None, None), (f"bytes={cut}-9" if cut else "bytes=0-9", '"1"')]


def test_a_flipped_bit_is_noticed_by_the_checksum_of_the_object():
    good = an_object(b"123456789", **{"x-amz-checksum-crc32c": "4waSgw=="})
    flipped = good._replace(body=b"123456788")
    with Scripted([flipped, good]) as server, store_at(server.url, retry=Retry(initial=0.001)) as store:
        assert store.get("c/0") == b"123456789"
        assert [each.headers["x-amz-checksum-mode"] for each in server.requests] == ["ENABLED"] * 2


def test_a_checksum_of_the_parts_of_an_upload_is_not_one_of_the_whole():
    for headers in (
        {"x-amz-checksum-crc32c": "AAAAAA==-2"},
        {"x-amz-checksum-crc32c": "AAAAAA==", "x-amz-checksum-type": "COMPOSITE"},
    ):
        with Scripted(an_object(b"123456789", **headers)) as server, store_at(server.url) as store:
            assert store.get("c/0") == b"123456789"


def test_a_broken_listing_is_an_error():
    broken = [
        Answer(body=b"<ListBucketResult><Contents><Key>lab/a/x</Key>"),
        listing("lab/a/x", more="<IsTruncated>true</IsTruncated>"),  # and no token
        Answer(body=b""),
        refusal(200, "InternalError"),
    ]
    for answer in broken:
        with Scripted(answer) as server, store_at(server.url) as store:
            with pytest.raises(StoreError) as caught:
                list(store.list_prefix())
            assert caught.value.code == "broken_answer"


def test_a_listing_comes_in_pages_decoded():
    first = listing("lab/a/x+y", "lab/a/%25", more="<EncodingType>url</EncodingType>")
    whole = first._replace(body=first.body.replace(b"</List", b"<IsTruncated>false</IsTruncated></List"))
    with Scripted(whole) as server, store_at(server.url) as store:
        assert list(store.list_prefix()) == ["x y", "%"]
    with Scripted(listing("lab/a/x+y")) as server, store_at(server.url) as store:
        assert list(store.list_prefix()) == ["x+y"]


@pytest.mark.parametrize(
    ("code", "kind"), [("AccessDenied", PermissionDeniedError), ("SlowDown", ThrottledError), ("X", UnavailableError)]
)
def test_a_key_that_cannot_be_deleted_among_others_is_an_error(code, kind):
    failed = f"<DeleteResult><Error><Key>lab/a/c/1</Key><Code>{code}</Code></Error></DeleteResult>"

    def answers(request):
        return listing("lab/a/c/0", "lab/a/c/1") if is_listing(request) else Answer(body=failed.encode())

    with Scripted(answers) as server, store_at(server.url) as store, pytest.raises(kind):
        store.delete_prefix("c/")


def test_a_conditional_write_to_an_absent_object_or_beside_another_is_a_conflict():
    for answer in (
        refusal(404, "NoSuchKey"),
        refusal(409, "ConditionalRequestConflict"),
        refusal(412, "PreconditionFailed"),
    ):
        with Scripted(answer) as server, store_at(server.url) as store:
            store._connected().conditions.update(absent=True, version=True)
            with pytest.raises(ConflictError):
                store.set_if("k", b"1", '"1"')
            assert len(server.requests) == 1


def test_a_write_that_was_changed_on_the_way_is_sent_again():
    answers = [refusal(400, "BadDigest"), refusal(400, "XAmzContentSHA256Mismatch"), an_object(b"")]
    with Scripted(answers) as server, store_at(server.url, retry=Retry(initial=0.001)) as store:
        store.set("k", b"123456789")
        assert len(server.requests) == 3
        assert server.requests[0].headers["x-amz-checksum-crc32c"] == "4waSgw=="
