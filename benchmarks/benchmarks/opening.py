"""Importing, creating and opening: what a script pays before its first item."""

from __future__ import annotations

import itertools
import tempfile

import zarrcy

N_MEMBERS = 50
N_DOCUMENTS = 200  # more than are remembered


class Import:
    """A new interpreter each time."""

    def timeraw_import(self) -> str:
        return "import zarrcy"

    def timeraw_import_numpy_alone(self) -> str:
        return "import numpy"


class Open:
    """A directory with one array, and a group of 50."""

    params = [[2, 3]]
    param_names = ["zarr_format"]

    def setup(self, zarr_format: int) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.array = f"{self.directory.name}/array.zarr"
        self.group = f"{self.directory.name}/group.zarr"
        self.new = f"{self.directory.name}/new.zarr"
        options = {"shape": (1000, 1000), "chunks": (100, 100), "dtype": "float32", "zarr_format": zarr_format}
        zarrcy.create_array(self.array, **options)
        group = zarrcy.create_group(self.group, zarr_format=zarr_format)
        for i in range(N_MEMBERS):
            group.create_array(f"member{i}", shape=(10,), chunks=(10,), dtype="int32")
        zarrcy.consolidate_metadata(self.group)
        self.options = options
        self.opened = zarrcy.open_group(self.group, mode="r+")
        store = zarrcy.stores.open({})
        for i in range(N_DOCUMENTS):
            zarrcy.create_array(store, f"a{i}", attributes={"number": i}, **options)
            zarrcy.create_array(store, f"b{i}", **{**options, "shape": (1000, 1000 + i)})
        self.many = store
        self.numbers = itertools.cycle(range(N_DOCUMENTS))

    def teardown(self, zarr_format: int) -> None:
        self.directory.cleanup()

    def time_open_array(self, zarr_format: int) -> None:
        zarrcy.open_array(self.array, mode="r")

    def time_open_array_of_a_new_document(self, zarr_format: int) -> None:
        zarrcy.open_array(self.many, f"b{next(self.numbers)}", mode="r")

    def time_open_array_with_new_attributes(self, zarr_format: int) -> None:
        zarrcy.open_array(self.many, f"a{next(self.numbers)}", mode="r")

    def time_open_group(self, zarr_format: int) -> None:
        zarrcy.open_group(self.group, mode="r")

    def time_open_member(self, zarr_format: int) -> None:
        self.opened["member3"]

    def time_open_member_consolidated(self, zarr_format: int) -> None:
        zarrcy.open_group(self.group, mode="r")["member3"]

    def time_open_every_member(self, zarr_format: int) -> None:
        for _ in zarrcy.open_group(self.group, mode="r+").arrays():
            continue

    def time_open_every_member_consolidated(self, zarr_format: int) -> None:
        for _ in zarrcy.open_group(self.group, mode="r").arrays():
            continue

    def time_create_array(self, zarr_format: int) -> None:
        zarrcy.create_array(self.new, overwrite=True, **self.options)
