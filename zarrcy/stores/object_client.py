"""What a service that keeps objects can do, one request each: the contract between `ObjectStore` and the packages of
the services.

A client makes no second try and keeps no state but its connections: retrying, resuming, checking, pacing and
concurrency are the store's. Every failure is an error of zarrcy; ``None`` means that the service said, in its own words
and for a container that exists, that there is no such object.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from zarrcy.errors import UnavailableError
from zarrcy.stores.store import Buffer

__all__ = ["BrokenBodyError", "Checksum", "Condition", "Found", "ObjectClient", "Page", "Span"]


class Span(NamedTuple):
    """The bytes that a request asks for: those of `begin` up to `end`, or the last ones.

    Attributes
    ----------
    begin : int
        The first byte; below zero, the last ``-begin`` bytes are asked for and `end` is ``None``.
    end : int or None
        Behind the last byte; ``None`` asks for all that follow.
    """

    begin: int
    end: int | None = None

    @property
    def header(self) -> str:
        """The value of the header ``Range`` (RFC 9110, section 14.2)."""
        if self.begin < 0:
            return f"bytes={self.begin}"
        return f"bytes={self.begin}-" if self.end is None else f"bytes={self.begin}-{self.end - 1}"

    def within(self, nbytes: int) -> tuple[int, int]:
        """The bounds of these bytes in an object of some length."""
        begin = max(nbytes + self.begin, 0) if self.begin < 0 else min(self.begin, nbytes)
        return begin, nbytes if self.end is None else max(min(self.end, nbytes), begin)


class Checksum(NamedTuple):
    """The checksum of a whole object, as the service or the writer stored it.

    Attributes
    ----------
    algorithm : {"crc32c", "crc32", "md5"}
    value : bytes
        Big-endian.
    """

    algorithm: str
    value: bytes


class Found(NamedTuple):
    """An object, or a span of it.

    Attributes
    ----------
    value : bytes-like
        The bytes that were asked for; empty when they lie behind the end.
    version : str
        What a `Condition` can name: an ETag or a generation.
    nbytes : int
        The length of the whole object.
    writer : str
        The name that its writer gave with `ObjectClient.put`; empty when it gave none.
    checksum : Checksum or None
        That of the whole object.
    """

    value: Buffer
    version: str
    nbytes: int
    writer: str = ""
    checksum: Checksum | None = None


class Condition(NamedTuple):
    """A write happens only if the object still has this version; with ``None``, if it is still absent."""

    version: str | None


class Page(NamedTuple):
    """A part of a listing.

    Attributes
    ----------
    names : list of str
        Whole names of objects.
    folders : list of str
        Whole shared beginnings of names, up to and with a ``"/"``; empty unless asked for.
    token : str or None
        What the next page is asked for by; ``None`` when this is the last one.
    """

    names: list[str]
    folders: list[str]
    token: str | None


class BrokenBodyError(UnavailableError):
    """The answer ended early. `found` is what came of it."""

    def __init__(self, message: str, *, found: Found, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.found = found


class ObjectClient(ABC):
    """One container of one service, with credentials. Any thread may use it.

    Attributes
    ----------
    batch : int
        How many names `delete_many` takes.
    """

    batch: int = 1

    @abstractmethod
    def get(self, name: str, span: Span | None, version: str | None) -> Found | None:
        """An object or a span of it; ``None`` when there is no such object.

        Parameters
        ----------
        name : str
            The whole name in the container.
        span : Span, optional
            Which bytes; all of them by default.
        version : str, optional
            Read only this version.

        Raises
        ------
        ConflictError
            It has another version, or is absent while a version was asked for.
        BrokenBodyError
            The body ended early.
        StoreError
            Anything else.
        """

    @abstractmethod
    def head(self, name: str) -> Found | None:
        """An object without its bytes (`Found.value` is empty); ``None`` when there is no such object."""

    @abstractmethod
    def put(self, name: str, value: Buffer, condition: Condition | None, writer: str) -> str:
        """Store an object in one request, with checksums where the service takes them; returns its version.

        Parameters
        ----------
        name, value
            The object.
        condition : Condition, optional
            When it is to happen; always by default.
        writer : str
            A name that `head` gives back; empty for none.

        Raises
        ------
        ConflictError
            The condition does not hold; nothing was written.
        """

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete an object. An absent one is fine."""

    def delete_many(self, names: Sequence[str]) -> None:
        """Delete up to `batch` objects."""
        for name in names:
            self.delete(name)

    @abstractmethod
    def list(self, prefix: str, token: str | None, *, by_folder: bool) -> Page:
        """A page of the objects whose names start with `prefix`.

        Parameters
        ----------
        prefix : str
            Any text.
        token : str, optional
            That of the page before; ``None`` for the first one.
        by_folder : bool
            Give what lies below the next ``"/"`` as one folder.
        """

    def interrupt(self) -> None:  # noqa: B027 - it only makes Ctrl-C quicker
        """End every request that is under way, with a `zarrcy.UnavailableError` where it is waited for."""

    def close(self) -> None:  # noqa: B027 - some have nothing to close
        """Close the connections."""
