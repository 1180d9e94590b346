"""The chunk grid, chunk keys, and the choice of a chunk shape."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zarrcy.chunk_grid import TARGET_NBYTES, ChunkKeyEncoding, RegularGrid, guess_chunk_shape, normalize_chunks
from zarrcy.errors import MetadataError, UnknownExtensionError

settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
settings.load_profile("fixed")

ENCODINGS = [ChunkKeyEncoding(name, separator) for name in ("default", "v2") for separator in ("/", ".")]


def regular(chunk_shape):
    return {"name": "regular", "configuration": {"chunk_shape": chunk_shape}}


@pytest.mark.parametrize(
    "shape, chunk_shape, expected",
    [
        ((25, 10), (10, 10), (3, 1)),
        ((), (), ()),
        ((0, 5), (3, 2), (0, 3)),
        ((2**62,), (1,), (2**62,)),
        ((3,), (100,), (1,)),
    ],
)
def test_the_grid_covers_the_array(shape, chunk_shape, expected):
    assert RegularGrid(chunk_shape).grid_shape(shape) == expected


def test_a_grid_comes_back_from_json():
    grid = RegularGrid((10, 2**40))
    assert RegularGrid.from_json(grid.to_json(), "chunk_grid", (1, 1)) == grid
    assert pickle.loads(pickle.dumps(grid)) == grid
    assert hash(grid) == hash(RegularGrid((10, 2**40)))
    assert grid != RegularGrid((2**40, 10))
    assert grid.ndim == 2


def test_a_chunk_extent_of_zero_counts_as_one_where_the_array_is_empty():
    assert RegularGrid.from_json(regular([0, 7]), "chunk_grid", (0, 7)).chunk_shape == (1, 7)
    with pytest.raises(
        MetadataError, match=r"chunk_grid.configuration.chunk_shape\[0\]: expected a whole number ≥ 1, got 0"
    ):
        RegularGrid.from_json(regular([0, 7]), "chunk_grid", (1, 7))


@pytest.mark.parametrize(
    "data, message",
    [
        (regular([True, 1]), "chunk_grid.configuration.chunk_shape[0]: expected a whole number ≥ 0, got true"),
        (regular([1, 2.0]), "chunk_grid.configuration.chunk_shape[1]: expected a whole number ≥ 0, got 2.0"),
        (regular([1, -2]), "chunk_grid.configuration.chunk_shape[1]: expected a whole number ≥ 0, got -2"),
        (regular([1, 2**80]), "chunk_grid.configuration.chunk_shape[1]: expected a whole number below 2**63"),
        (
            regular([1]),
            "chunk_grid.configuration.chunk_shape: expected 2 extents, one for each axis of the shape, got 1",
        ),
        (regular(5), "chunk_grid.configuration.chunk_shape: expected a list of whole numbers, got 5"),
        ({"name": "regular"}, "chunk_grid.configuration: expected chunk_shape, got []"),
        (
            {"name": "regular", "configuration": {"chunk_shape": [1, 1], "x": 1}},
            "chunk_grid.configuration: expected chunk_shape",
        ),
        ([], "chunk_grid: expected an object with a name, got []"),
        (None, "chunk_grid: expected an object with a name, got null"),
    ],
)
def test_a_wrong_grid_is_refused_with_its_path(data, message):
    with pytest.raises(MetadataError) as info:
        RegularGrid.from_json(data, "chunk_grid", (4, 4))
    assert message in str(info.value)


@pytest.mark.parametrize("name", ["rectilinear", "spiral"])
def test_another_grid_is_unknown_and_named(name):
    with pytest.raises(UnknownExtensionError, match=f'chunk grid "{name}": expected regular'):
        RegularGrid.from_json({"name": name, "configuration": {}}, "chunk_grid", (4, 4))


def test_a_grid_of_no_extent_is_refused():
    for chunk_shape in ([0], [-1], [1.0], [True]):
        with pytest.raises(MetadataError, match=r"chunk_shape\[0\]"):
            RegularGrid(chunk_shape)


@pytest.mark.parametrize(
    "name, separator, keys",
    [
        ("default", "/", ["c", "c/0", "c/1/20/3"]),
        ("default", ".", ["c", "c.0", "c.1.20.3"]),
        ("v2", "/", ["0", "0", "1/20/3"]),
        ("v2", ".", ["0", "0", "1.20.3"]),
    ],
)
def test_keys_are_those_of_the_specification(name, separator, keys):
    encoding = ChunkKeyEncoding(name, separator)
    indices = [(), (0,), (1, 20, 3)]
    assert [encoding.key(index) for index in indices] == keys
    assert [encoding.parse(key, len(index)) for key, index in zip(keys, indices, strict=True)] == indices
    assert encoding.prefix == ("c" if name == "default" else "")


@given(st.lists(st.integers(0, 2**63 - 1), max_size=6).map(tuple), st.sampled_from(ENCODINGS))
def test_a_key_gives_its_index_back(index, encoding):
    key = encoding.key(index)
    assert encoding.parse(key, len(index)) == index
    if encoding.name == "default" or index:
        assert encoding.parse(key) == index


@given(st.text(st.sampled_from("c0129./-+ ٣x"), max_size=8), st.sampled_from(ENCODINGS), st.integers(0, 4))
@settings(max_examples=500)
def test_what_is_no_key_has_no_index(key, encoding, ndim):
    index = encoding.parse(key, ndim)
    assert index is None or (encoding.key(index) == key and len(index) == ndim)
    free = encoding.parse(key)
    assert free is None or encoding.key(free) == key


@pytest.mark.parametrize(
    "key", ["", "c/", "c/01", "c/-1", "c/1/", "c//1", "c.1", "1", "c/1.0", "zarr.json", "c/" + "9" * 30, "cx1"]
)
def test_other_files_are_no_chunks(key):
    assert ChunkKeyEncoding().parse(key) is None


def test_an_encoding_comes_back_from_json():
    for encoding in ENCODINGS:
        assert ChunkKeyEncoding.from_json(encoding.to_json(), "chunk_key_encoding") == encoding
        assert pickle.loads(pickle.dumps(encoding)) == encoding
    assert len({hash(encoding) for encoding in ENCODINGS}) == len(set(ENCODINGS)) == 4


@pytest.mark.parametrize(
    "data, separator", [("default", "/"), ("v2", "."), ({"name": "default"}, "/"), ({"name": "v2"}, ".")]
)
def test_the_separator_has_a_default(data, separator):
    assert ChunkKeyEncoding.from_json(data, "chunk_key_encoding").separator == separator


@pytest.mark.parametrize(
    "data, error, message",
    [
        ("fanout", UnknownExtensionError, 'chunk_key_encoding: chunk key encoding "fanout": expected default or v2'),
        (None, MetadataError, "chunk_key_encoding: expected an object with a name, got null"),
        (
            {"name": "v2", "configuration": {"separator": "-"}},
            MetadataError,
            'configuration.separator: expected "/" or ".", got "-"',
        ),
        ({"name": "v2", "configuration": {"separator": ["/"]}}, MetadataError, "configuration.separator: expected"),
        ({"name": "v2", "configuration": {"x": "/"}}, MetadataError, 'configuration: expected separator, got ["x"]'),
    ],
)
def test_a_wrong_encoding_is_refused_with_its_path(data, error, message):
    with pytest.raises(error) as info:
        ChunkKeyEncoding.from_json(data, "chunk_key_encoding")
    assert message in str(info.value)


def test_an_encoding_is_checked_when_it_is_made():
    with pytest.raises(UnknownExtensionError, match="fanout"):
        ChunkKeyEncoding("fanout")
    with pytest.raises(MetadataError, match="separator"):
        ChunkKeyEncoding("default", "-")


SHAPES = st.lists(st.integers(0, 2**40), max_size=6).map(tuple)


@given(SHAPES, st.integers(1, 2**12), st.integers(1, 2**24))
@settings(max_examples=300)
def test_a_guessed_chunk_is_near_the_target(shape, itemsize, target):
    chunk_shape = guess_chunk_shape(shape, itemsize, target)
    nbytes = math.prod(chunk_shape) * itemsize
    assert len(chunk_shape) == len(shape)
    assert all(type(chunk) is int and chunk >= 1 for chunk in chunk_shape)
    assert all(chunk <= extent for chunk, extent in zip(chunk_shape, shape, strict=True) if extent)
    assert nbytes <= max(target, itemsize)
    if 0 in shape:
        assert sum(chunk > 1 for chunk, extent in zip(chunk_shape, shape, strict=True) if not extent) <= 1
    if shape and math.prod(extent or target for extent in shape) * itemsize > target > itemsize:
        assert nbytes > target / 4


@given(st.lists(st.integers(100, 10**6), min_size=2, max_size=4).map(tuple))
def test_a_guessed_chunk_has_about_the_proportions_of_the_array(shape):
    chunk_shape = guess_chunk_shape(shape, 8)
    n_chunks = [-(-extent // chunk) for extent, chunk in zip(shape, chunk_shape, strict=True)]
    # The last chunk of an axis may be cut off, so the counts are a little below powers of two.
    n_cuts = [round(math.log2(n) + 0.2) for n in n_chunks]
    if min(chunk_shape) > 8:
        assert n_cuts == sorted(n_cuts, reverse=True)
        assert max(n_cuts) - min(n_cuts) <= 1


def test_the_default_target_is_a_mebibyte():
    assert TARGET_NBYTES == 2**20
    assert guess_chunk_shape((2**20,), 1) == (2**20,)
    assert guess_chunk_shape((2**20 + 1,), 1) == (2**19 + 1,)
    assert guess_chunk_shape((), 8) == ()


def test_an_axis_to_append_to_gets_chunks_that_are_worth_storing():
    assert guess_chunk_shape((0,), 8) == (2**17,)
    assert guess_chunk_shape((0, 1000, 0), 8) == (128, 1000, 1)
    assert guess_chunk_shape((0, 2**20), 8) == (1, 2**17)


def test_the_guess_for_a_huge_array_is_quick():
    assert math.prod(guess_chunk_shape((2**62,) * 64, 8)) * 8 <= TARGET_NBYTES


@pytest.mark.parametrize(
    "chunks, expected",
    [
        (None, (100, 50)),
        (False, (100, 50)),
        (7, (7, 7)),
        (np.int64(7), (7, 7)),
        ((10, 50), (10, 50)),
        ([10, -1], (10, 50)),
        ((None, 5), (100, 5)),
        ((200, 1), (200, 1)),
        (-1, (100, 50)),
        (np.array([3, 4]), (3, 4)),
        ("auto", (100, 50)),
        (True, (100, 50)),
    ],
)
def test_chunks_are_what_the_caller_means(chunks, expected):
    found = normalize_chunks(chunks, (100, 50), 8)
    assert found == expected
    assert all(type(chunk) is int for chunk in found)


def test_chunks_of_an_array_without_items_or_axes():
    assert normalize_chunks(None, (0, 3), 8) == (1, 3)
    assert normalize_chunks((-1, 2), (0, 3), 8) == (1, 2)
    for chunks in (None, False, True, "auto", (), 5):
        assert normalize_chunks(chunks, (), 8) == ()


@pytest.mark.parametrize(
    "chunks", [0, -2, 1.5, "big", b"x", (1,), (1, 2, 3), (1, True), (1, "auto"), (1, 2.0), (0, 1), 2**63, object()]
)
def test_chunks_that_mean_nothing_are_refused(chunks):
    with pytest.raises(MetadataError, match=r"^chunks"):
        normalize_chunks(chunks, (100, 50), 8)
