"""Chunks that stick out of the array, written as far as the array goes: not read first, and nothing beyond is lost."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import zarrcy
from zarrcy import metadata_v2
from zarrcy.chunk_grid import RegularGrid
from zarrcy.errors import ZarrcyError
from zarrcy.stores.filesystem import FilesystemStore

SHAPE, CHUNKS, LONGER = (70, 1000), (32, 300), (90, 1100)
KINDS: dict[str, dict[str, Any]] = {
    "v2": {"zarr_format": 2},
    "v3": {},
    "sharded": {"shards": (64, 600)},
    "raw": {"compressor": None},
}
KIND = pytest.mark.parametrize("kind", KINDS)
V2: dict[str, Any] = {"shape": SHAPE, "chunks": CHUNKS, "dtype": "f8", "compressor": None}
N_RACES = 12


def make(path: Path, kind: str) -> zarrcy.Array:
    array = zarrcy.create_array(FilesystemStore(path), "a", shape=SHAPE, chunks=CHUNKS, dtype="f8", **KINDS[kind])
    array[...] = 1
    return array


def take_to_other_format(array: zarrcy.Array) -> None:
    """Give the chunks of an array a document of the other format, as ``zarr migrate`` does, and leave the old one."""
    metadata = array.metadata
    metadata_v2.write_node(array.store, "a", metadata.replace(zarr_format=5 - metadata.zarr_format))


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[Path]]]:
    """Arrays whose documents are old enough to be trusted: the clock of a file system cannot be made to jump."""
    root = tmp_path_factory.mktemp("settled")
    paths = {kind: [root / f"{kind}{i}" for i in range(5 + N_RACES)] for kind in KINDS}
    for kind, of_kind in paths.items():
        for path in of_kind:
            make(path, kind)
    paths["both formats"] = [root / "from2", root / "from3"]
    for path in paths["both formats"]:
        array = zarrcy.create_array(FilesystemStore(path), "a", **V2, zarr_format=2)
    take_to_other_format(array)
    (path / "a" / ".zarray").unlink()
    paths["links"] = [root / f"links{i}" for i in range(N_RACES)]
    for path in paths["links"]:
        for name, shape in (("short", SHAPE), ("long", LONGER)):
            zarrcy.create_array(FilesystemStore(path), name, **{**V2, "shape": shape})[...] = 7
    time.sleep(2.1)
    yield paths


def opened(path: Path) -> zarrcy.Array:
    array = zarrcy.open(FilesystemStore(path), "a")
    assert isinstance(array, zarrcy.Array)
    return array


def chunk_at_the_edge(array: zarrcy.Array, path: Path) -> Path:
    return path / array.chunk_key(tuple((n - 1) // size for n, size in zip(SHAPE, array.shards or CHUNKS, strict=True)))


def damage(path: Path) -> None:
    path.write_bytes(bytes(byte ^ 0xFF for byte in path.read_bytes()))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "raw"])
def test_a_stored_chunk_at_the_edge_is_not_read_where_nobody_made_the_array_longer(
    kind: str, settled: dict[str, list[Path]], tmp_path: Path
) -> None:
    path = settled[kind][0]
    damage(chunk_at_the_edge(array := opened(path), path))
    array[...] = 2
    assert (array[...] == 2).all()
    # And where that is not known, it is, or this would show nothing.
    new = make(tmp_path / "new", kind)
    damage(chunk_at_the_edge(new, tmp_path / "new"))
    with pytest.raises(ZarrcyError):
        new[...] = 2


@KIND
def test_what_another_one_wrote_beyond_the_edge_is_kept(kind: str, settled: dict[str, list[Path]]) -> None:
    path = settled[kind][1]
    array, other = opened(path), opened(path)
    array[...] = 2
    other.resize(LONGER)
    other[SHAPE[0] :] = 7
    other[:, SHAPE[1] :] = 7
    for value in (3, 4):
        array[...] = value
        found = other[...]
        assert (found[: SHAPE[0], : SHAPE[1]] == value).all()
        found[: SHAPE[0], : SHAPE[1]] = 7
        assert (found == 7).all()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "sharded"])
def test_another_array_that_was_made_in_the_place_of_one_is_not_written_over(
    kind: str, settled: dict[str, list[Path]]
) -> None:
    now = opened(settled[kind][4])
    before = zarrcy.Array(now.store, "a", now.metadata.replace(chunk_grid=RegularGrid((100, 1100))))
    with pytest.raises(ZarrcyError):
        before[...] = 2
    assert (now[...] == 1).all()


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_what_one_wrote_who_knows_the_array_by_its_other_format_is_kept(
    zarr_format: int, settled: dict[str, list[Path]]
) -> None:
    array = opened(settled["both formats"][zarr_format - 2])
    assert array.metadata.zarr_format == zarr_format
    array[...] = 2
    take_to_other_format(array)
    other = zarrcy.open(array.store, "a", zarr_format=5 - zarr_format)
    assert (other[...] == 2).all()
    other.resize(LONGER)
    other[SHAPE[0] :] = 7
    other[:, SHAPE[1] :] = 7
    array[...] = 7
    assert (other[...] == 7).all()


@KIND
def test_a_change_of_the_attributes_alone_loses_nothing(kind: str, settled: dict[str, list[Path]]) -> None:
    path = settled[kind][2]
    array, other = opened(path), opened(path)
    array[...] = 2
    other.attrs["title"] = "new"
    array[...] = 3
    assert (other[...] == 3).all()


@KIND
def test_an_array_that_was_shortened_and_made_longer_again_has_the_fill_value_there(
    kind: str, settled: dict[str, list[Path]]
) -> None:
    path = settled[kind][3]
    array, other = opened(path), opened(path)
    array[...] = 2
    other.resize((40, 400))
    other.resize(SHAPE)
    assert (other[40:] == 0).all() and (other[:40, 400:] == 0).all()
    array[...] = 3
    assert (other[...] == 3).all()


@KIND
def test_a_writer_that_goes_on_while_the_array_is_made_longer_loses_nothing(
    kind: str, settled: dict[str, list[Path]]
) -> None:
    for path in settled[kind][5:]:
        array, other = opened(path), opened(path)
        array[...] = 1
        written, is_over = threading.Event(), threading.Event()

        def write(array: zarrcy.Array = array, written: Any = written, is_over: Any = is_over) -> None:
            for i in itertools.count(2):
                array[...] = i
                written.set()
                if is_over.is_set():
                    return

        thread = threading.Thread(target=write)
        thread.start()
        try:
            assert written.wait(60)
            other.resize(LONGER)
            other[SHAPE[0] :] = 7
            other[:, SHAPE[1] :] = 7
        finally:
            is_over.set()
            thread.join()
        array[...] = 7
        assert (other[...] == 7).all(), path.name


def test_a_writer_that_goes_on_while_a_link_is_pointed_elsewhere_keeps_what_is_beyond_the_edge_there(
    settled: dict[str, list[Path]],
) -> None:
    """What is read, and what the document says, is of the directory that is written to."""
    for path in settled["links"]:
        (path / "a").symlink_to("short")
        array = opened(path)
        is_over = threading.Event()

        def write(array: zarrcy.Array = array, is_over: Any = is_over) -> None:
            while not is_over.is_set():
                array[...] = 3

        threads = [threading.Thread(target=write) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for name in ("long", "short") * 12:
                (path / "b").symlink_to(name)
                (path / "b").replace(path / "a")
                time.sleep(0.001)
        finally:
            is_over.set()
            for thread in threads:
                thread.join()
        found = zarrcy.open(FilesystemStore(path), "long")[...]
        assert (found[SHAPE[0] :] == 7).all() and (found[:, SHAPE[1] :] == 7).all(), path.name
