"""How an array is cut into chunks, and under which keys they lie.

Zarr v3 core specification, "Chunk grids" and "Chunk key encodings"; the v2 specification spells keys as the encoding
``v2``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from zarrcy.document import MAX_INTEGER, extension, integer, integers, show
from zarrcy.errors import MetadataError, UnknownExtensionError

__all__ = ["TARGET_NBYTES", "ChunkKeyEncoding", "RegularGrid", "guess_chunk_shape", "normalize_chunks"]

# What `guess_chunk_shape` aims at: 1 MiB of items. Reading one item then decodes about a millisecond's worth, opening
# the file (10 µs) costs a hundredth of that, a chunk and its scratch fit the level-2 cache, and 64 MiB already keep
# 64 threads busy.
TARGET_NBYTES = 2**20


class RegularGrid:
    """Chunks of one shape, beginning at the origin; the last ones may stick out of the array.

    Parameters
    ----------
    chunk_shape : sequence of int
        The items of a chunk along each axis, each at least 1.

    Raises
    ------
    MetadataError
        An extent is no whole number from 1 to 2**63 - 1.

    Examples
    --------
    >>> grid = RegularGrid((10, 10))
    >>> grid.grid_shape((25, 10))
    (3, 1)
    """

    __slots__ = ("chunk_shape",)

    chunk_shape: tuple[int, ...]

    def __init__(self, chunk_shape: Iterable[int]) -> None:
        object.__setattr__(self, "chunk_shape", integers(list(chunk_shape), "chunk_shape", 1))

    @classmethod
    def from_json(cls, data: object, where: str, shape: Sequence[int]) -> RegularGrid:
        """The grid that a ``chunk_grid`` of ``zarr.json`` describes, for an array of `shape`.

        Raises
        ------
        UnknownExtensionError
            Another kind of grid, such as ``rectilinear``.
        MetadataError
            The value breaks the specification.
        """
        name, configuration = extension(data, where)
        if name != "regular":
            raise UnknownExtensionError(f"{where}: chunk grid {show(name)}: expected regular", code="unknown")
        if configuration.keys() != {"chunk_shape"}:
            raise MetadataError(f"{where}.configuration: expected chunk_shape, got {show(sorted(configuration))}")
        return cls.from_list(configuration["chunk_shape"], f"{where}.configuration.chunk_shape", shape)

    @classmethod
    def from_list(cls, data: object, where: str, shape: Sequence[int]) -> RegularGrid:
        """The grid with the chunk shape `data`, a JSON list. An extent of 0 counts as 1 where the array has no items.

        Older versions of zarr-python wrote such extents.
        """
        extents = integers(data, where)
        if len(extents) != len(shape):
            raise MetadataError(
                f"{where}: expected {len(shape)} extents, one for each axis of the shape, got {len(extents)}"
            )
        if 0 in extents:
            for i, extent in enumerate(extents):
                if not extent and shape[i]:
                    integer(extent, f"{where}[{i}]", 1)
            extents = tuple([extent or 1 for extent in extents])
        grid = cls.__new__(cls)
        object.__setattr__(grid, "chunk_shape", extents)
        return grid

    def to_json(self) -> dict[str, Any]:
        """The ``chunk_grid`` of ``zarr.json``."""
        return {"name": "regular", "configuration": {"chunk_shape": list(self.chunk_shape)}}

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.chunk_shape)

    def grid_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """How many chunks an array of `shape` has along each axis."""
        return tuple([-(-extent // chunk) for extent, chunk in zip(shape, self.chunk_shape, strict=True)])

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"RegularGrid.{name}: a grid does not change")

    def __reduce__(self) -> tuple[Any, ...]:
        return (RegularGrid, (self.chunk_shape,))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RegularGrid):
            return NotImplemented
        return self.chunk_shape == other.chunk_shape

    def __hash__(self) -> int:
        return hash(self.chunk_shape)

    def __repr__(self) -> str:
        return f"RegularGrid({self.chunk_shape})"


class ChunkKeyEncoding:
    """Chunk index ↔ chunk key, below the path of the array.

    Parameters
    ----------
    name : {"default", "v2"}
        ``"default"`` begins keys with ``c``; ``"v2"`` does not.
    separator : {"/", "."}, optional
        What stands between the numbers; by default ``"/"`` for ``"default"``, ``"."`` for ``"v2"``.

    Attributes
    ----------
    prefix : str
        ``"c"`` or an empty text. The separator follows it when the array has an axis.

    Raises
    ------
    UnknownExtensionError
        Another name.
    MetadataError
        Another separator.

    Examples
    --------
    >>> ChunkKeyEncoding().key((1, 2)), ChunkKeyEncoding("v2").key((1, 2))
    ('c/1/2', '1.2')
    >>> ChunkKeyEncoding().key(()), ChunkKeyEncoding("v2").key(())
    ('c', '0')
    >>> ChunkKeyEncoding().parse("c/1/2")
    (1, 2)
    """

    __slots__ = ("name", "prefix", "separator")

    name: str
    separator: str
    prefix: str

    def __init__(self, name: str = "default", separator: str | None = None) -> None:
        if name not in ("default", "v2"):
            raise UnknownExtensionError(f"chunk key encoding {show(name)}: expected default or v2", code="unknown")
        if separator is None:
            separator = "/" if name == "default" else "."
        if separator not in ("/", "."):
            raise MetadataError(f'separator: expected "/" or ".", got {show(separator)}')
        put = object.__setattr__
        put(self, "name", name)
        put(self, "separator", separator)
        put(self, "prefix", "c" if name == "default" else "")

    @classmethod
    def from_json(cls, data: object, where: str) -> ChunkKeyEncoding:
        """The encoding that a ``chunk_key_encoding`` of ``zarr.json`` describes.

        Raises
        ------
        UnknownExtensionError
            An encoding that zarrcy does not know.
        MetadataError
            The value breaks the specification.
        """
        name, configuration = extension(data, where)
        if name not in ("default", "v2"):
            raise UnknownExtensionError(
                f"{where}: chunk key encoding {show(name)}: expected default or v2", code="unknown"
            )
        if not configuration.keys() <= {"separator"}:
            raise MetadataError(f"{where}.configuration: expected separator, got {show(sorted(configuration))}")
        separator = configuration.get("separator", "/" if name == "default" else ".")
        if separator not in ("/", "."):
            raise MetadataError(f'{where}.configuration.separator: expected "/" or ".", got {show(separator)}')
        return _ENCODINGS[name, separator]

    def to_json(self) -> dict[str, Any]:
        """The ``chunk_key_encoding`` of ``zarr.json``."""
        return {"name": self.name, "configuration": {"separator": self.separator}}

    def key(self, index: Sequence[int]) -> str:
        """The key of a chunk.

        Parameters
        ----------
        index : sequence of int
            The position of the chunk in the grid.
        """
        numbers = self.separator.join(map(str, index))
        if self.prefix:
            return f"c{self.separator}{numbers}" if numbers else "c"
        return numbers or "0"

    def parse(self, key: str, ndim: int | None = None) -> tuple[int, ...] | None:
        """The index of the chunk that lies under `key`; ``None`` when no chunk does.

        Parameters
        ----------
        key : str
            A key, below the path of the array.
        ndim : int, optional
            The number of axes of the array. Without it, every number of axes will do, and ``"0"`` of the encoding
            ``v2`` is taken for a chunk of an array with one axis.
        """
        if ndim == 0:
            return () if key == self.key(()) else None
        if self.prefix and key == "c":
            return () if ndim is None else None
        if self.prefix:
            if not key.startswith(f"c{self.separator}"):
                return None
            key = key[2:]
        parts = key.split(self.separator)
        if ndim is not None and len(parts) != ndim:
            return None
        for part in parts:
            # Only the spelling that `key` gives: no sign, no leading zero, no digits beyond ASCII.
            if not (part.isascii() and part.isdecimal()) or (part[0] == "0" and part != "0") or len(part) > 19:
                return None
        return tuple([int(part) for part in parts])

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"ChunkKeyEncoding.{name}: an encoding does not change")

    def __reduce__(self) -> tuple[Any, ...]:
        return (ChunkKeyEncoding, (self.name, self.separator))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ChunkKeyEncoding):
            return NotImplemented
        return (self.name, self.separator) == (other.name, other.separator)

    def __hash__(self) -> int:
        return hash((self.name, self.separator))

    def __repr__(self) -> str:
        return f"ChunkKeyEncoding({self.name!r}, {self.separator!r})"


_ENCODINGS = {
    (name, separator): ChunkKeyEncoding(name, separator) for name in ("default", "v2") for separator in ("/", ".")
}


def guess_chunk_shape(shape: Sequence[int], itemsize: int, target_nbytes: int = TARGET_NBYTES) -> tuple[int, ...]:
    """A chunk shape of at most `target_nbytes` bytes, and of more than half of that where the array is so large.

    All axes are halved in turn, the first ones first, so that a chunk has about the proportions of the array and a
    slice along any axis meets about as many chunks; the last axis, which is contiguous in memory, is cut last. The
    first axis of length 0 is expected to grow by appending: its chunks are as long as the target allows.

    Parameters
    ----------
    shape : sequence of int
        The shape of the array.
    itemsize : int
        The bytes of an item.
    target_nbytes : int
        The most bytes that a chunk should have, uncompressed. Default: 1 MiB. An item that is larger is a chunk.

    Returns
    -------
    tuple of int
        The chunk shape; each extent is at least 1 and at most that of the array, but for the axis that grows.

    Examples
    --------
    >>> guess_chunk_shape((8760, 721, 1440), 4)
    (137, 23, 45)
    >>> guess_chunk_shape((0, 1000), 8)
    (128, 1000)
    """
    extents = [max(extent, 1) for extent in shape]
    n_cuts = [0] * len(extents)
    chunk = list(extents)
    while math.prod(chunk) * itemsize > target_nbytes:
        axes = [axis for axis in range(len(chunk)) if chunk[axis] > 1]
        if not axes:
            break
        axis = min(axes, key=n_cuts.__getitem__)
        n_cuts[axis] += 1
        chunk[axis] = -(-extents[axis] // 2 ** n_cuts[axis])
    for axis, extent in enumerate(shape):
        if extent == 0:
            room = target_nbytes // (math.prod(chunk) * max(itemsize, 1))
            chunk[axis] = 2 ** (max(room, 1).bit_length() - 1)
            break
    return tuple(chunk)


def normalize_chunks(chunks: object, shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """The chunk shape that a caller means.

    Parameters
    ----------
    chunks : "auto", True, False, None, int or sequence of int or None
        ``"auto"`` or ``True``: `guess_chunk_shape`. ``False`` or ``None``: one chunk for the whole array. One number:
        that extent along each axis. A sequence: an extent for each axis, -1 or ``None`` for the whole axis.
    shape : sequence of int
        The shape of the array.
    itemsize : int
        The bytes of an item.

    Raises
    ------
    MetadataError
        `chunks` is none of these, or has another number of axes than `shape`.

    Examples
    --------
    >>> normalize_chunks((10, -1), (100, 50), 8)
    (10, 50)
    """
    if chunks is True or (isinstance(chunks, str) and chunks == "auto"):
        return guess_chunk_shape(shape, itemsize)
    if chunks is False or chunks is None:
        return tuple([max(extent, 1) for extent in shape])
    if not isinstance(chunks, Iterable) or isinstance(chunks, (str, bytes)):
        chunks = [chunks] * len(shape)
    extents = list(chunks)
    if len(extents) != len(shape):
        raise MetadataError(
            f"chunks: expected {len(shape)} extents, one for each axis of the shape, got {show(extents)}"
        )
    return tuple([_normalize_extent(chunk, extent, axis) for axis, (chunk, extent) in enumerate(zip(extents, shape))])


def _normalize_extent(chunk: Any, extent: int, axis: int) -> int:
    if hasattr(chunk, "__index__") and not isinstance(chunk, bool):
        chunk = int(chunk)
    if chunk is None or (type(chunk) is int and chunk == -1):
        return max(extent, 1)
    return integer(chunk, f"chunks[{axis}]", 1, MAX_INTEGER)
