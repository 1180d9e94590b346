"""Opening: what it costs, and that what is remembered of documents is never old and never shared."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrcy
from zarrcy import metadata_v2
from zarrcy.codecs.codec import Codec
from zarrcy.metadata import GroupMetadata, from_json
from zarrcy.remembered import MAX_DOCUMENTS, MAX_NBYTES, Remembered, bytes_of
from zarrcy.stores.memory import MemoryStore

FORMATS = pytest.mark.parametrize("zarr_format", [2, 3])

OPTIONS: dict[str, Any] = {"shape": (1000, 1000), "chunks": (100, 100), "dtype": "float32"}


def function_calls(call: Callable[[], object]) -> int:
    """How many functions written in Python run in a call: the least of three, for others may have left work behind."""
    return min(function_calls_of_one(call) for _ in range(3))


def function_calls_of_one(call: Callable[[], object]) -> int:
    n_calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal n_calls
        n_calls += event == "call"

    gc.disable()  # what others left to be collected is not ours
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        call()
    finally:
        sys.setprofile(before)
        gc.enable()
    return n_calls


# ---- what it costs


@pytest.mark.parametrize(("zarr_format", "most"), [(3, 9), (2, 12)])
def test_opening_an_array_again_takes_few_function_calls(tmp_path: Path, zarr_format: int, most: int) -> None:
    """Each costs about 0.1 µs and more; the first opening, which checks the document, has hundreds."""
    path = str(tmp_path / "a")
    zarrcy.create_array(path, zarr_format=zarr_format, attributes={"unit": "K"}, **OPTIONS)
    zarrcy.open_array(path, mode="r")
    assert function_calls(lambda: zarrcy.open_array(path, mode="r")) <= most


@pytest.mark.parametrize(("zarr_format", "most"), [(3, 12), (2, 20)])
def test_opening_a_group_again_takes_few_function_calls(tmp_path: Path, zarr_format: int, most: int) -> None:
    path = str(tmp_path / "g")
    zarrcy.create_group(path, zarr_format=zarr_format)
    zarrcy.open_group(path, mode="r")
    assert function_calls(lambda: zarrcy.open_group(path, mode="r")) <= most


@pytest.mark.parametrize(("zarr_format", "most"), [(3, 28), (2, 29)])
def test_a_member_like_one_that_was_opened_takes_few_function_calls(
    tmp_path: Path, zarr_format: int, most: int
) -> None:
    group = zarrcy.create_group(str(tmp_path / "g"), zarr_format=zarr_format)
    group.create_array("a", **OPTIONS)
    group.create_array("b", **OPTIONS)
    assert group["a"].metadata == group["b"].metadata
    assert function_calls(lambda: group["b"]) <= most


@pytest.mark.parametrize(("zarr_format", "most"), [(3, 72), (2, 98)])
def test_a_member_of_a_consolidated_group_takes_few_function_calls(tmp_path: Path, zarr_format: int, most: int) -> None:
    path = str(tmp_path / "g")
    group = zarrcy.create_group(path, zarr_format=zarr_format)
    for i in range(10):
        group.create_array(f"member{i}", **OPTIONS)
    zarrcy.consolidate_metadata(path)
    zarrcy.open_group(path, mode="r")["member3"]
    assert function_calls(lambda: zarrcy.open_group(path, mode="r")["member3"]) <= most


@FORMATS
def test_arrays_of_equal_documents_share_their_bound_codecs(tmp_path: Path, zarr_format: int) -> None:
    group = zarrcy.create_group(str(tmp_path / "g"), zarr_format=zarr_format)
    for name in "ab":
        group.create_array(name, **OPTIONS)
    first, second = group["a"], group["b"]
    assert first._transfer.pipeline is second._transfer.pipeline
    assert first._transfer is not second._transfer


@pytest.mark.parametrize(("zarr_format", "most"), [(3, 75), (2, 85)])
def test_an_array_that_differs_in_its_attributes_alone_takes_few_function_calls(
    tmp_path: Path, zarr_format: int, most: int
) -> None:
    group = zarrcy.create_group(str(tmp_path / "g"), zarr_format=zarr_format)
    for i, name in enumerate("abc"):
        group.create_array(name, attributes={"number": i}, **OPTIONS)
    assert dict(group["b"].attrs) == {"number": 1}  # json is loaded now
    assert function_calls(lambda: group["a"]) <= most
    assert [dict(group[name].attrs)["number"] for name in "cabcab"] == [2, 0, 1, 2, 0, 1]
    assert group["a"]._transfer.pipeline is group["c"]._transfer.pipeline


# ---- never old


@FORMATS
def test_a_document_that_was_rewritten_is_opened_as_it_is(tmp_path: Path, zarr_format: int) -> None:
    path = str(tmp_path / "a")
    zarrcy.create_array(path, shape=(10,), chunks=(5,), dtype="int16", zarr_format=zarr_format)
    for n in (10, 20, 10, 30):
        zarrcy.open_array(path, mode="r+").resize(n)
        assert zarrcy.open_array(path, mode="r").shape == (n,)


@FORMATS
def test_what_another_process_wrote_is_opened_as_it_is(tmp_path: Path, zarr_format: int) -> None:
    path = str(tmp_path / "a")
    zarrcy.create_array(path, shape=(10,), chunks=(5,), dtype="int16", zarr_format=zarr_format)
    kept = zarrcy.open_array(path, mode="r")
    assert dict(kept.attrs) == {}  # those of v2 are read now
    code = f"import zarrcy; a = zarrcy.open_array({path!r}, mode='r+'); a.resize(7); a.attrs['unit'] = 'K'"
    subprocess.run([sys.executable, "-c", code], check=True)
    found = zarrcy.open_array(path, mode="r")
    assert (found.shape, dict(found.attrs)) == ((7,), {"unit": "K"})
    assert (kept.shape, dict(kept.attrs)) == ((10,), {})
    kept.refresh()
    assert kept.shape == (7,)


@FORMATS
def test_attributes_alone_make_another_document(tmp_path: Path, zarr_format: int) -> None:
    path = str(tmp_path / "a")
    zarrcy.create_array(path, shape=(10,), chunks=(5,), zarr_format=zarr_format)
    for value in (1, True, 1.0, "1", None):
        zarrcy.open_array(path).attrs["value"] = value
        found = zarrcy.open_array(path, mode="r").attrs["value"]
        assert found == value
        assert type(found) is type(value)


def test_one_text_is_different_things_under_different_names() -> None:
    store = MemoryStore()
    for name in ("group/.zgroup", "bad/.zarray"):
        store.set(name, b'{"zarr_format": 2}')
    assert isinstance(metadata_v2.read_node(store, "group"), GroupMetadata)
    with pytest.raises(zarrcy.MetadataError, match=r"bad/\.zarray: shape"):
        metadata_v2.read_node(store, "bad")


def test_a_bad_document_is_refused_each_time_with_its_own_key() -> None:
    store = MemoryStore()
    for name in ("a", "b"):
        store.set(f"{name}/zarr.json", b'{"zarr_format": 3, "node_type": "graph"}')
    for name in ("a", "b", "a"):
        with pytest.raises(zarrcy.MetadataError, match=f"{name}/zarr.json: node_type"):
            zarrcy.open(store, name)


# ---- never shared

NESTED = {"list": [1, {"deep": [2]}], "text": "K", "nan": float("inf")}


@FORMATS
@pytest.mark.parametrize("is_consolidated", [False, True])
def test_attributes_of_equal_documents_are_independent(tmp_path: Path, zarr_format: int, is_consolidated: bool) -> None:
    path = str(tmp_path / "g")
    group = zarrcy.create_group(path, zarr_format=zarr_format, attributes=NESTED)
    for name in "ab":
        group.create_array(name, shape=4, attributes=NESTED)
    if is_consolidated:
        zarrcy.consolidate_metadata(path)
    for _ in range(3):
        opened = zarrcy.open_group(path, mode="r")
        for node in (opened, opened["a"], opened["b"], zarrcy.open_array(path, "b")):
            assert dict(node.attrs) == NESTED
            node.attrs["list"][1]["deep"].append(3)
            node.metadata.attributes["more"] = 1


def test_fields_that_zarrcy_does_not_know_are_independent() -> None:
    store = MemoryStore()
    document = {"zarr_format": 3, "node_type": "group", "extra": {"must_understand": False, "list": []}}
    store.set("zarr.json", json.dumps(document).encode())
    for _ in range(3):
        found = zarrcy.open_group(store).metadata
        assert found.extra_fields == {"extra": {"must_understand": False, "list": []}}
        found.extra_fields["extra"]["list"].append(1)


def test_members_of_a_consolidated_group_are_independent(tmp_path: Path) -> None:
    path = str(tmp_path / "g")
    zarrcy.create_group(path).create_array("a", shape=4)
    zarrcy.consolidate_metadata(path)
    for _ in range(3):
        found = zarrcy.open_group(path, mode="r").metadata.consolidated
        assert list(found) == ["a"]
        found.documents["a"]["shape"][0] = 5
        found.documents["b"] = found.documents["a"]


@FORMATS
def test_empty_chunks_are_kept_by_the_array_that_was_opened_so(tmp_path: Path, zarr_format: int) -> None:
    path = str(tmp_path / "a")
    zarrcy.create_array(path, shape=4, chunks=2, dtype="int16", zarr_format=zarr_format)
    for keeps_empty, n_chunks in ((False, 0), (True, 1), (False, 1)):
        opened = zarrcy.open_array(path, mode="r+", write_empty_chunks=keeps_empty)
        start = 0 if keeps_empty else 2
        opened[start : start + 2] = np.zeros(2, "int16")
        assert opened.nchunks_initialized == n_chunks


class Counting(Codec):
    """A codec that keeps a state, against its contract."""

    name = "example.counting"
    n_encoded = 0

    def encode(self, data: memoryview) -> bytes:
        self.n_encoded += 1
        return bytes(data)

    def decode(self, data: memoryview, max_nbytes: int) -> bytes:
        return bytes(data)


def test_codecs_in_python_are_not_shared() -> None:
    zarrcy.codecs.registry.register("example.counting", Counting)
    store = MemoryStore()
    zarrcy.create_array(store, shape=4, dtype="uint8", codecs=["bytes", "example.counting"])
    first, second = zarrcy.open_array(store), zarrcy.open_array(store)
    first[...] = 1
    assert (first.codecs[-1].n_encoded, second.codecs[-1].n_encoded) == (1, 0)


def test_a_twin_has_a_field_that_another_thread_reads_while_it_is_made() -> None:
    for n_objects in range(1, 40):
        assert twin_made_while_it_is_read(n_objects).attributes == {"unit": "K"}


def twin_made_while_it_is_read(n_objects: int) -> GroupMetadata:
    """A twin of a node whose attributes are read once so many objects were made: by the garbage collector, for another
    thread may run where it does."""
    node = GroupMetadata({}).later(attributes=lambda: {"unit": "K"})

    class Reader:
        def __del__(self) -> None:
            assert node.attributes

    before = gc.get_threshold()
    gc.collect()
    gc.disable()
    reader = Reader()
    reader.itself = reader  # type: ignore[attr-defined]
    del reader
    gc.set_threshold(n_objects)
    gc.enable()
    try:
        return node.later()
    finally:
        gc.set_threshold(*before)


# ---- bounds

GROUP = b'{"zarr_format": 3, "node_type": "group", "attributes": {"n": %d}}'


def test_few_and_small_documents_are_remembered() -> None:
    remembered = Remembered()
    for n in range(3 * MAX_DOCUMENTS):
        document = GROUP % n
        remembered.keep((document,), from_json(document))
        assert remembered.find((document,)).attributes == {"n": n}
    assert len(remembered) == MAX_DOCUMENTS
    assert remembered.find((GROUP % 0,)) is None
    large = b" " * MAX_NBYTES + GROUP % 1
    remembered.keep((large,), from_json(large))
    assert remembered.find((large,)) is None


@pytest.mark.parametrize("kind", [bytearray, memoryview, lambda value: memoryview(bytearray(value))])
def test_documents_in_memory_that_may_change_are_not_remembered(kind: Callable[[bytes], Any]) -> None:
    remembered = Remembered()
    document = kind(GROUP % 1)
    remembered.keep((document,), from_json(document))
    assert len(remembered) == 0
    assert remembered.find((document,)) is None


def test_attributes_that_nest_deeply_open_again() -> None:
    store = MemoryStore()
    nested = "[" * 600 + "]" * 600
    store.set("zarr.json", b'{"zarr_format": 3, "node_type": "group", "attributes": {"a": %s}}' % nested.encode())
    assert zarrcy.open_group(store).attrs == zarrcy.open_group(store).attrs


def test_values_that_are_equal_in_python_alone_have_other_bytes() -> None:
    values = [1, 1.0, True, 0, 0.0, -0.0, False, None, "1", [1], [True], {"a": 1}, {"a": True}, {"a": 1.0}, [], {}]
    assert len({bytes_of(value) for value in values}) == len(values)
    text = '{"shape": [1, 1], "name": "a", "again": {"name": "a", "shape": [1, 1]}}'
    literal = {"shape": [1, 1], "name": "a", "again": {"name": "a", "shape": [1, 1]}}
    assert bytes_of(json.loads(text)) == bytes_of(literal)  # whichever of the texts are one object


def test_threads_open_many_documents_at_once() -> None:
    store = MemoryStore()
    n_groups = 2 * MAX_DOCUMENTS
    for n in range(n_groups):
        store.set(f"g{n}/zarr.json", GROUP % n)
    failures: list[BaseException] = []

    def open_all(start: int) -> None:
        try:
            for i in range(3 * n_groups):
                n = (start + i) % n_groups
                assert dict(zarrcy.open_group(store, f"g{n}").attrs) == {"n": n}
        except BaseException as error:
            failures.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=open_all, args=(17 * i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not failures
