"""The libraries that are compared, behind one small interface, and the reference in C behind the same.

What a method returns is the work to be timed, as a function: selections are made before the clock runs.
"""

from __future__ import annotations

import importlib.metadata
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .data import Data, Layout, h5_filters, make_b2nd, make_zarr
from .reference import ReferenceArray, build

Work = Callable[[], Any]
Selection = tuple[Any, ...]


class Peer(ABC):
    """One library.

    Parameters
    ----------
    data : Data
        Where the arrays are.
    """

    name: str
    distributions: tuple[str, ...]  # their versions are reported; the peer is there when all of them are
    import_statement: str
    file_format = "zarr"
    layouts: frozenset[str] | None = None  # names of the layouts it can have; None: all
    operations = frozenset({"everything", "chunks", "items", "oindex", "opening", "writing", "memory", "importing"})

    def __init__(self, data: Data) -> None:
        self.data = data
        self.handles: dict[str, Any] = {}
        self.setup()

    def setup(self) -> None:
        """Import what is needed, and set it up."""
        exec(self.import_statement, {})  # the same words that the row about importing times

    @abstractmethod
    def opener(self, layout: Layout) -> Callable[[], Any]:
        """What opens an array, with all done before that is no part of it."""

    @abstractmethod
    def write(self, layout: Layout, path: Path, values: np.ndarray) -> None: ...

    @classmethod
    def lacks(cls, operation: str, layout: Layout | None) -> str | None:
        """Why there is no such row for this peer, or ``None``."""
        if operation not in cls.operations:
            return f"no {operation}"
        if layout and cls.layouts is not None and layout.name not in cls.layouts:
            return f"no {layout.name}"
        return None

    def get(self, layout: Layout) -> Any:
        """The array, opened once."""
        if layout.name not in self.handles:
            self.handles[layout.name] = self.opener(layout)()
        return self.handles[layout.name]

    def read(self, array: Any, selection: Selection) -> np.ndarray:
        return array[selection]

    def everything(self, layout: Layout) -> Work:
        array, selection = self.get(layout), (slice(None),) * len(layout.chunks)
        return lambda: self.read(array, selection)

    def each(self, layout: Layout, selections: Sequence[Selection]) -> Work:
        """One call after the other; gives what the last one read."""
        array, read = self.get(layout), self.read

        def work() -> np.ndarray:
            for selection in selections:
                last = read(array, selection)
            return last

        return work

    chunks = items = box = each

    def oindex(self, layout: Layout, selections: Sequence[Selection]) -> Work:
        orthogonal = self.get(layout).oindex

        def work() -> np.ndarray:
            for selection in selections:
                last = orthogonal[selection]
            return last

        return work

    def reopen(self, layout: Layout, n: int) -> Work:
        opener = self.opener(layout)

        def work() -> None:
            for _ in range(n):
                opener()

        return work


class Reference(Peer):
    """The least work in C."""

    name = "reference"
    distributions = ()
    import_statement = ""
    operations = frozenset({"everything", "chunks", "items", "opening", "writing", "memory"})

    def setup(self) -> None:
        self.library = build(self.data.root)

    def opener(self, layout: Layout) -> Callable[[], ReferenceArray]:
        path, shape = self.data.path(layout), layout.shape(self.data.scale)
        return lambda: ReferenceArray(self.library, layout, path, shape)

    def everything(self, layout: Layout) -> Work:
        return self.get(layout).read

    def chunks(self, layout: Layout, selections: Sequence[Selection]) -> Work:
        indices = np.array([[s.start // n for s, n in zip(each, layout.chunks)] for each in selections])
        return lambda: self.get(layout).read_chunks(indices)

    def items(self, layout: Layout, selections: Sequence[Selection]) -> Work:
        coordinates = np.array(selections)
        return lambda: self.get(layout).read_items(coordinates)

    def reopen(self, layout: Layout, n: int) -> Work:
        return lambda: self.get(layout).open_again(n)

    def write(self, layout: Layout, path: Path, values: np.ndarray) -> None:
        path.mkdir()
        array = ReferenceArray(self.library, layout, path, values.shape)
        array.write(values)
        array.close()


class Zarrcy(Peer):
    name = "zarrcy"
    distributions = ("zarrcy",)
    import_statement = "import zarrcy"

    def opener(self, layout: Layout) -> Callable[[], Any]:
        import zarrcy

        path = str(self.data.path(layout))
        return lambda: zarrcy.open_array(path, mode="r")

    def write(self, layout: Layout, path: Path, values: np.ndarray) -> None:
        make_zarr(layout, path, values)


class Zarr(Peer):
    """zarr-python, with its default pipeline of codecs."""

    name = "zarr"
    distributions = ("zarr",)
    import_statement = "import zarr"
    pipeline: str | None = None

    def setup(self) -> None:
        super().setup()
        import zarr

        if self.pipeline:
            zarr.config.set({"codec_pipeline.path": self.pipeline})

    def opener(self, layout: Layout) -> Callable[[], Any]:
        import zarr

        path = self.data.path(layout)
        return lambda: zarr.open_array(path, mode="r")

    def write(self, layout: Layout, path: Path, values: np.ndarray) -> None:
        import zarr
        from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

        compressors: dict[str, Any] = {
            "raw": None,
            "zstd": ZstdCodec(level=3),
            "gzip": GzipCodec(level=5),
            "blosc": BloscCodec(cname="lz4", clevel=5, shuffle="shuffle"),
        }
        array = zarr.create_array(
            path,
            shape=values.shape,
            dtype=values.dtype,
            chunks=layout.chunks,
            shards=layout.shards,
            compressors=compressors[layout.codec],
            filters=None,
            fill_value=0,
        )
        array[...] = values


class ZarrFused(Zarr):
    name = "zarr fused"
    pipeline = "zarr.core.codec_pipeline.FusedCodecPipeline"


class Zarrs(Zarr):
    name = "zarrs"
    distributions = ("zarr", "zarrs")
    import_statement = "import zarr, zarrs"
    pipeline = "zarrs.ZarrsCodecPipeline"


class Zarrista(Peer):
    name = "zarrista"
    distributions = ("zarrista",)
    import_statement = "import zarrista"
    operations = Peer.operations - {"oindex"}

    def opener(self, layout: Layout) -> Callable[[], Any]:
        import zarrista

        path = str(self.data.path(layout))
        return lambda: zarrista.Array.open(zarrista.store.FilesystemStore(path), "/")

    def read(self, array: Any, selection: Selection) -> np.ndarray:
        return array[selection].to_numpy()

    def write(self, layout: Layout, path: Path, values: np.ndarray) -> None:
        import zarrista

        metadata = json.loads((self.data.path(layout) / "zarr.json").read_text())
        array = zarrista.Array.from_metadata(metadata, zarrista.store.FilesystemStore(str(path)), "/")
        array.store_metadata()
        array[...] = values


class TensorStore(Peer):
    name = "tensorstore"
    distributions = ("tensorstore",)
    import_statement = "import tensorstore"

    @staticmethod
    def _spec(path: Path) -> dict[str, Any]:
        return {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/"}}

    def opener(self, layout: Layout) -> Callable[[], Any]:
        import tensorstore

        spec = self._spec(self.data.path(layout))
        return lambda: tensorstore.open(spec, read=True, open=True).result()

    def read(self, array: Any, selection: Selection) -> np.ndarray:
        return array[selection].read().result()

    def oindex(self, layout: Layout, selections: Sequence[Selection]) -> Work:
        orthogonal = self.get(layout).oindex

        def work() -> np.ndarray:
            for selection in selections:
                last = orthogonal[selection].read().result()
            return last

        return work

    def write(self, layout: Layout, path: Path, values: np.ndarray) -> None:
        import tensorstore

        document = json.loads((self.data.path(layout) / "zarr.json").read_text())
        members = ("shape", "data_type", "chunk_grid", "codecs", "fill_value", "chunk_key_encoding")
        spec = {
            **self._spec(path),
            "metadata": {name: document[name] for name in members},
            "context": {"file_io_sync": False},  # the others do not wait for the disk either
        }
        tensorstore.open(spec, create=True).result().write(values).result()


_UNSHARDED = frozenset({"raw-64k", "raw-8m", "zstd-64k", "zstd-1m", "gzip-1m", "blosc-64k", "blosc-1m", "blosc-8m"})


class H5py(Peer):
    """HDF5, with the plug-ins of its codecs: the same chunks in one file."""

    name = "h5py"
    distributions = ("h5py", "hdf5plugin")
    import_statement = "import h5py, hdf5plugin"
    file_format = "h5"
    layouts = _UNSHARDED
    operations = Peer.operations - {"oindex"}

    def opener(self, layout: Layout) -> Callable[[], Any]:
        import h5py

        path = self.data.path(layout, "h5")
        return lambda: h5py.File(path, "r")["array"]

    def write(self, layout: Layout, path: Path, values: np.ndarray) -> None:
        import h5py

        with h5py.File(path, "w") as file:
            file.create_dataset("array", data=values, chunks=layout.chunks, **h5_filters(layout))


class Blosc2(Peer):
    """Its own format, b2nd: the same chunks, in one file, of blosc alone."""

    name = "blosc2"
    distributions = ("blosc2",)
    import_statement = "import blosc2"
    file_format = "b2nd"
    layouts = frozenset({"blosc-64k", "blosc-1m", "blosc-8m"})
    operations = Peer.operations - {"oindex"}

    def opener(self, layout: Layout) -> Callable[[], Any]:
        import blosc2

        path = str(self.data.path(layout, "b2nd"))
        return lambda: blosc2.open(path, mode="r")

    def write(self, layout: Layout, path: Path, values: np.ndarray) -> None:
        make_b2nd(layout, path, values)


PEERS: dict[str, type[Peer]] = {
    peer.name: peer for peer in (Reference, Zarrcy, Zarr, ZarrFused, Zarrs, Zarrista, TensorStore, H5py, Blosc2)
}


def is_installed(peer: type[Peer]) -> bool:
    """Whether all that a peer is made of is there."""
    try:
        return all(importlib.metadata.version(name) for name in peer.distributions)
    except importlib.metadata.PackageNotFoundError:
        return False
