"""How a node is put in its place, and taken away."""

from __future__ import annotations

from typing import Any

from zarrcy import metadata_v2
from zarrcy.arrays import Array
from zarrcy.chunk_grid import ChunkKeyEncoding
from zarrcy.defaults import array_metadata, chunks_of_objects, warn_of_many_files
from zarrcy.errors import ChunkSizeWarning, NodeExistsError
from zarrcy.metadata import ArrayMetadata, GroupMetadata
from zarrcy.stores.store import Store

__all__ = ["ARRAY_PARAMETERS", "delete_node", "make_array", "make_node"]

# The options that describe an array; those that are left open its store.
ARRAY_PARAMETERS = frozenset(array_metadata.__kwdefaults__ or ()) | {"shape"}


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
