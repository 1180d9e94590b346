"""Every way to take items out of raw chunks gives what NumPy gives: by calls, over scratch, in blocks, swapped."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zarrcy
from zarrcy.errors import CodecError

# Chunks whose rows are short and long, contiguous and not, and larger than one block of scratch.
SHAPES = {
    "long rows": ((40, 40_000), (16, 20_000)),
    "short rows": ((300, 300, 9), (256, 256, 4)),
    "one axis": ((200_000,), (70_000,)),
    "one chunk": ((64, 64, 64), (64, 64, 64)),
}
FORMS = {
    "little-endian": {"dtype": "<i4"},
    "big-endian": {"dtype": ">i4"},
    "transposed": {"dtype": "<i4", "order": "F"},
    "sharded": {"dtype": "<i4", "shards": True},
}


@pytest.fixture(scope="module", params=SHAPES)
def cases(request, tmp_path_factory):
    shape, chunks = SHAPES[request.param]
    items = np.arange(math.prod(shape), dtype="i4").reshape(shape)
    arrays = []
    for form, options in FORMS.items():
        shards = tuple(2 * n for n in chunks) if options.get("shards") else None
        path = tmp_path_factory.mktemp("raw") / form
        a = zarrcy.create_array(
            path, shape=shape, chunks=chunks, compressor=None, fill_value=-1, **{**options, "shards": shards}
        )
        a[...] = items
        arrays.append(a)
    return arrays, items


def slices(n):
    step = st.sampled_from([1, 1, 1, 2, 7, 1000, -1, -3])
    bound = st.one_of(st.none(), st.integers(-n, n))
    return st.one_of(st.integers(-n, n - 1), st.builds(slice, bound, bound, step))


@settings(max_examples=60)
@given(data=st.data())
def test_a_part_of_raw_chunks_is_that_part_of_the_array(cases, data):
    arrays, items = cases
    key = data.draw(st.tuples(*[slices(n) for n in items.shape]))
    for a in arrays:
        np.testing.assert_array_equal(a[key], items[key])


@settings(max_examples=30)
@given(data=st.data())
def test_points_of_raw_chunks_are_those_points(cases, data):
    arrays, items = cases
    n = data.draw(st.integers(0, 40))
    rows = [data.draw(st.lists(st.integers(0, extent - 1), min_size=n, max_size=n)) for extent in items.shape]
    key = tuple(np.array(row, dtype=np.intp) for row in rows)
    for a in arrays:
        np.testing.assert_array_equal(a.vindex[key], items[key])
        np.testing.assert_array_equal(a.oindex[key[0]], items[key[0]])


def test_reading_into_a_strided_array_touches_nothing_else(cases):
    arrays, items = cases
    buffer = np.full([2 * n + 1 for n in items.shape], 7, "i4")
    out = buffer[tuple(slice(1, None, 2) for _ in items.shape)]
    for a in arrays:
        buffer[...] = 7
        a.get_slice(out=out)
        np.testing.assert_array_equal(out, items)
        out[...] = 7
        assert (buffer == 7).all()


def chunk_files(path):
    return sorted(file for file in Path(path).rglob("*") if file.is_file() and file.name != "zarr.json")


@pytest.mark.parametrize("key", [..., (0, 0), (slice(0, 1), slice(0, 2)), (slice(None), 0)])
@pytest.mark.parametrize("change", [-1, +1, -100])
@pytest.mark.parametrize("chunks", [(8, 8), (100, 100)])
def test_a_raw_chunk_of_another_length_is_an_error_whatever_is_read_of_it(tmp_path, key, change, chunks):
    a = zarrcy.create_array(tmp_path / "a", shape=(100, 100), chunks=chunks, dtype="i4", compressor=None, fill_value=-1)
    a[...] = np.arange(10_000).reshape(100, 100)
    file = chunk_files(tmp_path / "a")[0]
    value = file.read_bytes()
    file.write_bytes(value[:change] if change < 0 else value + b"1")
    with pytest.raises(CodecError, match=f"expected a chunk of {len(value)} bytes, got {len(value) + change}"):
        a[key]
