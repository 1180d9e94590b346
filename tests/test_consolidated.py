"""Consolidated metadata: who writes it, who reads it, and when it is out of date."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hierarchy_cases import KINDS, Place

import zarrcy
from zarrcy import Array, Group, NodeNotFoundError
from zarrcy.stores.memory import MemoryStore

PATHS = ["air", "depth", "ocean", "ocean/mask", "ocean/temp", "ocean/temp/surface"]


class CountingStore(MemoryStore):
    """Notes the keys that are read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []

    def get(self, key: str, part: slice | None = None) -> Any:
        self.read.append(key)
        return super().get(key, part)

    def size(self, key: str) -> int | None:
        self.read.append(key)
        return super().size(key)

    def list_prefix(self, prefix: str = "") -> Any:
        self.read.append(prefix)
        return super().list_prefix(prefix)


@pytest.fixture(params=[2, 3])
def zarr_format(request: Any) -> int:
    found: int = request.param
    return found


def hierarchy(target: Any, zarr_format: int) -> Group:
    group = zarrcy.create_group(target, zarr_format=zarr_format, attributes={"title": "all"})
    group.create_array("ocean/temp/surface", shape=(4,), chunks=2, dtype="int8", attributes={"unit": "K"})[:] = 1
    group.create_array("depth", shape=(2, 3), dtype="float32")
    group.create_group("air")
    group.create_array("ocean/mask", shape=(), dtype="bool")
    return group


@pytest.fixture
def group(zarr_format: int) -> Group:
    """A group that has consolidated metadata, opened for writing."""
    made = hierarchy(CountingStore(), zarr_format)
    zarrcy.consolidate_metadata(made.store)
    made.store.read.clear()  # type: ignore[attr-defined]
    return made


def consolidated(group: Group) -> list[str]:
    """The paths in the document as it is stored, looked at without the library."""
    store = group.store
    if group.metadata.zarr_format == 3:
        document = json.loads(bytes(store.get("zarr.json") or b"{}"))
        return sorted((document.get("consolidated_metadata") or {"metadata": {}})["metadata"])
    document = json.loads(bytes(store.get(".zmetadata") or b"{}"))
    assert document["zarr_consolidated_format"] == 1
    return sorted({key.rpartition("/")[0] for key in document["metadata"]} - {""})


@pytest.mark.parametrize("kind", KINDS)
def test_every_node_below_is_gathered_in_one_document(tmp_path: Any, kind: str, zarr_format: int) -> None:
    place = Place(kind, tmp_path)
    place.finish(hierarchy(place.target, zarr_format))
    found = zarrcy.consolidate_metadata(place.target)
    assert sorted(found.metadata.consolidated or ()) == PATHS
    assert found.read_only
    place.finish(found)
    assert consolidated(zarrcy.open(place.target, mode="r")) == PATHS
    again = zarrcy.open(place.target, mode="r")
    assert again["ocean/temp/surface"].attrs["unit"] == "K"
    assert again["ocean/temp/surface"][:].tolist() == [1, 1, 1, 1]


def test_reading_the_hierarchy_takes_the_documents_of_its_root_alone(group: Group, zarr_format: int) -> None:
    store = group.store
    found = zarrcy.open_group(store, mode="r", zarr_format=zarr_format)
    opening = [".zarray", ".zgroup"] if zarr_format == 2 else ["zarr.json"]
    assert store.read == opening  # type: ignore[attr-defined]
    assert [path for path, _ in found.members(None)] == PATHS
    opening += [".zmetadata"] if zarr_format == 2 else []  # when a member is asked for
    assert (len(found), "ocean/mask" in found, "nothing" in found, found.get("nothing")) == (3, True, False, None)
    assert found["ocean"]["temp/surface"].shape == (4,)
    assert dict(found.attrs) == {"title": "all"} and found["ocean/temp/surface"].attrs["unit"] == "K"
    assert str(found.tree()).count("\n") == len(PATHS)
    with pytest.raises(NodeNotFoundError):
        found["ocean/nothing"]
    assert store.read == opening  # type: ignore[attr-defined]
    assert zarrcy.open(store, mode="r") == found


@pytest.mark.parametrize("mode", [None, "r+", "a"])
def test_for_writing_each_document_is_read(group: Group, mode: str | None) -> None:
    found = zarrcy.open_group(group.store, mode=mode)
    assert found.metadata.consolidated is None
    found.store.read.clear()  # type: ignore[attr-defined]
    assert list(found) == ["air", "depth", "ocean"]
    assert found.store.read  # type: ignore[attr-defined]


def test_without_a_consolidated_document_reading_looks_at_each(zarr_format: int) -> None:
    hierarchy(store := MemoryStore(), zarr_format)
    found = zarrcy.open_group(store, mode="r")
    assert found.metadata.consolidated is None
    assert [path for path, _ in found.members(None)] == PATHS


@pytest.mark.parametrize(
    ("change", "paths"),
    [
        (lambda g: g.create_array("new/x", shape=2), sorted([*PATHS, "new", "new/x"])),
        (lambda g: g.create_group("new"), sorted([*PATHS, "new"])),
        (lambda g: g.require_array("new", shape=2), sorted([*PATHS, "new"])),
        (lambda g: g.__setitem__("new", 1), sorted([*PATHS, "new"])),
        (lambda g: g.__delitem__("ocean"), ["air", "depth"]),
        (lambda g: g.attrs.update(title="new"), PATHS),
    ],
)
def test_a_change_through_the_group_brings_its_document_up_to_date(group: Group, change: Any, paths: Any) -> None:
    change(group)
    assert consolidated(group) == paths
    found = zarrcy.open_group(group.store, mode="r")
    assert [path for path, _ in found.members(None)] == paths
    assert dict(found.attrs) == dict(group.attrs)


def test_a_change_from_below_shows_when_the_metadata_is_consolidated_again(group: Group) -> None:
    group["ocean"].create_array("deep", shape=2)
    del group["ocean"]["mask"]
    group["depth"].attrs["unit"] = "m"
    group["depth"].resize((7, 3))
    assert consolidated(group) == PATHS
    stale = zarrcy.open_group(group.store, mode="r")
    assert "ocean/deep" not in stale and "ocean/mask" in stale
    assert stale["depth"].shape == (2, 3) and dict(stale["depth"].attrs) == {}
    fresh = zarrcy.consolidate_metadata(group.store)
    assert "ocean/deep" in fresh and "ocean/mask" not in fresh
    assert fresh["depth"].shape == (7, 3) and dict(fresh["depth"].attrs) == {"unit": "m"}


def test_a_group_within_can_have_a_document_of_its_own(zarr_format: int) -> None:
    group = hierarchy(MemoryStore(), zarr_format)
    inner = zarrcy.consolidate_metadata(group.store, "ocean")
    assert sorted(inner.metadata.consolidated or ()) == ["mask", "temp", "temp/surface"]
    assert zarrcy.open_group(group.store, mode="r").metadata.consolidated is None
    assert [path for path, _ in zarrcy.open_group(group.store, mode="r").members(None)] == PATHS
    whole = zarrcy.consolidate_metadata(group.store)
    assert [path for path, _ in whole.members(None)] == PATHS
    assert type(whole["ocean/temp/surface"]) is Array


def test_an_array_that_cannot_be_read_leaves_its_neighbours(group: Group, zarr_format: int) -> None:
    key = "zarr.json" if zarr_format == 3 else ".zmetadata"
    document = json.loads(bytes(group.store.get(key) or b""))
    if zarr_format == 3:
        document["consolidated_metadata"]["metadata"]["ocean/mask"]["data_type"] = "no_such_type"
    else:
        document["metadata"]["ocean/mask/.zarray"]["compressor"] = {"id": "no_such_codec"}
    group.store.set(key, json.dumps(document).encode())
    found = zarrcy.open_group(group.store, mode="r")
    assert list(found["ocean"]) == ["mask", "temp"]
    assert found["ocean/temp/surface"].shape == found["ocean"]["temp"]["surface"].shape == (4,)
    for parent, name in ((found, "ocean/mask"), (found["ocean"], "mask")):
        with pytest.raises(zarrcy.UnknownExtensionError, match="no_such"):
            parent[name]


def test_overwriting_the_group_takes_its_document_away(group: Group, zarr_format: int) -> None:
    zarrcy.create_group(group.store, overwrite=True, zarr_format=zarr_format)
    found = zarrcy.open_group(group.store, mode="r")
    assert found.metadata.consolidated is None and list(found) == []


def test_an_array_has_no_metadata_to_consolidate() -> None:
    store = MemoryStore()
    zarrcy.create_array(store, "a", shape=2)
    before = dict(store._data)
    for path in ("a", "nothing"):
        with pytest.raises(NodeNotFoundError):
            zarrcy.consolidate_metadata(store, path)
    assert store._data == before
