"""`Array`: a chunked array in a store, indexed like NumPy's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from zarrcy import metadata_v2
from zarrcy.errors import MetadataError, NodeNotFoundError, SelectionError
from zarrcy.metadata import ArrayMetadata
from zarrcy.node import Node
from zarrcy.registry import LazyModule
from zarrcy.transfer import ArrayBase

if TYPE_CHECKING:
    import numpy.typing as npt

    from zarrcy import selection as selections
    from zarrcy.codecs import sharding
    from zarrcy.codecs.codec import Codec
    from zarrcy.display import Info
    from zarrcy.selection import Selection
    from zarrcy.stores.store import Store
else:
    sharding = LazyModule("zarrcy.codecs.sharding")
    selections = LazyModule("zarrcy.selection")

__all__ = ["Array"]

MISSING = ("fill", "raise")


class Array(ArrayBase, Node[ArrayMetadata]):
    """A chunked, compressed array in a store. `zarrcy.create_array` makes one, `zarrcy.open_array` opens one.

    ``a[...]`` reads and ``a[...] = value`` writes what the same index of a NumPy array means. A write is stored when
    the assignment returns. Items are in native byte order, however they are stored.

    Parameters
    ----------
    store : Store
        Where it lies.
    path : str
        Its path in the store; empty at the root.
    metadata : ArrayMetadata
        What it is.
    read_only : bool
        Refuse to write.
    missing : {"fill", "raise"}
        What an absent chunk reads as: the fill value, or `MissingChunkError`.
    write_empty_chunks : bool
        Store chunks that equal the fill value; by default they are left out.

    Raises
    ------
    MetadataError
        The codecs cannot work on the chunks.

    Examples
    --------
    >>> import numpy as np
    >>> import zarrcy
    >>> a = zarrcy.create(shape=(100, 100), chunks=(10, 10), dtype="int32")
    >>> a[2:4, ::50] = [[1, 2], [3, 4]]
    >>> a[3], a[2:4, 50]  # doctest: +ELLIPSIS
    (array([3, 0, ...
    """

    _kind = "array"

    def __init__(
        self,
        store: Store,
        path: str,
        metadata: ArrayMetadata,
        *,
        read_only: bool = False,
        missing: str = "fill",
        write_empty_chunks: bool = False,
    ) -> None:
        if missing not in MISSING:
            raise ValueError(f'missing: expected "fill" or "raise", got {missing!r}')
        self._begin(store, path, metadata, read_only or store.read_only, missing, write_empty_chunks)

    # ---- what it is

    @property
    def shape(self) -> tuple[int, ...]:
        """The items along each axis."""
        return self._metadata.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The data type of what is read, in native byte order."""
        return self._metadata.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self._metadata.ndim

    @property
    def size(self) -> int:
        """The number of items."""
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of an item."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all items, decoded."""
        return self.size * self.itemsize

    @property
    def chunks(self) -> tuple[int, ...]:
        """The shape of a chunk; of an inner chunk, where the array is sharded."""
        return self._transfer.cell_shape

    @property
    def shards(self) -> tuple[int, ...] | None:
        """The shape of a shard; ``None`` where the array is not sharded."""
        is_sharded = any(isinstance(codec, sharding.Sharding) for codec in self._metadata.codecs)
        return self._metadata.chunk_shape if is_sharded else None

    @property
    def codecs(self) -> tuple[Codec, ...]:
        """The chain that turns a chunk (a shard, where the array is sharded) into bytes."""
        return self._metadata.codecs

    @property
    def fill_value(self) -> Any:
        """The item that stands where no chunk is stored; ``None`` where v2 has none."""
        return self._metadata.fill_value

    @property
    def order(self) -> str:
        """``"C"`` or ``"F"``: how the items of a chunk are stored."""
        return self._metadata.order

    @property
    def dimension_names(self) -> tuple[str | None, ...] | None:
        """A name for each axis, or ``None``."""
        return self._metadata.dimension_names

    # ---- its chunks

    @property
    def cdata_shape(self) -> tuple[int, ...]:
        """The number of chunks along each axis; of inner chunks, where the array is sharded."""
        return tuple([-(-extent // chunk) for extent, chunk in zip(self.shape, self.chunks, strict=True)])

    @property
    def nchunks(self) -> int:
        """The number of chunks that the array has room for; of inner chunks, where it is sharded."""
        return math.prod(self.cdata_shape)

    @property
    def nchunks_initialized(self) -> int:
        """The number of chunks that are stored. A stored shard counts as all of its inner chunks within the array."""
        if self.shards is None:
            return sum(1 for _ in self.stored_chunks())
        total = 0
        for index in self.stored_chunks():
            extents = [min(s, n - i * s) for i, s, n in zip(index, self.shards, self.shape, strict=True)]
            total += math.prod([-(-extent // chunk) for extent, chunk in zip(extents, self.chunks, strict=True)])
        return total

    @property
    def nbytes_stored(self) -> int:
        """Bytes of all values in the store that belong to the array, metadata included."""
        keys = [*self._chunk_keys(), *metadata_v2.node_keys(self._path)]
        return sum(self._store.size(key) or 0 for key in keys)

    def chunk_key(self, index: tuple[int, ...]) -> str:
        """The key in the store of a chunk (a shard, where the array is sharded).

        Parameters
        ----------
        index : tuple of int
            Its position in the grid.
        """
        return self._transfer.key(index)

    def stored_chunks(self) -> Iterator[tuple[int, ...]]:
        """The position in the grid of every chunk (shard, where the array is sharded) that is stored, in any order."""
        for key in self._chunk_keys():
            index = self._chunk_index(key)
            if index is not None:
                yield index

    def _chunk_keys(self) -> Iterator[str]:
        return (key for key in self._store.list_prefix(self._prefix) if self._chunk_index(key) is not None)

    def _chunk_index(self, key: str) -> tuple[int, ...] | None:
        index = self._metadata.chunk_key_encoding.parse(key[len(self._prefix) :], self.ndim)
        if index is None:
            return None
        grid = self._metadata.chunk_grid.grid_shape(self.shape)
        return index if all(i < n for i, n in zip(index, grid, strict=True)) else None

    @property
    def _prefix(self) -> str:
        return f"{self._path}/" if self._path else ""

    # ---- reading

    def _get(self, selection: Selection, out: npt.NDArray[Any] | None = None) -> Any:
        transfer = self._transfer  # once: another thread may refresh the array, and it may be of another data type then
        if out is None:
            result = transfer.read(selection, None)
            if result.shape != selection.shape:
                result = result.reshape(selection.shape)
            return result[()] if selection.scalar else result
        if out.shape != selection.shape:
            raise SelectionError(f"out: expected shape {selection.shape}, got {out.shape}")
        if not out.flags.writeable:
            raise ValueError("out: expected a writable array, got a read-only one")
        view = _view(out, selection.transfer_shape) if out.dtype == transfer.dtype else None
        if view is None:
            np.copyto(out, self._get(selection), casting="same_kind")
        else:
            transfer.read(selection, view)
        return out

    def get_slice(
        self,
        start: Any = None,
        stop: Any = None,
        step: Any = None,
        out: npt.NDArray[Any] | None = None,
    ) -> npt.NDArray[Any]:
        """Read ``self[start:stop:step]`` along every axis.

        Parameters
        ----------
        start, stop, step : int or sequence of int or None, optional
            One entry for each axis, as in a Python slice; missing ones leave the axis whole.
        out : numpy.ndarray, optional
            Where to write the items; of the shape of the result.

        Returns
        -------
        numpy.ndarray
            The items; `out` where it was given.

        Raises
        ------
        SelectionError
            There are more entries than axes, or `out` has another shape.

        Examples
        --------
        >>> import zarrcy
        >>> a = zarrcy.array([[1, 2, 3], [4, 5, 6]])
        >>> a.get_slice(start=(0, 1), stop=(2, 3))
        array([[2, 3],
               [5, 6]])
        """
        return cast("npt.NDArray[Any]", self._get(selections.parse_region(start, stop, step, self.shape), out))

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("copy: expected True or None: the items of a zarrcy.Array have to be read")
        items = np.asarray(self[...])
        return items if dtype is None else items.astype(dtype, copy=False)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d array")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        if not self.shape:
            raise TypeError("iteration over a 0-d array")
        # Rows of chunks at a time, so that each chunk is read once.
        n_rows = self._metadata.chunk_shape[0]
        return (row for start in range(0, self.shape[0], n_rows) for row in self[start : start + n_rows])

    def __bool__(self) -> bool:
        return bool(np.asarray(self))

    def __float__(self) -> float:
        return float(np.asarray(self))

    def __int__(self) -> int:
        return int(np.asarray(self))

    # ---- writing

    def _set(self, selection: Selection, value: Any) -> None:
        self._check_writable()
        transfer = self._transfer  # once, as to read
        items = np.asarray(value, transfer.dtype)
        while items.ndim > len(selection.shape) and items.shape[0] == 1:
            items = items[0]
        try:
            items = np.broadcast_to(items, selection.shape)
        except ValueError as error:
            raise ValueError(
                f"value: expected a shape that broadcasts to {selection.shape}, got {items.shape}"
            ) from error
        transfer.write(selection, items.reshape(selection.transfer_shape))

    def __setitem__(self, key: Any, value: Any) -> None:
        self._set(selections.parse(key, self.shape), value)

    def set_slice(self, data: Any, start: Any = None, stop: Any = None, step: Any = None) -> None:
        """Write ``self[start:stop:step] = data`` along every axis.

        Parameters
        ----------
        data : array_like
            The items; broadcast like an assignment to a NumPy array.
        start, stop, step : int or sequence of int or None, optional
            As for `get_slice`.

        Raises
        ------
        ReadOnlyError
            The array was opened for reading.
        ValueError
            The shape of `data` does not fit.

        Examples
        --------
        >>> import zarrcy
        >>> a = zarrcy.zeros((2, 3), dtype="int64")
        >>> a.set_slice([7, 8], start=(0, 1), stop=(1, 3))
        >>> a[0]
        array([0, 7, 8])
        """
        self._set(selections.parse_region(start, stop, step, self.shape), data)

    @property
    def oindex(self) -> _Indexer:
        """Orthogonal indexing: each axis has an index of its own, and the result is their outer product."""
        return _Indexer(self, lambda key: selections.parse_orthogonal(key, self.shape))

    @property
    def vindex(self) -> _Indexer:
        """Indexing by points: one coordinate array for each axis, or one boolean mask of the array's shape."""
        return _Indexer(self, lambda key: selections.parse_points(key, self.shape))

    @property
    def blocks(self) -> _Indexer:
        """Indexing by chunks (by shards, where the array is sharded): integers and slices count chunks."""
        return _Indexer(self, lambda key: selections.parse_blocks(key, self.shape, self._metadata.chunk_shape))

    # ---- changing its shape

    def resize(self, shape: int | tuple[int, ...]) -> None:
        """Change the shape. Items beyond it are deleted; new items are the fill value.

        Parameters
        ----------
        shape : int or tuple of int
            The new shape, with as many axes.

        Raises
        ------
        ReadOnlyError
            The array was opened for reading.
        MetadataError
            `shape` is no shape, or has another number of axes.

        Examples
        --------
        >>> import zarrcy
        >>> a = zarrcy.array([1, 2, 3])
        >>> a.resize(5)
        >>> a[:]
        array([1, 2, 3, 0, 0])
        """
        new = (shape,) if isinstance(shape, int) else tuple(shape)
        if len(new) != self.ndim:
            raise MetadataError(f"shape: expected {self.ndim} axes, got {len(new)}")
        self._resize(lambda old: new)

    def _resize(self, new_shape: Callable[[tuple[int, ...]], tuple[int, ...]]) -> tuple[int, ...]:
        """Change the shape as it is in the store now; returns the old one."""
        self._check_writable()
        old: tuple[int, ...] = ()

        def changed(metadata: ArrayMetadata) -> ArrayMetadata:
            nonlocal old
            old = metadata.shape
            return metadata.replace(shape=new_shape(metadata.shape))

        stored = metadata_v2.update_node(self._store, self._path, self._metadata, changed)
        if any(after < before for after, before in zip(stored.shape, old, strict=True)):
            self._set_metadata(stored.replace(shape=old))
            self._drop_outside(stored.shape)
        self._set_metadata(stored)
        return old

    def _drop_outside(self, shape: tuple[int, ...]) -> None:
        """Delete the chunks beyond `shape`, and put the fill value beyond it in those that stay."""
        chunk_shape = self._metadata.chunk_shape
        for index in list(self.stored_chunks()):
            starts = [i * chunk for i, chunk in zip(index, chunk_shape, strict=True)]
            if any(start >= extent for start, extent in zip(starts, shape, strict=True)):
                self._store.delete(self.chunk_key(index))
                continue
            stops = [min(start + chunk, n) for start, chunk, n in zip(starts, chunk_shape, self.shape, strict=True)]
            for axis, (stop, extent) in enumerate(zip(stops, shape, strict=True)):
                if stop > extent:
                    region = tuple([slice(start, stop) for start, stop in zip(starts, stops, strict=True)])
                    beyond = (*region[:axis], slice(extent, stop), *region[axis + 1 :])
                    self[beyond] = self._metadata.data_type.zero() if self.fill_value is None else self.fill_value

    def append(self, data: Any, axis: int = 0) -> tuple[int, ...]:
        """Make the array longer along one axis by `data`. Concurrent appends lose nothing: each has a part of its own.

        Parameters
        ----------
        data : array_like
            The items; along the other axes, of the array's extents.
        axis : int
            The axis that grows. Default: the first one.

        Returns
        -------
        tuple of int
            The new shape.

        Raises
        ------
        ReadOnlyError
            The array was opened for reading.
        ValueError
            The shape of `data` does not fit.

        Examples
        --------
        >>> import zarrcy
        >>> a = zarrcy.array([[1, 2]])
        >>> a.append([[3, 4], [5, 6]])
        (3, 2)
        """
        items = np.asarray(data, self.dtype)
        if not -self.ndim <= axis < self.ndim:
            raise SelectionError(f"axis: expected one of {self.ndim}, got {axis}")
        axis %= self.ndim

        def longer(shape: tuple[int, ...]) -> tuple[int, ...]:
            others = [n for i, n in enumerate(shape) if i != axis]
            if items.ndim != len(shape) or [n for i, n in enumerate(items.shape) if i != axis] != others:
                raise ValueError(f"data: expected the extents of {shape} beside axis {axis}, got {items.shape}")
            return (*shape[:axis], shape[axis] + items.shape[axis], *shape[axis + 1 :])

        old = self._resize(longer)
        start = old[axis]
        self[(*[slice(None)] * axis, slice(start, start + items.shape[axis]))] = items
        return self.shape

    def refresh(self) -> None:
        """Read the metadata again, for what other processes changed."""
        node = metadata_v2.read_node(self._store, self._path, self._metadata.zarr_format)
        if not isinstance(node, ArrayMetadata):
            raise NodeNotFoundError("expected an array, got nothing", store=self._store.url, key=self._path)
        self._set_metadata(node)

    # ---- how it shows

    @property
    def info(self) -> Info:
        """What the array is, as a table; it lists the store to count the chunks."""
        from zarrcy import display

        return display.array_info(
            **self._described(),
            zarr_format=self._metadata.zarr_format,
            fill_value=self.fill_value,
            order=self.order,
            dimension_names=self.dimension_names,
            codecs=[_codec_text(codec) for codec in self.codecs],
            store=self._store.url,
            read_only=self.read_only,
            nbytes_stored=self.nbytes_stored,
            n_chunks=self.nchunks,
            n_chunks_initialized=self.nchunks_initialized,
        )

    def _described(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "dtype": str(self.dtype),
            "chunk_shape": self.chunks,
            "shard_shape": self.shards,
            "path": self.name,
            "nbytes": self.nbytes,
        }

    def __repr__(self) -> str:
        from zarrcy import display

        return display.array_repr(**self._described())

    def _repr_html_(self) -> str:
        from zarrcy import display

        names, zarr_format = self.dimension_names, self._metadata.zarr_format
        return display.array_html(**self._described(), dimension_names=names, zarr_format=zarr_format)

    # ---- in other processes

    def __reduce__(self) -> tuple[Any, ...]:
        options = {
            "read_only": self._read_only,
            "missing": self._missing,
            "write_empty_chunks": self._write_empty_chunks,
        }
        return (_restore, (self._store, self._path, self._metadata, options))

    def __eq__(self, other: object) -> bool:
        """The same array in the same store. Items are compared by NumPy: ``a[:] == b[:]``."""
        if not isinstance(other, Array):
            return NotImplemented
        return (self._store, self._path, self._metadata) == (other._store, other._path, other._metadata)

    def __hash__(self) -> int:
        return hash((self._store, self._path))

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        # Without the attributes: no item depends on them, and they may have to be read.
        return ("zarrcy.Array", repr(self._store), self._path, repr(self._metadata.with_attributes({})))


def _restore(store: Store, path: str, metadata: ArrayMetadata, options: dict[str, Any]) -> Array:
    return Array(store, path, metadata, **options)


def _codec_text(codec: Codec) -> str:
    """A codec by the name and the settings that stand in the metadata; of chains inside it, the names."""
    settings = []
    for name, value in codec.configuration().items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = "+".join(document["name"] for document in value)
        settings.append(f"{name}={value}")
    return f"{codec.name}({', '.join(settings)})" if settings else codec.name


def _view(out: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any] | None:
    """`out` in another shape, when that takes no copy."""
    view = out.reshape(shape)
    return view if np.may_share_memory(view, out) or not out.size else None


class _Indexer:
    """One of the ways to index an array: ``oindex``, ``vindex`` or ``blocks``."""

    __slots__ = ("_array", "_parse")

    def __init__(self, array: Array, parse: Callable[[Any], Selection]) -> None:
        self._array = array
        self._parse = parse

    def __getitem__(self, key: Any) -> Any:
        return self._array._get(self._parse(key))

    def __setitem__(self, key: Any, value: Any) -> None:
        self._array._set(self._parse(key), value)
