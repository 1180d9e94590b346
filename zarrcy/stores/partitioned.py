"""Any store, with its keys spread over prefixes, for services that limit the requests of each prefix."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from hashlib import blake2b
from typing import Any, TypeVar

from zarrcy.errors import ConflictError, StoreError
from zarrcy.stores.store import Buffer, Store, Version, check_key, check_prefix
from zarrcy.stores.wrapper import WrapperStore
from zarrcy.thread_count import get_threads
from zarrcy.threads import map_unordered

__all__ = ["PartitionedStore"]

T = TypeVar("T")

# Where the store says how many prefixes it has, and how a key finds its own.
RECORD = "partitions.json"
HASH = "blake2b-32"
MAX_PARTITIONS = 4096


class PartitionedStore(WrapperStore):
    """A store whose keys lie below prefixes, each below the one that its hash chooses.

    A service limits the requests for each prefix, not for all of them: 16 prefixes bear 16 times as many. The names
    of keys stay as they are for who uses this store.

    Parameters
    ----------
    store : Store
        Where the keys lie: below ``0/`` to ``f/`` for 16 prefixes. It belongs to this one alone. Closing this one
        closes that one.
    n_partitions : int, optional
        How many prefixes, 1 to 4096. The first write records the number in the store, as ``partitions.json``; after
        that it may be left out.

    Raises
    ------
    ValueError
        The number is not from 1 to 4096.

    Notes
    -----
    The first use of a store that has another number recorded, that holds keys without being partitioned, or that is
    new while no number was given, is a `zarrcy.StoreError`.

    Other programs do not find an array that is stored like this: `zarrcy.stores.copy_store` brings it back to plain
    keys. Listing asks for every prefix, several at a time.

    Examples
    --------
    >>> from zarrcy.stores.memory import MemoryStore
    >>> from zarrcy.stores.partitioned import PartitionedStore
    >>> plain = MemoryStore()
    >>> store = PartitionedStore(plain, 16)
    >>> store.set("c/0", b"1")
    >>> store.set("c/1", b"2")
    >>> sorted(store.list_prefix())
    ['c/0', 'c/1']
    >>> sorted(plain.list_prefix())
    ['7/c/1', '8/c/0', 'partitions.json']
    """

    scalability = "That of the store, for each prefix"
    use = "Request limits of a prefix"

    def __init__(self, store: Store, n_partitions: int | None = None) -> None:
        if n_partitions is not None and not 1 <= n_partitions <= MAX_PARTITIONS:
            raise ValueError(f"n_partitions: expected 1 to {MAX_PARTITIONS}, got {n_partitions}")
        super().__init__(store)
        self.n_partitions = n_partitions
        # The prefixes, once the record was read or written.
        self._prefixes: list[str] | None = None

    def options(self) -> dict[str, Any]:
        """The store, and the number where it was given."""
        if self.n_partitions is None:
            return {"store": self.store}
        return {"store": self.store, "n_partitions": self.n_partitions}

    # ---- where a key lies

    def _find_prefixes(self, *, to_write: bool) -> list[str]:
        """The prefixes; the store is to have a record of them when something is to be written."""
        if self._prefixes is not None:
            return self._prefixes
        if to_write:
            # What is missing, a directory say, is made by the first write, and cannot be read before.
            self.check_writable()
            self.prepare()
        n = self._recorded()
        if n is None and next(iter(self.store.list_prefix()), None) is not None:
            # Another process may have written its first key in between.
            n = self._recorded()
            if n is None:
                raise StoreError(
                    f"expected an empty store or one with {RECORD}, got keys without it",
                    store=self.url,
                    code="not_partitioned",
                    hint="Open it without PartitionedStore; copy_store copies it into a partitioned one.",
                )
        if n is None and to_write:
            n = self._record()
        if n is not None:
            self._prefixes = prefixes_of(n)
            return self._prefixes
        return prefixes_of(self._wanted())

    def _wanted(self) -> int:
        if self.n_partitions is None:
            raise StoreError(
                f"expected {RECORD}, got an empty store",
                store=self.url,
                key=RECORD,
                code="no_partitions",
                hint="Pass n_partitions to make a new one.",
            )
        return self.n_partitions

    def _recorded(self) -> int | None:
        value = self.store.get(RECORD)
        if value is None:
            return None
        try:
            document = json.loads(bytes(value))
            n, name = document["n_partitions"], document["hash"]
        except (ValueError, KeyError, TypeError) as error:
            raise self._mismatch('{"n_partitions": …, "hash": …}', "another document") from error
        if name != HASH or type(n) is not int or not 1 <= n <= MAX_PARTITIONS:
            raise self._mismatch(f"the hash {HASH!r} and 1 to {MAX_PARTITIONS} partitions", f"{name!r}, {n!r}")
        if self.n_partitions not in (None, n):
            raise self._mismatch(f"{self.n_partitions} partitions", f"{n}")
        return n

    def _mismatch(self, expected: str, got: str) -> StoreError:
        return StoreError(
            f"expected {expected}, got {got}",
            store=self.url,
            key=RECORD,
            code="partitions",
            hint="The number of partitions of a store stays; copy_store copies it into one with another number.",
        )

    def _record(self) -> int:
        n = self._wanted()
        value = json.dumps({"n_partitions": n, "hash": HASH}).encode()
        try:
            if self.supports_cas:
                self.store.set_if(RECORD, value, None)
            else:
                self.store.set(RECORD, value)
        except ConflictError:
            pass  # another process has just written it
        recorded = self._recorded()
        return n if recorded is None else recorded

    def _place(self, key: str, *, to_write: bool = False) -> str:
        check_key(key)
        prefixes = self._find_prefixes(to_write=to_write)
        digest = blake2b(key.encode(), digest_size=4).digest()
        return prefixes[int.from_bytes(digest, "big") % len(prefixes)] + key

    def _in_each(self, work: Callable[[str], T]) -> list[T]:
        """What `work` makes of every prefix, several at a time; the first error stops those that have not begun."""
        prefixes = self._find_prefixes(to_write=False)
        return list(map_unordered(work, prefixes, min(self.concurrency or get_threads(), len(prefixes))))

    # ---- reading

    def get(self, key: str, part: slice | None = None) -> Buffer | None:
        return self.store.get(self._place(key), part)

    def get_many(self, requests: Iterable[tuple[str, slice | None]]) -> Iterator[tuple[int, Buffer | None]]:
        return self.store.get_many((self._place(key), part) for key, part in requests)

    def get_with_version(
        self, key: str, part: slice | None = None, *, if_version: Version | None = None
    ) -> tuple[Buffer | None, Version | None]:
        return self.store.get_with_version(self._place(key), part, if_version=if_version)

    def size(self, key: str) -> int | None:
        return self.store.size(self._place(key))

    def exists(self, key: str) -> bool:
        return self.store.exists(self._place(key))

    def list_prefix(self, prefix: str = "") -> Iterator[str]:
        check_prefix(prefix)
        found = self._in_each(lambda own: [key[len(own) :] for key in self.store.list_prefix(own + prefix)])
        return (key for keys in found for key in keys)

    def list_dir(self, prefix: str = "") -> Iterator[str]:
        check_prefix(prefix)
        found = self._in_each(lambda own: list(self.store.list_dir(own + prefix)))
        return iter(dict.fromkeys(name for names in found for name in names))

    # ---- writing

    def set(self, key: str, value: Buffer) -> None:
        self.store.set(self._place(key, to_write=True), value)

    def set_many(self, items: Iterable[tuple[str, Buffer]]) -> None:
        self.store.set_many((self._place(key, to_write=True), value) for key, value in items)

    def set_if(self, key: str, value: Buffer, version: Version | None) -> Version:
        return self.store.set_if(self._place(key, to_write=True), value, version)

    def update(self, key: str, change: Callable[[Buffer | None], Buffer]) -> None:
        self.store.update(self._place(key, to_write=True), change)

    def delete(self, key: str) -> None:
        self.store.delete(self._place(key))

    def delete_prefix(self, prefix: str) -> None:
        check_prefix(prefix)
        self._in_each(lambda own: self.store.delete_prefix(own + prefix))

    def lock(self, key: str) -> AbstractContextManager[None] | None:
        return self.store.lock(self._place(key, to_write=True))

    @contextmanager
    def transaction(self) -> Iterator[Store]:
        """A transaction of the store, with the same prefixes."""
        with self.store.transaction() as inner:
            yield PartitionedStore(inner, self.n_partitions)


def prefixes_of(n: int) -> list[str]:
    """The prefixes of `n` partitions: hexadecimal numbers of the same length."""
    width = len(f"{n - 1:x}")
    return [f"{i:0{width}x}/" for i in range(n)]
