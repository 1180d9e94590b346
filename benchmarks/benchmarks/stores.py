"""Getting and setting single values in the stores that need no server."""

from __future__ import annotations

import tempfile
from pathlib import Path

from zarrcy.stores import FilesystemStore, MemoryStore, MockStore, ZipStore

STORES = {
    "filesystem": lambda place: FilesystemStore(place / "store"),
    "memory": lambda place: MemoryStore(),
    "mock": lambda place: MockStore(),
    "zip": lambda place: ZipStore(place / "a.zip", mode="w"),
}


class Values:
    params = [list(STORES), [1 << 10, 100 << 10, 1 << 20]]
    param_names = ["store", "nbytes"]

    def setup(self, store: str, nbytes: int) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.store = STORES[store](Path(self.directory.name))
        self.value = bytes(nbytes)
        self.store.set("c/0", self.value)

    def teardown(self, store: str, nbytes: int) -> None:
        self.store.close()
        self.directory.cleanup()

    def time_get(self, store: str, nbytes: int) -> None:
        self.store.get("c/0")

    def time_get_part(self, store: str, nbytes: int) -> None:
        self.store.get("c/0", slice(100, 200))

    def time_set(self, store: str, nbytes: int) -> None:
        self.store.set("c/0", self.value)

    def time_update(self, store: str, nbytes: int) -> None:
        self.store.update("c/0", lambda old: self.value)
