"""What arrays and groups share: a place in a store, and attributes that write through."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from zarrcy import metadata_v2
from zarrcy.errors import ReadOnlyError
from zarrcy.metadata import ArrayMetadata, GroupMetadata

if TYPE_CHECKING:
    from zarrcy.stores.store import Store

__all__ = ["Attributes", "Node"]

Metadata = TypeVar("Metadata", ArrayMetadata, GroupMetadata)


class Attributes(MutableMapping[str, Any]):
    """What the user noted about an array or a group: names and JSON values.

    Every change is stored at once, and made to the attributes as they are in the store then: two processes that set
    different names lose nothing. Values that are changed in place are not noticed: assign them again.

    Parameters
    ----------
    node : Array or Group
        Whose they are.

    Examples
    --------
    >>> import zarrcy
    >>> a = zarrcy.zeros((4,), chunks=2)
    >>> a.attrs["unit"] = "K"
    >>> dict(a.attrs)
    {'unit': 'K'}
    """

    # The node does not keep it: with it in a cycle, the store's open files would wait for the collector of cycles.
    def __init__(self, node: Node[Any]) -> None:
        self._node = node

    @property
    def _values(self) -> dict[str, Any]:
        values: dict[str, Any] = self._node.metadata.attributes
        return values

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def __delitem__(self, name: str) -> None:
        if name not in self._values:
            raise KeyError(name)
        self._node._store_attributes(lambda old: {key: value for key, value in old.items() if key != name})

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Attributes({self._values!r})"

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set several attributes in one write."""
        changes = _checked(dict(*args, **kwargs))
        self._node._store_attributes(lambda old: {**old, **changes})

    def put(self, values: dict[str, Any]) -> None:
        """Replace all attributes in one write."""
        checked = _checked(values)
        self._node._store_attributes(lambda old: dict(checked))

    def asdict(self) -> dict[str, Any]:
        """The attributes as a dictionary of its own."""
        return dict(self._values)


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    for name in values:
        if type(name) is not str:
            raise TypeError(f"attributes: expected text as names, got {name!r}")  # JSON would make text of it
    return values


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
        return Attributes(self)

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
