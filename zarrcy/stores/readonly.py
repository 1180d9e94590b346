"""Any store, for reading only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from zarrcy.stores.store import Buffer, Store, Version

__all__ = ["ReadOnlyStore"]


class ReadOnlyStore(Store):
    """A store through which nothing can be written.

    Parameters
    ----------
    store : Store
        The store to read from. Closing this one closes that one.

    Examples
    --------
    >>> from zarrcy.stores.memory import MemoryStore
    >>> from zarrcy.stores.readonly import ReadOnlyStore
    >>> store = MemoryStore()
    >>> store.set("c/0", b"abcd")
    >>> readonly = ReadOnlyStore(store)
    >>> readonly.get("c/0")
    b'abcd'
    >>> readonly.delete("c/0")
    Traceback (most recent call last):
        ...
    zarrcy.errors.ReadOnlyError: memory://...: the store is read-only
    Open it with mode="r+".
    """

    read_only = True

    kind = "Wrapper"
    persistence = "That of the store"
    scalability = "That of the store"
    latency = "That of the store"
    use = "Handing a store to readers"

    def __init__(self, store: Store) -> None:
        self.store = store
        self.concurrency = store.concurrency
        self.coalesce_gap = store.coalesce_gap
        self.supports_cas = store.supports_cas

    @property
    def url(self) -> str:
        return self.store.url

    def options(self) -> dict[str, Any]:
        return {"store": self.store}

    def get(self, key: str, part: slice | None = None) -> Buffer | None:
        return self.store.get(key, part)

    def get_many(self, requests: Iterable[tuple[str, slice | None]]) -> Iterator[tuple[int, Buffer | None]]:
        return self.store.get_many(requests)

    def get_with_version(
        self, key: str, part: slice | None = None, *, if_version: Version | None = None
    ) -> tuple[Buffer | None, Version | None]:
        return self.store.get_with_version(key, part, if_version=if_version)

    def list_prefix(self, prefix: str = "") -> Iterator[str]:
        return self.store.list_prefix(prefix)

    def list_dir(self, prefix: str = "") -> Iterator[str]:
        return self.store.list_dir(prefix)

    def size(self, key: str) -> int | None:
        return self.store.size(key)

    def exists(self, key: str) -> bool:
        return self.store.exists(key)

    def native_reader(self) -> object | None:
        return self.store.native_reader()

    def set(self, key: str, value: Buffer) -> None:
        self.check_writable()

    def set_many(self, items: Iterable[tuple[str, Buffer]]) -> None:
        self.check_writable()

    def set_if(self, key: str, value: Buffer, version: Version | None) -> Version:
        self.check_writable()
        return super().set_if(key, value, version)

    def delete(self, key: str) -> None:
        self.check_writable()

    def delete_prefix(self, prefix: str) -> None:
        self.check_writable()

    def transaction(self) -> AbstractContextManager[Store]:
        self.check_writable()
        return super().transaction()

    def repair(self) -> list[str]:
        self.check_writable()
        return super().repair()

    def close(self) -> None:
        self.store.close()
