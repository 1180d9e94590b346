"""A transaction of `SQLiteStore`: all calls by one connection, which has begun and is committed at the end."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from zarrcy.errors import StoreError
from zarrcy.stores.sqlite_connections import Connection
from zarrcy.stores.sqlite_values import TableStore

if TYPE_CHECKING:
    from zarrcy.stores.sqlite import SQLiteStore

__all__ = ["SQLiteTransaction"]

T = TypeVar("T")


class SQLiteTransaction(TableStore):
    """The store that `SQLiteStore.transaction` gives. Any thread may use it until the context ends."""

    kind = "Transaction"
    persistence = "That of the store"
    scalability = "That of the store"
    latency = "That of the store"
    use = "Changes that come together or not at all"

    def __init__(self, store: SQLiteStore, connection: Connection) -> None:
        self.store = store
        self.array_id = store.array_id
        self.read_only = store.read_only
        self._connection: Connection | None = connection
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return self.store.url

    def options(self) -> dict[str, Any]:
        return self.store.options()

    def check_alive(self) -> None:
        """Raise `StoreError` when nothing can be read or written through this transaction any more."""
        if self._connection is None:
            raise self._over("an open transaction", "one that has ended", "transaction_over")
        if self._connection.is_inherited:
            raise self._over("a transaction of this process", "that of the parent", "forked")
        if not self._connection.in_transaction:
            raise self._over("an open transaction", "one that an error has rolled back", "transaction_over")

    def _over(self, expected: str, got: str, code: str) -> StoreError:
        hint = "Do all of it within `with store.transaction() as tx`."
        return StoreError(f"expected {expected}, got {got}", store=self.url, code=code, hint=hint)

    def end(self) -> None:
        """Refuse whatever comes after the end of the context."""
        if self._connection is not None and not self._connection.is_inherited:
            with self._lock:
                self._connection = None

    def _run(
        self, work: Callable[[Connection], T], key: str | None = None, *, writes: bool = False, creates: bool = False
    ) -> T:
        self.check_alive()  # before the lock, which a thread of the parent may have held at a fork
        with self._lock:
            self.check_alive()
            assert self._connection is not None
            try:
                return work(self._connection)
            except sqlite3.Error as error:
                raise self.store._pool.error(error, key) from error

    def __reduce__(self) -> tuple[Any, ...]:
        raise StoreError(
            "expected a store that other processes can open, got a transaction of this one",
            store=self.url,
            code="process_local",
            hint="Give the other process the store, and commit first.",
        )

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)
