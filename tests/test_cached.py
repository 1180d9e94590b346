"""The cache in front of a store: never stale when it asks, never torn, within its size, shared; what it counts."""

import math
import os
import pickle
import random
import threading

import numpy as np
import pytest
from child_scripts import run_script
from zip_files import fork

import zarrcy
from zarrcy.errors import OutcomeUnknownError, StoreError, UnavailableError
from zarrcy.stores import cached
from zarrcy.stores.cached import CachedStore
from zarrcy.stores.filesystem import FilesystemStore
from zarrcy.stores.memory import MemoryStore
from zarrcy.stores.mock import DiskFull, Effect, Fault, Flip, MockStore, Reset, Status, Truncate
from zarrcy.stores.readonly import ReadOnlyStore
from zarrcy.stores.sqlite import SQLiteStore


class Unversioned(MemoryStore):
    supports_cas = False


@pytest.fixture
def wall(monkeypatch):
    """The wall's clock, which a test may set."""

    class Wall:
        now = 1000.0

        def time(self):
            return self.now

    wall = Wall()
    monkeypatch.setattr(cached, "time", wall)
    return wall


def in_front_of(far, near=None, **options):
    return CachedStore(far, MemoryStore() if near is None else near, **options)


def counts(store):
    return store.stats()[:2]


# What is asked of the store


def test_a_value_is_sent_once_and_its_version_is_asked_for_each_time():
    far = MockStore(MemoryStore({"a": b"abcdef"}))
    store = in_front_of(far)
    for _ in range(3):
        assert store.get("a") == b"abcdef" and store.get("a", slice(-2, None)) == b"ef"
    assert counts(store) == (4, 2)
    parts = [call.part for call in far.journal]
    assert parts == [None, slice(-2, None)] + [slice(0, 0)] * 4
    assert far.call_count("get") == 0


def test_a_value_that_changed_behind_it_is_never_stale():
    far = MemoryStore()
    store = in_front_of(far)
    choice, model = random.Random(1), {}
    for i in range(5000):
        key = f"c/{choice.randrange(20)}"
        what = choice.choice(["far", "near", "gone", "get", "get", "get", "part"])
        if what == "far":
            model[key] = b"%d" % i
            far.set(key, model[key])
        elif what == "near":
            model[key] = b"%d" % i
            store.set(key, model[key])
        elif what == "gone":
            model.pop(key, None)
            choice.choice([far, store]).delete(key)
        elif what == "get":
            assert store.get(key) == model.get(key)
        else:
            assert store.get(key, slice(1, 3)) == (model[key][1:3] if key in model else None)
    assert min(counts(store)) > 500


def test_readers_beside_a_writer_never_see_what_was_replaced_before_they_asked(tmp_path):
    far = SQLiteStore(tmp_path / "a.db", "a")
    far.set("n", b"0")
    store = in_front_of(far)
    done, wrong = threading.Event(), []

    def read():
        while not done.is_set():
            before = int(far.get("n"))
            found = int(bytes(store.get("n")))
            if found < before:
                wrong.append((before, found))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i in range(1, 100):
        far.set("n", b"%d" % i)
    done.set()
    for thread in threads:
        thread.join()
    far.close()
    assert wrong == []


def test_absent_keys_and_errors_are_not_kept():
    far = MockStore(MemoryStore())
    store = in_front_of(far)
    assert store.get("a") is None
    far.set("a", b"1")
    far.arm(Status(503), method="get_with_version")
    with pytest.raises(UnavailableError):
        store.get("a")
    assert store.get("a") == b"1"
    far.arm(Status(503), method="get_with_version")
    with pytest.raises(UnavailableError):
        store.get("a")


def test_without_versions_staleness_must_be_asked_for():
    with pytest.raises(ValueError, match="has no versions"):
        in_front_of(Unversioned())
    for options in ({"ttl": -1}, {"max_nbytes": -1}):
        with pytest.raises(ValueError, match="0 or more"):
            in_front_of(MemoryStore(), **options)


@pytest.mark.parametrize("kind", [MemoryStore, Unversioned])
def test_an_entry_is_trusted_for_its_time_and_asked_about_after_that(kind, wall):
    far = MockStore(kind({"a": b"1"}))
    store = in_front_of(far, ttl=60)
    assert store.get("a") == b"1"
    n = far.call_count()
    wall.now += 59
    far.store.set("a", b"2")
    assert store.get("a") == b"1" and far.call_count() == n
    wall.now += 2
    assert store.get("a") == b"2"
    n = far.call_count()
    wall.now += 61
    assert store.get("a") == b"2" and far.call_count() == n + 1  # versions are asked for, else the value
    assert store.get("a") == b"2" and far.call_count() == n + 1
    wall.now -= 1000
    store.get("a")
    assert far.call_count() == n + 2


def test_for_ever_means_that_the_store_is_not_asked_again():
    far = MockStore(Unversioned({"a": b"1"}))
    store = in_front_of(far, ttl=math.inf)
    for _ in range(5):
        assert store.get("a") == b"1"
    assert far.call_count() == 1


# Writing


@pytest.mark.parametrize("ttl", [0, math.inf])
def test_what_is_written_through_it_is_seen_at_once(ttl):
    far = MemoryStore()
    store = in_front_of(far, ttl=ttl)

    def seen():
        return [None if value is None else bytes(value) for value in (store.get("c/0"), store.get("c/0", slice(1)))]

    for change, value in (
        (lambda: store.set("c/0", b"12"), b"12"),
        (lambda: store.set_many([("c/0", b"23")]), b"23"),
        (lambda: store.set_if("c/0", b"34", store.get_with_version("c/0")[1]), b"34"),
        (lambda: store.update("c/0", lambda old: bytes(old) + b"5"), b"345"),
        (lambda: store.delete("c/0"), None),
        (lambda: store.set("c/0", b"67"), b"67"),
        (lambda: store.delete_prefix("c/"), None),
    ):
        change()
        assert seen() == [value, value and value[:1]] == seen()
        assert far.get("c/0") == value


def test_a_write_that_may_have_happened_is_seen():
    far = MockStore(MemoryStore({"a": b"1"}))
    store = in_front_of(far, ttl=math.inf)
    assert store.get("a") == b"1"
    far.arm(Reset(stored=True), method="set")
    with pytest.raises(OutcomeUnknownError):
        store.set("a", b"2")
    assert store.get("a") == b"2"


def test_a_read_that_a_write_overtook_leaves_no_old_value():
    class Overtaken(Effect):
        def apply(self, delivery):
            answer = delivery.perform()
            store.set("a", b"new")
            return answer

    far = MockStore(MemoryStore({"a": b"old"}))
    store = in_front_of(far, ttl=math.inf)
    far.arm(Overtaken(), method="get_with_version")
    assert store.get("a") == b"old"
    assert store.get("a") == b"new"


def test_what_cannot_be_dropped_is_an_error_where_it_would_be_seen():
    for ttl in (0, math.inf):
        near = MockStore()
        store = in_front_of(MemoryStore({"a": b"1"}), near, ttl=ttl)
        store.get("a")
        near.arm(Status(403), method="list_prefix")
        if ttl:
            with pytest.raises(StoreError):
                store.set("a", b"2")
        else:
            store.set("a", b"2")
            assert store.get("a") == b"2"


# The cache


@pytest.mark.parametrize("effect", [Truncate(), Truncate(keep=0), Flip(), Flip(20)])
def test_a_damaged_entry_is_read_from_the_store_again(effect):
    near = MockStore()
    store = in_front_of(MemoryStore({"a": bytes(range(200))}), near, ttl=math.inf)
    for _ in range(20):
        store.get("a")
        near.arm(effect, method="get")
        assert store.get("a") == bytes(range(200))


def test_when_the_cache_fails_the_store_answers():
    for effect in (DiskFull(), Status(403)):
        near = MockStore(faults=[Fault(effect, method=("get", "set", "get_with_version", "set_if"))])
        store = in_front_of(MemoryStore({"a": b"1"}), near)
        assert store.get("a") == store.get("a") == b"1"
        assert store.stats().failed >= 2 and store.stats().hits == 0


def test_it_stays_within_its_size_and_drops_what_was_used_longest_ago(tmp_path):
    far = MemoryStore({f"c/{i}": bytes(1000) for i in range(500)})
    for near in (MemoryStore(), FilesystemStore(tmp_path / "cache")):
        store = in_front_of(far, near, max_nbytes=100_000)
        for i in range(500):
            store.get(f"c/{i}")
            store.get("c/0")
            if i % 50 == 0:
                assert store.stats().nbytes <= 100_000
        stats = store.stats()
        assert stats.hits == 500 and stats.misses == 500 and stats.evicted > 350 and stats.nbytes > 60_000
        for i in range(440, 500):
            store.get(f"c/{i}")
        assert store.stats().hits == 560
        store.clear()
        assert store.stats().nbytes == 0
        store.get("c/0")
        store.get("c/0")
        assert store.stats().hits == 561


def test_a_value_that_is_too_large_and_a_cache_without_room_are_read_through():
    far = MemoryStore({"a": bytes(10_000)})
    for max_nbytes in (0, 10, 100_000):
        store = in_front_of(far, max_nbytes=max_nbytes)
        assert store.get("a") == store.get("a") == bytes(10_000)
        assert store.stats() == (0, 2, 0, 0, 0)


def test_a_damaged_record_is_counted_anew():
    far = MemoryStore({f"c/{i}": bytes(1000) for i in range(300)})
    near = MemoryStore()
    store = in_front_of(far, near, max_nbytes=100_000)
    for i in range(300):
        if i % 40 == 20:
            near.set("nbytes", b"nonsense")
        store.get(f"c/{i}")
        assert sum(near.size(key) for key in near.list_prefix() if key != "nbytes") <= 100_000
    assert store.stats().nbytes > 50_000


def test_threads_that_fill_it_stay_within_its_size():
    far = MemoryStore({f"c/{i}": bytes(1000) for i in range(400)})
    store = in_front_of(far, max_nbytes=100_000)

    def read(seed):
        choice = random.Random(seed)
        for _ in range(400):
            assert store.get(f"c/{choice.randrange(400)}") == bytes(1000)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = store.stats()
    assert stats.nbytes <= 100_000 and stats.hits + stats.misses == 3200 and stats.hits > 100


def test_several_stores_share_a_cache_and_do_not_mix(tmp_path):
    near = FilesystemStore(tmp_path / "cache")
    stores = [in_front_of(FilesystemStore(tmp_path / name), near, ttl=math.inf) for name in ("a", "b")]
    stores += [in_front_of(MemoryStore(), near, ttl=math.inf) for _ in range(2)]
    for i, store in enumerate(stores):
        store.set("zarr.json", b"%d" % i)
    for _ in range(2):
        assert [bytes(store.get("zarr.json")) for store in stores] == [b"0", b"1", b"2", b"3"]
    again = in_front_of(FilesystemStore(tmp_path / "a"), near, ttl=math.inf)
    assert again.get("zarr.json") == b"0" and counts(again) == (1, 0)


# Between processes


def test_200_killed_fillers_leave_no_torn_and_no_stale_value_and_the_size_holds(tmp_path):
    assert "200 fillers killed" in run_script("cache_workers.py", "kills", tmp_path, 200, timeout=300)


def test_8_processes_share_a_cache_while_the_values_change(tmp_path):
    assert "8 readers" in run_script("cache_workers.py", "shares", tmp_path, 300, timeout=300)


def test_a_forked_child_has_entries_of_its_own_for_memory_of_its_own(tmp_path):
    far = MemoryStore({"a": b"1"})
    store = in_front_of(far, FilesystemStore(tmp_path / "cache"))
    store.get("a")
    with store._lock, store._entries.lock, store._entries.pass_lock:
        child = fork()
        if child == 0:
            far.set("a", b"child")
            os._exit(0 if store.get("a") == b"child" == bytes(store.get("a")) else 1)
    far.set("a", b"parent")
    assert os.waitpid(child, 0)[1] == 0
    assert store.get("a") == b"parent" == bytes(store.get("a"))


# The store as a thing to hand on


def test_it_is_a_wrapper_like_the_others(tmp_path):
    inner, near = FilesystemStore(tmp_path / "a"), FilesystemStore(tmp_path / "cache")
    store = CachedStore(inner, near, ttl=5)
    assert (store.url, store.supports_cas, store.concurrency) == (inner.url, inner.supports_cas, inner.concurrency)
    assert pickle.loads(pickle.dumps(store)) == store != CachedStore(inner, near)
    assert repr(store) == f"CachedStore(store={inner!r}, cache={near!r}, max_nbytes={1 << 30}, ttl=5)"
    assert store.native_reader() is None and in_front_of(ReadOnlyStore(inner)).read_only
    with pytest.raises(StoreError, match="transactions"):
        store.transaction()


def test_an_array_is_read_twice_and_sent_once(tmp_path):
    far = MockStore(MemoryStore())
    zarrcy.create_array(far, shape=(100, 100), chunks=(10, 100), dtype="int32")[:] = np.arange(10_000).reshape(100, 100)
    store = CachedStore(far, FilesystemStore(tmp_path / "cache"), ttl=math.inf)
    for _ in range(2):
        assert zarrcy.open_array(store, mode="r")[:].sum() == 49_995_000
        n = far.call_count("read")
    assert far.call_count("read") == n
    assert store.stats().hits >= 10
