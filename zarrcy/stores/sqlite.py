"""`SQLiteStore`: values in a table of an SQLite file; several hierarchies in a file, and transactions over them.

The table, the connections and the errors are in the modules beside this one.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from zarrcy.errors import ConflictError, StoreError
from zarrcy.stores import sqlite_table
from zarrcy.stores.sqlite_connections import Connection, Pool, pool_of
from zarrcy.stores.sqlite_links import NOT_DONE
from zarrcy.stores.sqlite_table import READ, REPLACE
from zarrcy.stores.store import Buffer, Store, Version, check_key, check_prefix

__all__ = ["SQLiteStore", "SQLiteTransaction"]

T = TypeVar("T")

# Of the limit on the length of a value, what SQLite may need for the rest of the row, beside the texts in it.
ROW_NBYTES = 64

# Of the chunks that wait for their transaction, in all threads: one of 8 MiB takes a tenth of a second, and ends
# before Ctrl-C is heard.
BYTE_BUDGET = 16 << 20

N_REQUESTS = 64  # keys that `get_many` asks for in one statement


class _TableStore(Store):
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
        value = _contiguous(value)

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
        """A value, or a part of it, and the version of the whole value. A version is never given twice."""
        check_key(key)
        value, version = self._run(lambda connection: sqlite_table.read(connection, self.array_id, key, part), key)
        if if_version is not None and version != if_version:
            raise self._conflict(key)
        return value, version

    def set_if(self, key: str, value: Buffer, version: Version | None) -> Version:
        """Store a value if the key still has that version. See `zarrcy.stores.Store.set_if`."""
        self.check_writable()
        check_key(key)
        value = _contiguous(value)
        if not (version is None or isinstance(version, int)):
            raise self._conflict(key)

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
        rows = [(check_key(key), _contiguous(value)) for key, value in items]

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

    def _conflict(self, key: str) -> ConflictError:
        return ConflictError(
            "expected the version that was given, got another one",
            store=self.url,
            key=key,
            code="conflict",
            hint="Read the value again, and decide anew.",
        )


class SQLiteStore(_TableStore):
    """Values in a table of an SQLite file, which several processes may write.

    Parameters
    ----------
    path : str or os.PathLike
        The file. A relative path is made absolute now. The first write makes the file; the directory that it lies in
        must exist.
    array_id : str, default "default"
        Which of the hierarchies in the file: an array, or a group and all below it.
    durable : bool, default True
        Return from a write when the value would survive a power failure. With ``False`` it survives the death of the
        process, not that of the machine.
    read_only : bool, default False
        Refuse to write.
    timeout : float, default 120
        Seconds to wait for the lock of another writer.

    Raises
    ------
    ValueError
        The path or the identifier is empty, or holds a NUL.

    Examples
    --------
    >>> import tempfile
    >>> from zarrcy.stores.sqlite import SQLiteStore
    >>> store = SQLiteStore(tempfile.mkdtemp() + "/data.db", "temperature")
    >>> with store.transaction() as tx:
    ...     tx.set("zarr.json", b"{}")
    ...     tx.set("c/0", b"abcd")
    ...     print(store.exists("c/0"), tx.exists("c/0"))
    False True
    >>> store.get("c/0", slice(1, 3))
    b'bc'
    """

    kind = "Database file"
    persistence = "Yes"
    scalability = "Single machine"
    latency = "Low"
    use = "Transactions over chunks and metadata, many small arrays in one file"

    def __init__(
        self,
        path: str | os.PathLike[str],
        array_id: str = "default",
        *,
        durable: bool = True,
        read_only: bool = False,
        timeout: float = 120.0,
    ) -> None:
        text = os.fsdecode(path)
        if not text or "\0" in text:
            raise ValueError(f"path {text!r}: expected a file")
        if not isinstance(array_id, str) or not array_id or not array_id.isprintable():
            raise ValueError(f"array_id {array_id!r}: expected printable text")
        self.path = os.path.abspath(text)
        self.array_id = array_id
        self.durable = durable
        self.read_only = read_only
        self.timeout = timeout
        self._pool = self._find_pool()

    def _find_pool(self) -> Pool:
        return pool_of(self.path, self.url, durable=self.durable, read_only=self.read_only)

    @classmethod
    def from_url(cls, url: str, *, mode: str | None = None, **options: Any) -> SQLiteStore:
        """Open ``sqlite:///relative.db::array_id`` or ``sqlite:////absolute.db::array_id``."""
        text = url.removeprefix("sqlite://")
        if not text.startswith("/") or text == "/":
            raise StoreError(
                f"expected sqlite:/// and a path, got {url!r}",
                code="bad_url",
                hint="A relative path follows three slashes, an absolute one four: sqlite:///data.db::array_id",
            )
        path, mark, array_id = text[1:].partition("::")
        if mark:
            options = {"array_id": unquote(array_id)} | options
        return cls.for_mode(mode, path=unquote(path), **options)

    @classmethod
    def for_mode(cls, mode: str | None, **options: Any) -> SQLiteStore:
        """Open a file for what `zarrcy.open` means by `mode`."""
        return cls(**{**options, "read_only": True} if mode == "r" else options)

    @property
    def url(self) -> str:
        return f"sqlite:///{quote(self.path, errors='surrogateescape')}::{quote(self.array_id, safe='')}"

    def options(self) -> dict[str, Any]:
        """The arguments that open this storage again; those with their default value are left out."""
        options: dict[str, Any] = {"path": self.path, "array_id": self.array_id}
        if not self.durable:
            options["durable"] = False
        if self.read_only:
            options["read_only"] = True
        if self.timeout != 120.0:
            options["timeout"] = self.timeout
        return options

    def prepare(self) -> None:
        """Make the file and the table where they are missing."""
        self.check_writable()
        self._run(lambda connection: None, writes=True, creates=True)

    # The short way of both, see `zarrcy.stores.sqlite_links`; the long one for all else.

    def get(self, key: str, part: slice | None = None) -> bytes | None:
        if part is not None or type(key) is not str:
            return super().get(key, part)  # to SQLite, the number 5 would be the text
        try:
            row = self._pool.first_row(READ, (self.array_id, key))
        except UnicodeEncodeError:
            return super().get(key)  # which says what is wrong with the key
        except sqlite3.Error as error:
            check_key(key)
            row = self._pool.not_done(error, key)
        if row is NOT_DONE:
            return super().get(key)
        if row is None:
            # A key that is there is a good one.
            check_key(key)
            return None
        value: bytes = row[0]
        return value

    def set(self, key: str, value: Buffer) -> None:
        self.check_writable()
        check_key(key)
        value = _contiguous(value)
        row: Any = NOT_DONE
        n_characters = len(self.array_id) + len(key)
        if self._pool.is_free() and memoryview(value).nbytes + 4 * n_characters + ROW_NBYTES <= self._pool.longest:
            try:
                row = self._pool.first_row(REPLACE, (self.array_id, key, value))
            except sqlite3.Error as error:
                row = self._pool.not_done(error, key)
        if row is NOT_DONE:
            super().set(key, value)

    def _run(
        self, work: Callable[[Connection], T], key: str | None = None, *, writes: bool = False, creates: bool = False
    ) -> T:
        return self._pool.run(work, timeout=self.timeout, key=key, writes=writes, creates=creates)

    def update(self, key: str, change: Callable[[Buffer | None], Buffer]) -> None:
        """Replace a value by what `change` makes of the old one. See `zarrcy.stores.Store.update`.

        Once by compare-and-swap, so that writers work at the same time; after a conflict in a transaction, which has
        its turn.
        """
        value, version = self.get_with_version(key) if self._exists() else (None, None)
        try:
            self.set_if(key, change(value), version)
        except ConflictError:
            with self.transaction() as tx:
                tx.set(key, change(tx.get(key)))

    def _exists(self) -> bool:
        return os.path.lexists(self.path)

    @contextmanager
    def transaction(self) -> Iterator[SQLiteTransaction]:
        """A context whose store commits all that is written through it at the end, or nothing.

        The lock of the file is taken at the beginning: other writers wait until the end, and there are no conflicts.
        Readers go on, and see what was there before. Of a store that was opened for reading, a context in which
        nothing changes: all reads see one state of the file.

        Raises
        ------
        UnavailableError
            Another writer had the lock of the file for ``timeout`` seconds.
        StoreError
            At the end: nothing was written.

        Examples
        --------
        >>> import tempfile
        >>> import zarrcy
        >>> from zarrcy.stores.sqlite import SQLiteStore
        >>> store = SQLiteStore(tempfile.mkdtemp() + "/data.db")
        >>> a = zarrcy.create_array(store, shape=4, chunks=2, dtype="int8")
        >>> with store.transaction() as tx:
        ...     b = zarrcy.open(tx)
        ...     b[:] = 1
        ...     b.attrs["state"] = "done"
        >>> a[:].tolist()
        [1, 1, 1, 1]
        """
        with self._pool.transaction(timeout=self.timeout) as connection:
            tx = SQLiteTransaction(self, connection)
            try:
                yield tx
                tx.check_alive()
            finally:
                tx.end()

    def array_ids(self) -> list[str]:
        """The identifiers of the hierarchies in the file, sorted."""
        return self._run(sqlite_table.array_ids)

    def sync(self) -> None:
        """Return when all that was written would survive a power failure; with ``durable=True`` that is so anyway."""
        if self.durable or self.read_only or not self._exists():
            return
        try:
            # What is not in the log any more has been flushed with the file.
            for path in (Path(self.path + "-wal"), Path(self.path).parent):
                descriptor = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}", store=self.url, code="eio") from error

    def repair(self) -> list[str]:
        """Check the file, and merge the log that a killed writer left into it.

        Raises
        ------
        StoreError
            The file is damaged (``code="corrupt"``); the message says how.
        """
        self.check_writable()
        before = self._log_nbytes()
        problem = self._run(_check_and_merge, writes=True)
        if problem != "ok":
            hint = f"Restore a copy; `sqlite3 {self.path} .recover` saves what is left."
            raise StoreError(f"{self.path}: {problem}", store=self.url, code="corrupt", hint=hint)
        merged = before - self._log_nbytes()
        return [f"merged {merged} bytes of the log {self.path}-wal"] if merged > 0 else []

    def _log_nbytes(self) -> int:
        try:
            return Path(self.path + "-wal").stat().st_size
        except FileNotFoundError:
            return 0

    def compact(self) -> None:
        """Give back the space of deleted and replaced values: the file is written anew."""
        self.check_writable()
        self._run(lambda connection: connection.execute("VACUUM"), writes=True)

    def close(self) -> None:
        """Close the connections to the file. They are opened again when it is used again."""
        self._pool.close()


class SQLiteTransaction(_TableStore):
    """The store that `SQLiteStore.transaction` gives. Any thread may use it until the context ends."""

    kind, persistence, scalability, latency, use = (
        SQLiteStore.kind,
        SQLiteStore.persistence,
        SQLiteStore.scalability,
        SQLiteStore.latency,
        "A transaction",
    )

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


def _contiguous(value: Buffer) -> Buffer:
    """A buffer that SQLite can take, of the same bytes."""
    if type(value) is bytes:
        return value
    view = memoryview(value)
    if view.nbytes == 0:
        return b""  # an empty array may have no address, which would be NULL
    return value if view.c_contiguous else view.tobytes()


def _check_and_merge(connection: Connection) -> str:
    problem: str = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return problem
