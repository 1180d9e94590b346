"""The store in memory: what the laws do not say."""

import copy
import pickle
import threading

import pytest
from zip_files import in_child

from zarrcy.errors import ConflictError, StoreError
from zarrcy.stores.memory import MemoryStore


def test_a_memory_store_refuses_to_be_pickled_and_says_what_works():
    store = MemoryStore()
    for call in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(StoreError, match="memory of this one") as caught:
            call(store)
        assert "file system store" in caught.value.hint


def test_two_memory_stores_are_equal_when_they_are_one():
    store = MemoryStore()
    assert store == store
    assert store != MemoryStore()
    assert store.url != MemoryStore().url
    assert len({store, store, MemoryStore()}) == 2


def test_reading_copies_nothing():
    store = MemoryStore()
    value = bytes(10_000)
    store.set("c/0", value)
    assert store.get("c/0") is value
    assert store.get("c/0", slice(10, 20)).obj is value


def test_a_part_outlives_the_value_it_was_cut_from():
    store = MemoryStore()
    store.set("c/0", b"abcdef")
    part = store.get("c/0", slice(1, 3))
    store.set("c/0", b"ABCDEF")
    store.delete("c/0")
    assert bytes(part) == b"bc"


def test_a_dict_holds_the_values_itself():
    data = {"zarr.json": b"{}"}
    store = MemoryStore(data)
    assert store.get("zarr.json") == b"{}"
    store.set("c/0", bytearray(b"1"))
    assert data == {"zarr.json": b"{}", "c/0": b"1"}
    assert type(data["c/0"]) is bytes
    del data["zarr.json"]
    assert store.get("zarr.json") is None


def test_one_dict_has_one_store_for_as_long_as_it_is_held():
    data = {}
    store = MemoryStore.over(data)
    assert MemoryStore.over(data) is store
    assert MemoryStore.over({}) is not store


def test_a_change_of_the_dict_behind_the_store_is_another_version():
    data = {}
    store = MemoryStore(data)
    version = store.set_if("n", b"1", None)
    data["n"] = b"two"
    with pytest.raises(ConflictError):
        store.set_if("n", b"3", version)
    assert data == {"n": b"two"}


def test_a_name_stands_for_one_store():
    store = MemoryStore(name="one store")
    assert store.url == "memory://one%20store"
    assert MemoryStore.from_url("memory://one%20store") is store
    with pytest.raises(ValueError, match="one store"):
        MemoryStore(name="one store")
    del store
    assert MemoryStore(name="one store").get("c/0") is None


def test_a_forked_child_has_a_copy_and_is_not_stuck():
    store = MemoryStore()
    store.set("c/0", b"parent")
    with store._lock:

        def child():
            store.set("c/0", b"child")
            return store.get("c/0")

        assert in_child(child) == "b'child'"
    assert store.get("c/0") == b"parent"


def test_names_are_given_to_one_store_each_by_many_threads():
    stores = []
    threads = [threading.Thread(target=lambda: stores.extend(MemoryStore() for _ in range(100))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({store.name for store in stores}) == 800


@pytest.mark.parametrize("meanwhile", [lambda store: store.set("c/0", b"2"), lambda store: store.delete("c/0")])
def test_the_same_value_again_is_another_version(meanwhile):
    store = MemoryStore()
    store.set("c/0", b"1")
    version = store.get_with_version("c/0")[1]
    meanwhile(store)
    store.set("c/0", b"1")
    with pytest.raises(ConflictError):
        store.set_if("c/0", b"3", version)
    assert bytes(store.get("c/0")) == b"1"
