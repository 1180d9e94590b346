"""`SQLiteStore`: names, errors, limits, transactions and forks. That it keeps the laws is in test_store_laws."""

import itertools
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import cpu_times
import numpy as np
import pytest

import zarrcy
from zarrcy.errors import (
    ConflictError,
    NodeNotFoundError,
    PermissionDeniedError,
    ReadOnlyError,
    StoreError,
    UnavailableError,
)
from zarrcy.stores import sqlite_table
from zarrcy.stores.memory import MemoryStore
from zarrcy.stores.sqlite import SQLiteStore
from zarrcy.stores.sqlite_connections import Pool
from zarrcy.testing import STORE_LAWS
from zarrcy.threads import run_with_helpers


@pytest.fixture
def store(tmp_path):
    with SQLiteStore(tmp_path / "data.db", "a") as store:
        store.prepare()
        yield store


def calls(store):
    """Every way to read or change a value."""
    return {
        "get": lambda: store.get("c/0"),
        "get of a part": lambda: store.get("c/0", slice(1, 2)),
        "size": lambda: store.size("c/0"),
        "exists": lambda: store.exists("c/0"),
        "get_many": lambda: list(store.get_many([("c/0", None)])),
        "get_with_version": lambda: store.get_with_version("c/0"),
        "list_prefix": lambda: list(store.list_prefix()),
        "list_dir": lambda: list(store.list_dir()),
        "delete": lambda: store.delete("c/0"),
        "delete_prefix": lambda: store.delete_prefix("c/"),
    }


def expect_code(code, call, kind=StoreError):
    with pytest.raises(kind) as caught:
        call()
    assert caught.value.code == code, caught.value
    return caught.value


# ---- names


def test_several_arrays_lie_in_one_file(tmp_path):
    path = tmp_path / "data.db"
    for name in ("temperature", "wind/u", "größe::0"):
        zarrcy.create(shape=4, dtype="int8", storage="sqlite", path=path, array_id=name)[:] = len(name)
    assert SQLiteStore(path).array_ids() == sorted(["temperature", "wind/u", "größe::0"])
    SQLiteStore(path, "temperature").delete_prefix("")
    assert zarrcy.open(storage="sqlite", path=path, array_id="wind/u")[:].tolist() == [6] * 4
    with pytest.raises(NodeNotFoundError):
        zarrcy.open(storage="sqlite", path=path, array_id="temperature")


@pytest.mark.parametrize(("name", "array_id"), [("data.db", "a"), ("a b%20?c#d::e;größe", "a/b::c ?#%")])
def test_the_url_opens_the_same_storage(tmp_path, name, array_id):
    store = SQLiteStore(tmp_path / name, array_id)
    store.set("zarr.json", b"{}")
    again = zarrcy.stores.open(store.url)
    assert again == store
    assert again.get("zarr.json") == b"{}"
    assert zarrcy.stores.open(store.url, mode="r").read_only


def test_three_slashes_are_a_relative_path_and_four_an_absolute_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert zarrcy.stores.open("sqlite:///x.db::b") == SQLiteStore(tmp_path / "x.db", "b")
    assert zarrcy.stores.open(f"sqlite:///{tmp_path}/x.db") == SQLiteStore(tmp_path / "x.db")
    for url in ("sqlite://x.db", "sqlite://", "sqlite:///"):
        expect_code("bad_url", lambda url=url: zarrcy.stores.open(url))


def test_a_name_that_is_none_is_refused(tmp_path):
    for path, array_id in (("", "a"), ("a\0b", "a"), ("a.db", ""), ("a.db", "a\nb"), ("a.db", 5)):
        with pytest.raises(ValueError, match="expected"):
            SQLiteStore(path, array_id)


@pytest.mark.parametrize("key", [5, 5.0, True, b"1", np.int64(5), None])
def test_what_is_no_text_is_no_key_though_sqlite_would_take_it_for_one(store, key):
    store.set("5", b"five")
    store.set("5.0", b"five")
    store.set("1", b"one")
    for call in (lambda: store.get(key), lambda: store.set(key, b"x"), lambda: list(store.get_many([(key, None)]))):
        with pytest.raises(ValueError, match="expected printable text"):
            call()


def test_a_pickle_is_the_recipe(tmp_path):
    for options in ({}, {"durable": False}, {"read_only": True}, {"timeout": 3.0}):
        store = SQLiteStore(tmp_path / "data.db", "a", **options)
        again = pickle.loads(pickle.dumps(store))
        assert again == store
        assert again.options() == {"path": str(tmp_path / "data.db"), "array_id": "a"} | options


# ---- errors


def test_a_missing_file_is_an_error_and_not_an_absent_key(tmp_path):
    store = SQLiteStore(tmp_path / "data.db")
    for call in calls(store).values():
        assert "data.db" in str(expect_code("enoent", call))
    assert not list(tmp_path.iterdir())
    store.set("c/0", b"1")
    assert store.get("c/0") == b"1"


def test_a_file_that_was_removed_or_replaced_is_noticed(store, tmp_path):
    store.set("c/0", b"old")
    for path in tmp_path.iterdir():
        path.unlink()
    for call in calls(store).values():
        expect_code("enoent", call)
    with SQLiteStore(tmp_path / "other.db", "a") as other:
        other.set("c/0", b"new")
    (tmp_path / "other.db").rename(tmp_path / "data.db")
    assert store.get("c/0") == b"new"


def test_a_missing_parent_is_an_error_that_names_it(tmp_path):
    error = expect_code("enoent", lambda: SQLiteStore(tmp_path / "no" / "data.db").set("c/0", b"1"))
    assert str(tmp_path / "no") in str(error)
    assert error.hint


def test_a_directory_is_no_database(tmp_path):
    for call in calls(SQLiteStore(tmp_path)).values():
        expect_code("eisdir", call)


def test_what_is_no_database_is_an_error(tmp_path):
    (tmp_path / "data.db").write_bytes(b"something else, and long enough to have a header" * 100)
    store = SQLiteStore(tmp_path / "data.db")
    for call in [*calls(store).values(), lambda: store.set("c/0", b"1")]:
        expect_code("not_a_database", call)


def test_a_database_of_another_program_is_an_error_until_it_is_written_to(tmp_path):
    with closing(sqlite3.connect(tmp_path / "data.db")) as db:
        db.execute("CREATE TABLE others (x)")
    store = SQLiteStore(tmp_path / "data.db")
    for call in calls(store).values():
        expect_code("no_table", call)
    store.set("c/0", b"1")
    assert store.get("c/0") == b"1"


def test_a_table_of_other_columns_is_an_error(tmp_path):
    with closing(sqlite3.connect(tmp_path / "data.db")) as db:
        db.execute(f"CREATE TABLE {sqlite_table.TABLE} (key, value)")
    store = SQLiteStore(tmp_path / "data.db")
    for call in [*calls(store).values(), lambda: store.set("c/0", b"1")]:
        assert "key, value" in str(expect_code("no_table", call))


def test_a_table_that_was_dropped_is_an_error(store, tmp_path):
    store.set("c/0", b"1")
    with closing(sqlite3.connect(tmp_path / "data.db")) as db:
        db.execute(f"DROP TABLE {sqlite_table.TABLE}")
    for call in calls(store).values():
        with pytest.raises(StoreError):
            call()


@pytest.mark.parametrize(("n", "nbytes", "n_least"), [(200, 3000, 100), (3, sqlite_table.READ_NBYTES, 30)])
def test_a_damaged_file_is_an_error_and_never_an_absent_key_or_another_exception(tmp_path, n, nbytes, n_least):
    path = tmp_path / "data.db"
    values = {f"c/{i}": bytes([i]) * nbytes for i in range(n)}
    with SQLiteStore(path) as store:
        store.set_many(values.items())
    whole = path.read_bytes()
    random = np.random.default_rng(5)
    n_noticed = 0
    for _ in range(60):
        data = bytearray(whole)
        page = int(random.integers(1, len(data) // sqlite_table.PAGE_NBYTES)) * sqlite_table.PAGE_NBYTES
        data[page : page + 200] = random.bytes(200)
        path.write_bytes(data)
        with SQLiteStore(path) as store:
            for key, value in values.items():
                try:
                    found = store.get(key)
                except StoreError:
                    n_noticed += 1
                else:
                    # What lies in a value is the codecs' to check.
                    assert found is not None
                    assert len(found) == len(value)
        for name in ("data.db-wal", "data.db-shm"):
            (tmp_path / name).unlink(missing_ok=True)
    assert n_noticed > n_least


def test_repair_names_a_damaged_file(tmp_path):
    path = tmp_path / "data.db"
    with SQLiteStore(path) as store:
        store.set_many((f"c/{i}", b"1") for i in range(5000))
        assert store.repair() != []
        assert store.repair() == []
    data = bytearray(path.read_bytes())
    data[sqlite_table.PAGE_NBYTES * 4 : sqlite_table.PAGE_NBYTES * 4 + 100] = b"\xff" * 100
    path.write_bytes(data)
    with SQLiteStore(path) as store:
        expect_code("corrupt", store.repair)


@contextmanager
def room_for(pages, monkeypatch):
    """Databases of at most so many pages."""
    prepare = Pool._prepare

    def limited(self, connection, creates):
        prepare(self, connection, creates)
        connection.execute(f"PRAGMA max_page_count = {pages}")

    with monkeypatch.context() as patch:
        patch.setattr(Pool, "_prepare", limited)
        yield


def test_a_full_disk_keeps_what_is_there(tmp_path, monkeypatch):
    store = SQLiteStore(tmp_path / "data.db")
    store.set("c/0", b"old")
    store.close()
    with room_for(40, monkeypatch):
        for call in (
            lambda: store.set("c/0", bytes(1 << 20)),
            lambda: store.set_many((f"c/{i}", bytes(200_000)) for i in range(10)),
            lambda: store.set_if("c/1", bytes(1 << 20), None),
        ):
            assert expect_code("enospc", call).hint
        assert list(store.list_prefix()) == ["c/0"]
        assert store.get("c/0") == b"old"
        with pytest.raises(StoreError, match="full"), store.transaction() as tx:
            tx.set("c/0", b"new")
            tx.set("c/1", bytes(1 << 20))
        assert list(store.list_prefix()) == ["c/0"]
        assert store.get("c/0") == b"old"
        store.set("c/0", bytes(300_000))
        assert store.size("c/0") == 300_000
    store.close()


@contextmanager
def without_rights():
    """As a user who is not root: permission bits mean nothing to root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_place():
    """A directory that a user without rights can reach."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        os.chmod(path, 0o755)
        yield Path(path)


def test_what_may_not_be_read_or_written_is_permission_denied(open_place):
    path = open_place / "data.db"
    with SQLiteStore(path) as store:
        store.set("c/0", b"1")
    path.chmod(0o600)
    with without_rights():
        for call in [*calls(store).values(), lambda: store.set("c/0", b"2")]:
            assert expect_code("eacces", call, PermissionDeniedError).hint
    path.chmod(0o644)
    with without_rights():
        # The file may be read; but SQLite could not make the files beside it.
        for call in [*calls(SQLiteStore(path, read_only=True)).values()][:8]:
            assert expect_code("eacces", call, PermissionDeniedError).hint
        expect_code("eacces", lambda: store.set("c/0", b"2"), PermissionDeniedError)
        expect_code("eacces", lambda: SQLiteStore(open_place / "new.db").set("c/0", b"2"), PermissionDeniedError)
    assert store.get("c/0") == b"1"
    store.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_file_on_a_read_only_mount_can_be_read(tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", tmp_path], check=True)
    try:
        with SQLiteStore(tmp_path / "data.db") as store:
            store.set("c/0", b"1")
        subprocess.run(["mount", "-o", "remount,ro", tmp_path], check=True)
        with zarrcy.stores.open(store.url, mode="r") as reader:
            assert reader.get("c/0") == b"1"
        expect_code("erofs", lambda: store.set("c/0", b"2"), ReadOnlyError)
        store.close()
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_read_only_store_refuses_every_change(store):
    store.set("c/0", b"1")
    reader = SQLiteStore(store.path, "a", read_only=True)
    for call in (
        lambda: reader.set("c/0", b"2"),
        lambda: reader.set_many([("c/0", b"2")]),
        lambda: reader.set_if("c/1", b"2", None),
        lambda: reader.delete("c/0"),
        lambda: reader.delete_prefix(""),
        reader.repair,
        reader.compact,
        reader.prepare,
    ):
        with pytest.raises(ReadOnlyError):
            call()
    assert reader.get("c/0") == b"1"
    with reader.transaction() as tx, pytest.raises(ReadOnlyError):
        tx.set("c/0", b"2")
    reader.close()


def test_a_value_over_the_limit_is_refused_before_anything_is_written(store):
    store.set("c/0", b"old")
    too_long = np.zeros(10**9, "u1")  # not touched, so that it takes no memory
    for call in (
        lambda: store.set("c/0", too_long),
        lambda: store.set_if("c/1", too_long, None),
        lambda: store.set_many([("c/0", b"new"), ("c/1", too_long)]),
    ):
        assert expect_code("too_large", call).hint
    assert list(store.list_prefix()) == ["c/0"]
    assert store.get("c/0") == b"old"


def test_the_longest_value_that_is_not_refused_can_be_stored(store, monkeypatch):
    prepare = Pool._prepare

    def limited(self, connection, creates):
        prepare(self, connection, creates)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100_000)

    monkeypatch.setattr(Pool, "_prepare", limited)
    store.close()
    for key in ("c/0", "größe/" * 50 + "0"):
        with pytest.raises(StoreError) as caught:
            store.set(key, bytes(100_000))
        longest = int(caught.value.message.split()[3])
        assert longest > 99_000
        store.set(key, bytes(longest))
        assert store.size(key) == longest
        expect_code("too_large", lambda key=key, n=longest + 1: store.set(key, bytes(n)))


# ---- values and versions


def test_set_many_stores_all_or_none(store):
    with pytest.raises(TypeError):
        store.set_many([("c/0", b"1"), ("c/1", "text")])
    with pytest.raises(ValueError, match="key"):
        store.set_many([("c/0", b"1"), ("../c", b"2")])
    assert list(store.list_prefix()) == []


def test_a_write_of_many_chunks_is_committed_in_a_few_transactions(store, monkeypatch):
    committed = []
    replace_all = sqlite_table.replace_all

    def noted(connection, array_id, items):
        replace_all(connection, array_id, items)
        committed.append(len(items))

    def alone(*arguments):
        raise AssertionError("a chunk was written by itself")

    a = zarrcy.create_array(store, shape=(100, 50), chunks=(1, 50), dtype="int32")
    monkeypatch.setattr(sqlite_table, "replace_all", noted)
    monkeypatch.setattr(sqlite_table, "replace", alone)
    items = np.arange(5000, dtype="int32").reshape(100, 50) + 1
    with zarrcy.use_threads(1):
        a[:] = items
    assert committed == [32, 32, 32, 4]
    assert (zarrcy.open(store)[:] == items).all()


def test_a_version_never_comes_back(store):
    seen = set()
    for _ in range(5):
        for value in (b"1", b"1", b"2"):
            store.set("c/0", value)
            version = store.get_with_version("c/0")[1]
            assert version not in seen
            seen.add(version)
        store.delete("c/0")
        store.compact()
    for version in seen:
        with pytest.raises(ConflictError):
            store.set_if("c/0", b"3", version)
    assert store.get("c/0") is None


def test_parts_of_a_large_value_cost_less_than_the_whole(store):
    value = np.random.default_rng(1).bytes(8 << 20)
    store.set("c/0", value)
    begin = time.thread_time()
    for part in (slice(0, 10), slice(-10, None), slice(4_000_000, 4_100_000), slice(9 << 20, None)):
        assert store.get("c/0", part) == value[part]
    parts = time.thread_time() - begin
    begin = time.thread_time()
    for _ in range(4):
        assert store.get("c/0") == value
    assert parts < time.thread_time() - begin


def test_compacting_gives_space_back(store):
    store.set("c/0", bytes(1 << 20))
    store.delete("c/0")
    store.repair()
    before = os.path.getsize(store.path)
    store.compact()
    store.repair()
    assert os.path.getsize(store.path) < before - (1 << 19)


# ---- locks


def test_a_lock_that_is_never_given_back_is_an_error_in_time_and_readers_go_on(store, tmp_path):
    store.set("c/0", b"1")
    impatient = SQLiteStore(store.path, "a", timeout=0.05)
    with closing(sqlite3.connect(tmp_path / "data.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for call in (
            lambda: impatient.set("c/0", b"2"),
            lambda: impatient.delete("c/0"),
            lambda: impatient.set_many([("c/0", b"2")]),
            lambda: impatient.transaction().__enter__(),
        ):
            assert expect_code("busy", call, UnavailableError).hint
        assert impatient.get("c/0") == b"1"
        other.execute("ROLLBACK")
    impatient.set("c/0", b"2")
    assert store.get("c/0") == b"2"


def test_a_write_beside_the_transaction_of_its_thread_is_refused_at_once(store):
    with store.transaction() as tx:
        tx.set("c/0", b"1")
        expect_code("in_transaction", lambda: store.set("c/1", b"2"))
        expect_code("in_transaction", lambda: store.transaction().__enter__())
    assert list(store.list_prefix()) == ["c/0"]


@pytest.mark.parametrize("holder", ["a transaction of this process", "another program"])
def test_a_thread_stops_waiting_for_the_lock_when_its_call_has_failed(store, holder):
    """It would wait for all of the timeout, two minutes, and the error with it."""
    caller = threading.current_thread()
    both = threading.Barrier(2)

    def work():
        both.wait(10)
        if threading.current_thread() is caller:
            raise RuntimeError("failed")
        store.set("c/0", b"1")

    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        context = store.transaction() if holder.startswith("a transaction") else nullcontext()
        with context:
            if not holder.startswith("a transaction"):
                other.execute("BEGIN IMMEDIATE")
            begin = time.monotonic()
            with pytest.raises(RuntimeError, match="failed"):
                run_with_helpers(work, 2)
            assert time.monotonic() - begin < store.timeout / 4
    assert store.get("c/0") is None


def test_a_thread_whose_turn_another_has_waits_for_it(store):
    order = []

    def write():
        store.set("c/0", b"2")
        order.append("other")

    with store.transaction() as tx:
        tx.set("c/0", b"1")
        thread = threading.Thread(target=write)
        thread.start()
        thread.join(0.1)
        order.append("transaction")
    thread.join()
    assert order == ["transaction", "other"]
    assert store.get("c/0") == b"2"


def test_a_set_waits_for_the_lock_of_another_connection(store, tmp_path):
    store.set("c/0", b"old")
    with closing(sqlite3.connect(tmp_path / "data.db", isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.1, other.execute, ["ROLLBACK"])
        timer.start()
        store.set("c/0", b"new")
        timer.join()
    assert store.get("c/0") == b"new"


def test_a_connection_is_opened_anew_after_a_close_and_the_value_is_the_same(store):
    store.set("c/0", b"1")
    before = store._pool.idle[:]
    store.close()
    assert store.get("c/0") == b"1"
    assert store._pool.idle[0][0] is not before[0][0]
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        before[0][0].execute("SELECT 1")


# ---- transactions


def test_a_transaction_is_seen_whole_at_its_end_and_by_itself_before(store):
    store.set("c/0", b"old")
    store.set("c/1", b"old")
    with store.transaction() as tx:
        tx.set("c/0", b"new")
        tx.delete("c/1")
        tx.set_many([("c/2", b"new"), ("d/0", b"new")])
        tx.delete_prefix("d/")
        version = tx.set_if("c/3", b"1", None)
        tx.set_if("c/3", b"2", version)
        with pytest.raises(ConflictError):
            tx.set_if("c/3", b"3", version)
        tx.update("c/3", lambda value: value + b"!")
        assert sorted(tx.list_prefix()) == ["c/0", "c/2", "c/3"]
        assert list(tx.list_dir()) == ["c/"]
        assert (tx.get("c/0"), tx.get("c/1"), tx.get("c/3")) == (b"new", None, b"2!")
        assert dict(tx.get_many([("c/0", None), ("c/0", slice(1, 2))])) == {0: b"new", 1: b"e"}
        assert sorted(store.list_prefix()) == ["c/0", "c/1"]
        assert store.get("c/0") == b"old"
    assert sorted(store.list_prefix()) == ["c/0", "c/2", "c/3"]
    assert store.get("c/3") == b"2!"


@pytest.mark.parametrize("law", STORE_LAWS)
def test_a_transaction_keeps_the_laws_of_stores(store, law):
    with store.transaction() as tx:
        STORE_LAWS[law](tx)


def test_an_exception_drops_the_changes(store):
    store.set("c/0", b"old")
    with pytest.raises(KeyError), store.transaction() as tx:
        tx.set("c/0", b"new")
        tx.delete_prefix("")
        raise KeyError
    assert store.get("c/0") == b"old"
    with store.transaction() as tx:
        tx.set("c/0", b"next")
    assert store.get("c/0") == b"next"


def test_what_fails_within_a_transaction_leaves_the_rest_of_it(store):
    with store.transaction() as tx:
        tx.set("c/0", b"1")
        with pytest.raises(TypeError):
            tx.set_many([("c/1", b"2"), ("c/2", "text")])
        with pytest.raises(ValueError, match="key"):
            tx.set("../c", b"2")
        tx.set("c/3", b"3")
    assert list(store.list_prefix()) == ["c/0", "c/3"]


def test_a_transaction_that_has_ended_is_an_error(store):
    with store.transaction() as tx:
        tx.set("c/0", b"1")
    for call in [*calls(tx).values(), lambda: tx.set("c/0", b"2")]:
        expect_code("transaction_over", call)
    with pytest.raises(StoreError, match="transaction"):
        pickle.dumps(tx)
    assert store.get("c/0") == b"1"


@pytest.mark.parametrize("shards", [None, (16, 32)])
def test_an_array_joins_a_transaction_with_its_metadata_and_its_threads(store, shards):
    items = np.arange(64 * 64, dtype="int32").reshape(64, 64)
    a = zarrcy.create_array(store, "group/a", shape=(64, 64), chunks=(4, 8), shards=shards, dtype="int32")
    a[:] = items
    with pytest.raises(RuntimeError), store.transaction() as tx:
        zarrcy.open(tx, "group/a")[:] = -1
        raise RuntimeError
    assert (a[:] == items).all()
    with zarrcy.use_threads(8), store.transaction() as tx:
        b = zarrcy.open(tx, "group/a")
        b[:] = items + 1
        b[3:50, 5:61] = items[3:50, 5:61] + 2
        b.resize((70, 64))
        b.attrs["state"] = "done"
        zarrcy.create_array(tx, "group/new", shape=4, dtype="int8")[:] = 1
        assert b[10, 10] == items[10, 10] + 2
        assert (a[:] == items).all()
        assert a.shape == (64, 64)
    after = items + 1
    after[3:50, 5:61] += 1
    a = zarrcy.open(store, "group/a")
    assert (a[:64] == after).all()
    assert a.shape == (70, 64)
    assert a.attrs["state"] == "done"
    assert zarrcy.open(store, "group/new")[:].tolist() == [1] * 4


def test_a_reader_keeps_its_snapshot(store):
    a = zarrcy.create_array(store, shape=100, chunks=10, dtype="int8")
    reader = SQLiteStore(store.path, "a", read_only=True)
    with reader.transaction() as tx:
        snapshot = zarrcy.open(tx)
        for i in range(1, 4):
            a[:] = i
            a.attrs["i"] = i
        assert (snapshot[:] == 0).all()
        assert dict(zarrcy.open(tx).attrs) == {}
    assert (zarrcy.open(reader)[:] == 3).all()
    reader.close()


def test_transactions_of_threads_lose_nothing(store):
    store.set_many([("a", b"0"), ("b", b"0")])

    def work():
        for _ in range(20):
            with store.transaction() as tx:
                a, b = int(tx.get("a")), int(tx.get("b"))
                assert a == b
                tx.set("a", b"%d" % (a + 1))
                tx.set("b", b"%d" % (b + 1))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (store.get("a"), store.get("b")) == (b"160", b"160")


# ---- forks


def fork(function):
    """What a forked child says: nothing when all is well."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function()
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_works_on_after_its_parent_closed_the_file(store, tmp_path):
    """SQLite's last connection deletes the log: a child that counted on its parent's locks would write into nothing."""
    store.set("c/0", b"parent")
    go, went = os.pipe()

    def child():
        store.set("c/1", b"child")
        os.read(go, 1)
        store.set("c/2", b"child again")
        assert store.get("c/0") == b"parent"

    pid = fork(child)
    while store.get("c/1") is None:
        time.sleep(0.001)
    store.close()
    with SQLiteStore(store.path, "a", durable=False) as other:
        assert other.get("c/1") == b"child"
    os.write(went, b"1")
    assert os.waitpid(pid, 0)[1] == 0
    os.close(go)
    os.close(went)
    assert sorted(store.list_prefix()) == ["c/0", "c/1", "c/2"]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_forked_within_a_transaction_refuses_to_touch_the_file(store):
    store.set("c/0", b"old")
    script = []

    def child():
        expect_code("forked", lambda: tx.set("c/0", b"child"))
        expect_code("forked", lambda: store.get("c/0"))
        expect_code("forked", lambda: SQLiteStore(store.path, "b", durable=False).set("c/0", b"child"))
        MemoryStore().set("c/0", b"1")

    with store.transaction() as tx:
        tx.set("c/0", b"new")
        script.append(os.waitpid(fork(child), 0)[1])
        tx.set("c/1", b"new")
    assert script == [0]
    assert (store.get("c/0"), store.get("c/1")) == (b"new", b"new")


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_that_leaves_the_context_of_its_parents_transaction_commits_nothing(store):
    store.set("c/0", b"old")
    context = store.transaction()
    context.__enter__().set("c/0", b"new")
    pid = fork(lambda: expect_code("forked", lambda: context.__exit__(None, None, None)))
    assert os.waitpid(pid, 0)[1] == 0
    assert not context.__exit__(RuntimeError, RuntimeError(), None)
    assert store.get("c/0") == b"old"


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("last", ["get", "size"])
def test_a_fork_waits_for_a_connection_that_was_only_just_taken(store, last):
    """Its thread has not said yet that it works with it, and the one that did before may be the one that forks."""
    store.set("c/0", b"1")
    calls(store)[last]()
    connection = store._pool.idle.pop()[0]
    timer = threading.Timer(0.2, store._pool.give_back, [connection])
    timer.start()
    assert os.waitpid(fork(lambda: store.set("c/0", b"child")), 0)[1] == 0
    timer.join()
    assert store.get("c/0") == b"child"


# ---- speed


@pytest.mark.bounds
def test_get_and_set_cost_little_more_than_the_statement(store, tmp_path):
    """In processor time, with 100 KiB, and of `get` beside the statement and the one look whether the path still leads
    to the file: what calls of the system cost differs between machines, in units of what it costs to copy a value.
    Beside the statement alone, only what takes as long again is noticed.
    """
    values = [os.urandom(100 * 1024) for _ in range(2)]
    with closing(sqlite3.connect(tmp_path / "plain.db", isolation_level=None)) as plain:
        plain.execute("PRAGMA page_size = 16384")
        plain.execute("PRAGMA journal_mode = WAL")
        plain.execute("PRAGMA synchronous = FULL")
        plain.execute("CREATE TABLE plain (key TEXT PRIMARY KEY, value BLOB NOT NULL)")
        n_sets = itertools.count()

        def get_plain(i):
            return plain.execute("SELECT value FROM plain WHERE key = ?", (f"c/{i}",)).fetchone()[0]

        def look_and_get_plain(i):
            os.stat(store.path)
            return get_plain(i)

        def set_plain(i):
            plain.execute("INSERT OR REPLACE INTO plain VALUES (?, ?)", (f"c/{i}", next_value()))

        def next_value():
            # Another one than the key has: pages with the same bytes would not be written again.
            return values[next(n_sets) // 8 % 2]

        for i in range(8):
            set_plain(i)
            store.set(f"c/{i}", next_value())

        def get(i):
            return store.get(f"c/{i}")

        def set_(i):
            store.set(f"c/{i}", next_value())

        assert cpu_times.ratio(get, look_and_get_plain, 1.0) <= 1.0
        assert cpu_times.ratio(get, get_plain, 2.0) <= 2.0
        assert cpu_times.ratio(set_, set_plain, 1.0, n_calls=48) <= 1.0


@pytest.mark.bounds
def test_a_long_value_costs_less_than_the_statement(store):
    """It is copied once, and the statement copies it twice: from 0.2 to 0.8 of it, by what finding memory costs."""
    for i in range(8):
        store.set(f"c/{i}", os.urandom(8 << 20))
    statement = f"SELECT value FROM {sqlite_table.TABLE} WHERE array_id = 'a' AND key = ?"
    with closing(sqlite3.connect(store.path)) as plain:

        def get_plain(i):
            return plain.execute(statement, (f"c/{i}",)).fetchone()[0]

        def get(i):
            return store.get(f"c/{i}")

        assert get(3) == get_plain(3)
        assert cpu_times.ratio(get, get_plain, 0.95, n_calls=4) <= 0.95


# ---- Ctrl-C


SLOW = {
    "a lock that another has": "store.set('c/0', b'1')",
    "a listing": "[list(store.list_prefix()) for _ in range(10**6)]",
    "a deletion": "[store._run(lambda db: slow(db)) for _ in range(1)]",
    "reads of a long value": "[store.get('long') for _ in range(10**6)]",
    "reads of several values": "[list(store.get_many([('long', None), ('c/0', None)])) for _ in range(10**6)]",
}


@pytest.mark.bounds
@pytest.mark.parametrize("what", SLOW)
def test_ctrl_c_is_heard_within_a_second(store, what):
    store.set_many((f"c/{i}", b"1") for i in range(3000))
    store.set("long", bytes(64 << 20))
    script = f"""
import signal, sys, time
from zarrcy.stores.sqlite import SQLiteStore
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it starts in the background
def slow(db):
    db.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) FROM n").fetchone()
store = SQLiteStore({store.path!r}, "a")
store.get("c/0")
print("ready", flush=True)
try:
    {SLOW[what]}
except KeyboardInterrupt:
    assert store.get("c/0") == b"1" and store.get("long", slice(5)) == bytes(5)
    print("heard", flush=True)
"""
    environment = os.environ | {"PYTHONPATH": str(Path(zarrcy.__file__).parents[1])}
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        if "lock" in what:
            other.execute("BEGIN IMMEDIATE")
        child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.1)
        begin = time.perf_counter()
        child.send_signal(signal.SIGINT)
        assert child.communicate(timeout=60)[0] == "heard\n"
        assert child.returncode == 0
        assert time.perf_counter() - begin < 1.5  # of which the interpreter's exit is a part
