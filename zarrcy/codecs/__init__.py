"""Codecs, the registry of their names, and the way from a metadata document to a codec and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zarrcy.codecs.codec import ChunkSpec, Codec
from zarrcy.errors import MetadataError, UnknownExtensionError
from zarrcy.registry import Registry

__all__ = ["ChunkSpec", "Codec", "from_metadata", "from_v2", "registry", "to_v2"]

registry = Registry(
    "codec",
    "zarrcy.codecs",
    {
        "blosc": "zarrcy.codecs.blosc:Blosc",
        "bytes": "zarrcy.codecs.layout:BytesCodec",
        "crc32c": "zarrcy.codecs.checksums:Crc32c",
        "gzip": "zarrcy.codecs.deflate:Gzip",
        "numcodecs.blosc": "zarrcy.codecs.numcodecs:NumcodecsBlosc",
        "numcodecs.crc32c": "zarrcy.codecs.numcodecs:NumcodecsCrc32c",
        "numcodecs.gzip": "zarrcy.codecs.numcodecs:NumcodecsGzip",
        "numcodecs.lz4": "zarrcy.codecs.lz4:LZ4",
        "numcodecs.zlib": "zarrcy.codecs.deflate:Zlib",
        "numcodecs.zstd": "zarrcy.codecs.numcodecs:NumcodecsZstd",
        "sharding_indexed": "zarrcy.codecs.sharding:Sharding",
        "transpose": "zarrcy.codecs.layout:Transpose",
        "zstd": "zarrcy.codecs.zstd:Zstd",
    },
)

NUMCODECS_PREFIX = "numcodecs."


def from_metadata(name: str, configuration: dict[str, Any], where: str) -> Codec:
    """The codec that a v3 metadata document names.

    Parameters
    ----------
    name : str
        The codec's name, such as ``"zstd"``. Names that begin with ``"numcodecs."`` and are not in the registry stand
        for codecs of the package numcodecs.
    configuration : dict
        The codec's configuration, as it stands in the document; empty when there is none.
    where : str
        The JSON path of the codec in the document, such as ``"codecs[1]"``, for the messages of errors.

    Raises
    ------
    UnknownExtensionError
        No codec of that name is known.
    MetadataError
        The configuration is not one that the codec has. The message begins with the JSON path of what is wrong.

    Examples
    --------
    >>> from zarrcy.codecs import from_metadata
    >>> from_metadata("gzip", {"level": 5}, "codecs[1]")
    Gzip(level=5)
    >>> from_metadata("gzip", {"level": 10}, "codecs[1]")
    Traceback (most recent call last):
        ...
    zarrcy.errors.MetadataError: codecs[1].configuration.level: expected a whole number from 0 to 9, got 10
    """
    if not isinstance(name, str):
        raise MetadataError(f"{where}.name: expected a string, got {name!r:.60}")
    if not isinstance(configuration, dict):
        raise MetadataError(f"{where}.configuration: expected an object, got {configuration!r:.60}")

    def make() -> Codec:
        if name.startswith(NUMCODECS_PREFIX) and name not in registry:
            from zarrcy.codecs.numcodecs import NumcodecsAdapter

            return NumcodecsAdapter(name.removeprefix(NUMCODECS_PREFIX), configuration)
        return registry.get(name).from_configuration(configuration)  # type: ignore[no-any-return]

    return _located(make, where, f"{where}.configuration")


def from_v2(configuration: dict[str, Any], where: str) -> Codec:
    """The codec that a v2 metadata document describes as compressor or filter: the configuration of a numcodecs codec.

    Parameters
    ----------
    configuration : dict
        The JSON object, with the name of the codec as ``"id"``.
    where : str
        Its JSON path in the document, such as ``"compressor"`` or ``"filters[0]"``, for the messages of errors.

    Raises
    ------
    UnknownExtensionError
        No codec of that name is known.
    MetadataError
        The configuration is not one that the codec has.

    Examples
    --------
    >>> from zarrcy.codecs import from_v2
    >>> from_v2({"id": "zlib", "level": 1}, "compressor")
    Zlib(level=1)
    """
    from zarrcy.codecs.numcodecs import from_numcodecs

    if not isinstance(configuration, dict):
        raise MetadataError(f"{where}: expected an object, got {configuration!r:.60}")
    return _located(lambda: from_numcodecs(configuration), where, where)


def to_v2(codec: Codec) -> dict[str, Any]:
    """The JSON object that stands for `codec` as compressor or filter in a v2 metadata document.

    Raises
    ------
    MetadataError
        Version 2 has no such codec.

    Examples
    --------
    >>> from zarrcy.codecs import to_v2
    >>> from zarrcy.codecs.blosc import Blosc
    >>> to_v2(Blosc(cname="zstd", shuffle="shuffle"))
    {'id': 'blosc', 'cname': 'zstd', 'clevel': 5, 'shuffle': 1, 'blocksize': 0}
    """
    from zarrcy.codecs.numcodecs import to_numcodecs

    return to_numcodecs(codec)


def _located(make: Callable[[], Codec], where: str, members: str) -> Codec:
    """The codec that `make` gives; its errors say where in the document they are."""
    try:
        return make()
    except UnknownExtensionError as error:
        raise UnknownExtensionError(f"{where}: {error.message}", code=error.code, hint=error.hint) from error
    except MetadataError as error:
        raise MetadataError(f"{members}.{error.message}", code=error.code, hint=error.hint) from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise MetadataError(f"{members}: {type(error).__name__}: {error}") from error
