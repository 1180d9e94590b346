"""What the answers and the silence of a web service mean: statuses and broken connections as errors of stores."""

from __future__ import annotations

import email.utils
import socket
import ssl
import time
from collections.abc import Iterator
from typing import NamedTuple

from zarrcy.errors import (
    ConflictError,
    PermissionDeniedError,
    StoreError,
    ThrottledError,
    UnavailableError,
)

__all__ = ["Meaning", "connection_error", "retry_after", "status_error"]


class Meaning(NamedTuple):
    """What an answer is: the class of the error, its ``code``, and what to do about it."""

    kind: type[StoreError]
    code: str
    hint: str | None = None


_LATER = "Nothing is wrong with the request: try again later, or with a longer deadline."
_BY_STATUS = {
    400: Meaning(StoreError, "bad_request", "Check the options of the store."),
    401: Meaning(PermissionDeniedError, "unauthorized", "Check the credentials."),
    403: Meaning(PermissionDeniedError, "forbidden", "Check the credentials, and what they may do."),
    404: Meaning(
        StoreError,
        "not_found",
        "The answer does not say that the key is absent: check the endpoint, and that the container exists.",
    ),
    407: Meaning(PermissionDeniedError, "proxy", "The proxy on the way asks for credentials."),
    408: Meaning(UnavailableError, "timeout", _LATER),
    409: Meaning(ConflictError, "conflict"),
    410: Meaning(StoreError, "gone", "Check the endpoint and the container: the service says that they were removed."),
    412: Meaning(ConflictError, "conflict"),
    416: Meaning(StoreError, "bad_range", "The service refuses the range of bytes."),
    429: Meaning(ThrottledError, "throttled", _LATER),
    503: Meaning(ThrottledError, "throttled", _LATER),
}

_SLOW = "it did not answer in time"
_SILENCES: list[tuple[type[BaseException], str, str, str]] = [
    (socket.gaierror, "name_lookup", "its name cannot be looked up", "Check the endpoint, and the network."),
    (
        ssl.SSLCertVerificationError,
        "certificate",
        "its certificate is not trusted",
        "Check the endpoint and the clock; name the file of a private authority as the package of the service asks.",
    ),
    (ssl.SSLEOFError, "connection_lost", "the connection was lost within TLS", _LATER),
    (ssl.SSLError, "tls", "TLS failed", "Check the certificate, the clock, and https:// in the endpoint."),
    (ConnectionRefusedError, "unreachable", "the connection was refused", "Is it running, at this endpoint?"),
    (TimeoutError, "timeout", _SLOW, _LATER),
]


def status_error(
    service: str,
    status: int,
    text: str,
    *,
    store: str,
    key: str | None = None,
    meaning: Meaning | None = None,
    wait: float | None = None,
) -> StoreError:
    """The error of a store for an answer that is none of success.

    Parameters
    ----------
    service : str
        Who answered, such as ``"S3"``.
    status : int
        The HTTP status.
    text : str
        What the service says: its code and message, without secrets.
    store, key
        As of `zarrcy.ZarrcyError`.
    meaning : Meaning, optional
        What this answer is where the service says more than the status.
    wait : float, optional
        The seconds that the service asks to wait.

    Examples
    --------
    >>> from zarrcy.stores.service_errors import status_error
    >>> status_error("S3", 429, "SlowDown", store="s3://bucket")
    ThrottledError('expected success, S3 answered 429: SlowDown')
    """
    if meaning is None:
        meaning = _BY_STATUS.get(status)
    if meaning is None:
        failed = Meaning(UnavailableError, "unavailable", _LATER)
        meaning = failed if status >= 500 else Meaning(StoreError, f"status_{status}")
    words = " ".join(text.split())[:400]
    message = f"expected success, {service} answered {status}" + (f": {words}" if words else "")
    if meaning.kind is ThrottledError:
        return ThrottledError(message, retry_after=wait, store=store, key=key, code=meaning.code, hint=meaning.hint)
    return meaning.kind(message, store=store, key=key, code=meaning.code, hint=meaning.hint)


def retry_after(header: str | None) -> float | None:
    """The seconds that a header ``Retry-After`` asks for (RFC 9110, section 10.2.3); ``None`` without one.

    Examples
    --------
    >>> from zarrcy.stores.service_errors import retry_after
    >>> retry_after("7")
    7.0
    """
    if not header:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        moment = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(moment.timestamp() - time.time(), 0.0)


def connection_error(service: str, error: BaseException, *, store: str, key: str | None = None) -> UnavailableError:
    """The error of a store for a request that got no whole answer.

    What was raised is searched for its reason; its text, which may show signed URLs and headers, is not repeated.
    """
    code, what, hint = _silence(error)
    return UnavailableError(f"expected an answer of {service}: {what}", store=store, key=key, code=code, hint=hint)


def _silence(error: BaseException) -> tuple[str, str, str]:
    reasons = list(_reasons(error))
    for kind, code, what, hint in _SILENCES:
        if any(isinstance(reason, kind) for reason in reasons):
            return code, what, hint
    if any("timeout" in type(reason).__name__.lower() for reason in reasons):
        return "timeout", _SLOW, _LATER
    return "connection_lost", f"the connection was lost ({type(error).__name__})", _LATER


def _reasons(error: BaseException) -> Iterator[BaseException]:
    """An error and all that it came from: packages keep the reason in the arguments, attributes and causes."""
    waiting: list[BaseException] = [error]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        kept = (each.__cause__, each.__context__, getattr(each, "reason", None), getattr(each, "inner_exception", None))
        waiting.extend(value for value in (*kept, *each.args) if isinstance(value, BaseException))
