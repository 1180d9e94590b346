"""What the answers of Google Cloud Storage, and the failures of google-auth, mean."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import NamedTuple

import google.auth.exceptions

from zarrcy.errors import PermissionDeniedError, StoreError, ThrottledError, UnavailableError
from zarrcy.stores.service_errors import Meaning, connection_error, retry_after, status_error

__all__ = ["NO_BUCKET", "SERVICE", "Words", "answer_error", "auth_error", "words_of"]

SERVICE = "Google Cloud Storage"
# Of the service's message when there is no such bucket.
NO_BUCKET = "bucket does not exist"

_ROLES = (
    "Reading needs roles/storage.objectViewer on the bucket, writing roles/storage.objectUser: objectCreator cannot "
    "overwrite."
)
_BUCKET = Meaning(StoreError, "no_bucket", "Check the bucket's name, and the endpoint; zarrcy makes no buckets.")
_BUSY = Meaning(ThrottledError, "throttled", "An object takes one write a second, a new bucket 1,000: try again later.")
_BY_REASON = {
    "rateLimitExceeded": _BUSY,
    "userRateLimitExceeded": _BUSY,
    "userProjectMissing": Meaning(StoreError, "no_project", "Whoever asks pays for this bucket: give project=."),
    "billingNotEnabled": Meaning(PermissionDeniedError, "billing", "Enable billing for the project of the bucket."),
    "retentionPolicyNotMet": Meaning(PermissionDeniedError, "retention", "The bucket's retention policy forbids it."),
}

# Tokens, keys and signatures; the longest word of a message is shorter.
_SECRET = re.compile(r"[\w+/=.~-]{60,}")
# What the XML API says of an error.
_FIELD = re.compile("<(Code|Message|Details)>([^<]*)</")


class Words(NamedTuple):
    """What an answer says: a word for programs and a message, both empty when it says nothing of its own."""

    reason: str
    message: str


def words_of(body: bytes) -> Words:
    """What the body of an answer says: JSON, XML, or the one line that a download has; a proxy's page says nothing.

    Examples
    --------
    >>> from zarrcy.stores.gcs_errors import words_of
    >>> words_of(b'{"error": {"code": 403, "message": "No.", "errors": [{"reason": "forbidden"}]}}')
    Words(reason='forbidden', message='No.')
    """
    text = body.decode("utf-8", "replace").strip()
    fields = {name: unescape(value) for name, value in _FIELD.findall(text)} if "<Error>" in text else {}
    if "Code" in fields:
        return Words(fields["Code"], fields.get("Details") or fields.get("Message", ""))
    try:
        error = json.loads(text)["error"]
        reasons = [str(each["reason"]) for each in error.get("errors", ())]
        return Words(reasons[0] if reasons else "", str(error["message"]))
    except (ValueError, LookupError, TypeError, AttributeError):
        return Words("", "" if "<" in text or "\n" in text else text)


def answer_error(status: int, words: Words, *, asked_to_wait: str | None, source: str, store: str) -> StoreError:
    """The error of a store for an answer that is none of success.

    Parameters
    ----------
    status : int
        The HTTP status.
    words : Words
        What it says.
    asked_to_wait : str or None
        The header ``Retry-After``.
    source : str
        Which credentials the request had.
    store : str
        URL of the store.
    """
    text = ": ".join(part for part in words if part)
    # The XML API begins the same words with a capital.
    meaning = _BY_REASON.get(words.reason[:1].lower() + words.reason[1:])
    if meaning is None and status in (400, 401, 403) and "expired" in text.lower():
        hint = f"Renew {source}."
        meaning = Meaning(PermissionDeniedError, "expired", hint)
    if meaning is None and status == 400 and "crc32c" in text.lower():
        meaning = Meaning(UnavailableError, "broken_request", "Bytes change on the way: use TLS.")
    if meaning is None and status == 401:
        meaning = Meaning(PermissionDeniedError, "unauthorized", f"Check {source}.")
    if meaning is None and status == 403:
        meaning = Meaning(PermissionDeniedError, "forbidden", f"{_ROLES} The request had {source}.")
    if meaning is None and status == 404 and NO_BUCKET in words.message:
        meaning = _BUCKET
    if meaning is None and 300 <= status < 400:
        meaning = Meaning(StoreError, "redirect", "The service never redirects: check the endpoint, and the proxy.")
    return status_error(SERVICE, status, text, store=store, meaning=meaning, wait=retry_after(asked_to_wait))


def auth_error(error: google.auth.exceptions.GoogleAuthError, *, source: str, store: str) -> StoreError:
    """The error of a store for credentials that give no token. What the exception holds beside its text is dropped.

    Parameters
    ----------
    error : GoogleAuthError
        What google-auth raised.
    source : str
        Which credentials these are.
    store : str
        URL of the store.
    """
    exceptions = google.auth.exceptions
    if isinstance(error, (exceptions.TransportError, exceptions.TimeoutError)):
        failed = connection_error("Google's token service", error, store=store)
        # Without a token nothing was asked of the bucket.
        failed.code = "unreachable"
        return failed
    text = _SECRET.sub("***", str(error.args[0] if error.args else "")).strip()[:200]
    message = f"expected a token for {source}, got {type(error).__name__}" + (f": {text}" if text else "")
    if error.retryable:
        return UnavailableError(
            message, store=store, code="unreachable", hint="Google's token service fails: try later."
        )
    if isinstance(error, exceptions.InvalidOperation):
        hint = "The service wants credentials, and there are none: give credentials=."
    else:
        hint = "The key may be deleted, disabled or expired, or the clock wrong: make a new key, or log in again."
    return PermissionDeniedError(message, store=store, code="unauthorized", hint=hint)
