"""Copies of all keys of a store: to several targets, again, after a break, with a check of what was written."""

import threading

import numpy as np
import pytest

import zarrcy
from zarrcy.errors import NodeNotFoundError, ReadOnlyError, StoreError, UnavailableError
from zarrcy.stores import copy_store
from zarrcy.stores.filesystem import FilesystemStore
from zarrcy.stores.key_copies import Run
from zarrcy.stores.memory import MemoryStore
from zarrcy.stores.mock import Crash, Crashed, Fault, Flip, MockStore, Status, Truncate
from zarrcy.stores.readonly import ReadOnlyStore
from zarrcy.stores.zip import ZipStore


def values_of(store):
    return {key: bytes(store.get(key)) for key in store.list_prefix()}


@pytest.fixture
def source():
    values = {f"{name}/c/{i}": bytes([i]) * i for name in ("a", "b") for i in range(30)}
    return MockStore(MemoryStore({"zarr.json": b"{}", **values}))


def test_several_targets_get_every_value_and_each_is_read_once(source, tmp_path):
    targets = [MemoryStore(), FilesystemStore(tmp_path / "a"), ZipStore(tmp_path / "a.zip", mode="w")]
    done = copy_store(source, *targets)
    assert done == (183, 0, 0, 3 * (2 + 2 * sum(range(30))))
    assert source.call_count("get") == 61
    for target in targets:
        assert values_of(target) == values_of(source.store)
        target.close()


def test_a_second_copy_writes_what_has_changed(source):
    target = MockStore()
    copy_store(source, target)
    source.store.set("a/c/3", b"other")
    source.store.set("new", b"1")
    source.store.delete("b/c/1")
    target.reset()
    assert copy_store(source, target) == (2, 59, 0, 6)
    assert sorted(call.key for call in target.calls("set")) == ["a/c/3", "new"]
    assert target.store.get("b/c/1") == b"\1"
    assert copy_store(source, target, delete=True) == (0, 61, 1, 0)
    assert values_of(target.store) == values_of(source.store)


def test_a_prefix_leaves_the_rest_alone(source):
    target = MemoryStore({"a/old": b"1", "b/old": b"2"})
    assert copy_store(source, target, prefix="a/", delete=True).deleted == 1
    assert sorted(values_of(target)) == sorted(["b/old", *(f"a/c/{i}" for i in range(30))])


def test_a_copy_that_broke_off_anywhere_is_finished_by_the_next_one(source):
    for n in range(1, 62, 6):
        for effect, kind in ((Status(503), UnavailableError), (Crash(), Crashed), (Crash(stored=True), Crashed)):
            target = MockStore(MemoryStore({"gone": b"1"}), [Fault(effect, method="set", nth=n, times=1)])
            with pytest.raises(kind):
                copy_store(source, target, delete=True)
            assert target.store.get("gone") == b"1"
            before = len(values_of(target.store)) - 1
            target._run.is_dead = False
            assert copy_store(source, target, delete=True)[:3] == (61 - before, before, 1)
            assert values_of(target.store) == values_of(source.store)


def hierarchy(zarr_format, is_consolidated):
    """A group with arrays and groups of both kinds of keys, and the metadata and items of each node."""
    store = MemoryStore()
    options = {"zarr_format": zarr_format, "chunks": (2, 2), "shape": (4, 4), "dtype": "int16"}
    root = zarrcy.create_group(store, zarr_format=zarr_format, attributes={"title": "all"})
    for i, name in enumerate(("a", "g/a", "g/h/a")):
        root.create_array(name, attributes={"number": i}, **options)[...] = np.arange(16).reshape(4, 4) + i
    root["g"].attrs["title"] = "some"
    zarrcy.create_array(store, "s", shape=(), dtype="int8", zarr_format=zarr_format)[...] = 5
    if is_consolidated:
        zarrcy.consolidate_metadata(store)
    return store


def seen_in(store, path, mode):
    """What a reader sees of a node and all below it; None where there is no node."""
    try:
        node = zarrcy.open(store, path, mode=mode)
    except NodeNotFoundError:
        return None
    below = list(node.members(None)) if isinstance(node, zarrcy.Group) else []
    return [
        (name, dict(each.attrs), each[...].tolist() if isinstance(each, zarrcy.Array) else None)
        for name, each in [("", node), *below]
    ]


PATHS = ("", "a", "g", "g/a", "g/h", "g/h/a", "s")


def n_whole(store, whole):
    """How many of the nodes can be opened; each of them is whole."""
    found = 0
    for (path, mode), expected in whole.items():
        seen = seen_in(store, path, mode)
        assert seen is None or seen == expected
        found += seen is not None
    return found


@pytest.mark.parametrize("is_consolidated", [False, True])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_what_can_be_opened_while_a_copy_is_under_way_is_whole(zarr_format, is_consolidated):
    source = hierarchy(zarr_format, is_consolidated)
    whole = {(path, mode): seen_in(source, path, mode) for path in PATHS for mode in ("r", "r+")}
    n_keys = len(values_of(source))
    counts = []
    for n in range(1, n_keys + 1):
        target = MockStore(MemoryStore(), [Fault(Crash(), method="set", nth=n)])
        with pytest.raises(Crashed):
            copy_store(source, target)
        counts.append(n_whole(target.store, whole))
        target._run.is_dead = False
        assert copy_store(source, target.store)[:2] == (n_keys - n + 1, n - 1)
        assert values_of(target.store) == values_of(source)
    assert counts == sorted(counts) and counts[0] == 0 and counts[-1] in (len(whole) - 2, len(whole))
    assert len(set(counts)) > 3


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_what_can_be_opened_while_a_copy_deletes_is_whole(zarr_format):
    old = hierarchy(zarr_format, False)
    whole = {(path, "r"): seen_in(old, path, "r") for path in ("a", "g/a", "g/h/a", "s")}
    n_keys = len(values_of(old))
    source = MemoryStore({"other": b"1"})
    for n in range(1, n_keys + 1):
        target = MockStore(MemoryStore(values_of(old)), [Fault(Crash(), method="delete", nth=n)])
        with pytest.raises(Crashed):
            copy_store(source, target, delete=True)
        n_whole(target.store, whole)


def test_a_target_that_gives_back_another_value_is_an_error(source):
    for effect in (Flip(), Truncate()):
        target = MockStore(faults=[Fault(effect, method="set", key="a/c/7", times=1)])
        with pytest.raises(StoreError) as caught:
            copy_store(source, target)
        assert (caught.value.code, caught.value.key, caught.value.store) == ("verify", "a/c/7", target.url)
        copy_store(source, target)
        assert values_of(target.store) == values_of(source.store)
    target = MockStore()
    copy_store(source, target, verify=False)
    assert target.call_count("get") == 0


def test_an_error_lets_no_thread_begin_another_key(source, monkeypatch):
    begun, has_ended, drain = [], threading.Event(), Run.drain

    def drain_and_tell(run):
        try:
            drain(run)
        finally:
            has_ended.set()

    class Fails(MemoryStore):
        def get(self, key, part=None):
            begun.append(key)
            if key != begun[0]:
                has_ended.wait(60)
                return super().get(key, part)
            raise StoreError("expected a value, got none", key=key)

    monkeypatch.setattr(Run, "drain", drain_and_tell)
    with zarrcy.use_threads(4), pytest.raises(StoreError):
        copy_store(Fails(values_of(source.store)), MemoryStore())
    assert len(begun) <= 4


def test_progress_counts_every_key_once_and_one_at_a_time(source):
    seen, busy = [], threading.Lock()

    def progress(done, total):
        assert busy.acquire(blocking=False)
        seen.append((done, total))
        busy.release()

    copy_store(source, MemoryStore(), progress=progress)
    assert seen == [(i, 61) for i in range(1, 62)]


def test_copies_run_as_many_requests_as_the_stores_like():
    class Wide(MemoryStore):
        concurrency = 8
        barrier = threading.Barrier(8, timeout=30)

        def get(self, key, part=None):
            self.barrier.wait()
            return super().get(key, part)

    source = Wide({f"c/{i}": b"1" for i in range(16)})
    assert copy_store(source, MemoryStore()).copied == 16


def test_what_cannot_be_a_target_is_refused_before_anything_is_written(source, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    inside = FilesystemStore(tmp_path / "a" / "b")
    inside.set("x", b"1")
    for target in (FilesystemStore(tmp_path / "a"), FilesystemStore(tmp_path / "link"), inside):
        with pytest.raises(ValueError, match="apart from"):
            copy_store(inside, MemoryStore(), target, delete=True)
    with pytest.raises(ValueError, match="at least one"):
        copy_store(source)
    with pytest.raises(ReadOnlyError):
        copy_store(source, ReadOnlyStore(MemoryStore()))
    with pytest.raises(ValueError, match="prefix"):
        copy_store(source, MemoryStore(), prefix="a")
    assert copy_store(MemoryStore(), MemoryStore()) == (0, 0, 0, 0)
