"""Reading from a directory and from memory: everything, one chunk, one item."""

from __future__ import annotations

import tempfile

import numpy as np

import zarrcy
from zarrcy.stores.memory import MemoryStore

from .fields import CHAINS, field

SIDE = 1024  # 4 MiB of float32


class Read:
    params = [["filesystem", "memory"], ["raw", "zstd", "blosc-lz4"], [32, 256]]
    param_names = ["store", "codec", "chunk_side"]

    def setup(self, store: str, codec: str, chunk_side: int) -> None:
        self.directory = tempfile.TemporaryDirectory()
        place = f"{self.directory.name}/a.zarr" if store == "filesystem" else MemoryStore()
        chunks = (chunk_side, chunk_side)
        self.array = zarrcy.create_array(
            place, shape=(SIDE, SIDE), chunks=chunks, dtype="float32", codecs=CHAINS[codec]
        )
        self.array[...] = field(SIDE)
        self.out = np.empty((SIDE, SIDE), "float32")
        self.chunk = (slice(chunk_side, 2 * chunk_side), slice(chunk_side, 2 * chunk_side))

    def teardown(self, store: str, codec: str, chunk_side: int) -> None:
        self.directory.cleanup()

    def time_everything(self, store: str, codec: str, chunk_side: int) -> None:
        self.array[...]

    def time_one_chunk(self, store: str, codec: str, chunk_side: int) -> None:
        self.array[self.chunk]

    def time_one_item(self, store: str, codec: str, chunk_side: int) -> None:
        self.array[500, 700]


class ReadInto:
    """Into an array that is there already, and what memory that takes."""

    def setup(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        path = f"{self.directory.name}/a.zarr"
        self.array = zarrcy.create_array(path, shape=(SIDE, SIDE), chunks=(256, 256), dtype="float32")
        self.array[...] = field(SIDE)
        self.out = np.empty((SIDE, SIDE), "float32")

    def teardown(self) -> None:
        self.directory.cleanup()

    def time_out(self) -> None:
        self.array.get_slice(out=self.out)

    def peakmem_out(self) -> None:
        self.array.get_slice(out=self.out)


class ReadShards:
    """Sixteen shards of 64 chunks: everything, and single inner chunks by byte range."""

    params = [["filesystem", "memory"]]
    param_names = ["store"]

    def setup(self, store: str) -> None:
        self.directory = tempfile.TemporaryDirectory()
        place = f"{self.directory.name}/a.zarr" if store == "filesystem" else MemoryStore()
        shapes = {"shape": (SIDE, SIDE), "chunks": (32, 32), "shards": (256, 256)}
        self.array = zarrcy.create_array(place, dtype="float32", **shapes)
        self.array[...] = field(SIDE)

    def teardown(self, store: str) -> None:
        self.directory.cleanup()

    def time_everything(self, store: str) -> None:
        self.array[...]

    def time_one_inner_chunk(self, store: str) -> None:
        self.array[320:352, 320:352]

    def time_a_row(self, store: str) -> None:
        self.array[500]
