"""What a new array gets: the caller's wishes, and a choice for all that was left open, as `ArrayMetadata`."""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zarrcy import codecs as codec_names
from zarrcy import dtypes
from zarrcy.chunk_grid import ChunkKeyEncoding, RegularGrid, guess_chunk_shape, normalize_chunks
from zarrcy.codecs.chain import codec_from_json
from zarrcy.codecs.codec import ChunkSpec, Codec
from zarrcy.codecs.layout import BytesCodec, Transpose
from zarrcy.codecs.sharding import Sharding
from zarrcy.errors import ChunkCountWarning, MetadataError
from zarrcy.metadata import ArrayMetadata
from zarrcy.metadata_v2 import format_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from zarrcy.dtypes import DataType

__all__ = [
    "MAX_FILES_PER_DIRECTORY",
    "array_metadata",
    "chunks_of_objects",
    "default_compressors",
    "warn_of_many_files",
]

# What "auto" aims at where each chunk is an object of a service, before compression: 1 to 10 MB after it.
OBJECT_NBYTES = 8_000_000

# Directories with more entries than this make file systems slow, and tools that list them unusable.
MAX_FILES_PER_DIRECTORY = 1_000_000

# The most that a chunk of the codec blosc can hold.
MAX_BLOSC_NBYTES = 2**31 - 1 - 16


def default_compressors(zarr_format: int, data_type: DataType, chunk_shape: tuple[int, ...]) -> list[Codec]:
    """What compresses a new array: checksummed, and read by other Zarr libraries.

    docs/decisions/0001-default-codec-chain.md has the measurements.
    """
    get = codec_names.registry.get
    too_large = math.prod(chunk_shape) * data_type.itemsize > MAX_BLOSC_NBYTES
    if too_large or not format_of(zarr_format).has_codec_chains:
        return [get("zstd")(level=1, checksum=True)]
    shuffle = "shuffle" if data_type.itemsize > 1 else "bitshuffle"
    return [get("blosc")(cname="lz4", clevel=5, shuffle=shuffle, typesize=data_type.itemsize), get("crc32c")()]


def array_metadata(
    *,
    shape: int | Sequence[int],
    chunks: Any = "auto",
    dtype: npt.DTypeLike = "float64",
    compressor: Any = "auto",
    filters: Any = None,
    shards: Any = None,
    codecs: Any = None,
    fill_value: Any = 0,
    order: str = "C",
    zarr_format: int = 3,
    dimension_names: Sequence[str | None] | None = None,
    attributes: Mapping[str, Any] | None = None,
    dimension_separator: str | None = None,
) -> ArrayMetadata:
    """The metadata of a new array. The parameters are those of `zarrcy.create`.

    Raises
    ------
    TypeError
        `codecs` was given together with `compressor`, `filters`, `shards` or `order`.
    MetadataError
        The wishes do not fit together.
    UnknownExtensionError
        A data type or codec that zarrcy does not know.
    """
    if zarr_format not in (2, 3):
        raise MetadataError(f"zarr_format: expected 2 or 3, got {zarr_format!r}")
    shape = _extents(shape)
    data_type = dtypes.from_numpy(dtype)  # what NumPy does not know is an error of ours
    numpy_dtype = np.dtype(dtype)
    chunk_shape = normalize_chunks(chunks, shape, data_type.itemsize)
    grid_shape = chunk_shape
    if codecs is not None:
        given = {"compressor": compressor != "auto", "filters": filters, "shards": shards, "order": order != "C"}
        if any(value is not None and value is not False for value in given.values()):
            names = [name for name, value in given.items() if value is not None and value is not False]
            raise TypeError(f"codecs: expected no {' or '.join(names)} beside codecs, which say it all")
        chain = _given_codecs(codecs)
    else:
        if order not in ("C", "F"):
            raise MetadataError(f'order: expected "C" or "F", got {order!r}')
        if isinstance(compressor, str) and compressor == "auto":
            compressor = default_compressors(zarr_format, data_type, chunk_shape)
        chain = _chain(_endian(numpy_dtype, data_type), compressor, filters, order, len(shape))
        if shards is not None:
            if not format_of(zarr_format).has_shards:
                raise MetadataError(f"shards: expected none in Zarr v{zarr_format}", hint="Use zarr_format=3.")
            grid_shape = _shard_shape(shards, shape, chunk_shape)
            chain = (Sharding(chunk_shape, chain, _index_codecs()),)
    spec = ChunkSpec(grid_shape, data_type.dtype)
    return ArrayMetadata(
        shape=shape,
        data_type=data_type,
        chunk_grid=RegularGrid(grid_shape),
        chunk_key_encoding=ChunkKeyEncoding(format_of(zarr_format).key_encoding, dimension_separator),
        fill_value=_fill_value(data_type, fill_value, zarr_format),
        # Bound, so that the document says all that a codec filled in, such as the type size of blosc, where it can.
        codecs=[codec.bind(spec) for codec in chain] if format_of(zarr_format).has_codec_chains else chain,
        attributes=dict(attributes or {}),
        dimension_names=dimension_names,
        zarr_format=zarr_format,
    )


def _extents(shape: Any) -> tuple[int, ...]:
    """The shape that a caller means: whole numbers, one of them for one axis."""
    extents = shape if isinstance(shape, Iterable) and not isinstance(shape, (str, bytes)) else (shape,)
    try:
        return tuple([operator.index(n) for n in extents])
    except TypeError as error:
        raise MetadataError(f"shape: expected whole numbers, got {shape!r}") from error


def _endian(dtype: np.dtype[Any], data_type: DataType) -> str | None:
    if data_type.word == 1:
        return None
    return "big" if dtype.newbyteorder("<") != dtype else "little"


def _fill_value(data_type: DataType, fill_value: Any, zarr_format: int) -> Any:
    if fill_value is None:
        return None if format_of(zarr_format).has_null_fill_value else data_type.zero()
    if type(fill_value) is int and fill_value == 0:
        return data_type.zero()
    return data_type.scalar(fill_value)


def _shard_shape(shards: Any, shape: tuple[int, ...], chunk_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shard shape that a caller means: extents that the chunks divide."""
    wished = normalize_chunks(shards, shape, 1)
    for axis, (shard, chunk) in enumerate(zip(wished, chunk_shape, strict=True)):
        if shard % chunk:
            raise MetadataError(
                f"shards[{axis}]: expected a multiple of the chunk's extent {chunk}, got {shard}",
                hint="A shard holds whole chunks: choose chunks that divide it.",
            )
    return wished


def _index_codecs() -> tuple[Codec, ...]:
    return (BytesCodec("little"), codec_names.registry.get("crc32c")())


def _chain(endian: str | None, compressor: Any, filters: Any, order: str, ndim: int) -> tuple[Codec, ...]:
    chain: list[Codec] = []
    if order == "F" and ndim > 1:
        chain.append(Transpose(range(ndim - 1, -1, -1)))
    if filters is not None:
        if isinstance(filters, (str, Mapping)) or not isinstance(filters, Iterable):
            filters = [filters]
        chain.extend(_codec(item, f"filters[{i}]") for i, item in enumerate(filters))
    chain.append(BytesCodec(endian))
    if isinstance(compressor, (list, tuple)):
        chain.extend(_codec(item, f"compressor[{i}]") for i, item in enumerate(compressor))
    elif compressor is not None:
        chain.append(_codec(compressor, "compressor"))
    return tuple(chain)


def _given_codecs(codecs: Any) -> tuple[Codec, ...]:
    if isinstance(codecs, (str, Mapping)) or not isinstance(codecs, Iterable):
        raise MetadataError(f"codecs: expected a list of codecs, got {codecs!r}")
    return tuple([_codec(item, f"codecs[{i}]") for i, item in enumerate(codecs)])


def _codec(wish: Any, where: str) -> Codec:
    """The codec that a caller means: one of ours, a name, a document of v2 or v3, or a codec of numcodecs."""
    if isinstance(wish, Codec):
        return wish
    if isinstance(wish, str):
        return _named_codec(wish, where)
    if isinstance(wish, Mapping):
        return codec_names.from_v2(dict(wish), where) if "id" in wish else codec_from_json(dict(wish), where)
    if hasattr(wish, "get_config"):
        return codec_names.from_v2(wish.get_config(), where)
    raise MetadataError(f"{where}: expected a name, a codec or its document, got {wish!r}")


def _named_codec(name: str, where: str) -> Codec:
    """The codec of a name with its default settings; the names of numcodecs may stand without their prefix."""
    for known in (name, f"numcodecs.{name}"):
        if known in codec_names.registry:
            try:
                codec: Codec = codec_names.registry.get(known)()
            except TypeError as error:
                raise MetadataError(f"{where}: {name}: expected settings beside the name: {error}") from error
            return codec
    return codec_names.from_v2({"id": name}, where)


def chunks_of_objects(described: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of an array with the chunks that ``"auto"`` means in a service that charges for each request."""
    chunks = described.get("chunks", "auto")
    is_auto = chunks is True or (isinstance(chunks, str) and chunks == "auto")
    if not is_auto or described.get("shards") is not None:
        return dict(described)
    itemsize = np.dtype(described.get("dtype", "float64")).itemsize
    return {**described, "chunks": guess_chunk_shape(_extents(described["shape"]), itemsize, OBJECT_NBYTES)}


def warn_of_many_files(metadata: ArrayMetadata) -> None:
    """Warn when the grid would put more than a million files into one directory."""
    grid = metadata.chunk_grid.grid_shape(metadata.shape)
    if 0 in grid or not grid:
        return
    flat = metadata.chunk_key_encoding.separator == "."
    most = math.prod(grid) if flat else max(grid)
    if most > MAX_FILES_PER_DIRECTORY:
        cure = (
            "larger chunks, shards=, or keys with '/' (the default of Zarr v3)" if flat else "larger chunks or shards="
        )
        warnings.warn(
            f"the chunk grid {grid} can put {most:,} files into one directory; use {cure}",
            ChunkCountWarning,
            stacklevel=4,
        )
