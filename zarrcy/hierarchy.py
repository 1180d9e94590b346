"""How nodes are made and opened, and consolidated metadata."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zarrcy import metadata_v2
from zarrcy.arrays import Array
from zarrcy.errors import NodeNotFoundError, StoreError
from zarrcy.metadata import UNREAD, ArrayMetadata, GroupMetadata
from zarrcy.places import StoreLike, find_store, opened
from zarrcy.registry import LazyModule
from zarrcy.stores import catalogue

if TYPE_CHECKING:
    from zarrcy import defaults, groups, making
    from zarrcy.display import Tree
    from zarrcy.groups import Group
    from zarrcy.stores.store import Store
else:
    defaults = LazyModule("zarrcy.defaults")
    groups = LazyModule("zarrcy.groups")
    making = LazyModule("zarrcy.making")

__all__ = ["consolidate_metadata", "create_array", "create_group", "open", "open_array", "open_group", "tree"]

# The options of `open` that are not those of a store.
OPENING = ("zarr_format", "missing")

OPENED = (None, "r", "r+", "a")  # the modes of `open`

# The modes in which `open_array` and `open_group` may make what they open.
MAKING = ("a", "w", "w-")


def create_array(
    store: StoreLike | None = None,
    path: str = "",
    *,
    overwrite: bool = False,
    storage: str | None = None,
    missing: str = "fill",
    write_empty_chunks: bool = False,
    **options: Any,
) -> Array:
    """Make an array in a store.

    Parameters
    ----------
    store : Store, str, os.PathLike or dict
        The store, its URL or path.
    path : str
        The path of the array in the store. Default: its root. Missing groups above it are made.
    overwrite : bool
        Replace an array or group that is there.
    storage : str, optional
        The name of a store, instead of `store`; its options are then passed too.
    missing, write_empty_chunks
        As for `zarrcy.Array`.
    **options
        Those of `zarrcy.create`: ``shape``, ``chunks``, ``dtype``, ``compressor`` …

    Returns
    -------
    Array

    Raises
    ------
    NodeExistsError
        There is something at the place already; nothing was deleted.
    MetadataError
        The options do not fit together; nothing was written.

    Examples
    --------
    >>> import zarrcy
    >>> a = zarrcy.create_array("memory://", "a", shape=(4, 6), chunks=(2, 6), dtype="int16", fill_value=-1)
    >>> a[0]
    array([-1, -1, -1, -1, -1, -1], dtype=int16)
    """
    described = {name: options.pop(name) for name in list(options) if name in making.ARRAY_PARAMETERS}
    defaults.array_metadata(**described)  # before a store is made for what cannot be
    with opened(store, path, "a", storage, options) as (found, path):
        return making.make_array(
            found, path, overwrite=overwrite, missing=missing, write_empty_chunks=write_empty_chunks, **described
        )


def create_group(
    store: StoreLike | None = None,
    path: str = "",
    *,
    attributes: dict[str, Any] | None = None,
    zarr_format: int = 3,
    overwrite: bool = False,
    missing: str = "fill",
    storage: str | None = None,
    **store_options: Any,
) -> Group:
    """Make a group in a store.

    Parameters
    ----------
    store : Store, str, os.PathLike or dict
        The store, its URL or path.
    path : str
        The path of the group in the store. Default: its root. Missing groups above it are made.
    attributes : dict, optional
        What to note about it.
    zarr_format : {2, 3}
        The format of its metadata.
    overwrite : bool
        Replace an array or group that is there.
    missing : {"fill", "raise"}
        What an absent chunk of an array below it reads as, when the array is got from this group.
    storage, **store_options
        The name of a store and its options, instead of `store`.

    Raises
    ------
    NodeExistsError
        There is something at the place already; nothing was deleted.

    Examples
    --------
    >>> import zarrcy
    >>> zarrcy.create_group("memory://", attributes={"title": "ocean"}).attrs["title"]
    'ocean'
    """
    metadata = GroupMetadata(dict(attributes or {}), zarr_format)
    with opened(store, path, "a", storage, store_options) as (found, path):
        making.make_node(found, path, metadata, overwrite)
    return groups.Group(found, path, metadata, options={"missing": missing})


def open(
    store: StoreLike | None = None,
    path: str = "",
    *,
    mode: str | None = None,
    zarr_format: int | None = None,
    missing: str = "fill",
    write_empty_chunks: bool = False,
    storage: str | None = None,
    **store_options: Any,
) -> Any:
    """Open the array or group in a store. It never makes one.

    Parameters
    ----------
    store : Store, str, os.PathLike or dict
        The store, its URL or path.
    path : str
        The path of the node in the store. Default: its root.
    mode : {"r", "r+", "a"}, optional
        ``"r"``: for reading; consolidated metadata is used where it is there. ``"r+"`` and ``"a"``: for reading and
        writing. Default: ``"r+"`` where the store can be written, else ``"r"``.
    zarr_format : {2, 3}, optional
        Look for this format only. Default: v3, then v2.
    missing, write_empty_chunks
        As for `zarrcy.Array`; for the arrays of a group too.
    storage, **store_options
        The name of a store and its options, instead of `store`.

    Returns
    -------
    Array or Group

    Raises
    ------
    NodeNotFoundError
        There is neither.
    ReadOnlyError
        The mode is for writing, and the store can only be read.

    Examples
    --------
    >>> import zarrcy
    >>> a = zarrcy.create_array("memory://", "a", shape=4)
    >>> zarrcy.open(a.store, "a") == a
    True
    """
    if mode in ("w", "w-"):
        raise ValueError(f"mode: open never makes a node: expected 'r', 'r+' or 'a', got {mode!r}; use create_array")
    try:
        found, path, document = _locate(store, path, mode, zarr_format, storage, store_options)
        try:
            metadata = metadata_v2.read_node(found, path, zarr_format, document)
            if metadata is None:
                raise NodeNotFoundError(
                    "expected an array or group, got nothing", store=found.url, key=path, code="not_found"
                )
            if mode in ("r+", "a"):
                found.check_writable()
            read_only = mode == "r"
            if isinstance(metadata, ArrayMetadata):
                return Array(
                    found, path, metadata, read_only=read_only, missing=missing, write_empty_chunks=write_empty_chunks
                )
            if read_only or (mode is None and found.read_only):
                metadata = metadata_v2.read_consolidated_node(found, path, metadata)
            else:
                metadata = metadata.replace(consolidated=None)
            options = {"missing": missing, "write_empty_chunks": write_empty_chunks}
            return groups.Group(found, path, metadata, read_only=read_only, options=options)
        except BaseException:
            if found is not store:
                found.close()
            raise
    except StoreError as error:
        if error.code == "enoent" and error.key in (None, ""):
            raise NodeNotFoundError(
                "expected an array or group, got nothing", store=error.store, code="not_found"
            ) from error
        raise


def _locate(
    store: StoreLike | None, path: str, mode: str | None, zarr_format: int | None, storage: str | None, options: Any
) -> tuple[Store, str, Any]:
    """The store and the path that a call of `open` means, and the ``zarr.json`` there, where it was read on the way."""
    if type(store) is str and path == "" and storage is None and mode in OPENED and not (options or zarr_format):
        known = catalogue.registry.get("filesystem").with_value(store, b"zarr.json", mode == "r")
        if known is not None:
            return known[0], path, known[1]
    return *find_store(store, path, mode, storage, options), UNREAD


def open_array(store: StoreLike | None = None, path: str = "", *, mode: str | None = None, **options: Any) -> Array:
    """Open an array, or make one.

    Parameters
    ----------
    store, path
        As for `zarrcy.open`.
    mode : {"r", "r+", "a", "w", "w-"}, optional
        ``"r"``, ``"r+"``: it must be there. ``"a"``: make it if it is not. ``"w"``: replace it. ``"w-"``: it must not
        be there. Default: as for `zarrcy.open`.
    **options
        As for `zarrcy.open`; where an array is made, those of `zarrcy.create_array` too.

    Raises
    ------
    NodeNotFoundError
        There is no array.
    NodeExistsError
        There is a node, and the mode is ``"w-"``.

    Examples
    --------
    >>> import zarrcy
    >>> store = zarrcy.stores.open("memory://")
    >>> zarrcy.open_array(store, "a", mode="w", shape=(2, 2))[0, 0]
    np.float64(0.0)
    """
    if options or mode in MAKING:
        node = _open_or_make(create_array, store, path, mode, options, making.ARRAY_PARAMETERS)
    else:
        node = open(store, path, mode=mode)
    if not isinstance(node, Array):
        raise _other_kind("an array", "a group", node, store)
    return node


def open_group(store: StoreLike | None = None, path: str = "", *, mode: str | None = None, **options: Any) -> Group:
    """Open a group, or make one.

    Parameters
    ----------
    store, path
        As for `zarrcy.open`.
    mode : {"r", "r+", "a", "w", "w-"}, optional
        As for `zarrcy.open_array`.
    **options
        As for `zarrcy.open`; where a group is made, those of `zarrcy.create_group` too.

    Raises
    ------
    NodeNotFoundError
        There is no group.
    NodeExistsError
        There is a node, and the mode is ``"w-"``.

    Examples
    --------
    >>> import zarrcy
    >>> zarrcy.open_group("memory://", mode="w").name
    '/'
    """
    below: dict[str, Any] = {name: options[name] for name in ("missing", "write_empty_chunks") if name in options}

    def make(store: StoreLike | None, path: str, **options: Any) -> Group:
        made = create_group(store, path, **{name: value for name, value in options.items() if name not in below})
        return groups.Group(made.store, made.path, made.metadata, options=below)

    node = _open_or_make(make, store, path, mode, options, frozenset({"attributes"}))
    if not isinstance(node, groups.Group):
        raise _other_kind("a group", "an array", node, store)
    return node


def _open_or_make(
    create: Callable[..., Any],
    store: StoreLike | None,
    path: str,
    mode: str | None,
    options: dict[str, Any],
    making: frozenset[str],
) -> Any:
    if mode in ("w", "w-"):
        return create(store, path, overwrite=mode == "w", **options)
    if mode == "a":
        # In one store for both: an archive has one writer.
        describing = {name: options.pop(name) for name in list(options) if name in making or name in OPENING}
        with opened(store, path, mode, options.pop("storage", None), options) as (found, path):
            try:
                wanted = {name: value for name, value in describing.items() if name in OPENING}
                return open(found, path, mode=mode, **wanted)
            except NodeNotFoundError:
                return create(found, path, **describing)
    options = {name: value for name, value in options.items() if name not in making or name in OPENING}
    return open(store, path, mode=mode, **options)


def _other_kind(expected: str, got: str, node: Array | Group, store: StoreLike | None) -> NodeNotFoundError:
    if node.store is not store:
        node.store.close()
    what = f"expected {expected}, got {got}"
    return NodeNotFoundError(what, store=node.store.url, key=node.path, code="not_found")


def consolidate_metadata(store: StoreLike, path: str = "") -> Group:
    """Gather the metadata of all nodes below a group in one document, which ``mode="r"`` reads instead of each.

    Changes through a group that has such a document bring it up to date; changes made from further below do not.

    Parameters
    ----------
    store : Store, str, os.PathLike or dict
        The store, its URL or path.
    path : str
        The path of the group. Default: the root.

    Returns
    -------
    Group
        The group, opened for reading with its consolidated metadata.

    Raises
    ------
    NodeNotFoundError
        There is no group.

    Examples
    --------
    >>> import zarrcy
    >>> group = zarrcy.create_group("memory://")
    >>> a = group.create_array("a", shape=3)
    >>> list(zarrcy.consolidate_metadata(group.store).metadata.consolidated)
    ['a']
    """
    group = open_group(store, path, mode="r+")
    groups.consolidate(group)
    return open_group(group.store, group.path, mode="r", zarr_format=group.metadata.zarr_format)


def tree(store: StoreLike | Group, path: str = "", *, max_depth: int | None = None) -> Tree:
    """The hierarchy below a group, as a drawing.

    Parameters
    ----------
    store : Group, Store, str, os.PathLike or dict
        The group, or the store, its URL or path.
    path : str
        The path of the group. Default: the root.
    max_depth : int or None
        How many levels. Default: all.

    Examples
    --------
    >>> import zarrcy
    >>> group = zarrcy.create_group("memory://")
    >>> a = group.create_array("ocean/depth", shape=(3, 4), dtype="int16")
    >>> print(zarrcy.tree(group))
    /
    └── ocean/
        └── depth (3, 4) int16
    """
    group = store if isinstance(store, groups.Group) else open_group(store, path, mode="r")
    return group.tree(max_depth)
