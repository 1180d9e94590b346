"""`S3Client`: what the S3 store asks of the service, one signed request each.

Credentials, regions and endpoints are the SDK's, and so is the signature. The requests and the answers are not: for
1,000 keys its listing takes a tenth of a second of CPU time, and each of its calls three times that of one made here.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

import urllib3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.utils import get_environ_proxies

from zarrcy.errors import ConflictError, StoreError, UnavailableError
from zarrcy.stores.connections import Connections
from zarrcy.stores.object_client import BrokenBodyError, Condition, Found, ObjectClient, Page, Span
from zarrcy.stores.object_reads import checksum_of
from zarrcy.stores.s3_answers import Refusal, checksum_in, deletion_refusals, page_in, range_in, refusal_in
from zarrcy.stores.s3_credentials import Identity, Place
from zarrcy.stores.service_errors import connection_error
from zarrcy.stores.store import Buffer

__all__ = ["CONNECT_SECONDS", "READ_SECONDS", "S3Client"]

CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0

# What is read at once: a body that is reset in between loses no more than this.
PIECE_NBYTES = 4 << 20
# Of an answer that is not an object: a full listing has a third of it.
ANSWER_NBYTES = 16 << 20
LISTED = 1000

FIRST_BYTE = Span(0, 1)
WRITER = "x-amz-meta-zarrcy-writer"
EMPTY_SHA256 = hashlib.sha256().hexdigest()


class _Headers(dict[str, str]):
    """Headers of a request, which a traceback with the values of variables does not show: a token is among them."""

    def __repr__(self) -> str:
        return "<headers>"


class S3Client(ObjectClient):
    """One bucket.

    Parameters
    ----------
    place : Place
        Where it is.
    identity : Identity or None
        Who asks; ``None`` for nobody.
    certificates : str
        The file of the authorities that are trusted.
    storage_class : str, optional
        Of what is written.
    n_connections : int
        How many are kept.
    """

    batch = 1000

    def __init__(
        self, place: Place, identity: Identity | None, certificates: str, storage_class: str | None, n_connections: int
    ) -> None:
        self.place = place
        self._identity = identity
        self._storage_class = storage_class
        self._connections = Connections()
        self._pools = self._connections.of(_pools(place.base, certificates, n_connections))

    # ---- requests

    def get(self, name: str, span: Span | None, version: str | None) -> Found | None:
        # The checksum is that of the whole.
        headers = _Headers({"x-amz-checksum-mode": "ENABLED"} if span is None else {"Range": span.header})
        if version is not None:
            headers["If-Match"] = version
        answer = self._send("GET", self._url(name), headers)
        if answer.status in (200, 206):
            return self._found(answer, span)
        refusal = self._refusal(answer)
        if refusal.is_absence:
            if version is None:
                return None
            raise ConflictError("expected the version that was read before, got none", store=self.place.base)
        if refusal.code == "InvalidRange" and span is not None and span != FIRST_BYTE:
            return self._behind_the_end(name, span, version, refusal)
        if refusal.code == "InvalidRange" and span is not None:
            # It is empty, and the refusal does not say its version.
            return self.get(name, None, version)
        raise refusal.error(self.place.base)

    def _behind_the_end(self, name: str, span: Span, version: str | None, refusal: Refusal) -> Found | None:
        """What an object is of which no byte was asked for."""
        if span.begin < 0:
            try:
                return self.get(name, None, version)  # all of it: rclone refuses a suffix longer than the object
            except BrokenBodyError as error:
                # It may have grown since, and what came be no part of the suffix: it is not gone on with.
                failure = UnavailableError(error.message, store=error.store, code=error.code, hint=error.hint)
            raise failure
        found = self.get(name, None if refusal.nbytes == 0 else FIRST_BYTE, version)
        if found is None:
            return None
        begin, end = span.within(found.nbytes)
        if begin < end:
            raise self._broken("the object was replaced while it was read")
        return found._replace(value=b"", checksum=None)

    def head(self, name: str) -> Found | None:
        # Not HEAD: its answers have no body, which would say whether the key or the bucket is absent.
        found = self.get(name, FIRST_BYTE, None)
        return None if found is None else found._replace(value=b"", checksum=None)

    def put(self, name: str, value: Buffer, condition: Condition | None, writer: str) -> str:
        headers = _Headers({"Content-Type": "application/octet-stream"})
        headers["x-amz-checksum-crc32c"] = base64.b64encode(checksum_of("crc32c", value)).decode()
        if writer:
            headers[WRITER] = writer
        if self._storage_class is not None:
            headers["x-amz-storage-class"] = self._storage_class
        if condition is not None:
            headers |= {"If-None-Match": "*"} if condition.version is None else {"If-Match": condition.version}
        answer = self._send("PUT", self._url(name), headers, value)
        if answer.status == 200:
            self._read_all(answer)
            return self._etag(answer)
        refusal = self._refusal(answer)
        if condition is not None and (refusal.is_absence or refusal.status in (409, 412)):
            raise ConflictError("expected the version that was read before, got another", store=self.place.base)
        raise refusal.error(self.place.base)

    def delete(self, name: str) -> None:
        answer = self._send("DELETE", self._url(name), _Headers())
        if answer.status in (200, 204):
            self._read_all(answer)
            return
        refusal = self._refusal(answer)
        if not refusal.is_absence:
            raise refusal.error(self.place.base)

    def delete_many(self, names: Sequence[str]) -> None:
        objects = "".join(f"<Object><Key>{escape(name)}</Key></Object>" for name in names)
        body = f'<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Quiet>true</Quiet>{objects}</Delete>'.encode()
        digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        headers = _Headers({"Content-MD5": digest, "Content-Type": "application/xml"})
        answer = self._send("POST", f"{self._bucket_url}?delete", headers, body)
        if answer.status != 200:
            raise self._refusal(answer).error(self.place.base)
        refusals = deletion_refusals(self._read_all(answer))
        if refusals is None:
            raise self._not_of_s3("a deletion")
        for refusal in refusals:
            raise refusal.error(self.place.base)

    def list(self, prefix: str, token: str | None, *, by_folder: bool) -> Page:
        asked = {"list-type": "2", "encoding-type": "url", "max-keys": str(LISTED), "prefix": prefix}
        if token is not None:
            asked["continuation-token"] = token
        if by_folder:
            asked["delimiter"] = "/"
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in sorted(asked.items()))
        answer = self._send("GET", f"{self._bucket_url}?{query}", _Headers())
        if answer.status != 200:
            raise self._refusal(answer).error(self.place.base)
        page = page_in(self._read_all(answer))
        if page is None:
            raise self._not_of_s3("a listing")
        return page

    def interrupt(self) -> None:
        self._connections.break_off()

    def close(self) -> None:
        self._pools.clear()

    # ---- what a request is

    def _url(self, name: str) -> str:
        return self.place.base + quote(name, safe="/")

    @property
    def _bucket_url(self) -> str:
        scheme, _, rest = self.place.base.partition("://")
        host, _, path = rest.partition("/")
        return f"{scheme}://{host}/{path.rstrip('/')}"

    def _send(self, method: str, url: str, headers: _Headers, body: Buffer | None = None) -> urllib3.BaseHTTPResponse:
        """The answer, of which the head was read."""
        if self._identity is not None:
            self._sign(method, url, headers, body)
        try:
            answer: urllib3.BaseHTTPResponse = self._pools.urlopen(
                method,
                url,
                body=body,
                headers=headers,
                preload_content=False,
                decode_content=False,
                enforce_content_length=False,
                retries=False,
                redirect=False,
            )
            return answer
        except (urllib3.exceptions.HTTPError, OSError) as error:
            failure = connection_error("S3", error, store=self.place.base)
        # Not chained: the headers, and with them a token, are in the variables of its traceback.
        raise failure

    def _sign(self, method: str, url: str, headers: _Headers, body: Buffer | None) -> None:
        # Not by the signer's own method, which logs the token.
        assert self._identity is not None
        signer = S3SigV4Auth(self._identity.current(), self.place.service, self.place.region)
        headers["X-Amz-Date"] = stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        headers["X-Amz-Content-SHA256"] = _sha256(url, body)
        if signer.credentials.token:
            headers["X-Amz-Security-Token"] = signer.credentials.token
        request = AWSRequest(method, url, headers=headers)
        request.context["timestamp"] = stamp
        signature = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
        names = signer.signed_headers(signer.headers_to_sign(request))
        headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, SignedHeaders={names}, Signature={signature}"
        )

    # ---- what an answer is

    def _found(self, answer: urllib3.BaseHTTPResponse, span: Span | None) -> Found:
        headers = answer.headers
        named = range_in(headers.get("Content-Range"))  # rclone sends a part with status 200
        length = headers.get("Content-Length", "")
        if named is not None:
            begin, end, nbytes = named
            if (begin, end) != (span or Span(0)).within(nbytes):
                answer.close()
                raise self._broken(f"expected the bytes that were asked for, got {begin} to {end} of {nbytes}")
        elif answer.status == 200 and length.isdecimal():
            begin, nbytes = 0, int(length)
            end = nbytes
        else:
            answer.close()
            raise self._broken("expected an object and its length, got an answer without")
        found = Found(b"", self._etag(answer), nbytes, headers.get(WRITER) or "", checksum_in(headers))
        value, failure = self._body(answer, end - begin)
        is_whole = len(value) == end - begin
        if named is None and span is not None:
            # A service that knows no ranges.
            value = value[slice(*span.within(nbytes))]
        found = found._replace(value=value)
        if is_whole:
            return found
        raise BrokenBodyError(
            f"expected {end - begin} bytes in the answer, got fewer",
            found=found,
            store=self.place.base,
            code="cut_body" if failure is None else failure.code,
            hint="Nothing is wrong with the request: try again later, or with a longer deadline.",
        )

    def _body(self, answer: urllib3.BaseHTTPResponse, nbytes: int) -> tuple[bytes, StoreError | None]:
        """What comes of so many bytes, and why it is not all."""
        pieces: list[bytes] = []
        n = 0
        failure: StoreError | None = None
        try:
            while n < nbytes:
                piece = answer.read(min(PIECE_NBYTES, nbytes - n))
                if not piece:
                    break
                pieces.append(piece)
                n += len(piece)
            if nbytes == 0:
                answer.read()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            failure = connection_error("S3", error, store=self.place.base)
        _leave(answer)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces), failure

    def _etag(self, answer: urllib3.BaseHTTPResponse) -> str:
        etag = answer.headers.get("ETag")
        if not etag:
            answer.close()
            raise self._not_of_s3("an object")
        return str(etag)

    def _read_all(self, answer: urllib3.BaseHTTPResponse) -> bytes:
        """The body of a short answer."""
        length = answer.headers.get("Content-Length")
        failure: StoreError | None = None
        body = b""
        try:
            body = answer.read(ANSWER_NBYTES) if length != "0" else answer.read()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            failure = connection_error("S3", error, store=self.place.base)
        _leave(answer)
        if failure is None and length is not None and length != str(len(body)):
            failure = self._broken(f"expected {length} bytes in the answer, got {len(body)}")
        if failure is not None:
            raise failure
        return body

    def _refusal(self, answer: urllib3.BaseHTTPResponse) -> Refusal:
        return refusal_in(answer.status, answer.headers, self._read_all(answer))

    def _broken(self, message: str) -> UnavailableError:
        return UnavailableError(
            message,
            store=self.place.base,
            code="broken_answer",
            hint="Bytes change on the way, or what answers is not S3: use TLS, check the endpoint.",
        )

    def _not_of_s3(self, what: str) -> StoreError:
        return StoreError(
            f"expected {what}, got an answer that is not of S3",
            store=self.place.base,
            code="broken_answer",
            hint="Check the endpoint, and what stands between it and this machine.",
        )


def _leave(answer: urllib3.BaseHTTPResponse) -> None:
    """Give the connection back; it is closed when some of the answer was not read."""
    if not answer.closed:
        answer.close()
    answer.release_conn()


def _sha256(url: str, body: Buffer | None) -> str:
    """What the signature covers of a body. TLS guards it already, and its checksum is in the headers."""
    if body is None:
        return EMPTY_SHA256
    return "UNSIGNED-PAYLOAD" if url.startswith("https:") else hashlib.sha256(body).hexdigest()


def _pools(base: str, certificates: str, n_connections: int) -> urllib3.PoolManager:
    options: dict[str, Any] = {
        "maxsize": n_connections,
        "timeout": urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
        "ca_certs": certificates,
    }
    proxy = get_environ_proxies(base).get(base.partition(":")[0])
    return urllib3.PoolManager(**options) if proxy is None else urllib3.ProxyManager(proxy, **options)
