"""Copies of arrays and hierarchies between stores, formats, chunk shapes, shards and codecs."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import array_cases as cases
import numpy as np
import pytest

import zarrcy
from zarrcy.stores.memory import MemoryStore

FORMS: dict[str, dict[str, Any]] = {
    "v3": {"chunks": (4, 3)},
    "v3 F big": {"chunks": (4, 3), "order": "F", "big": True},
    "v2": {"chunks": (4, 3), "zarr_format": 2, "compressor": "zlib"},
    "v2 F": {"chunks": (2, 10), "zarr_format": 2, "order": "F", "compressor": "lz4", "fill_value": None},
    "v2 filters": {
        "chunks": (4, 3),
        "zarr_format": 2,
        "filters": [{"id": "shuffle", "elementsize": 4}],
        "compressor": "blosc",
    },
    "shards": {"chunks": (2, 3), "shards": (4, 6)},
    "nothing": {"chunks": (9, 9), "compressor": None},
}
CHANGES: list[dict[str, Any]] = [
    {},
    {"zarr_format": 2},
    {"zarr_format": 3},
    {"chunks": (3, 5)},
    {"chunks": (2, 2), "shards": (6, 4), "zarr_format": 3},
    {"compressor": None},
    {"compressor": "gzip"},
    {"zarr_format": 3, "codecs": [{"name": "bytes", "configuration": {"endian": "big"}}, {"name": "crc32c"}]},
    {"order": "F"},
    {"fill_value": 9},
]


@pytest.mark.parametrize("dtype", ["i4", "f8", "U2", "M8[s]"])
@pytest.mark.parametrize(("form", "number"), list(itertools.product(FORMS, range(len(CHANGES)))))
def test_a_copy_holds_the_same_bits(form: str, number: int, dtype: str) -> None:
    options, changes = dict(FORMS[form]), dict(CHANGES[number])
    if changes.get("fill_value") is not None and dtype in ("U2", "M8[s]"):
        changes["fill_value"] = np.zeros((), dtype)[()]
    big = ">" if options.pop("big", False) else "<"
    items = cases.random_items(np.random.default_rng(number), (9, 10), np.dtype(dtype))
    source = zarrcy.create_array(
        MemoryStore(), "a", shape=(9, 10), dtype=big + dtype, attributes={"unit": "K"}, **options
    )
    source[:7] = items[:7]  # the rest is absent
    want = source[...]
    target = MemoryStore()
    if source.shards and changes.get("chunks") == (3, 5):
        with pytest.raises(zarrcy.MetadataError, match="shards"):  # the shards of the source do not hold such chunks
            zarrcy.copy(source, target, "deep/b", **changes)
        changes["shards"] = None
    copied = zarrcy.copy(source, target, "deep/b", **changes)
    for array in (copied, zarrcy.open(target, "deep/b")):
        assert array[...].tobytes() == want.tobytes()
        assert (array.shape, array.dtype, array.attrs["unit"]) == (source.shape, source.dtype, "K")
        assert array.metadata.zarr_format == changes.get("zarr_format", source.metadata.zarr_format)
    assert array.chunks == changes.get("chunks", source.chunks)
    if not changes:
        assert array.metadata == source.metadata
        assert array.nchunks_initialized == source.nchunks_initialized
    assert source[...].tobytes() == want.tobytes()


@pytest.mark.parametrize("kinds", list(itertools.product(["memory", "filesystem", "zip"], repeat=2)))
def test_a_hierarchy_is_copied_between_stores(tmp_path: Path, kinds: tuple[str, str]) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    with cases.make_store(kinds[0], tmp_path / "from") as source, cases.make_store(kinds[1], tmp_path / "to") as target:
        root = zarrcy.create_group(source, attributes={"title": "ocean"})
        root["a"] = np.arange(10)
        root["deep/er/b"] = np.arange(6.0).reshape(2, 3)
        root["deep"].attrs["n"] = 1
        root.create_group("empty")
        copied = zarrcy.copy(root, target)
        assert str(copied.tree()) == str(root.tree())
        assert dict(copied.attrs) == {"title": "ocean"}
        assert copied["deep"].attrs["n"] == 1
        assert copied["deep/er/b"][...].tolist() == root["deep/er/b"][...].tolist()
        two = zarrcy.copy(root, MemoryStore(), "below", zarr_format=2)
        assert {node.metadata.zarr_format for _, node in two.members(None)} == {2}
        back = zarrcy.copy(two, MemoryStore(), zarr_format=3)
        assert back["deep/er/b"][...].tolist() == root["deep/er/b"][...].tolist()


def test_a_copy_goes_to_a_path_or_url_and_comes_from_one(tmp_path: Path) -> None:
    zarrcy.save(tmp_path / "a", x=np.arange(5))
    for target in (tmp_path / "b", str(tmp_path / "c.zip"), f"file://{tmp_path}/d", {}):
        copied = zarrcy.copy(tmp_path / "a", target)
        assert copied["x"][:].tolist() == list(range(5))
        copied.store.close()
    assert zarrcy.load(tmp_path / "c.zip")["x"].tolist() == list(range(5))


def test_names_of_axes_survive_the_way_through_v2() -> None:
    source = zarrcy.array(np.zeros((2, 3)), dimension_names=("y", "x"), attributes={"unit": "K"})
    two = zarrcy.copy(source, MemoryStore(), zarr_format=2)
    assert dict(two.attrs) == {"unit": "K", "_ARRAY_DIMENSIONS": ["y", "x"]}
    three = zarrcy.copy(two, MemoryStore(), zarr_format=3)
    assert three.dimension_names == ("y", "x")
    assert dict(three.attrs) == {"unit": "K"}


def test_shards_are_dissolved_for_v2_and_made_for_v3() -> None:
    source = zarrcy.array(np.arange(100).reshape(10, 10), chunks=(2, 5), shards=(4, 10))
    two = zarrcy.copy(source, MemoryStore(), zarr_format=2)
    assert (two.shards, two.chunks) == (None, (2, 5))
    three = zarrcy.copy(two, MemoryStore(), zarr_format=3, shards=(10, 10))
    assert (three.shards, three.chunks) == ((10, 10), (2, 5))
    assert (three[...] == source[...]).all()


def test_progress_is_told_and_ends_at_the_whole() -> None:
    source = zarrcy.array(np.arange(1000), chunks=100)
    for changes in ({}, {"chunks": 50}):
        told: list[tuple[str, int, int]] = []
        zarrcy.copy(source, MemoryStore(), "a", progress=lambda *args, told=told: told.append(args), **changes)
        assert [path for path, _, _ in told] == ["a"] * len(told)
        assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
        assert told[-1][1:] == (8000, 8000)


def test_an_existing_target_is_replaced_only_when_that_is_asked_for() -> None:
    source = zarrcy.array(np.arange(4))
    target = MemoryStore()
    zarrcy.array(np.zeros(9), target, "a")
    for changes in ({}, {"chunks": 2}):
        with pytest.raises(zarrcy.NodeExistsError):
            zarrcy.copy(source, target, "a", **changes)
        assert zarrcy.open(target, "a").shape == (9,)
    for changes in ({}, {"chunks": 2}):
        assert zarrcy.copy(source, target, "a", overwrite=True, **changes)[:].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("member", ["", "a/", "b/"])
def test_a_copy_of_attributes_that_cannot_be_read_replaces_nothing(member: str) -> None:
    source, target = MemoryStore(), MemoryStore()
    group = zarrcy.create_group(source, zarr_format=2)
    group["a"] = [1, 2]
    group.create_group("b")
    source.set(f"{member}.zattrs", b"{broken")
    zarrcy.create_group(target)["kept"] = [3]
    before = {key: target.get(key) for key in target.list_prefix()}
    with pytest.raises(zarrcy.MetadataError, match="zattrs"):
        zarrcy.copy(zarrcy.open(source, mode="r"), target, overwrite=True)
    assert {key: target.get(key) for key in target.list_prefix()} == before


@pytest.mark.parametrize("path", ["a", "/a/", "a/b", "", "a/b/c/d"])
def test_a_copy_that_meets_its_source_is_refused(path: str) -> None:
    store = MemoryStore()
    zarrcy.create_group(store, "a/b/c")["x"] = [1, 2]
    source = zarrcy.open_group(store, "a/b")
    if path == "a":
        source = zarrcy.open_group(store, "a")
    before = {key: store.get(key) for key in store.list_prefix()}
    with pytest.raises(zarrcy.NodeExistsError):
        zarrcy.copy(source, store, path, overwrite=True)
    assert {key: store.get(key) for key in store.list_prefix()} == before
    assert zarrcy.copy(source, store, "a/b2" if path != "a" else "a2")["c/x" if path != "a" else "b/c/x"][
        :
    ].tolist() == [1, 2]


def test_changes_that_no_array_has_are_a_type_error() -> None:
    source = zarrcy.array([1, 2])
    for changes in ({"shape": 3}, {"colour": "red"}, {"attributes": {}}):
        with pytest.raises(TypeError, match="copy"):
            zarrcy.copy(source, MemoryStore(), **changes)
    with pytest.raises(zarrcy.MetadataError):
        zarrcy.copy(source, MemoryStore(), chunks=(1, 1))


def test_a_copy_of_zero_length_and_0d_arrays() -> None:
    for shape in ((), (0,), (3, 0, 2)):
        source = zarrcy.create(shape=shape, dtype="i2", fill_value=4)
        if shape == ():
            source[()] = 5
        for changes in ({}, {"zarr_format": 2}, {"compressor": None}):
            copied = zarrcy.copy(source, MemoryStore(), **changes)
            assert copied.shape == shape
            assert copied[...].tolist() == source[...].tolist()


def test_what_was_left_out_stays_out_in_a_copy() -> None:
    source = zarrcy.create(shape=(100, 100), chunks=(10, 10))
    source[5, 5] = 1
    for changes in ({}, {"compressor": None}, {"zarr_format": 2}):
        assert zarrcy.copy(source, MemoryStore(), **changes).nchunks_initialized == 1
