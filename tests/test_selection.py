"""Selections mean what NumPy means by the same index, for reading and for writing."""

from __future__ import annotations

import collections
import itertools
import random
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zarrcy.errors import SelectionError
from zarrcy.selection import Selection, parse, parse_blocks, parse_orthogonal, parse_points, parse_region


def many(n: int):
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    return settings(max_examples=n, derandomize=True, deadline=None, database=None, suppress_health_check=checks)


# The definition of a Selection, item by item ------------------------------------------------------------------------


def places(selection: Selection):
    """Each index into the transfer buffer with the array index that it belongs to, in C order."""
    for buffer_index in itertools.product(*map(range, selection.transfer_shape)):
        where = []
        for axis, along in enumerate(selection.axes):
            dim = selection.transfer_axes[axis]
            i = buffer_index[dim] if dim >= 0 else 0
            if along is None:
                assert selection.points is not None
                axes, coordinates = selection.points
                where.append(int(coordinates[axes.index(axis)][buffer_index[selection.points_dim]]))
            elif isinstance(along, tuple):
                start, step, _ = along
                where.append(start + i * step)
            else:
                where.append(int(along[i]))
        yield buffer_index, tuple(where)


def read(array: np.ndarray, selection: Selection) -> np.ndarray:
    buffer = np.empty(selection.transfer_shape, dtype=array.dtype)
    for buffer_index, where in places(selection):
        assert all(0 <= i < n for i, n in zip(where, array.shape)), "a position is out of range"
        buffer[buffer_index] = array[where]
    result = buffer.reshape(selection.shape)
    return result[()] if selection.scalar else result


def write(array: np.ndarray, selection: Selection, value: Any) -> None:
    buffer = np.broadcast_to(value, selection.shape).reshape(selection.transfer_shape)
    for buffer_index, where in places(selection):
        array[where] = buffer[buffer_index]


def check_form(selection: Selection, shape: tuple[int, ...]) -> None:
    """The promises that the compiled planner relies on."""
    assert type(selection.transfer_shape) is tuple and type(selection.shape) is tuple
    assert len(selection.axes) == len(selection.transfer_axes) == len(shape)
    assert np.prod(selection.transfer_shape, dtype=int) == np.prod(selection.shape, dtype=int)
    dims = [dim for dim in selection.transfer_axes if dim >= 0]
    if selection.points is not None:
        axes, coordinates = selection.points
        dims.append(selection.points_dim)
        assert [axis for axis, along in enumerate(selection.axes) if along is None] == list(axes)
        assert len(coordinates) == len(axes)
        for axis, along in zip(axes, coordinates):
            assert selection.transfer_axes[axis] == -1
            check_positions(along, shape[axis], selection.transfer_shape[selection.points_dim])
    else:
        assert selection.points_dim == -1 and not any(along is None for along in selection.axes)
    assert sorted(dims) == list(range(len(selection.transfer_shape)))
    for along, dim, length in zip(selection.axes, selection.transfer_axes, shape):
        count = selection.transfer_shape[dim] if dim >= 0 else 1
        if isinstance(along, tuple):
            assert all(type(part) is int for part in along)
            start, step, n = along
            assert n == count and step != 0
            assert n == 0 or (0 <= start < length and 0 <= start + (n - 1) * step < length)
        elif along is not None:
            assert dim >= 0
            check_positions(along, length, count)


def check_positions(positions: np.ndarray, length: int, count: int) -> None:
    assert type(positions) is np.ndarray and positions.dtype == np.int64 and positions.dtype.isnative
    assert positions.shape == (count,) and positions.flags.c_contiguous and positions.flags.aligned
    assert count == 0 or (positions.min() >= 0 and positions.max() < length)


def outcome(call) -> tuple[Any, str | None]:
    try:
        return call(), None
    except (IndexError, TypeError, ValueError, OverflowError, DeprecationWarning) as error:  # NumPy 1 warns, 2 refuses
        return None, f"{type(error).__name__}: {error}"


def numbered(shape: tuple[int, ...], first: int = 0) -> np.ndarray:
    return np.arange(first, first + np.prod(shape, dtype=int), dtype=np.int32).reshape(shape)


def check_like_numpy(shape: tuple[int, ...], key: Any) -> None:
    array = numbered(shape)
    expected, refused = outcome(lambda: array[key])
    try:
        selection = parse(key, shape)
    except SelectionError as error:
        assert refused, f"NumPy takes {key!r} of shape {shape}; we say {error}"
        return
    assert not refused, f"NumPy refuses {key!r} of shape {shape}: {refused}; we give {selection}"
    check_form(selection, shape)
    got = read(array, selection)
    assert np.shape(got) == np.shape(expected)
    assert np.array_equal(got, expected)
    assert selection.scalar == (not isinstance(expected, np.ndarray)), "a scalar where NumPy gives one"

    values = numbered(selection.shape, 1000)
    ours, theirs = array.copy(), array.copy()
    write(ours, selection, values)
    theirs[key] = values
    assert np.array_equal(ours, theirs), "repeated positions: the last value wins"


# Keys ---------------------------------------------------------------------------------------------------------------

lengths = st.sampled_from([3, 4, 1, 5, 2, 7, 3, 2, 1, 4, 0])
shapes = (
    st.sampled_from([3, 2, 1, 4, 3, 5, 2, 4, 0, 3, 4])
    .flatmap(lambda rank: st.tuples(*[lengths] * rank))
    .filter(lambda shape: np.prod(shape, dtype=int) <= 400)
)
index_dtypes = [np.int64, np.int64, np.int8, np.uint8, np.uint64, np.dtype(">i4"), np.uint16]
kinds = st.sampled_from(["array", "slice", "array", "int", "slice", "array", "mask", "newaxis", "bool"])
odd = st.sampled_from([None, ..., 0, 1.5, "x", slice(None)])


class Keys:
    """Draws keys. Hypothesis chooses their structure, a seed that it chooses the positions, so most keys are valid."""

    def __init__(self, draw, shape: tuple[int, ...]) -> None:
        self.draw = draw
        self.shape = shape
        self.random = random.Random(draw(st.integers(0, 2**32 - 1)))
        self.n_strays = 0 if draw(st.integers(0, 7)) else 1  # one key in eight may leave its axis once

    def stray(self) -> bool:
        if self.n_strays and not self.random.randrange(4):
            self.n_strays -= 1
            return True
        return False

    def position(self, length: int) -> int:
        if length == 0 or self.stray():
            return self.random.choice([length, -length - 1, 2**63, 2**70, -(2**64)][: self.random.choice([2, 2, 5])])
        return self.random.randrange(-length, length)

    def slice(self, length: int) -> slice:
        def bound():
            return self.random.choice([None, None, *range(-length - 2, length + 3)])

        step = 0 if self.stray() else self.random.choice([None, None, 1, 2, 3, 9, -1, -1, -2, -3, -9, 2**70, -(2**70)])
        return slice(bound(), bound(), step)

    def array(self, length: int, shape: tuple[int, ...]):
        """An integer array (or nested list) of a shape that broadcasts to `shape`."""
        rank = self.random.randint(min(1, len(shape)), len(shape))
        own = tuple(n if self.random.randrange(3) else 1 for n in shape[len(shape) - rank :])
        size = int(np.prod(own, dtype=int))
        if length == 0 and size:
            own, size = (0,), 0
        values = [self.position(length) for _ in range(size)]
        dtype = np.dtype(self.random.choice(index_dtypes))
        if not all(np.iinfo(dtype).min <= value <= np.iinfo(dtype).max for value in values):
            dtype = np.dtype(np.int64)
        if any(abs(value) >= 2**63 for value in values):
            return values
        array = np.array(values, dtype=dtype).reshape(own)
        form = self.random.choice(["array", "array", "list", "strided", "fortran"])
        if form == "list":
            return array.tolist()
        if form == "strided" and array.ndim:
            return np.repeat(array, 2, axis=-1)[..., ::2]
        return np.asfortranarray(array) if form == "fortran" and array.ndim == 1 else array

    def mask(self, shape: tuple[int, ...], density: float):
        shape = tuple(n + self.stray() for n in shape)
        bits = [self.random.random() < density for _ in range(np.prod(shape, dtype=int))]
        mask = np.array(bits, dtype=bool).reshape(shape)
        return mask.tolist() if mask.size and not self.random.randrange(4) else mask

    def mask_of(self, shape: tuple[int, ...], n_true: int):
        """A mask with this many true items, which broadcasts with the key's arrays."""
        mask = np.zeros(shape, dtype=bool)
        mask.flat[self.random.sample(range(mask.size), min(n_true, mask.size))] = True
        return mask

    def item(self, kind: str, axis: int, together: tuple[int, ...]):
        length = self.shape[axis]
        if kind == "int" and length:
            i = self.position(length)
            return self.random.choice([i, np.int16(i), np.array(i)]) if abs(i) < 1000 else i
        return self.array(length, together) if kind == "array" else self.slice(length)

    def key(self):
        together = tuple(self.draw(st.sampled_from([[2], [3], [], [3, 2], [2, 1], [0], [1], [2, 1, 3], [2, 0]])))
        items: list[Any] = []
        axis = 0
        while axis < len(self.shape) and (len(items) > 8 or self.draw(st.sampled_from([1] * 12 + [0]))):
            kind = self.draw(kinds)
            if kind == "newaxis":
                items.append(None)
            elif kind == "bool":
                items.extend(
                    [self.random.choice([True, True, np.True_, np.array(True), False])] * self.draw(st.integers(0, 1))
                )
            elif kind == "mask":
                rank = self.random.randint(1, min(3, len(self.shape) - axis))
                of = self.shape[axis : axis + rank]
                alone = self.random.randrange(3) == 0
                items.append(self.mask(of, 0.4) if alone else self.mask_of(of, together[-1] if together else 1))
                axis += rank
            else:
                items.append(self.item(kind, axis, together))
                axis += 1
        if self.draw(st.booleans()):
            items.insert(self.draw(st.integers(0, len(items))), ...)
        if self.stray():
            items.insert(self.draw(st.integers(0, len(items))), self.draw(odd))
        return items[0] if len(items) == 1 and self.draw(st.booleans()) else tuple(items)


@st.composite
def shapes_and_keys(draw):
    shape = draw(shapes)
    return shape, Keys(draw, shape).key()


@many(3000)
@given(shapes_and_keys())
def test_every_index_means_what_numpy_means(case):
    shape, key = case
    check_like_numpy(shape, key)


@pytest.mark.long
@many(100_000)
@given(shapes_and_keys())
def test_every_index_means_what_numpy_means_at_length(case):
    shape, key = case
    check_like_numpy(shape, key)


def test_the_drawn_indices_cover_every_kind_of_selection():
    seen = collections.Counter()

    @many(600)
    @given(shapes_and_keys())
    def look(case):
        shape, key = case
        try:
            selection = parse(key, shape)
        except SelectionError:
            seen["refused"] += 1
            return
        dims = [dim for dim in selection.transfer_axes if dim >= 0]
        seen["moves items"] += 0 not in selection.shape
        seen["points"] += selection.points is not None and 0 not in selection.shape
        seen["positions"] += any(isinstance(along, np.ndarray) for along in selection.axes)
        seen["transposed"] += dims != sorted(dims)
        seen["scalar"] += selection.scalar

    look()
    assert all(seen[name] > 3 for name in ("points", "positions", "transposed", "scalar", "refused")), seen
    assert seen["moves items"] > 200, seen


# oindex, vindex, blocks, regions ------------------------------------------------------------------------------------


@st.composite
def orthogonal_cases(draw):
    shape = draw(shapes)
    drawn = Keys(draw, shape)
    items: list[Any] = []
    for axis, length in enumerate(shape):
        kind = draw(st.sampled_from(["array", "slice", "mask", "int"]))
        if kind == "mask":
            items.append(drawn.mask((length,), 0.5))
        elif kind == "array":
            items.append(drawn.array(length, draw(st.sampled_from([(2,), (5,), (1,), (0,)]))))
        else:
            items.append(drawn.item(kind, axis, ()))
    end = draw(st.integers(0, len(items)))
    if draw(st.booleans()):
        return shape, tuple(items), tuple(items)
    with_ellipsis = draw(st.booleans())
    written = tuple(items[:end]) + ((...,) if with_ellipsis else ())
    return shape, written, (*items[:end], *[slice(None)] * (len(shape) - end))


@many(1500)
@given(orthogonal_cases())
def test_oindex_is_the_outer_product_of_its_axes(case):
    shape, key, items = case
    array = numbered(shape)
    along, refused = outcome(lambda: [np.atleast_1d(np.arange(n)[item]) for n, item in zip(shape, items)])
    try:
        selection = parse_orthogonal(key, shape)
    except SelectionError as error:
        assert refused, f"{key!r} of shape {shape}: {error}"
        return
    assert not refused, f"{key!r} of shape {shape}: expected {refused}"
    check_form(selection, shape)
    kept = [dim for dim, item in enumerate(items) if np.ndim(np.arange(shape[dim])[item])]
    mesh = np.ix_(*[positions.astype(int) for positions in along]) if along else ()
    expected_shape = tuple(len(along[dim]) for dim in kept)
    got = read(array, selection)
    assert np.shape(got) == expected_shape
    assert np.array_equal(got, array[mesh].reshape(expected_shape))
    assert selection.points is None

    values = numbered(selection.shape, 1000)
    ours, theirs = array.copy(), array.copy()
    write(ours, selection, values)
    theirs[mesh] = values.reshape([len(positions) for positions in along])
    assert np.array_equal(ours, theirs)


@st.composite
def point_cases(draw):
    shape = draw(shapes)
    drawn = Keys(draw, shape)
    if shape and draw(st.integers(0, 3)) == 0:
        return shape, drawn.mask(shape, 0.3)
    together = draw(st.sampled_from([(3,), (2,), (2, 3), (1, 2), (), (3, 1, 2), (0,)]))
    items = []
    for length in shape:
        items.append(drawn.array(length, together) if together and draw(st.integers(0, 4)) else drawn.position(length))
    return shape, items[0] if len(items) == 1 and draw(st.booleans()) else tuple(items)


@many(1500)
@given(point_cases())
def test_vindex_is_numpy_with_an_array_for_every_axis(case):
    shape, key = case
    array = numbered(shape)
    expected, refused = outcome(lambda: array[np.array(key) if isinstance(key, list) else key])
    try:
        selection = parse_points(key, shape)
    except SelectionError as error:
        assert refused, f"{key!r} of shape {shape}: {error}"
        return
    assert not refused, f"{key!r} of shape {shape}: expected {refused}"
    check_form(selection, shape)
    got = read(array, selection)
    assert np.shape(got) == np.shape(expected)
    assert np.array_equal(got, expected)
    values = numbered(selection.shape, 1000)
    ours, theirs = array.copy(), array.copy()
    write(ours, selection, values)
    theirs[key] = values
    assert np.array_equal(ours, theirs)


@st.composite
def block_cases(draw):
    shape = draw(shapes)
    chunk_shape = tuple(draw(st.integers(1, max(length, 1) + 1)) for length in shape)
    counts = [-(-length // chunk) for length, chunk in zip(shape, chunk_shape)]
    random_ = random.Random(draw(st.integers(0, 2**32 - 1)))
    items: list[Any] = []
    for n in counts[: draw(st.integers(0, len(counts)))]:
        if n and draw(st.booleans()):
            items.append(random_.randrange(-n, n))
        else:
            ends = [None, *range(-n - 1, n + 2)]
            items.append(slice(random_.choice(ends), random_.choice(ends), random_.choice([None, 1])))
    return shape, chunk_shape, counts, tuple(items)


@many(600)
@given(block_cases())
def test_blocks_are_the_chunks_of_the_grid(case):
    shape, chunk_shape, counts, key = case
    array = numbered(shape)
    selection = parse_blocks(key, shape, chunk_shape)
    check_form(selection, shape)
    expected = array
    for axis, (n, length, chunk) in enumerate(zip(counts, shape, chunk_shape)):
        item = key[axis] if axis < len(key) else slice(None)
        chosen = np.atleast_1d(np.arange(n)[item])
        inside = np.isin(np.arange(length) // chunk, chosen)
        expected = np.compress(inside, expected, axis=axis)
    got = read(array, selection)
    assert got.shape == expected.shape
    assert np.array_equal(got, expected)
    assert all(isinstance(along, tuple) and along[1] == 1 for along in selection.axes)


@many(600)
@given(st.data())
def test_a_region_is_a_slice_on_every_axis(data):
    shape = data.draw(shapes)
    drawn = Keys(data.draw, shape)
    slices = [drawn.slice(length) for length in shape]
    array = numbered(shape)
    expected, refused = outcome(lambda: array[tuple(slices)])
    parts = [tuple(getattr(item, name) for item in slices) for name in ("start", "stop", "step")]
    if shape:
        parts = [None if set(part) == {None} else part[0] if set(part[1:]) <= {None} else list(part) for part in parts]
    try:
        selection = parse_region(*parts, shape)
    except SelectionError:
        assert refused
        return
    assert not refused
    check_form(selection, shape)
    assert np.array_equal(read(array, selection), expected)


# Named cases --------------------------------------------------------------------------------------------------------

TABLE = {
    "a 0-d array, everything": ((), ()),
    "a 0-d array, Ellipsis stays an array": ((), ...),
    "a 0-d array, a new axis": ((), None),
    "a 0-d array, True adds an axis": ((), True),
    "a 0-d array, False leaves nothing": ((), False),
    "True and False together": ((3,), (True, False)),
    "False on whole axes": ((3, 4), False),
    "False with integers": ((3, 4), (False, 1)),
    "False takes arrays of one item only": ((3,), (False, [1, 2])),
    "True among points": ((2, 3), (True, [0, 1], [2, 1])),
    "True before a slice and an array": ((2, 3), (True, slice(None), [2, 1])),
    "all integers": ((3, 4), (1, -1)),
    "all integers and Ellipsis": ((3, 4), (1, -1, ...)),
    "NumPy integers": ((3, 4), (np.int8(1), np.uint64(3))),
    "an integer of an array of no axes": ((3, 4), np.array(2)),
    "arrays with a slice between come first": ((2, 3, 4), ([0, 1], slice(None), [1, 2])),
    "arrays with an integer and a slice between come first": ((2, 3, 4), (0, slice(None), [1, 2])),
    "arrays with an empty Ellipsis between come first": ((4, 2, 3), (slice(None), [0], ..., [1])),
    "arrays with a new axis between come first": ((4, 2, 3), (slice(None), [0], None, [1])),
    "neighbours stay in place": ((4, 2, 3), (slice(None), [0, 1], 2)),
    "an integer before a slice and a matrix": ((3, 2, 4), (1, slice(None), [[0, 1], [2, 3]])),
    "a matrix of positions": ((5, 2), [[0, 1], [4, -1]]),
    "an open mesh": ((4, 5), np.ix_([3, 0, 0], [1, 4])),
    "an open mesh with the axes swapped": ((4, 5), ([0, 2], [[1], [4], [3]])),
    "an open mesh of interleaved dimensions": ((4, 5), (np.zeros((2, 1, 2), int), np.zeros((1, 3, 1), int))),
    "a mask of every axis": ((2, 3), np.array([[True, False, True], [False, False, True]])),
    "a mask of two axes of three": ((2, 2, 3), (np.array([[True, False], [True, True]]), 1)),
    "two masks together": ((3, 3), ([True, False, True], [True, True, False])),
    "an empty mask": ((3,), np.zeros(0, bool)),
    "a mask of nothing": ((3, 2), np.zeros((3, 2), bool)),
    "repeated positions": ((4,), [1, 1, 1, 0, 1]),
    "positions that are a slice": ((9, 2), [8, 6, 4, 2]),
    "an empty list": ((3, 2), []),
    "an empty nested list": ((3, 2), [[], []]),
    "an empty tuple inside": ((3, 2), ((), 1)),
    "a range": ((9,), range(1, 8, 3)),
    "a list of booleans": ((3,), [True, False, True]),
    "every axis reversed": ((3, 4), (slice(None, None, -1), slice(None, None, -2))),
    "a stop before the start": ((5,), slice(4, 1)),
    "a huge step": ((5,), slice(None, None, 2**70)),
    "bounds beyond the axis": ((5,), slice(-(2**70), 2**70)),
    "slices of NumPy integers": ((5,), slice(np.int64(1), np.uint8(4))),
    "many new axes": ((2,), (None,) * 6),
    "an axis of length 0": ((0, 3), (slice(None), 1)),
    "positions on an axis of length 0": ((0, 3), ([], [1])),
    "positions of the other byte order": ((5,), np.array([4, 1], dtype=">i2")),
    "a subclass of ndarray": ((5,), np.ma.array([4, 1])),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_named_index_means_what_numpy_means(name):
    check_like_numpy(*TABLE[name])


class Index:
    def __index__(self) -> int:
        return 2


def test_an_object_with_index_is_an_integer():
    check_like_numpy((4, 4), Index())
    check_like_numpy((4, 4), (slice(Index(), None), Index()))
    assert parse_orthogonal((Index(), [1]), (4, 4)).axes == [(2, 1, 1), (1, 1, 1)]


REFUSED = [
    (12, (10,), "axis 0: index 12 is out of bounds: expected -10 … 9, got 12"),
    ((0, -11), (10, 10), "axis 1: index -11 is out of bounds: expected -10 … 9, got -11"),
    (0, (0,), "axis 0: index 0 is out of bounds: expected nothing, the axis is empty, got 0"),
    (2**70, (10,), f"axis 0: index {2**70} is out of bounds"),
    ([1, 10], (10,), "axis 0: index 10 is out of bounds"),
    ([2**70], (10,), "index: expected integers or booleans, got object"),
    (np.array([2**64 - 1], dtype=np.uint64), (10,), "axis 0: index 18446744073709551615 is out of bounds"),
    ((1, 1), (10,), "index: expected at most 1 indices, one per axis, got 2"),
    ((1, [1], 1), (10,), "index: expected at most 1 indices, one per axis, got 3"),
    (0, (), "index: expected at most 0 indices, one per axis, got 1"),
    (1.0, (10,), "index: expected integers or booleans, got float64"),
    ([0.5], (10,), "index: expected integers or booleans, got float64"),
    (np.array([], dtype=float), (10,), "index: expected integers or booleans, got float64"),
    ("name", (10,), "index 'name': no fields"),
    (["name"], (10,), "no fields"),
    (b"name", (10,), "no fields"),
    ((..., ...), (10,), "index: expected at most one ..., got 2"),
    (slice(None, None, 0), (10,), "axis 0: slice(None, None, 0): expected a slice of integers, its step not 0"),
    (slice(1.5, None), (10,), "axis 0: slice(1.5, None, None): expected a slice of integers"),
    ([True, False], (10,), "axis 0: boolean mask: expected length 10, got 2"),
    (np.ones((10, 3), bool), (10, 2), "axis 1: boolean mask: expected length 2, got 3"),
    (([0, 1], [0, 1, 2]), (10, 10), "index arrays: expected shapes that broadcast together, got (2,) (3,)"),
    ([[1], [1, 2]], (10,), "index: expected an array of integers, got list [[1], [1, 2]]"),
    ({}, (10,), "index: expected integers or booleans, got object"),
    ((None,) * 70, (10,), "index: expected a result of at most"),
    (([0], *(None,) * 70), (10,), "index: expected a result of at most"),
]


@pytest.mark.parametrize(("key", "shape", "message"), REFUSED, ids=[message[:40] for *_, message in REFUSED])
def test_a_wrong_index_is_an_error_that_says_what_was_expected(key, shape, message):
    with pytest.raises(SelectionError) as caught:
        parse(key, shape)
    assert message in str(caught.value)
    assert isinstance(caught.value, IndexError)


OTHERS_REFUSED = [
    (parse_orthogonal, (None, 1), "None"),
    (parse_orthogonal, ([[1, 2]], 1), "one-dimensional"),
    (parse_orthogonal, (np.ones((4, 4), bool),), "one-dimensional"),
    (parse_orthogonal, (True, 1), "one-dimensional"),
    (parse_orthogonal, (1, 1, 1), "at most 2 indices"),
    (parse_orthogonal, (1, [7]), "axis 1: index 7 is out of bounds"),
    (parse_orthogonal, ([True], 1), "axis 0: boolean mask: expected length 4, got 1"),
    (parse_points, (slice(None), 1), "vindex: expected coordinates, got a slice"),
    (parse_points, (..., 1), "vindex: expected coordinates, got ..."),
    (parse_points, (None, 1, 1), "vindex: expected coordinates, got None"),
    (parse_points, ([1],), "vindex: expected 2 coordinates, one per axis, got 1"),
    (parse_points, ([1], [1], [1]), "vindex: expected 2 coordinates, one per axis, got 3"),
    (parse_points, ([True] * 4, [1]), "vindex: expected one mask of 2 axes"),
    (parse_points, ([True] * 4,), "vindex: expected one mask of 2 axes"),
    (parse_points, (np.ones((4, 5), bool),), "axis 1: boolean mask: expected length 4, got 5"),
    (parse_points, ([1, 4], [0, 0]), "axis 0: index 4 is out of bounds"),
]


@pytest.mark.parametrize(("parse_it", "key", "message"), OTHERS_REFUSED)
def test_oindex_and_vindex_refuse_what_they_do_not_mean(parse_it, key, message):
    with pytest.raises(SelectionError) as caught:
        parse_it(key, (4, 4))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (3, "axis 0: chunk 3 is out of bounds: expected -3 … 2, got 3"),
        (slice(None, None, 2), "axis 0: blocks: expected a slice of step 1, got step 2"),
        (slice(None, None, -1), "got step -1"),
        (slice(0, 1, 5), "got step 5"),
        ([0], "axis 0: blocks: expected an integer or a slice, got an array of 1 axes"),
        ((0, 0), "at most 1 indices"),
        (None, "None"),
        (True, "one-dimensional"),
    ],
)
def test_blocks_refuse_what_is_no_run_of_chunks(key, message):
    with pytest.raises(SelectionError) as caught:
        parse_blocks(key, (10,), (4,))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (((0, 0), None, None), "start: expected at most 1 entries, one per axis, got 2"),
        ((None, 1.5, None), "stop: expected an integer or a sequence of integers, got float 1.5"),
        ((None, (1.5,), None), "axis 0: slice(None, 1.5, None): expected a slice of integers"),
        ((None, None, 0), "its step not 0"),
        (("ab", None, None), "start: expected"),
    ],
)
def test_a_wrong_region_is_an_error(parts, message):
    with pytest.raises(SelectionError) as caught:
        parse_region(*parts, (10,))
    assert message in str(caught.value)


def test_nothing_is_copied_when_the_positions_are_in_order_to_be_used():
    positions = np.array([5, 1, 3])
    positions.flags.writeable = False
    (along,) = parse(positions, (10,)).axes
    assert isinstance(along, np.ndarray) and np.shares_memory(along, positions)


def test_positions_at_odd_addresses_are_brought_into_line():
    odd = np.zeros(33, np.uint8)[1:].view(np.int64)
    odd[:] = [5, 1, 3, 1]
    assert not odd.flags.aligned
    check_like_numpy((10,), odd)
    check_like_numpy((10, 6), (odd, odd))


def test_oindex_of_integers_alone_is_a_scalar_as_in_numpy():
    assert parse_orthogonal((1, 2), (4, 4)).scalar
    assert parse_orthogonal((), ()).scalar
    assert not parse_orthogonal((1, 2, ...), (4, 4)).scalar
    assert not parse_orthogonal((1, [2]), (4, 4)).scalar
    assert parse_points((1, 2), (4, 4)).scalar
    assert not parse_points(([1], 2), (4, 4)).scalar
    assert not parse_blocks((1, 1), (4, 4), (2, 2)).scalar
    assert not parse_region((1, 1), (2, 2), None, (4, 4)).scalar


def test_an_outer_product_takes_memory_for_its_axes_only():
    n = 200_000
    positions = np.random.default_rng(1).integers(0, n, n)
    tracemalloc.start()
    try:
        selection = parse_orthogonal((positions, positions, positions[::-1]), (n, n, n))
        mesh = parse(np.ix_(positions, positions), (n, n))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert selection.shape == (n, n, n) and mesh.shape == (n, n) and mesh.points is None
    assert peak < 10 * n * 8


def test_evenly_spaced_positions_become_a_slice():
    assert parse(np.arange(3, 90, 7), (100,)).axes == [(3, 7, 13)]
    assert parse([5, 4, 3], (100,)).axes == [(5, -1, 3)]
    assert parse([-1, -2], (100,)).axes == [(99, -1, 2)]
    assert parse(np.arange(100) > 60, (100,)).axes == [(61, 1, 39)]
    assert isinstance(parse([0, 1, 3], (100,)).axes[0], np.ndarray)
    assert isinstance(parse([2, 2, 2], (100,)).axes[0], np.ndarray)


def test_a_selection_shows_its_fields():
    assert "transfer_shape=(2,)" in repr(parse(slice(2), (10,)))
