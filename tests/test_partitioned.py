"""The store that spreads keys over prefixes: where they lie, the record, listings, transactions."""

import collections
import os
import pickle
import subprocess
import sys
import threading

import pytest

import zarrcy
from zarrcy.errors import ConflictError, ReadOnlyError, StoreError, UnavailableError
from zarrcy.stores import copy_store
from zarrcy.stores.filesystem import FilesystemStore
from zarrcy.stores.memory import MemoryStore
from zarrcy.stores.mock import Effect, MockStore, Status
from zarrcy.stores.partitioned import PartitionedStore
from zarrcy.stores.readonly import ReadOnlyStore
from zarrcy.stores.sqlite import SQLiteStore

KEYS = [f"c/{i}/{j}" for i in range(100) for j in range(20)]


class Unversioned(MemoryStore):
    supports_cas = False


def test_keys_are_spread_evenly_and_listed_once():
    below = MemoryStore()
    store = PartitionedStore(below, 16)
    for key in KEYS:
        store.set(key, key.encode())
    assert sorted(store.list_prefix()) == sorted(KEYS) and sorted(store.list_prefix("c/7/")) == sorted(KEYS[140:160])
    assert sorted(store.list_dir()) == ["c/"] and len(list(store.list_dir("c/"))) == 100
    counts = collections.Counter(key.split("/")[0] for key in below.list_prefix() if key != "partitions.json")
    assert sorted(counts) == list("0123456789abcdef")
    assert min(counts.values()) > 80 and max(counts.values()) < 180


def test_a_key_lies_in_the_same_place_in_every_process():
    code = "from zarrcy.stores import *; print(ascii(PartitionedStore(MemoryStore(), 300)._place('größe/0')))"
    store = PartitionedStore(MemoryStore(), 300)
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True, text=True)
        assert done.stdout.strip() == ascii(store._place("größe/0"))
    assert store._place("c/0/0") == "052/c/0/0" and store._place("zarr.json") == "044/zarr.json"


def test_the_number_is_recorded_by_the_first_write_and_not_by_reading():
    for below in (MemoryStore(), Unversioned()):
        store = PartitionedStore(below, 5)
        assert store.get("a") is None and list(store.list_prefix()) == [] and list(below.list_prefix()) == []
        store.set("a", b"1")
        assert below.get("partitions.json") == b'{"n_partitions": 5, "hash": "blake2b-32"}'
        assert PartitionedStore(below).get("a") == PartitionedStore(below, 5).get("a") == b"1"
        assert PartitionedStore(ReadOnlyStore(below)).get("a") == b"1"


@pytest.mark.parametrize(
    ("values", "n", "code"),
    [
        ({"partitions.json": b'{"n_partitions": 5, "hash": "blake2b-32"}'}, 6, "partitions"),
        ({"partitions.json": b'{"n_partitions": 5, "hash": "md5"}'}, 5, "partitions"),
        ({"partitions.json": b'{"n_partitions": true, "hash": "blake2b-32"}'}, 1, "partitions"),
        ({"partitions.json": b'{"n_partitions": 99999, "hash": "blake2b-32"}'}, None, "partitions"),
        ({"partitions.json": b"[]"}, 5, "partitions"),
        ({"partitions.json": b"\xff"}, 5, "partitions"),
        ({"zarr.json": b"{}"}, 5, "not_partitioned"),
        ({}, None, "no_partitions"),
    ],
)
def test_a_store_that_is_partitioned_otherwise_is_refused(values, n, code):
    for call in ("get", "set", "list_prefix", "delete", "delete_prefix"):
        below = MemoryStore(dict(values))
        with pytest.raises(StoreError) as caught:
            getattr(PartitionedStore(below, n), call)(
                *{"set": ["a", b"1"], "list_prefix": []}.get(call, ["a/"[: 1 + (call == "delete_prefix")]])
            )
        assert caught.value.code == code and caught.value.hint
        assert {key: below.get(key) for key in below.list_prefix()} == values
    for n_wrong in (0, 5000):
        with pytest.raises(ValueError, match="1 to 4096"):
            PartitionedStore(MemoryStore(), n_wrong)


def test_of_two_first_writers_with_different_numbers_one_is_refused():
    class Overtaken(Effect):
        def apply(self, delivery):
            PartitionedStore(below.store, 7).set("theirs", b"1")
            return delivery.perform()

    below = MockStore()
    below.arm(Overtaken(), method="set_if")
    with pytest.raises(StoreError) as caught:
        PartitionedStore(below, 5).set("ours", b"1")
    assert caught.value.code == "partitions"
    assert sorted(PartitionedStore(below).list_prefix()) == ["theirs"]
    again = MockStore()
    stores = [PartitionedStore(again, 7) for _ in range(8)]
    threads = [threading.Thread(target=store.set, args=(f"c/{i}", b"1")) for i, store in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(PartitionedStore(again).list_prefix())) == 8


def test_an_error_of_one_prefix_is_the_error_of_the_listing():
    below = MockStore()
    store = PartitionedStore(below, 16)
    store.set("a", b"1")
    below.arm(Status(503), method="list_prefix", key="7/")
    with pytest.raises(UnavailableError):
        store.list_prefix()
    assert list(store.list_prefix()) == ["a"]


def test_an_array_is_flattened_and_partitioned_again(tmp_path):
    store = PartitionedStore(FilesystemStore(tmp_path / "a"), 16)
    zarrcy.create_array(store, "x/y", shape=(50,), chunks=(3,), dtype="int16")[:] = range(50)
    plain = FilesystemStore(tmp_path / "b")
    copy_store(store, plain)
    assert zarrcy.open_array(tmp_path / "b", "x/y")[:].tolist() == list(range(50))
    other = PartitionedStore(MemoryStore(), 100)
    copy_store(plain, other)
    assert zarrcy.open_array(other, "x/y")[:].tolist() == list(range(50))


def test_a_transaction_is_that_of_the_store(tmp_path):
    with PartitionedStore(SQLiteStore(tmp_path / "a.db", "a"), 4) as store:
        store.set("a", b"0")
        with store.transaction() as tx:
            tx.set("a", b"1")
            tx.set("b", b"2")
            assert tx.get("a") == b"1" and sorted(tx.list_prefix()) == ["a", "b"]
        assert store.get("a") == b"1" and store.get("b") == b"2"
        with pytest.raises(ZeroDivisionError), store.transaction() as tx:
            tx.set("a", b"3")
            raise ZeroDivisionError
        assert store.get("a") == b"1"
    with pytest.raises(StoreError, match="transactions"), PartitionedStore(MemoryStore(), 4).transaction():
        pass


def test_it_is_a_wrapper_like_the_others(tmp_path):
    inner = FilesystemStore(tmp_path)
    store = PartitionedStore(inner, 3)
    assert (store.url, store.supports_cas, store.concurrency) == (inner.url, inner.supports_cas, inner.concurrency)
    assert pickle.loads(pickle.dumps(store)) == store != PartitionedStore(inner)
    assert repr(store) == f"PartitionedStore(store={inner!r}, n_partitions=3)"
    assert repr(PartitionedStore(inner)) == f"PartitionedStore(store={inner!r})"
    assert store.native_reader() is None
    version = store.set_if("a", b"1", None)
    with pytest.raises(ConflictError):
        store.set_if("a", b"2", None)
    assert store.get_with_version("a") == (b"1", version)
    with pytest.raises(ReadOnlyError):
        PartitionedStore(ReadOnlyStore(inner)).set("a", b"1")
