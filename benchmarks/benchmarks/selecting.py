"""Every kind of index, on an array in memory without compression, so that the selection is what counts."""

from __future__ import annotations

import numpy as np

import zarrcy
from zarrcy.stores.memory import MemoryStore

from .fields import CHAINS, field

SIDE = 1024
N_POINTS = 10_000


class Select:
    def setup(self) -> None:
        chunks = (128, 128)
        store = MemoryStore()
        self.array = zarrcy.create_array(
            store, shape=(SIDE, SIDE), chunks=chunks, dtype="float32", codecs=CHAINS["raw"]
        )
        self.array[...] = field(SIDE)
        random = np.random.default_rng(11)
        self.rows = np.sort(random.choice(SIDE, 100, replace=False))
        self.shuffled = random.permutation(self.rows)
        self.points = random.integers(0, SIDE, (2, N_POINTS))
        self.mask = random.random((SIDE, SIDE)) < 0.01

    def time_item(self) -> None:
        self.array[17, 900]

    def time_slices(self) -> None:
        self.array[100:400, 300:500]

    def time_steps(self) -> None:
        self.array[::7, ::5]

    def time_backwards(self) -> None:
        self.array[::-1, ::-1]

    def time_a_column(self) -> None:
        self.array[:, 77]

    def time_orthogonal_sorted(self) -> None:
        self.array.oindex[self.rows, self.rows]

    def time_orthogonal_shuffled(self) -> None:
        self.array.oindex[self.shuffled, self.shuffled]

    def time_rows(self) -> None:
        self.array[self.shuffled]

    def time_points(self) -> None:
        self.array.vindex[self.points[0], self.points[1]]

    def time_one_point(self) -> None:
        self.array.vindex[[17], [900]]

    def time_mask(self) -> None:
        self.array[self.mask]

    def time_block(self) -> None:
        self.array.blocks[3, 4]

    def time_write_steps(self) -> None:
        self.array[::7, ::5] = 1.0

    def time_write_points(self) -> None:
        self.array.vindex[self.points[0], self.points[1]] = 1.0
