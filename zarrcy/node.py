"""What arrays and groups share: a place in a store, and attributes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from zarrcy import metadata_v2
from zarrcy.errors import ReadOnlyError
from zarrcy.metadata import ArrayMetadata, GroupMetadata
from zarrcy.registry import LazyModule

if TYPE_CHECKING:
    from zarrcy import attributes
    from zarrcy.attributes import Attributes
    from zarrcy.stores.store import Store
else:
    attributes = LazyModule("zarrcy.attributes")

__all__ = ["Node"]

Metadata = TypeVar("Metadata", ArrayMetadata, GroupMetadata)


class Node(Generic[Metadata]):
    """An array or a group in a store."""

    _kind = "node"  # in messages

    _store: Store
    _path: str
    _metadata: Metadata
    _read_only: bool

    @property
    def metadata(self) -> Metadata:
        """What the node is, in one form for both formats."""
        return self._metadata

    @property
    def store(self) -> Store:
        """Where the node lies."""
        return self._store

    @property
    def path(self) -> str:
        """The path in the store; empty at the root."""
        return self._path

    @property
    def name(self) -> str:
        """The path with a slash before it."""
        return f"/{self._path}"

    @property
    def basename(self) -> str:
        """The last part of the path."""
        return self._path.rpartition("/")[2]

    @property
    def read_only(self) -> bool:
        """Whether changes are refused."""
        return self._read_only

    @property
    def attrs(self) -> Attributes:
        """What the user noted: a mapping that writes through."""
        return attributes.Attributes(self)

    def _store_attributes(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._check_writable()

        def changed(metadata: Metadata) -> Metadata:
            return metadata.replace(attributes=change(metadata.attributes))

        stored = metadata_v2.update_node(self._store, self._path, self._metadata, changed, attributes_only=True)
        self._metadata = self._metadata.replace(attributes=stored.attributes)

    def _check_writable(self) -> None:
        if self._read_only:
            raise ReadOnlyError(
                f"the {self._kind} is read-only",
                store=self._store.url,
                key=self._path,
                code="read_only",
                hint='Open it with mode="r+".',
            )
