"""Shortcuts: arrays made of values, of other arrays, or of the options alone; `save` and `load`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zarrcy.arrays import Array
from zarrcy.defaults import array_metadata
from zarrcy.groups import Group
from zarrcy.hierarchy import create_array, create_group, open
from zarrcy.metadata_v2 import format_of
from zarrcy.places import StoreLike, node_path

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "array",
    "create",
    "empty",
    "empty_like",
    "full",
    "full_like",
    "load",
    "ones",
    "ones_like",
    "save",
    "zeros",
    "zeros_like",
]


def create(
    *,
    shape: int | Sequence[int],
    chunks: Any = "auto",
    dtype: npt.DTypeLike = "float64",
    compressor: Any = "auto",
    filters: Any = None,
    shards: Any = None,
    codecs: Any = None,
    fill_value: Any = 0,
    order: str = "C",
    zarr_format: int = 3,
    dimension_names: Sequence[str | None] | None = None,
    attributes: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    storage: str | None = None,
    **store_options: Any,
) -> Array:
    """Make an array at the root of a store.

    Parameters
    ----------
    shape : int or sequence of int
        The items along each axis.
    chunks : "auto", int, sequence of int or None
        The shape of a chunk. Default: at most 1 MiB, cut along all axes. One number is the extent along each axis, -1
        or ``None`` in a sequence the whole axis, ``False`` one chunk for all.
    dtype : dtype_like
        The data type of the items. Default: ``"float64"``. Its byte order is that of the stored items.
    compressor : str, Codec, dict, numcodecs codec, sequence of them, or None
        What compresses a chunk: a name such as ``"zstd"``, ``"blosc"`` or ``"gzip"``, or a codec. Default: a chain that
        is checksummed and that other Zarr libraries read. ``None``: nothing.
    filters : codec or sequence of them, optional
        What runs before the compressor: codecs of numcodecs.
    shards : sequence of int, optional
        The shape of a shard, which holds many chunks in one value of the store; v3 only.
    codecs : sequence of Codec or dict, optional
        The whole chain as in ``zarr.json``, instead of `compressor`, `filters`, `shards` and `order`.
    fill_value : scalar or None
        The item that stands where no chunk is stored. Default: zero. ``None``: nothing in particular (v2 only; zero in
        v3).
    order : {"C", "F"}
        How the items of a chunk are stored. Default: ``"C"``.
    zarr_format : {2, 3}
        The format of the metadata. Default: 3.
    dimension_names : sequence of (str or None), optional
        A name for each axis; v3 only.
    attributes : mapping, optional
        What to note about the array.
    overwrite : bool
        Replace an array or group that is there.
    storage : str, optional
        The name of a store: see `zarrcy.stores.names`. Default: a directory or archive where ``path=`` is given, else
        memory.
    **store_options
        The options of the store, such as ``path=``.

    Returns
    -------
    Array

    Raises
    ------
    TypeError
        `codecs` was given together with `compressor`, `filters`, `shards` or `order`.
    MetadataError
        The options do not fit together; nothing was written.
    UnknownExtensionError
        A data type, codec or store that zarrcy does not know.
    NodeExistsError
        There is something at the place already; nothing was deleted.

    Examples
    --------
    >>> import zarrcy
    >>> a = zarrcy.create(shape=(1000, 1000), chunks=(100, 100), compressor="zstd", storage="memory")
    >>> a.nchunks
    100
    """
    # `path` is an option of the store here: a directory or an archive.
    return create_array(
        None,
        store_options.pop("path", ""),
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        compressor=compressor,
        filters=filters,
        shards=shards,
        codecs=codecs,
        fill_value=fill_value,
        order=order,
        zarr_format=zarr_format,
        dimension_names=dimension_names,
        attributes=attributes,
        overwrite=overwrite,
        storage=storage,
        **store_options,
    )


def array(data: Any, store: StoreLike | None = None, path: str = "", **options: Any) -> Array:
    """Make an array of values, in memory unless a store is given.

    Parameters
    ----------
    data : array_like
        The items.
    store, path
        As for `zarrcy.create_array`.
    **options
        Those of `zarrcy.create_array`. Default for ``shape`` and ``dtype``: those of `data`.

    Examples
    --------
    >>> import zarrcy
    >>> zarrcy.array([[1, 2], [3, 4]])[:, 1]
    array([2, 4])
    """
    items = np.asarray(data)  # also of an array that the new one is going to replace
    options.setdefault("dtype", items.dtype)
    made = create_array(store, path, shape=items.shape, **options)
    made[...] = items
    return made


def full(
    shape: int | Sequence[int], fill_value: Any, store: StoreLike | None = None, path: str = "", **options: Any
) -> Array:
    """Make an array whose items are all `fill_value`; no chunk is stored.

    Parameters
    ----------
    shape : int or sequence of int
        The items along each axis.
    fill_value : scalar
        The item.
    store, path, **options
        As for `zarrcy.create_array`; in memory unless a store is given. Default for ``dtype``: that of `fill_value`.

    Examples
    --------
    >>> import zarrcy
    >>> zarrcy.full((2, 2), 7)[:]
    array([[7, 7],
           [7, 7]])
    """
    options.setdefault("dtype", np.asarray(fill_value).dtype)
    return create_array(store, path, shape=shape, fill_value=fill_value, **options)


def zeros(shape: int | Sequence[int], store: StoreLike | None = None, path: str = "", **options: Any) -> Array:
    """Make an array of zeros: `zarrcy.full` with 0 and the data type ``float64``.

    Examples
    --------
    >>> import zarrcy
    >>> zarrcy.zeros(3)[:]
    array([0., 0., 0.])
    """
    options.setdefault("dtype", "float64")
    return create_array(store, path, shape=shape, **options)


def ones(shape: int | Sequence[int], store: StoreLike | None = None, path: str = "", **options: Any) -> Array:
    """Make an array of ones: `zarrcy.full` with 1 and the data type ``float64``.

    Examples
    --------
    >>> import zarrcy
    >>> zarrcy.ones(3)[:]
    array([1., 1., 1.])
    """
    options.setdefault("dtype", "float64")
    return full(shape, 1, store, path, **options)


def empty(shape: int | Sequence[int], store: StoreLike | None = None, path: str = "", **options: Any) -> Array:
    """Make an array whose items are going to be written: `zarrcy.zeros` by another name.

    Examples
    --------
    >>> import zarrcy
    >>> zarrcy.empty(3, dtype="int8")[:]
    array([0, 0, 0], dtype=int8)
    """
    return zeros(shape, store, path, **options)


def _options_like(other: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The options that describe an array like `other`, where the caller does not say otherwise."""
    if not isinstance(other, Array):
        items = np.asarray(other)
        return {"shape": items.shape, "dtype": items.dtype, **options}
    metadata = other.metadata
    same: dict[str, Any] = {"shape": other.shape, "dtype": other.dtype, "zarr_format": metadata.zarr_format}
    ndim = len(np.atleast_1d(options["shape"])) if "shape" in options else other.ndim
    as_before = ndim == other.ndim
    if as_before and format_of(options.get("zarr_format", metadata.zarr_format)).has_dimension_names:
        same["dimension_names"] = metadata.dimension_names
    chain = {"codecs", "compressor", "filters", "shards", "order", "chunks", "dtype", "shape", "zarr_format"}
    if chain & options.keys():
        return {"chunks": other.chunks if as_before else "auto", **same, **options}
    return {"chunks": metadata.chunk_shape, "codecs": metadata.codecs, **same, **options}


def zeros_like(other: Any, store: StoreLike | None = None, path: str = "", **options: Any) -> Array:
    """`zarrcy.zeros` with the shape, data type, chunks and codecs of another array.

    Examples
    --------
    >>> import zarrcy
    >>> zarrcy.zeros_like(zarrcy.ones((4, 4), chunks=(2, 2))).chunks
    (2, 2)
    """
    return create_array(store, path, **_options_like(other, options))


def ones_like(other: Any, store: StoreLike | None = None, path: str = "", **options: Any) -> Array:
    """`zarrcy.ones` with the shape, data type, chunks and codecs of another array.

    Examples
    --------
    >>> import zarrcy
    >>> zarrcy.ones_like(zarrcy.zeros(2))[:]
    array([1., 1.])
    """
    return full_like(other, 1, store, path, **options)


def empty_like(other: Any, store: StoreLike | None = None, path: str = "", **options: Any) -> Array:
    """`zarrcy.empty` with the shape, data type, chunks and codecs of another array.

    Examples
    --------
    >>> import zarrcy
    >>> zarrcy.empty_like(zarrcy.zeros(2)).shape
    (2,)
    """
    return zeros_like(other, store, path, **options)


def full_like(other: Any, fill_value: Any, store: StoreLike | None = None, path: str = "", **options: Any) -> Array:
    """`zarrcy.full` with the shape, data type, chunks and codecs of another array.

    Examples
    --------
    >>> import zarrcy
    >>> zarrcy.full_like(zarrcy.zeros(2), 5)[:]
    array([5., 5.])
    """
    return create_array(store, path, **{**_options_like(other, options), "fill_value": fill_value})


def save(store: StoreLike, *arrays: Any, path: str = "", **named: Any) -> None:
    """Store one array, or a group of several.

    Parameters
    ----------
    store : Store, str, os.PathLike or dict
        The store, its URL or path.
    *arrays : array_like
        One array goes to `path` itself; several go to a group, named ``arr_0``, ``arr_1`` …
    path : str
        The path in the store. Default: its root.
    **named : array_like
        Arrays of a group, by name.

    Raises
    ------
    NodeExistsError
        There is something at the place already.

    Examples
    --------
    >>> import zarrcy
    >>> store = zarrcy.stores.open("memory://")
    >>> zarrcy.save(store, depth=[1, 2], width=[3])
    >>> zarrcy.load(store)
    {'depth': array([1, 2]), 'width': array([3])}
    """
    if not arrays and not named:
        raise TypeError("save: expected at least one array")
    if len(arrays) == 1 and not named:
        _closing(array(arrays[0], store, path), store)
        return
    members = {f"arr_{i}": data for i, data in enumerate(arrays)}
    twice = members.keys() & named.keys()
    if twice:
        raise TypeError(f"save: expected another name than {', '.join(sorted(twice))}, which an unnamed array has")
    members |= named
    members = {name: data if isinstance(data, Array) else np.asarray(data) for name, data in members.items()}
    for name, data in members.items():
        # What cannot be stored is an error before anything is.
        node_path(name)
        array_metadata(shape=data.shape, dtype=data.dtype)
    group = create_group(store, path)
    for name, data in members.items():
        array(data, group.store, f"{group.path}/{name}" if group.path else name)
    _closing(group, store)


def _closing(node: Array | Group, store: StoreLike) -> None:
    """Close a store that was opened here, so that an archive is finished when `save` returns."""
    if node.store is not store:
        node.store.close()


def load(store: StoreLike, path: str = "") -> Any:
    """Read an array, or all arrays of a group.

    Parameters
    ----------
    store : Store, str, os.PathLike or dict
        The store, its URL or path.
    path : str
        The path of the node. Default: the root.

    Returns
    -------
    numpy.ndarray or dict
        The items; of a group, a dictionary of its arrays, and of the groups in it.

    Examples
    --------
    >>> import zarrcy
    >>> store = zarrcy.stores.open("memory://")
    >>> zarrcy.save(store, [1, 2])
    >>> zarrcy.load(store)
    array([1, 2])
    """
    return _loaded(open(store, path, mode="r"))


def _loaded(node: Array | Group) -> Any:
    if isinstance(node, Array):
        return node[...]
    return {name: _loaded(member) for name, member in node.items()}
