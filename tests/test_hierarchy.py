"""How nodes are opened and made: the table of modes, what overwrite=True may replace, and calls that fail."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hierarchy_cases import KINDS, Place, nothing_written, refused

import zarrcy
from zarrcy import Array, Group, MetadataError, NodeExistsError, NodeNotFoundError, ReadOnlyError, StoreError
from zarrcy.stores.filesystem import FilesystemStore
from zarrcy.stores.memory import MemoryStore
from zarrcy.stores.readonly import ReadOnlyStore
from zarrcy.stores.zip import ZipStore

MODES = [None, "r", "r+", "a", "w", "w-"]
WHATS = ["nothing", "array", "group", "foreign", "broken"]
FOREIGN = {"notes.txt": b"mine", "photos/a.jpg": b"\xff\xd8"}


@pytest.fixture(params=KINDS)
def place(request: Any, tmp_path: Path) -> Place:
    return Place(request.param, tmp_path)


def put(place: Place, what: str, zarr_format: int) -> None:
    if what == "array":
        array = zarrcy.create_array(place.target, shape=(4,), chunks=2, dtype="int8", zarr_format=zarr_format)
        array[:] = [1, 2, 3, 4]
        place.finish(array)
    elif what == "group":
        group = zarrcy.create_group(place.target, zarr_format=zarr_format, attributes={"kept": True})
        group.create_array("inner", shape=(2,), dtype="int8")[:] = 1
        place.finish(group)
    elif what == "foreign":
        place.fill(FOREIGN)
    elif what == "broken":
        place.fill({"zarr.json" if zarr_format == 3 else ".zarray": b'{"zarr_format": '})


def expected(wanted: type, what: str, mode: str | None) -> Any:
    """The error, "opened" or "made": the table of modes."""
    other = "group" if wanted is Array else "array"
    if mode == "w":
        return NodeExistsError if what == "foreign" else "made"
    if mode == "w-":
        return "made" if what == "nothing" else NodeExistsError
    if mode == "a" and what in ("nothing", "foreign"):
        return "made" if what == "nothing" else NodeExistsError
    if what in ("nothing", "foreign", other):
        return NodeNotFoundError
    return MetadataError if what == "broken" else "opened"


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("what", WHATS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wanted", [Array, Group])
def test_the_table_of_modes(place: Place, wanted: type, mode: str | None, what: str, zarr_format: int) -> None:
    put(place, what, zarr_format)
    call = zarrcy.open_array if wanted is Array else zarrcy.open_group
    making = {"zarr_format": zarr_format} if mode in ("a", "w", "w-") else {}
    if wanted is Array and making:
        making |= {"shape": (3,), "dtype": "int16"}
    outcome = expected(wanted, what, mode)
    if isinstance(outcome, type):
        with refused(place, outcome):
            call(place.target, mode=mode, **making)
        return
    before = place.contents()
    node = call(place.target, mode=mode, **making)
    assert type(node) is wanted
    assert node.metadata.zarr_format == zarr_format
    finished = place.kind == "archive" and mode is None
    assert node.read_only == (mode == "r" or finished)
    place.finish(node)
    if outcome == "opened":
        assert place.contents() == before
        return
    assert not np.any(node[...]) if wanted is Array else list(node) == []
    assert set(place.contents()) == (
        {"zarr.json"} if zarr_format == 3 else {".zarray" if wanted is Array else ".zgroup"}
    )


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("what", WHATS)
@pytest.mark.parametrize("mode", MODES)
def test_open_takes_arrays_and_groups_and_never_makes_one(
    place: Place, mode: str | None, what: str, zarr_format: int
) -> None:
    put(place, what, zarr_format)
    errors = {"nothing": NodeNotFoundError, "foreign": NodeNotFoundError, "broken": MetadataError}
    error = ValueError if mode in ("w", "w-") else errors.get(what)
    if error is not None:
        with refused(place, error):
            zarrcy.open(place.target, mode=mode)
        return
    with nothing_written(place):
        node = zarrcy.open(place.target, mode=mode)
        assert type(node) is (Array if what == "array" else Group)
        assert node.read_only == (mode == "r" or (place.kind == "archive" and mode is None))
        place.finish(node)


@pytest.mark.parametrize("call", [zarrcy.open, zarrcy.open_array, zarrcy.open_group])
def test_an_unknown_mode_is_a_value_error(place: Place, call: Any) -> None:
    with refused(place, ValueError, "mode: expected one of"):
        call(place.target, mode="rw")


def test_without_a_mode_what_can_be_written_is_opened_for_writing(tmp_path: Path) -> None:
    zarrcy.create_array(tmp_path / "a", shape=2)
    zarrcy.open(tmp_path / "a")[:] = 5
    assert zarrcy.open(tmp_path / "a", mode="r")[:].tolist() == [5, 5]
    store = ReadOnlyStore(FilesystemStore(tmp_path / "a"))
    with pytest.raises(ReadOnlyError):
        zarrcy.open(store)[:] = 6


def test_without_a_mode_a_finished_archive_is_read_with_its_consolidated_metadata(tmp_path: Path) -> None:
    group = zarrcy.create_group(tmp_path / "a.zip")
    group.create_array("x", shape=2)
    zarrcy.consolidate_metadata(group.store)
    group.store.close()
    found = zarrcy.open(tmp_path / "a.zip")
    assert found.read_only and found.metadata.consolidated is not None
    with pytest.raises(ReadOnlyError):
        found.create_group("y")
    with pytest.raises(ReadOnlyError):
        found["x"][0] = 1


def test_one_format_can_be_asked_for(place: Place) -> None:
    put(place, "group", 2)
    with refused(place, NodeNotFoundError):
        zarrcy.open(place.target, mode="r", zarr_format=3)
    assert zarrcy.open(place.target, mode="r", zarr_format=2).metadata.zarr_format == 2
    with pytest.raises(ValueError, match="zarr_format"):
        zarrcy.open(place.target, mode="r", zarr_format=4)


def test_where_both_formats_are_v3_is_opened() -> None:
    store = MemoryStore()
    zarrcy.create_group(store, zarr_format=2)
    old = dict(store._data)
    zarrcy.create_group(store, overwrite=True, zarr_format=3)
    for key, value in old.items():
        store.set(key, value)
    assert zarrcy.open(store).metadata.zarr_format == 3
    assert zarrcy.open(store, zarr_format=2).metadata.zarr_format == 2


def test_missing_is_kept_by_groups_that_are_opened_and_made() -> None:
    for mode in ("a", "w", "w-", "r", "r+"):
        store = MemoryStore()
        if mode.startswith("r"):
            zarrcy.create_array(store, "x", shape=2)
        group = zarrcy.open_group(store, mode=mode, missing="raise")
        group.read_only or group.require_array("x", shape=2)
        with pytest.raises(zarrcy.MissingChunkError):
            group["x"][:]


# ---- what overwrite may replace


@pytest.mark.parametrize("path", ["", "a/b"])
@pytest.mark.parametrize("make", [zarrcy.create_array, zarrcy.create_group])
def test_a_node_is_replaced_only_where_that_was_asked_for(place: Place, make: Any, path: str) -> None:
    options = {"shape": 2} if make is zarrcy.create_array else {}
    group = zarrcy.create_group(place.target, path)
    group.create_array("deep/er", shape=(4,), chunks=2)[:] = 1
    place.finish(group)
    with refused(place, NodeExistsError, "there is an array or group already"):
        make(place.target, path, **options)
    node = place.finish(make(place.target, path, overwrite=True, **options))
    prefix = f"{path}/" if path else ""
    assert [key for key in place.contents() if key.startswith(prefix)] == [f"{prefix}zarr.json"]
    assert zarrcy.open(place.target, path, mode="r").metadata == node.metadata


@pytest.mark.parametrize(("old", "new"), list(itertools.product([2, 3], [2, 3])))
def test_a_node_of_one_format_is_replaced_by_one_of_the_other(place: Place, old: int, new: int) -> None:
    put(place, "array", old)
    with refused(place, NodeExistsError):
        zarrcy.create_group(place.target, zarr_format=new)
    place.finish(zarrcy.create_group(place.target, zarr_format=new, overwrite=True))
    assert set(place.contents()) == {"zarr.json" if new == 3 else ".zgroup"}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("path", ["", "photos"])
def test_files_of_others_are_never_replaced(place: Place, path: str, overwrite: bool) -> None:
    place.fill(FOREIGN)
    with refused(place, NodeExistsError, "holds no node"):
        zarrcy.create_array(place.target, path, shape=2, overwrite=overwrite)
    with refused(place, NodeExistsError, "holds no node"):
        zarrcy.create_group(place.target, path, overwrite=overwrite)


def test_a_node_beside_files_of_others_leaves_them(place: Place) -> None:
    place.fill({"photos/a.jpg": b"x"})
    place.finish(zarrcy.create_array(place.target, "data/a", shape=2))
    assert set(place.contents()) == {"photos/a.jpg", "zarr.json", "data/zarr.json", "data/a/zarr.json"}


def test_a_neighbour_with_the_same_beginning_survives_overwriting(place: Place) -> None:
    group = zarrcy.create_group(place.target)
    for name in ("a", "ab", "a.b"):
        group.create_array(name, shape=2)[:] = 7
    group.create_array("a", shape=2, overwrite=True)
    assert group["a"][:].tolist() == [0, 0]
    assert group["ab"][:].tolist() == group["a.b"][:].tolist() == [7, 7]


# ---- calls that fail

BAD_ARRAYS: list[tuple[dict[str, Any], type[Exception]]] = [
    ({}, TypeError),
    ({"shape": (-1,)}, MetadataError),
    ({"shape": (4,), "chunks": (0,)}, MetadataError),
    ({"shape": (4,), "chunks": (2, 2)}, MetadataError),
    ({"shape": (4,), "chunks": "big"}, MetadataError),
    ({"shape": (4,), "chunks": 1.5}, MetadataError),
    ({"shape": (4,), "chunks": (2,), "shards": (3,)}, MetadataError),
    ({"shape": (4,), "shards": (4,), "zarr_format": 2}, MetadataError),
    ({"shape": (4,), "dtype": "object"}, zarrcy.UnknownExtensionError),
    ({"shape": (4,), "dtype": [("a", "i4")]}, zarrcy.UnknownExtensionError),
    ({"shape": (4,), "dtype": "no such type"}, zarrcy.UnknownExtensionError),
    ({"shape": (4,), "compressor": "no such codec"}, zarrcy.UnknownExtensionError),
    ({"shape": (4,), "compressor": {"name": "zstd", "configuration": {"level": "high"}}}, MetadataError),
    ({"shape": (4,), "compressor": 5}, MetadataError),
    ({"shape": (4,), "compressor": ["zstd", object()]}, MetadataError),
    ({"shape": (4,), "filters": ["no such codec"]}, zarrcy.UnknownExtensionError),
    ({"shape": (4,), "codecs": [{"name": "zstd"}]}, MetadataError),
    ({"shape": (4,), "codecs": [{"name": "no such codec"}]}, zarrcy.UnknownExtensionError),
    ({"shape": (4,), "codecs": "zstd"}, MetadataError),
    ({"shape": (4,), "codecs": [{"name": "bytes"}], "compressor": "zstd"}, TypeError),
    ({"shape": (4,), "codecs": [{"name": "bytes"}], "compressor": None}, TypeError),
    ({"shape": (4,), "codecs": [{"name": "bytes"}], "filters": ["delta"]}, TypeError),
    ({"shape": (4,), "codecs": [{"name": "bytes"}], "shards": (4,)}, TypeError),
    ({"shape": (4,), "codecs": [{"name": "bytes"}], "order": "F"}, TypeError),
    ({"shape": (4,), "order": "K"}, MetadataError),
    ({"shape": (4,), "zarr_format": 1}, MetadataError),
    ({"shape": (4,), "fill_value": "seven"}, ValueError),
    ({"shape": (4,), "dtype": "uint8", "fill_value": 300}, ValueError),
    ({"shape": (4,), "dimension_names": ["x", "y"]}, MetadataError),
    ({"shape": (4,), "dimension_names": ["x"], "zarr_format": 2}, MetadataError),
    ({"shape": (4,), "attributes": {"a": object()}}, MetadataError),
    ({"shape": (4,), "attributes": {1: "a"}}, MetadataError),
    ({"shape": (4,), "missing": "ignore"}, ValueError),
    ({"shape": (4,), "no_such_option": 1}, TypeError),
]


@pytest.mark.parametrize(("options", "error"), BAD_ARRAYS)
def test_an_array_that_cannot_be_leaves_everything_as_it_is(
    place: Place, options: dict[str, Any], error: type[Exception]
) -> None:
    with refused(place, error):  # where nothing is, nothing is made: no directory, no archive
        zarrcy.create_array(place.target, "a/b", **options)
    group = zarrcy.create_group(place.target)
    group.create_array("a", shape=(4,), chunks=2)[:] = 5
    place.finish(group)
    for path in ("a", ""):
        with refused(place, error):
            zarrcy.create_array(place.target, path, overwrite=True, **options)
        with refused(place, error):
            zarrcy.open_array(place.target, path, mode="w", **options)


@pytest.mark.parametrize(
    ("options", "error"),
    [({"zarr_format": 4}, MetadataError), ({"attributes": {"a": {1, 2}}}, MetadataError), ({"shape": 3}, TypeError)],
)
def test_a_group_that_cannot_be_leaves_everything_as_it_is(place: Place, options: Any, error: Any) -> None:
    with refused(place, error):
        zarrcy.create_group(place.target, **options)
    put(place, "group", 3)
    with refused(place, error):
        zarrcy.create_group(place.target, overwrite=True, **options)


BAD_PATHS = ["a//b", "..", "a/../b", ".", "__x", "a/__x/b", "a\nb", "a\x00b", "a\\b", "\x7f", "a/./b"]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_paths_that_no_store_can_hold_are_refused(place: Place, path: str) -> None:
    with refused(place, ValueError):
        zarrcy.create_array(place.target, path, shape=2)
    with refused(place, ValueError):
        zarrcy.create_group(place.target, path)
    with refused(place, ValueError):
        zarrcy.open(place.target, path, mode="a")


def test_a_path_that_is_no_text_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="path: expected text, got int"):
        zarrcy.create_group({}, 5)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", [None, 0, b"", [], False])
def test_nothing_is_no_text_either_wherever_the_store_lies(tmp_path: Path, path: Any) -> None:
    zarrcy.create_array(tmp_path / "a", shape=2)
    for target in (tmp_path / "a", str(tmp_path / "a"), f"file://{tmp_path}/a"):
        with pytest.raises(TypeError, match=f"path: expected text, got {type(path).__name__}"):
            zarrcy.open(target, path)


def test_slashes_around_a_path_mean_nothing() -> None:
    store = MemoryStore()
    zarrcy.create_array(store, "/a/b/", shape=2)
    assert set(store._data) == {"zarr.json", "a/zarr.json", "a/b/zarr.json"}
    assert zarrcy.open(store, "a/b/").path == "a/b"


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_nothing_is_made_below_an_array(place: Place, zarr_format: int, overwrite: bool) -> None:
    group = zarrcy.create_group(place.target, zarr_format=zarr_format)
    group.create_array("a", shape=2)[:] = 3
    place.finish(group)
    for path in ("a/b", "a/b/c"):
        with refused(place, NodeExistsError, "above the new node"):
            zarrcy.create_array(place.target, path, shape=2, overwrite=overwrite)
        with refused(place, NodeExistsError, "above the new node"):
            zarrcy.create_group(place.target, path, overwrite=overwrite)


def test_a_broken_group_above_is_an_error(place: Place) -> None:
    place.fill({"a/zarr.json": b"{"})
    with refused(place, MetadataError):
        zarrcy.create_array(place.target, "a/b", shape=2)


def test_a_file_in_the_way_of_a_directory_is_an_error(tmp_path: Path) -> None:
    place = Place("directory", tmp_path)
    place.fill({"a": b"a file"})
    with refused(place, (StoreError, NodeExistsError)):
        zarrcy.create_array(place.target, "a/b", shape=2)
    with refused(place, (StoreError, NodeExistsError)):
        zarrcy.create_array(place.target, "a", shape=2, overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_is_made_in_a_store_for_reading(overwrite: bool) -> None:
    store = MemoryStore()
    zarrcy.create_array(store, "a", shape=2)[:] = 1
    before = dict(store._data)
    for path in ("", "a", "b"):
        with pytest.raises(ReadOnlyError):
            zarrcy.create_array(ReadOnlyStore(store), path, shape=2, overwrite=overwrite)
        with pytest.raises(ReadOnlyError):
            zarrcy.create_group(ReadOnlyStore(store), path, overwrite=overwrite)
    assert store._data == before


# ---- parents


class Journal(MemoryStore):
    """Notes the keys in the order in which they are written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []

    def set(self, key: str, value: Any) -> None:
        self.written.append(key)
        super().set(key, value)

    def set_if(self, key: str, value: Any, version: Any) -> Any:
        self.written.append(key)
        return super().set_if(key, value, version)


@pytest.mark.parametrize(("zarr_format", "name"), [(2, ".zgroup"), (3, "zarr.json")])
def test_missing_parents_are_made_root_first(zarr_format: int, name: str) -> None:
    store = Journal()
    zarrcy.create_array(store, "a/b/c", shape=2, zarr_format=zarr_format)
    array = "zarr.json" if zarr_format == 3 else ".zarray"
    assert store.written == [name, f"a/{name}", f"a/b/{name}", f"a/b/c/{array}"]


def test_parents_that_are_there_are_left_alone() -> None:
    store = Journal()
    zarrcy.create_group(store, "a", zarr_format=2, attributes={"title": "old"})
    store.written.clear()
    zarrcy.create_array(store, "a/b/c", shape=2)
    assert store.written == ["a/b/zarr.json", "a/b/c/zarr.json"]
    assert zarrcy.open(store, "a").attrs["title"] == "old"


def test_one_of_many_makers_of_a_node_wins() -> None:
    class Late(MemoryStore):
        """Another writer makes the node after this one has looked."""

        def set_if(self, key: str, value: Any, version: Any) -> Any:
            MemoryStore.set(self, key, b"of another writer")
            return super().set_if(key, value, version)

    store = Late()
    with pytest.raises(NodeExistsError, match="another writer"):
        zarrcy.create_array(store, shape=2)
    assert store.get("zarr.json") == b"of another writer"


# ---- paths of the file system


@pytest.mark.parametrize("name", ["no/such/place", "no/such/place.zip"])
def test_a_missing_directory_above_the_store_is_an_error_before_anything_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="no/such"):
        zarrcy.create_array(tmp_path / name, "a", shape=2)
    with pytest.raises(StoreError, match="no/such"):
        zarrcy.create_group(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["place", "place.zip"])
def test_a_file_above_the_store_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(StoreError):
        zarrcy.create_array(tmp_path / "file" / name, shape=2)
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_a_file_in_the_place_of_the_store_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    for overwrite in (False, True):
        with pytest.raises(StoreError):
            zarrcy.create_array(tmp_path / "file", shape=2, overwrite=overwrite)
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_a_directory_that_cannot_be_written_to_is_an_error(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        # Nothing is forbidden to root, but /proc holds no files of ours.
        with pytest.raises(StoreError):
            zarrcy.create_array("/proc/zarrcy-test", shape=2)
        return
    (tmp_path / "shut").mkdir(mode=0o500)
    with pytest.raises(zarrcy.PermissionDeniedError):
        zarrcy.create_array(tmp_path / "shut" / "a", shape=2)


@pytest.mark.parametrize("name", ["a", "a.zip"])
def test_a_relative_path_is_made_absolute_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    array = zarrcy.create_array(name, shape=2, chunks=1)
    monkeypatch.chdir(tmp_path / "elsewhere")
    array[:] = 4
    array.store.close()
    assert zarrcy.open(tmp_path / name, mode="r")[:].tolist() == [4, 4]
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert array.store.url.endswith(str(tmp_path / name))


def test_a_node_in_a_store_can_be_named_in_every_way(tmp_path: Path) -> None:
    path = tmp_path / "a b ü"
    made = zarrcy.create_array(path, "x", shape=2, dtype="int8")
    made[:] = [1, 2]
    for target in (str(path), path, FilesystemStore(path), made.store.url, path / "x"):
        name = "" if target == path / "x" else "x"
        assert zarrcy.open(target, name, mode="r")[:].tolist() == [1, 2]
    assert zarrcy.open(storage="filesystem", path=path / "x")[:].tolist() == [1, 2]
    with pytest.raises(TypeError, match="got both"):
        zarrcy.open(path, storage="filesystem")
    with pytest.raises(TypeError, match="storage="):
        zarrcy.open(durable=True)


def test_a_finished_archive_can_be_added_to(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    zarrcy.create_group(path).store.close()
    zarrcy.open_array(path, "x", mode="a", shape=2).store.close()
    zarrcy.open_group(path, "y", mode="a").store.close()
    zarrcy.create_array(path, "z/deep", shape=2).store.close()
    assert list(zarrcy.open(path)) == ["x", "y", "z"]


def test_a_call_that_fails_does_not_keep_the_archive_locked(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    zarrcy.create_array(path, "x", shape=2).store.close()
    kept = []  # an exception holds the frames of the call, and with them its store
    for call in (
        lambda: zarrcy.create_array(path, "x", shape=2),
        lambda: zarrcy.create_group(path, "x/y"),
        lambda: zarrcy.open(path, "nothing", mode="a"),
        lambda: zarrcy.open_group(path, "x", mode="a"),
        lambda: zarrcy.open_group(path, "x", mode="r+"),
    ):
        with pytest.raises(zarrcy.NodeError) as caught:
            call()
        kept.append(caught)
    assert zarrcy.create_array(path, "y", shape=2).path == "y"


def test_an_archive_is_not_touched_by_opening_it(tmp_path: Path) -> None:
    place = Place("archive", tmp_path)
    put(place, "group", 3)
    before = place.path.read_bytes()
    for mode in (None, "r", "r+", "a"):
        zarrcy.open(place.path, mode=mode).store.close()
        with pytest.raises(NodeNotFoundError):
            zarrcy.open(place.path, "nothing", mode=mode)
    assert place.path.read_bytes() == before
    assert isinstance(zarrcy.open(place.path, mode="r").store, ZipStore)
