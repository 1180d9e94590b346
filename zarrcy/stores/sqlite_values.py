"""The methods of a store over the table of SQLite, by whatever connection: of `SQLiteStore`, and of its transaction."""

from __future__ import annotations

import itertools
import sqlite3
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from zarrcy.errors import StoreError
from zarrcy.stores import sqlite_table
from zarrcy.stores.sqlite_connections import Connection
from zarrcy.stores.store import Buffer, Store, Version, check_key, check_prefix

__all__ = ["ROW_NBYTES", "TableStore", "contiguous"]

T = TypeVar("T")

# Of the limit on the length of a value, what SQLite may need for the rest of the row, beside the texts in it.
ROW_NBYTES = 64

# Of the chunks that wait for their transaction, in all threads: one of 8 MiB takes a tenth of a second, and ends
# before Ctrl-C is heard.
BYTE_BUDGET = 16 << 20

N_REQUESTS = 64  # keys that `get_many` asks for in one statement


class TableStore(Store):
    """Values in the table, over whatever connection `_run` has."""

    supports_cas = True
    batch = 32
    byte_budget = BYTE_BUDGET

    array_id: str

    @abstractmethod
    def _run(
        self, work: Callable[[Connection], T], key: str | None = None, *, writes: bool = False, creates: bool = False
    ) -> T:
        """What `work` makes of a connection."""

    def get(self, key: str, part: slice | None = None) -> bytes | None:
        """The value of a key, or a part of it. See `zarrcy.stores.Store.get`.

        Raises
        ------
        StoreError
            There is no such file, it is damaged, or no SQLite file with the table of this store.
        """
        check_key(key)
        return self._run(lambda connection: sqlite_table.read(connection, self.array_id, key, part), key)[0]

    def size(self, key: str) -> int | None:
        """The length of a value in bytes, without reading it; ``None`` when there is no such key."""
        check_key(key)
        return self._run(lambda connection: sqlite_table.size(connection, self.array_id, key), key)

    def set(self, key: str, value: Buffer) -> None:
        """Store a value, replacing an older one. See `zarrcy.stores.Store.set`.

        Raises
        ------
        UnavailableError
            Another writer had the lock of the file for ``timeout`` seconds.
        StoreError
            It could not be written, or is longer than SQLite takes (``code="too_large"``); the old value is there.
        """
        self.check_writable()
        check_key(key)
        value = contiguous(value)

        def work(connection: Connection) -> None:
            self._check_length(connection, key, value)
            sqlite_table.replace(connection, self.array_id, key, value)

        self._run(work, key, writes=True, creates=True)

    def delete(self, key: str) -> None:
        """Delete a key. An absent key is fine."""
        self.check_writable()
        check_key(key)
        self._run(lambda connection: sqlite_table.delete(connection, self.array_id, key), key, writes=True)

    def get_with_version(
        self, key: str, part: slice | None = None, *, if_version: Version | None = None
    ) -> tuple[bytes | None, Version | None]:
        """A value, or a part of it, and the version of the whole value: 64 random bits, new with each write."""
        check_key(key)
        value, version = self._run(lambda connection: sqlite_table.read(connection, self.array_id, key, part), key)
        if if_version is not None and version != if_version:
            raise self._conflict(key)
        return value, version

    def set_if(self, key: str, value: Buffer, version: Version | None) -> Version:
        """Store a value if the key still has that version. See `zarrcy.stores.Store.set_if`."""
        self.check_writable()
        check_key(key)
        value = contiguous(value)
        if not (version is None or (isinstance(version, int) and -(2**63) <= version < 2**63)):
            raise self._conflict(key)  # another store's: SQLite could not take it

        def work(connection: Connection) -> int | None:
            self._check_length(connection, key, value)
            return sqlite_table.replace_version(connection, self.array_id, key, value, version)

        new = self._run(work, key, writes=True, creates=True)
        if new is None:
            raise self._conflict(key)
        return new

    def get_many(self, requests: Iterable[tuple[str, slice | None]]) -> Iterator[tuple[int, bytes | None]]:
        """Several values; the whole ones by one statement for each 64 of them."""
        numbered = enumerate(requests)
        while batch := list(itertools.islice(numbered, N_REQUESTS)):
            keys = [check_key(key) for _, (key, part) in batch if part is None]
            found = self._read_all(list(dict.fromkeys(keys))) if keys else {}
            for i, (key, part) in batch:
                yield i, found.get(key) if part is None else self.get(key, part)

    def _read_all(self, keys: list[str]) -> dict[str, bytes]:
        return self._run(lambda connection: sqlite_table.read_all(connection, self.array_id, keys))

    def set_many(self, items: Iterable[tuple[str, Buffer]]) -> None:
        """Store several values: all of them, or none."""
        self.check_writable()
        rows = [(check_key(key), contiguous(value)) for key, value in items]

        def work(connection: Connection) -> None:
            for key, value in rows:
                self._check_length(connection, key, value)
            sqlite_table.replace_all(connection, self.array_id, rows)

        self._run(work, writes=True, creates=True)

    def delete_prefix(self, prefix: str) -> None:
        """Delete every key that starts with `prefix`: all of them, or none."""
        self.check_writable()
        check_prefix(prefix)
        self._run(lambda connection: sqlite_table.delete_below(connection, self.array_id, prefix), writes=True)

    def list_prefix(self, prefix: str = "") -> Iterator[str]:
        """Every key that starts with `prefix`, sorted; those of one instant."""
        check_prefix(prefix)
        # Gathered at once: no statement stays open between the steps of an iterator.
        pages = self._run(lambda connection: list(sqlite_table.keys_below(connection, self.array_id, prefix)))
        return itertools.chain.from_iterable(pages)

    def list_dir(self, prefix: str = "") -> Iterator[str]:
        """What lies directly below `prefix`, sorted."""
        check_prefix(prefix)
        return iter(self._run(lambda connection: list(sqlite_table.names_below(connection, self.array_id, prefix))))

    def _check_length(self, connection: Connection, key: str, value: Buffer) -> None:
        limit = connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH)
        limit -= len(self.array_id.encode()) + len(key.encode()) + ROW_NBYTES
        nbytes = memoryview(value).nbytes
        if nbytes > limit:
            raise StoreError(
                f"expected at most {limit} bytes, got {nbytes}: more than SQLite takes",
                store=self.url,
                key=key,
                code="too_large",
                hint="Choose smaller chunks or shards.",
            )


def contiguous(value: Buffer) -> Buffer:
    """A buffer that SQLite can take, of the same bytes."""
    if type(value) is bytes:
        return value
    view = memoryview(value)
    if view.nbytes == 0:
        return b""  # an empty array may have no address, which would be NULL
    return value if view.c_contiguous else view.tobytes()
