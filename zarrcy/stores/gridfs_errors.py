"""What pymongo raises, as the errors of stores."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from zarrcy.errors import OutcomeUnknownError, PermissionDeniedError, StoreError, ThrottledError, UnavailableError

__all__ = ["broken_answers", "is_lost", "is_poisoned", "is_transient", "store_error"]

# Codes of the server after which the same call may succeed: elections, shutdowns, time limits.
_TRANSIENT = {6, 7, 24, 89, 91, 112, 134, 189, 262, 9001, 10058, 10107, 11600, 11602, 13435, 13436}

# A cluster time whose signature is wrong, whose key is unknown, or that lies in the future.
_CLUSTER_TIME = {160, 204, 211}

_USER = "Check the user, the password and authSource in the URL."
_ROLE = "Give the user the role readWrite on this database."
_SPACE = "Free some space on the server; the old value is still there."
_PRIMARY = "Is a majority of the replica set up? A set without a primary can only be read."
_HOST = (
    "Check the host and port in the URL, and that the server runs and may be reached from here. One that wants TLS "
    "(tls=true), or another certificate, hangs up as well."
)
_NAME = "Check the host in the URL, and the name service of this machine."
_TLS = "Check the TLS options of the URL (tls, tlsCAFile, tlsCertificateKeyFile) against those of the server."

# Code of the server: the class, the code for programs, what to do about it.
_CODES: dict[int, tuple[type[StoreError], str, str]] = {
    13: (PermissionDeniedError, "unauthorized", _ROLE),
    18: (PermissionDeniedError, "authentication_failed", _USER),
    8000: (PermissionDeniedError, "authentication_failed", _USER),
    50: (UnavailableError, "time_limit", "The server is busy: try again, or raise the limits in the URL."),
    462: (ThrottledError, "overloaded", "The server is busy: ask for fewer things at once."),
    14031: (StoreError, "enospc", _SPACE),
}

_NAME_LOOKUP = re.compile(r"name or service not known|name resolution|nodename nor servname|getaddrinfo|DNS", re.I)
_TLS_FAILED = re.compile(r"\bSSL|certificate|TLS", re.I)


def broken_answers() -> tuple[type[Exception], ...]:
    """What pymongo raises when the bytes of an answer make no sense."""
    from struct import error as struct_error

    from bson.errors import BSONError
    from pymongo.errors import ProtocolError

    return (BSONError, ProtocolError, struct_error, KeyError, IndexError, UnicodeDecodeError)


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed a little later."""
    from pymongo import errors

    if isinstance(error, errors.ServerSelectionTimeoutError):
        return False  # it has waited already, and pymongo raises it only when nothing was sent
    if isinstance(error, (errors.AutoReconnect, errors.WaitQueueTimeoutError, errors.CursorNotFound)):
        return True
    if isinstance(error, errors.PyMongoError) and error.has_error_label("RetryableWriteError"):
        return True
    codes = {getattr(error, "code", None)}
    if isinstance(error, errors.BulkWriteError):
        details: Any = error.details or {}
        problems = [*details.get("writeErrors", ()), *details.get("writeConcernErrors", ())]
        codes = {each.get("code") for each in problems}
    return bool(codes & _TRANSIENT) or isinstance(error, broken_answers())


def is_lost(error: BaseException) -> bool:
    """Whether a write that failed so may have happened all the same."""
    from pymongo.errors import WriteConcernError

    return is_transient(error) or isinstance(error, WriteConcernError)


def is_poisoned(error: BaseException) -> bool:
    """Whether the client repeats a cluster time that came in with a flipped bit: the server refuses all it sends."""
    return getattr(error, "code", None) in _CLUSTER_TIME


def store_error(
    error: BaseException, url: str, key: str | None, secrets: Iterable[str], *, may_have_happened: bool = False
) -> StoreError:
    """The error of a store for what pymongo raised.

    Parameters
    ----------
    error : BaseException
        What was raised.
    url : str
        The URL of the store, without secrets.
    key : str or None
        The key that was asked for.
    secrets : iterable of str
        Texts that are cut out of the message.
    may_have_happened : bool, default False
        It was a write, or one before it was, whose answer is lost.

    Returns
    -------
    StoreError
        Or one of its subclasses.
    """
    kind, code, hint = _kind_of(error)
    if may_have_happened:
        kind, code = OutcomeUnknownError, "outcome_unknown"
        hint = "The write may or may not have happened: read the value to know."
    text = _text_of(error)
    for secret in secrets:
        text = text.replace(secret, "***")
    return kind(text, store=url, key=key, code=code, hint=hint)


def _text_of(error: BaseException) -> str:
    from pymongo import errors

    text = str(error)
    if isinstance(error, errors.OperationFailure):
        details = error.details or {}
        # The text of a bulk write holds the documents.
        problems = [*details.get("writeErrors", ()), *details.get("writeConcernErrors", ())]
        text = problems[0].get("errmsg", "") if problems else str(details.get("errmsg", text))
    elif isinstance(error, errors.ServerSelectionTimeoutError):
        text = text.partition(", Timeout:")[0]
    text = " ".join(text.split())
    name = type(error).__name__
    return f"expected an answer of MongoDB, got {name}: {text[:400]}" if text else f"got {name} from MongoDB"


def _kind_of(error: BaseException) -> tuple[type[StoreError], str, str]:
    from pymongo import errors

    text = str(error)
    number = getattr(error, "code", None)
    if number in _CODES:
        return _CODES[number]
    if isinstance(error, broken_answers()):
        return (
            UnavailableError,
            "broken_answer",
            "Something changes the bytes on the way: look for it, or use TLS.",
        )
    if isinstance(error, errors.ConnectionFailure):
        if _NAME_LOOKUP.search(text):
            return UnavailableError, "name_lookup", _NAME
        if _TLS_FAILED.search(text):
            return UnavailableError, "tls", _TLS
        if re.search("No primary|No replica set members (?:match|available)|not primary|not master", text, re.I):
            return UnavailableError, "no_primary", _PRIMARY
        return UnavailableError, "unreachable", _HOST
    if isinstance(error, (errors.ConfigurationError, ValueError, TypeError)):
        if _NAME_LOOKUP.search(text):
            return UnavailableError, "name_lookup", _NAME
        return StoreError, "bad_option", "Check the options of the URL."
    if isinstance(error, errors.InvalidName):
        return StoreError, "bad_name", "Check the names of the database and the bucket."
    if isinstance(error, (errors.WTimeoutError, errors.ExecutionTimeout)):
        return UnavailableError, "time_limit", _PRIMARY
    if isinstance(error, errors.DocumentTooLarge):
        return StoreError, "too_large", "Choose a shorter key."
    return StoreError, f"mongodb_{number}" if number else "mongodb", "See the log of the server."
