"""Where nodes lie: the store and the path that a call means, and how a node is put there or taken away."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from os import PathLike
from typing import Any

from zarrcy import metadata_v2
from zarrcy.arrays import Array
from zarrcy.chunk_grid import ChunkKeyEncoding
from zarrcy.defaults import array_metadata, chunks_of_objects, warn_of_many_files
from zarrcy.errors import ChunkSizeWarning, NodeExistsError
from zarrcy.metadata import ArrayMetadata, GroupMetadata
from zarrcy.stores import catalogue
from zarrcy.stores.store import Store, check_key

__all__ = [
    "ARRAY_PARAMETERS",
    "StoreLike",
    "delete_node",
    "find_store",
    "join_path",
    "make_array",
    "make_node",
    "node_path",
    "opened",
]

StoreLike = Store | str | PathLike[str] | MutableMapping[str, bytes]

# The options that describe an array; those that are left open its store.
ARRAY_PARAMETERS = frozenset(array_metadata.__kwdefaults__ or ()) | {"shape"}


def node_path(name: str) -> str:
    """A path without slashes at its ends, checked.

    Raises
    ------
    TypeError
        It is no text.
    ValueError
        A segment of it is empty, ``"."`` or ``".."``, or begins with ``"__"``, which the specification keeps for
        itself.
    """
    if not isinstance(name, str):
        raise TypeError(f"path: expected text, got {type(name).__name__}")
    path = name.strip("/")
    if path:
        check_key(path)
        if any(segment.startswith("__") for segment in path.split("/")):
            raise ValueError(f"path {name!r}: expected no segment that begins with '__', which Zarr keeps for itself")
    return path


def join_path(path: str, name: str) -> str:
    """The path of a member of the node at `path`."""
    return f"{path}/{name}" if path and name else path or name


def find_store(
    target: StoreLike | None, path: str, mode: str | None, storage: str | None, options: dict[str, Any]
) -> tuple[Store, str]:
    """The store that a call means, and the path of the node in it.

    A store, URL or path that is given first goes with the path of the node. ``storage="name"`` goes with the options of
    that store, of which `path` may be one; `path` alone is a directory, or an archive that ends in ``.zip``.
    """
    if target is not None:
        if storage is not None:
            raise TypeError("storage: expected a store or storage=, got both")
        if path != "":
            path = node_path(path)
        return catalogue.open(target, mode=mode, **options), path
    if path:
        options = {"path": path, **options}
    if storage is not None:
        return catalogue.by_name(storage, mode=mode, **options), ""
    if "path" in options:
        return catalogue.open(options.pop("path"), mode=mode, **options), ""
    if options:
        raise TypeError(f"storage: expected storage= beside {', '.join(options)}, got none")
    return catalogue.by_name("memory", mode=mode), ""


@contextmanager
def opened(
    target: StoreLike | None, path: str, mode: str | None, storage: str | None, options: dict[str, Any]
) -> Iterator[tuple[Store, str]]:
    """`find_store` for a call: when the call fails, a store that was opened for it is closed, and no archive stays
    locked."""
    found, path = find_store(target, path, mode, storage, options)
    try:
        yield found, path
    except BaseException:
        if found is not target:
            found.close()
        raise


def delete_node(store: Store, path: str) -> None:
    """Delete a node and all below it, metadata first: what is half deleted is no node."""
    for key in metadata_v2.node_keys(path):
        store.delete(key)
    store.delete_prefix(f"{path}/" if path else "")


def make_node(store: Store, path: str, metadata: ArrayMetadata | GroupMetadata, overwrite: bool) -> None:
    """Store the metadata of a new node, and the groups above it that are missing, root first.

    Raises
    ------
    NodeExistsError
        There is something at the place already, or an array above it; nothing was deleted.
    ReadOnlyError
        The store was opened for reading.
    """
    store.check_writable()
    # Whatever cannot be stored is an error before anything is deleted.
    documents = metadata_v2.encode_node(metadata)
    store.prepare()
    parents = [path[:i] for i, c in enumerate(path) if c == "/"] if path else []
    if path:
        parents.insert(0, "")
    missing = [parent for parent in parents if not _is_group(store, parent)]
    prefix = f"{path}/" if path else ""
    if metadata_v2.node_exists(store, path):
        if not overwrite:
            hint = "Pass overwrite=True to replace it, or open it."
            raise NodeExistsError(
                "there is an array or group already", store=store.url, key=path, code="exists", hint=hint
            )
        delete_node(store, path)
    elif overwrite and _are_remains(store, path, prefix):
        delete_node(store, path)
    elif next(iter(store.list_prefix(prefix)), None) is not None:
        hint = "overwrite=True replaces arrays and groups only. Choose an empty place, or delete it yourself."
        raise NodeExistsError(
            "expected an empty place, got one that holds no node", store=store.url, key=path, hint=hint
        )
    for parent in missing:
        metadata_v2.create_node(store, parent, metadata_v2.encode_node(GroupMetadata(zarr_format=metadata.zarr_format)))
    if not metadata_v2.create_node(store, path, documents):
        raise NodeExistsError("another writer made a node here first", store=store.url, key=path, code="exists")


def _are_remains(store: Store, path: str, prefix: str) -> bool:
    """Whether all that lies here was left by a deletion that was cut short, or by a creation: chunks, or documents that
    make no node."""
    parse = ChunkKeyEncoding("default").parse
    documents = metadata_v2.node_keys(path)
    return all(key in documents or parse(key[len(prefix) :]) is not None for key in store.list_prefix(prefix))


def _is_group(store: Store, path: str) -> bool:
    found = metadata_v2.read_node(store, path)
    if isinstance(found, ArrayMetadata):
        raise NodeExistsError("expected a group or nothing above the new node, got an array", store=store.url, key=path)
    return found is not None


def make_array(
    store: Store,
    path: str,
    *,
    overwrite: bool = False,
    missing: str = "fill",
    write_empty_chunks: bool = False,
    **described: Any,
) -> Array:
    """Make an array; `described` goes to `array_metadata`."""
    metadata = array_metadata(**(chunks_of_objects(described) if store.priced_as else described))
    # Binding the codecs to the chunks refuses what they cannot do, before anything is written.
    array = Array(store, path, metadata, missing=missing, write_empty_chunks=write_empty_chunks)
    if store.native_reader() is not None:
        warn_of_many_files(metadata)
    if store.priced_as:
        _warn_of_costs(store.priced_as, metadata)
    make_node(store, path, metadata, overwrite)
    return array


def _warn_of_costs(service: str, metadata: ArrayMetadata) -> None:
    """Warn when the chunks are so small, or so large, that a service would charge needlessly for them."""
    import math
    import warnings

    from zarrcy import cost

    grid = metadata.chunk_grid.grid_shape(metadata.shape)
    nbytes = math.prod(metadata.chunk_grid.chunk_shape) * metadata.data_type.itemsize
    advice = cost.advise(service, chunk_nbytes=nbytes, n_objects=math.prod(grid))
    if advice is not None:
        warnings.warn(advice, ChunkSizeWarning, stacklevel=4)
