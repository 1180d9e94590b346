"""The entries of an index: what each of them is, and which positions of its axis it means.

An entry is an integer, a slice, ``None``, ``...``, or an array of integers or booleans; :func:`index_item` makes one of
whatever the user wrote. Errors name the axis, what was expected and what came.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from zarrcy.errors import SelectionError

if TYPE_CHECKING:
    import numpy.typing as npt

Positions: TypeAlias = "npt.NDArray[np.int64]"
Span: TypeAlias = tuple[int, int, int]  # start, step, count
Item: TypeAlias = Any  # int, slice, None, Ellipsis, or an array of integers or booleans

_HINT = "use integers, slices, ..., None, and arrays or lists of integers or booleans"


def index_item(item: Any) -> Item:
    """Integers as int, masks as boolean arrays, everything like an array as an array of integers."""
    if item is None or item is Ellipsis or isinstance(item, slice):
        return item
    if isinstance(item, bool | np.bool_):
        return np.array(item)
    if isinstance(item, str | bytes):
        raise SelectionError(f"index {item!r}: no fields: expected an index, got a string", hint=_HINT)
    if not isinstance(item, np.ndarray):
        try:
            return operator.index(item)
        except TypeError:
            item = _as_array(item)
    elif type(item) is not np.ndarray:
        item = np.asarray(item)
    kind = item.dtype.kind
    if kind == "b":
        return item
    if kind not in "iu":
        what = "no fields: expected" if kind in "SU" else "expected"
        raise SelectionError(f"index: {what} integers or booleans, got {item.dtype}", hint=_HINT)
    return item if item.ndim else int(item)


def _as_array(item: Any) -> npt.NDArray[Any]:
    try:
        array = np.asarray(item)
    except (TypeError, ValueError) as error:
        raise SelectionError(f"index: expected an array of integers, got {described(item)}", hint=str(error)) from error
    if array.size == 0 and array.dtype.kind == "f":
        return array.astype(np.int64)  # an empty list has no data type of its own
    return array


def described(item: Any) -> str:
    if isinstance(item, np.ndarray):
        return f"an array of {item.ndim} axes and data type {item.dtype}"
    if item is None:
        return "None"
    if item is Ellipsis:
        return "..."
    return f"a slice {item}" if isinstance(item, slice) else f"{type(item).__name__} {item!r:.60}"


def n_axes(item: Item) -> int:
    if item is None or item is Ellipsis:
        return 0
    return item.ndim if isinstance(item, np.ndarray) and item.dtype.kind == "b" else 1


def n_basic_behind_ellipsis(items: Sequence[Any]) -> int:
    """How many axes the items behind the Ellipsis take; -1 when one of them is no integer, slice or None."""
    count = 0
    for item in reversed(items):
        if item is Ellipsis:
            break
        if type(item) is slice or type(item) is int or isinstance(item, np.integer):
            count += 1
        elif item is not None:
            return -1
    return count


def too_many(items: Iterable[Item], rank: int) -> SelectionError:
    got = sum(n_axes(item) for item in items)
    return SelectionError(f"index: expected at most {rank} indices, one per axis, got {got}")


def filled_up(items: list[Item], rank: int) -> list[Item]:
    """The items, with full slices behind the Ellipsis (or at the end) for the axes that are not named."""
    n_missing = rank - sum(map(n_axes, items))
    if n_missing < 0:
        raise too_many(items, rank)
    places = [i for i, item in enumerate(items) if item is Ellipsis]
    if len(places) > 1:
        raise SelectionError(f"index: expected at most one ..., got {len(places)}")
    place = places[0] + 1 if places else len(items)
    return items[:place] + [slice(None)] * n_missing + items[place:]


def one_per_axis(items: list[Item], rank: int) -> list[Item]:
    """The items of an index that treats every axis on its own, one for each axis."""
    for item in items:
        if item is None:
            raise SelectionError("index: expected one entry per axis, got None", hint="only a[...] takes new axes")
        if isinstance(item, np.ndarray) and item.ndim != 1:
            hint = "vindex takes masks of the array's shape and coordinate arrays of any rank"
            raise SelectionError(f"index: expected one-dimensional arrays, got {described(item)}", hint=hint)
    return [item for item in filled_up(items, rank) if item is not Ellipsis]


def position(index: int, axis: int, length: int, what: str = "index") -> int:
    if index < -length or index >= length:
        expected = f"{-length} … {length - 1}" if length else "nothing, the axis is empty"
        raise SelectionError(f"axis {axis}: {what} {index} is out of bounds: expected {expected}, got {index}")
    return index + length if index < 0 else index


def span(item: slice, axis: int, length: int) -> Span:
    try:
        start, stop, step = item.indices(length)
    except (TypeError, ValueError) as error:
        raise SelectionError(
            f"axis {axis}: {item}: expected a slice of integers, its step not 0, got: {error}"
        ) from None
    count = stop - start if step == 1 else len(range(start, stop, step))
    if count > 1:
        return start, step, count
    return (start, 1, 1) if count == 1 else (0, 1, 0)


def along_axis(item: Item, axis: int, length: int) -> tuple[Span | Positions, int]:
    """A slice, mask or index array of one axis: where it goes, and how many positions it has."""
    if isinstance(item, slice):
        along = span(item, axis, length)
        return along, along[2]
    if item.dtype.kind == "b":
        positions = mask_positions(item, axis, (length,))[0]
    else:
        positions = array_positions(item, axis, length)
    return evenly_spaced(positions), len(positions)


def mask_positions(mask: npt.NDArray[np.bool_], axis: int, lengths: tuple[int, ...]) -> list[Positions]:
    for k, (expected, got) in enumerate(zip(lengths, mask.shape)):
        if got not in (0, expected):  # NumPy takes an empty mask for an axis of any length
            raise SelectionError(f"axis {axis + k}: boolean mask: expected length {expected}, got {got}")
    return [np.ascontiguousarray(positions, dtype=np.int64) for positions in mask.nonzero()]


def array_positions(array: npt.NDArray[Any], axis: int, length: int) -> Positions:
    """Positions counted from the start, flat; the array itself where it already is that."""
    if array.size == 0:
        return np.empty(0, dtype=np.int64)
    low, high = int(array.min()), int(array.max())
    if low < -length or high >= length:
        position(low if low < -length else high, axis, length)
    positions = flat(array)
    if low < 0:
        positions = np.where(positions < 0, positions + length, positions)
    return positions


def flat(array: npt.NDArray[Any]) -> Positions:
    positions = np.ascontiguousarray(array, dtype=np.int64).reshape(-1)
    return positions if positions.flags.aligned else positions.copy()


def evenly_spaced(positions: Positions) -> Span | Positions:
    """A span where the positions are one."""
    count = len(positions)
    if count < 2:
        return (int(positions[0]), 1, 1) if count else (0, 1, 0)
    start, step, last = int(positions[0]), int(positions[1]) - int(positions[0]), int(positions[-1])
    if step == 0 or last - start != step * (count - 1):
        return positions
    even = count == 2 or bool((np.arange(start, start + count * step, step) == positions).all())
    return (start, step, count) if even else positions
