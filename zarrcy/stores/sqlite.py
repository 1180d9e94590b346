"""`SQLiteStore`: values in a table of an SQLite file; several hierarchies in a file, and transactions over them.

The table, the connections, the transaction and the errors are in the modules beside this one.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from zarrcy.errors import ConflictError, StoreError
from zarrcy.kernels.posix_errors import absolute_path
from zarrcy.stores import sqlite_table
from zarrcy.stores.sqlite_connections import Connection, Pool, pool_of
from zarrcy.stores.sqlite_links import NOT_DONE
from zarrcy.stores.sqlite_table import READ, REPLACE
from zarrcy.stores.sqlite_transaction import SQLiteTransaction
from zarrcy.stores.sqlite_values import ROW_NBYTES, TableStore, contiguous
from zarrcy.stores.store import Buffer, check_key

__all__ = ["SQLiteStore"]

T = TypeVar("T")


class SQLiteStore(TableStore):
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
        if not isinstance(array_id, str) or not array_id or not array_id.isprintable():
            raise ValueError(f"array_id {array_id!r}: expected printable text")
        self.path = absolute_path(path, "a file")
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
        if type(row) is tuple:
            value: bytes | int = row[0]
            if type(value) is bytes:
                return value
        elif row is None:
            # A key that is there is a good one.
            check_key(key)
            return None
        return super().get(key)  # no connection was idle, or the value is a long one

    def set(self, key: str, value: Buffer) -> None:
        self.check_writable()
        check_key(key)
        value = contiguous(value)
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


def _check_and_merge(connection: Connection) -> str:
    problem: str = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return problem
