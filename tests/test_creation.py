"""How arrays and groups are made and opened: modes, what may be replaced, what a failing call leaves, shortcuts."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest

import zarrcy
from zarrcy.codecs import registry
from zarrcy.codecs.zstd import Zstd
from zarrcy.stores.filesystem import FilesystemStore
from zarrcy.stores.memory import MemoryStore
from zarrcy.stores.readonly import ReadOnlyStore


def content(store: Any) -> dict[str, bytes]:
    return {key: bytes(store.get(key)) for key in store.list_prefix()}


def place_with(what: str, path: str, zarr_format: int = 3) -> MemoryStore:
    """A store that has that at a path, and beside it something that nothing may touch."""
    store = MemoryStore()
    if path:
        store.set("other/notes.txt", b"mine")
    if what == "array":
        zarrcy.create_array(store, path, shape=4, chunks=2, dtype="int8", zarr_format=zarr_format)[...] = 7
    elif what == "group":
        zarrcy.create_group(store, path, zarr_format=zarr_format).create_array("below", shape=2)[...] = 7
    elif what == "foreign":
        store.set(f"{path}/readme.txt" if path else "readme.txt", b"not Zarr")
    return store


# ---- the modes

ARRAY_OPTIONS = {"shape": 6, "dtype": "int16"}
CALLS: dict[str, Callable[..., Any]] = {
    "open": zarrcy.open,
    "open_array": zarrcy.open_array,
    "open_group": zarrcy.open_group,
}
MODES = (None, "r", "r+", "a", "w", "w-")
PLACES = ("nothing", "array", "group", "foreign")


def expected_of(call: str, mode: str | None, what: str) -> str:
    """ "old": what is there is opened. "new": a node is made. Else the name of the error."""
    if call == "open":
        if mode in ("w", "w-"):
            return "ValueError"
        return "old" if what in ("array", "group") else "NodeNotFoundError"
    wanted = call.removeprefix("open_")
    if mode == "w":
        return "NodeExistsError" if what == "foreign" else "new"
    if mode == "w-":
        return "new" if what == "nothing" else "NodeExistsError"
    if what == wanted:
        return "old"
    if mode == "a":
        return {"nothing": "new", "foreign": "NodeExistsError"}.get(what, "NodeNotFoundError")
    return "NodeNotFoundError"


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("path", ["a", "deep/er/a"])
@pytest.mark.parametrize(("call", "mode", "what"), list(itertools.product(CALLS, MODES, PLACES)))
def test_a_mode_does_what_it_says(call: str, mode: str | None, what: str, path: str, zarr_format: int) -> None:
    store = place_with(what, path, zarr_format)
    before = content(store)
    options: dict[str, Any] = {}
    if call != "open" and mode in ("a", "w", "w-"):
        options = {
            "zarr_format": zarr_format,
            **(ARRAY_OPTIONS if call == "open_array" else {"attributes": {"new": True}}),
        }
    expected = expected_of(call, mode, what)
    if expected not in ("old", "new"):
        with pytest.raises(getattr(zarrcy, expected, ValueError)):
            CALLS[call](store, path, mode=mode, **options)
        assert content(store) == before
        return
    node = CALLS[call](store, path, mode=mode, **options)
    assert node.path == path
    assert node.metadata.zarr_format == zarr_format
    assert node.read_only == (mode == "r")
    assert store.get("other/notes.txt") == b"mine"
    if expected == "old":
        assert content(store) == before
        assert isinstance(node, zarrcy.Array if what == "array" else zarrcy.Group)
        if what == "array":
            assert node[:].tolist() == [7] * 4
        else:
            assert node["below"][:].tolist() == [7] * 2
    elif call == "open_array":
        assert (node.shape, node.dtype, node[:].tolist()) == ((6,), np.int16, [0] * 6)
    else:
        assert (node.attrs["new"], list(node)) == (True, [])


def test_the_default_mode_writes_where_the_store_can_be_written() -> None:
    store = place_with("array", "")
    assert not zarrcy.open(store).read_only
    only = ReadOnlyStore(store)
    assert zarrcy.open(only).read_only
    assert zarrcy.open(only, mode="r").read_only
    for mode in ("r+", "a"):
        with pytest.raises(zarrcy.ReadOnlyError):
            zarrcy.open(only, mode=mode)


def test_an_unknown_mode_is_an_error() -> None:
    for call in CALLS.values():
        with pytest.raises(ValueError, match="mode"):
            call("memory://", mode="rw")


def test_opening_makes_nothing(tmp_path: Path) -> None:
    for mode in (None, "r", "r+", "a"):
        for target in (tmp_path / "a", tmp_path / "no/such", f"file://{tmp_path}/a", tmp_path / "a.zip"):
            with pytest.raises((zarrcy.NodeNotFoundError, zarrcy.StoreError)):
                zarrcy.open(target, mode=mode)
    assert [name for name in os.listdir(tmp_path) if name != "a.zip"] == []


def test_open_finds_the_format_by_itself_and_v3_before_v2() -> None:
    store = MemoryStore()
    zarrcy.create_array(store, "two", shape=1, zarr_format=2)
    zarrcy.create_array(store, "three", shape=1, zarr_format=3)
    assert zarrcy.open(store, "two").metadata.zarr_format == 2
    assert zarrcy.open(store, "three").metadata.zarr_format == 3
    store.set("two/zarr.json", store.get("three/zarr.json"))
    assert zarrcy.open(store, "two").metadata.zarr_format == 3
    assert zarrcy.open(store, "two", zarr_format=2).metadata.zarr_format == 2
    with pytest.raises(zarrcy.NodeNotFoundError):
        zarrcy.open(store, "three", zarr_format=2)
    with pytest.raises(ValueError, match="zarr_format"):
        zarrcy.open(store, "three", zarr_format=4)


# ---- what may be replaced, and what a failing call leaves


@pytest.mark.parametrize("path", ["", "a", "deep/er/a"])
@pytest.mark.parametrize("old_format", [2, 3])
@pytest.mark.parametrize("new_format", [2, 3])
@pytest.mark.parametrize("what", ["array", "group"])
def test_overwrite_replaces_a_node_with_all_below_it_and_nothing_else(
    path: str, old_format: int, new_format: int, what: str
) -> None:
    for make in ("array", "group"):
        store = place_with(what, path, old_format)
        if make == "array":
            zarrcy.create_array(store, path, shape=3, overwrite=True, zarr_format=new_format)
        else:
            zarrcy.create_group(store, path, overwrite=True, zarr_format=new_format)
        node = zarrcy.open(store, path)
        assert isinstance(node, zarrcy.Array if make == "array" else zarrcy.Group)
        assert node.metadata.zarr_format == new_format
        prefix = f"{path}/" if path else ""
        mine = {key for key in content(store) if key.startswith(prefix)}
        assert mine <= {prefix + name for name in ("zarr.json", ".zarray", ".zgroup", ".zattrs")}
        assert not path or store.get("other/notes.txt") == b"mine"


def failing_calls() -> dict[str, Callable[[Any], Any]]:
    """Calls that cannot work, over a node that `overwrite` would replace."""

    def create(**options: Any) -> Callable[[Any], Any]:
        return lambda store: zarrcy.create_array(store, "a", **{"shape": 4, **options}, overwrite=True)

    filters = [{"id": "no such codec"}]
    bytes_codec = {"name": "bytes", "configuration": {"endian": "little"}}
    return {
        "a negative shape": create(shape=-1),
        "a shape of fractions": create(shape=(1.5,)),
        "a shape of text": create(shape="12"),
        "an unknown data type": create(dtype="float8"),
        "a structured data type": create(dtype=[("x", "i4")]),
        "an object data type": create(dtype=object),
        "chunks of another rank": create(chunks=(2, 2)),
        "chunks of nothing": create(chunks=0),
        "shards that chunks do not divide": create(chunks=3, shards=4),
        "shards in v2": create(shards=4, chunks=2, zarr_format=2),
        "an unknown compressor": create(compressor="no such codec"),
        "a compressor that is none": create(compressor=17),
        "a wrong setting of a codec": create(compressor={"name": "gzip", "configuration": {"level": 99}}),
        "an unknown filter": create(filters=filters, zarr_format=2),
        "codecs beside a compressor": create(codecs=[bytes_codec], compressor="zstd"),
        "codecs without bytes": create(codecs=[{"name": "gzip", "configuration": {"level": 1}}]),
        "codecs that v2 does not have": create(
            codecs=[{"name": "transpose", "configuration": {"order": [0]}}, bytes_codec, bytes_codec], zarr_format=2
        ),
        "a transposition of another rank": create(
            codecs=[{"name": "transpose", "configuration": {"order": [1, 0]}}, bytes_codec]
        ),
        "codecs without a byte order": create(codecs=[{"name": "bytes"}]),
        "a fill value of another kind": create(dtype="int8", fill_value="x"),
        "a fill value out of range": create(dtype="int8", fill_value=300),
        "another order": create(order="K"),
        "another format": create(zarr_format=4),
        "names for other axes": create(dimension_names=["x", "y"]),
        "names of axes in v2": create(dimension_names=["x"], zarr_format=2),
        "attributes that JSON cannot hold": create(attributes={"x": object()}),
        "attributes that JSON cannot hold, in v2": create(attributes={"x": {1, 2}}, zarr_format=2),
        "another separator": create(dimension_separator="-"),
        "an unknown word for missing": create(missing="ignore"),
        "an option that nothing has": create(colour="red"),
        "a chunk that blosc cannot hold": create(shape=2**33, chunks=2**33, dtype="u1", compressor="blosc"),
        "a group's attributes": lambda store: zarrcy.create_group(
            store, "a", attributes={"x": object()}, overwrite=True
        ),
        "a group's attributes in v2": lambda store: zarrcy.create_group(
            store, "a", attributes={"x": b""}, zarr_format=2, overwrite=True
        ),
        "a group of another format": lambda store: zarrcy.create_group(store, "a", zarr_format=1, overwrite=True),
        "a path out of the store": lambda store: zarrcy.create_array(store, "a/../../b", shape=1, overwrite=True),
        "a name that Zarr keeps for itself": lambda store: zarrcy.create_array(store, "a/__b", shape=1, overwrite=True),
        "a place below an array": lambda store: zarrcy.create_array(store, "x/array/below/it", shape=1, overwrite=True),
        "foreign files": lambda store: zarrcy.create_array(store, "other", shape=1, overwrite=True),
        "a group over foreign files": lambda store: zarrcy.create_group(store, "other", overwrite=True),
        "no overwrite": lambda store: zarrcy.create_array(store, "a", shape=1),
        "no overwrite of a group": lambda store: zarrcy.create_group(store, "a"),
        "foreign files at the root": lambda store: zarrcy.create_array(store, shape=1),
        "foreign files at the root, with overwrite": lambda store: zarrcy.open_array(store, mode="w", shape=1),
        "a read-only store": lambda store: zarrcy.create_array(ReadOnlyStore(store), "a", shape=1, overwrite=True),
        "a group in a read-only store": lambda store: zarrcy.create_group(ReadOnlyStore(store), "new"),
        "saving over it": lambda store: zarrcy.save(store, np.arange(3), path="a"),
        "a copy over itself": lambda store: zarrcy.copy(zarrcy.open(store, "a"), store, "a", overwrite=True),
        "a copy over what holds it": lambda store: zarrcy.copy(
            zarrcy.open(store, "x/array"), store, "x", overwrite=True
        ),
    }


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", failing_calls())
@pytest.mark.parametrize("kind", ["memory", "filesystem"])
def test_a_call_that_fails_deletes_and_writes_nothing(tmp_path: Path, name: str, zarr_format: int, kind: str) -> None:
    store: Any = MemoryStore() if kind == "memory" else FilesystemStore(tmp_path / "s")
    for key, value in content(place_with("array", "a", zarr_format)).items():
        if key not in ("zarr.json", ".zgroup"):
            store.set(key, value)
    zarrcy.create_array(store, "x/array", shape=2, zarr_format=zarr_format)[...] = 1
    for key in ("zarr.json", ".zgroup"):
        store.delete(key)
    before = content(store)
    with pytest.raises((zarrcy.ZarrcyError, TypeError, ValueError)) as caught:
        failing_calls()[name](store)
    assert content(store) == before
    assert str(caught.value)
    if kind == "filesystem":
        assert not [file for _, _, files in os.walk(tmp_path) for file in files if "partial" in file]


def test_missing_groups_above_are_made_root_first() -> None:
    class Recording(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.keys: list[str] = []

        def set(self, key: str, value: Any) -> None:
            self.keys.append(key)
            super().set(key, value)

        def set_if(self, key: str, value: Any, version: Any) -> Any:
            self.keys.append(key)
            return super().set_if(key, value, version)

    for zarr_format, name in ((3, "zarr.json"), (2, ".zgroup")):
        store = Recording()
        zarrcy.create_array(store, "a/b/c", shape=1, zarr_format=zarr_format)
        last = "a/b/c/" + ("zarr.json" if zarr_format == 3 else ".zarray")
        assert store.keys == [name, f"a/{name}", f"a/b/{name}", last]
        for path in ("", "a", "a/b"):
            assert isinstance(zarrcy.open(store, path), zarrcy.Group)
        assert zarrcy.open(store).metadata.zarr_format == zarr_format


def test_an_array_above_is_an_error() -> None:
    store = MemoryStore()
    zarrcy.create_array(store, "a", shape=1)
    for path in ("a/b", "a/b/c"):
        with pytest.raises(zarrcy.NodeExistsError):
            zarrcy.create_array(store, path, shape=1)
        with pytest.raises(FileExistsError):
            zarrcy.create_group(store, path, overwrite=True)


def test_of_many_threads_that_make_one_node_one_wins() -> None:
    for _ in range(10):
        store = MemoryStore()
        results: list[Any] = []

        def make(number: int, store: Any = store, results: Any = results) -> None:
            try:
                results.append(zarrcy.create_array(store, "deep/a", shape=number + 1))
            except zarrcy.NodeExistsError as error:
                results.append(error)

        threads = [threading.Thread(target=make, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        made = [result for result in results if isinstance(result, zarrcy.Array)]
        assert len(results) == 8
        assert len(made) == 1
        assert zarrcy.open(store, "deep/a").shape == made[0].shape


# ---- where


def test_create_takes_a_store_a_path_a_url_a_dict_or_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values: dict[str, bytes] = {}
    store = FilesystemStore(tmp_path / "store")
    made = [
        zarrcy.create_array(store, shape=2),
        zarrcy.create_array(tmp_path / "path", shape=2),
        zarrcy.create_array("relative", shape=2),
        zarrcy.create_array(f"file://{tmp_path}/url", shape=2),
        zarrcy.create_array(values, shape=2),
        zarrcy.create_array("memory://creation-test", shape=2),
        zarrcy.create(shape=2, storage="filesystem", path=str(tmp_path / "named")),
        zarrcy.create(shape=2, path=tmp_path / "only-path"),
        zarrcy.create(shape=2, path=tmp_path / "archive.zip"),
        zarrcy.create(shape=2, storage="zip", path=str(tmp_path / "named.zip")),
        zarrcy.create(shape=2, storage="memory"),
        zarrcy.create(shape=2),
        zarrcy.create_array(None, shape=2),
    ]
    for array in made:
        array[1] = 5
        assert array[:].tolist() == [0, 5]
        assert array.path == ""
    os.chdir("/")
    made[2][0] = 1
    assert zarrcy.open(tmp_path / "relative")[0] == 1
    assert set(values) == {"zarr.json", "c/0"}
    assert zarrcy.open(values)[1] == zarrcy.open("memory://creation-test")[1] == 5
    for name in ("archive.zip", "named.zip"):
        made[8 if name == "archive.zip" else 9].store.close()
        assert zarrcy.open(tmp_path / name)[1] == 5
    assert zarrcy.open(storage="filesystem", path=str(tmp_path / "named"))[1] == 5


def test_a_store_and_the_name_of_one_together_are_an_error() -> None:
    for options in ({"storage": "memory"}, {"colour": 1}):
        with pytest.raises(TypeError):
            zarrcy.create_array(MemoryStore(), shape=1, **options)
    with pytest.raises(TypeError):
        zarrcy.create(shape=1, colour="red")
    with pytest.raises(zarrcy.UnknownExtensionError):
        zarrcy.create(shape=1, storage="no such store")
    with pytest.raises(zarrcy.UnknownExtensionError):
        zarrcy.create_array("no-such-scheme://x", shape=1)
    with pytest.raises(TypeError):
        zarrcy.create_array(3, shape=1)


def test_a_missing_directory_above_is_an_error_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(zarrcy.StoreError) as caught:
        zarrcy.create_array(tmp_path / "no/such", shape=1)
    assert str(tmp_path / "no") in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_is_not_made_for_what_cannot_be(tmp_path: Path) -> None:
    for options in (
        {"dtype": object},
        {"chunks": (2, 2)},
        {"compressor": "no such"},
        {"attributes": {"x": object()}},
        {"shape": -1},
    ):
        with pytest.raises(zarrcy.ZarrcyError):
            zarrcy.create_array(tmp_path / "a", **{"shape": 4, **options})
    assert list(tmp_path.iterdir()) == []


# ---- what

COMPRESSORS = [
    *("blosc", "crc32c", "gzip", "zstd", "numcodecs.blosc", "numcodecs.crc32c", "numcodecs.gzip", "numcodecs.lz4"),
    *("numcodecs.zlib", "numcodecs.zstd", "bz2", "lzma", "zlib", "lz4"),
]


@pytest.mark.parametrize(
    "compressor",
    [
        "zstd",
        Zstd(level=3),
        {"name": "zstd", "configuration": {"level": 3, "checksum": True}},
        {"id": "zstd", "level": 3},
        numcodecs.Zstd(level=3),
    ],
)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_compressor_is_a_name_a_codec_a_document_or_one_of_numcodecs(compressor: Any, zarr_format: int) -> None:
    array = zarrcy.array(np.arange(1000), compressor=compressor, zarr_format=zarr_format)
    assert array.codecs[-1].name == "zstd"
    again = zarrcy.open(array.store)
    assert [codec.configuration() for codec in again.codecs] == [codec.configuration() for codec in array.codecs]
    assert (again[:] == np.arange(1000)).all()
    assert array.nbytes_stored < 4000


def test_no_compressor_is_no_compressor() -> None:
    array = zarrcy.array(np.arange(1000), compressor=None, chunks=1000)
    assert [codec.name for codec in array.codecs] == ["bytes"]
    assert bytes(array.store.get("c/0")) == np.arange(1000).tobytes()


@pytest.mark.parametrize("name", COMPRESSORS)
def test_every_codec_compresses_by_its_name(name: str) -> None:
    for zarr_format in (2, 3):
        array = zarrcy.array(np.arange(1000, dtype="f4"), compressor=name, zarr_format=zarr_format)
        assert (zarrcy.open(array.store)[:] == np.arange(1000)).all()


def test_several_compressors_run_one_after_the_other() -> None:
    for zarr_format in (2, 3):
        array = zarrcy.array(np.arange(1000), compressor=["zstd", "crc32c"], zarr_format=zarr_format)
        assert [codec.name.rpartition(".")[2] for codec in array.codecs][-2:] == ["zstd", "crc32c"]
        assert (zarrcy.open(array.store)[:] == np.arange(1000)).all()


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_filters_run_before_the_compressor(zarr_format: int) -> None:
    delta = numcodecs.Delta(dtype="<i8")
    for filters in (delta, [delta], {"id": "delta", "dtype": "<i8"}, [{"id": "delta", "dtype": "<i8"}]):
        array = zarrcy.array(np.arange(1000), filters=filters, compressor=None, zarr_format=zarr_format, chunks=1000)
        stored = np.frombuffer(array.store.get(array.chunk_key((0,))), "<i8")
        assert stored.tolist() == [0] + [1] * 999
        assert (zarrcy.open(array.store)[:] == np.arange(1000)).all()


@pytest.mark.parametrize(
    "options",
    [{"compressor": "zstd"}, {"compressor": None}, {"filters": [numcodecs.Delta("i8")]}, {"shards": 4}, {"order": "F"}],
)
def test_codecs_beside_what_they_say_already_are_a_type_error(options: Any) -> None:
    with pytest.raises(TypeError, match="codecs"):
        zarrcy.create(shape=4, codecs=[{"name": "bytes", "configuration": {"endian": "little"}}], **options)


def test_codecs_say_it_all() -> None:
    chain = [
        {"name": "transpose", "configuration": {"order": [1, 0]}},
        {"name": "bytes", "configuration": {"endian": "big"}},
        Zstd(level=1),
    ]
    array = zarrcy.create(shape=(2, 3), dtype="int16", codecs=chain)
    array[...] = [[1, 2, 3], [4, 5, 6]]
    assert (array.order, array.metadata.endian) == ("F", "big")
    raw = registry.get("zstd")(level=1).decode(array.store.get("c/0/0"), 12)
    assert np.frombuffer(raw, ">i2").tolist() == [1, 4, 2, 5, 3, 6]


def test_new_arrays_are_checksummed_and_zero_filled_by_default() -> None:
    for zarr_format in (2, 3):
        array = zarrcy.array(np.arange(1000), zarr_format=zarr_format)
        assert array.fill_value == 0
        key = array.chunk_key((0,))
        value = bytearray(array.store.get(key))
        value[len(value) // 2] ^= 1
        array.store.set(key, bytes(value))
        with pytest.raises(zarrcy.CodecError):
            array[:]


@pytest.mark.parametrize(
    ("dtype", "zero"),
    [("f8", 0.0), ("U3", ""), ("S3", b""), ("?", False), ("M8[s]", np.datetime64(0, "s")), ("V2", np.void(b"\0\0"))],
)
def test_the_fill_value_is_zero_unless_it_is_given(dtype: str, zero: Any) -> None:
    for zarr_format in (2, 3):
        array = zarrcy.create(shape=2, dtype=dtype, zarr_format=zarr_format)
        assert array.fill_value == zero
        assert array[0] == zero
    assert zarrcy.create(shape=2, dtype=dtype, zarr_format=2, fill_value=None).fill_value is None
    assert zarrcy.create(shape=2, dtype=dtype, fill_value=None).fill_value == zero


def test_the_separator_of_keys_is_chosen() -> None:
    expected = {(3, None): "c/1/2", (3, "."): "c.1.2", (2, None): "1.2", (2, "/"): "1/2"}
    for (zarr_format, separator), key in expected.items():
        array = zarrcy.create(shape=(2, 3), chunks=1, zarr_format=zarr_format, dimension_separator=separator)
        array[1, 2] = 1
        assert set(content(array.store)) - {"zarr.json", ".zarray"} == {key}


def test_order_byte_order_names_and_attributes_are_kept() -> None:
    array = zarrcy.create(
        shape=(2, 3),
        dtype=">f4",
        order="F",
        dimension_names=("y", None),
        attributes={"unit": "K", "n": [1, {"a": None}]},
    )
    again = zarrcy.open(array.store)
    assert (again.order, again.metadata.endian, again.dtype) == ("F", "big", np.dtype("f4"))
    assert again.dimension_names == ("y", None)
    assert dict(again.attrs) == {"unit": "K", "n": [1, {"a": None}]}


def test_chunks_are_chosen_when_they_are_not_given() -> None:
    assert zarrcy.create(shape=(10, 10)).chunks == (10, 10)
    big = zarrcy.create(shape=(10_000, 10_000), dtype="f4")
    nbytes = np.prod(big.chunks) * 4
    assert 2**19 < nbytes <= 2**20
    assert zarrcy.create(shape=(100, 50), chunks=(10, -1)).chunks == (10, 50)
    assert zarrcy.create(shape=(100, 50), chunks=7).chunks == (7, 7)
    assert zarrcy.create(shape=(100, 50), chunks=False).chunks == (100, 50)
    assert zarrcy.create(shape=(0, 50)).chunks[0] >= 1


def test_too_many_files_in_one_directory_give_a_warning_that_names_the_cure(tmp_path: Path) -> None:
    with pytest.warns(zarrcy.ChunkCountWarning, match="shards="):
        zarrcy.create_array(tmp_path / "a", shape=10**7, chunks=1)
    with pytest.warns(zarrcy.ChunkCountWarning, match="keys with '/'"):
        zarrcy.create_array(tmp_path / "b", shape=(2000, 2000), chunks=1, zarr_format=2)
    zarrcy.create_array(tmp_path / "c", shape=(2000, 2000), chunks=1)
    zarrcy.create_array(tmp_path / "d", shape=10**7, chunks=1, shards=100)
    zarrcy.create_array("memory://", shape=10**7, chunks=1)
    with pytest.raises(zarrcy.ChunkCountWarning):  # warnings are errors here: then nothing is made
        zarrcy.create_array(tmp_path / "e", shape=10**7, chunks=1)
    assert not (tmp_path / "e/zarr.json").exists()


# ---- the shortcuts


def test_arrays_of_values() -> None:
    assert zarrcy.array([[1, 2], [3, 4]])[1].tolist() == [3, 4]
    assert zarrcy.array(5)[()] == 5
    assert zarrcy.array([]).shape == (0,)
    assert zarrcy.array(["a", "bcd"])[:].tolist() == ["a", "bcd"]
    assert zarrcy.array([1, 2], dtype="f4").dtype == np.float32
    assert zarrcy.array(np.arange(6, dtype=">i2"))[:].tolist() == list(range(6))
    source = zarrcy.array(np.arange(10), chunks=3)
    assert zarrcy.array(source)[:].tolist() == list(range(10))
    store = MemoryStore()
    kept = zarrcy.array(np.arange(10), store, "a")
    assert zarrcy.array(kept, store, "a", overwrite=True)[:].tolist() == list(range(10))
    with pytest.raises(zarrcy.UnknownExtensionError):
        zarrcy.array([object()])


def test_constant_arrays_store_no_chunk() -> None:
    for array, value, dtype in [
        (zarrcy.zeros((3, 4)), 0, "f8"),
        (zarrcy.ones((3, 4), dtype="i2"), 1, "i2"),
        (zarrcy.full((3, 4), 7), 7, "i8"),
        (zarrcy.full((3, 4), 2.5, dtype="f4"), 2.5, "f4"),
        (zarrcy.empty((3, 4), dtype="u1"), 0, "u1"),
        (zarrcy.full((3, 4), np.nan), np.nan, "f8"),
    ]:
        assert array.dtype == np.dtype(dtype)
        assert array.nchunks_initialized == 0
        assert np.array_equal(array[:], np.full((3, 4), value), equal_nan=True)


@pytest.mark.parametrize(
    "options",
    [
        {"chunks": (2, 2)},
        {"chunks": (1, 2), "shards": (4, 4), "dtype": ">i4"},
        {"order": "F", "zarr_format": 2, "compressor": "lz4", "chunks": (3, 2)},
        {"zarr_format": 2, "filters": [{"id": "shuffle", "elementsize": 4}], "compressor": "zlib"},
        {"dimension_names": ("y", "x")},
    ],
)
def test_an_array_like_another_has_its_shape_and_encoding(options: Any) -> None:
    source = zarrcy.array(np.arange(12, dtype="i4").reshape(4, 3), **options)
    for make, value in (
        (zarrcy.zeros_like, 0),
        (zarrcy.ones_like, 1),
        (zarrcy.empty_like, 0),
        (lambda s, **o: zarrcy.full_like(s, 9, **o), 9),
    ):
        like = make(source)
        assert (like.shape, like.dtype, like.chunks, like.shards) == (
            source.shape,
            source.dtype,
            source.chunks,
            source.shards,
        )
        assert (like.codecs, like.metadata.zarr_format) == (source.codecs, source.metadata.zarr_format)
        assert like.dimension_names == source.dimension_names
        assert (like[:] == value).all()
        like[:] = source
        assert (like[:] == source[:]).all()
        other = make(source, dtype="f4", zarr_format=5 - source.metadata.zarr_format, dimension_names=None)
        assert (other.dtype, other.metadata.zarr_format, other.shape) == (
            np.float32,
            5 - source.metadata.zarr_format,
            source.shape,
        )
        assert (other[:] == value).all()
    assert zarrcy.zeros_like(np.ones((2, 3), "i2")).dtype == np.int16


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    items = {"a": np.arange(6).reshape(2, 3), "deep/b": np.array(["x", "yz"])}
    for target in (MemoryStore(), tmp_path / "dir", str(tmp_path / "archive.zip"), {}):
        zarrcy.save(target, **items)
        loaded = zarrcy.load(target)
        assert loaded["a"].tolist() == items["a"].tolist()
        assert loaded["deep"]["b"].tolist() == ["x", "yz"]
        with pytest.raises((zarrcy.NodeExistsError, zarrcy.ReadOnlyError)):
            zarrcy.save(target, items["a"])
    for target in (MemoryStore(), tmp_path / "one", tmp_path / "one.zip"):
        zarrcy.save(target, items["a"])
        assert zarrcy.load(target).tolist() == items["a"].tolist()
    store = MemoryStore()
    zarrcy.save(store, [1], [2, 3], path="some/where")
    assert {name: items.tolist() for name, items in zarrcy.load(store, "some/where").items()} == {
        "arr_0": [1],
        "arr_1": [2, 3],
    }
    with pytest.raises(TypeError):
        zarrcy.save(store)
    with pytest.raises(zarrcy.NodeNotFoundError):
        zarrcy.load(tmp_path / "nothing")
