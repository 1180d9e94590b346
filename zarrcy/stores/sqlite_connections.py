"""The connections of a process to an SQLite file: each is used by one thread at a time, and none crosses a fork.

SQLite keeps what a process has locked in the memory of the process, for each file. A forked child inherits that
memory and none of the locks, so that in it not even a new connection would be safe while one of its parent is open.
Therefore the idle connections are closed before a fork, and those at work are waited for. A child that was forked
in the middle of a transaction refuses to use the file, and never touches what it inherited.
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any, TypeVar
from urllib.parse import quote

from zarrcy.errors import StoreError
from zarrcy.stores import sqlite_table
from zarrcy.stores.files import identity as identity_of
from zarrcy.stores.sqlite_errors import busy_error, is_busy, store_error
from zarrcy.stores.sqlite_links import NOT_DONE, Idle, Link
from zarrcy.threads import check_stopped, pause

__all__ = ["Connection", "Pool", "pool_of"]

T = TypeVar("T")

FORK_PATIENCE_SECONDS = 10  # how long a fork waits for other threads' calls and transactions
FIRST_DELAY_SECONDS = 0.0002
LONGEST_DELAY_SECONDS = 0.02  # between two attempts to get the lock of the file
INSTRUCTIONS = 100_000  # of SQLite's machine, between two looks for Ctrl-C


class Connection(sqlite3.Connection):
    """A connection, and what the pool must know of it."""

    link: Link
    is_inherited = False  # by a forked child
    is_kept = False  # beyond the end of the call


class Pool(Idle):
    """The connections to one file.

    Parameters
    ----------
    path : str
        The file, by an absolute path.
    url : str
        The URL for messages.
    durable : bool
        Commits wait for the disk.
    read_only : bool
        Open the file for reading.
    """

    def __init__(self, path: str, url: str, *, durable: bool, read_only: bool) -> None:
        self.path = path
        self.url = url
        self._encoded_path = os.fsencode(path)
        self.durable = durable
        self.read_only = read_only
        self._reset()

    def _reset(self) -> None:
        self.idle = []
        # Weak, as is the turn: what Ctrl-C tears from the stack is given back by the garbage collector.
        self._all: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._turn: Callable[[], _Turn | None] = _nobody
        self._condition = threading.Condition()
        self._n_forks = 0
        self.generation = object()
        self.longest = 0  # what SQLite takes as one value, once a connection was opened
        self._finalizer = weakref.finalize(self, _close_all, self.idle)

    # ---- calls

    def run(
        self,
        work: Callable[[Connection], T],
        *,
        timeout: float,
        key: str | None = None,
        writes: bool = False,
        creates: bool = False,
    ) -> T:
        """What `work` makes of a connection; tried again while another process has the lock of the file.

        Raises
        ------
        UnavailableError
            Another writer had the lock all that time.
        StoreError
            SQLite failed.
        """
        if not writes:
            return self._try(work, None, timeout, key, creates)
        deadline = time.monotonic() + timeout
        with self._writing(deadline, timeout, key):
            return self._try(work, deadline, timeout, key, creates)

    def is_free(self) -> bool:
        """Whether no thread of this process has the turn to write, as far as can be seen without a lock."""
        return self._turn is _nobody

    def not_done(self, error: sqlite3.Error, key: str) -> object:
        """What became of a statement by `first_row` that failed: `NOT_DONE` where `run` may succeed.

        Raises
        ------
        StoreError
            SQLite failed, and not for a lock.
        """
        if not is_busy(error):
            raise self.error(error, key) from error
        return NOT_DONE

    def _try(
        self, work: Callable[[Connection], T], deadline: float | None, timeout: float, key: str | None, creates: bool
    ) -> T:
        delay = FIRST_DELAY_SECONDS
        while True:
            try:
                connection = self._take(creates)
                try:
                    return work(connection)
                finally:
                    if not connection.is_kept:
                        self.give_back(connection)
            except sqlite3.Error as error:
                if not is_busy(error):
                    raise self.error(error, key) from error
                if deadline is None:
                    deadline = time.monotonic() + timeout
                elif time.monotonic() > deadline:
                    raise busy_error(self.url, key, timeout) from error
            # Here no connection is held: a fork need not wait, and Ctrl-C is heard.
            pause(random.uniform(0, delay))
            delay = min(2 * delay, LONGEST_DELAY_SECONDS)

    def error(self, error: sqlite3.Error, key: str | None) -> BaseException:
        """The exception of zarrcy for one of SQLite."""
        return store_error(error, self.url, key, path=self.path, read_only=self.read_only)

    @contextmanager
    def _writing(self, deadline: float, timeout: float, key: str | None) -> Iterator[None]:
        """The turn to write, among the threads of this process: they need not ask SQLite again and again."""
        turn = _Turn()
        condition = self._condition
        with condition:
            while (holder := self._turn()) is not None:
                if holder.thread == turn.thread:
                    raise self._beside(key)
                del holder
                left = deadline - time.monotonic()
                if left <= 0:
                    raise busy_error(self.url, key, timeout)
                condition.wait(min(left, LONGEST_DELAY_SECONDS))
                check_stopped()
            self._turn = weakref.ref(turn)
        try:
            yield
        finally:
            # After a fork the child has a condition of its own, and this turn is not its.
            if condition is self._condition:
                with condition:
                    self._turn = _nobody
                    condition.notify_all()

    def _beside(self, key: str | None) -> StoreError:
        return StoreError(
            "expected writes through the transaction that this thread has open, got one beside it",
            store=self.url,
            key=key,
            code="in_transaction",
            hint="Use the store that `with store.transaction() as tx` gave.",
        )

    @contextmanager
    def transaction(self, *, timeout: float) -> Iterator[Connection]:
        """A connection in a transaction: one that writes has the lock of the file, one that reads has its snapshot.

        It is committed at the end, or rolled back when there is an exception.
        """
        deadline = time.monotonic() + timeout
        if self.read_only:
            with self._held(_begin_reading, deadline, timeout, creates=False) as connection:
                yield connection
            return
        with self._writing(deadline, timeout, None), self._held(_begin, deadline, timeout, creates=True) as connection:
            yield connection
            try:
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                raise self.error(error, None) from error

    @contextmanager
    def _held(
        self, begin: Callable[[Connection], None], deadline: float, timeout: float, *, creates: bool
    ) -> Iterator[Connection]:
        """A connection that `begin` has prepared, until the end of the context."""

        def take(connection: Connection) -> Connection:
            begin(connection)
            connection.is_kept = True
            return connection

        connection = self._try(take, deadline, timeout, None, creates)
        try:
            yield connection
        finally:
            connection.is_kept = False
            self.give_back(connection)

    # ---- connections

    def _take(self, creates: bool) -> Connection:
        try:
            connection: Connection = self.idle.pop()[0]
        except IndexError:
            pass
        else:
            connection.link.thread = get_ident()
            if connection.link.generation is self.generation and connection.link.is_current():
                return connection
            # The file was replaced, and this leads to the old one; or the store was closed, or is being forked.
            self._close(connection)
        return self._take_new(identity_of(self._encoded_path), creates)

    def _take_new(self, identity: tuple[int, int] | None, creates: bool) -> Connection:
        if identity is None and not creates:
            raise self._missing()
        if identity in _inherited:
            raise StoreError(
                "this process was forked while a transaction was open, and cannot use the file",
                store=self.url,
                code="forked",
                hint="Start the process before the transaction, or with the method 'spawn'.",
            )
        with self._condition:
            self._condition.wait_for(lambda: not self._n_forks)
            connection = self._open(creates)
            connection.link.thread = get_ident()
            self._all.add(connection)
            return connection

    def give_back(self, connection: Connection) -> None:
        if connection.is_inherited:
            return
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._close(connection)
            return
        if connection.link.generation is self.generation:
            connection.link.thread = 0
            cursor = connection.cursor()
            self.idle.append((connection, connection.link, cursor, cursor.execute))
        else:
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        with self._condition:
            self._all.discard(connection)
            connection.close()

    def _missing(self) -> StoreError:
        return StoreError(
            f"expected a file {self.path!r}, got none",
            store=self.url,
            code="enoent",
            hint="The first write makes it; check the path.",
        )

    def _open(self, creates: bool) -> Connection:
        while True:
            before = identity_of(self._encoded_path)
            if before is None and not creates:
                raise self._missing()
            connection = self._connect(before is None)
            try:
                self._prepare(connection, creates)
                identity = identity_of(self._encoded_path)
            except BaseException:
                connection.close()
                raise
            if identity is not None and before in (None, identity):
                connection.link = Link(self._encoded_path, identity, self.generation)
                self.longest = connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH)
                return connection
            connection.close()

    def _connect(self, is_new: bool) -> Connection:
        flags = "mode=ro" if self.read_only else "mode=rwc" if is_new else "mode=rw"
        if self.read_only and self._is_on_read_only_mount():
            # Nobody can change the file, and SQLite could not make its lock file.
            flags = "immutable=1"
        connection = sqlite3.connect(
            f"file:{quote(self.path)}?{flags}",
            uri=True,
            timeout=0,
            isolation_level=None,
            check_same_thread=False,
            factory=Connection,
        )
        connection.set_progress_handler(_hear, INSTRUCTIONS)
        return connection

    def _is_on_read_only_mount(self) -> bool:
        try:
            return bool(os.statvfs(self.path).f_flag & os.ST_RDONLY)
        except OSError:
            return False

    def _prepare(self, connection: Connection, creates: bool) -> None:
        connection.execute(f"PRAGMA synchronous = {'FULL' if self.durable else 'NORMAL'}")
        if self.durable:
            # macOS: fsync alone does not wait for the disk.
            connection.execute("PRAGMA fullfsync = ON")
        columns = self._columns(connection)
        if not columns and creates:
            sqlite_table.create(connection)
            columns = self._columns(connection)
        if columns != sqlite_table.COLUMNS:
            got = ", ".join(columns) if columns else "no such table"
            hint = "The file is another program's, or nothing was written to it yet."
            if columns:
                hint = "Another program made the table, or a zarrcy of another layout: write the arrays to a new file."
            raise StoreError(
                f"expected a table {sqlite_table.TABLE} of {', '.join(sqlite_table.COLUMNS)}, got {got}",
                store=self.url,
                code="no_table",
                hint=hint,
            )
        if not self.read_only and (mode := connection.execute("PRAGMA journal_mode").fetchone()[0]) != "wal":
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise StoreError(
                    f"expected a write-ahead log, got journal mode {mode!r}",
                    store=self.url,
                    code="no_wal",
                    hint="Put the file on a local file system.",
                )

    def _columns(self, connection: Connection) -> list[str]:
        rows = connection.execute(f"SELECT name FROM pragma_table_info('{sqlite_table.TABLE}')").fetchall()
        return [name for (name,) in rows]

    def close(self) -> None:
        """Close the connections: the idle ones now, those at work when their call ends."""
        self.generation = object()
        self._close_idle()

    def _close_idle(self) -> None:
        while True:
            try:
                connection = self.idle.pop()[0]
            except IndexError:
                return
            self._close(connection)

    # ---- forks

    def _before_fork(self) -> None:
        me = get_ident()
        deadline = time.monotonic() + FORK_PATIENCE_SECONDS
        with self._condition:
            self._n_forks += 1
            self.generation = object()
        while True:
            # A connection that another thread took before it saw the fork comes back here.
            self._close_idle()
            with self._condition:
                others = [connection for connection in self._all if connection.link.thread != me]
            if not others or time.monotonic() > deadline:
                break
            del others
            time.sleep(FIRST_DELAY_SECONDS)
        self._condition.acquire()

    def _after_fork_in_parent(self) -> None:
        self._n_forks -= 1
        self._condition.notify_all()
        self._condition.release()

    def _after_fork_in_child(self) -> None:
        for connection in self._all:
            connection.is_inherited = True
            _inherited.setdefault(connection.link.identity, []).append(connection)
            # At the exit of the interpreter it would be closed, and the parent's log be deleted.
            import ctypes

            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
        self._finalizer.detach()
        self._reset()


class _Turn:
    """The turn to write. It ends with the object, however that goes."""

    def __init__(self) -> None:
        self.thread = get_ident()


def _nobody() -> None:
    return None


def _begin(connection: Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")


def _begin_reading(connection: Connection) -> None:
    connection.execute("BEGIN")
    # The snapshot is that of the first read.
    connection.execute(f"SELECT 1 FROM {sqlite_table.TABLE} LIMIT 1").fetchone()


def _hear() -> int:
    # To run any function is to hear a signal: its exception ends the statement with SQLITE_INTERRUPT.
    return 0


def _close_all(idle: list[tuple[Connection, Link, sqlite3.Cursor, Callable[..., Any]]]) -> None:
    while idle:
        idle.pop()[0].close()


# What a forked child has of its parent, by the file: never used, never closed.
_inherited: dict[tuple[int, int], list[Connection]] = {}
_pools: weakref.WeakValueDictionary[tuple[str, bool, bool], Pool] = weakref.WeakValueDictionary()
_pools_lock = threading.RLock()


def pool_of(path: str, url: str, *, durable: bool, read_only: bool) -> Pool:
    """The pool of a file: one for all the stores of this process that open it in the same way."""
    with _pools_lock:
        key = (path, durable, read_only)
        pool = _pools.get(key)
        if pool is None:
            pool = _pools[key] = Pool(path, url, durable=durable, read_only=read_only)
        return pool


def _before_fork() -> None:
    _pools_lock.acquire()
    for pool in list(_pools.values()):
        pool._before_fork()


def _after_fork_in_parent() -> None:
    for pool in list(_pools.values()):
        pool._after_fork_in_parent()
    _pools_lock.release()


def _after_fork_in_child() -> None:
    global _pools_lock
    _pools_lock = threading.RLock()
    for pool in list(_pools.values()):
        pool._after_fork_in_child()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
