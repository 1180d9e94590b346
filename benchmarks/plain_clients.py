"""The plain clients that `stores.py` measures zarrcy against: each does what a program would do without zarrcy."""

from __future__ import annotations

import functools
import importlib
import os
import sqlite3
import sys
import threading
import warnings
import zipfile
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any, Protocol

from zarrcy.stores.erlang_terms import Atom, ExternalFun

__all__ = [
    "Archive",
    "Blocks",
    "Client",
    "Database",
    "Dict",
    "Files",
    "GridFS",
    "Libei",
    "erlang_node",
    "mongodb_server",
]


class Client(Protocol):
    """What a program would use without zarrcy. Any thread may call it."""

    def get(self, key: str) -> Any:
        """The value as something that NumPy reads."""

    def set(self, key: str, value: bytes) -> None:
        """Store a value as safely as the store does."""

    def close(self) -> None:
        """Give back what is open."""


class Files:
    """A directory with one file for each value, which is replaced by renaming."""

    def __init__(self, place: Path) -> None:
        self.place = place
        for prefix in ("v", "c"):
            (place / prefix).mkdir()

    def get(self, key: str) -> bytes:
        with open(f"{self.place}/{key}", "rb") as file:  # noqa: PTH123 - without the cost of pathlib
            return file.read()

    def set(self, key: str, value: bytes) -> None:
        path = f"{self.place}/{key}"
        temporary = f"{path}.{threading.get_ident()}"
        with open(temporary, "wb") as file:  # noqa: PTH123 - as above
            file.write(value)
        os.rename(temporary, path)  # noqa: PTH104 - as above

    def close(self) -> None:
        pass


class Dict:
    """A dict."""

    def __init__(self, place: Path) -> None:
        self.values: dict[str, bytes] = {}
        self.get = self.values.__getitem__
        self.set = self.values.__setitem__

    def close(self) -> None:
        pass


class Archive:
    """`zipfile`, which a lock shares among threads."""

    def __init__(self, place: Path) -> None:
        self.file = zipfile.ZipFile(place / "plain.zip", "w")
        self.lock = threading.Lock()

    def get(self, key: str) -> bytes:
        with self.lock:
            return self.file.read(key)

    def set(self, key: str, value: bytes) -> None:
        with self.lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a name that is written again
            self.file.writestr(key, value)

    def close(self) -> None:
        self.file.close()


class Libei:
    """Calls of Mnesia through OTP's C library, each followed by a flush of the log; a connection for each thread."""

    def __init__(self, place: Path) -> None:
        self.node = erlang_node()
        self.local = threading.local()

    def call(self, function: str, *arguments: Any) -> Any:
        from zarrcy.stores.ei import Connection

        if not hasattr(self.local, "connection"):
            cookie = self.node.cluster.cookie.encode()
            alive = f"plain{threading.get_ident()}"
            self.local.connection = Connection(self.node.name, cookie, "localhost", alive, 10)
        return self.local.connection.call("mnesia", function, list(arguments), 60)

    def get(self, key: str) -> bytes:
        return self.call("transaction", ExternalFun("mnesia", "read", 1), [(Atom("zarr_storage"), key.encode())])[1][0][
            2
        ]

    def set(self, key: str, value: bytes) -> None:
        record = (Atom("zarr_storage"), key.encode(), value)
        self.call("sync_transaction", ExternalFun("mnesia", "write", 1), [record])
        self.call("sync_log")

    def close(self) -> None:
        pass


class Database:
    """A table of `sqlite3` with a write-ahead log; every commit waits for the disk. A connection for each thread."""

    def __init__(self, place: Path) -> None:
        self.path = place / "plain.db"
        self.local = threading.local()
        self.connections: list[sqlite3.Connection] = []
        connection = self.connection()
        connection.execute("PRAGMA page_size = 16384")  # as the store's: larger values cost less
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE plain (key TEXT PRIMARY KEY, value BLOB NOT NULL)")

    def connection(self) -> sqlite3.Connection:
        if not hasattr(self.local, "connection"):
            # Another thread closes it. The timeout is that of the store: 32 writers wait for one lock.
            connection = sqlite3.connect(self.path, timeout=120, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA synchronous = FULL")
            self.connections.append(connection)
            self.local.connection = connection
        return self.local.connection

    def get(self, key: str) -> bytes:
        return self.connection().execute("SELECT value FROM plain WHERE key = ?", (key,)).fetchone()[0]

    def set(self, key: str, value: bytes) -> None:
        self.connection().execute("INSERT OR REPLACE INTO plain VALUES (?, ?)", (key, value))

    def close(self) -> None:
        for connection in self.connections:
            connection.close()


class Blocks:
    """A new block of `multiprocessing.shared_memory` for each value, which a get attaches by its name.

    As the store: a reader sees the old value or the new one, and need not have made it. A block that stays open and is
    written over is quicker by far; but a reader would see parts of both values, and only who holds it can read it.
    """

    def __init__(self, place: Path) -> None:
        self.blocks: dict[str, SharedMemory] = {}

    def get(self, key: str) -> bytes:
        block = SharedMemory(self.blocks[key].name)
        try:
            return bytes(block.buf)
        finally:
            block.close()

    def set(self, key: str, value: bytes) -> None:
        block = SharedMemory(create=True, size=len(value))
        block.buf[:] = value
        old = self.blocks.get(key)
        self.blocks[key] = block
        if old is not None:
            remove(old)

    def close(self) -> None:
        for block in self.blocks.values():
            remove(block)


def remove(block: SharedMemory) -> None:
    block.close()
    block.unlink()


class GridFS:
    """The `gridfs` of pymongo: a new file for each value, then the older ones are deleted."""

    def __init__(self, place: Path) -> None:
        import gridfs
        import pymongo

        self.client: Any = pymongo.MongoClient(mongodb_server().url())
        # As the store: a value is on a majority of the members, and nobody waits for that of what is deleted.
        majority, one = pymongo.WriteConcern("majority"), pymongo.WriteConcern(1)
        self.files = gridfs.GridFS(self.client.get_database(write_concern=majority), "plain")
        self.older = gridfs.GridFS(self.client.get_database(write_concern=one), "plain")

    def get(self, key: str) -> bytes:
        return self.files.get_last_version(key).read()

    def set(self, key: str, value: bytes) -> None:
        new = self.files.put(value, filename=key)
        for each in self.older.find({"filename": key, "_id": {"$ne": new}}):
            self.older.delete(each._id)

    def close(self) -> None:
        self.client.close()


@functools.cache
def erlang_node() -> Any:
    """A node of the tests' own making, with Mnesia."""
    return of_the_tests("erlang").server()[0]


@functools.cache
def mongodb_server() -> Any:
    """A replica set of the tests' own making, of one member."""
    return of_the_tests("mongodb").server()


def of_the_tests(server: str) -> Any:
    """The module of the tests that starts a server."""
    tests = str(Path(__file__).resolve().parent.parent / "tests")
    if tests not in sys.path:
        sys.path.append(tests)
    return importlib.import_module(f"servers.{server}")
