"""The laws of many keys at once, of many threads, and of the store as a thing to open, close and hand on."""

from __future__ import annotations

import pickle
import threading
from functools import partial

import numpy as np

from zarrcy.errors import ConflictError, ReadOnlyError, ZarrcyError
from zarrcy.stores.laws import N_STEPS, N_THREADS, Laws, brief, expect, expect_error, expect_value, in_threads, value_of
from zarrcy.stores.readonly import ReadOnlyStore
from zarrcy.stores.store import Store

__all__ = ["LAWS"]

LAWS = Laws()


# Several at once


@LAWS.add
def get_many_answers_every_request_once(store: Store) -> None:
    for i in range(20):
        store.set(f"c/{i}", value_of(i + 1))
    requests = [(f"c/{i % 25}", slice(i % 3, None) if i % 2 else None) for i in range(60)]
    got = dict(store.get_many(iter(requests)))
    expect(sorted(got) == list(range(60)), "get_many: expected every position once")
    for i, (key, part) in enumerate(requests):
        expected, value = store.get(key, part), got[i]
        same = value is expected if expected is None or value is None else bytes(value) == bytes(expected)
        expect(same, f"get_many[{i}] = {key!r}, {part}: expected {brief(expected)}, got {brief(value)}")
    expect(list(store.get_many([])) == [], "get_many: expected no answer to no request")


@LAWS.add
def set_many_stores_them_all(store: Store) -> None:
    items = {f"c/{i}": value_of(i) for i in range(40)}
    store.set_many(iter(items.items()))
    for key, value in items.items():
        expect_value(store, key, value)


# Compare and swap


@LAWS.add
def set_if_creates_only_what_is_absent(store: Store) -> None:
    if not store.supports_cas:
        expect_error(ZarrcyError, lambda: store.set_if("c/0", b"1", None), "set_if without compare-and-swap")
        return
    version = store.set_if("c/0", b"1", None)
    expect(version is not None, "set_if: expected a version")
    expect_error(ConflictError, lambda: store.set_if("c/0", b"2", None), "set_if of a key that exists")
    expect_value(store, "c/0", b"1")
    expect(store.get_with_version("c/1") == (None, None), "get_with_version: expected (None, None) for a missing key")
    expect_error(ConflictError, lambda: store.set_if("c/1", b"2", version), "set_if of a missing key with a version")
    expect_value(store, "c/1", None)


@LAWS.add
def set_if_refuses_a_stale_version(store: Store) -> None:
    if not store.supports_cas:
        return
    first = store.set_if("c/0", b"1", None)
    value, version = store.get_with_version("c/0")
    expect(
        value is not None and bytes(value) == b"1" and version == first, "get_with_version: expected what set_if gave"
    )
    second = store.set_if("c/0", b"22", first)
    expect(second != first, "set_if: expected a new version")
    expect_error(ConflictError, lambda: store.set_if("c/0", b"3", first), "set_if with the version before")
    expect_value(store, "c/0", b"22")
    store.set("c/0", b"4")
    expect_error(ConflictError, lambda: store.set_if("c/0", b"5", second), "set_if after a plain set")
    expect_value(store, "c/0", b"4")


@LAWS.add
def a_version_is_that_of_one_value(store: Store) -> None:
    if not store.supports_cas:
        return
    store.set("c/0", b"1")
    first = store.get_with_version("c/0")[1]
    store.set("c/0", b"2")
    expect_error(ConflictError, lambda: store.set_if("c/0", b"3", first), "set_if of a replaced value")
    second = store.get_with_version("c/0")[1]
    store.delete("c/0")
    for version in (first, second):
        expect_error(ConflictError, partial(store.set_if, "c/0", b"3", version), "set_if of a deleted value")
    expect_value(store, "c/0", None)
    # A store may take the same value again for the same version: nobody's change is lost.
    store.set("c/0", b"1")
    expect_error(ConflictError, lambda: store.set_if("c/0", b"3", second), "set_if of a value before a deletion")
    expect_value(store, "c/0", b"1")


@LAWS.add
def threads_that_update_lose_nothing(store: Store) -> None:
    if not store.supports_cas and store.lock("n") is None:
        return

    def count() -> None:
        for _ in range(10):
            store.update("n", lambda value: str(int(bytes(value or b"0")) + 1).encode())

    in_threads([count] * N_THREADS)
    expect_value(store, "n", str(N_THREADS * 10).encode())


@LAWS.add
def a_versioned_part_belongs_to_its_version(store: Store) -> None:
    if not store.supports_cas:
        return
    store.set("c/0", b"abcdef")
    part, version = store.get_with_version("c/0", slice(-2, None))
    expect(part is not None and bytes(part) == b"ef", f"get_with_version: expected b'ef', got {brief(part)}")
    same = store.get_with_version("c/0", slice(0, 2), if_version=version)
    expect(
        same[0] is not None and bytes(same[0]) == b"ab" and same[1] == version,
        "get_with_version: expected the same version",
    )
    store.set("c/0", b"ABCDEF")
    expect_error(
        ConflictError, lambda: store.get_with_version("c/0", if_version=version), "reading a version that was replaced"
    )
    store.delete("c/0")
    expect_error(
        ConflictError, lambda: store.get_with_version("c/0", if_version=version), "reading a version that was deleted"
    )


@LAWS.add
def threads_that_compare_and_swap_lose_nothing(store: Store) -> None:
    if not store.supports_cas:
        return
    n_increments = 25

    def count() -> None:
        for _ in range(n_increments):
            while True:
                value, version = store.get_with_version("n")
                try:
                    store.set_if("n", str(int(bytes(value or b"0")) + 1).encode(), version)
                except ConflictError:
                    continue
                break

    in_threads([count] * N_THREADS)
    expect_value(store, "n", str(N_THREADS * n_increments).encode())


# Threads


@LAWS.add
def threads_with_keys_of_their_own_do_not_disturb_each_other(store: Store) -> None:
    def work(number: int) -> None:
        random = np.random.default_rng(number)
        model: dict[str, bytes] = {}
        for step in range(N_STEPS):
            key = f"t{number}/{random.integers(6)}"
            action = random.integers(4)
            if action == 0:
                store.delete(key)
                model.pop(key, None)
            elif action == 1:
                got = sorted(store.list_prefix(f"t{number}/"))
                expect(got == sorted(model), f"list_prefix in a thread: expected {sorted(model)}, got {got}")
            else:
                model[key] = value_of(int(random.integers(5000)), seed=step)
                store.set(key, model[key])
            expect_value(store, key, model.get(key))

    in_threads([partial(work, number) for number in range(N_THREADS)])


@LAWS.add
def a_reader_sees_the_old_value_or_the_new_one_whole(store: Store) -> None:
    patterns = [bytes([i]) * n for i, n in ((1, 300_000), (2, 200_000))]
    store.set("c/0", patterns[0])
    done = threading.Event()

    def write() -> None:
        try:
            for i in range(N_STEPS):
                store.set("c/0", patterns[i % 2])
        finally:
            done.set()

    def read() -> None:
        while not done.is_set():
            got = store.get("c/0")
            expect(got is not None, "a value that is being replaced: expected a value, got None")
            expect(bytes(got or b"") in patterns, "a value that is being replaced: expected it whole, got a mixture")

    in_threads([write, read, read, read])


# The store itself


@LAWS.add
def repr_and_url_name_the_storage(store: Store) -> None:
    expect("://" in store.url, f"url: expected a scheme and '://', got {store.url!r}")
    expect(type(store).__name__ in repr(store), f"repr: expected the name of the class, got {store!r}")
    expect(store == store and hash(store) == hash(store), "==: expected a store to equal itself")
    expect(store != object() and store is not None, "==: expected a store to differ from other things")


@LAWS.add
def a_pickle_opens_the_same_storage_or_is_refused(store: Store) -> None:
    canary = b"a value that must not be pickled"
    store.set("c/0", canary)
    store.sync()
    try:
        data = pickle.dumps(store)
    except ZarrcyError:
        return
    expect(canary not in data, "pickle: expected a recipe without values")
    again = pickle.loads(data)
    expect(again.url == store.url, f"pickle: expected {store.url!r}, got {again.url!r}")
    expect(again == store and hash(again) == hash(store), "pickle: expected an equal store")
    expect_value(again, "c/0", canary)
    again.close()


@LAWS.add
def options_open_the_same_storage(store: Store) -> None:
    try:
        pickle.dumps(store)
    except ZarrcyError:
        return
    store.set("c/0", b"1")
    store.sync()
    again = type(store)(**store.options())
    expect(again == store, f"options: expected {store!r}, got {again!r}")
    expect_value(again, "c/0", b"1")
    again.close()


@LAWS.add
def a_closed_store_opens_again(store: Store) -> None:
    store.set("c/0", b"1")
    store.close()
    store.close()
    expect_value(store, "c/0", b"1")
    store.set("c/1", b"2")
    store.sync()
    store.close()
    store.delete("c/0")
    expect(list(store.list_prefix()) == ["c/1"], "after close: expected the store to work as before")


@LAWS.add
def a_read_only_store_reads_and_refuses_to_write(store: Store) -> None:
    store.set("c/0", b"abc")
    readonly = ReadOnlyStore(store)
    expect(readonly.read_only and readonly.url == store.url, "read_only: expected True, and the URL of the store")
    for what, call in (
        ("set", lambda: readonly.set("c/0", b"1")),
        ("set_many", lambda: readonly.set_many([("c/1", b"1")])),
        ("set_if", lambda: readonly.set_if("c/2", b"1", None)),
        ("update", lambda: readonly.update("c/0", lambda old: b"1")),
        ("lock", lambda: readonly.lock("c/0")),
        ("transaction", lambda: readonly.transaction()),
        ("delete", lambda: readonly.delete("c/0")),
        ("delete_prefix", lambda: readonly.delete_prefix("c/")),
        ("repair", lambda: readonly.repair()),
    ):
        expect_error(ReadOnlyError, call, f"{what} of a read-only store")
    expect(list(store.list_prefix()) == ["c/0"], "a read-only store: expected nothing to be written")
    expect_value(store, "c/0", b"abc")


@LAWS.add
def a_read_only_store_answers_as_the_store_does(store: Store) -> None:
    for i in range(10):
        store.set(f"c/{i}", value_of(i))
    readonly = ReadOnlyStore(store)
    for key in ("c/0", "c/9", "c/10"):
        for part in (None, slice(1, 3), slice(-2, None)):
            expected, got = store.get(key, part), readonly.get(key, part)
            same = got is expected if expected is None or got is None else bytes(got) == bytes(expected)
            expect(same, f"get({key!r}, {part}) of a read-only store: expected {brief(expected)}, got {brief(got)}")
        expect(readonly.size(key) == store.size(key) and readonly.exists(key) == store.exists(key), f"size of {key!r}")
        if store.supports_cas:
            version = store.get_with_version(key)[1]
            expect(
                readonly.get_with_version(key)[1] == version, f"get_with_version({key!r}): expected the same version"
            )
    for prefix in ("", "c/", "d/"):
        for what in ("list_prefix", "list_dir"):
            expected_names = sorted(getattr(store, what)(prefix))
            expect(
                sorted(getattr(readonly, what)(prefix)) == expected_names, f"{what}({prefix!r}) of a read-only store"
            )
    requests = [(f"c/{i}", None) for i in range(12)]
    theirs, ours = (
        {i: None if value is None else bytes(value) for i, value in each.get_many(requests)}
        for each in (store, readonly)
    )
    expect(ours == theirs, "get_many of a read-only store: expected the same answers")


@LAWS.add
def a_read_only_store_is_pickled_as_its_store_is(store: Store) -> None:
    store.set("c/0", b"abc")
    store.sync()
    readonly = ReadOnlyStore(store)
    try:
        pickle.dumps(store)
    except ZarrcyError:
        expect_error(ZarrcyError, lambda: pickle.dumps(readonly), "pickle of a read-only store that has no recipe")
        return
    again = pickle.loads(pickle.dumps(readonly))
    expect(again == readonly and again.read_only, "pickle: expected an equal read-only store")
    expect_value(again, "c/0", b"abc")
    expect_error(ReadOnlyError, lambda: again.set("c/0", b"1"), "set of a read-only store from a pickle")
    again.close()
