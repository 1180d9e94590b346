"""What stores around a store have in common: whatever a wrapper does not change is that of the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from zarrcy.stores.store import Buffer, Store, Version

if TYPE_CHECKING:
    from zarrcy.stores.clock import Clock

__all__ = ["WrapperStore"]


class WrapperStore(Store):
    """A store around another one, which it has the URL of. Closing this one closes that one.

    Calls of several values (`get_many`, `set_many`, `delete_prefix`, `update`) are not handed on: they would pass by
    what a wrapper does to one. A native reader is not, for the same reason. A transaction would need a wrapper of its
    own.

    Parameters
    ----------
    store : Store
        The store to call.
    """

    kind = "Wrapper"
    persistence = "That of the store"
    scalability = "That of the store"
    latency = "That of the store"

    def __init__(self, store: Store) -> None:
        self.store = store

    @property
    def url(self) -> str:
        """That of the store."""
        return self.store.url

    def options(self) -> dict[str, Any]:
        """The store."""
        return {"store": self.store}

    @property
    def concurrency(self) -> int:  # type: ignore[override]
        """That of the store."""
        return self.store.concurrency

    @property
    def coalesce_gap(self) -> int:  # type: ignore[override]
        """That of the store."""
        return self.store.coalesce_gap

    @property
    def byte_budget(self) -> int:  # type: ignore[override]
        """That of the store."""
        return self.store.byte_budget

    @property
    def supports_cas(self) -> bool:  # type: ignore[override]
        """That of the store: for reading it says whether `get_with_version` works."""
        return self.store.supports_cas

    @property
    def read_only(self) -> bool:  # type: ignore[override]
        """That of the store."""
        return self.store.read_only

    @property
    def priced_as(self) -> str:  # type: ignore[override]
        """That of the store."""
        return self.store.priced_as

    @property
    def clock(self) -> Clock:  # type: ignore[override]
        """That of the store."""
        return self.store.clock

    def get(self, key: str, part: slice | None = None) -> Buffer | None:
        return self.store.get(key, part)

    def get_with_version(
        self, key: str, part: slice | None = None, *, if_version: Version | None = None
    ) -> tuple[Buffer | None, Version | None]:
        return self.store.get_with_version(key, part, if_version=if_version)

    def size(self, key: str) -> int | None:
        return self.store.size(key)

    def exists(self, key: str) -> bool:
        return self.store.exists(key)

    def list_prefix(self, prefix: str = "") -> Iterator[str]:
        return self.store.list_prefix(prefix)

    def list_dir(self, prefix: str = "") -> Iterator[str]:
        return self.store.list_dir(prefix)

    def set(self, key: str, value: Buffer) -> None:
        self.store.set(key, value)

    def set_if(self, key: str, value: Buffer, version: Version | None) -> Version:
        return self.store.set_if(key, value, version)

    def delete(self, key: str) -> None:
        self.store.delete(key)

    def lock(self, key: str) -> AbstractContextManager[None] | None:
        return self.store.lock(key)

    def prepare(self) -> None:
        self.store.prepare()

    def repair(self) -> list[str]:
        return self.store.repair()

    def sync(self) -> None:
        self.store.sync()

    def close(self) -> None:
        self.store.close()
