"""The recipe of the ``sharding_indexed`` codec (Zarr v3, sharding codec 1.0). `zarrcy.codecs.pipeline` does the
work."""

from __future__ import annotations

from typing import Any

from zarrcy.codecs.codec import ChunkSpec, Codec
from zarrcy.errors import MetadataError

__all__ = ["Sharding"]


class Sharding(Codec):
    """Many inner chunks in one value of the store, with an index of their places.

    Parameters
    ----------
    chunk_shape : tuple of int
        The shape of an inner chunk; it divides the shape of the shard.
    codecs : tuple of Codec
        The chain of each inner chunk.
    index_codecs : tuple of Codec
        The chain of the index; its results have a fixed size.
    index_location : {"end", "start"}
        Where in the shard the index lies.

    Raises
    ------
    MetadataError
        A part of the configuration is not as described.

    Examples
    --------
    >>> from zarrcy.codecs.layout import BytesCodec
    >>> Sharding((16, 16), (BytesCodec("little"),), (BytesCodec("little"),)).chunk_shape
    (16, 16)
    """

    name = "sharding_indexed"
    kind = "array_to_bytes"

    chunk_shape: tuple[int, ...]
    codecs: tuple[Codec, ...]
    index_codecs: tuple[Codec, ...]
    index_location: str

    def __init__(
        self,
        chunk_shape: tuple[int, ...],
        codecs: tuple[Codec, ...],
        index_codecs: tuple[Codec, ...],
        index_location: str = "end",
    ) -> None:
        if index_location not in ("start", "end"):
            raise MetadataError(f"index_location: expected 'start' or 'end', got {index_location!r}", codec=self.name)
        self.chunk_shape = tuple(chunk_shape)
        self.codecs = tuple(codecs)
        self.index_codecs = tuple(index_codecs)
        self.index_location = index_location

    @classmethod
    def from_configuration(cls, configuration: dict[str, Any]) -> Sharding:
        from zarrcy.codecs.chain import codecs_from_json

        unknown = set(configuration) - {"chunk_shape", "codecs", "index_codecs", "index_location"}
        if unknown:
            raise MetadataError(f"expected no other fields, got {sorted(unknown)}", codec=cls.name)
        chunk_shape = configuration.get("chunk_shape")
        if not isinstance(chunk_shape, list) or not all(type(n) is int and 0 < n < 2**63 for n in chunk_shape):
            raise MetadataError(
                f"chunk_shape: expected a list of positive whole numbers, got {chunk_shape!r}", codec=cls.name
            )
        return cls(
            tuple(chunk_shape),
            codecs_from_json(configuration.get("codecs"), "sharding_indexed.codecs"),
            codecs_from_json(configuration.get("index_codecs"), "sharding_indexed.index_codecs"),
            configuration.get("index_location", "end"),
        )

    def bind(self, spec: ChunkSpec) -> Sharding:
        inner = ChunkSpec(self.chunk_shape, spec.dtype)
        codecs = tuple([codec.bind(inner) for codec in self.codecs])
        return Sharding(self.chunk_shape, codecs, self.index_codecs, self.index_location)

    def configuration(self) -> dict[str, Any]:
        from zarrcy.codecs.chain import codecs_to_json

        return {
            "chunk_shape": list(self.chunk_shape),
            "codecs": codecs_to_json(self.codecs),
            "index_codecs": codecs_to_json(self.index_codecs),
            "index_location": self.index_location,
        }
