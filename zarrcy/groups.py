"""`Group`: a dictionary of arrays and groups in a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from zarrcy import metadata_v2
from zarrcy.arrays import Array
from zarrcy.consolidated import below
from zarrcy.errors import NodeExistsError, NodeNotFoundError
from zarrcy.making import delete_node, make_array, make_node
from zarrcy.metadata import ArrayMetadata, GroupMetadata
from zarrcy.node import Node
from zarrcy.places import join_path, node_path
from zarrcy.stores.store import Store

if TYPE_CHECKING:
    from zarrcy.display import Info, Tree

__all__ = ["Group", "consolidate"]


class Group(Node[GroupMetadata]):
    """A group of arrays and groups in a store, used like a dictionary of its members.

    `zarrcy.create_group` makes one, `zarrcy.open_group` opens one. Paths go down: ``group["a/b"]``.

    Parameters
    ----------
    store : Store
        Where it lies.
    path : str
        Its path in the store; empty at the root.
    metadata : GroupMetadata
        What it is. Consolidated metadata in it is used: pass it only for reading.
    read_only : bool
        Refuse to change anything.
    options : dict, optional
        What arrays below are opened with, such as ``missing``.

    Examples
    --------
    >>> import zarrcy
    >>> group = zarrcy.create_group("memory://")
    >>> a = group.create_array("ocean/temperature", shape=(10,), dtype="float32")
    >>> list(group), "ocean/temperature" in group
    (['ocean'], True)
    """

    _kind = "group"

    def __init__(
        self,
        store: Store,
        path: str,
        metadata: GroupMetadata,
        *,
        read_only: bool = False,
        options: dict[str, Any] | None = None,
    ) -> None:
        self._store, self._path, self._metadata = store, path, metadata
        self._read_only = read_only or store.read_only
        self._options = options or {}

    def _store_attributes(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        super()._store_attributes(change)
        self._renew_consolidated()

    def _renew_consolidated(self) -> None:
        """After a change through this group, bring its consolidated metadata up to date, if it has any."""
        found = metadata_v2.read_node(self._store, self._path, self._metadata.zarr_format)
        if not isinstance(found, GroupMetadata):
            return
        if metadata_v2.read_consolidated_node(self._store, self._path, found).consolidated is not None:
            consolidate(Group(self._store, self._path, found.replace(consolidated=None)))

    # ---- its members

    def _below(self, name: str) -> str:
        return join_path(self._path, node_path(name))

    def __getitem__(self, name: str) -> Any:
        node = self._find(node_path(name))
        if node is None:
            raise NodeNotFoundError(
                "expected an array or group, got nothing", store=self._store.url, key=self._below(name)
            )
        return node

    def _find(self, name: str) -> Array | Group | None:
        if not name:
            return self
        metadata = self._member_metadata(name)
        return None if metadata is None else self._node(self._below(name), metadata)

    def _member_metadata(self, name: str) -> ArrayMetadata | GroupMetadata | None:
        if self._metadata.consolidated is not None:
            return self._metadata.consolidated.get(name)
        return metadata_v2.read_member(self._store, self._below(name), self._metadata.zarr_format)

    def _node(self, path: str, metadata: ArrayMetadata | GroupMetadata) -> Array | Group:
        if isinstance(metadata, ArrayMetadata):
            return Array(self._store, path, metadata, read_only=self._read_only, **self._options)
        known = self._metadata.consolidated
        if known is not None:
            start = len(self._path) + 1 if self._path else 0
            metadata = metadata.replace(consolidated=below(known, path[start:]))
        return Group(self._store, path, metadata, read_only=self._read_only, options=self._options)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._names()))

    def _names(self) -> Iterator[str]:
        if self._metadata.consolidated is not None:
            yield from (path for path in self._metadata.consolidated if "/" not in path)
            return
        prefix = f"{self._path}/" if self._path else ""
        for entry in self._store.list_dir(prefix):
            name = entry.removesuffix("/")
            # Names that begin with "__" are kept for Zarr itself.
            if name == entry or name.startswith("__"):
                continue
            if metadata_v2.node_exists(self._store, prefix + name):
                yield name

    def __len__(self) -> int:
        return sum(1 for _ in self._names())

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        try:
            path = node_path(name)
        except ValueError:
            return False
        if path and self._metadata.consolidated is not None:
            return path in self._metadata.consolidated
        return metadata_v2.node_exists(self._store, join_path(self._path, path))

    def keys(self) -> list[str]:
        """The names of the members, sorted."""
        return list(self)

    def values(self) -> Iterator[Array | Group]:
        """The members, by name."""
        return (self[name] for name in self)

    def items(self) -> Iterator[tuple[str, Array | Group]]:
        """The members with their names, by name."""
        # A member that was deleted since it was listed is none.
        return ((name, node) for name in self if (node := self._find(name)) is not None)

    def get(self, name: str, default: Any = None) -> Any:
        """The member of that name, or `default`."""
        node = self._find(node_path(name))
        return default if node is None else node

    def arrays(self) -> Iterator[tuple[str, Array]]:
        """The arrays among the members, with their names."""
        return ((name, node) for name, node in self.items() if isinstance(node, Array))

    def groups(self) -> Iterator[tuple[str, Group]]:
        """The groups among the members, with their names."""
        return ((name, node) for name, node in self.items() if isinstance(node, Group))

    def members(self, max_depth: int | None = 0) -> Iterator[tuple[str, Array | Group]]:
        """The members, and those of the groups among them, with their paths below this group.

        Parameters
        ----------
        max_depth : int or None
            How many levels below the direct members. Default: 0; ``None`` is all.
        """
        for name, node in self.items():
            yield name, node
            if isinstance(node, Group) and max_depth != 0:
                deeper = None if max_depth is None else max_depth - 1
                for path, member in node.members(deeper):
                    yield f"{name}/{path}", member

    def __delitem__(self, name: str) -> None:
        self._check_writable()
        path = self._below(name)
        if path == self._path:
            raise ValueError("name: expected a member, got the group itself")
        if not metadata_v2.node_exists(self._store, path):
            raise NodeNotFoundError("expected an array or group, got nothing", store=self._store.url, key=path)
        delete_node(self._store, path)
        self._renew_consolidated()

    def __setitem__(self, name: str, value: Any) -> None:
        """Store an array-like as an array of that name, replacing a node that is there."""
        items = np.asarray(value)
        array = self.create_array(name, shape=items.shape, dtype=items.dtype, overwrite=True)
        array[...] = items

    def create_array(self, name: str, **options: Any) -> Array:
        """Make an array below this group; the options are those of `zarrcy.create_array`."""
        self._check_writable()
        options = {"zarr_format": self._metadata.zarr_format, **self._options, **options}
        array = make_array(self._store, self._below(name), **options)
        self._renew_consolidated()
        return array

    def create_group(self, name: str, *, attributes: dict[str, Any] | None = None, overwrite: bool = False) -> Group:
        """Make a group below this group; the options are those of `zarrcy.create_group`."""
        self._check_writable()
        path = self._below(name)
        metadata = GroupMetadata(dict(attributes or {}), self._metadata.zarr_format)
        make_node(self._store, path, metadata, overwrite)
        self._renew_consolidated()
        return Group(self._store, path, metadata, options=self._options)

    def require_group(self, name: str) -> Group:
        """The group of that name, made if there is none.

        Raises
        ------
        NodeExistsError
            There is an array of that name.
        """
        node = self.get(name)
        if node is None:
            return self.create_group(name)
        if not isinstance(node, Group):
            raise NodeExistsError("expected a group, got an array", store=self._store.url, key=node.path)
        return node

    def require_array(
        self, name: str, *, shape: Any, dtype: Any = "float64", exact: bool = False, **options: Any
    ) -> Array:
        """The array of that name, made if there is none.

        Parameters
        ----------
        name : str
            Its name.
        shape : int or tuple of int
            The shape that it must have.
        dtype : dtype_like
            A data type that its items can be cast to safely; with `exact`, the very data type.
        exact : bool
            Do not accept another data type.
        **options
            For a new array, those of `zarrcy.create_array`.

        Raises
        ------
        NodeExistsError
            There is another node of that name.
        """
        node = self.get(name)
        if node is None:
            return self.create_array(name, shape=shape, dtype=dtype, **options)
        wanted = (int(shape),) if isinstance(shape, (int, np.integer)) else tuple(shape)
        if not isinstance(node, Array) or node.shape != wanted:
            got = f"an array of shape {node.shape}" if isinstance(node, Array) else "a group"
            raise NodeExistsError(
                f"expected an array of shape {wanted}, got {got}", store=self._store.url, key=node.path
            )
        fits = node.dtype == np.dtype(dtype) if exact else np.can_cast(node.dtype, dtype)
        if not fits:
            what = f"expected the data type {np.dtype(dtype)}, got {node.dtype}"
            raise NodeExistsError(what, store=self._store.url, key=node.path)
        return node

    # ---- how it shows

    def tree(self, max_depth: int | None = None) -> Tree:
        """The hierarchy below this group, as a drawing.

        Parameters
        ----------
        max_depth : int or None
            How many levels. Default: all.
        """
        from zarrcy.display import Tree

        rows = [("", "group", "")]
        depth = None if max_depth is None else max_depth - 1
        for path, node in () if max_depth == 0 else self.members(depth):
            summary = f"{node.shape} {node.dtype}" if isinstance(node, Array) else ""
            rows.append((path, "array" if isinstance(node, Array) else "group", summary))
        return Tree(rows)

    @property
    def info(self) -> Info:
        """What the group is, as a table."""
        from zarrcy.display import Info

        return Info(
            {
                "Type": "zarrcy.Group",
                "Path": self.name,
                "Store": self._store.url,
                "Zarr format": self._metadata.zarr_format,
                "Read-only": self.read_only,
                "Members": len(self),
                "Consolidated": self._metadata.consolidated is not None,
            }
        )

    def __repr__(self) -> str:
        return f"<zarrcy.Group {self.name} in {self._store.url}>"

    # ---- in other processes

    def __reduce__(self) -> tuple[Any, ...]:
        options = {"read_only": self._read_only, "options": self._options}
        return (_restore, (self._store, self._path, self._metadata, options))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Group):
            return NotImplemented
        return (self._store, self._path, self._metadata) == (other._store, other._path, other._metadata)

    def __hash__(self) -> int:
        return hash((self._store, self._path))


def _restore(store: Store, path: str, metadata: GroupMetadata, options: dict[str, Any]) -> Group:
    return Group(store, path, metadata, **options)


def consolidate(group: Group) -> None:
    """Gather the metadata of all nodes below a group in one document."""

    def gather() -> dict[str, Any]:
        return {path: node.metadata for path, node in group.members(None)}

    metadata_v2.update_consolidated(group.store, group.path, group.metadata, gather)
