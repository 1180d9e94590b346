"""What S3 answers: its XML, its errors, and what they mean for a store."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from html import unescape
from typing import NamedTuple
from urllib.parse import unquote_plus
from xml.etree import ElementTree
from xml.parsers import expat

from zarrcy.errors import (
    ConflictError,
    PermissionDeniedError,
    StoreError,
    ThrottledError,
    UnavailableError,
)
from zarrcy.stores.object_client import Checksum, Page
from zarrcy.stores.service_errors import Meaning, retry_after, status_error

__all__ = ["Refusal", "checksum_in", "deletion_refusals", "page_in", "range_in", "refusal_in"]

ACCESS_HINT = (
    "Check that the policy allows s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket; that the bucket is "
    "the right one (aws s3 ls s3://BUCKET); and region=. Without s3:ListBucket this is what S3 says of an absent key."
)
_REDIRECT = "The answer is not of S3, or of another address: check the endpoint, and what stands on the way to it."
_REGION_HINT = "Give the region of the bucket as region=, or in AWS_REGION."
_AGAIN = "Nothing is wrong with the request: try again later, or with a longer deadline."

_DENIED, _THROTTLED, _FAILED = PermissionDeniedError, ThrottledError, UnavailableError
# By the code in the body, where it says more than the status.
_MEANINGS = {
    "NoSuchBucket": Meaning(StoreError, "no_bucket", "Create the bucket, or correct its name or the endpoint."),
    "NoSuchKey": Meaning(StoreError, "no_key"),
    "AccessDenied": Meaning(_DENIED, "access_denied", ACCESS_HINT),
    "AllAccessDisabled": Meaning(_DENIED, "access_denied", ACCESS_HINT),
    "InvalidAccessKeyId": Meaning(_DENIED, "unknown_access_key", "Check AWS_ACCESS_KEY_ID, or the profile."),
    "SignatureDoesNotMatch": Meaning(_DENIED, "wrong_secret", "Check AWS_SECRET_ACCESS_KEY, or the profile."),
    "ExpiredToken": Meaning(_DENIED, "expired_token", "Log in again, or give credentials= a callable."),
    "TokenRefreshRequired": Meaning(_DENIED, "expired_token", "Log in again, or give credentials= a callable."),
    "InvalidToken": Meaning(_DENIED, "invalid_token", "Check AWS_SESSION_TOKEN: it belongs to one access key."),
    "RequestTimeTooSkewed": Meaning(_DENIED, "clock", "Set the clock of this machine: it is off by minutes."),
    "AuthorizationHeaderMalformed": Meaning(StoreError, "wrong_region", _REGION_HINT),
    "IllegalLocationConstraintException": Meaning(StoreError, "wrong_region", _REGION_HINT),
    "PermanentRedirect": Meaning(StoreError, "wrong_region", _REGION_HINT),
    "TemporaryRedirect": Meaning(StoreError, "wrong_region", _REGION_HINT),
    "InvalidObjectState": Meaning(StoreError, "archived", "Restore the object from its archive first."),
    "InvalidStorageClass": Meaning(StoreError, "bad_option", "Check storage_class=."),
    "InvalidBucketName": Meaning(StoreError, "bad_bucket", "Check the name of the bucket."),
    "KeyTooLongError": Meaning(StoreError, "key_too_long", "S3 takes 1024 bytes, prefix included."),
    "EntityTooLarge": Meaning(StoreError, "too_large", "S3 takes 5 GB in one request: make chunks or shards smaller."),
    "SlowDown": Meaning(_THROTTLED, "throttled", _AGAIN),
    "SlowDownRead": Meaning(_THROTTLED, "throttled", _AGAIN),
    "SlowDownWrite": Meaning(_THROTTLED, "throttled", _AGAIN),
    "RequestLimitExceeded": Meaning(_THROTTLED, "throttled", _AGAIN),
    "Throttling": Meaning(_THROTTLED, "throttled", _AGAIN),
    "TooManyRequests": Meaning(_THROTTLED, "throttled", _AGAIN),
    "RequestTimeout": Meaning(_FAILED, "timeout", _AGAIN),
    "InternalError": Meaning(_FAILED, "unavailable", _AGAIN),
    "OperationAborted": Meaning(_FAILED, "unavailable", _AGAIN),
    "IncompleteBody": Meaning(_FAILED, "broken_request", "Bytes were lost on the way."),
    "BadDigest": Meaning(_FAILED, "broken_request", "Bytes changed on the way: use TLS."),
    "XAmzContentSHA256Mismatch": Meaning(_FAILED, "broken_request", "Bytes changed on the way: use TLS."),
    "XAmzContentChecksumMismatch": Meaning(_FAILED, "broken_request", "Bytes changed on the way: use TLS."),
    "PreconditionFailed": Meaning(ConflictError, "conflict"),
    "ConditionalRequestConflict": Meaning(ConflictError, "conflict"),
}
# Where a body is missing, as in the answer to a bucket of another region.
_BY_STATUS = {
    301: _MEANINGS["PermanentRedirect"],
    307: _MEANINGS["TemporaryRedirect"],
    302: Meaning(StoreError, "redirect", _REDIRECT),
    303: Meaning(StoreError, "redirect", _REDIRECT),
    308: Meaning(StoreError, "redirect", _REDIRECT),
    403: Meaning(_DENIED, "access_denied", ACCESS_HINT),
}


class Refusal(NamedTuple):
    """An answer that is none of success.

    Attributes
    ----------
    status : int
        The HTTP status.
    code, message : str
        What S3 says; both empty when the answer is not of S3.
    region : str
        Where the bucket is, if the answer says so.
    request : str
        What AWS finds the request by.
    wait : float or None
        The seconds to wait.
    nbytes : int or None
        The length of the object, of which the range that was asked for is no part.
    """

    status: int
    code: str
    message: str
    region: str
    request: str
    wait: float | None = None
    nbytes: int | None = None

    @property
    def is_absence(self) -> bool:
        """There is no such object, and the bucket is there."""
        return self.status == 404 and self.code == "NoSuchKey"

    def error(self, store: str) -> StoreError:
        """As an error of a store."""
        meaning = _MEANINGS.get(self.code, _BY_STATUS.get(self.status) if not self.code else None)
        if meaning is not None and meaning.code == "wrong_region" and self.region:
            meaning = meaning._replace(hint=f"The bucket is in {self.region}: give region={self.region!r}.")
        text = f"{self.code}: {self.message}" if self.code else ""
        if self.code and self.request:
            text += f" (request {self.request})"
        return status_error("S3", self.status, text, store=store, meaning=meaning, wait=self.wait)


def refusal_in(status: int, headers: Mapping[str, str], body: bytes) -> Refusal:
    """The refusal of an answer."""
    root = _root(body)
    fields = _fields(root) if root is not None and _tag(root) == "Error" else {}
    named = range_in(headers.get("Content-Range"))
    length = fields.get("ActualObjectSize", "")
    return Refusal(
        status,
        fields.get("Code", ""),
        fields.get("Message", ""),
        headers.get("x-amz-bucket-region") or fields.get("Region", ""),
        headers.get("x-amz-request-id") or "",
        retry_after(headers.get("Retry-After")),
        int(length) if length.isdecimal() else named and named[2],
    )


def page_in(body: bytes) -> Page | None:
    """The listing of an answer; ``None`` when it is none.

    A tree of its elements would take most of the time of a listing: that it is well formed is all that is asked of the
    parser, and the texts are looked for.

    Examples
    --------
    >>> from zarrcy.stores.s3_answers import page_in
    >>> page_in(b"<ListBucketResult><Contents><Key>a/b</Key></Contents></ListBucketResult>")
    Page(names=['a/b'], folders=[], token=None)
    """
    if not _LISTING.match(body) or b"<!" in body:
        return None  # none that S3 writes has comments, CDATA or declarations, in which a text would be another
    try:
        expat.ParserCreate().Parse(body, True)
        text = body.decode("utf-8")
    except (expat.ExpatError, LookupError, ValueError):
        return None
    names, folders = _KEY.findall(text), _FOLDER.findall(text)
    if "&" in text:
        names, folders = list(map(unescape, names)), list(map(unescape, folders))
    fields = {name: unescape(value) for name, value in _FIELD.findall(text)}
    if fields.get("EncodingType") == "url":
        names, folders = list(map(unquote_plus, names)), list(map(unquote_plus, folders))
    if fields.get("IsTruncated") != "true":
        return Page(names, folders, None)
    token = fields.get("NextContinuationToken")
    return Page(names, folders, token) if token else None


def deletion_refusals(body: bytes) -> list[Refusal] | None:
    """What could not be deleted of several; ``None`` when the answer is none to a deletion."""
    root = _root(body)
    if root is None:
        return None
    if _tag(root) == "Error":
        return [refusal_in(500, {}, body)]
    if _tag(root) != "DeleteResult":
        return None
    failed = [_fields(child) for child in root if _tag(child) == "Error"]
    return [
        Refusal(
            403 if each.get("Code") == "AccessDenied" else 500,
            each.get("Code", ""),
            each.get("Message", ""),
            "",
            "",
        )
        for each in failed
        if each.get("Code") != "NoSuchKey"
    ]


_LISTING = re.compile(rb"\s*(?:<\?xml[^>]*\?>)?\s*<ListBucketResult[\s>]")
_KEY = re.compile("<Key>([^<]*)</Key>")
_FOLDER = re.compile(r"<CommonPrefixes>\s*<Prefix>([^<]*)</Prefix>")
_FIELD = re.compile("<(EncodingType|IsTruncated|NextContinuationToken)>([^<]*)</")
_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)")


def range_in(header: str | None) -> tuple[int, int, int] | None:
    """The begin, the end and the length of the whole that a header ``Content-Range`` names.

    Examples
    --------
    >>> from zarrcy.stores.s3_answers import range_in
    >>> range_in("bytes 2-5/9"), range_in("bytes */9")
    ((2, 6, 9), (9, 9, 9))
    """
    match = _RANGE.fullmatch(header or "")
    if match is None:
        return None
    n = int(match[3])
    return (n, n, n) if match[1] is None else (int(match[1]), int(match[2]) + 1, n)


def checksum_in(headers: Mapping[str, str]) -> Checksum | None:
    """The checksum of the whole object, if the answer has one that is known here."""
    if headers.get("x-amz-checksum-type", "FULL_OBJECT") != "FULL_OBJECT":
        return None
    for algorithm in ("crc32c", "crc32"):
        text = headers.get(f"x-amz-checksum-{algorithm}")
        if text is None:
            continue
        try:
            value = base64.b64decode(text, validate=True)
        except binascii.Error:
            continue  # of the parts of an upload: it ends in their number
        if len(value) == 4:
            return Checksum(algorithm, value)
    return None


def _root(body: bytes) -> ElementTree.Element | None:
    try:
        return ElementTree.fromstring(body)
    except (ElementTree.ParseError, LookupError, ValueError):
        return None


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _fields(element: ElementTree.Element) -> dict[str, str]:
    return {_tag(child): child.text or "" for child in element}
