"""Who may ask S3: environment, profiles, processes, callables; and no secret that shows."""

from __future__ import annotations

import json
import logging
import pickle
import threading
import time
import traceback
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from s3_cases import copy_of, new_store, take_credentials_away
from servers.s3 import READER, READER_SECRET, SECRET, WRITER
from servers.scripted import Answer, Request, Scripted

from zarrcy.errors import PermissionDeniedError, StoreError
from zarrcy.stores import s3_client, s3_credentials
from zarrcy.stores.s3 import S3Store
from zarrcy.stores.s3_credentials import Rotating


@pytest.fixture
def store():
    with new_store() as store:
        yield store


@pytest.fixture
def surroundings(monkeypatch, tmp_path):
    take_credentials_away(monkeypatch, tmp_path)
    return monkeypatch


# ---- who may ask


def test_the_environment_is_asked_at_every_open(store, surroundings):
    surroundings.setenv("AWS_ACCESS_KEY_ID", READER)
    surroundings.setenv("AWS_SECRET_ACCESS_KEY", READER_SECRET)
    with copy_of(store) as reader:
        assert reader.get("k") is None and list(reader.list_prefix()) == []
        surroundings.setenv("AWS_ACCESS_KEY_ID", WRITER)
        surroundings.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        with copy_of(store) as writer:
            writer.set("k", b"1")
            assert reader.get("k") == b"1"
            for write in (lambda: reader.set("k", b"2"), lambda: reader.delete("k"), lambda: reader.delete_prefix("")):
                with pytest.raises(PermissionDeniedError) as caught:
                    write()
                assert caught.value.code == "access_denied"
            assert reader.client is not writer.client and writer.client is copy_of(store).client


def test_profiles_of_the_shared_files_work(store, surroundings, tmp_path):
    (tmp_path / "credentials").write_text(
        f"[default]\naws_access_key_id={READER}\naws_secret_access_key={READER_SECRET}\n"
        f"[lab]\naws_access_key_id={WRITER}\naws_secret_access_key={SECRET}\n"
    )
    with copy_of(store, profile="lab") as writer, copy_of(store) as reader:
        writer.set("k", b"1")
        assert reader.get("k") == b"1"
        with pytest.raises(PermissionDeniedError):
            reader.set("k", b"2")
    surroundings.setenv("AWS_PROFILE", "lab")
    with copy_of(store) as writer:
        writer.set("k", b"2")


def test_a_credential_process_works_and_its_failure_shows_no_secret(store, surroundings, tmp_path):
    given = {"Version": 1, "AccessKeyId": WRITER, "SecretAccessKey": SECRET}
    (tmp_path / "given.json").write_text(json.dumps(given))
    (tmp_path / "config").write_text(f"[default]\ncredential_process = cat {tmp_path}/given.json\n")
    with copy_of(store) as writer:
        writer.set("k", b"1")
    (tmp_path / "config").write_text("[default]\ncredential_process = sh -c 'echo canary >&2; exit 1'\n")
    with pytest.raises(PermissionDeniedError) as caught:
        copy_of(store).get("k")
    assert caught.value.code == "credentials"
    assert "canary" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("key", "secret", "code"),
    [
        (WRITER, "canary of a wrong secret", "wrong_secret"),
        ("nobody", "canary of a wrong secret", "unknown_access_key"),
        (None, None, "no_credentials"),
    ],
)
def test_who_may_not_ask_is_told_why(key, secret, code, store, surroundings):
    if key is not None:
        surroundings.setenv("AWS_ACCESS_KEY_ID", key)
        surroundings.setenv("AWS_SECRET_ACCESS_KEY", secret)
    with copy_of(store) as stranger:
        for call in (lambda: stranger.get("k"), lambda: stranger.set("k", b""), lambda: list(stranger.list_prefix())):
            with pytest.raises(PermissionDeniedError) as caught:
                call()
            assert caught.value.code == code and caught.value.hint


def test_nobody_may_ask_where_a_bucket_is_not_public(store, surroundings):
    with copy_of(store, anonymous=True) as anonymous, pytest.raises(PermissionDeniedError) as caught:
        anonymous.get("k")
    assert caught.value.code == "access_denied"
    with Scripted(Answer(200, {"ETag": '"1"'}, b"public")) as server:
        assert S3Store("b", endpoint_url=server.url, anonymous=True).get("k") == b"public"
        assert "Authorization" not in server.requests[0].headers


def test_a_missing_bucket_is_an_error_that_names_it(store):
    with copy_of(store, bucket="missing") as other:
        for call in (lambda: other.get("k"), lambda: list(other.list_prefix()), lambda: other.exists("k")):
            with pytest.raises(StoreError, match=r"s3://missing/.*NoSuchBucket") as caught:
                call()
            assert caught.value.code == "no_bucket"


# ---- credentials of a callable


def given_by_a_callable():
    return {"access_key": WRITER, "secret_key": SECRET}


@pytest.mark.parametrize(
    "given",
    [
        (WRITER, SECRET),
        (WRITER, SECRET, None, None),
        {"AccessKeyId": WRITER, "SecretAccessKey": SECRET, "SessionToken": None, "Expiration": "2099-01-01T00:00:00Z"},
        {"access_key": WRITER, "secret_key": SECRET, "expiry": datetime.now(UTC) + timedelta(hours=1)},
    ],
)
def test_a_callable_may_return_a_mapping_or_a_tuple(given, store, surroundings):
    calls = []
    with copy_of(store, credentials=lambda: calls.append(1) or given) as own:
        own.set("k", b"1")
        assert own.get("k") == b"1" and len(calls) == 1


def test_a_callable_is_called_again_before_the_end_and_once_by_32_threads(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(s3_credentials.time, "time", lambda: clock[0])
    calls = []
    release = threading.Event()

    def make():
        calls.append(clock[0])
        release.wait(10)
        return "key", f"secret {len(calls)}", None, clock[0] + 3600

    identity = Rotating(make)
    n_waiting = threading.Barrier(33)
    seen = []

    def ask():
        n_waiting.wait()
        seen.append(identity.current().secret_key)

    def at(now, expected):
        clock[0] = now
        release.clear()
        seen.clear()
        threads = [threading.Thread(target=ask) for _ in range(32)]
        for thread in threads:
            thread.start()
        n_waiting.wait()
        if expected is None:  # all must wait
            time.sleep(0.02)
            assert seen == []
        else:  # one asks; the others do not wait for it
            while len(seen) < 31:
                time.sleep(0.001)
            assert set(seen) == {expected}
        release.set()
        for thread in threads:
            thread.join()

    at(1000, None)
    assert set(seen) == {"secret 1"} and len(calls) == 1
    at(4300 + 1, "secret 1")  # 300 s before the end
    assert len(calls) == 2 and identity.current().secret_key == "secret 2"
    clock[0] = 4301 + 3299
    assert identity.current().secret_key == "secret 2" and len(calls) == 2
    at(4301 + 3601, None)
    assert len(calls) == 3


def test_a_callable_that_fails_is_an_error_only_when_its_credentials_end(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(s3_credentials.time, "time", lambda: clock[0])
    answers = iter([("key", "secret", None, 2000.0), OSError("down"), OSError("down")])
    calls = []

    def make():
        calls.append(1)
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    identity = Rotating(make)
    assert identity.current().secret_key == "secret"
    clock[0] = 1900
    assert identity.current().secret_key == identity.current().secret_key == "secret"
    assert len(calls) == 2
    clock[0] = 2000
    with pytest.raises(PermissionDeniedError, match="the callable raised OSError") as caught:
        identity.current()
    assert caught.value.code == "credentials"


@pytest.mark.parametrize("given", [None, "canary", ("canary",), {"access_key": "canary"}, {"secret_key": "canary"}])
def test_what_a_callable_may_not_return_is_refused_without_showing_it(given, store):
    with (
        copy_of(store, credentials=lambda: given) as own,
        pytest.raises(TypeError, match="callable that returns") as caught,
    ):
        own.get("k")
    assert "canary" not in str(caught.value)


def test_a_function_of_a_module_is_pickled_by_its_name_and_no_other_callable():
    store = S3Store("b", credentials=given_by_a_callable)
    data = pickle.dumps(store)
    assert pickle.loads(data) == store and SECRET.encode() not in data and "function" not in repr(store)
    for call in (lambda: ("key", "canary"), given_by_a_callable.__call__):
        with pytest.raises(StoreError) as caught:
            pickle.dumps(S3Store("b", credentials=call))
        assert caught.value.code == "not_picklable"


# ---- secrets


class Recorded(logging.Handler):
    def __init__(self):
        super().__init__(logging.DEBUG)
        self.lines = []

    def emit(self, record):
        self.lines.append(f"{self.format(record)} {record.args!r}")


@pytest.fixture
def recorded():
    """All that is logged, at DEBUG."""
    root, handler = logging.getLogger(), Recorded()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.setLevel(level)
    root.removeHandler(handler)


def all_that_shows(call) -> list[str]:
    """What can be seen of the error that a call raises: its traceback with the values of variables, too."""
    try:
        call()
    except Exception as error:
        shown = traceback.TracebackException.from_exception(error, capture_locals=True)
        return ["".join(shown.format()), repr(error), pickle.dumps(error).decode("latin-1")]
    return []


def test_no_secret_is_in_a_log_an_error_or_a_traceback_with_variables(store, surroundings, recorded):
    """Over reads, writes, listings, refusals, lost connections and roles, at DEBUG, with the SDK's loggers."""
    secrets = ["canary/secret", "canary/token"]
    surroundings.setenv("AWS_ACCESS_KEY_ID", "canaryKey")
    surroundings.setenv("AWS_SECRET_ACCESS_KEY", secrets[0])
    surroundings.setenv("AWS_SESSION_TOKEN", secrets[1])
    surroundings.setattr(s3_client, "READ_SECONDS", 0.3)
    texts = []
    answers = [Answer(403), Answer(-1), Answer(-2), Answer(500), Answer(200, {"ETag": '"1"'}, b"value")._replace(cut=2)]
    for answer in answers:
        with Scripted(answer) as server, copy_of(store, endpoint_url=server.url) as own:
            for call in (
                lambda: own.get("k"),
                lambda: own.set("k", b"1"),
                lambda: list(own.list_prefix()),
                lambda: own.set_if("k", b"1", None),
            ):
                texts += all_that_shows(call)
            texts += [repr(own), own.url, repr(own.options()), pickle.dumps(own).decode("latin-1")]
            assert server.requests[0].headers["X-Amz-Security-Token"] == secrets[1]
    assert len(texts) > 60 and len(recorded.lines) > 20
    for text in (*texts, *recorded.lines):
        for secret in secrets:
            assert secret not in text


def test_what_the_sdk_is_told_about_a_role_is_not_logged(surroundings, recorded):
    answer = """<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>
        <AccessKeyId>key</AccessKeyId><SecretAccessKey>canary/of/sts</SecretAccessKey>
        <SessionToken>canary/token/of/sts</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>
        </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""

    def answers(request: Request) -> Answer:
        if request.method == "POST":
            return Answer(200, {"Content-Type": "text/xml"}, answer.encode())
        return Answer(200, {"ETag": '"1"'}, b"value")

    token = Path(__file__)  # any file: nobody looks at it
    with Scripted(answers) as server:
        surroundings.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
        surroundings.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/lab")
        surroundings.setenv("AWS_ENDPOINT_URL", server.url)
        surroundings.setenv("AWS_DEFAULT_REGION", "us-west-2")
        with S3Store("b") as store:
            assert store.get("k") == b"value"
        assert server.requests[-1].headers["X-Amz-Security-Token"] == "canary/token/of/sts"
    assert recorded.lines
    for line in recorded.lines:
        assert "canary" not in line
