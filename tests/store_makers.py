"""A new, empty store of every kind: the table that the laws, the model and the tests of arrays run over.

Each maker takes a new directory of the test's own. Stores with a server start it on first use (`servers`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zarrcy.stores import Store
from zarrcy.stores.filesystem import FilesystemStore
from zarrcy.stores.memory import MemoryStore
from zarrcy.stores.shared_memory import SharedMemoryStore
from zarrcy.stores.sqlite import SQLiteStore
from zarrcy.stores.zip import ZipStore

__all__ = ["MAKERS", "ON_SERVERS"]


def filesystem(path: Path) -> Store:
    # A directory that is missing is an error, not an empty store.
    (path / "store").mkdir()
    return FilesystemStore(path / "store")


def shared_memory(path: Path) -> Store:
    # As above. The directory is the test's own, so that its tables are not those of other runs.
    store = SharedMemoryStore("table", mount=path)
    store.prepare()
    return store


def sqlite(path: Path) -> Store:
    # As above.
    store = SQLiteStore(path / "data.db", "a")
    store.prepare()
    return store


MAKERS: dict[str, Callable[[Path], Store]] = {
    "filesystem": filesystem,
    "memory": lambda path: MemoryStore(),
    "shared_memory": shared_memory,
    "sqlite": sqlite,
    "zip": lambda path: ZipStore(path / "a.zip", mode="a"),
}

# Those whose every call is a round trip: the tests take smaller counts.
ON_SERVERS: frozenset[str] = frozenset()
