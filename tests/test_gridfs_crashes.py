"""`GridFSStore` between processes: killed writers, contended keys, forks, and a primary that is killed."""

import json
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import gridfs
import pytest
import servers.mongodb

from zarrcy.stores import gridfs_writing
from zarrcy.stores.gridfs import GridFSStore

SCRIPT = Path(__file__).parent / "gridfs_writers.py"


def new_store(array_id, bucket="crashes"):
    return GridFSStore(servers.mongodb.server().url(), bucket=bucket, array_id=array_id)


def run(command, store, *arguments):
    call = subprocess.run(
        [sys.executable, "-W", "error", SCRIPT, command, json.dumps(store.options()), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert call.returncode == 0, call.stderr[-3000:]
    assert call.stderr == ""
    return json.loads(f"[{call.stdout.strip().replace(' ', ',')}]")


def documents(store, name, **query):
    with servers.mongodb.server().root() as client:
        return list(client[store.database][f"{store.bucket}.{name}"].find(query))


def kill_writers(n):
    store = new_store(f"killed-{n}", f"killed-{n}")
    serials = run("kills", store, n)
    assert sum(serials) > n
    store.set("c/0/0", b"after")
    store.delete("c/0/1")
    return store


def collects_everything(store, monkeypatch):
    """After a repair each key has one file with its chunks, and there is nothing else."""
    monkeypatch.setattr(gridfs_writing, "ABANDONED_AFTER", timedelta(seconds=-5))
    store.repair()
    assert store.repair() == []
    keys = sorted(store.list_prefix())
    ids = {"metadata.array_id": store.array_id}
    files = documents(store, "files", **ids)
    assert sorted(each["filename"] for each in files) == [f"{store.array_id}/{key}" for key in keys]
    assert {each["_id"] for each in files} == {each["files_id"] for each in documents(store, "chunks")}
    with servers.mongodb.server().root() as client:
        plain = gridfs.GridFS(client[store.database], store.bucket)
        for key in keys:
            assert plain.get_last_version(f"{store.array_id}/{key}").read() == store.get(key)


def test_a_killed_writer_leaves_whole_values_and_nothing_that_lists(monkeypatch):
    """Every acknowledged write is there; what is left is not listed, and collected. test_store_sharing.py kills 200."""
    collects_everything(kill_writers(50), monkeypatch)


@pytest.mark.long
def test_a_killed_writer_leaves_whole_values_for_long(monkeypatch):
    kill_writers(2000)


def test_a_forked_child_makes_its_own_connections_without_a_warning():
    assert run("forks", new_store("forks")) == [20, 20]


def test_what_a_killed_writer_left_is_collected_by_the_next_writer_after_a_while(monkeypatch):
    store = new_store("abandoned")
    upload = store._writer.prepare("c/0", b"never current")
    store._writer.upload([upload])
    assert store.get("c/0") is None and list(store.list_prefix()) == []
    store._bucket.shared.prepared.clear()  # as in a process that has not written yet
    store.set("c/1", b"1")
    assert len(documents(store, "files", _id=upload.current.file)) == 1  # it may still be at it
    store._bucket.shared.prepared.clear()
    monkeypatch.setattr(gridfs_writing, "ABANDONED_AFTER", timedelta(seconds=-5))
    store.set("c/1", b"2")
    assert documents(store, "files", _id=upload.current.file) == []
    assert documents(store, "chunks", files_id=upload.current.file) == []


@pytest.mark.parametrize("step", ["publish", "settle", "_remove_chunks"])
def test_a_writer_that_ends_between_two_steps_leaves_the_old_value_or_the_new_one(step, monkeypatch):
    store = new_store(f"between-{step}")
    store.set("c/0", b"old")

    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(gridfs_writing.Writer, step, killed)
        with pytest.raises(Killed):
            store.set("c/0", b"new")
    assert store.get("c/0") == (b"old" if step == "publish" else b"new")
    assert list(store.list_prefix()) == ["c/0"]
    monkeypatch.setattr(gridfs_writing, "ABANDONED_AFTER", timedelta(seconds=-5))
    assert store.repair()
    files = documents(store, "files", **{"metadata.array_id": store.array_id})
    assert [each["filename"] for each in files] == [f"{store.array_id}/c/0"]
    assert files[0]["length"] == 3 and store.repair() == []


def test_the_next_writer_of_a_key_removes_what_a_killed_one_did_not(monkeypatch):
    store = new_store("followed", "followed")
    with monkeypatch.context() as patch:
        patch.setattr(gridfs_writing.Writer, "settle", lambda *_: None)
        for value in (b"1", b"2", b"3"):
            store.set("c/0", value)
    store.set("c/0", b"4")
    assert [each["filename"] for each in documents(store, "files")] == ["followed/c/0"]
    assert [each["data"] for each in documents(store, "chunks")] == [b"4"]


def write_counted(store, name, acknowledged, stop):
    serial = 0
    while not stop.is_set():
        serial += 1
        store.set(f"c/{name}/{serial % 5}", f"{name} {serial}".encode())
        acknowledged.append(serial)


def test_no_acknowledged_write_is_lost_when_the_primary_is_killed():
    """Three members; the primary is killed under four writers, and none of them sees an error."""
    members = servers.mongodb.Members(3)
    try:
        store = GridFSStore(members.url(), bucket="arrays", array_id="failover")
        stop = threading.Event()
        acknowledged = [[] for _ in range(4)]
        errors = []

        def guarded(name):
            try:
                write_counted(store, name, acknowledged[name], stop)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=guarded, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        wait_for(lambda: errors or min(map(len, acknowledged)) > 10)
        members.kill_primary()
        before = list(map(len, acknowledged))
        wait_for(lambda: errors or all(len(each) > n + 10 for each, n in zip(acknowledged, before, strict=True)))
        stop.set()
        for thread in threads:
            thread.join()
        assert errors == []
        for name, serials in enumerate(acknowledged):
            for last in serials[-5:]:
                assert store.get(f"c/{name}/{last % 5}") == f"{name} {last}".encode()
        store.close()
    finally:
        members.stop()


def wait_for(condition, timeout=60):
    deadline = time.monotonic() + timeout
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()
