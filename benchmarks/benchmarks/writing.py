"""Writing to a directory and to memory: everything, part of a chunk, at the end."""

from __future__ import annotations

import tempfile

import zarrcy
from zarrcy.stores.memory import MemoryStore

from .fields import CHAINS, field

SIDE = 1024  # 4 MiB of float32


class Write:
    params = [["filesystem", "memory"], ["raw", "zstd", "blosc-lz4"]]
    param_names = ["store", "codec"]

    def setup(self, store: str, codec: str) -> None:
        self.directory = tempfile.TemporaryDirectory()
        place = f"{self.directory.name}/a.zarr" if store == "filesystem" else MemoryStore()
        chunks = (128, 128)
        self.array = zarrcy.create_array(
            place, shape=(SIDE, SIDE), chunks=chunks, dtype="float32", codecs=CHAINS[codec]
        )
        self.field = field(SIDE)
        self.array[...] = self.field

    def teardown(self, store: str, codec: str) -> None:
        self.directory.cleanup()

    def time_everything(self, store: str, codec: str) -> None:
        self.array[...] = self.field

    def time_part_of_a_chunk(self, store: str, codec: str) -> None:
        self.array[5:20, 5:20] = 1.0

    def time_scalar(self, store: str, codec: str) -> None:
        self.array[...] = 1.0


class WriteShards:
    def setup(self) -> None:
        shapes = {"shape": (SIDE, SIDE), "chunks": (32, 32), "shards": (256, 256)}
        self.array = zarrcy.create_array(MemoryStore(), dtype="float32", **shapes)
        self.field = field(SIDE)

    def time_everything(self) -> None:
        self.array[...] = self.field

    def time_one_inner_chunk(self) -> None:
        self.array[320:352, 320:352] = self.field[:32, :32]


class Append:
    """A new array of one row for each sample, so that none is longer than another."""

    number = 1

    def setup(self) -> None:
        self.rows = field(SIDE)[:64]
        self.array = zarrcy.create_array(MemoryStore(), shape=(0, SIDE), chunks=(64, SIDE), dtype="float32")

    def time_append(self) -> None:
        self.array.append(self.rows)
