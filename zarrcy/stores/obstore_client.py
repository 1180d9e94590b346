"""`ObstoreClient`: a service through the package obstore, whose requests run in Rust beside the GIL.

Its runtime of threads does not survive a fork: a child whose parent has used it gets a clear error, instead of a wait
without end.
"""

from __future__ import annotations

import os
import re
import threading
import weakref
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from zarrcy.errors import ConflictError, StoreError, UnavailableError
from zarrcy.stores.catalogue import require
from zarrcy.stores.object_client import Checksum, Condition, Found, ObjectClient, Page, Span
from zarrcy.stores.object_reads import checksum_of
from zarrcy.stores.store import Buffer

__all__ = ["INSTALL", "ObstoreClient", "PairedClient", "Refused", "certificates", "client_options"]

INSTALL = "zarrcy[obstore]"

LISTED = 1000
# To connect, and for a whole answer.
CONNECT_TIMEOUT, TIMEOUT = "10s", "60s"
# How long obstore keeps a credential before it asks for it again; the SDK refreshes it when it has to.
KEPT = timedelta(minutes=1)
# Credentials that a request is tried again with: the one that the SDK has by now, and, if that is refused, a new one.
RENEWALS = 2

# How obstore puts the answer of a service into its errors.
_ANSWER = re.compile(r"non-2xx status code: (\d{3})[^:]*:(.*?)(?:\n\nDebug source|\Z)", re.S)
_LATER = "Nothing is wrong with the request: try again later, or with a longer deadline."
_OTHER = "Check the endpoint, and what stands between it and this machine."
_SILENCES = [
    ("refused", "unreachable", "the connection was refused", "Is it running, at this endpoint?"),
    ("dns error", "name_lookup", "its name cannot be looked up", "Check the endpoint, and the network."),
    ("certificate", "certificate", "its certificate is not trusted", "Check the endpoint, and the clock."),
    ("timedout", "timeout", "it did not answer in time", _LATER),
    ("timed out", "timeout", "it did not answer in time", _LATER),
    ("header missing", "broken_answer", "an object has other headers", _OTHER),
    ("non-partial", "broken_answer", "it answered a request for a part with the status of a whole value", _OTHER),
    ("content_range", "broken_answer", "it sent another range than was asked for", _OTHER),
    ("content-range", "broken_answer", "it sent another range than was asked for", _OTHER),
]

# What it makes of answers of success in which no byte is: emulators of GCS and Azure give them in the place of 416.
_EMPTY = re.compile(r'CONTENT_RANGE header: "bytes 0--1/0"|Wanted range starting at \d+, but object was only')
_CRC32C = re.compile("[0-9a-f]{8}")

# The process that has used obstore.
_user: int | None = None


class Refused(NamedTuple):
    """An answer that is none of success, as the module of the service reads it.

    Attributes
    ----------
    status : int
        The HTTP status.
    error : StoreError
        What it means.
    is_absence : bool
        There is no such object.
    is_denial : bool
        The service does not take the credential.
    text : str
        What the service says.
    """

    status: int
    error: StoreError
    is_absence: bool = False
    is_denial: bool = False
    text: str = ""


class _Given:
    """The credential that a store of obstore was given last, which it keeps for a while."""

    last: Any = None


class _Opened(NamedTuple):
    """A store of obstore, and what it was given. What gives must not keep the store, which no collector looks into."""

    store: Any
    given: _Given


class ObstoreClient(ObjectClient):
    """One container, as obstore opens it.

    Parameters
    ----------
    service : str
        Its name in messages.
    url : str
        Where it is, without secrets.

    Attributes
    ----------
    writer, crc32c : str
        The names of metadata that an object has.
    attributes : dict
        What else is written with it, by the names of obstore.
    """

    batch = 1000
    writer, crc32c = "zarrcy-writer", "zarrcy-crc32c"

    def __init__(self, service: str, url: str) -> None:
        self._obstore = require("obstore", INSTALL)
        self.service = service
        self.url = url
        self.attributes = {"Content-Type": "application/octet-stream"}
        self._check_process()
        # Errors of who is asked for credentials, which obstore hides.
        self._denials: list[StoreError] = []
        self._opening = threading.Lock()
        self._opened = self._open()

    # ---- what a service adds

    @abstractmethod
    def _make(self, provide: Callable[[], dict[str, Any]]) -> Any:
        """Obstore's own store; it asks `provide` for credentials."""

    @abstractmethod
    def _credential(self) -> tuple[Any, dict[str, Any]]:
        """The credential to use now, and what obstore is told of it."""

    @abstractmethod
    def _read(self, status: int, body: bytes, given: Any) -> Refused:
        """What an answer means that is none of success, to a request with the credential `given`."""

    def _version(self, described: Mapping[str, Any]) -> str:
        """The version of an object that obstore describes; empty when it has none."""
        return described["e_tag"] or ""

    def _mode(self, version: str) -> Any:
        """How obstore is told to replace this version alone."""
        return {"e_tag": version}

    def _confirm(self, name: str, refused: Refused) -> None:
        """Raise what is the matter, if an answer that says that an object is absent is not to be believed."""

    def _renew(self, given: Any) -> bool:
        """Whether there is another credential than this one, which the service does not take."""
        return False

    def _is_folder(self, attributes: Mapping[str, str]) -> bool:
        """Whether these are those of a folder, which some services have among the objects."""
        return False

    def _provide(self, given: _Given) -> dict[str, Any]:
        try:
            given.last, told = self._credential()
        except StoreError as error:
            self._denials.append(error)
            raise
        return {**told, "expires_at": datetime.now(UTC) + KEPT}

    def _open(self) -> _Opened:
        given = _Given()
        # Obstore keeps what it asks for credentials, and may not keep this client by it.
        method = weakref.WeakMethod(self._provide)

        def provide() -> dict[str, Any]:
            bound = method()
            assert bound is not None
            return bound(given)

        try:
            return _Opened(self._make(provide), given)
        except StoreError:
            raise
        except (self._obstore.exceptions.BaseError, OSError, ValueError) as error:
            name = type(error).__name__
        # Without its words: they may show a key.
        raise StoreError(
            f"expected a store of obstore, got {name}",
            store=self.url,
            code="bad_option",
            hint="It looks at the environment too: check the variables AWS_*, AZURE_* and GOOGLE_*; "
            "REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE must name a file here, no directory.",
        )

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

    def _options(self, version: str | None) -> dict[str, Any]:
        return {} if version is None else {"if_match": version}

    def get(self, name: str, span: Span | None, version: str | None) -> Found | None:
        options = self._options(version)
        if span is not None:
            options["range"] = _range(span)
        answer = self._find(name, options)
        if not isinstance(answer, Refused):
            return self._expected(answer, version)
        if answer.is_absence:
            self._confirm(name, answer)
            return self._expected(None, version)
        if span is None:
            raise answer.error
        # No byte lies in the range: the object is shorter, or empty.
        return self._expected(self.head(name), version)

    def _expected(self, found: Found | None, version: str | None) -> Found | None:
        if version is not None and (found is None or found.version != version):
            raise self._conflict()
        return found

    def _conflict(self) -> ConflictError:
        return ConflictError("expected the version that was read before, got another", store=self.url)

    def _find(self, name: str, options: dict[str, Any]) -> Found | Refused:
        answer: Found | Refused = self._do(lambda store: self._found(store, name, options), absent=True)
        return answer

    def _found(self, store: Any, name: str, options: dict[str, Any]) -> Found | Refused:
        result = self._obstore.get(store, name, options=options)
        meta, attributes = result.meta, result.attributes
        version = self._version(meta)
        if not version:
            raise self._broken(StoreError)
        if self._is_folder(attributes):
            return Refused(404, self._broken(StoreError), is_absence=True)
        value = memoryview(result.bytes())
        stored = attributes.get(self.crc32c, "")
        checksum = Checksum("crc32c", bytes.fromhex(stored)) if _CRC32C.fullmatch(stored) else None
        return Found(value, version, meta["size"], attributes.get(self.writer, ""), checksum)

    def _broken(self, kind: type[StoreError]) -> StoreError:
        what = f"expected an object, got an answer that is not of {self.service}"
        return kind(what, store=self.url, code="broken_answer", hint=_OTHER)

    def head(self, name: str) -> Found | None:
        # Not HEAD: its answers have no body, which would say whether the key or the bucket is absent.
        options = {"range": (0, 1)}
        answer = self._find(name, options)
        if isinstance(answer, Refused) and not answer.is_absence:
            # It is empty: no range lies in it.
            answer = self._find(name, {})
        if not isinstance(answer, Refused):
            return answer._replace(value=b"", checksum=None)
        if not answer.is_absence:
            raise answer.error
        self._confirm(name, answer)
        return None

    def put(self, name: str, value: Buffer, condition: Condition | None, writer: str) -> str:
        attributes = {**self.attributes, self.crc32c: checksum_of("crc32c", value).hex()}
        if writer:
            attributes[self.writer] = writer
        mode: Any = "overwrite"
        if condition is not None:
            mode = "create" if condition.version is None else self._mode(condition.version)

        def request(store: Any) -> str:
            made = self._obstore.put(store, name, bytes(value), attributes=attributes, mode=mode, use_multipart=False)
            return self._version(made)

        answer = self._do(request, absent=condition is not None)
        if isinstance(answer, Refused):
            self._confirm(name, answer)
            raise self._conflict()
        if not answer:
            raise self._broken(UnavailableError)
        return str(answer)

    def delete(self, name: str) -> None:
        self._do(lambda store: self._obstore.delete(store, name), absent=True)

    def delete_many(self, names: Sequence[str]) -> None:
        self._do(lambda store: self._obstore.delete(store, list(names)), absent=True)

    def list(self, prefix: str, token: str | None, *, by_folder: bool) -> Page:
        if by_folder:
            found: Any = self._do(lambda store: self._obstore.list_with_delimiter(store, prefix=prefix or None))
            return Page([each["path"] for each in found["objects"]], [f"{p}/" for p in found["common_prefixes"]], None)

        def request(store: Any) -> Any:
            pages = self._obstore.list(store, prefix=prefix or None, offset=token, chunk_size=LISTED)
            return next(iter(pages), [])

        names: Any = [each["path"] for each in self._do(request)]
        return Page(names, [], names[-1] if len(names) == LISTED else None)

    # ---- answers

    def _do(self, request: Callable[[Any], Any], *, absent: bool = False, renewals: int = RENEWALS) -> Any:
        """What a request returns; with `absent`, the refusal that says that there is no such object or range."""
        self._check_process()
        # What is about to end is exchanged here, while others go on with it: obstore would let all of them wait. And
        # who is denied one hears of it here, not another thread.
        self._credential()
        opened = self._opened
        given = opened.given.last
        try:
            return request(opened.store)
        except (self._obstore.exceptions.BaseError, OSError, ValueError) as error:
            if isinstance(error, StoreError):
                raise
            failure = self._denials.pop() if self._denials else self._failure(error, opened.given.last)
        if isinstance(failure, StoreError):
            raise failure
        refused = opened.given.last if given is None else given
        if failure.is_denial and renewals and self._renew(refused):
            with self._opening:
                # Another one, unless another thread has made it: obstore keeps the credential that was refused.
                if self._opened is opened or self._opened.given.last == refused:
                    self._opened = self._open()
            return self._do(request, absent=absent, renewals=renewals - 1)
        if absent and (failure.is_absence or failure.status == 416):
            return failure
        raise failure.error

    def _failure(self, error: Exception, given: Any) -> StoreError | Refused:
        """What an error of obstore means, of a request with the credential `given`."""
        text = str(error)
        match = _ANSWER.search(text)
        if match is not None:
            return self._read(int(match[1]), match[2].strip().encode(), given)
        if _EMPTY.search(text):
            return Refused(416, self._broken(UnavailableError))
        if isinstance(error, (self._obstore.exceptions.AlreadyExistsError, self._obstore.exceptions.PreconditionError)):
            return self._conflict()
        # Names of objects are in URLs and in quotes: they are no reasons.
        words = re.sub(r'https?://\S+|path: "[^"]*"', "", text).lower()
        code, what, hint = _silence(words, type(error).__name__)
        return UnavailableError(f"expected an answer of {self.service}: {what}", store=self.url, code=code, hint=hint)


class PairedClient(ObstoreClient):
    """Values are read and written through obstore, and listed and deleted by zarrcy's own client of the service.

    Obstore does not tell which of several objects could not be deleted, and pages of listings need parameters that not
    every server knows.

    Parameters
    ----------
    service : str
        As of `ObstoreClient`.
    url : str
        As of `ObstoreClient`.
    own : ObjectClient
        The client of the service.
    """

    def __init__(self, service: str, url: str, own: ObjectClient) -> None:
        self._own = own
        self.batch = own.batch
        super().__init__(service, url)

    def head(self, name: str) -> Found | None:
        return self._own.head(name)

    def delete(self, name: str) -> None:
        self._own.delete(name)

    def delete_many(self, names: Sequence[str]) -> None:
        self._own.delete_many(names)

    def list(self, prefix: str, token: str | None, *, by_folder: bool) -> Page:
        return self._own.list(prefix, token, by_folder=by_folder)

    def interrupt(self) -> None:
        self._own.interrupt()

    def close(self) -> None:
        self._own.close()


def client_options(endpoint: str, **more: Any) -> dict[str, Any]:
    """How obstore makes connections to an endpoint.

    Examples
    --------
    >>> from zarrcy.stores.obstore_client import client_options
    >>> client_options("https://example.com")["allow_http"]
    False
    """
    is_open = endpoint.startswith("http:")
    return {"allow_http": is_open, "connect_timeout": CONNECT_TIMEOUT, "timeout": TIMEOUT, **more}


def certificates() -> dict[str, Any]:
    """The option of obstore for the authorities that requests, on which the SDKs of GCS and Azure stand, is told of."""
    path = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    return {"root_certificate": Path(path).read_bytes()} if path else {}


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
