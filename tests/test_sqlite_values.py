"""Values in `SQLiteStore`: long ones, which are read in another way than short ones; versions; what a call leaves."""

import os
import random
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, nullcontext
from pathlib import Path

import numpy as np
import pytest

import zarrcy
from zarrcy.errors import ConflictError, StoreError
from zarrcy.stores.sqlite import SQLiteStore
from zarrcy.stores.sqlite_connections import Connection
from zarrcy.stores.sqlite_table import BLOB_NBYTES, READ_NBYTES, TABLE

LONG = READ_NBYTES + 5


@pytest.fixture
def store(tmp_path):
    with SQLiteStore(tmp_path / "data.db", "a") as store:
        store.prepare()
        yield store


def reads(store):
    """Every way to read a value, as the bytes of the whole or of its second half."""
    half = slice(LONG // 2, None)
    return {
        "get": lambda key: store.get(key),
        "get of a part": lambda key: store.get(key, half),
        "get_with_version": lambda key: store.get_with_version(key)[0],
        "get_with_version of a part": lambda key: store.get_with_version(key, half)[0],
        "get_many": lambda key: dict(store.get_many([("x", None), (key, None)]))[1],
    }


# ---- long values


@pytest.mark.parametrize("bound", [BLOB_NBYTES, READ_NBYTES])
@pytest.mark.parametrize("inside", [False, True], ids=["a store", "a transaction"])
def test_a_value_and_its_parts_are_the_same_on_both_sides_of_the_length_from_which_it_is_read_otherwise(
    store, bound, inside
):
    values = {f"c/{n}": np.random.default_rng(n + 1).bytes(bound + n) for n in (-1, 0, 1)} | {
        "c/empty": b"",
        "c/s": b"s",
    }
    store.set_many(values.items())
    parts = [slice(0, 0), slice(3, 70), slice(-9, None), slice(bound - 2, None), slice(bound, 2 * bound), slice(9, 3)]
    with store.transaction() if inside else nullcontext(store) as it:
        for key, value in values.items():
            assert it.get(key) == value
            whole, version = it.get_with_version(key)
            assert whole == value
            for part in parts:
                assert it.get(key, part) == value[part]
                assert it.get_with_version(key, part) == (value[part], version)
        requests = [(key, part) for key in (*values, "absent") for part in (None, *parts)]
        expected = [None if key == "absent" else values[key][part or slice(None)] for key, part in requests]
        assert dict(it.get_many(requests)) == dict(enumerate(expected))
        for n in (-1, 0, 1, 2, -2, 1):
            it.set("c/s", values.get(f"c/{n}", bytes(n + 2)))
            assert it.get("c/s") == values.get(f"c/{n}", bytes(n + 2))


def swap(path):
    """Give each of two values the row of the other, as when both are deleted and stored in the other order."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as db:
        db.execute("BEGIN IMMEDIATE")
        db.execute(f"UPDATE {TABLE} SET id = -id")
        db.execute(f"UPDATE {TABLE} SET id = id + 3")
        assert db.execute(f"SELECT min(id), max(id) FROM {TABLE}").fetchone() == (1, 2)
        db.execute("COMMIT")


@pytest.mark.parametrize("how", reads(None))
@pytest.mark.parametrize("inside", [False, True], ids=["a store", "a snapshot"])
def test_a_row_that_became_another_keys_before_its_bytes_are_read_is_not_taken_for_the_value(
    store, monkeypatch, how, inside
):
    values = {"a": b"a" * LONG, "b": b"b" * LONG}
    store.set_many(values.items())
    swapped = []

    def opened(self, *arguments, **options):
        swap(store.path)
        swapped.append(1)
        return sqlite3.Connection.blobopen(self, *arguments, **options)

    reader = SQLiteStore(store.path, "a", read_only=True)
    with reader.transaction() if inside else nullcontext(store) as it:
        monkeypatch.setattr(Connection, "blobopen", opened)
        assert set(reads(it)[how]("a")) == set(b"a")
        assert set(reads(it)[how]("b")) == set(b"b")
    assert swapped
    reader.close()


def test_readers_of_long_values_see_whole_ones_of_their_key_while_others_replace_and_swap_them(store):
    stop = threading.Event()
    keys = ("a", "b")

    def value(key, i):
        return (key.encode() + b"%07d" % i) * ((LONG if i % 3 else 2 * LONG if i % 2 else 80) // 8)

    def write():
        writer = SQLiteStore(store.path, "a", durable=False)
        i = 1
        while not stop.is_set():
            writer.set_many([(key, value(key, i)) for key in keys])
            swap(store.path)
            i += 1
        writer.close()

    store.set_many([(key, value(key, 0)) for key in keys])
    thread = threading.Thread(target=write)
    thread.start()
    try:
        for i in range(200):
            key = keys[i % 2]
            for how, read in reads(store).items():
                found = read(key)
                head = found[LONG // 2 % 8 :][:8] if "part" in how and found else found[:8]
                if "part" not in how:
                    assert found == head * (len(found) // 8) and head.startswith(key.encode()), how
                else:
                    # A short value has no second half.
                    assert set(found) <= set(key.encode() + b"0123456789"), how
                    assert found[:-8] == found[8:], how
            pair = dict(store.get_many([(key, None) for key in keys]))
            assert pair[0][1:8] == pair[1][1:8] and len(pair[0]) == len(pair[1])
    finally:
        stop.set()
        thread.join()


# ---- versions


def test_a_version_that_was_given_is_that_of_the_value_and_another_one_is_a_conflict(store):
    seen = []
    for value in (b"1", bytes(LONG), b"1"):
        store.set("c/0", value)
        seen.append(store.get_with_version("c/0")[1])
        seen.append(store.set_if("c/0", value, seen[-1]))
        assert store.get_with_version("c/0") == (value, seen[-1])
        with pytest.raises(ConflictError):
            store.set_if("c/0", b"2", seen[-2])
    assert len(set(seen)) == 6
    assert store.get("c/0") == b"1"


@pytest.mark.parametrize("version", [2**63, -(2**63) - 1, 2**200, "5", 1.5, b"", ()])
def test_a_version_of_another_store_is_a_conflict(store, version):
    store.set("k", b"1")
    with pytest.raises(ConflictError):
        store.set_if("k", b"2", version)
    with pytest.raises(ConflictError):
        store.get_with_version("k", if_version=version)
    assert store.get("k") == b"1"


def test_a_program_that_seeds_its_random_numbers_gets_new_versions_all_the_same(store):
    versions = set()
    for i in range(4):
        random.seed(1)
        np.random.seed(1)
        versions.add(store.set_if(f"c/{i}", b"1", None))
        store.set(f"d/{i}", b"1")
        versions.add(store.get_with_version(f"d/{i}")[1])
    assert len(versions) == 8


def versions_of_writes(path, name):
    """Write some values, and say which versions they have."""
    with SQLiteStore(path, name, durable=False) as store:
        for i in range(50):
            store.set(f"c/{i}", b"1")
            store.set_if(f"d/{i}", b"1", None)
        return [store.get_with_version(f"{kind}/{i}")[1] for kind in "cd" for i in range(50)]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_no_two_processes_give_the_same_version_whether_forked_or_started(tmp_path):
    path = tmp_path / "data.db"
    found = versions_of_writes(path, "parent")
    with SQLiteStore(path) as store:
        store.set("c/0", b"1")  # its connection is open at the forks
        for number in range(4):
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    os.write(writer, repr(versions_of_writes(path, f"child {number}")).encode())
                finally:
                    os._exit(0)
            os.close(writer)
            with os.fdopen(reader) as pipe:
                found += map(int, pipe.read().strip("[]").split(","))
            assert os.waitpid(child, 0)[1] == 0
            found += versions_of_writes(path, f"parent {number}")
    script = f"import test_sqlite_values as t; print(*t.versions_of_writes({str(path)!r}, 'started'))"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path(zarrcy.__file__).parents[1])])
    }
    for _ in range(2):
        command = [sys.executable, "-c", script.replace("started", f"started {len(found)}")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found += map(int, done.stdout.split())
    assert len(set(found)) == len(found) == 11 * 100


def test_a_table_without_versions_is_an_error_that_says_so(tmp_path):
    with closing(sqlite3.connect(tmp_path / "data.db")) as db:
        db.execute(
            f"CREATE TABLE {TABLE} (id INTEGER PRIMARY KEY AUTOINCREMENT, array_id TEXT NOT NULL, key TEXT NOT NULL, "
            "value BLOB NOT NULL, UNIQUE (array_id, key))"
        )
    store = SQLiteStore(tmp_path / "data.db")
    for call in (lambda: store.get("c/0"), lambda: store.set("c/0", b"1")):
        with pytest.raises(StoreError, match="array_id, key, version, value, got id, array_id, key, value") as caught:
            call()
        assert caught.value.code == "no_table"
        assert "new file" in caught.value.hint


# ---- what a call leaves


def test_a_read_leaves_neither_a_lock_nor_its_value_behind(store, tmp_path, monkeypatch):
    store.set("c/0", os.urandom(1000))
    store.set("c/1", os.urandom(LONG))
    calls = {name: lambda key=key: store.get(key) for name, key in (("short", "c/0"), ("long", "c/1"), ("none", "x"))}
    calls["set"] = lambda: store.set("c/0", os.urandom(1000))
    calls["many"] = lambda: list(store.get_many([("c/0", None), ("c/1", None)]))
    for name, call in calls.items():
        found = call()
        another = os.urandom(1000)
        if isinstance(found, bytes):
            assert sys.getrefcount(found) == sys.getrefcount(another), name
        with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
            other.execute(f"UPDATE {TABLE} SET version = random()")
            # Busy while a reader has a snapshot of what is in the log.
            assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0, name
        assert os.path.getsize(store.path + "-wal") == 0


def test_a_short_read_that_failed_leaves_a_store_that_reads(store, monkeypatch):
    store.set("c/0", b"1")
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute(f"ALTER TABLE {TABLE} RENAME TO hidden")
        for _ in range(3):
            with pytest.raises(StoreError):
                store.get("c/0")
        other.execute(f"ALTER TABLE hidden RENAME TO {TABLE}")
        assert store.get("c/0") == b"1"
        other.execute(f"UPDATE {TABLE} SET version = random()")
        assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
