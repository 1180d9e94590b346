"""Any store, with what was read from it kept in a nearer one."""

from __future__ import annotations

import os
import pickle
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, NamedTuple

from zarrcy.errors import StoreError
from zarrcy.stores.cached_entries import Entries, Entry
from zarrcy.stores.store import Buffer, Store, Version, check_key
from zarrcy.stores.wrapper import WrapperStore

__all__ = ["CacheStats", "CachedStore"]


# So many times are remembered of checks of entries that were older than `ttl`.
MAX_CHECKED = 100_000


class CacheStats(NamedTuple):
    """What a cache has done for this object in this process, and how full it is.

    Attributes
    ----------
    hits : int
        Reads that were answered from the cache.
    misses : int
        Reads that were answered by the store.
    evicted : int
        Entries that were deleted to make room.
    failed : int
        Calls of the cache that failed; the store answered instead.
    nbytes : int
        The bytes of all entries now, those of other processes too.
    """

    hits: int
    misses: int
    evicted: int
    failed: int
    nbytes: int


class CachedStore(WrapperStore):
    """A store whose values are kept, as they are read, in another one: a directory or memory in front of a service.

    Each read asks the store for the version of the key, and takes the value from the cache when it is that version: no
    read is stale, and no value is sent twice. Where that round trip costs too much, `ttl` is how old an answer may be.

    Parameters
    ----------
    store : Store
        Where the values are. Writing goes there; what the cache holds of the key is dropped. Closing this one closes
        that one.
    cache : Store
        What holds the copies: a directory of its own, or memory. Any number of processes may share a directory, for
        any number of stores. Closed too.
    max_nbytes : int, default 1 GiB
        The bytes that the cache may hold. Values above a 64th of it are not kept.
    ttl : float, default 0.0
        The seconds for which an entry is given out without asking whether it is still true; ``math.inf`` for data that
        never changes. Changes made through this object are seen at once all the same.

    Raises
    ------
    ValueError
        `ttl` is 0, and the store has no versions to ask for; or a number is negative.

    Notes
    -----
    Parts of values are kept as they were asked for. Absent keys are not kept, and neither are listings.
    `get_with_version`, `update` and `lock` go to the store.

    The entries that this process used longest ago are dropped first; those of other processes count from when this one
    first noticed them. An entry that is damaged is read from the store again. When the cache fails, the store answers.

    Examples
    --------
    >>> from zarrcy.stores.cached import CachedStore
    >>> from zarrcy.stores.memory import MemoryStore
    >>> far = MemoryStore({"c/0": b"value"})
    >>> store = CachedStore(far, MemoryStore())
    >>> store.get("c/0") == store.get("c/0") == b"value"
    True
    >>> store.stats().hits, store.stats().misses
    (1, 1)
    >>> far.set("c/0", b"newer")
    >>> bytes(store.get("c/0"))
    b'newer'
    """

    latency = "That of the cache"
    use = "Reading from a service again and again"

    def __init__(self, store: Store, cache: Store, *, max_nbytes: int = 1 << 30, ttl: float = 0.0) -> None:
        if max_nbytes < 0 or ttl < 0:
            raise ValueError(f"max_nbytes, ttl: expected 0 or more, got {max_nbytes}, {ttl}")
        if not ttl and not store.supports_cas:
            raise ValueError(
                f"ttl: expected the seconds for which a value may be stale, got 0, and {store.url} has no versions"
            )
        super().__init__(store)
        self.cache = cache
        self.max_nbytes, self.ttl = max_nbytes, ttl
        self._entries = Entries(cache, max_nbytes)
        self._space: tuple[int, bytes] = (-1, b"")
        # When an entry was last found to be true, by the wall's clock.
        self._checked: dict[str, float] = {}
        self._n_hits = self._n_misses = self._n_changes = 0
        self._lock = threading.Lock()
        _stores.add(self)

    def options(self) -> dict[str, Any]:
        """The store, the cache and its bounds."""
        options: dict[str, Any] = {"store": self.store, "cache": self.cache, "max_nbytes": self.max_nbytes}
        return {**options, "ttl": self.ttl} if self.ttl else options

    def stats(self) -> CacheStats:
        """What the cache has done so far, and how full it is. It lists the cache."""
        entries = self._entries
        return CacheStats(self._n_hits, self._n_misses, entries.n_evicted, entries.n_failed, entries.nbytes())

    def clear(self) -> None:
        """Empty the cache: what it holds of other stores, too."""
        with self._changing():
            self._entries.clear()

    # ---- reading

    def get(self, key: str, part: slice | None = None) -> Buffer | None:
        check_key(key)
        if part is not None and part.step not in (None, 1):
            return self.store.get(key, part)
        place = self._entries.place(self._name_of_space(), key, part)
        entry = self._entries.read(place)
        if entry is not None and self._is_true(key, place, entry):
            with self._lock:
                self._n_hits += 1
            return entry.value
        return self._fetch(key, part, place, entry)

    def _is_true(self, key: str, place: str, entry: Entry) -> bool:
        """Whether an entry may be given out."""
        now = time.time()
        # A stamp from the future is one of a clock that was set back.
        if self.ttl and 0 <= now - max(entry.time, self._checked.get(place, 0.0)) <= self.ttl:
            return True
        if not self.store.supports_cas or entry.version is None:
            return False
        version = self.store.get_with_version(key, slice(0, 0))[1]
        is_true = version is not None and repr(version) == entry.version
        if is_true and self.ttl:
            if len(self._checked) > MAX_CHECKED:
                self._checked.clear()
            self._checked[place] = now
        return is_true

    def _fetch(self, key: str, part: slice | None, place: str, entry: Entry | None) -> Buffer | None:
        n_changes, now = self._n_changes, time.time()
        value: Buffer | None
        version: Version | None = None
        if self.store.supports_cas:
            value, version = self.store.get_with_version(key, part)
        else:
            value = self.store.get(key, part)
        with self._lock:
            self._n_misses += 1
        if value is None:
            if entry is not None:
                self._drop(place)
            return None
        self._checked.pop(place, None)
        self._entries.write(place, Entry(value, None if version is None else repr(version), now))
        if self._n_changes != n_changes:
            # A write of this process came in between: what was read may be older.
            self._drop(place)
        return value

    def _drop(self, place: str) -> None:
        with self._errors_of_the_cache():
            self._entries.drop(place)

    def _errors_of_the_cache(self) -> AbstractContextManager[None]:
        """With versions an entry that could not be dropped is harmless; else the caller must know."""
        return nullcontext() if self.ttl else suppress(StoreError)

    def _name_of_space(self) -> bytes:
        """What keeps the entries of this store apart from those of others, and of the memory of other processes."""
        process = os.getpid()
        if self._space[0] != process:
            name = self.store.url
            try:
                pickle.dumps(self.store)
            except Exception:  # whatever keeps a store from being pickled keeps it to this process
                name += f" {process} {os.urandom(16).hex()}"
            self._space = process, name.encode("utf-8", "surrogateescape")
        return self._space[1]

    # ---- writing

    @contextmanager
    def _changing(self, *keys: str) -> Iterator[None]:
        """Around a change of these keys, which is made or not: what the cache holds of them is dropped."""
        self._count_change()
        try:
            yield
        finally:
            self._count_change()
            space = self._name_of_space()
            with self._errors_of_the_cache():
                for key in keys:
                    self._entries.forget(space, key)

    def _count_change(self) -> None:
        with self._lock:
            self._n_changes += 1

    def set(self, key: str, value: Buffer) -> None:
        check_key(key)
        with self._changing(key):
            self.store.set(key, value)

    def set_many(self, items: Iterable[tuple[str, Buffer]]) -> None:
        items = list(items)
        for key, _ in items:
            check_key(key)
        with self._changing(*[key for key, _ in items]):
            self.store.set_many(items)

    def set_if(self, key: str, value: Buffer, version: Version | None) -> Version:
        check_key(key)
        with self._changing(key):
            return self.store.set_if(key, value, version)

    def update(self, key: str, change: Callable[[Buffer | None], Buffer]) -> None:
        check_key(key)
        with self._changing(key):
            self.store.update(key, change)

    def delete(self, key: str) -> None:
        check_key(key)
        with self._changing(key):
            self.store.delete(key)

    def delete_prefix(self, prefix: str) -> None:
        with self._changing():
            self.store.delete_prefix(prefix)
        if self.ttl:
            # The places of entries do not tell their keys, and keys that are gone are not listed.
            self.clear()

    def close(self) -> None:
        self.store.close()
        self.cache.close()


_stores: weakref.WeakSet[CachedStore] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # Another thread of the parent may have held them.
    for store in list(_stores):
        store._lock = threading.Lock()
        store._entries.lock = threading.Lock()
        store._entries.pass_lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
