"""Copies between stores, formats, chunk shapes and codecs, and the copies that are refused."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hierarchy_cases import KINDS, Place, nothing_written, refused

import zarrcy
from zarrcy import Array, Group, MetadataError, NodeExistsError, NodeNotFoundError
from zarrcy.stores.memory import MemoryStore
from zarrcy.stores.mock import Fault, MockStore, Status

RNG = np.random.default_rng(11)
CUBE = RNG.integers(-500, 500, (7, 10, 9)).astype("int16")
LINE = RNG.standard_normal(31)
WORDS = np.array(["a", "bé", "中文"])


def fill(group: Group) -> Group:
    """A hierarchy with arrays of several kinds, absent chunks, an empty group and attributes everywhere."""
    group.attrs.put({"title": "all", "n": [1, None]})
    group.create_array("data/cube", shape=CUBE.shape, chunks=(3, 4, 9), dtype=">i2", attributes={"unit": "K"})[:] = CUBE
    group.create_array("data/line", shape=LINE.shape, chunks=8, compressor="zlib", fill_value=-1.0)[:] = LINE
    group.create_array("words", shape=3, chunks=2, dtype="U2", order="F")[:] = WORDS
    group.create_array("sparse", shape=(20, 20), chunks=5, dtype="int8", fill_value=9)[7, 7] = 1
    group.create_array("empty", shape=(0, 3), dtype="float32")
    group.create_array("point", shape=(), dtype="M8[s]")[()] = np.datetime64("2020-02-29T12:00:00")
    group["data"].attrs["inner"] = True
    group.create_group("nothing", attributes={"x": 1})
    return group


def source(zarr_format: int = 3) -> Group:
    return fill(zarrcy.create_group(MemoryStore(), zarr_format=zarr_format))


def check(copy: Group, zarr_format: int, like: Group) -> None:
    """The copy says what the source says."""
    nodes = dict(like.members(None))
    found = dict(copy.members(None))
    assert list(found) == list(nodes)
    assert dict(copy.attrs) == dict(like.attrs)
    assert copy.metadata.zarr_format == zarr_format
    for path, node in nodes.items():
        other = found[path]
        assert type(other) is type(node)
        assert dict(other.attrs) == dict(node.attrs)
        assert other.metadata.zarr_format == zarr_format
        if isinstance(node, Array):
            assert (other.shape, other.dtype, other.fill_value) == (node.shape, node.dtype, node.fill_value)
            assert other.metadata.endian == node.metadata.endian
            assert other[...].tobytes() == node[...].tobytes()


@pytest.mark.parametrize("to", KINDS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_hierarchy_is_copied_between_any_two_stores(tmp_path: Path, kind: str, to: str, zarr_format: int) -> None:
    here, there = Place(kind, tmp_path, "here"), Place(to, tmp_path, "there")
    here.finish(fill(zarrcy.create_group(here.target, zarr_format=zarr_format)))
    with nothing_written(here):
        there.finish(zarrcy.copy(here.target, there.target))
    assert there.contents() == here.contents(), "without changes every stored value is the same"
    check(zarrcy.open(there.target, mode="r"), zarr_format, source(zarr_format))


@pytest.mark.parametrize(("old", "new"), [(2, 3), (3, 2)])
@pytest.mark.parametrize("to", KINDS)
def test_a_hierarchy_is_copied_to_the_other_format_and_back(tmp_path: Path, to: str, old: int, new: int) -> None:
    there = Place(to, tmp_path)
    there.finish(zarrcy.copy(source(old), there.target, "deep/er", zarr_format=new))
    found = zarrcy.open(there.target, "deep/er", mode="r")
    check(found, new, source(old))
    check(zarrcy.copy(found, {}, zarr_format=old), old, source(old))


@pytest.mark.parametrize(
    "changes",
    [
        {"chunks": (2, 5, 4)},
        {"chunks": "auto"},
        {"chunks": -1},
        {"chunks": (3, 2, 9), "shards": (3, 4, 9)},
        {"shards": (6, 8, 9)},
        {"compressor": None},
        {"compressor": "gzip"},
        {"compressor": ["zstd", "crc32c"]},
        {"codecs": [{"name": "bytes", "configuration": {"endian": "little"}}]},
        {"order": "F"},
        {"zarr_format": 2, "chunks": (1, 10, 2), "compressor": "zstd", "order": "F"},
        {"dtype": "float64"},
        {"fill_value": 3},
    ],
)
def test_an_array_is_copied_with_other_settings(changes: dict[str, Any]) -> None:
    array = source()["data/cube"]
    made = zarrcy.copy(array, MemoryStore(), "a/b", **changes)
    found = zarrcy.open(made.store, "a/b")
    assert found == made and np.array_equal(found[...], CUBE)
    assert dict(found.attrs) == {"unit": "K"}
    wanted = zarrcy.create(shape=CUBE.shape, **{"dtype": ">i2", "chunks": (3, 4, 9), **changes})
    assert (found.chunks, found.shards, found.codecs) == (wanted.chunks, wanted.shards, wanted.codecs)
    assert found.fill_value == changes.get("fill_value", 0)


def test_a_raw_copy_keeps_the_stored_bytes_also_where_they_cannot_be_decoded() -> None:
    group = source()
    array = group["data/cube"]
    key = array.chunk_key((0, 0, 0))
    array.store.set(key, b"broken")
    made = zarrcy.copy(array, MemoryStore(), "x")
    assert made.store.get(made.chunk_key((0, 0, 0))) == b"broken"
    assert made.metadata == array.metadata
    with pytest.raises(zarrcy.CodecError):
        zarrcy.copy(array, MemoryStore(), "x", compressor=None)


def test_a_copy_leaves_absent_chunks_absent_and_what_is_no_chunk_behind() -> None:
    array = source()["sparse"]
    array.store.set("sparse/notes.txt", b"mine")
    for changes in ({}, {"compressor": None}, {"zarr_format": 2}):
        made = zarrcy.copy(array, MemoryStore(), **changes)
        assert list(made.stored_chunks()) == [(1, 1)]
        assert not made.store.exists("notes.txt")


def test_shards_are_dissolved_in_v2_and_kept_in_v3() -> None:
    array = zarrcy.create(shape=CUBE.shape, chunks=(1, 5, 9), shards=(4, 10, 9), dtype="int16", compressor="zstd")
    array[:] = CUBE
    assert zarrcy.copy(array, {}).shards == zarrcy.copy(array, {}, compressor="gzip").shards == (4, 10, 9)
    for changes in ({"zarr_format": 2}, {"shards": None}):
        made = zarrcy.copy(array, {}, **changes)
        assert (made.shards, made.chunks) == (None, (1, 5, 9))
        assert np.array_equal(made[...], CUBE)


# ---- names of dimensions


def test_dimension_names_go_to_the_attribute_that_xarray_reads_and_back() -> None:
    array = zarrcy.create(shape=(2, 3), dimension_names=["y", "x"], attributes={"unit": "K"})
    old = zarrcy.copy(array, {}, zarr_format=2)
    assert dict(old.attrs) == {"unit": "K", "_ARRAY_DIMENSIONS": ["y", "x"]} and old.dimension_names is None
    new = zarrcy.copy(old, {}, zarr_format=3)
    assert new.dimension_names == ("y", "x") and dict(new.attrs) == {"unit": "K"}
    assert dict(array.attrs) == {"unit": "K"}, "the source keeps its attributes"


@pytest.mark.parametrize("listed", [["y"], ["y", "x", "z"], ["y", 1], "yx", None, [None, "x"]])
def test_an_attribute_that_names_other_dimensions_stays_one(listed: Any) -> None:
    old = zarrcy.create(shape=(2, 3), zarr_format=2, attributes={"_ARRAY_DIMENSIONS": listed})
    new = zarrcy.copy(old, {}, zarr_format=3)
    assert new.dimension_names is None and dict(new.attrs) == {"_ARRAY_DIMENSIONS": listed}


def test_dimension_names_stay_in_v3() -> None:
    array = zarrcy.create(shape=(2, 3), dimension_names=["y", None])
    assert zarrcy.copy(array, {}, chunks=1).dimension_names == ("y", None)


def test_no_fill_value_becomes_zero_in_v3() -> None:
    old = zarrcy.create(shape=3, chunks=1, dtype="int16", fill_value=None, zarr_format=2)
    old[:] = [0, 5, 0]
    new = zarrcy.copy(old, {}, zarr_format=3)
    assert new.fill_value == 0 and new[:].tolist() == [0, 5, 0]


# ---- progress


@pytest.mark.parametrize("changes", [{}, {"compressor": "gzip"}, {"zarr_format": 2}])
def test_progress_goes_up_to_the_full_size_of_every_array(changes: dict[str, Any]) -> None:
    calls: list[tuple[str, int, int]] = []
    group = source()
    group.create_array("unwritten", shape=(100,), chunks=10)
    zarrcy.copy(group, {}, "to", progress=lambda *call: calls.append(call), **changes)
    arrays = {f"to/{path}": node for path, node in group.members(None) if isinstance(node, Array)}
    assert {path for path, _, _ in calls} == set(arrays)
    for path, array in arrays.items():
        done = [(nbytes, total) for name, nbytes, total in calls if name == path]
        assert done == sorted(done)
        assert {total for _, total in done} == {array.nbytes}
        assert done[-1] == (array.nbytes, array.nbytes)


# ---- what is refused


def test_what_is_in_the_way_is_replaced_only_where_that_was_asked_for(tmp_path: Path) -> None:
    for kind in KINDS:
        place = Place(kind, tmp_path)
        group = zarrcy.create_group(place.target)
        group.create_array("a/old", shape=2)[:] = 1
        place.finish(group)
        for path in ("", "a", "a/old"):
            with refused(place, NodeExistsError):
                zarrcy.copy(source(), place.target, path)
            with refused(place, NodeExistsError):
                zarrcy.copy(source()["words"], place.target, path)
        place.finish(zarrcy.copy(source(), place.target, "a", overwrite=True))
        found = zarrcy.open(place.target, mode="r")
        check(found["a"], 3, source())
        place.finish(zarrcy.copy(source()["words"], place.target, "a", overwrite=True))
        assert set(place.contents()) == {"zarr.json", "a/zarr.json", "a/c/0", "a/c/1"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_files_of_others_are_never_replaced_by_a_copy(tmp_path: Path, overwrite: bool) -> None:
    for kind in KINDS:
        place = Place(kind, tmp_path)
        place.fill({"notes.txt": b"mine"})
        with refused(place, NodeExistsError):
            zarrcy.copy(source(), place.target, overwrite=overwrite)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_is_copied_onto_itself_into_itself_or_over_what_holds_it(
    tmp_path: Path, kind: str, overwrite: bool
) -> None:
    place = Place(kind, tmp_path)
    place.finish(fill(zarrcy.create_group(place.target)))
    for node, path in (("", ""), ("", "new"), ("data", "data"), ("data", "data/new"), ("data", ""), ("words", "words")):
        with refused(place, NodeExistsError, "meets it"):
            zarrcy.copy(zarrcy.open(place.target, node, mode="r"), place.target, path, overwrite=overwrite)
    made = zarrcy.copy(zarrcy.open(place.target, "data", mode="r"), place.target, "data2")
    assert np.array_equal(made["cube"][:], CUBE)


@pytest.mark.parametrize("kind", ["directory", "archive"])
def test_a_source_is_known_under_every_spelling_of_its_place(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = Place(kind, tmp_path, "with space ü")
    place.finish(fill(zarrcy.create_group(place.target)))
    link = tmp_path / ("link.zip" if kind == "archive" else "link")
    os.symlink(place.path, link)
    for target in (link, place.path.name, f"./{place.path.name}", tmp_path / "x" / ".." / place.path.name):
        with refused(place, NodeExistsError, "meets it"):
            zarrcy.copy(place.target, target, overwrite=True)
    if kind == "directory":
        group = zarrcy.open(place.path)
        group.create_array("é", shape=2)
        for target, path in ((place.path / "é", ""), (link / "é", ""), (link, "é"), (place.path / "é", "in")):
            with refused(place, NodeExistsError, "meets it"):
                zarrcy.copy(group["é"], target, path, overwrite=True)


def test_a_copy_that_is_refused_leaves_no_archive_locked(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    zarrcy.create_group(archive).store.close()
    with pytest.raises(NodeExistsError) as refusal:
        zarrcy.copy(source(), archive)
    # The error has the frames, and with them what these held.
    zarrcy.create_group(archive, "next").store.close()
    assert refusal.value.code == "exists" and "next" in zarrcy.open(archive, mode="r")


def test_an_archive_is_not_overwritten_by_the_directory_around_it(tmp_path: Path) -> None:
    place = Place("directory", tmp_path)
    zarrcy.create_group(place.target)
    archive = place.path / "a.zip"
    zarrcy.copy(source(), archive).store.close()
    with refused(place, NodeExistsError, "meets it"):
        zarrcy.copy(archive, place.target, overwrite=True)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"chunks": (2, 2)}, MetadataError),
        ({"chunks": 0}, MetadataError),
        ({"compressor": "no such codec"}, zarrcy.UnknownExtensionError),
        ({"zarr_format": 4}, MetadataError),
        ({"zarr_format": 2, "shards": 4}, MetadataError),
        ({"codecs": [{"name": "zstd"}]}, MetadataError),
        ({"codecs": [{"name": "bytes"}], "compressor": "zstd"}, TypeError),
        ({"dtype": object}, zarrcy.UnknownExtensionError),
        ({"shape": (2,)}, TypeError),
        ({"attributes": {}}, TypeError),
        ({"no_such_change": 1}, TypeError),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_that_cannot_be_made_leaves_the_target_as_it_is(
    tmp_path: Path, kind: str, changes: Any, error: Any
) -> None:
    place = Place(kind, tmp_path)
    with refused(place, error):
        zarrcy.copy(source(), place.target, **changes)
    place.finish(fill(zarrcy.create_group(place.target)))
    for node in (source(), source()["data/cube"]):
        if node.path and changes == {"chunks": (2, 2)}:
            changes = {"chunks": (2, 2, 2, 2)}
        with refused(place, error):
            zarrcy.copy(node, place.target, overwrite=True, **changes)


@pytest.mark.parametrize("kind", KINDS)
def test_paths_of_copies_are_checked_like_all_others(tmp_path: Path, kind: str) -> None:
    place = Place(kind, tmp_path)
    for node in (source(), source()["words"]):
        for path in ("a//b", "..", "__x", "a\n"):
            with refused(place, ValueError):
                zarrcy.copy(node, place.target, path)
    assert place.finish(zarrcy.copy(source()["words"], place.target, "/a/b/")).path == "a/b"


def test_a_source_that_is_not_there_is_an_error_that_makes_nothing(tmp_path: Path) -> None:
    for name in ("a", "a.zip"):
        with pytest.raises(NodeNotFoundError):
            zarrcy.copy(tmp_path / name, tmp_path / "target.zip")
    assert list(tmp_path.iterdir()) == []


def test_a_source_with_a_node_that_cannot_be_read_leaves_the_target_as_it_is() -> None:
    group = source()
    group.store.set("data/broken/zarr.json", b"{")
    target = {"zarr.json": bytes(group.store.get("zarr.json") or b"")}
    before = dict(target)
    with pytest.raises(MetadataError, match="data/broken"):
        zarrcy.copy(group, target, overwrite=True)
    assert target == before


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_copy_that_broke_off_anywhere_begins_anew(zarr_format: int) -> None:
    source = zarrcy.create_group(MemoryStore(), zarr_format=zarr_format, attributes={"n": 0})
    items = np.arange(16).reshape(4, 4)
    for name in ("a", "g/b"):
        source.create_array(name, shape=(4, 4), chunks=(2, 2), dtype="int16", attributes={"n": 1})[...] = items + 1
    for n in itertools.count(1):
        target = MockStore(MemoryStore(), [Fault(Status(403), method=("set", "set_if"), nth=n)])
        try:
            zarrcy.copy(source, target)
        except zarrcy.PermissionDeniedError:
            copy = zarrcy.copy(source, target.store, overwrite=True)
            assert [name for name, _ in copy.members(None)] == ["a", "g", "g/b"]
            assert all((copy[name][...] == items + 1).all() and copy[name].attrs["n"] == 1 for name in ("a", "g/b"))
        else:
            break
    assert n > 10
