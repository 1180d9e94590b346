"""`AzureBlobStore`: what it makes of every answer, of silence, of wrong credentials. No failure is an absent key."""

from __future__ import annotations

import base64
import logging
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import servers.azure
from servers.azure import ACCOUNT, CONTAINER, KEY
from servers.process import free_port
from servers.scripted import RESET, SILENCE, Answer, Scripted

import zarrcy
from zarrcy.errors import PermissionDeniedError, StoreError, ThrottledError, UnavailableError
from zarrcy.stores import azure_client
from zarrcy.stores.azure import AzureBlobStore
from zarrcy.stores.clock import VirtualClock
from zarrcy.stores.retry import Retry

# Base64, as a key must be; and so that no test can pass it by chance.
CANARY = base64.b64encode(b"canary of an account key, 64 bytes long as they are in the cloud").decode()
ONCE = Retry(deadline=0)
ENGINE: dict[str, Any] = {}


@pytest.fixture(params=[None, "obstore"])
def both_engines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stores of the test are of one engine, and then of the other."""
    monkeypatch.setitem(ENGINE, "engine", request.param)


def own(status: int, code: str, text: str = "It says why.", **headers: str) -> Answer:
    """An error in the service's own words."""
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{text}\nRequestId:1\n</Message></Error>'
    return Answer(status, {"x-ms-error-code": code, "x-ms-request-id": "1", **headers}, body.encode())


def page(status: int) -> Answer:
    """An error of something on the way."""
    return Answer(status, {"Content-Type": "text/html"}, b"<html><title>No such page</title></html>")


def store_at(endpoint: str, **options: Any) -> AzureBlobStore:
    options = {"retry": ONCE, **ENGINE, **(options or {"account_key": KEY})}
    store = AzureBlobStore(ACCOUNT, container=CONTAINER, prefix="lab", endpoint=endpoint, **options)
    store.clock = VirtualClock()  # it would ask less often after answers such as 503
    return store


OPERATIONS: dict[str, Callable[[AzureBlobStore], Any]] = {
    "get": lambda store: store.get("c/0"),
    "range": lambda store: store.get("c/0", slice(2, 5)),
    "suffix": lambda store: store.get("c/0", slice(-5, None)),
    "version": lambda store: store.get_with_version("c/0"),
    "size": lambda store: store.size("c/0"),
    "exists": lambda store: store.exists("c/0"),
    "list": lambda store: list(store.list_prefix()),
    "list_dir": lambda store: list(store.list_dir("c/")),
}
LISTINGS = {"list", "list_dir"}

# The answer, the error, and its code.
FAILURES: dict[str, tuple[Answer, type[StoreError], str]] = {
    "404 of a container": (own(404, "ContainerNotFound"), StoreError, "no_container"),
    "404 of an account": (own(404, "ResourceNotFound"), StoreError, "no_account"),
    "404 of a proxy": (page(404), StoreError, "not_found"),
    "403 without permission": (
        own(403, "AuthorizationPermissionMismatch"),
        PermissionDeniedError,
        "missing_permission",
    ),
    "403 for the key": (own(403, "AuthenticationFailed"), PermissionDeniedError, "invalid_account_key"),
    "403 of a proxy": (page(403), PermissionDeniedError, "forbidden"),
    "400": (own(400, "InvalidAuthenticationInfo"), PermissionDeniedError, "invalid_account_key"),
    "400 of a proxy": (page(400), StoreError, "bad_request"),
    "401": (own(401, "NoAuthenticationInformation"), PermissionDeniedError, "unauthorized"),
    "409 archived": (own(409, "BlobArchived"), StoreError, "archived"),
    "409": (own(409, "SomethingElse"), StoreError, "status_409"),
    "410": (page(410), StoreError, "gone"),
    "416": (page(416), StoreError, "bad_range"),
    "429": (page(429), ThrottledError, "throttled"),
    "500": (own(500, "InternalError"), UnavailableError, "unavailable"),
    "502": (page(502), UnavailableError, "unavailable"),
    "503": (own(503, "ServerBusy"), ThrottledError, "throttled"),
    "504": (page(504), UnavailableError, "unavailable"),
    "302": (Answer(302, {"Location": "http://127.0.0.1:1/"}), StoreError, "status_302"),
    "200 of a proxy": (Answer(200, {"Content-Type": "text/html"}, b"<html>Log in</html>"), UnavailableError, "broken"),
    "reset": (RESET, UnavailableError, "connection_lost"),
    "timeout": (SILENCE, UnavailableError, "timeout"),
}


def check_failure(store: AzureBlobStore, operation: str, kind: type[StoreError], code: str) -> None:
    with store, pytest.raises(kind) as caught:
        OPERATIONS[operation](store)
    assert type(caught.value) is kind and (caught.value.code or "").startswith(code), repr(caught.value)
    assert str(caught.value).startswith(store.url + ": ")
    assert (caught.value.key == "c/0") == (operation not in LISTINGS)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_is_never_an_absent_key(failure: str, operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if failure == "timeout":
        monkeypatch.setattr(azure_client, "READ_TIMEOUT", 0.2)
    answer, kind, code = FAILURES[failure]
    with Scripted(answer) as server:
        check_failure(store_at(f"{server.url}/{ACCOUNT}"), operation, kind, code)
    assert len(server.requests) == 1


@pytest.mark.usefixtures("both_engines")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_name_that_cannot_be_looked_up_is_never_an_absent_key(operation: str) -> None:
    # What an account_name that does not exist gives in the cloud.
    store = store_at("http://noaccount.invalid")
    check_failure(store, operation, UnavailableError, "name_lookup")


@pytest.mark.usefixtures("both_engines")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_port_that_nobody_listens_at_is_never_an_absent_key(operation: str) -> None:
    check_failure(store_at(f"http://127.0.0.1:{free_port()}/{ACCOUNT}"), operation, UnavailableError, "unreachable")


@pytest.mark.usefixtures("both_engines")
@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name not in LISTINGS])
def test_only_the_words_of_the_service_make_a_key_absent(operation: str) -> None:
    with Scripted(own(404, "BlobNotFound")) as server, store_at(f"{server.url}/{ACCOUNT}") as store:
        assert OPERATIONS[operation](store) in (None, False, (None, None))


def test_a_range_behind_the_end_is_believed_only_when_the_blob_is_there() -> None:
    answers = [own(416, "InvalidRange"), own(403, "AuthorizationPermissionMismatch")]
    with Scripted(answers) as server, pytest.raises(PermissionDeniedError):
        store_at(f"{server.url}/{ACCOUNT}").get("c/0", slice(100, 200))
    assert [request.method for request in server.requests] == ["GET", "HEAD"]


@pytest.mark.usefixtures("both_engines")
def test_a_missing_chunk_behind_an_error_is_not_the_fill_value() -> None:
    azurite = servers.azure.server()
    with store_at(azurite.endpoint()) as store:
        zarrcy.create_array(store, "errors", shape=4, chunks=2, dtype="int8", fill_value=7)
        array = zarrcy.open_array(store, "errors")
        assert array[:].tolist() == [7] * 4
        for answer, kind, _ in FAILURES.values():
            if answer in (RESET, SILENCE):
                continue
            with Scripted(answer) as server, pytest.raises(kind):
                broken = store_at(f"{server.url}/{ACCOUNT}")
                zarrcy.open_array(broken, "errors")
        store.delete_prefix("errors/")


# ---- the guide's case: an account key that is wrong

BAD_KEYS = {
    "truncated": KEY[:-5],
    "truncated to whole bytes": KEY[:40],
    "broken by a line": KEY[:40] + "\n..." + KEY[43:],
    "of another account": CANARY,
    "not base64": "canary!",
}


@pytest.mark.usefixtures("both_engines")
@pytest.mark.parametrize("bad", BAD_KEYS)
def test_a_wrong_key_is_invalid_and_the_hint_says_what_to_do(bad: str) -> None:
    with store_at(servers.azure.server().endpoint(), account_key=BAD_KEYS[bad]) as store:
        for call in (*OPERATIONS.values(), lambda store: store.set("k", b"1"), lambda store: store.delete("k")):
            with pytest.raises(PermissionDeniedError) as caught:
                call(store)
            assert caught.value.code == "invalid_account_key"
            assert "Copy the whole key" in caught.value.hint and "account_name" in caught.value.hint
            assert BAD_KEYS[bad] not in "".join(traceback.format_exception(caught.value))


@pytest.mark.usefixtures("both_engines")
def test_a_key_with_a_line_break_at_its_end_is_taken() -> None:
    with store_at(servers.azure.server().endpoint(), account_key=KEY + "\n") as store:
        assert store.get("absent") is None


def test_a_wrong_account_is_an_error_that_names_the_option() -> None:
    endpoint = servers.azure.server().endpoint().replace(ACCOUNT, "otheracct")
    store = AzureBlobStore("otheracct", container=CONTAINER, endpoint=endpoint, account_key=KEY, retry=ONCE)
    with store, pytest.raises(StoreError) as caught:
        store.get("c/0")
    assert caught.value.code == "no_account" and "account_name" in caught.value.hint


def test_a_missing_container_is_an_error_for_reads_and_writes() -> None:
    endpoint = servers.azure.server().endpoint()
    with AzureBlobStore(ACCOUNT, container="missing", endpoint=endpoint, account_key=KEY) as store:
        for call in (*OPERATIONS.values(), lambda store: store.set("k", b"1"), lambda store: store.delete("k")):
            with pytest.raises(StoreError) as caught:
                call(store)
            assert caught.value.code == "no_container"


@pytest.mark.usefixtures("both_engines")
def test_an_archived_blob_says_that_it_must_be_rehydrated() -> None:
    azurite = servers.azure.server()
    with store_at(azurite.endpoint()) as store:
        store.set("archived", b"1")
        client = azurite.plain_client().get_blob_client(CONTAINER, "lab/archived")
        client.set_standard_blob_tier("Archive")
        with pytest.raises(StoreError) as caught:
            store.get("archived")
        assert caught.value.code == "archived" and "Rehydrate" in caught.value.hint
        assert store.size("archived") == 1
        store.delete("archived")


@pytest.mark.usefixtures("both_engines")
def test_a_leased_blob_is_an_error_and_no_conflict() -> None:
    azurite = servers.azure.server()
    with store_at(azurite.endpoint()) as store:
        store.set("leased", b"1")
        lease = azurite.plain_client().get_blob_client(CONTAINER, "lab/leased").acquire_lease(-1)
        with pytest.raises(StoreError) as caught:
            store.set("leased", b"2")
        assert caught.value.code == "leased"
        lease.release()
        store.delete("leased")


def test_an_answer_that_is_no_listing_is_an_error() -> None:
    for body in (
        b"<html>",
        b"<EnumerationResults/>",
        b"<EnumerationResults><Blobs><Blob><Name>\xff</Name></Blob></Blobs></EnumerationResults>",
        b"",
        b"<EnumerationResults><Blobs><Blob/></Blobs></EnumerationResults>",
    ):
        with Scripted(Answer(200, {"x-ms-request-id": "1"}, body)) as server:
            check_failure(store_at(f"{server.url}/{ACCOUNT}"), "list", UnavailableError, "broken_answer")


def test_a_listing_gives_names_that_xml_cannot_hold_and_no_folders_of_data_lakes() -> None:
    body = (
        "<EnumerationResults><Blobs><Blob><Name>lab/a</Name><Properties><ResourceType>directory</ResourceType>"
        '</Properties></Blob><Blob><Name Encoded="true">lab/a%2Fb%EF%BF%BD</Name></Blob></Blobs><NextMarker/>'
        "</EnumerationResults>"
    )
    answer = Answer(200, {"x-ms-request-id": "1"}, body.encode())
    with Scripted(answer) as server, store_at(f"{server.url}/{ACCOUNT}") as store:
        assert list(store.list_prefix()) == ["a/b\ufffd"]


def test_a_folder_of_a_data_lake_is_no_value() -> None:
    headers = {"ETag": '"1"', "x-ms-request-id": "1", "x-ms-meta-hdi_isfolder": "true"}
    with Scripted(Answer(200, headers)) as server, store_at(f"{server.url}/{ACCOUNT}") as store:
        assert store.get("c") is None and store.size("c") is None


# ---- secrets

SAS = "?sv=2025-01-05&sp=racwdl&sr=c&se=2100-01-01&sig=Y2FuYXJ5IG9mIGEgU0FT%3D"


def text_of(value: object) -> str:
    try:
        return repr(value)
    except AttributeError:  # a store that was not finished
        return str(vars(value))


def inner_frames(error: BaseException) -> list[str]:
    """The message of an error, and every local name of the frames that it passed, but for those of the tests."""
    assert isinstance(error, (StoreError, ValueError)) and error.__context__ is error.__cause__
    shown = [str(error), repr(error), *(inner_frames(error.__cause__) if error.__cause__ is not None else [])]
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if Path(frame.f_code.co_filename).name != Path(__file__).name:
            shown += [f"{name} = {text_of(value)[:10_000]}" for name, value in frame.f_locals.items()]
    return shown


@pytest.fixture
def every_logger(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG):
        yield caplog


@pytest.mark.usefixtures("both_engines")
@pytest.mark.parametrize("secret", [{"account_key": CANARY}, {"sas_token": SAS}, {"credential": lambda: SAS}])
def test_a_secret_is_in_no_repr_url_traceback_and_log(secret: Any, every_logger: pytest.LogCaptureFixture) -> None:
    shown: list[str] = []
    for failure in ("404 of a container", "403 for the key", "404 of a proxy", "302", "200 of a proxy", "503", "reset"):
        with Scripted(FAILURES[failure][0]) as server:
            store = store_at(f"{server.url}/{ACCOUNT}", **secret)
            for operation in (
                *OPERATIONS.values(),
                lambda store: store.set("k", b"1"),
                lambda store: store.delete("k"),
            ):
                try:
                    operation(store)
                except StoreError as error:
                    shown += inner_frames(error)
            shown += [repr(store), store.url, str(vars(store)), str(vars(store.client)), str(store.options())]
            store.close()
    with store_at(servers.azure.server().endpoint(), **secret) as store:
        for keys in (["a"], ["a", "b"]):
            try:
                store.client.delete_many(keys)
            except StoreError as error:
                shown += inner_frames(error)
    assert any("AzureBlobStore(" in text for text in shown)
    shown += [record.getMessage() for record in every_logger.records]
    text = "\n".join(shown)
    for part in (CANARY, "Y2FuYXJ5", "sig=Y"):
        assert part not in text


def test_options_that_make_no_sense_show_no_secret() -> None:
    for options in (
        {"account_key": CANARY, "sas_token": SAS},
        {"account_key": CANARY, "use_managed_identity": True},
        {"endpoint": f"https://host/{SAS}"},
        {"account_key": CANARY, "access_tier": "Archive"},
        {"account_key": CANARY, "max_concurrency": 0},
    ):
        with pytest.raises(ValueError, match=": expected") as caught:
            AzureBlobStore(ACCOUNT, container=CONTAINER, **options)
        text = "\n".join(inner_frames(caught.value))
        assert "canary" not in text and CANARY not in text and "sig=" not in text
    with pytest.raises(StoreError) as refused:
        zarrcy.stores.open(f"az://{ACCOUNT}/{CONTAINER}/lab{SAS}")
    assert refused.value.code == "bad_url" and "sig" not in str(refused.value)
