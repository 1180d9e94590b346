"""One chunk of 1 MiB through each chain of codecs, in memory."""

from __future__ import annotations

import zarrcy
from zarrcy.stores.memory import MemoryStore

from .fields import CHAINS, field

SIDE = 512


class Codecs:
    params = [list(CHAINS)]
    param_names = ["codec"]

    def setup(self, codec: str) -> None:
        shape = (SIDE, SIDE)
        store = MemoryStore()
        self.array = zarrcy.create_array(store, shape=shape, chunks=shape, dtype="float32", codecs=CHAINS[codec])
        self.field = field(SIDE)
        self.array[...] = self.field

    def time_encode(self, codec: str) -> None:
        self.array[...] = self.field

    def time_decode(self, codec: str) -> None:
        self.array[...]

    def track_ratio(self, codec: str) -> float:
        return float(self.array.nbytes / self.array.nbytes_stored)

    track_ratio.unit = "bytes in memory per byte stored"  # type: ignore[attr-defined]
