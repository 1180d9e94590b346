"""Reading objects whole in spite of the network: ranges, resumed bodies, lengths and checksums."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable

from zarrcy.errors import ChecksumError, ConflictError, UnavailableError
from zarrcy.kernels.checksum import crc32c_of
from zarrcy.stores.object_client import BrokenBodyError, Found, ObjectClient, Span
from zarrcy.stores.retry import PASSING, Retrier
from zarrcy.stores.store import Buffer

__all__ = ["Download", "checksum_of", "last_bytes", "span_of"]

# What arrives with a wrong checksum this often is stored so.
MAX_MISMATCHES = 3
# Reads of the last bytes of an object that is replaced again and again.
MAX_READS = 10


def span_of(part: slice | None) -> tuple[Span | None, slice | None]:
    """What to ask the service for, and what to cut out of it: a slice may need the length, which comes with the answer.

    Raises
    ------
    ValueError
        The slice has a step other than 1.

    Examples
    --------
    >>> from zarrcy.stores.object_reads import span_of
    >>> span_of(slice(2, 6))
    (Span(begin=2, end=6), None)
    >>> span_of(slice(-6, -2))
    (Span(begin=-6, end=None), slice(-6, -2, None))
    """
    if part is None:
        return None, None
    if part.step not in (None, 1):
        raise ValueError(f"part {part!r}: expected step 1, got {part.step}")
    begin, end = part.start or 0, part.stop
    if begin < 0:
        return Span(begin), None if end is None else part
    if end is None:
        return (Span(begin), None) if begin else (None, None)
    if end > begin:
        return Span(begin, end), None
    # Negative ends need the length; an empty part needs to know whether there is a value at all.
    return (Span(begin), part) if end < 0 else (Span(0, 1), part)


def checksum_of(algorithm: str, value: Buffer) -> bytes:
    """The checksum of a value, big-endian.

    Examples
    --------
    >>> from zarrcy.stores.object_reads import checksum_of
    >>> checksum_of("crc32c", b"123456789").hex()
    'e3069283'
    """
    if algorithm == "crc32c":
        return crc32c_of(value).to_bytes(4, "big")
    if algorithm == "crc32":
        return zlib.crc32(value).to_bytes(4, "big")
    return hashlib.md5(value, usedforsecurity=False).digest()


def last_bytes(
    head: Callable[[str], Found | None],
    get: Callable[[str, Span | None, str | None], Found | None],
    name: str,
    span: Span,
    version: str | None,
) -> Found | None:
    """The last bytes, of a service that knows no such ranges: the length must be asked for first.

    Parameters
    ----------
    head, get : callable
        As of `ObjectClient`.
    name, span, version
        As of `ObjectClient.get`.
    """
    for _ in range(MAX_READS):
        now = head(name)
        if now is None and version is None:
            return None
        if now is None or version not in (None, now.version):
            raise ConflictError("expected the version that was read before, got another")
        begin, end = span.within(now.nbytes)
        if begin == end:
            return now
        try:
            return get(name, Span(begin, end), now.version)
        except ConflictError:
            if version is not None:
                raise
    raise UnavailableError("expected a value that stays while it is read", code="busy")


class Download:
    """One read, over as many requests as it takes.

    Parameters
    ----------
    client : ObjectClient
        Who to ask.
    retrier : Retrier
        When to ask again.
    name : str
        The object.
    span : Span, optional
        Which bytes of it.
    version : str, optional
        Read only this version.
    """

    def __init__(
        self, client: ObjectClient, retrier: Retrier, name: str, span: Span | None, version: str | None
    ) -> None:
        self.client = client
        self.retrier = retrier
        self.name = name
        self.span = span
        self.version = version
        self.n_mismatches = 0
        # Of a body that broke off: what came, and the version it belongs to.
        self.received = bytearray()
        self.broken: Found | None = None
        self.n_furthest = 0

    def run(self) -> Found | None:
        """The object, whole and checked; ``None`` when there is none.

        Raises
        ------
        ChecksumError
            It is stored with a checksum that it does not have.
        ConflictError
            It is not of the version that was asked for.
        StoreError
            It cannot be read.
        """
        attempts = self.retrier.begin()
        attempts.wait()
        while True:
            try:
                found = self._checked(self._request())
            except BrokenBodyError as error:
                self._keep(error.found)
                if len(self.received) > self.n_furthest:
                    self.n_furthest = len(self.received)
                    attempts.advanced()
                # What came of the value is no part of an error.
                attempts.failed(UnavailableError(error.message, code=error.code, hint=error.hint))
            except PASSING as error:
                attempts.failed(error)
            except ConflictError as error:
                if self.broken is None or self.version is not None:
                    raise
                # It was replaced after the body broke off: what came is of no use.
                self._forget()
                attempts.failed(UnavailableError(f"it is replaced again and again: {error.message}", code="conflict"))
            else:
                self.retrier.pace.succeeded()
                return found

    def _request(self) -> Found | None:
        if self.broken is None:
            found = self.client.get(self.name, self.span, self.version)
            if found is not None and self.version not in (None, found.version):
                raise ConflictError("expected the version that was read before, got another", key=self.name)
            return found
        found = self.client.get(self.name, self._rest(self.broken), self.broken.version)
        # Not every service obeys the condition.
        if found is None or found.version != self.broken.version:
            raise ConflictError("the value was replaced while it was read", key=self.name)
        return found._replace(checksum=self.broken.checksum)

    def _rest(self, broken: Found) -> Span:
        begin, end = (self.span or Span(0)).within(broken.nbytes)
        return Span(begin + len(self.received), end)

    def _keep(self, found: Found) -> None:
        self.received += found.value
        if self.broken is None:
            self.broken = found
        begin, end = (self.span or Span(0)).within(self.broken.nbytes)
        if len(self.received) >= end - begin:
            # All of it came, and more was promised: this cannot be resumed.
            self._forget()

    def _forget(self) -> None:
        self.received.clear()
        self.broken = None

    def _checked(self, found: Found | None) -> Found | None:
        if found is None:
            return None
        begin, end = (self.span or Span(0)).within(found.nbytes)
        missing = end - begin - len(self.received) - len(found.value)
        if missing > 0:
            raise BrokenBodyError(
                f"expected {missing} more bytes in the answer", found=found, key=self.name, code="cut_body"
            )
        if missing < 0:
            self._forget()
            raise UnavailableError(
                f"expected {-missing} fewer bytes in the answer", key=self.name, code="broken_answer"
            )
        if self.received:
            self.received += found.value
            found = found._replace(value=bytes(self.received))
        self._verify(found)
        return found

    def _verify(self, found: Found) -> None:
        if found.checksum is None or len(found.value) != found.nbytes:
            return
        computed = checksum_of(found.checksum.algorithm, found.value)
        if computed == found.checksum.value:
            return
        self._forget()
        self.n_mismatches += 1
        message = f"{found.checksum.algorithm}: expected {found.checksum.value.hex()}, got {computed.hex()}"
        if self.n_mismatches == MAX_MISMATCHES:
            raise ChecksumError(message, key=self.name, code="checksum", hint="Write the value again.")
        raise UnavailableError(message, key=self.name, code="broken_answer", hint="Bytes change on the way: use TLS.")
