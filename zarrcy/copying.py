"""Copies of arrays and hierarchies: to another store, format, chunk shape or chain of codecs."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from zarrcy.arrays import Array
from zarrcy.codecs.chain import codec_kind
from zarrcy.codecs.layout import BytesCodec, Transpose
from zarrcy.codecs.sharding import Sharding
from zarrcy.defaults import array_metadata, default_compressors
from zarrcy.errors import NodeExistsError
from zarrcy.groups import Group
from zarrcy.hierarchy import create_array, create_group, open
from zarrcy.making import make_node
from zarrcy.metadata import GroupMetadata
from zarrcy.metadata_v2 import encode_node, format_of
from zarrcy.places import StoreLike, join_path, opened
from zarrcy.stores.store import Store

__all__ = ["check_apart", "copy"]

# At most this much of an array is in memory at a time, where its chunks allow it.
REGION_NBYTES = 64 << 20

Progress = Callable[[str, int, int], None]

ENCODING = {"chunks", "shards", "compressor", "filters", "codecs", "order", "zarr_format", "dtype", "fill_value"}


def copy(
    source: Array | Group | StoreLike,
    store: StoreLike,
    path: str = "",
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    **changes: Any,
) -> Any:
    """Copy an array, or a group with all below it.

    Without changes, the stored values are copied as they are. With changes, items are read and written again, a region
    at a time; with ``zarr_format=2`` shards are dissolved and dimension names go to the attribute
    ``_ARRAY_DIMENSIONS``, where xarray looks for them, and the other way round.

    Nodes are made before their chunks are written: an array whose copy broke off can be opened, and has the fill value
    where chunks are missing. ``overwrite=True`` begins anew. `zarrcy.stores.copy_store` writes metadata last.

    Parameters
    ----------
    source : Array, Group, Store, str, os.PathLike or dict
        What to copy; of a store, the node at its root.
    store : Store, str, os.PathLike or dict
        Where to, its URL or path.
    path : str
        The path of the copy in the store. Default: the root.
    overwrite : bool
        Replace an array or group that is there.
    progress : callable, optional
        Called with the path of an array, the bytes of it that were copied, and its bytes in all.
    **changes
        Options of `zarrcy.create_array` that differ from those of the source: ``chunks``, ``shards``, ``compressor``,
        ``zarr_format`` …

    Returns
    -------
    Array or Group
        The copy.

    Raises
    ------
    NodeExistsError
        There is something at the place already, or the place is the source, in it, or around it.
    TypeError
        A change that no array has.

    Examples
    --------
    >>> import zarrcy
    >>> a = zarrcy.array([[1, 2], [3, 4]], chunks=(1, 2))
    >>> b = zarrcy.copy(a, "memory://", zarr_format=2, compressor="zlib")
    >>> b.metadata.zarr_format, b[1]
    (2, array([3, 4]))
    """
    unknown = set(changes) - ENCODING
    if unknown:
        raise TypeError(f"copy: expected changes among {', '.join(sorted(ENCODING))}, got {', '.join(sorted(unknown))}")
    node = source if isinstance(source, (Array, Group)) else open(source, mode="r")
    zarr_format = GroupMetadata(zarr_format=changes.get("zarr_format", node.metadata.zarr_format)).zarr_format
    members = [] if isinstance(node, Array) else list(node.members(None))
    # What cannot be is an error before the target is made, or anything in it deleted.
    for each in [node, *(member for _, member in members)]:
        each.metadata.whole()
        if isinstance(each, Array) and _differs(each, changes):
            encode_node(array_metadata(**_options(each, changes)))
    with opened(store, path, "a", None, {}) as (target, path):
        check_apart(node, target, path)
        if isinstance(node, Array):
            return _copy_array(node, target, path, overwrite, progress, changes)
        group = create_group(target, path, attributes=node.attrs.asdict(), zarr_format=zarr_format, overwrite=overwrite)
        for name, member in members:
            place = join_path(group.path, name)
            if isinstance(member, Array):
                _copy_array(member, target, place, False, progress, changes)
            else:
                create_group(target, place, attributes=member.attrs.asdict(), zarr_format=zarr_format, overwrite=False)
    return group


def check_apart(node: Array | Group, store: Store, path: str) -> None:
    """Refuse a target that is the source, lies in it, or holds it: ``overwrite=True`` would delete what is copied.

    Raises
    ------
    NodeExistsError
        They meet.
    """
    source = _place(node.store, node.path)
    target = _place(store, path.strip("/"))
    if source.startswith(target) or target.startswith(source):
        hint = "Copy to another place, then delete the source."
        raise NodeExistsError(
            "expected a place apart from the source, got one that meets it", store=store.url, key=path, hint=hint
        )


def _place(store: Store, path: str) -> str:
    """Where a node lies, ending in a slash; the same text whichever links and spellings lead there."""
    # Imported at first use: it costs 2 ms of `import zarrcy`.
    from urllib.parse import unquote

    scheme, _, rest = store.url.partition("://")
    if scheme == "file":
        return os.path.join(os.path.realpath(os.path.join(unquote(rest, errors="surrogateescape"), path)), "")
    if scheme == "zip":
        return os.path.join(os.path.realpath(unquote(rest, errors="surrogateescape")), path, "")
    return f"{store.url}/{path}".rstrip("/") + "/"


def _differs(source: Array, changes: dict[str, Any]) -> bool:
    return bool(changes) and changes != {"zarr_format": source.metadata.zarr_format}


def _copy_array(
    source: Array, store: Any, path: str, overwrite: bool, progress: Progress | None, changes: dict[str, Any]
) -> Array:
    if not _differs(source, changes):
        return _copy_values(source, store, path, overwrite, progress)
    target = create_array(store, path, overwrite=overwrite, **_options(source, changes))
    done = 0
    for region in _regions(source, target):
        items = source[region]
        target[region] = items
        done += items.nbytes
        if progress is not None:
            progress(target.path, done, source.nbytes)
    if progress is not None and not source.nbytes:
        progress(target.path, 0, 0)
    return target


def _copy_values(source: Array, store: Any, path: str, overwrite: bool, progress: Progress | None) -> Array:
    """The stored values as they are: the copy has the same metadata."""
    target = Array(store, path, source.metadata)
    make_node(store, path, source.metadata, overwrite)
    indices = list(source.stored_chunks())
    for i, index in enumerate(indices):
        value = source.store.get(source.chunk_key(index))
        if value is not None:
            store.set(target.chunk_key(index), value)
        if progress is not None:
            progress(path, source.nbytes * (i + 1) // len(indices), source.nbytes)
    if progress is not None and not indices:
        progress(path, source.nbytes, source.nbytes)
    return target


def _options(source: Array, changes: dict[str, Any]) -> dict[str, Any]:
    """What `create_array` is told, so that the copy is like the source but for the changes."""
    metadata = source.metadata
    zarr_format = changes.get("zarr_format", metadata.zarr_format)
    attributes = dict(metadata.attributes)
    names = metadata.dimension_names
    target = format_of(zarr_format)
    if names is not None and not target.has_dimension_names:
        attributes.setdefault("_ARRAY_DIMENSIONS", list(names))
        names = None
    elif target.has_dimension_names and not format_of(metadata.zarr_format).has_dimension_names:
        listed = attributes.get("_ARRAY_DIMENSIONS")
        if isinstance(listed, list) and len(listed) == source.ndim and all(isinstance(name, str) for name in listed):
            names = tuple(attributes.pop("_ARRAY_DIMENSIONS"))
    options: dict[str, Any] = {
        "shape": source.shape,
        "dtype": source.dtype.newbyteorder(">" if metadata.endian == "big" else "<"),
        "chunks": source.chunks,
        "fill_value": source.fill_value,
        "attributes": attributes,
        "dimension_names": names,
        "zarr_format": zarr_format,
    }
    if "codecs" not in changes:
        filters, compressors = _steps(metadata.codecs)
        default = default_compressors(metadata.zarr_format, metadata.data_type, source.chunks)
        if compressors == default:
            # Each format has a default of its own: its peers cannot read that of the other.
            options["compressor"] = "auto"
        else:
            options["compressor"] = compressors or None
        options |= {"order": source.order, "filters": filters or None}
        if target.has_shards and source.shards is not None:
            options["shards"] = source.shards
    return {**options, **changes}


def _steps(codecs: tuple[Any, ...]) -> tuple[list[Any], list[Any]]:
    """The codecs for arrays (the filters) and those for bytes (the compressors), inside shards too.

    Filters of v2 may be either; v3 has those for bytes behind ``bytes``.
    """
    filters: list[Any] = []
    compressors: list[Any] = []
    for codec in codecs:
        if isinstance(codec, Sharding):
            return _steps(codec.codecs)
        if not isinstance(codec, (BytesCodec, Transpose)):
            (filters if codec_kind(codec) == "array_to_array" else compressors).append(codec)
    return filters, compressors


def _regions(source: Array, target: Array) -> Iterator[tuple[slice, ...]]:
    """Regions of whole chunks (shards) of the target, joined up to a size, in the order of the axes."""
    grid = target.metadata.chunk_shape
    extents = list(grid)
    nbytes = int(np.prod(extents, dtype=object)) * source.itemsize if extents else source.itemsize
    for axis in range(source.ndim - 1, -1, -1):
        while extents[axis] < source.shape[axis] and nbytes * 2 <= REGION_NBYTES:
            extents[axis] *= 2
            nbytes *= 2
    steps = [range(0, n, extent) for n, extent in zip(source.shape, extents, strict=True)]
    for starts in itertools.product(*steps):
        yield tuple([slice(i, min(i + e, n)) for i, e, n in zip(starts, extents, source.shape, strict=True)])
