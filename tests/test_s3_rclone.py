"""rclone's S3 service answers 200 to a write whose condition does not hold, and overwrites: a negative control."""

from __future__ import annotations

import itertools
import json
import warnings

import numpy as np
import pytest
import servers.rclone

import zarrcy
from zarrcy.cli import main
from zarrcy.errors import ConcurrentWriteWarning, ConflictError, UnavailableError
from zarrcy.stores.object_client import Condition
from zarrcy.stores.retry import Retry
from zarrcy.stores.s3 import S3Store
from zarrcy.testing import STORE_LAWS

_numbers = itertools.count()


# It has no conditions, and sends mixtures of an old and a new value.
BROKEN_LAWS = {
    "threads that update lose nothing",
    "threads that compare and swap lose nothing",
    "a reader sees the old value or the new one whole",
}


def new_store(**options):
    endpoint, prefix = servers.rclone.server().endpoint, f"test{next(_numbers)}"
    return S3Store(servers.rclone.BUCKET, prefix=prefix, endpoint_url=endpoint, retry=Retry(deadline=5), **options)


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", servers.rclone.KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", servers.rclone.SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")


@pytest.fixture
def store(credentials):
    with new_store() as store:
        yield store


def test_there_are_the_laws_that_it_breaks():
    assert set(STORE_LAWS) > BROKEN_LAWS


@pytest.mark.filterwarnings("ignore::zarrcy.errors.ConcurrentWriteWarning")
@pytest.mark.parametrize("law", [law for law in STORE_LAWS if law not in BROKEN_LAWS])
def test_the_other_laws_hold(store, law):
    STORE_LAWS[law](store)


def test_obstore_reads_whole_values_and_refuses_what_it_answers_for_a_part():
    with new_store(engine="obstore") as store:
        store.set("a", b"123")
        assert store.get("a") == b"123"
        with pytest.raises(UnavailableError, match="a request for a part with the status of a whole value") as caught:
            store.get("a", slice(1, 2))
        assert caught.value.code == "broken_answer"


def test_the_server_answers_that_it_wrote_and_overwrites_whatever_the_condition(store):
    first = store.client.put("test/a", b"1", Condition(None), "")
    store.client.put("test/a", b"2", Condition(None), "")
    store.client.put("test/a", b"3", Condition(first), "")
    assert store.client.get("test/a", None, None).value == b"3"


def test_the_first_conditional_write_finds_it_out_and_leaves_nothing(store):
    store.set("a", b"1")
    assert store.supports_cas  # until it is tried
    with pytest.warns(ConcurrentWriteWarning):
        version = store.set_if("b", b"1", None)
    assert not store.supports_cas
    with pytest.warns(ConcurrentWriteWarning), pytest.raises(ConflictError):
        store.set_if("b", b"2", None)  # what it can see, it heeds
    with pytest.warns(ConcurrentWriteWarning):
        store.set_if("b", b"3", version)
    assert store.get("b") == b"3" and sorted(store.list_prefix()) == ["a", "b"]
    assert [path.name for path in servers.rclone.server().files(store.prefix)] == ["a", "b"]


def test_writing_a_part_of_a_chunk_warns_and_writes(store):
    with pytest.warns(ConcurrentWriteWarning):
        array = zarrcy.create_array(store, shape=100, chunks=10, dtype="int32")
        array[5:15] = 7
    assert (zarrcy.open_array(store)[:20] == np.repeat([0, 7, 0], [5, 10, 5])).all()


def test_a_part_is_right_though_it_comes_with_the_status_of_a_whole(store):
    value = bytes(range(9))
    store.set("k", value)
    bounds = [None, *range(-10, 11, 3)]
    # One that is behind the end, or longer than the value, is refused.
    for part in itertools.starmap(slice, itertools.product(bounds, bounds)):
        assert bytes(store.get("k", part)) == value[part], part
    assert store.size("k") == 9 and store.get("k") == value


def test_the_doctor_says_so(store, capsys):
    store.set("a", b"1")
    with warnings.catch_warnings():
        warnings.simplefilter("always")  # else it ends the command
        main(["doctor", store.url, "--write", "--json"])
    out, err = capsys.readouterr()
    steps = {step["step"]: step["says"] for step in json.loads(out)["steps"]}
    assert "one writer" in err
    assert "conditional writes are ignored" in steps["conditions"]
