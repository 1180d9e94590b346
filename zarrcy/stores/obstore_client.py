"""`ObstoreClient`: a service through the package obstore, whose requests run in Rust beside the GIL.

Its runtime of threads does not survive a fork: a child whose parent has used it gets a clear error, instead of a wait
without end.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import Any

from zarrcy.errors import ConflictError, StoreError, UnavailableError
from zarrcy.stores.catalogue import require
from zarrcy.stores.object_client import Checksum, Condition, Found, ObjectClient, Page, Span
from zarrcy.stores.object_reads import checksum_of
from zarrcy.stores.s3_answers import Refusal
from zarrcy.stores.store import Buffer

__all__ = ["INSTALL", "ObstoreClient"]

INSTALL = "zarrcy[obstore]"

WRITER, CRC32C = "zarrcy-writer", "zarrcy-crc32c"
LISTED = 1000

# How obstore puts the answer of a service into its errors.
_ANSWER = re.compile(r"non-2xx status code: (\d{3})[^:]*:(.*?)(?:\n\nDebug source|\Z)", re.S)
_LATER = "Nothing is wrong with the request: try again later, or with a longer deadline."
_SILENCES = [
    ("refused", "unreachable", "the connection was refused", "Is it running, at this endpoint?"),
    ("dns error", "name_lookup", "its name cannot be looked up", "Check the endpoint, and the network."),
    ("certificate", "certificate", "its certificate is not trusted", "Check the endpoint, and the clock."),
    ("timed out", "timeout", "it did not answer in time", _LATER),
]

# The process that has used obstore.
_user: int | None = None


class ObstoreClient(ObjectClient):
    """One container, as obstore opens it.

    Parameters
    ----------
    service : str
        Its name in messages.
    url : str
        Where it is, without secrets.
    make : callable
        Makes obstore's own store; takes a list for errors of who is asked for credentials, which obstore hides.
    read : callable
        Takes the status and the body of an answer that is none of success.
    """

    batch = 1000

    def __init__(
        self, service: str, url: str, make: Callable[[list[StoreError]], Any], read: Callable[[int, bytes], Refusal]
    ) -> None:
        self._obstore = require("obstore", INSTALL)
        self.service = service
        self.url = url
        self._read = read
        self._check_process()
        self._denials: list[StoreError] = []
        self._store = make(self._denials)

    def _check_process(self) -> None:
        global _user
        if _user is None:
            _user = os.getpid()
        elif _user != os.getpid():
            raise StoreError(
                "expected a process that did not begin as a fork of one that uses obstore",
                store=self.url,
                code="fork",
                hint='Start processes by "spawn" or "forkserver", or leave engine="obstore" out.',
            )

    # ---- requests

    def get(self, name: str, span: Span | None, version: str | None) -> Found | None:
        options: dict[str, Any] = {} if version is None else {"if_match": version}
        if span is not None:
            options["range"] = _range(span)
        answer = self._find(name, options)
        if not isinstance(answer, Refusal):
            return answer
        if answer.is_absence:
            if version is None:
                return None
            raise ConflictError("expected the version that was read before, got none", store=self.url)
        if span is None:
            raise answer.error(self.url)
        # No byte lies in the range: the object is shorter, or empty.
        found = self.head(name)
        if found is not None and version not in (None, found.version):
            raise ConflictError("expected the version that was read before, got another", store=self.url)
        return found

    def _find(self, name: str, options: dict[str, Any]) -> Found | Refusal:
        answer: Found | Refusal = self._do(lambda: self._found(name, options), absent=True)
        return answer

    def _found(self, name: str, options: dict[str, Any]) -> Found:
        result = self._obstore.get(self._store, name, options=options)
        meta, attributes = result.meta, result.attributes
        if not meta["e_tag"]:
            raise StoreError(
                f"expected an object, got an answer that is not of {self.service}",
                store=self.url,
                code="broken_answer",
                hint="Check the endpoint, and what stands between it and this machine.",
            )
        value = memoryview(result.bytes())
        stored = attributes.get(CRC32C)
        checksum = Checksum("crc32c", bytes.fromhex(stored)) if stored else None
        return Found(value, meta["e_tag"], meta["size"], attributes.get(WRITER, ""), checksum)

    def head(self, name: str) -> Found | None:
        # Not HEAD: its answers have no body, which would say whether the key or the bucket is absent.
        options = {"range": (0, 1)}
        answer = self._find(name, options)
        if not isinstance(answer, Refusal):
            return answer._replace(value=b"", checksum=None)
        if answer.is_absence:
            return None
        # It is empty: no range lies in it.
        answer = self._find(name, {})
        if not isinstance(answer, Refusal):
            return answer._replace(value=b"", checksum=None)
        if answer.is_absence:
            return None
        raise answer.error(self.url)

    def put(self, name: str, value: Buffer, condition: Condition | None, writer: str) -> str:
        attributes = {"Content-Type": "application/octet-stream", CRC32C: checksum_of("crc32c", value).hex()}
        if writer:
            attributes[WRITER] = writer
        mode: Any = "overwrite"
        if condition is not None:
            mode = "create" if condition.version is None else {"e_tag": condition.version}

        def request() -> str:
            made = self._obstore.put(
                self._store, name, bytes(value), attributes=attributes, mode=mode, use_multipart=False
            )
            return str(made["e_tag"])

        answer = self._do(request, absent=condition is not None)
        if isinstance(answer, Refusal):
            raise ConflictError("expected the version that was read before, got none", store=self.url)
        return str(answer)

    def delete(self, name: str) -> None:
        self._do(lambda: self._obstore.delete(self._store, name), absent=True)

    def delete_many(self, names: Sequence[str]) -> None:
        self._do(lambda: self._obstore.delete(self._store, list(names)), absent=True)

    def list(self, prefix: str, token: str | None, *, by_folder: bool) -> Page:
        if by_folder:
            found: Any = self._do(lambda: self._obstore.list_with_delimiter(self._store, prefix=prefix or None))
            return Page([each["path"] for each in found["objects"]], [f"{p}/" for p in found["common_prefixes"]], None)

        def request() -> Any:
            pages = self._obstore.list(self._store, prefix=prefix or None, offset=token, chunk_size=LISTED)
            return next(iter(pages), [])

        names: Any = [each["path"] for each in self._do(request)]
        return Page(names, [], names[-1] if len(names) == LISTED else None)

    # ---- answers

    def _do(self, request: Callable[[], Any], *, absent: bool = False) -> Any:
        """What a request returns; with `absent`, the refusal that says that there is no such object or range."""
        self._check_process()
        try:
            return request()
        except (self._obstore.exceptions.BaseError, OSError, ValueError) as error:
            if isinstance(error, StoreError):
                raise
            failure = self._denials.pop() if self._denials else self._failure(error)
        if isinstance(failure, StoreError):
            raise failure
        if absent and (failure.is_absence or failure.status == 416):
            return failure
        raise failure.error(self.url)

    def _failure(self, error: Exception) -> StoreError | Refusal:
        text = str(error)
        match = _ANSWER.search(text)
        if match is not None:
            return self._read(int(match[1]), match[2].strip().encode())
        if isinstance(error, (self._obstore.exceptions.AlreadyExistsError, self._obstore.exceptions.PreconditionError)):
            return ConflictError("expected the version that was read before, got another", store=self.url)
        # Names of objects are in URLs and in quotes: they are no reasons.
        words = re.sub(r'https?://\S+|path: "[^"]*"', "", text).lower()
        code, what, hint = _silence(words, type(error).__name__)
        return UnavailableError(f"expected an answer of {self.service}: {what}", store=self.url, code=code, hint=hint)


def _silence(text: str, name: str) -> tuple[str, str, str]:
    for word, *told in _SILENCES:
        if word in text:
            code, what, hint = told
            return code, what, hint
    return "connection_lost", f"the connection was lost ({name})", _LATER


def _range(span: Span) -> Any:
    if span.begin < 0:
        return {"suffix": -span.begin}
    return {"offset": span.begin} if span.end is None else (span.begin, span.end)
