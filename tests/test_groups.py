"""Groups: a dictionary of members, their attributes, consolidated metadata, deletion, names, drawings."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrcy
from zarrcy.stores.filesystem import FilesystemStore
from zarrcy.stores.memory import MemoryStore
from zarrcy.stores.zip import ZipStore

FORMATS = pytest.mark.parametrize("zarr_format", [2, 3])


def hierarchy(store: Any, zarr_format: int = 3) -> zarrcy.Group:
    root = zarrcy.create_group(store, attributes={"title": "ocean"}, zarr_format=zarr_format)
    root.create_array("depth", shape=(4, 6), chunks=(2, 3), dtype="int16")[...] = np.arange(24).reshape(4, 6)
    surface = root.create_group("surface", attributes={"level": 0})
    surface.create_array("heat/flux", shape=3, dtype="float32", attributes={"unit": "W"})
    root.create_group("empty")
    return root


def keys_of(store: Any) -> set[str]:
    return set(store.list_prefix())


# ---- a dictionary


@FORMATS
def test_a_group_is_a_dictionary_of_its_members(zarr_format: int) -> None:
    root = hierarchy(MemoryStore(), zarr_format)
    assert list(root) == root.keys() == ["depth", "empty", "surface"]
    assert len(root) == 3
    assert [name for name, _ in root.arrays()] == ["depth"]
    assert [name for name, _ in root.groups()] == ["empty", "surface"]
    assert [node.basename for node in root.values()] == list(root)
    assert dict(root.items())["depth"] == root["depth"]
    assert [name for name, _ in root.members()] == list(root)
    assert [name for name, _ in root.members(1)] == ["depth", "empty", "surface", "surface/heat"]
    everything = ["depth", "empty", "surface", "surface/heat", "surface/heat/flux"]
    assert [name for name, _ in root.members(None)] == everything
    assert len(root["empty"]) == 0


@FORMATS
def test_paths_go_down(zarr_format: int) -> None:
    root = hierarchy(MemoryStore(), zarr_format)
    flux = root["surface/heat/flux"]
    assert flux == root["surface"]["heat"]["flux"] == root["/surface/heat/flux/"]
    assert (flux.path, flux.name, flux.basename) == ("surface/heat/flux", "/surface/heat/flux", "flux")
    assert "surface/heat" in root
    assert "surface/nothing" not in root
    assert 3 not in root
    assert "../depth" not in root["surface"]
    with pytest.raises(ValueError, match="key"):
        root["surface"]["../depth"]


@FORMATS
def test_a_missing_member_is_a_key_error_that_says_where(zarr_format: int) -> None:
    root = hierarchy(MemoryStore(), zarr_format)
    for name in ("nothing", "depth/below", "surface/nothing"):
        assert root.get(name) is None
        assert root.get(name, 3) == 3
        with pytest.raises(KeyError) as caught:
            root[name]
        assert isinstance(caught.value, zarrcy.NodeNotFoundError)
        assert caught.value.key == name


@FORMATS
def test_assigning_stores_an_array(zarr_format: int) -> None:
    root = hierarchy(MemoryStore(), zarr_format)
    root["depth"] = [1, 2, 3]
    root["new/deep"] = np.float32(2.5)
    root["surface"] = "text"
    assert root["depth"][:].tolist() == [1, 2, 3]
    assert root["new/deep"][()] == 2.5
    assert root["surface"][()] == "text"
    assert root["depth"].metadata.zarr_format == zarr_format
    root["depth"] = root["depth"]
    assert root["depth"][:].tolist() == [1, 2, 3]


@FORMATS
def test_deleting_a_member_deletes_all_below_it_and_nothing_beside_it(zarr_format: int) -> None:
    store = MemoryStore()
    root = hierarchy(store, zarr_format)
    root.create_array("surfaces", shape=2)[...] = 1
    before = keys_of(store)
    del root["surface"]
    assert keys_of(store) == {key for key in before if not key.startswith("surface/")}
    assert list(root) == ["depth", "empty", "surfaces"]
    del root["depth"]
    assert not any(key.startswith("depth") for key in keys_of(store))
    for name in ("depth", "nothing", "surfaces/0"):
        with pytest.raises(KeyError):
            del root[name]
    for name in ("", "/"):
        with pytest.raises(ValueError, match="group itself"):
            del root[name]
    assert root["surfaces"][:].tolist() == [1, 1]


def test_directories_that_are_no_nodes_are_no_members(tmp_path: Path) -> None:
    root = hierarchy(tmp_path / "a")
    (tmp_path / "a/foreign/deep").mkdir(parents=True)
    (tmp_path / "a/foreign/deep/notes.txt").write_text("mine")
    (tmp_path / "a/__pycache__").mkdir()
    (tmp_path / "a/__pycache__/zarr.json").write_text("{}")
    (tmp_path / "a/stray.txt").write_text("mine")
    assert list(root) == ["depth", "empty", "surface"]
    assert len(list(root.members(None))) == 5
    assert "foreign" not in root
    assert root.get("foreign") is None


def test_members_of_both_formats_are_members() -> None:
    for zarr_format in (2, 3):
        root = hierarchy(MemoryStore(), zarr_format)
        made = root.create_array("other", shape=2, zarr_format=5 - zarr_format)
        assert root["other"] == made
        assert "other" in root
        assert dict(root.items())["other"].metadata.zarr_format == 5 - zarr_format
        assert "other" in str(root.tree())


def test_a_member_that_cannot_be_read_spoils_only_itself() -> None:
    store = MemoryStore()
    root = hierarchy(store)
    store.set("broken/zarr.json", b"{")
    assert list(root) == ["broken", "depth", "empty", "surface"]
    assert "broken" in root
    assert root["depth"].shape == (4, 6)
    with pytest.raises(zarrcy.MetadataError) as caught:
        root["broken"]
    assert caught.value.key == "broken/zarr.json"


NAMES = [
    "größe",
    "数据",
    "🦜",
    "a b",
    "a.b",
    "c",
    "0",
    "0.0",
    "c.0",
    "-",
    "%2F",
    "~",
    "$HOME",
    "x" * 200,
    ".hidden",
    "zarr",
    "a:b",
    "_one",
    "C",
]


@FORMATS
@pytest.mark.parametrize("kind", ["memory", "filesystem", "zip"])
def test_odd_names_are_names(tmp_path: Path, zarr_format: int, kind: str) -> None:
    store: Any = {
        "memory": MemoryStore,
        "filesystem": lambda: FilesystemStore(tmp_path / "a"),
        "zip": lambda: ZipStore(tmp_path / "a.zip", mode="w"),
    }[kind]()
    root = zarrcy.create_group(store, zarr_format=zarr_format)
    for i, name in enumerate(NAMES):
        root.create_array(name, shape=2, chunks=1, dtype="int32")[...] = i
        root.create_group(f"deep/{name}")
    assert list(root) == sorted([*NAMES, "deep"])
    assert list(root["deep"]) == sorted(NAMES)
    for i, name in enumerate(NAMES):
        assert root[name][:].tolist() == [i, i]
        assert root[name].nchunks_initialized == (2 if i else 0)
    assert len(zarrcy.open_group(store, mode="r")) == len(NAMES) + 1
    store.close()


@pytest.mark.parametrize(
    "name", ["a//b", ".", "..", "a/..", "a/../b", "./a", "a\\b", "a\0b", "a\nb", "__x", "a/__x", "__x/a", "\ud800"]
)
def test_names_that_no_store_can_hold_are_refused(name: str) -> None:
    store = MemoryStore()
    root = hierarchy(store)
    before = keys_of(store)
    for call in (
        lambda: root.create_array(name, shape=1),
        lambda: root.create_group(name),
        lambda: root.require_group(name),
        lambda: root.__setitem__(name, [1]),
        lambda: zarrcy.create_array(store, name, shape=1),
        lambda: zarrcy.open(store, name),
        lambda: root[name],
    ):
        with pytest.raises(ValueError, match=r"key|path"):
            call()
    assert keys_of(store) == before


# ---- require


@FORMATS
def test_require_makes_what_is_not_there(zarr_format: int) -> None:
    root = hierarchy(MemoryStore(), zarr_format)
    assert root.require_group("surface") == root["surface"]
    assert root.require_group("new/deep").path == "new/deep"
    assert root.require_array("depth", shape=(4, 6), dtype="int16") == root["depth"]
    assert root.require_array("depth", shape=(4, 6), dtype="float64") == root["depth"]
    assert root.require_array("wide", shape=3, dtype="int8", chunks=1).chunks == (1,)
    assert root.require_array("wide", shape=np.int64(3), dtype="int8").shape == (3,)
    assert (root["depth"][...] == np.arange(24).reshape(4, 6)).all()
    for call in (
        lambda: root.require_group("depth"),
        lambda: root.require_array("surface", shape=3),
        lambda: root.require_array("depth", shape=(4, 7), dtype="int16"),
        lambda: root.require_array("depth", shape=(4, 6), dtype="int8"),
        lambda: root.require_array("depth", shape=(4, 6), dtype="float64", exact=True),
    ):
        with pytest.raises(zarrcy.NodeExistsError):
            call()


# ---- attributes


@FORMATS
@pytest.mark.parametrize("which", ["", "depth", "surface"])
def test_attributes_are_written_through(tmp_path: Path, zarr_format: int, which: str) -> None:
    root = hierarchy(tmp_path / "a", zarr_format)
    node = root[which]

    def stored() -> dict[str, Any]:
        return zarrcy.open(tmp_path / "a", which).attrs.asdict()

    start = stored()
    node.attrs["unit"] = "K"
    assert stored() == {**start, "unit": "K"}
    node.attrs.update({"a": [1, {"b": None}], "c": 1.5}, d=True)
    assert stored() == {**start, "unit": "K", "a": [1, {"b": None}], "c": 1.5, "d": True}
    del node.attrs["a"]
    assert "a" not in stored()
    assert node.attrs.pop("c") == 1.5
    node.attrs.setdefault("e", []).append("unnoticed")
    assert stored()["e"] == []
    node.attrs.put({"only": "this"})
    assert stored() == dict(node.attrs) == {"only": "this"}
    node.attrs.clear()
    assert stored() == {}
    assert len(node.attrs) == 0
    with pytest.raises(KeyError):
        node.attrs["nothing"]
    with pytest.raises(KeyError):
        del node.attrs["nothing"]
    if which == "depth":
        assert (node[...] == np.arange(24).reshape(4, 6)).all()


@FORMATS
def test_attributes_that_json_cannot_hold_change_nothing(zarr_format: int) -> None:
    root = hierarchy(MemoryStore(), zarr_format)
    for value in (object(), {1, 2}, b"bytes", 1j, [object()]):
        with pytest.raises(zarrcy.MetadataError):
            root.attrs["bad"] = value
    for name in (1, None, ("a",)):
        with pytest.raises(TypeError, match="text"):
            root.attrs[name] = 1
    assert dict(root.attrs) == {"title": "ocean"} == dict(zarrcy.open(root.store).attrs)


def test_odd_attributes_come_back(tmp_path: Path) -> None:
    odd = {
        "": 0,
        "größe 🦜": "数据",
        "n": 10**30,
        "nan": float("nan"),
        "inf": float("-inf"),
        "deep": [[[{"a": [None, True]}]]],
        "a/b\n\0": "\ud83d",
    }
    for zarr_format in (2, 3):
        group = zarrcy.create_group(tmp_path / str(zarr_format), zarr_format=zarr_format)
        group.attrs.update(odd)
        again = zarrcy.open(tmp_path / str(zarr_format)).attrs.asdict()
        assert repr(again) == repr(odd)
        group.attrs["numpy"] = np.arange(3)
        group.attrs["scalar"] = np.float32(1.5)
        again = zarrcy.open(tmp_path / str(zarr_format)).attrs
        assert (again["numpy"], again["scalar"]) == ([0, 1, 2], 1.5)


def _annotate(path: str, which: str, number: int) -> None:
    node = zarrcy.open(path, which)
    for i in range(25):
        node.attrs[f"{number}-{i}"] = i


@FORMATS
@pytest.mark.parametrize("which", ["", "depth"])
def test_attributes_set_by_processes_and_threads_are_all_there(tmp_path: Path, zarr_format: int, which: str) -> None:
    path = str(tmp_path / "a")
    hierarchy(path, zarr_format)
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_annotate, args=(path, which, i)) for i in range(2)]
    threads = [threading.Thread(target=_annotate, args=(path, which, i)) for i in range(2, 6)]
    for worker in [*processes, *threads]:
        worker.start()
    for worker in [*processes, *threads]:
        worker.join()
    assert [process.exitcode for process in processes] == [0, 0]
    attributes = zarrcy.open(path, which).attrs.asdict()
    attributes.pop("title", None)
    assert attributes == {f"{number}-{i}": i for number in range(6) for i in range(25)}


# ---- consolidated metadata


class CountingStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []

    def get(self, key: str, part: slice | None = None) -> Any:
        self.reads.append(key)
        return super().get(key, part)

    def size(self, key: str) -> int | None:
        self.reads.append(key)
        return super().size(key)


@FORMATS
def test_consolidated_metadata_is_read_instead_of_the_documents_of_the_members(zarr_format: int) -> None:
    store = CountingStore()
    root = hierarchy(store, zarr_format)
    consolidated = zarrcy.consolidate_metadata(store)
    assert consolidated.read_only
    names = ["depth", "empty", "surface", "surface/heat", "surface/heat/flux"]
    assert sorted(consolidated.metadata.consolidated) == names
    opened = zarrcy.open_group(store, mode="r")
    store.reads.clear()
    assert [name for name, _ in opened.members(None)] == names
    assert opened["surface/heat/flux"].attrs["unit"] == "W"
    assert opened["surface"]["heat"]["flux"].shape == (3,)
    assert opened["surface"].attrs["level"] == 0
    assert "surface/heat" in opened and "nothing" not in opened
    assert len(opened) == 3
    str(opened.tree())
    with pytest.raises(KeyError):
        opened["nothing"]
    assert store.reads == ([".zmetadata"] if zarr_format == 2 else [])
    assert (opened["depth"][...] == np.arange(24).reshape(4, 6)).all()
    for name in names:
        expected = root[name].metadata
        if isinstance(root[name], zarrcy.Group):
            expected = expected.replace(consolidated=opened[name].metadata.consolidated)
        assert opened[name].metadata == expected


@FORMATS
def test_consolidated_metadata_is_used_for_reading_only(zarr_format: int) -> None:
    store = MemoryStore()
    hierarchy(store, zarr_format)
    zarrcy.consolidate_metadata(store)
    zarrcy.create_array(store, "surface/new", shape=1, zarr_format=zarr_format)  # from below: not noticed
    assert "new" not in zarrcy.open_group(store, mode="r")["surface"]
    for mode in (None, "r+", "a"):
        group = zarrcy.open_group(store, mode=mode)
        assert "new" in group["surface"]
        assert group.metadata.consolidated is None
    assert "new" in zarrcy.open_group(store, "surface", mode="r")


@FORMATS
def test_changes_through_a_group_renew_its_consolidated_metadata(zarr_format: int) -> None:
    store = MemoryStore()
    hierarchy(store, zarr_format)
    zarrcy.consolidate_metadata(store)
    root = zarrcy.open_group(store, mode="r+")

    def seen() -> zarrcy.Group:
        return zarrcy.open_group(store, mode="r")

    root.create_array("new/array", shape=3)
    assert seen()["new/array"].shape == (3,)
    root.create_group("another")
    assert "another" in seen()
    root.require_array("required", shape=2)
    root.require_group("required group")
    assert {"required", "required group"} <= set(seen())
    root["assigned"] = [1, 2]
    assert seen()["assigned"].shape == (2,)
    root["assigned"] = [1, 2, 3]
    assert seen()["assigned"][:].tolist() == [1, 2, 3]
    del root["depth"]
    assert "depth" not in seen()
    root.attrs["title"] = "air"
    assert seen().attrs["title"] == "air"
    assert seen().metadata.consolidated is not None
    root["surface"].attrs["level"] = 5  # from below
    assert seen()["surface"].attrs["level"] == 0
    assert zarrcy.open_group(store)["surface"].attrs["level"] == 5
    zarrcy.consolidate_metadata(store)
    assert seen()["surface"].attrs["level"] == 5


@FORMATS
def test_a_group_below_can_be_consolidated(zarr_format: int) -> None:
    store = MemoryStore()
    hierarchy(store, zarr_format)
    assert sorted(zarrcy.consolidate_metadata(store, "surface").metadata.consolidated) == ["heat", "heat/flux"]
    assert zarrcy.open_group(store, mode="r").metadata.consolidated is None
    zarrcy.consolidate_metadata(store)
    assert zarrcy.open_group(store, mode="r")["surface/heat/flux"].shape == (3,)
    with pytest.raises(zarrcy.NodeNotFoundError):
        zarrcy.consolidate_metadata(store, "depth")
    with pytest.raises(zarrcy.NodeNotFoundError):
        zarrcy.consolidate_metadata(store, "nothing")


@FORMATS
def test_attributes_of_a_consolidated_group_are_kept_by_every_way_to_change_it(zarr_format: int) -> None:
    store = MemoryStore()
    hierarchy(store, zarr_format)
    zarrcy.consolidate_metadata(store)
    zarrcy.open_group(store).attrs["more"] = 1
    group = zarrcy.consolidate_metadata(store)
    assert dict(group.attrs) == {"title": "ocean", "more": 1}
    assert len(group.metadata.consolidated) == 5


@FORMATS
def test_concurrent_changes_of_a_consolidated_group_are_all_in_it(tmp_path: Path, zarr_format: int) -> None:
    for store in (MemoryStore(), FilesystemStore(tmp_path / "a")):
        hierarchy(store, zarr_format)
        zarrcy.consolidate_metadata(store)

        def change(number: int, store: Any = store) -> None:
            group = zarrcy.open_group(store)
            for i in range(4):
                group.attrs[f"{number}-{i}"] = i
                group.create_group(f"new {number}-{i}")

        threads = [threading.Thread(target=change, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        names = {f"{number}-{i}" for number in range(4) for i in range(4)}
        for mode in ("r", "r+"):
            group = zarrcy.open_group(store, mode=mode)
            assert set(group.attrs) == {"title", *names}
            assert set(group) == {"depth", "empty", "surface", *(f"new {name}" for name in names)}


@FORMATS
def test_a_consolidated_group_can_be_pickled(tmp_path: Path, zarr_format: int) -> None:
    hierarchy(tmp_path / "a", zarr_format)
    group = zarrcy.consolidate_metadata(tmp_path / "a")
    again = pickle.loads(pickle.dumps(group))
    assert [name for name, _ in again.members(None)] == [name for name, _ in group.members(None)]
    assert again.read_only
    assert again["depth"][1].tolist() == group["depth"][1].tolist()


# ---- refusals and looks


@FORMATS
def test_a_read_only_group_refuses_every_change(zarr_format: int) -> None:
    store = MemoryStore()
    hierarchy(store, zarr_format)
    before = {key: store.get(key) for key in store.list_prefix()}
    group = zarrcy.open_group(store, mode="r")
    for call in (
        lambda: group.create_array("x", shape=1),
        lambda: group.create_group("x"),
        lambda: group.require_group("x"),
        lambda: group.require_array("x", shape=1),
        lambda: group.__setitem__("x", [1]),
        lambda: group.__delitem__("depth"),
        lambda: group.attrs.__setitem__("x", 1),
        lambda: group["surface"].attrs.__setitem__("x", 1),
        lambda: group["depth"].__setitem__(0, 1),
        lambda: group["surface"].create_group("x"),
    ):
        with pytest.raises(zarrcy.ReadOnlyError):
            call()
    assert {key: store.get(key) for key in store.list_prefix()} == before


def test_options_of_a_group_go_to_the_arrays_below() -> None:
    store = MemoryStore()
    hierarchy(store)
    group = zarrcy.open_group(store, missing="raise", write_empty_chunks=True)
    with pytest.raises(zarrcy.MissingChunkError):
        group["surface"]["heat/flux"][...]
    made = group.create_array("made", shape=2)
    with pytest.raises(zarrcy.MissingChunkError):
        made[...]
    made[...] = 0
    assert made.nchunks_initialized == 1
    assert zarrcy.open_group(MemoryStore(), mode="a", missing="raise").create_array("a", shape=1).metadata.shape == (1,)


def test_a_tree_shows_the_hierarchy() -> None:
    root = hierarchy(MemoryStore())
    text = str(root.tree())
    for part in ("depth (4, 6) int16", "surface/", "heat/", "flux (3,) float32", "empty/"):
        assert part in text
    assert "heat" not in str(root.tree(max_depth=1))
    assert str(zarrcy.tree(root.store, "surface")) == str(root["surface"].tree())
    assert str(zarrcy.tree(root)) == text
    with pytest.raises(zarrcy.NodeNotFoundError):
        zarrcy.tree(root.store, "depth")


def test_what_a_group_is_shows() -> None:
    root = hierarchy(MemoryStore())
    assert "Group" in repr(root["surface"]) and "/surface" in repr(root["surface"])
    for part in ("/", "memory://", "3"):
        assert part in str(root.info)
    assert root == zarrcy.open_group(root.store)
    assert root != root["surface"]
    assert hash(root) == hash(zarrcy.open_group(root.store))
