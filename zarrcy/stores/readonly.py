"""Any store, for reading only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager

from zarrcy.stores.store import Buffer, Store, Version
from zarrcy.stores.wrapper import WrapperStore

__all__ = ["ReadOnlyStore"]


class ReadOnlyStore(WrapperStore):
    """A store through which nothing can be written: whatever would write is a `zarrcy.ReadOnlyError`.

    Parameters
    ----------
    store : Store
        The store to read from. Closing this one closes that one.

    Notes
    -----
    It has the URL of that store, and its pickle is a recipe where that store's is. It keeps programs from writing by
    mistake; it is no protection from those that use its attribute `store`.

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

    use = "Handing a store to readers"

    @property
    def batch(self) -> int:  # type: ignore[override]
        """That of the store."""
        return self.store.batch

    def get_many(self, requests: Iterable[tuple[str, slice | None]]) -> Iterator[tuple[int, Buffer | None]]:
        return self.store.get_many(requests)

    def native_reader(self) -> object | None:
        return self.store.native_reader()

    def set(self, key: str, value: Buffer) -> None:
        self.check_writable()

    def set_many(self, items: Iterable[tuple[str, Buffer]]) -> None:
        self.check_writable()

    def set_if(self, key: str, value: Buffer, version: Version | None) -> Version:
        self.check_writable()
        return super().set_if(key, value, version)

    def update(self, key: str, change: Callable[[Buffer | None], Buffer]) -> None:
        self.check_writable()

    def lock(self, key: str) -> AbstractContextManager[None] | None:
        self.check_writable()
        return super().lock(key)

    def transaction(self) -> AbstractContextManager[Store]:
        self.check_writable()
        return super().transaction()

    def delete(self, key: str) -> None:
        self.check_writable()

    def delete_prefix(self, prefix: str) -> None:
        self.check_writable()

    def prepare(self) -> None:
        self.check_writable()

    def repair(self) -> list[str]:
        self.check_writable()
        return super().repair()
