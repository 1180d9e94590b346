"""What could break the compiled engine: lying shards and codecs, extreme shapes, foreign code amid a call."""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrcy
from zarrcy.codecs import Codec, registry
from zarrcy.codecs.zstd import Zstd
from zarrcy.errors import CodecError, MetadataError
from zarrcy.stores.memory import MemoryStore

RAW = [{"name": "bytes", "configuration": {"endian": "little"}}]
ZSTD = [*RAW, {"name": "zstd", "configuration": {"level": 1, "checksum": False}}]
ABSENT = struct.pack("<QQ", 2**64 - 1, 2**64 - 1)


class StopError(Exception):
    pass


def shards(inner: list[int], codecs: Any = RAW, index_codecs: Any = RAW) -> list[dict[str, Any]]:
    configuration = {"chunk_shape": inner, "codecs": codecs, "index_codecs": index_codecs}
    return [{"name": "sharding_indexed", "configuration": configuration}]


@pytest.fixture
def threads() -> Iterator[None]:
    before = zarrcy.get_threads()
    yield
    zarrcy.set_threads(before)


@pytest.mark.filterwarnings("ignore::zarrcy.errors.ChunkCountWarning")
@pytest.mark.parametrize("n", [2**40, 2**61])
def test_an_empty_selection_needs_no_tables_for_its_long_axes(n: int) -> None:
    a = zarrcy.create_array(shape=(n, 0, 4), chunks=(1, 1, 1), dtype="u1")
    assert a[:, :, 1].shape == (n, 0)
    assert a.oindex[:, :, [0, 1]].shape == (n, 0, 2)
    a[:, :, 2:] = 1


@pytest.mark.filterwarnings("ignore::zarrcy.errors.ChunkCountWarning")
def test_a_selection_with_more_chunks_than_memory_holds_is_a_memory_error() -> None:
    a = zarrcy.create_array(shape=2**61, chunks=1, dtype="u1")
    with pytest.raises(MemoryError):
        a[...] = np.broadcast_to(np.uint8(1), 2**61)


@pytest.mark.parametrize("codecs", [RAW, ZSTD], ids=["raw", "zstd"])
def test_overlapping_chunks_of_an_old_shard_do_not_overflow_the_new_one(tmp_path: Path, codecs: Any) -> None:
    n = 1 << 16
    a = zarrcy.create_array(tmp_path / "a", shape=10 * n, chunks=10 * n, dtype="u1", codecs=shards([n], codecs))
    bound = n if codecs is RAW else Zstd(1).max_encoded_nbytes(n) * 9 // 8 + 4096
    size = 300 * n
    # Nine chunks in one place. Copied one by one they leave no room for the tenth in what the writer can expect.
    length = (10 * bound + size - 100) // 9
    shard = bytes(size - 160) + struct.pack("<QQ", 0, length) * 9 + ABSENT
    (tmp_path / "a" / "c").mkdir()
    (tmp_path / "a" / "c" / "0").write_bytes(shard)
    with pytest.raises(CodecError, match="overlap"):
        a[9 * n :] = np.random.default_rng(3).integers(0, 256, n)
    assert (tmp_path / "a" / "c" / "0").read_bytes() == shard


@pytest.mark.skipif(int(np.__version__.split(".")[0]) < 2, reason="NumPy 1 has at most 32 axes")
def test_shards_of_64_axes_have_an_index_of_65() -> None:
    shape = (2, *[1] * 63)
    a = zarrcy.create_array(shape=shape, chunks=shape, dtype="u1", codecs=shards([1] * 64))
    a[...] = np.array([7, 8]).reshape(shape)
    a[1] = 9
    assert a[...].ravel().tolist() == [7, 9]


@pytest.mark.parametrize("n", [2**27, 2**28, 2**40])
def test_any_number_of_threads_may_be_asked_for(tmp_path: Path, threads: None, n: int) -> None:
    a = zarrcy.create_array(tmp_path / "a", shape=40, chunks=1, dtype="u1")
    zarrcy.set_threads(n)
    a[:] = 3
    assert a[:].sum() == 120


def test_the_index_of_a_shard_may_be_transposed(tmp_path: Path) -> None:
    index_codecs = [{"name": "transpose", "configuration": {"order": [2, 1, 0]}}, *RAW]
    codecs = shards([2, 3], index_codecs=index_codecs)
    a = zarrcy.create_array(tmp_path / "a", shape=(4, 9), chunks=(4, 9), dtype="u1", codecs=codecs)
    expected = np.arange(1, 37, dtype="u1").reshape(4, 9)
    a[:] = expected
    shard = (tmp_path / "a" / "c" / "0" / "0").read_bytes()
    index = np.frombuffer(shard[-96:], "<u8").reshape(2, 3, 2)
    # The offsets of the chunks in C order, then as the codec puts them: axes (pair, column, row).
    np.testing.assert_array_equal(index[0], np.arange(6).reshape(2, 3).T * 6)
    np.testing.assert_array_equal(index[1], np.full((3, 2), 6))
    a[0, 0] = expected[0, 0] = 100
    np.testing.assert_array_equal(a[:], expected)


class NegativeBound(Codec):
    name = "tests.negative_bound"

    def max_encoded_nbytes(self, nbytes: int) -> int:
        return -5000

    def encode(self, data: memoryview) -> bytes:
        return bytes(data)

    decode = encode  # type: ignore[assignment]


def test_a_codec_that_promises_a_negative_size_is_refused() -> None:
    registry.register("tests.negative_bound", NegativeBound)
    with pytest.raises(MetadataError, match="2\\*\\*61"):
        zarrcy.create_array(shape=10, chunks=10, codecs=[*RAW, {"name": "tests.negative_bound"}])


def test_decoding_into_less_than_nothing_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="at least 0, got -1"):
        Zstd(1).decode(b"", -1)


class Lookup(Codec):
    """A codec that reads an array of its own."""

    name = "tests.lookup"
    table: zarrcy.Array

    def encode(self, data: memoryview) -> bytes:
        return bytes(255 - np.frombuffer(data, np.uint8))

    def decode(self, data: memoryview, max_nbytes: int) -> bytes:
        self.table[:]
        return bytes(255 - np.frombuffer(data, np.uint8))


def test_a_codec_may_read_an_array_while_its_argument_lies_in_scratch(tmp_path: Path, threads: None) -> None:
    registry.register("tests.lookup", Lookup)
    crc32c = {"name": "crc32c"}
    gzip = {"name": "gzip", "configuration": {"level": 1}}
    noise = np.random.default_rng(5).integers(0, 256, 4000, dtype="u1")
    Lookup.table = zarrcy.create_array(
        tmp_path / "t", shape=4000, chunks=4000, dtype="u1", codecs=[*ZSTD, crc32c, gzip]
    )
    Lookup.table[:] = noise
    a = zarrcy.create_array(
        tmp_path / "a", shape=40000, chunks=4000, dtype="u1", codecs=[*RAW, {"name": "tests.lookup"}, *ZSTD[1:]]
    )
    expected = np.arange(40000, dtype="u1")
    a[:] = expected
    zarrcy.set_threads(1)
    np.testing.assert_array_equal(a[:], expected)


class StoreWithTable(MemoryStore):
    """A store that reads an array for each value that it gives."""

    table: zarrcy.Array | None = None

    def get_with_version(self, *args: Any, **options: Any) -> Any:
        if self.table is not None:
            self.table[5:9]
        found = super().get_with_version(*args, **options)
        if self.table is not None:
            self.table[5:9]
        return found


def test_a_store_may_read_an_array_between_the_index_of_a_shard_and_its_chunks() -> None:
    table = zarrcy.create_array(MemoryStore(), shape=6400, chunks=6400, dtype="u1", codecs=shards([2]))
    table[:] = 1
    store = StoreWithTable()
    a = zarrcy.create_array(store, shape=400, chunks=400, dtype="u1", codecs=shards([8]))
    expected = np.arange(400, dtype="u1")
    a[:] = expected
    store.table = table
    np.testing.assert_array_equal(a[20:30], expected[20:30])


def test_what_a_codec_raised_is_let_go_when_a_store_raises_too(threads: None) -> None:
    failed = threading.Event()
    raised: list[weakref.ref[BaseException]] = []

    class Failing(Codec):
        name = "tests.failing"

        def encode(self, data: memoryview) -> bytes:
            return bytes(data)

        def decode(self, data: memoryview, max_nbytes: int) -> bytes:
            error = StopError("codec")  # no built-in exception takes weak references
            raised.append(weakref.ref(error))
            failed.set()
            raise error

    class Store(MemoryStore):
        n_gets = -1
        concurrency = 2
        lock = threading.Lock()

        def get(self, *args: Any, **options: Any) -> Any:
            with self.lock:
                is_first = self.n_gets == 0
                self.n_gets += self.n_gets >= 0
            if is_first:
                assert failed.wait(60)  # for the codec in the other thread
                time.sleep(0.05)  # and most likely for what notes its failure
                raise RuntimeError("store")
            return super().get(*args, **options)

    registry.register("tests.failing", Failing)
    store = Store()
    a = zarrcy.create_array(store, shape=40, chunks=1, dtype="u1", codecs=[*RAW, {"name": "tests.failing"}])
    a[:] = 1
    store.n_gets = 0
    zarrcy.set_threads(2)
    with pytest.raises(RuntimeError, match="store"):
        a[:]
    gc.collect()
    assert raised
    assert not any(error() for error in raised)


def stop(*_: object) -> None:
    raise StopError


@pytest.mark.parametrize("value", [2, 0], ids=["write", "delete"])
def test_a_signal_ends_the_wait_for_another_writer(tmp_path: Path, value: int) -> None:
    a = zarrcy.create_array(tmp_path / "a", shape=10, chunks=10, dtype="u1")
    a[:] = 1
    with open(tmp_path / "a" / "c" / ".0.zarrcy-partial", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        before = signal.signal(signal.SIGALRM, stop)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(StopError):
                a[:] = value
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    os.unlink(tmp_path / "a" / "c" / ".0.zarrcy-partial")
    assert a[:].tolist() == [1] * 10


HANDLER = """
import signal, sys
import numpy as np
import zarrcy

def shards(inner):
    raw = [{"name": "bytes", "configuration": {"endian": "little"}}]
    return [{"name": "sharding_indexed", "configuration": {"chunk_shape": [inner], "codecs": raw, "index_codecs": raw}}]

n = 1 << 20
a = zarrcy.create_array(sys.argv[1] + "/a", shape=n, chunks=n, dtype="u1", codecs=shards(2))
table = zarrcy.create_array(sys.argv[1] + "/t", shape=n, chunks=n, dtype="u1", codecs=shards(1))
expected = np.arange(n, dtype="u1")
a[:] = expected
table[:] = 1
n_reads = 0

def handler(*_):
    global n_reads
    table[3:9]
    n_reads += 1

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
while n_reads < 40:
    assert (a[:] == expected).all()
signal.setitimer(signal.ITIMER_REAL, 0)
"""


def test_a_signal_handler_may_read_an_array_in_the_middle_of_a_read(tmp_path: Path) -> None:
    environment = {**os.environ, "ZARRCY_NUM_THREADS": "2", "PYTHONPATH": str(Path(zarrcy.__file__).parents[1])}
    command = [sys.executable, "-c", HANDLER, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
