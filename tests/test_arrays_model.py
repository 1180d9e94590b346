"""Arrays against a NumPy model: any shape, chunks, shards, data type, chain, store and sequence of selections."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import array_cases as cases
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sanitized import share

import zarrcy
from zarrcy.stores.filesystem import FilesystemStore
from zarrcy.stores.zip import ZipStore

cases.register_codec()

N_EXAMPLES = share(2500)


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    with cases.directory_in_memory() as place:
        yield place


@st.composite
def arrays(draw: Any) -> dict[str, Any]:
    """The options of `zarrcy.create_array`, and where the array lies."""
    ndim = draw(st.sampled_from([0, 1, 1, 2, 2, 2, 3, 3, 4]))
    longest = {0: 1, 1: 40, 2: 12, 3: 7, 4: 5}[ndim]
    extent = st.integers(0, 9).flatmap(lambda n: st.just(0) if n == 0 else st.integers(1, longest))
    shape = tuple(draw(extent) for _ in range(ndim))
    chunks = tuple(draw(st.integers(1, longest)) for _ in range(ndim))
    dtype = np.dtype(draw(st.sampled_from(cases.DTYPES)))
    options: dict[str, Any] = {
        "shape": shape,
        "dtype": dtype,
        "zarr_format": draw(st.sampled_from([2, 3, 3])),
        "dimension_separator": draw(st.sampled_from([None, ".", "/"])),
        "write_empty_chunks": draw(st.booleans()),
    }
    if draw(st.booleans()):
        rng = np.random.default_rng(draw(st.integers(0, 99)))
        options["fill_value"] = cases.random_items(rng, (), dtype)[()]
    if options["zarr_format"] == 2:
        options |= {
            "chunks": chunks,
            "order": draw(st.sampled_from("CF")),
            "compressor": draw(st.sampled_from(cases.COMPRESSORS_V2)),
        }
        if dtype.kind in "iu":
            options["filters"] = draw(st.sampled_from([None, None, [{"id": "delta", "dtype": dtype.str}]]))
        if draw(st.integers(0, 5)) == 0:
            options["fill_value"] = None
        return options
    endian = {">": "big", "|": None}.get(dtype.str[0], "little")
    grids = [chunks]
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2]))):
        grids.insert(0, tuple([n * draw(st.integers(1, 3)) for n in grids[0]]))
    return {**options, "chunks": grids[0], "codecs": _chain(draw, list(range(ndim)), grids, dtype, endian)}


def _chain(
    draw: Any, axes: list[int], grids: list[tuple[int, ...]], dtype: Any, endian: str | None
) -> list[dict[str, Any]]:
    """The codecs of chunks of shape ``grids[0]``, given their axes in that order; the other grids lie inside."""
    chain = []
    if draw(st.integers(0, 2)) == 0:
        order = list(draw(st.permutations(range(len(axes)))))
        axes = [axes[i] for i in order]
        chain.append(cases.named("transpose", order=order))
    if len(grids) > 1:
        index = [
            [cases.named("bytes", endian=draw(st.sampled_from(["little", "big"])))],
            [cases.named("bytes", endian="little"), cases.named("crc32c")],
        ]
        sharding = cases.named(
            "sharding_indexed",
            chunk_shape=[grids[1][axis] for axis in axes],
            codecs=_chain(draw, axes, grids[1:], dtype, endian),
            index_codecs=draw(st.sampled_from(index)),
            index_location=draw(st.sampled_from(["start", "end"])),
        )
        around = [[], [], [], [cases.named("zstd", level=1)], [cases.named("gzip", level=1), cases.named("crc32c")]]
        return [*chain, sharding, *draw(st.sampled_from(around))]
    if dtype.kind in "iu" and endian != "big" and draw(st.integers(0, 3)) == 0:
        chain.append(cases.named("numcodecs.delta", dtype=dtype.str))
    return [
        *chain,
        cases.named("bytes", **({} if endian is None else {"endian": endian})),
        *draw(st.sampled_from(cases.STEPS_V3)),
    ]


steps = st.lists(
    st.tuples(
        st.sampled_from(["read", "write", "write"]),
        st.sampled_from(["basic", "basic", "mask", "mixed", "oindex", "vindex", "blocks", "slice"]),
        st.integers(0, 2**32),
    ),
    min_size=1,
    max_size=5,
)
stores = st.sampled_from(["memory", "memory", "filesystem", "filesystem", "filesystem", "subclass", "zip"])


class Modelled:
    """An array and what it should hold."""

    def __init__(self, array: zarrcy.Array) -> None:
        self.array = array
        fill = array.metadata.data_type.zero() if array.fill_value is None else array.fill_value
        self.model = np.empty(array.shape, array.dtype)
        self.model[...] = fill
        assert (
            fill.dtype.kind in "SU" or np.asarray(fill, array.dtype).tobytes() * self.model.size == self.model.tobytes()
        )

    def step(self, action: str, kind: str, seed: int) -> None:
        choice = random.Random(seed)
        selected = self.select(kind, choice)
        if selected is None:
            return
        indexer, key, model_key, shape = selected
        try:
            expected = self.model[model_key]
        except IndexError:
            with pytest.raises(zarrcy.SelectionError):
                indexer[key]
            with pytest.raises(zarrcy.SelectionError):
                indexer[key] = 0
            return
        if action == "read":
            got = self.array.get_slice(**key) if kind == "slice" else indexer[key]
            if kind == "slice" or shape is not None:
                expected = np.asarray(expected, self.model.dtype).reshape(
                    np.shape(expected) if shape is None else shape
                )
            if kind in ("oindex", "vindex") and not np.shape(expected):
                expected = expected[()]
            assert cases.bits(got) == cases.bits(expected), (kind, key)
            return
        target = expected.shape if shape is None else shape
        value = self.value(choice, target)
        if kind == "slice":
            self.array.set_slice(value, **key)
        else:
            indexer[key] = value
        if shape is not None:
            value = np.broadcast_to(value, shape).reshape(expected.shape)
        # NumPy does not put arrays without axes of every data type into arrays without axes.
        self.model[model_key] = np.asarray(value)[()] if np.ndim(value) == 0 else value

    def value(self, choice: random.Random, shape: tuple[int, ...]) -> Any:
        """What fits a selection: all of it, one item, or something that is broadcast."""
        rng = np.random.default_rng(choice.randrange(2**32))
        kind = choice.randrange(5)
        if kind == 0:
            return self.array.metadata.data_type.zero()
        if kind == 1:
            return cases.random_items(rng, (), self.model.dtype)
        if kind == 2 and shape:
            shape = tuple([n if choice.random() < 0.5 else 1 for n in shape])[choice.randrange(len(shape)) :]
        items = cases.random_items(rng, shape, self.model.dtype)
        return np.asfortranarray(items) if shape and choice.random() < 0.3 else items

    def select(self, kind: str, choice: random.Random) -> Any:
        """How to index the array and the model, and the shape of the result where the model gives another one."""
        array, shape = self.array, self.array.shape
        if kind == "basic":
            key = cases.basic_index(choice, shape)
            return array, key, key, None
        if kind == "mask":
            key = cases.whole_mask(choice, shape)
            return (array if choice.random() < 0.5 else array.vindex), key, key, None
        if kind == "mixed":
            key = cases.mixed_index(choice, shape)
            return array, key, key, None
        if kind == "oindex":
            key = cases.orthogonal_index(choice, shape)
            if not shape:
                return None
            return array.oindex, key, *cases.orthogonal_result(self.model, key)
        if kind == "vindex":
            key = cases.coordinates(choice, shape)
            return None if key is None else (array.vindex, key, key, None)
        if kind == "blocks":
            if not shape:
                return None
            key, slices = cases.block_slices(choice, shape, array.shards or array.chunks)
            return array.blocks, key, slices, None
        slices = tuple([cases._axis_index(choice, 0) for _ in shape])
        names = ("start", "stop", "step")
        return array, {name: [getattr(item, name) for item in slices] for name in names}, slices, None

    def check(self, array: zarrcy.Array) -> None:
        assert cases.bits(np.asarray(array[...])) == cases.bits(self.model)


@settings(max_examples=N_EXAMPLES)
@given(options=arrays(), kind=stores, steps=steps)
def test_an_array_answers_like_numpy(scratch: Path, options: Any, kind: str, steps: Any) -> None:
    place = Path(tempfile.mkdtemp(dir=scratch))
    with cases.make_store(kind, place) as store:
        modelled = Modelled(zarrcy.create_array(store, **options))
        for step in steps:
            modelled.step(*step)
        modelled.check(modelled.array)
        modelled.check(zarrcy.open_array(store))
        with zarrcy.use_threads(1):
            modelled.check(modelled.array)
    if kind == "filesystem":
        modelled.check(zarrcy.open_array(cases.SubclassedStore(store.path)))
    elif kind == "subclass":
        modelled.check(zarrcy.open_array(FilesystemStore(store.path)))
    elif kind == "zip":
        modelled.check(zarrcy.open_array(ZipStore(store.path)))
    shutil.rmtree(place)
