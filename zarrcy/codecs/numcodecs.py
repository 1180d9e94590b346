"""The codecs of the package numcodecs: their configurations (which v2 documents hold), their v3 names, and an adapter.

What zarrcy has compiled itself never needs the package; the adapter imports it when the first such codec is made.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from zarrcy.codecs.blosc import SHUFFLES, Blosc
from zarrcy.codecs.checksums import Crc32c
from zarrcy.codecs.codec import ChunkSpec, Codec
from zarrcy.codecs.configuration import checked_choice, checked_integer, checked_members
from zarrcy.codecs.deflate import Gzip, Zlib
from zarrcy.codecs.lz4 import LZ4
from zarrcy.codecs.zstd import Zstd
from zarrcy.errors import ChecksumError, CodecError, MetadataError, UnknownExtensionError

__all__ = ["NumcodecsAdapter", "from_numcodecs", "to_numcodecs"]

OBJECT_CODECS = {"categorize", "json2", "msgpack2", "pickle", "vlen-array", "vlen-bytes", "vlen-utf8"}
SHAPED_CODECS = {"pcodec", "zfpy"}
ARRAY_CODECS = {"astype", "bitround", "delta", "fixedscaleoffset", "packbits", "quantize"}
CHECKSUM_CODECS = {"adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3"}
# numcodecs fails on no bytes at all in these: an empty value stays one.
EMPTY_STAYS_EMPTY = ARRAY_CODECS | {"fletcher32"}
BYTES_CODECS = {"base64", "bz2", "lzma", "shuffle"}

# C-Blosc's codes, and numcodecs' -1 for "bitshuffle for single bytes, else shuffle".
BLOSC_SHUFFLES: dict[int, str | None] = {-1: None, **dict(enumerate(SHUFFLES))}


class NumcodecsAdapter(Codec):
    """A codec of the package numcodecs, run in Python.

    Codecs for objects (``vlen-utf8``, ``pickle`` …) and those that need the shape of an array (``zfpy``, ``pcodec``)
    are refused. Filters with data types, such as ``delta``, work on the bytes of a chunk in the order in which they are
    stored. Decoding ``bz2`` and ``lzma`` stops at the expected size; codecs that other packages add to numcodecs are
    checked after the fact.

    Parameters
    ----------
    codec_id : str
        The name that numcodecs has for it, such as ``"delta"``.
    configuration : dict
        The configuration, without the name.
    dtype : str or None, default None
        The data type of the items, which `bind` fills in for codecs that need it and do not hold it (``bitround``).

    Raises
    ------
    UnknownExtensionError
        numcodecs is not installed, or has no such codec, or the codec cannot work on the bytes of a chunk.
    MetadataError
        The configuration is not one that the codec takes.

    Examples
    --------
    >>> from zarrcy.codecs.numcodecs import NumcodecsAdapter
    >>> codec = NumcodecsAdapter.from_v2({"id": "bz2", "level": 9})
    >>> codec.name
    'numcodecs.bz2'
    >>> bytes(codec.decode(codec.encode(memoryview(b"chunk")), 5))
    b'chunk'
    """

    def __init__(self, codec_id: str, configuration: dict[str, Any], dtype: str | None = None) -> None:
        self._id = codec_id
        self._codec = _make(codec_id, configuration)
        self._configuration = {name: value for name, value in self._codec.get_config().items() if name != "id"}
        self._dtype = dtype

    @classmethod
    def from_v2(cls, configuration: dict[str, Any]) -> NumcodecsAdapter:
        """The adapter of a numcodecs configuration, such as ``{"id": "delta", "dtype": "<f4"}``."""
        return cls(configuration["id"], {name: value for name, value in configuration.items() if name != "id"})

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name in v3 documents: ``"numcodecs."`` and numcodecs' own name."""
        return f"numcodecs.{self._id}"

    @property
    def takes_array(self) -> bool:
        """Whether v3 puts the codec before "bytes": it works on items, so on bytes that are in memory order."""
        return self._id in ARRAY_CODECS

    def configuration(self) -> dict[str, Any]:
        return dict(self._configuration)

    def bind(self, spec: ChunkSpec) -> NumcodecsAdapter:
        if self._id != "bitround":
            return self
        if spec.dtype.kind != "f":
            raise MetadataError(f"{self.name}: expected a data type of floating-point numbers, got {spec.dtype}")
        return NumcodecsAdapter(self._id, self._configuration, spec.dtype.str)

    def max_encoded_nbytes(self, nbytes: int) -> int:
        wider = 1
        for decoded, encoded in (("dtype", "astype"), ("decode_dtype", "encode_dtype")):
            if encoded in self._configuration:
                wider = -(-self._itemsize(encoded) // self._itemsize(decoded))
        known = self._id in ARRAY_CODECS | CHECKSUM_CODECS | BYTES_CODECS
        return max(wider, 2 if known else 8) * nbytes + 65536

    def _itemsize(self, member: str) -> int:
        itemsize: int = np.dtype(self._configuration[member]).itemsize
        return max(1, itemsize)

    def encode(self, data: memoryview) -> memoryview:
        if self._id in EMPTY_STAYS_EMPTY and len(data) == 0:
            return memoryview(b"")
        if self._id == "bitround":
            return self._guarded(lambda: self._rounded(data))
        return self._guarded(lambda: self._codec.encode(data))

    def _rounded(self, data: memoryview) -> Any:
        """The numbers in `data`, rounded by numcodecs, which knows the byte order of this machine only."""
        if self._dtype is None:
            raise CodecError("expected a codec that is bound to a data type")
        numbers = np.frombuffer(data, self._dtype)
        native = numbers.astype(numbers.dtype.newbyteorder("="))
        return self._codec.encode(native).view(native.dtype).astype(numbers.dtype)

    def decode(self, data: memoryview, max_nbytes: int) -> memoryview:
        if self._id in EMPTY_STAYS_EMPTY and len(data) == 0:
            return memoryview(b"")
        if self._id == "bz2":
            return self._guarded(lambda: _decode_bz2(data, max_nbytes))
        if self._id == "lzma":
            return self._guarded(lambda: _decode_lzma(data, max_nbytes, self._configuration))
        return self._guarded(lambda: self._codec.decode(data))

    def _guarded(self, call: Callable[[], Any]) -> memoryview:
        try:
            with np.errstate(all="ignore"):  # overflows and NaN are results like others
                result = call()
            if isinstance(result, np.ndarray):
                # As plain bytes: NumPy does not lend the buffer of every data type.
                result = np.ascontiguousarray(result).reshape(-1).view(np.uint8)
            return memoryview(result).cast("B")
        except CodecError as error:
            error.codec = self.name
            raise
        except MemoryError:
            raise
        except Exception as error:
            mismatch = self._id in CHECKSUM_CODECS and isinstance(error, RuntimeError)
            kind, code = (ChecksumError, "checksum") if mismatch else (CodecError, "codec")
            raise kind(f"{type(error).__name__}: {error}", codec=self.name, code=code) from error

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self._id, self._configuration, self._dtype))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NumcodecsAdapter) and self.__reduce__() == other.__reduce__()

    def __hash__(self) -> int:
        return hash((self._id, self._dtype, json.dumps(self._configuration, sort_keys=True)))

    def __repr__(self) -> str:
        return f"NumcodecsAdapter({self._id!r}, {self._configuration!r})"


class DeclaredZstd(Zstd):
    """`Zstd` of a v2 document that says whether frames end in a checksum, and that goes on saying so.

    tensorstore refuses such documents. zarrcy keeps the member where it stands and never adds it: readers see in each
    frame whether it has a checksum, so that a document without the member can have frames with one.
    """


class NumcodecsBlosc(Blosc):
    """The codec "numcodecs.blosc": `Blosc` with numcodecs' configuration, where `shuffle` is a number from -1 to 2.

    Examples
    --------
    >>> from zarrcy.codecs.numcodecs import NumcodecsBlosc
    >>> NumcodecsBlosc.from_configuration({"cname": "zstd", "shuffle": 2})
    NumcodecsBlosc(cname='zstd', clevel=5, shuffle=2, blocksize=0)
    """

    name = "numcodecs.blosc"

    def configuration(self) -> dict[str, Any]:
        return _blosc_configuration(self)

    @classmethod
    def from_configuration(cls, configuration: dict[str, Any]) -> NumcodecsBlosc:
        return cls(**_blosc_arguments(configuration))


class NumcodecsZstd(Zstd):
    """The codec "numcodecs.zstd": `Zstd` under numcodecs' name."""

    name = "numcodecs.zstd"

    @classmethod
    def from_configuration(cls, configuration: dict[str, Any]) -> NumcodecsZstd:
        return cls(**checked_members(configuration, optional=("level", "checksum")))


class NumcodecsGzip(Gzip):
    """The codec "numcodecs.gzip": `Gzip` under numcodecs' name, with its default level, 1."""

    name = "numcodecs.gzip"

    @classmethod
    def from_configuration(cls, configuration: dict[str, Any]) -> NumcodecsGzip:
        return cls(**{"level": 1, **checked_members(configuration, optional=("level",))})


class NumcodecsCrc32c(Crc32c):
    """The codec "numcodecs.crc32c": `Crc32c` under numcodecs' name. The checksum stands at the end."""

    name = "numcodecs.crc32c"

    @classmethod
    def from_configuration(cls, configuration: dict[str, Any]) -> NumcodecsCrc32c:
        checked_members(configuration, optional=("location",))
        checked_choice("location", configuration.get("location", "end"), ("end",))
        return cls()


def from_numcodecs(configuration: dict[str, Any]) -> Codec:
    """The codec of a numcodecs configuration: a compiled one, else one of the registry, else the adapter."""
    codec_id = configuration.get("id")
    if not isinstance(codec_id, str):
        raise MetadataError(f"id: expected the name of a codec, got {json.dumps(codec_id)[:60]}")
    members = {name: value for name, value in configuration.items() if name != "id"}
    if codec_id == "blosc":
        return Blosc(**_blosc_arguments(members))
    if codec_id == "zstd":
        checked_members(members, optional=("level", "checksum"))
        return DeclaredZstd(**members) if "checksum" in members else Zstd(members.get("level", 0), checksum=True)
    if codec_id == "gzip":
        return Gzip(**{"level": 1, **checked_members(members, optional=("level",))})
    if codec_id == "crc32c" and members.get("location", "end") == "end":
        checked_members(members, optional=("location",))
        return Crc32c()
    if codec_id == "zlib":
        return Zlib.from_configuration(members)
    if codec_id == "lz4":
        return LZ4.from_configuration(members)
    return _registered(codec_id, members) or NumcodecsAdapter(codec_id, members)


def to_numcodecs(codec: Codec) -> dict[str, Any]:
    """The numcodecs configuration of a codec."""
    if isinstance(codec, Blosc):
        return {"id": "blosc", **_blosc_configuration(codec)}
    if isinstance(codec, Zstd) and not isinstance(codec, DeclaredZstd):
        return {"id": "zstd", "level": codec.level}
    if codec.name in ("bytes", "transpose", "sharding_indexed"):
        raise MetadataError(f"codec {codec.name!r}: expected a codec that Zarr v2 has, got one of v3")
    return {"id": codec.name.removeprefix("numcodecs."), **codec.configuration()}


def _registered(codec_id: str, members: dict[str, Any]) -> Codec | None:
    """A codec that another package, or the program, has put into the registry."""
    from zarrcy.codecs import registry

    if codec_id in ("bytes", "transpose", "sharding_indexed"):
        raise UnknownExtensionError(f"codec {codec_id!r}: expected a codec that Zarr v2 has, got one of v3")
    for name in (codec_id, f"numcodecs.{codec_id}"):
        if name in registry:
            return registry.get(name).from_configuration(members)  # type: ignore[no-any-return]
    return None


def _blosc_configuration(codec: Blosc) -> dict[str, Any]:
    shuffle = -1 if codec.shuffle is None else SHUFFLES.index(codec.shuffle)
    return {"cname": codec.cname, "clevel": codec.clevel, "shuffle": shuffle, "blocksize": codec.blocksize}


def _blosc_arguments(configuration: dict[str, Any]) -> dict[str, Any]:
    # Older documents lack blocksize, newer ones may have typesize; numcodecs has a default for each.
    optional = ("cname", "clevel", "shuffle", "blocksize", "typesize")
    arguments = dict(checked_members(configuration, optional=optional))
    arguments["shuffle"] = BLOSC_SHUFFLES[checked_integer("shuffle", arguments.get("shuffle", 1), -1, 2)]
    return arguments


def _make(codec_id: str, configuration: dict[str, Any]) -> Any:
    if codec_id in OBJECT_CODECS | SHAPED_CODECS:
        kind = "objects" if codec_id in OBJECT_CODECS else "shaped arrays"
        raise UnknownExtensionError(
            f"codec 'numcodecs.{codec_id}': expected a codec that works on bytes, got one for {kind}", code="unknown"
        )
    numcodecs = _imported(codec_id)
    if codec_id not in numcodecs.registry.codec_registry and codec_id not in numcodecs.registry.entries:
        raise UnknownExtensionError(
            f"codec 'numcodecs.{codec_id}': expected a codec that zarrcy or numcodecs has, got an unknown name",
            code="unknown",
        )
    if codec_id == "bz2":
        checked_integer("level", configuration.get("level", 1), 1, 9)
    if codec_id == "shuffle":
        checked_integer("elementsize", configuration.get("elementsize", 4), 1, 2**31 - 1)
    checked_choice("id", configuration.get("id", codec_id), (codec_id,))
    for member in ("dtype", "encode_dtype", "decode_dtype"):
        if not isinstance(configuration.get(member, ""), str):  # NumPy takes null, lists and objects for data types
            raise MetadataError(f"{member}: expected the name of a data type, got {configuration[member]!r:.60}")
    return numcodecs.get_codec({**configuration, "id": codec_id})


def _imported(codec_id: str) -> Any:
    try:
        with warnings.catch_warnings(record=True):  # numcodecs warns of its own choice of packages
            import numcodecs
            import numcodecs.registry
    except ImportError as error:
        raise UnknownExtensionError(
            f"codec 'numcodecs.{codec_id}': expected the package numcodecs, which is not installed",
            code="unknown",
            hint='pip install "zarrcy[numcodecs]" brings it.',
        ) from error
    return numcodecs


def _decode_bz2(data: memoryview, max_nbytes: int) -> bytes:
    import bz2

    return _decode_streams(bz2.BZ2Decompressor, data, max_nbytes)


def _decode_lzma(data: memoryview, max_nbytes: int, configuration: dict[str, Any]) -> bytes:
    import lzma

    raw = configuration["format"] == lzma.FORMAT_RAW
    filters = configuration["filters"] if raw else None
    return _decode_streams(
        lambda: lzma.LZMADecompressor(configuration["format"], filters=filters), data, max_nbytes, endless=raw
    )


def _decode_streams(make: Callable[[], Any], data: memoryview, max_nbytes: int, endless: bool = False) -> bytes:
    """One stream after the other, until the value ends; stops as soon as there is more than `max_nbytes`."""
    parts: list[bytes] = []
    rest: bytes | memoryview = data
    left = max_nbytes
    while True:
        stream = make()
        while not stream.eof:
            part = stream.decompress(rest, left + 1)
            if len(part) > left:
                raise CodecError(f"expected at most {max_nbytes} bytes, the stream holds more", code="too_large")
            parts.append(part)
            left -= len(part)
            rest = b""
            if stream.needs_input and not stream.eof:
                if endless:  # a raw LZMA stream may lack an end mark
                    return b"".join(parts)
                raise CodecError("expected the end of the stream, the value ends before", code="corrupt")
        rest = stream.unused_data
        if not rest:
            return b"".join(parts)
