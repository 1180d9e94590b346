"""Recipes of how a chunk is laid out: the byte order of its items (``bytes``), the order of its axes (``transpose``).

They have no `encode` or `decode`: the pipeline folds them into the strides and the byte order of its one copy.

Zarr v3 codecs, "Bytes codec" and "Transpose codec".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from zarrcy.codecs.codec import ChunkSpec, Codec
from zarrcy.document import show
from zarrcy.errors import MetadataError

__all__ = ["BytesCodec", "Transpose"]


class BytesCodec(Codec):
    """The items of a chunk one after the other, in C order, each in a byte order.

    Parameters
    ----------
    endian : {"little", "big"} or None
        The byte order. ``None`` is for items of single bytes, which have none.

    Raises
    ------
    MetadataError
        `endian` is something else.

    Examples
    --------
    >>> BytesCodec("little").configuration()
    {'endian': 'little'}
    """

    name = "bytes"
    kind = "array_to_bytes"
    endian: str | None

    def __init__(self, endian: str | None = None) -> None:
        if endian not in ("little", "big", None):
            raise MetadataError(f'endian: expected "little" or "big", got {show(endian)}')
        self.endian = endian

    def configuration(self) -> dict[str, Any]:
        return {} if self.endian is None else {"endian": self.endian}

    def bind(self, spec: ChunkSpec) -> BytesCodec:
        if self.endian is None and _has_byte_order(spec.dtype):
            raise MetadataError(f'endian: expected "little" or "big" for {spec.dtype.name}, got nothing')
        return self


def _has_byte_order(dtype: Any) -> bool:
    # NumPy gives "|" to single bytes, byte strings and void.
    return bool(dtype.byteorder != "|")


class Transpose(Codec):
    """The axes of a chunk in another order.

    Parameters
    ----------
    order : iterable of int
        A permutation of 0, 1, …, n - 1: axis ``i`` of the encoded chunk is axis ``order[i]`` of the array.

    Raises
    ------
    MetadataError
        `order` is no permutation.

    Examples
    --------
    >>> Transpose((1, 0)).configuration()
    {'order': [1, 0]}
    """

    name = "transpose"
    kind = "array_to_array"
    order: tuple[int, ...]

    def __init__(self, order: Iterable[int]) -> None:
        if isinstance(order, str):
            raise MetadataError(
                f"order: expected a list of axes, got {show(order)}",
                hint='The constants "C" and "F" were removed before Zarr v3 was final: write the axes, such as [1, 0].',
            )
        if not isinstance(order, Iterable):
            raise MetadataError(f"order: expected a list of axes, got {show(order)}")
        axes = tuple(order)
        if any(type(axis) is not int for axis in axes) or sorted(axes) != list(range(len(axes))):
            raise MetadataError(f"order: expected each axis from 0 to {len(axes) - 1} once, got {show(axes)}")
        self.order = axes

    def configuration(self) -> dict[str, Any]:
        return {"order": list(self.order)}

    def bind(self, spec: ChunkSpec) -> Transpose:
        if len(self.order) != len(spec.shape):
            raise MetadataError(f"order: expected {len(spec.shape)} axes, got {show(self.order)}")
        return self
