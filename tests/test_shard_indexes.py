"""A thread keeps the indexes of shards that it has read, and notices when a shard was replaced."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import array_cases as cases
import numpy as np
import pytest

import zarrcy
from zarrcy.stores.filesystem import FilesystemStore

N, INNER = 4096, 16
INDEX_NBYTES = 16 * (N // INNER) + 4
CODECS = [
    cases.named(
        "sharding_indexed",
        chunk_shape=[INNER],
        codecs=[cases.named("bytes", endian="little")],
        index_codecs=[cases.named("bytes", endian="little"), cases.named("crc32c")],
    )
]


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[zarrcy.Array]]:
    """Arrays of one shard each, old enough for their index to be kept: a file system's clock cannot be made to jump."""
    arrays = []
    for i in range(4):
        store = FilesystemStore(tmp_path_factory.mktemp("settled") / str(i))
        arrays.append(zarrcy.create_array(store, shape=(N,), chunks=(N,), dtype="i4", codecs=CODECS))
        arrays[-1][...] = np.arange(N)
    time.sleep(2.1)
    yield arrays


def file_of(array: zarrcy.Array) -> Path:
    return Path(array.store.url.removeprefix("file://")) / array.chunk_key((0,))


def n_read() -> int:
    """How many bytes this thread has read from files."""
    counts = dict(line.split(": ") for line in Path("/proc/thread-self/io").read_text().splitlines())
    return int(counts["rchar"])


def read_cost(array: zarrcy.Array, i: int) -> int:
    overhead = -(n_read() - n_read())
    before = n_read()
    assert array[i] == i
    return n_read() - before - overhead


def test_the_index_of_a_settled_shard_is_read_once(settled: list[zarrcy.Array]) -> None:
    assert read_cost(settled[0], 5) >= INDEX_NBYTES
    assert read_cost(settled[0], 1000) < INDEX_NBYTES


def test_another_array_over_the_same_shard_reads_its_own_index(settled: list[zarrcy.Array]) -> None:
    array = settled[1]
    assert array[7] == 7
    again = zarrcy.open(array.store, mode="r")
    assert read_cost(again, 7) >= INDEX_NBYTES


def test_a_shard_that_was_replaced_by_one_of_the_same_length_and_time_is_noticed(settled: list[zarrcy.Array]) -> None:
    array, path = settled[2], file_of(settled[2])
    assert array[100] == 100
    times = path.stat()
    shard = bytearray(path.read_bytes())
    array[...] = np.arange(N)[::-1]
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert array[100] == N - 101
    path.write_bytes(shard)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert array[100] == 100


def test_an_index_that_was_damaged_in_place_is_noticed(settled: list[zarrcy.Array]) -> None:
    array, path = settled[3], file_of(settled[3])
    assert array[100] == 100
    times = path.stat()
    with path.open("r+b") as file:
        file.seek(-INDEX_NBYTES, os.SEEK_END)
        file.write(b"\x01")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(zarrcy.ChecksumError):
        array[100]


def test_shards_that_are_replaced_all_the_time_are_never_read_by_an_old_index(tmp_path: Path) -> None:
    array = zarrcy.create_array(FilesystemStore(tmp_path), shape=(N,), chunks=(N,), dtype="i4", codecs=CODECS)
    for turn in range(1, 500):
        # Each time other inner chunks are there, as many as before: the shard's length stays.
        first = turn % 8 * INNER
        items = np.zeros(N, "i4")
        items[first :: 8 * INNER] = turn
        array[...] = items
        assert array[first] == array[first + 8 * INNER] == turn
        assert array[(first + INNER) % N] == 0
