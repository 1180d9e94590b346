"""Stores through obstore: the laws, errors and values of zarrcy's own clients, and a clear refusal after a fork."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import traceback
import weakref
from datetime import UTC, datetime
from urllib.parse import parse_qs

import array_cases as cases
import numpy as np
import pytest
import servers.gcs
from hypothesis import given, settings
from obstore_cases import ENGINE, SERVICES, copy_of
from servers import s3
from servers.gcs import NO_SUCH_BUCKET, as_json, as_xml
from servers.scripted import RESET, Answer, Scripted
from test_arrays_model import Modelled, arrays, steps
from test_s3_errors import refusal

import zarrcy
from zarrcy.errors import (
    ChecksumError,
    ConflictError,
    OutcomeUnknownError,
    PermissionDeniedError,
    StoreError,
    ThrottledError,
    UnavailableError,
)
from zarrcy.stores import GCSStore, azure_client, gcs_client, obstore_client
from zarrcy.stores.retry import Retry
from zarrcy.stores.s3 import S3Store
from zarrcy.testing import STORE_LAWS

cases.register_codec()

DATE = "Wed, 25 Nov 2026 20:00:00 GMT"
CONFLICT, FAILED = refusal(412, "PreconditionFailed"), refusal(500, "InternalError")

every_service = pytest.mark.parametrize("service", SERVICES)


@pytest.mark.parametrize("law", STORE_LAWS)
@every_service
def test_the_laws_hold(service, law):
    with SERVICES[service].new() as store:
        STORE_LAWS[law](store)


@every_service
def test_an_array_answers_like_numpy(service):
    @settings(max_examples=10)
    @given(options=arrays(), steps=steps)
    def check(options, steps):
        with SERVICES[service].new() as store:
            modelled = Modelled(zarrcy.create_array(store, **options))
            for step in steps:
                modelled.step(*step)
            modelled.check(modelled.array)
            modelled.check(zarrcy.open_array(store))

    check()


@every_service
def test_both_engines_read_what_the_other_wrote(service):
    with SERVICES[service].new() as store, copy_of(store, engine=None) as own:
        zarrcy.create_array(store, "a", shape=1000, chunks=100, dtype="i4")[...] = np.arange(1000)
        zarrcy.create_array(own, "b", shape=1000, chunks=100, dtype="i4")[...] = np.arange(1000)
        assert (zarrcy.open(own, "a")[...] == zarrcy.open(store, "b")[...]).all()
        assert sorted(own.list_prefix()) == sorted(store.list_prefix())
        # A version is the same to both.
        version = store.set_if("k", b"1", None)
        assert own.get_with_version("k") == (b"1", version)
        version = own.set_if("k", b"2", version)
        assert store.get_with_version("k") == (b"2", version)
        with pytest.raises(ConflictError):
            store.set_if("k", b"3", None)
        with pytest.raises(ConflictError):
            store.get_with_version("k", if_version=store.set_if("k", b"3", version) and version)


def test_a_long_listing_comes_by_pages(monkeypatch):
    monkeypatch.setattr(obstore_client, "LISTED", 7)
    with SERVICES["s3"].new() as store:
        keys = [f"c/{i}/{j}" for i in range(4) for j in range(9)]
        store.set_many((key, b"1") for key in keys)
        assert sorted(store.list_prefix()) == sorted(keys)
        assert sorted(store.list_prefix("c/2/")) == [f"c/2/{j}" for j in range(9)]
        store.delete_prefix("c/")
        assert list(store.list_prefix()) == []


@pytest.fixture
def patience(monkeypatch, request):
    """Little of it, but only where no answer will come."""
    if request.node.callspec.params["outcome"] != "timeout":
        return
    monkeypatch.setattr(obstore_client, "TIMEOUT", "300ms")
    monkeypatch.setattr(gcs_client, "TIMEOUT", (5.0, 0.3))
    monkeypatch.setattr(azure_client, "READ_TIMEOUT", 0.3)


# Obstore goes where an answer leads, and does not tell of one that leads nowhere.
LESS_IS_TOLD = {
    ("s3", "302 of a proxy"),
    ("s3", "301 of another region"),
    ("s3", "200 page of a proxy"),
    ("gcs", "302 of a proxy"),
    ("azure_blob", "302"),
}


@pytest.mark.parametrize(
    ("service", "outcome"), [(name, outcome) for name, service in SERVICES.items() for outcome in service.outcomes]
)
def test_no_answer_but_that_of_an_absent_object_is_an_absent_key(service, outcome, patience):
    kind, code, answer = SERVICES[service].outcomes[outcome]
    with Scripted(answer) as server, SERVICES[service].scripted(server.url) as store:
        for name, operation in SERVICES[service].operations.items():
            with pytest.raises(StoreError) as caught:
                operation(store)
            error = caught.value
            if (service, outcome) not in LESS_IS_TOLD:
                assert type(error) is kind and error.code.startswith(code), (name, error)
            assert error.store == store.url, name
            assert "canary" not in "".join([*traceback.format_exception(error), repr(error)])
        for write in (lambda: store.set("k", b"1"), lambda: store.set_if("k", b"1", None)):
            with pytest.raises(StoreError) as caught:
                write()
            assert isinstance(caught.value, kind) or kind in (StoreError, UnavailableError, ThrottledError)
            assert "canary" not in "".join([*traceback.format_exception(caught.value), repr(caught.value)])
        assert "canary" not in f"{store!r} {store.url} {vars(store)} {vars(store.client)} {store.options()}"


@every_service
def test_an_absent_object_is_an_absent_key(service):
    absent = {"version": (None, None), "many": [(0, None)], "exists": False, "list": [], "list_dir": []}
    with Scripted(SERVICES[service].absent) as server, SERVICES[service].scripted(server.url) as store:
        for name, operation in SERVICES[service].operations.items():
            assert operation(store) == absent.get(name), name
        assert store.size("c/0") is None


@every_service
def test_a_flipped_bit_in_what_zarrcy_wrote_is_an_error(service, monkeypatch):
    with SERVICES[service].new() as store:
        store.set("k", b"0123456789")
        put = type(store.client).put
        # Stored with the checksum of another value, as if its bits had changed.
        wrong = obstore_client.checksum_of("crc32c", b"0123456780")
        monkeypatch.setattr(obstore_client, "checksum_of", lambda algorithm, value: wrong)
        put(store.client, f"{store.prefix}/k", b"0123456789", None, "")
        with pytest.raises(ChecksumError, match="crc32c"):
            store.get("k")


def test_a_conditional_write_whose_answer_was_lost_is_known_by_its_writer():
    """The first answer is lost; the second says that the object is there; it is the writer's own."""
    stored = {}

    def answers(request):
        name = request.path.split("?")[0]
        if request.method == "GET":
            value, writer = stored[name]
            told = {"x-amz-meta-zarrcy-writer": writer, "Last-Modified": DATE, "ETag": '"1"'}
            return Answer(206, {**told, "Content-Range": f"bytes 0-0/{len(value)}"}, value[:1])
        if name in stored:
            return CONFLICT
        stored[name] = request.body, request.headers["x-amz-meta-zarrcy-writer"]
        return FAILED

    with Scripted(answers) as server, SERVICES["s3"].scripted(server.url, retry=Retry(seed=1)) as store:
        store._connected().conditions.update({"absent": True, "version": True})
        assert store.set_if("k", b"mine", None) == '"1"'
        stored["/my-zarr-data/lab/a/k"] = b"theirs", "another"
        with pytest.raises((ConflictError, OutcomeUnknownError)):
            store.set_if("k", b"mine", None)


@pytest.mark.parametrize("service", ["gcs", "azure_blob"])
def test_the_writer_of_an_object_is_told_by_both_engines(service):
    with SERVICES[service].new() as store, copy_of(store, engine=None) as own:
        name = f"{store.prefix}/k"
        for first, second in ((store.client, own.client), (own.client, store.client)):
            version = first.put(name, b"1", None, "me")
            for found in (second.head(name), second.get(name, None, None)):
                assert (found.version, found.nbytes) == (version, 1)
            assert second.head(name).writer == "me"


def test_a_wrong_secret_is_refused():
    new = SERVICES["s3"].new
    with new(credentials=lambda: (s3.WRITER, "wrong")) as store, pytest.raises(PermissionDeniedError) as caught:
        store.get("k")
    assert caught.value.code == "wrong_secret"


CODES = {"s3": "credentials", "gcs": "bad_credentials", "azure_blob": "credential_failed"}


@every_service
def test_credentials_that_cannot_be_had_are_no_lost_connection(service):
    def fail():
        raise RuntimeError("no vault")

    option = "credential" if service == "azure_blob" else "credentials"
    with SERVICES[service].new(**{option: fail}) as store:
        for call in (lambda: store.set("k", b"1"), lambda: store.get("k"), lambda: store.size("k")):
            with pytest.raises(PermissionDeniedError) as caught:
                call()
            assert caught.value.code == CODES[service]


def test_a_denial_is_heard_by_the_thread_that_was_denied_alone():
    def credentials():
        if threading.current_thread().name == "denied":
            raise RuntimeError("no vault")
        return s3.WRITER, s3.SECRET, None, datetime.now(UTC)  # ends at once: each request asks again

    with SERVICES["s3"].new(credentials=credentials) as store:
        store.set("k", b"1")

        def read():
            try:
                heard[threading.current_thread().name] = store.get("k")
            except PermissionDeniedError as error:
                heard[threading.current_thread().name] = error.code

        for _ in range(5):
            heard = {}
            threads = [threading.Thread(target=read, name=name) for name in ("denied", "served", "served too")]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert heard == {"denied": "credentials", "served": b"1", "served too": b"1"}


@pytest.mark.parametrize("key", ["plain", "refused", "certificates", "dns error", "timed out", "header missing"])
@every_service
def test_no_name_of_an_object_is_taken_for_a_reason(service, key):
    """The server has read the write, and hangs up: it may have happened, whatever the object is called."""
    with Scripted(RESET) as server, SERVICES[service].scripted(server.url) as store:
        with pytest.raises(OutcomeUnknownError):
            store.set(f"{key}/c/0", b"1")
        with pytest.raises(UnavailableError) as caught:
            store.get(f"{key}/c/0")
        assert caught.value.code == "connection_lost"


@every_service
def test_a_forked_child_is_told_that_obstore_does_not_survive_it(service):
    imports, expression = SERVICES[service].source()
    store = expression.format(prefix=f"obstore/fork/{service}", more=ENGINE)
    own = expression.format(prefix=f"obstore/fork/{service}", more={})
    code = f"""if True:
        import os, sys
        sys.path.insert(0, "tests")
        {imports}
        from zarrcy.errors import StoreError
        store = {store}
        store.set("k", b"1")
        assert store.get("k") == b"1"
        pid = os.fork()
        if pid == 0:
            try:
                store.get("k")
            except StoreError as error:
                os._exit(42 if error.code == "fork" else 1)
            os._exit(2)
        status = os.waitpid(pid, 0)[1]
        # The own engine goes on in a child.
        own = {own}
        pid = os.fork()
        if pid == 0:
            os._exit(43 if own.get("k") == b"1" else 1)
        print(os.waitstatus_to_exitcode(status), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["42", "43"], done.stderr


@every_service
def test_another_engine_is_refused(service):
    with pytest.raises(ValueError, match="engine"):
        SERVICES[service].new(engine="fsspec")


def test_an_engine_is_part_of_a_url_of_s3():
    store = S3Store("arrays", engine="obstore")
    assert S3Store.from_url(store.url) == store


@pytest.mark.parametrize("service", ["gcs", "azure_blob"])
def test_an_engine_stands_beside_a_url(service):
    store = SERVICES[service].new()
    options = {name: value for name, value in store.options().items() if name in ("endpoint", "credentials", "engine")}
    again = type(store).from_url(store.url, **options)
    assert again == store and again.engine == "obstore" and "engine='obstore'" in repr(store)
    with store, again, copy_of(store, engine=None) as own:
        assert store.client is again.client is not own.client


# ---- GCS


def test_what_is_written_to_gcs_has_the_headers_of_the_other_engine():
    with SERVICES["gcs"].new(storage_class="NEARLINE", project="payer") as store:
        front = servers.gcs.xml_front()
        n = len(front.requests)
        store.set("größe/0", b"1")
        assert store.get("größe/0") == b"1"
        kept = front.behind.object(store.bucket, f"{store.prefix}/größe/0")
        assert (kept["cacheControl"], kept["storageClass"]) == ("no-cache", "NEARLINE")
        assert kept["contentType"] == "application/octet-stream" and kept["metadata"] == {"zarrcy-crc32c": "90f599e3"}
        for request in front.requests[n:]:
            assert request.headers["x-goog-user-project"] == "payer" and request.headers["Accept-Encoding"] == "gzip"


def xml_or_listing(answer, listing):
    return lambda request: listing if request.path.startswith("/storage") else answer


LISTING, FORBIDDEN = as_json({"kind": "storage#objects"}), as_json({"error": {"code": 403, "message": "No."}}, 403)
LISTED = as_json({"kind": "storage#objects", "items": [{"name": "lab/a/k"}]})
NO_BUCKET = as_xml(404, *NO_SUCH_BUCKET)


@pytest.mark.parametrize(
    ("answer", "listing", "code"),
    [
        # While the bucket was not seen, it is looked for.
        (as_xml(404, "NoSuchKey", "No such object: my-bucket/lab/a/k"), LISTING, None),
        (as_xml(404, "NoSuchKey", "No such object: my-bucket/lab/a/k"), NO_BUCKET, "no_bucket"),
        (as_xml(404, "NoSuchKey", "No such object: my-bucket/lab/a/k"), FORBIDDEN, "forbidden"),
        (Answer(404), LISTED, "broken_answer"),
        (NO_BUCKET, NO_BUCKET, "no_bucket"),
        (Answer(404), NO_BUCKET, "no_bucket"),
        (as_xml(403, "AccessDenied", "me@x.iam does not have storage.objects.get access."), LISTING, "forbidden"),
        (as_xml(400, "UserProjectMissing", ""), LISTING, "no_project"),
    ],
)
def test_what_the_xml_api_of_gcs_says_is_understood(answer, listing, code):
    with Scripted(xml_or_listing(answer, listing)) as server, SERVICES["gcs"].scripted(server.url) as store:
        if code is None:
            assert store.get("k") is None and store.get("k", slice(2, 6)) is None
            return
        store._connected().conditions.update(absent=True, version=True)
        for call in (lambda: store.get("k"), lambda: store.get("k", slice(2, 6)), lambda: store.set_if("k", b"", "7")):
            with pytest.raises(StoreError) as caught:
                call()
            # What is broken may have been written.
            error = caught.value.__cause__ if isinstance(caught.value, OutcomeUnknownError) else caught.value
            assert error.code == code, caught.value
    assert code != "forbidden" or listing is FORBIDDEN or "storage.objects.get" in str(caught.value)


@pytest.mark.parametrize("details", ["No such object: my-bucket/lab/a/{}", ""])
def test_an_absent_object_costs_gcs_one_request_when_the_bucket_was_seen(details):
    def answers(request):
        if request.path.startswith("/storage"):
            return LISTING
        return as_xml(404, "NoSuchKey", details.format(request.path[-1]))

    with Scripted(answers) as server, SERVICES["gcs"].scripted(server.url) as store:
        assert list(store.list_prefix()) == []
        n = len(server.requests)
        assert store.get("a") is None and store.get("b", slice(3)) is None and store.get("c", slice(-3, None)) is None
        assert len(server.requests) == n + 3


def test_another_generation_than_the_one_that_was_asked_for_is_a_conflict():
    told = {"ETag": '"1"', "Last-Modified": DATE, "x-goog-generation": "5"}
    with Scripted(Answer(200, told, b"old")) as server, SERVICES["gcs"].scripted(server.url) as store:
        assert store.get_with_version("k", if_version="5") == (b"old", "5")
        for version in ("7", "0", "no number"):
            with pytest.raises(ConflictError):
                store.get_with_version("k", if_version=version)
            with pytest.raises(ConflictError):
                store.client.get("lab/a/k", None, version)
        # A bucket with versions would give out one that was replaced.
        assert not any("generation" in request.path for request in server.requests)
        store._connected().conditions.update(absent=True, version=True)
        n = len(server.requests)
        with pytest.raises(ConflictError):
            store.set_if("k", b"1", "no number")
        assert len(server.requests) == n


def test_without_credentials_gcs_is_read_by_obstore_and_written_by_the_own_client():
    server = servers.gcs.server()
    with GCSStore(server.bucket(), endpoint=server.endpoint, engine="obstore") as store:
        zarrcy.create_array(store, shape=4, chunks=2, dtype="i1")[:] = 3
        assert zarrcy.open_array(store)[:].tolist() == [3] * 4
        store.set("empty", b"")
        assert store.get("empty", slice(-3, None)) == store.get("empty", slice(2)) == b""
        version = store.set_if("k", b"1", None)
        assert store.get_with_version("k") == (b"1", version)


def test_a_certificate_of_the_machine_needs_the_own_client(monkeypatch):
    monkeypatch.setattr(gcs_client.GCSClient, "is_mtls", True)
    with SERVICES["gcs"].new() as store, pytest.raises(StoreError, match="certificate") as caught:
        store.get("k")
    assert caught.value.code == "bad_option" and "engine" in caught.value.hint


def test_variables_that_obstore_cannot_read_are_an_error(monkeypatch):
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", "/no/such/canary.json")
    with SERVICES["gcs"].new() as store, pytest.raises(StoreError) as caught:
        store.get("k")
    assert caught.value.code == "bad_option" and "GOOGLE_" in caught.value.hint
    assert "canary" not in "".join(traceback.format_exception(caught.value))


# ---- Azure


@pytest.mark.parametrize("header", ["x-ms-meta-hdi_isfolder", "x-ms-resource-type"])
def test_a_folder_of_a_data_lake_is_no_value(header):
    told = {"ETag": '"1"', "Last-Modified": DATE, "x-ms-request-id": "1"}
    told[header] = "true" if "meta" in header else "directory"
    with Scripted(Answer(200, told)) as server, SERVICES["azure_blob"].scripted(server.url) as store:
        assert store.get("c") is None


def test_variables_of_obstore_change_nothing(monkeypatch):
    """It would look for an emulator at another port, sign nothing, and ask another account."""
    for name, value in (("USE_EMULATOR", "true"), ("SKIP_SIGNATURE", "true"), ("ENDPOINT", "http://127.0.0.1:9")):
        monkeypatch.setenv(f"AZURE_STORAGE_{name}", value)
        monkeypatch.setenv(f"AZURE_{name}", value)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "other")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "b3RoZXI=")
    with SERVICES["azure_blob"].new() as store:
        store.set("k", b"1")
        assert store.get("k") == b"1"


def test_a_sas_token_is_sent_as_it_is_signed():
    """Azurite would take what is encoded twice."""
    sas = "sv=2025-01-05&sp=rl&se=2100-01-01T00%3A00%3A00Z&sig=Y2Fu%2BYXJ5%2FIG9m%3D"
    with Scripted(SERVICES["azure_blob"].absent) as server:
        for engine in (None, "obstore"):
            with SERVICES["azure_blob"].scripted(server.url, account_key=None, sas_token=sas, engine=engine) as store:
                assert store.get("k") is None
    first, second = (request.path.partition("?")[2] for request in server.requests)
    assert parse_qs(first) == parse_qs(second) == parse_qs(sas)


@every_service
def test_a_client_that_is_closed_is_freed(service):
    """Obstore keeps what it asks for credentials, which must keep neither the client nor the store of obstore."""
    with SERVICES[service].new() as store:
        store.set("k", b"1")
        client = weakref.ref(store.client)
        given = weakref.ref(store.client._opened.given)  # a store of obstore has no weak references; this goes with it
    del store
    gc.collect()
    assert client() is None
    assert given() is None


@pytest.mark.parametrize("service", ["gcs", "azure_blob"])
def test_authorities_that_are_no_file_are_an_error_that_names_the_variable(service, monkeypatch, tmp_path):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))
    with SERVICES[service].new() as store, pytest.raises(StoreError) as caught:
        store.get("k")
    assert caught.value.code == "bad_option" and "REQUESTS_CA_BUNDLE" in caught.value.hint
