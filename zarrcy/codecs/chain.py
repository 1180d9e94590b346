"""The ``codecs`` list of an array or a shard ↔ a tuple of codecs, and the rules of its order.

Zarr v3 core specification, "Chunk encoding": any number of array → array codecs, one array → bytes codec, any number of
bytes → bytes codecs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from zarrcy.codecs import from_metadata
from zarrcy.codecs.codec import Codec
from zarrcy.codecs.layout import BytesCodec, Transpose
from zarrcy.document import extension, show
from zarrcy.errors import MetadataError, UnknownExtensionError, ZarrcyError
from zarrcy.registry import LazyModule

if TYPE_CHECKING:
    from zarrcy.codecs import sharding
else:
    sharding = LazyModule("zarrcy.codecs.sharding")

__all__ = ["are_shareable", "check_order", "codec_from_json", "codec_kind", "codecs_from_json", "codecs_to_json"]

# No chain has a use for more; a document with very many would keep its reader busy.
MAX_CODECS = 64

_KINDS = ("array_to_array", "array_to_bytes", "bytes_to_bytes")


def codec_kind(codec: Codec) -> str:
    """``"array_to_array"``, ``"array_to_bytes"`` or ``"bytes_to_bytes"``; a codec that does not say is the last.

    The filters of numcodecs that work on items (``takes_array``) count as the first, as in zarr-python.
    """
    if getattr(codec, "takes_array", False):
        return "array_to_array"
    return getattr(codec, "kind", "bytes_to_bytes")


def codecs_from_json(documents: object, where: str) -> tuple[Codec, ...]:
    """The codecs that a ``codecs`` list describes.

    Parameters
    ----------
    documents : list
        The list as it stands in ``zarr.json``: objects with a name and a configuration, or names.
    where : str
        The JSON path of the list, for error messages.

    Raises
    ------
    UnknownExtensionError
        A codec that zarrcy does not know. That holds for ``"must_understand": false`` too: what such a codec adds
        would be lost at the next write.
    MetadataError
        The list, a configuration or the order of the codecs breaks the specification.

    Examples
    --------
    >>> codecs_from_json([{"name": "bytes", "configuration": {"endian": "big"}}], "codecs")
    (BytesCodec(endian='big'),)
    """
    if type(documents) is not list:
        raise MetadataError(f"{where}: expected a list of codecs, got {show(documents)}")
    if len(documents) > MAX_CODECS:
        raise MetadataError(f"{where}: expected at most {MAX_CODECS} codecs, got {len(documents)}")
    codecs = tuple([codec_from_json(document, f"{where}[{i}]") for i, document in enumerate(documents)])
    check_order(codecs, where)
    return codecs


def codec_from_json(document: object, where: str) -> Codec:
    """The codec that one entry of a ``codecs`` list describes."""
    name, configuration = extension(document, where)
    try:
        return from_metadata(name, configuration, where)
    except (ZarrcyError, RecursionError):
        raise
    except Exception as error:
        # A plug-in may raise anything.
        raise MetadataError(f"{where}.configuration: {type(error).__name__}: {error}") from error


def codecs_to_json(codecs: Iterable[Codec]) -> list[dict[str, Any]]:
    """The ``codecs`` list that describes `codecs`.

    Examples
    --------
    >>> codecs_to_json([BytesCodec()])
    [{'name': 'bytes'}]
    """
    documents = []
    for codec in codecs:
        configuration = codec.configuration()
        documents.append(
            {"name": codec.name, "configuration": configuration} if configuration else {"name": codec.name}
        )
    return documents


def check_order(codecs: tuple[Codec, ...], where: str) -> None:
    """Refuse a chain that does not turn an array into bytes.

    The filters of numcodecs see the items in the byte order of the codec ``bytes``, as in v2; those of zarr-python see
    native ones. So a chain of v3 has such filters only before little-endian bytes, where both are the same.

    Raises
    ------
    MetadataError
        The order breaks the specification.
    UnknownExtensionError
        A filter of numcodecs stands before big-endian bytes.
    """
    kinds = [codec_kind(codec) for codec in codecs]
    for i, kind in enumerate(kinds):
        if kind not in _KINDS:
            raise MetadataError(f"{where}[{i}]: expected a codec of kind {', '.join(_KINDS)}, got {show(kind)}")
    if kinds.count("array_to_bytes") != 1:
        n = kinds.count("array_to_bytes")
        raise MetadataError(f"{where}: expected one codec that turns an array into bytes, such as bytes, got {n}")
    middle = kinds.index("array_to_bytes")
    for i, kind in enumerate(kinds):
        if i != middle and (kind == "array_to_array") != (i < middle):
            wanted = "arrays" if i < middle else "bytes"
            raise MetadataError(f"{where}[{i}]: expected a codec that encodes {wanted}, got {show(codecs[i].name)}")
    to_bytes = codecs[middle]
    if isinstance(to_bytes, BytesCodec) and to_bytes.endian == "big":
        for i, codec in enumerate(codecs[:middle]):
            if getattr(codec, "takes_array", False):
                path = f"{where}[{i}]"
                raise UnknownExtensionError(f"{path}: {codec.name} before big-endian bytes: expected little-endian")


def are_shareable(codecs: Iterable[Codec]) -> bool:
    """Whether arrays may share these codecs: those that run in Python may keep a state, whatever they promise."""
    for codec in codecs:
        if isinstance(codec, (BytesCodec, Transpose)):
            continue
        if codec_kind(codec) == "array_to_bytes" and isinstance(codec, sharding.Sharding):
            if not (are_shareable(codec.codecs) and are_shareable(codec.index_codecs)):
                return False
        elif codec.needs_gil:
            return False
    return True
