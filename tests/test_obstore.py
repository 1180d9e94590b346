"""S3 through obstore: the same laws, errors and values as by zarrcy's own client, and a clear refusal after a fork."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
from servers import s3
from servers.scripted import RESET, Answer, Scripted
from test_s3_errors import OPERATIONS, OUTCOMES, absent, refusal

import zarrcy
from zarrcy.errors import (
    ChecksumError,
    ConflictError,
    OutcomeUnknownError,
    PermissionDeniedError,
    StoreError,
    UnavailableError,
)
from zarrcy.stores.clock import VirtualClock
from zarrcy.stores.retry import Retry
from zarrcy.stores.s3 import S3Store
from zarrcy.testing import STORE_LAWS

_numbers = itertools.count()

DATE = "Wed, 25 Nov 2026 20:00:00 GMT"
CONFLICT, FAILED = refusal(412, "PreconditionFailed"), refusal(500, "InternalError")


def new(**options):
    return s3.WeedStore(
        "arrays", prefix=f"obstore/{next(_numbers)}", endpoint_url=s3.server().endpoint, engine="obstore", **options
    )


def scripted(server, **options):
    options = {"retry": Retry(deadline=0), "region": "us-west-2", **options}
    store = S3Store("my-zarr-data", prefix="lab/a", endpoint_url=server.url, engine="obstore", **options)
    store.clock = VirtualClock()
    return store


@pytest.fixture
def keys(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary of the secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "canary of the token")


@pytest.mark.parametrize("law", STORE_LAWS)
def test_the_laws_hold(law):
    with new() as store:
        STORE_LAWS[law](store)


def test_both_engines_read_what_the_other_wrote():
    with new() as store, S3Store("arrays", prefix=store.prefix, endpoint_url=store.endpoint_url) as own:
        zarrcy.create_array(store, "a", shape=1000, chunks=100, dtype="i4")[...] = np.arange(1000)
        zarrcy.create_array(own, "b", shape=1000, chunks=100, dtype="i4")[...] = np.arange(1000)
        assert (zarrcy.open(own, "a")[...] == zarrcy.open(store, "b")[...]).all()
        assert sorted(own.list_prefix()) == sorted(store.list_prefix())


def test_a_long_listing_comes_by_pages(monkeypatch):
    from zarrcy.stores import obstore_client

    monkeypatch.setattr(obstore_client, "LISTED", 7)
    with new() as store:
        keys = [f"c/{i}/{j}" for i in range(4) for j in range(9)]
        store.set_many((key, b"1") for key in keys)
        assert sorted(store.list_prefix()) == sorted(keys)
        assert sorted(store.list_prefix("c/2/")) == [f"c/2/{j}" for j in range(9)]
        store.delete_prefix("c/")
        assert list(store.list_prefix()) == []


@pytest.mark.parametrize("outcome", [name for name in OUTCOMES if name != "timeout"])
def test_no_answer_but_that_of_an_absent_object_is_an_absent_key(outcome, keys):
    kind, _, answer = OUTCOMES[outcome]
    with Scripted(answer) as server, scripted(server) as store:
        for name, operation in OPERATIONS.items():
            with pytest.raises(StoreError) as caught:
                operation(store)
            assert isinstance(caught.value, kind), name
            assert caught.value.store == store.url and caught.value.__notes__, name
            assert "canary" not in f"{caught.value} {caught.value!r} {caught.value.__notes__}"


def test_an_absent_object_is_an_absent_key(keys):
    with Scripted(absent) as server, scripted(server) as store:
        assert store.get("c/0") is None and store.size("c/0") is None and list(store.list_prefix()) == []


def test_a_flipped_bit_in_what_zarrcy_wrote_is_an_error():
    with new() as store:
        store.set("k", b"0123456789")
        with s3.server().client() as client:
            found = client.get_object(Bucket="arrays", Key=f"{store.prefix}/k")
            client.put_object(Bucket="arrays", Key=f"{store.prefix}/k", Body=b"0123456780", Metadata=found["Metadata"])
        with pytest.raises(ChecksumError, match="crc32c"):
            store.get("k")


def test_a_conditional_write_whose_answer_was_lost_is_known_by_its_writer(keys):
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

    with Scripted(answers) as server, scripted(server, retry=Retry(seed=1)) as store:
        store._connected().conditions.update({"absent": True, "version": True})
        assert store.set_if("k", b"mine", None) == '"1"'
        stored["/my-zarr-data/lab/a/k"] = b"theirs", "another"
        with pytest.raises((ConflictError, OutcomeUnknownError)):
            store.set_if("k", b"mine", None)


def test_a_wrong_secret_is_refused():
    with new(credentials=lambda: (s3.WRITER, "wrong")) as store, pytest.raises(PermissionDeniedError) as caught:
        store.get("k")
    assert caught.value.code == "wrong_secret"


def test_credentials_that_cannot_be_had_are_no_lost_connection():
    def fail():
        raise RuntimeError("no vault")

    with new(credentials=fail) as store, pytest.raises(PermissionDeniedError) as caught:
        store.set("k", b"1")
    assert caught.value.code == "credentials"


@pytest.mark.parametrize("key", ["plain", "refused", "certificates", "dns error", "timed out"])
def test_no_name_of_an_object_is_taken_for_a_reason(key, keys):
    """The server has read the write, and hangs up: it may have happened, whatever the object is called."""
    with Scripted(RESET) as server, scripted(server) as store:
        with pytest.raises(OutcomeUnknownError):
            store.set(f"{key}/c/0", b"1")
        with pytest.raises(UnavailableError) as caught:
            store.get(f"{key}/c/0")
        assert caught.value.code == "connection_lost"


def test_a_forked_child_is_told_that_obstore_does_not_survive_it():
    code = f"""if True:
        import os, sys
        sys.path.insert(0, "tests")
        from zarrcy.stores.s3 import S3Store
        from zarrcy.errors import StoreError
        store = S3Store("arrays", prefix="obstore/fork", endpoint_url="{s3.server().endpoint}", engine="obstore")
        store.set("k", b"1")
        pid = os.fork()
        if pid == 0:
            try:
                store.get("k")
            except StoreError as error:
                os._exit(42 if error.code == "fork" else 1)
            os._exit(2)
        status = os.waitpid(pid, 0)[1]
        # The own engine goes on in a child.
        own = S3Store("arrays", prefix="obstore/fork", endpoint_url="{s3.server().endpoint}")
        pid = os.fork()
        if pid == 0:
            os._exit(43 if own.get("k") == b"1" else 1)
        print(os.waitstatus_to_exitcode(status), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["42", "43"], done.stderr


def test_another_engine_is_refused():
    with pytest.raises(ValueError, match="engine"):
        S3Store("arrays", engine="s3fs")
