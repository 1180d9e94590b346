"""What the user wrote between the brackets → :class:`Selection`, the form that the transfer engine reads and writes by.

``parse`` follows ``numpy.ndarray.__getitem__`` (NumPy's user guide, "Indexing on ndarrays"); ``parse_orthogonal``,
``parse_points`` and ``parse_blocks`` stand behind ``oindex``, ``vindex`` and ``blocks``; ``parse_region`` behind
``get_slice`` and ``set_slice``. Whatever cannot be answered is a :class:`~zarrcy.errors.SelectionError`, raised here,
before any byte is read or written.

The engine moves faster along an axis of its own than through a list of points, and a slice is faster than an index
array. So index arrays that broadcast like an open mesh (``numpy.ix_``; a single array is the commonest case) become
positions along their own axes, and evenly spaced positions become a slice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from zarrcy.errors import SelectionError
from zarrcy.indices import (
    Item,
    Positions,
    Span,
    along_axis,
    array_positions,
    described,
    evenly_spaced,
    filled_up,
    flat,
    index_item,
    mask_positions,
    n_axes,
    n_basic_behind_ellipsis,
    one_per_axis,
    position,
    span,
    too_many,
)

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Selection", "parse", "parse_blocks", "parse_orthogonal", "parse_points", "parse_region"]

AxisSelection: TypeAlias = "Span | Positions | None"
Points: TypeAlias = "tuple[tuple[int, ...], list[Positions]]"
Shape: TypeAlias = tuple[int, ...]

_MAX_RANK = 64 if int(np.__version__.split(".")[0]) >= 2 else 32  # NumPy's NPY_MAXDIMS


class Selection:
    """The items of an array that one read or write moves, and where they go in a buffer.

    Item ``b`` of a C-contiguous buffer of shape ``transfer_shape`` belongs to the array item whose position on axis
    ``k`` is given by ``axes[k]`` at ``b[transfer_axes[k]]`` (at 0 where that is -1), or by the coordinates of
    ``points`` at ``b[points_dim]``. The result is ``buffer.reshape(shape)``. Nothing is to be moved when
    ``transfer_shape`` holds a 0. Positions may share memory with the caller's arrays and may be read-only.

    Attributes
    ----------
    axes : list
        For each axis of the array: ``(start, step, count)`` (positions ``start + i * step``; ``step`` is never 0), or a
        C-contiguous one-dimensional int64 array of positions, in any order, repeats allowed; or None when the axis
        belongs to `points`.
    points : tuple or None
        ``(axes, coordinates)``: the axes that are selected together, and for each of them a C-contiguous int64 array
        with one coordinate per point. Empty for the selection ``False``, which has no points on no axes.
    transfer_shape : tuple of int
        One dimension for each axis that was not dropped by an integer, one flat dimension for all points.
    transfer_axes : list of int
        For each axis of the array its dimension in `transfer_shape`; -1 when it was dropped (its count is 1) or belongs
        to `points`.
    points_dim : int
        The dimension of the points in `transfer_shape`, or -1.
    shape : tuple of int
        The shape of the result, as NumPy gives it.
    scalar : bool
        NumPy would return a scalar, not an array.

    Examples
    --------
    >>> selection = parse((slice(None, None, -2), None, [1, 5, 5]), (10, 10))
    >>> selection.axes[0], selection.axes[1].tolist()
    ((9, -2, 5), [1, 5, 5])
    >>> selection.transfer_shape, selection.shape
    ((5, 3), (5, 1, 3))
    """

    __slots__ = ("axes", "points", "points_dim", "scalar", "shape", "transfer_axes", "transfer_shape")

    def __init__(
        self,
        axes: list[AxisSelection],
        transfer_shape: Shape,
        transfer_axes: list[int],
        shape: Shape,
        scalar: bool = False,
        points: Points | None = None,
        points_dim: int = -1,
    ) -> None:
        self.axes = axes
        self.points = points
        self.transfer_shape = transfer_shape
        self.transfer_axes = transfer_axes
        self.points_dim = points_dim
        self.shape = shape
        self.scalar = scalar

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"Selection({fields})"


def parse(key: Any, shape: Shape) -> Selection:
    """The selection that NumPy's indexing means by `key`.

    Parameters
    ----------
    key : object
        Anything that ``ndarray.__getitem__`` takes: integers, slices with any step, ``...``, ``None``, boolean masks,
        arrays and nested lists of integers, and tuples of these.
    shape : tuple of int
        Shape of the array.

    Returns
    -------
    Selection

    Raises
    ------
    SelectionError
        The key is not an index, or it is out of bounds. Unsigned positions from 2**63 are out of bounds; NumPy wraps
        them.

    Examples
    --------
    >>> parse((0, slice(2, 8)), (10, 10)).shape
    (6,)
    >>> parse(12, (10,))
    Traceback (most recent call last):
        ...
    zarrcy.errors.SelectionError: axis 0: index 12 is out of bounds: expected -10 … 9, got 12
    """
    items = key if isinstance(key, tuple) else (key,)
    rank = len(shape)
    axes: list[AxisSelection] = []
    transfer_shape: list[int] = []
    transfer_axes: list[int] = []
    newaxes: list[int] = []
    kept = False  # an Ellipsis: NumPy then returns an array, never a scalar
    for item in items:
        kind = type(item)
        axis = len(axes)
        if kind is slice:
            if axis == rank:
                raise too_many(items, rank)
            along = span(item, axis, shape[axis])
            axes.append(along)
            transfer_axes.append(len(transfer_shape))
            transfer_shape.append(along[2])
        elif kind is int or isinstance(item, np.integer):
            if axis == rank:
                raise too_many(items, rank)
            axes.append((position(int(item), axis, shape[axis]), 1, 1))
            transfer_axes.append(-1)
        elif item is None:
            newaxes.append(len(transfer_shape))
        elif item is Ellipsis and not kept and (n_behind := n_basic_behind_ellipsis(items)) >= 0:
            kept = True
            for length in shape[axis : max(axis, rank - n_behind)]:
                axes.append((0, 1, length))
                transfer_axes.append(len(transfer_shape))
                transfer_shape.append(length)
        else:
            return _parse_general(items, shape)
    for length in shape[len(axes) :]:
        axes.append((0, 1, length))
        transfer_axes.append(len(transfer_shape))
        transfer_shape.append(length)
    transfer = tuple(transfer_shape)
    if not newaxes:
        return Selection(axes, transfer, transfer_axes, transfer, not transfer and not kept)
    for dim in reversed(newaxes):
        transfer_shape.insert(dim, 1)
    return Selection(axes, transfer, transfer_axes, _checked_rank(transfer_shape))


def parse_orthogonal(key: Any, shape: Shape) -> Selection:
    """The selection that ``oindex`` means by `key`: every axis on its own.

    Parameters
    ----------
    key : object
        For each axis an integer (the axis is dropped), a slice, or a one-dimensional array or list of integers or
        booleans; ``...`` and missing axes are whole.
    shape : tuple of int
        Shape of the array.

    Returns
    -------
    Selection
        Its shape is the outer product, in the order of the axes.

    Raises
    ------
    SelectionError
        The key is not such an index, or it is out of bounds.

    Examples
    --------
    >>> parse_orthogonal(([0, 4], slice(None), [True, False, True]), (10, 5, 3)).shape
    (2, 5, 2)
    """
    items = [index_item(item) for item in (key if isinstance(key, tuple) else (key,))]
    axes: list[AxisSelection] = []
    transfer_shape: list[int] = []
    transfer_axes: list[int] = []
    for axis, item in enumerate(one_per_axis(items, len(shape))):
        if isinstance(item, int):
            axes.append((position(item, axis, shape[axis]), 1, 1))
            transfer_axes.append(-1)
            continue
        along, count = along_axis(item, axis, shape[axis])
        axes.append(along)
        transfer_axes.append(len(transfer_shape))
        transfer_shape.append(count)
    transfer = tuple(transfer_shape)
    scalar = not transfer and all(item is not Ellipsis for item in items)
    return Selection(axes, transfer, transfer_axes, transfer, scalar)


def parse_points(key: Any, shape: Shape) -> Selection:
    """The selection that ``vindex`` means by `key`: single points of the array.

    Parameters
    ----------
    key : object
        One integer, or array or list of integers, for each axis, which are broadcast against each other; or one boolean
        mask of the shape of the array.
    shape : tuple of int
        Shape of the array.

    Returns
    -------
    Selection
        Its shape is that of the broadcast coordinates; one dimension for a mask.

    Raises
    ------
    SelectionError
        The key is not such an index, or it is out of bounds.

    Examples
    --------
    >>> parse_points(([0, 4, 9], [1, 1, 2]), (10, 5)).points
    ((0, 1), [array([0, 4, 9]), array([1, 1, 2])])
    """
    items = [index_item(item) for item in (key if isinstance(key, tuple) else (key,))]
    hint = "vindex takes one integer or integer array per axis, or one mask of the array's shape; oindex takes slices"
    for item in items:
        if item is None or item is Ellipsis or isinstance(item, slice):
            raise SelectionError(f"vindex: expected coordinates, got {described(item)}", hint=hint)
    masks = [item for item in items if isinstance(item, np.ndarray) and item.dtype.kind == "b"]
    if masks and (len(items) != 1 or masks[0].ndim != len(shape)):
        got = f"{len(items)} indices with a mask of {masks[0].ndim} axes"
        raise SelectionError(f"vindex: expected one mask of {len(shape)} axes and nothing else, got {got}", hint=hint)
    if not masks and len(items) != len(shape):
        raise SelectionError(f"vindex: expected {len(shape)} coordinates, one per axis, got {len(items)}", hint=hint)
    return _parse_mixed(items, shape)


def parse_blocks(key: Any, shape: Shape, chunk_shape: Shape) -> Selection:
    """The selection that ``blocks`` means by `key`: whole chunks of the grid.

    Parameters
    ----------
    key : object
        For each axis an integer or a slice of step 1 that counts chunks; ``...`` and missing axes are whole. An integer
        keeps its axis.
    shape : tuple of int
        Shape of the array.
    chunk_shape : tuple of int
        Shape of a chunk.

    Returns
    -------
    Selection

    Raises
    ------
    SelectionError
        The key is not such an index, or there is no such chunk.

    Examples
    --------
    >>> parse_blocks((0, slice(1, 3)), (10, 10), (4, 4)).axes
    [(0, 1, 4), (4, 1, 6)]
    """
    items = [index_item(item) for item in (key if isinstance(key, tuple) else (key,))]
    axes: list[AxisSelection] = []
    for axis, item in enumerate(one_per_axis(items, len(shape))):
        length = max(chunk_shape[axis], 1)
        n_chunks = -(-shape[axis] // length)
        if isinstance(item, int):
            first, count = position(item, axis, n_chunks, "chunk"), 1
        elif isinstance(item, slice):
            first, step, count = span(item, axis, n_chunks)
            if step != 1 or item.step not in (None, 1):
                raise SelectionError(f"axis {axis}: blocks: expected a slice of step 1, got step {item.step}")
        else:
            raise SelectionError(f"axis {axis}: blocks: expected an integer or a slice, got {described(item)}")
        start = first * length
        axes.append((start, 1, min(start + count * length, shape[axis]) - start) if count else (0, 1, 0))
    return _orthogonal_spans(axes)


def parse_region(start: Any, stop: Any, step: Any, shape: Shape) -> Selection:
    """The selection ``array[start:stop:step]`` on every axis, which ``get_slice`` and ``set_slice`` take.

    Parameters
    ----------
    start, stop, step : int, None, or sequence of int or None
        One entry per axis; None, and entries that are missing at the end, leave the axis whole. One integer is the
        entry of the first axis. As in a Python slice, negative positions count from the end and positions beyond the
        axis are cut off.
    shape : tuple of int
        Shape of the array.

    Returns
    -------
    Selection

    Raises
    ------
    SelectionError
        There are more entries than axes, one is not an integer, or a step is 0.

    Examples
    --------
    >>> parse_region((0, 2), (4, None), None, (10, 10)).axes
    [(0, 1, 4), (2, 1, 8)]
    """
    starts, stops, steps = (
        _entries(name, value, len(shape)) for name, value in (("start", start), ("stop", stop), ("step", step))
    )
    slices = map(slice, starts, stops, steps)
    return _orthogonal_spans([span(item, axis, shape[axis]) for axis, item in enumerate(slices)])


def _entries(name: str, value: Any, rank: int) -> list[Any]:
    if value is None or hasattr(value, "__index__"):
        value = (value,)
    try:
        entries = list(value)
    except TypeError:
        raise SelectionError(f"{name}: expected an integer or a sequence of integers, got {described(value)}") from None
    if len(entries) > rank and entries != [None]:
        raise SelectionError(f"{name}: expected at most {rank} entries, one per axis, got {len(entries)}")
    return (entries + [None] * rank)[:rank]


def _orthogonal_spans(axes: list[AxisSelection]) -> Selection:
    shape = tuple(along[2] for along in axes if isinstance(along, tuple))
    return Selection(axes, shape, list(range(len(axes))), shape)


def _parse_general(items: Sequence[Any], shape: Shape) -> Selection:
    normal = [index_item(item) for item in items]
    if not any(isinstance(item, np.ndarray) for item in normal):
        filled_up(normal, len(shape))  # a second Ellipsis ends here
        return parse(tuple(normal), shape)
    return _parse_mixed(normal, shape)


def _parse_mixed(items: list[Item], shape: Shape) -> Selection:
    """NumPy's rule for integers, slices and arrays together.

    Arrays and integers are broadcast against each other. Their dimensions take the place of the first one when they are
    neighbours; when a slice, Ellipsis or None stands between two of them, they come first.
    """
    layout = _Layout(len(shape))
    arrays: list[tuple[int, npt.NDArray[Any]]] = []  # axis (-1: a mask of no axes), index array
    dims: list[tuple[int, Item]] = []  # axis (-1: a new one), its slice
    place: int | None = None
    ended = False
    axis = 0
    for item in filled_up(items, len(shape)):
        if isinstance(item, int | np.ndarray):
            if place is None:
                place = len(dims)
            elif ended:
                place = 0
            arrays.extend(_coordinates(item, axis, shape))
        else:
            ended = place is not None
            if item is not Ellipsis:
                dims.append((-1 if item is None else axis, item))
        axis += n_axes(item)
    for axis, item in dims[:place]:
        layout.add_dim(axis, item, shape)
    layout.add_arrays(arrays, shape)
    for axis, item in dims[len(dims) if place is None else place :]:
        layout.add_dim(axis, item, shape)
    return layout.finish()


def _coordinates(item: int | npt.NDArray[Any], axis: int, shape: Shape) -> list[tuple[int, npt.NDArray[Any]]]:
    """The index arrays that an integer, index array or mask stands for, with their axes."""
    if isinstance(item, int):
        return [(axis, np.array(position(item, axis, shape[axis])))]
    if item.dtype.kind != "b":
        return [(axis, item)]
    if item.ndim == 0:
        return [(-1, np.zeros(int(item), dtype=np.int64))]
    return list(enumerate(mask_positions(item, axis, shape[axis : axis + item.ndim]), axis))


class _Layout:
    """The dimensions of a selection, added in their order."""

    def __init__(self, rank: int) -> None:
        self.axes: list[AxisSelection] = [None] * rank
        self.transfer_axes = [-1] * rank
        self.transfer_shape: list[int] = []
        self.shape: list[int] = []
        self.points: Points | None = None
        self.points_dim = -1

    def finish(self) -> Selection:
        shape = _checked_rank(self.shape)
        transfer_shape = tuple(self.transfer_shape)
        return Selection(self.axes, transfer_shape, self.transfer_axes, shape, not shape, self.points, self.points_dim)

    def add_dim(self, axis: int, item: Item, shape: Shape) -> None:
        if axis < 0:
            self.shape.append(1)
            return
        along = span(item, axis, shape[axis])
        self._add_axis(axis, along, along[2])
        self.shape.append(along[2])

    def add_arrays(self, arrays: list[tuple[int, npt.NDArray[Any]]], shape: Shape) -> None:
        """The dimensions of arrays that are broadcast together: axes where they are an open mesh, else points."""
        together = _broadcast([array.shape for _, array in arrays])
        self.shape.extend(together)
        owners = _mesh(arrays, together)
        if owners is None or (0 in together and len(arrays) > 1):
            self._add_points(arrays, together, shape)
            return
        for k, (axis, array) in enumerate(arrays):
            if k not in owners and axis >= 0:
                self.axes[axis] = (int(array_positions(array, axis, shape[axis])[0]), 1, 1)
        for axis, array in (arrays[k] for k in owners):
            positions = array_positions(array, axis, shape[axis])
            self._add_axis(axis, evenly_spaced(positions), len(positions))

    def _add_axis(self, axis: int, along: AxisSelection, count: int) -> None:
        self.axes[axis] = along
        self.transfer_axes[axis] = len(self.transfer_shape)
        self.transfer_shape.append(count)

    def _add_points(self, arrays: list[tuple[int, npt.NDArray[Any]]], together: Shape, shape: Shape) -> None:
        n_points = math.prod(together)
        axes: list[int] = []
        coordinates: list[Positions] = []
        for axis, array in arrays:
            if axis < 0:
                continue
            if n_points and array.size == 1:
                self.axes[axis] = (int(array_positions(array, axis, shape[axis])[0]), 1, 1)
            else:
                # NumPy does not look at the positions either when broadcasting leaves none of them.
                positions = array_positions(array, axis, shape[axis]).reshape(array.shape) if n_points else array
                axes.append(axis)
                coordinates.append(flat(np.broadcast_to(positions, together)))
        self.points = tuple(axes), coordinates
        self.points_dim = len(self.transfer_shape)
        self.transfer_shape.append(n_points)


def _broadcast(shapes: list[Shape]) -> Shape:
    together = [1] * max(map(len, shapes), default=0)
    for shape in shapes:
        for dim, length in enumerate(shape, len(together) - len(shape)):
            if together[dim] == 1:
                together[dim] = length
            elif length not in (1, together[dim]):
                got = " ".join(str(shape) for shape in shapes if shape)
                raise SelectionError(f"index arrays: expected shapes that broadcast together, got {got}")
    return tuple(together)


def _mesh(arrays: list[tuple[int, npt.NDArray[Any]]], together: Shape) -> list[int] | None:
    """Which array alone makes each dimension longer than 1; None where arrays share one or their dimensions mix."""
    owners: list[int] = []
    for dim in range(-len(together), 0):
        if together[dim] == 1:
            continue
        makers = [k for k, (_, array) in enumerate(arrays) if array.ndim >= -dim and array.shape[dim] != 1]
        if len(makers) != 1 or arrays[makers[0]][0] < 0 or makers[0] in owners[:-1]:
            return None
        if makers != owners[-1:]:
            owners.extend(makers)
    return owners


def _checked_rank(shape: list[int]) -> Shape:
    if len(shape) > _MAX_RANK:
        raise SelectionError(f"index: expected a result of at most {_MAX_RANK} axes, got {len(shape)}")
    return tuple(shape)
