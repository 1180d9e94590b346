"""A transaction of `MnesiaStore`: what is written waits here, and is committed in one transaction of Mnesia."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from zarrcy.errors import ConflictError, StoreError
from zarrcy.stores.store import Buffer, Store, Version, check_key, check_prefix, resolve_part

if TYPE_CHECKING:
    from zarrcy.stores.mnesia import MnesiaStore

__all__ = ["MnesiaTransaction", "transaction"]


@contextmanager
def transaction(store: MnesiaStore) -> Iterator[Store]:
    """The context of a transaction; it is committed when no exception leaves it."""
    inside = MnesiaTransaction(store)
    try:
        yield inside
        inside.commit()
    finally:
        inside.end()


class MnesiaTransaction(Store):
    """A store over another one: reads see the changes that wait here, and remember which version they saw.

    Parameters
    ----------
    store : MnesiaStore
        Where it is committed.
    """

    supports_cas = True

    kind = "Transaction"
    persistence = "That of the store"
    scalability = "That of the store"
    latency = "That of the store"
    use = "Changes that come together or not at all"

    def __init__(self, store: MnesiaStore) -> None:
        self.store = store
        self.concurrency = store.concurrency
        self._lock = threading.RLock()
        self._is_open = True
        # What waits: a value, or None for a deletion; and a number that is new with each change.
        self._changes: dict[str, tuple[bytes | None, int]] = {}
        self._n_changes = 0
        self._read: dict[str, Version | None] = {}
        self._listed: tuple[Any, list[str]] | None = None

    @property
    def url(self) -> str:
        return self.store.url

    def options(self) -> dict[str, Any]:
        return {"store": self.store}

    def __reduce__(self) -> tuple[Any, ...]:
        raise StoreError(
            "expected a store that other processes can open, got a transaction of this one",
            store=self.url,
            code="process_local",
            hint="Open the store itself there.",
        )

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def prepare(self) -> None:
        """Make the table if it is missing; that is not part of the transaction."""
        self._check_open()
        self.store.prepare()

    # ---- reading

    def get(self, key: str, part: slice | None = None) -> Buffer | None:
        return self.get_with_version(key, part)[0]

    def get_with_version(
        self, key: str, part: slice | None = None, *, if_version: Version | None = None
    ) -> tuple[Buffer | None, Version | None]:
        check_key(key)
        with self._lock:
            self._check_open()
            change = self._changes.get(key)
        if change is not None:
            value, number = change
            found: tuple[Buffer | None, Version | None] = (_cut(value, part), None if value is None else number)
        else:
            found = self.store.get_with_version(key, part)
            self._remember(key, found[1])
        if if_version is not None and found[1] != if_version:
            raise self.store.conflict(key)
        return found

    def _remember(self, key: str, version: Version | None) -> None:
        """Two reads of a transaction that see different versions cannot be committed: say so at once."""
        with self._lock:
            if self._read.setdefault(key, version) != version:
                raise self.store.conflict(key)

    def size(self, key: str) -> int | None:
        value = self.get(key)
        return None if value is None else len(value)

    def list_prefix(self, prefix: str = "") -> Iterator[str]:
        check_prefix(prefix)
        with self._lock:
            self._check_open()
            if self._listed is None:
                from zarrcy.stores.mnesia import key_of

                digest, records = self.store.list_records()
                self._listed = digest, [key for key in map(key_of, records) if key is not None]
            there = dict.fromkeys(self._listed[1])
            for key, (value, _) in self._changes.items():
                if value is None:
                    there.pop(key, None)
                else:
                    there[key] = None
        return (key for key in there if key.startswith(prefix))

    # ---- writing

    def set(self, key: str, value: Buffer) -> None:
        check_key(key)
        self._change(key, memoryview(value).tobytes())

    def delete(self, key: str) -> None:
        check_key(key)
        self._change(key, None)

    def set_if(self, key: str, value: Buffer, version: Version | None) -> Version:
        copy = memoryview(value).tobytes()
        with self._lock:
            if self.get_with_version(key, slice(0, 0))[1] != version:
                raise self.store.conflict(key)
            return self._change(key, copy)

    def _change(self, key: str, value: bytes | None) -> int:
        with self._lock:
            self._check_open()
            self._n_changes += 1
            self._changes[key] = value, self._n_changes
            return self._n_changes

    # ---- the end

    def commit(self) -> None:
        """Compare what was read, and make all the changes, in one transaction.

        Raises
        ------
        ConflictError
            Another writer changed what was read; nothing was written.
        OutcomeUnknownError
            The connection broke before the answer came.
        """
        from zarrcy.stores.mnesia import record_of

        with self._lock:
            self._check_open()
            self._is_open = False
            if not self._changes:
                return
            written = [(record_of(key), value) for key, (value, _) in self._changes.items() if value is not None]
            try:
                self.store.commit(
                    written,
                    [record_of(key) for key, (value, _) in self._changes.items() if value is None],
                    checks=[(record_of(key), version) for key, version in self._read.items()],
                    listed=None if self._listed is None else self._listed[0],
                )
            except ConflictError as error:
                error.add_note("Nothing of the transaction was written: do it again from the start.")
                raise

    def end(self) -> None:
        """Nothing can be read or written through this store any more."""
        with self._lock:
            self._is_open = False
            self._changes.clear()

    def _check_open(self) -> None:
        if not self._is_open:
            raise StoreError(
                "expected an open transaction, got one that has ended",
                store=self.url,
                code="ended",
                hint="Open arrays anew, over the store or in a new transaction.",
            )


def _cut(value: bytes | None, part: slice | None) -> Buffer | None:
    if value is None or part is None:
        return value
    start, n = resolve_part(part, len(value))
    return memoryview(value)[start : start + n]
