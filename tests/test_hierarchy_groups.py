"""Groups: a mapping of their members, attributes that lose nothing, names, trees and consolidated metadata."""

from __future__ import annotations

import json
import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hierarchy_cases import KINDS, Place

import zarrcy
from zarrcy import Array, Group, MetadataError, NodeExistsError, NodeNotFoundError, ReadOnlyError
from zarrcy.stores.memory import MemoryStore

FORMATS = [2, 3]


@pytest.fixture(params=FORMATS)
def zarr_format(request: Any) -> int:
    found: int = request.param
    return found


@pytest.fixture
def group(zarr_format: int) -> Group:
    return zarrcy.create_group(MemoryStore(), zarr_format=zarr_format)


def filled(group: Group) -> Group:
    """Members in another order than that of their names."""
    group.create_array("ocean/temp/surface", shape=(4,), chunks=2, dtype="int8")[:] = 1
    group.create_array("depth", shape=(2, 3), dtype="float32")
    group.create_group("air")
    group.create_array("ocean/mask", shape=(), dtype="bool")
    return group


# ---- the mapping


def test_a_group_is_a_mapping_sorted_by_name(group: Group) -> None:
    filled(group)
    assert list(group) == group.keys() == ["air", "depth", "ocean"]
    assert len(group) == 3
    assert [node.name for node in group.values()] == ["/air", "/depth", "/ocean"]
    assert [(name, type(node)) for name, node in group.items()] == [("air", Group), ("depth", Array), ("ocean", Group)]
    assert [name for name, _ in group.arrays()] == ["depth"]
    assert [name for name, _ in group.groups()] == ["air", "ocean"]


def test_every_member_has_the_format_of_its_group(group: Group, zarr_format: int) -> None:
    filled(group)
    assert {node.metadata.zarr_format for _, node in group.members(None)} == {zarr_format}


def test_an_empty_group_has_no_members(group: Group) -> None:
    assert (list(group), len(group), list(group.items()), list(group.members(None))) == ([], 0, [], [])


def test_paths_go_down(group: Group) -> None:
    filled(group)
    assert group["ocean/temp/surface"] == group["ocean"]["temp"]["surface"]
    assert group["/ocean/temp/"].path == "ocean/temp"
    assert group["ocean/temp/surface"][:].tolist() == [1, 1, 1, 1]
    assert (group["ocean/mask"].name, group["ocean/mask"].basename) == ("/ocean/mask", "mask")


@pytest.mark.parametrize("name", ["nothing", "ocean/nothing", "depth/0", "depth/zarr.json", "oce", "ocean/tem"])
def test_an_absent_member_is_a_key_error_and_get_gives_the_default(group: Group, name: str) -> None:
    filled(group)
    assert name not in group
    assert group.get(name) is None
    assert group.get(name, 5) == 5
    for call in (group.__getitem__, group.__delitem__):
        with pytest.raises(NodeNotFoundError) as caught:
            call(name)
        assert isinstance(caught.value, KeyError)
        assert name in str(caught.value)


def test_members_go_as_deep_as_they_are_told(group: Group) -> None:
    filled(group)
    direct = ["air", "depth", "ocean"]
    two = ["air", "depth", "ocean", "ocean/mask", "ocean/temp"]
    assert [path for path, _ in group.members()] == direct
    assert [path for path, _ in group.members(max_depth=1)] == two
    assert [path for path, _ in group.members(max_depth=2)] == [*two, "ocean/temp/surface"]
    assert [path for path, _ in group.members(max_depth=None)] == [*two, "ocean/temp/surface"]
    assert [path for path, _ in group["ocean"].members(None)] == ["mask", "temp", "temp/surface"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_deleted_member_takes_all_below_it_and_nothing_else(tmp_path: Path, kind: str, zarr_format: int) -> None:
    place = Place(kind, tmp_path)
    group = filled(zarrcy.create_group(place.target, zarr_format=zarr_format))
    group.create_array("oceans", shape=2)[:] = 1
    keys = set(group.store.list_prefix())
    del group["ocean"]
    assert set(group.store.list_prefix()) == {key for key in keys if not key.startswith("ocean/")}
    assert list(group) == ["air", "depth", "oceans"]
    del group["depth"]
    place.finish(group)
    assert not [key for key in place.contents() if key.startswith(("ocean/", "depth/"))]
    assert list(zarrcy.open(place.target, mode="r")) == ["air", "oceans"]


def test_a_group_cannot_delete_itself(group: Group) -> None:
    with pytest.raises(ValueError, match="the group itself"):
        del group["/"]
    assert group.store.exists("zarr.json") or group.store.exists(".zgroup")


def test_assigning_stores_an_array_and_replaces_what_was_there(group: Group) -> None:
    group["a/b"] = [[1, 2], [3, 4]]
    assert group["a/b"][:].tolist() == [[1, 2], [3, 4]]
    group["a"] = np.array("text")
    assert group["a"][()] == "text"
    assert list(group.members(None)) == [("a", group["a"])]
    with pytest.raises(zarrcy.UnknownExtensionError):
        group["a"] = [object()]
    assert group["a"][()] == "text"


def test_files_of_others_are_no_members(group: Group) -> None:
    for key in ("notes.txt", "photos/a.jpg", "__extra/zarr.json", "__extra/.zgroup"):
        group.store.set(key, b"{}")
    assert list(group) == []
    assert "photos" not in group and "notes.txt" not in group


def test_a_member_of_the_other_format_is_a_member(group: Group, zarr_format: int) -> None:
    zarrcy.create_array(group.store, "other", shape=2, zarr_format=5 - zarr_format)
    assert list(group) == ["other"]
    assert group["other"].metadata.zarr_format == 5 - zarr_format


def test_a_broken_member_is_named_and_leaves_its_neighbours(group: Group, zarr_format: int) -> None:
    filled(group)
    group.store.set("broken/zarr.json" if zarr_format == 3 else "broken/.zarray", b"{")
    assert "broken" in group and list(group) == ["air", "broken", "depth", "ocean"]
    assert group["depth"].shape == (2, 3)
    with pytest.raises(MetadataError, match="broken"):
        group["broken"]
    del group["broken"]
    assert list(group) == ["air", "depth", "ocean"]


# ---- making members


def test_a_required_group_is_made_once(group: Group) -> None:
    made = group.require_group("a/b")
    made.attrs["kept"] = 1
    assert group.require_group("a/b").attrs["kept"] == 1
    group.create_array("x", shape=2)
    with pytest.raises(NodeExistsError, match="expected a group, got an array"):
        group.require_group("x")


@pytest.mark.parametrize("shape", [(3,), [3], 3, np.int64(3)])
def test_a_required_array_is_made_once(group: Group, shape: Any) -> None:
    group.require_array("x", shape=shape, dtype="int16", chunks=2)[:] = 7
    assert group.require_array("x", shape=shape, dtype="int16")[:].tolist() == [7, 7, 7]


def test_a_required_array_fits_the_shape_and_can_be_cast(group: Group) -> None:
    group.create_array("x", shape=(3,), dtype="int16")
    group.create_group("g")
    assert group.require_array("x", shape=(3,), dtype="int32").dtype == "int16"
    for wrong in (
        {"shape": (4,), "dtype": "int16"},
        {"shape": (3, 1), "dtype": "int16"},
        {"shape": (3,), "dtype": "int8"},
        {"shape": (3,), "dtype": "int32", "exact": True},
    ):
        with pytest.raises(NodeExistsError):
            group.require_array("x", **wrong)
    with pytest.raises(NodeExistsError, match="got a group"):
        group.require_array("g", shape=(3,))


@pytest.mark.parametrize("name", ["", "/"])
def test_a_group_is_not_made_in_its_own_place(group: Group, name: str) -> None:
    with pytest.raises(NodeExistsError):
        group.create_group(name)
    with pytest.raises(NodeExistsError):
        group.create_array(name, shape=2)


@pytest.mark.parametrize("name", ["a//b", "..", "a/..", ".", "__x", "a/__b", "a\tb", "a\x1f", "a\\b", "\u2028"])
def test_names_that_no_store_can_hold_are_refused(group: Group, name: str) -> None:
    before = dict(group.store._data)  # type: ignore[attr-defined]
    for call in (
        lambda: group[name],
        lambda: group.get(name),
        lambda: group.create_group(name),
        lambda: group.create_array(name, shape=2),
        lambda: group.require_group(name),
        lambda: group.__setitem__(name, [1]),
        lambda: group.__delitem__(name),
    ):
        with pytest.raises(ValueError, match="expected"):
            call()
    assert name not in group
    assert group.store._data == before  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", [0, None, b"a", ("a",)])
def test_names_that_are_no_text_are_refused(group: Group, name: Any) -> None:
    assert name not in group
    with pytest.raises(TypeError, match="expected text"):
        group[name]


NAMES = [
    "ü",
    "中文",
    "🦜",
    "with space",
    "a.b",
    "..a",
    "_x",
    "c",
    "0",
    "UPPER",
    "é",
    "e\u0301",
    "a" * 200,
    "%41",
    "zarr",
    "#?&",
]


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_any_language_are_kept(tmp_path: Path, kind: str, zarr_format: int) -> None:
    place = Place(kind, tmp_path)
    group = zarrcy.create_group(place.target, zarr_format=zarr_format)
    for i, name in enumerate(NAMES):
        group.create_array(f"{name}/{name}", shape=(), dtype="int8")[()] = i
    place.finish(group)
    found = zarrcy.open(place.target, mode="r")
    assert list(found) == sorted(NAMES)
    assert [int(found[f"{name}/{name}"][()]) for name in NAMES] == list(range(len(NAMES)))


def test_a_read_only_group_refuses_every_change(group: Group) -> None:
    filled(group)
    before = dict(group.store._data)  # type: ignore[attr-defined]
    found = zarrcy.open_group(group.store, mode="r")
    for call in (
        lambda: found.create_array("x", shape=2),
        lambda: found.create_group("x"),
        lambda: found.require_group("x"),
        lambda: found.require_array("x", shape=2),
        lambda: found.__setitem__("x", 1),
        lambda: found.__delitem__("depth"),
        lambda: found.attrs.update(a=1),
        lambda: found["ocean"].create_group("x"),
        lambda: found["depth"].__setitem__(0, 1),
        lambda: found["air"].attrs.put({}),
    ):
        with pytest.raises(ReadOnlyError):
            call()
    assert group.store._data == before  # type: ignore[attr-defined]
    assert found.require_group("air").read_only


def test_a_group_pickles(tmp_path: Path, zarr_format: int) -> None:
    group = filled(zarrcy.create_group(tmp_path / "g", zarr_format=zarr_format))
    for node in (group, group["ocean"], zarrcy.consolidate_metadata(tmp_path / "g")):
        again = pickle.loads(pickle.dumps(node))
        assert (again.path, again.read_only, list(again)) == (node.path, node.read_only, list(node))
        assert again.metadata.attributes == node.metadata.attributes
    assert pickle.loads(pickle.dumps(group)) == group


# ---- how it shows


def test_a_tree_is_drawn(group: Group) -> None:
    filled(group)
    assert str(zarrcy.tree(group)).splitlines() == [
        "/",
        "├── air/",
        "├── depth (2, 3) float32",
        "└── ocean/",
        "    ├── mask () bool",
        "    └── temp/",
        "        └── surface (4,) int8",
    ]
    assert str(group.tree(max_depth=1)).splitlines() == ["/", "├── air/", "├── depth (2, 3) float32", "└── ocean/"]
    assert str(group.tree(max_depth=0)) == "/"
    assert str(zarrcy.tree(group.store, "ocean", max_depth=1)) == str(group["ocean"].tree(1))


def test_what_a_group_is_shows(group: Group, zarr_format: int) -> None:
    filled(group)
    info = str(group.info)
    for text in ("zarrcy.Group", str(zarr_format), group.store.url, "Members"):
        assert text in info
    assert repr(group["ocean"]) == f"<zarrcy.Group /ocean in {group.store.url}>"


# ---- attributes


def stored_attributes(group: Group) -> Any:
    values = group.store._data  # type: ignore[attr-defined]
    if group.metadata.zarr_format == 2:
        return json.loads(values.get(".zattrs", b"{}"))
    return json.loads(values["zarr.json"])["attributes"]


def test_attributes_write_through(group: Group) -> None:
    attrs = group.attrs
    attrs["a"] = {"deep": [1, None, "ü", 1.5]}
    assert stored_attributes(group) == {"a": {"deep": [1, None, "ü", 1.5]}}
    attrs.update({"b": 1}, c=2)
    del attrs["a"]
    assert stored_attributes(group) == dict(attrs) == attrs.asdict() == {"b": 1, "c": 2}
    attrs.put({"d": False})
    assert stored_attributes(group) == dict(zarrcy.open(group.store).attrs) == {"d": False}
    assert (attrs.get("b"), len(attrs), "d" in attrs, attrs.pop("d")) == (None, 1, True, False)
    assert stored_attributes(group) == {}
    with pytest.raises(KeyError):
        del attrs["d"]


def test_the_attributes_of_an_array_write_through_and_keep_its_metadata(zarr_format: int) -> None:
    array = zarrcy.create_array(MemoryStore(), shape=(4,), chunks=2, zarr_format=zarr_format, attributes={"old": 1})
    array.attrs["new"] = 2
    found = zarrcy.open(array.store)
    assert dict(found.attrs) == {"old": 1, "new": 2}
    assert (found.shape, found.chunks, found.codecs) == (array.shape, array.chunks, array.codecs)


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({1: "a"}, TypeError),
        ({"a": object()}, MetadataError),
        ({"a": {1, 2}}, MetadataError),
        ({"a": b"x"}, MetadataError),
    ],
)
def test_attributes_that_json_cannot_hold_change_nothing(group: Group, values: Any, error: Any) -> None:
    group.attrs["kept"] = 1
    for call in (group.attrs.update, group.attrs.put):
        with pytest.raises(error):
            call(values)
        assert stored_attributes(group) == dict(group.attrs) == {"kept": 1}


def test_a_change_keeps_what_others_changed_meanwhile(group: Group) -> None:
    one, two = zarrcy.open(group.store), zarrcy.open(group.store)
    one.attrs["a"] = 1
    two.attrs["b"] = 2
    assert stored_attributes(group) == dict(two.attrs) == {"a": 1, "b": 2}


def test_attributes_of_a_deleted_node_are_an_error(group: Group) -> None:
    inner = group.create_group("inner")
    del group["inner"]
    with pytest.raises(NodeNotFoundError):
        inner.attrs["a"] = 1
    assert "inner" not in group and not list(group.store.list_prefix("inner/"))


def note(path: Path, worker: int) -> None:
    group = zarrcy.open(path)
    for i in range(10):
        group.attrs[f"{worker}-{i}"] = i
        group["x"].attrs[f"{worker}-{i}"] = i


def test_attributes_that_four_processes_note_are_all_kept(tmp_path: Path, zarr_format: int) -> None:
    zarrcy.create_group(tmp_path / "g", zarr_format=zarr_format).create_array("x", shape=2)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=note, args=(tmp_path / "g", worker)) for worker in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    everything = {f"{worker}-{i}": i for worker in range(4) for i in range(10)}
    found = zarrcy.open(tmp_path / "g", mode="r")
    assert dict(found.attrs) == dict(found["x"].attrs) == everything
