"""One container of Azure Blob Storage over azure-storage-blob: one HTTP request for each call.

Requests go through the pipeline of a `ContainerClient`, which signs them. Its own ways to read are not used:
``download_blob`` hides the headers, asks twice for an empty blob, and repeats bodies by itself.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import re
import threading
import weakref
from collections.abc import Mapping, Sequence
from html import unescape
from typing import Any, NamedTuple
from urllib.parse import quote, unquote
from xml.etree import ElementTree

from zarrcy.errors import ConflictError, StoreError, UnavailableError
from zarrcy.stores.azure_credentials import EXTRA, Credential, Source
from zarrcy.stores.azure_errors import REFUSALS, SERVICE, answer_error, raised_error
from zarrcy.stores.catalogue import require
from zarrcy.stores.connections import Connections
from zarrcy.stores.object_client import BrokenBodyError, Checksum, Condition, Found, ObjectClient, Page, Span
from zarrcy.stores.object_reads import checksum_of, last_bytes
from zarrcy.stores.service_errors import connection_error
from zarrcy.stores.store import Buffer

__all__ = ["AzureClient"]

# Seconds: to connect, and between two pieces of an answer.
CONNECT_TIMEOUT, READ_TIMEOUT = 10.0, 60.0
# Sockets that are kept: more than any store has requests in flight.
CONNECTIONS = 256
# What is read from a body at once: a body that breaks off loses what came of the last piece.
PIECE = 1 << 20
# Of an answer that is an error.
LONGEST_TEXT = 1 << 16
# Azure computes the checksum of a range up to here.
CHECKED_RANGE = 4 << 20

_CRC, _WRITER = "x-ms-meta-zarrcy_crc32c", "x-ms-meta-zarrcy_writer"
_ENTRY = re.compile(r"<(Blob|BlobPrefix)><Name>([^<]+)</Name>")
_BEGIN = re.compile(r"<Blob(?:Prefix)?[ />]")
_MARKER = re.compile(r"<NextMarker>([^<]*)</NextMarker>")
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(-?\d+)/(\d+)")


class AzureClient(ObjectClient):
    """A container, and what requests to it are signed with.

    Parameters
    ----------
    account, container : str
        Their names.
    endpoint : str
        The URL of the account.
    source : Source
        Where the credential comes from.
    access_tier : str, optional
        Of the blobs that are written.
    """

    batch = 256

    def __init__(self, account: str, container: str, endpoint: str, source: Source, access_tier: str | None) -> None:
        self.account = account
        self.container = container
        self.endpoint = endpoint
        self.url = f"az://{account}/{container}"
        self.access_tier = access_tier
        self._source = source
        self._signer: tuple[Credential, Any] | None = None
        self._for_clients: weakref.WeakKeyDictionary[Credential, Any] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        self._connections = Connections()
        self._transport = _transport(endpoint, self._connections)

    def interrupt(self) -> None:
        self._connections.break_off()

    def close(self) -> None:
        self._transport.session.close()

    # ---- requests

    def _container(self) -> tuple[Credential, Any]:
        """The credential that is used now, and a `ContainerClient` with it."""
        credential = self._source.current()
        signer = self._signer
        if signer is None or signer[0] is not credential:
            with self._lock:
                signer = self._signer = credential, self._connect(credential)
        return signer

    def check_transport(self, credential: Credential) -> None:
        """Raise if everyone on the way could read it."""
        if credential.kind == "token" and not self.endpoint.startswith("https:"):
            raise StoreError(
                "endpoint: expected https://, which identities need, got http://",
                store=self.url,
                code="bad_endpoint",
                hint="Give account_key or sas_token (AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN), or use https.",
            )

    def for_client(self, credential: Credential) -> Any:
        """What clients of this container take: one object, so that they fetch a token only once."""
        return self._for_clients.setdefault(credential, credential.for_client(self.account))

    def _connect(self, credential: Credential) -> Any:
        blob = require("azure.storage.blob", EXTRA)
        if credential.kind == "sas":
            _hide_signatures()
        self.check_transport(credential)
        return blob.ContainerClient(
            self.endpoint,
            self.container,
            credential=self.for_client(credential),
            transport=self._transport,
            # It would wait for 12 to 18 seconds before its first repetition, and follow redirects with the signature.
            retry_total=0,
            permit_redirects=False,
        )

    def _ask(self, method: str, path: str, headers: dict[str, str], body: Buffer | None = None) -> _Answer:
        """The answer to a request; when it is not an error, its body is not read yet."""
        answer = self._send(method, path, headers, body)
        if isinstance(answer, StoreError):
            raise answer
        if answer.word in REFUSALS and self._source.renew(answer.credential):
            return self._ask(method, path, headers, body)
        return answer

    def _send(self, method: str, path: str, headers: dict[str, str], body: Buffer | None) -> _Answer | StoreError:
        """As `_ask`. Errors are returned: a traceback from here would hold the signed request."""
        transport = require("azure.core.pipeline.transport", EXTRA)
        from azure.core.exceptions import AzureError

        kind = "token"
        try:
            credential, client = self._container()
            kind = credential.kind
            request = transport.HttpRequest(method, f"{self.endpoint}/{self.container}{path}", headers=dict(headers))
            if body is not None:
                request.set_bytes_body(body)
            response = client._pipeline.run(request, stream=True).http_response.internal_response
        except StoreError as error:
            return error.with_traceback(None)
        except AzureError as error:
            return raised_error(error, kind, store=self.url)
        failed = not 200 <= response.status_code < 300
        text = _text(response.raw) if failed else ""
        return _Answer(response.status_code, response.headers, response.raw, credential, text)

    def _error(self, answer: _Answer) -> StoreError:
        return answer_error(answer.status, answer.headers, answer.text, answer.credential.kind, store=self.url)

    def _blob(self, name: str) -> str:
        return "/" + quote(name, safe="~/")

    # ---- reading

    def get(self, name: str, span: Span | None, version: str | None) -> Found | None:
        if span is not None and span.begin < 0:
            return last_bytes(self.head, self.get, name, span, version)
        headers = {}
        if version is not None:
            headers["If-Match"] = version
        if span is not None:
            headers["x-ms-range"] = span.header
            if span.end is not None and span.end - span.begin <= CHECKED_RANGE:
                headers["x-ms-range-get-content-md5"] = "true"
        answer = self._ask("GET", self._blob(name), headers)
        if answer.status >= 300:
            return self._absent(answer, name, span, version)
        partial = answer.status == 206
        found = self._found(answer, span if partial else None)
        if found is None:
            return self._missing(version)
        whole = found._replace(value=self._body(answer, found))
        if partial or span is None:
            self._verify(whole, answer.headers if "x-ms-range-get-content-md5" in headers else {})
            return whole
        # It sent more than was asked for.
        begin, end = span.within(whole.nbytes)
        return whole._replace(value=memoryview(whole.value)[begin:end])

    def _missing(self, version: str | None) -> Found | None:
        """``None``, unless a version was asked for: that one is not there."""
        if version is None:
            return None
        raise ConflictError("expected the version that was read before, got another", store=self.url)

    def _absent(self, answer: _Answer, name: str, span: Span | None, version: str | None) -> Found | None:
        """What an answer means that may say that there is no such blob, or that the range lies behind its end."""
        if answer.word == "BlobNotFound":
            return self._missing(version)
        if answer.word == "InvalidRange" and span is not None:
            found = self.head(name)
            return found if found is not None and version in (None, found.version) else self._missing(version)
        raise self._error(answer)

    def head(self, name: str) -> Found | None:
        answer = self._ask("HEAD", self._blob(name), {})
        if answer.status >= 300:
            return self._absent(answer, name, None, None)
        answer.raw.drain_conn()
        return self._found(answer, None)

    def _found(self, answer: _Answer, span: Span | None) -> Found | None:
        """What the headers of an answer say of a blob; of a folder, which some accounts have, nothing."""
        headers = answer.headers
        version, length = headers.get("ETag"), headers.get("Content-Length") or ""
        match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range") or "")
        nbytes = int(length) if length.isdecimal() else None
        if span is not None or match is not None:
            nbytes = int(match[3]) if match is not None and span is not None and int(match[1]) == span.begin else None
        # A page of something on the way has no ETag of a blob.
        if not version or nbytes is None or "x-ms-request-id" not in headers:
            answer.raw.close()
            raise self._broken("the headers of a blob (ETag, length)")
        if headers.get("x-ms-meta-hdi_isfolder", "").lower() == "true":
            answer.raw.close()
            return None
        return Found(b"", version, nbytes, headers.get(_WRITER, ""), _checksum(headers))

    def _broken(self, expected: str) -> UnavailableError:
        return UnavailableError(
            f"expected {expected} in the answer, got something else",
            store=self.url,
            code="broken_answer",
            hint="Check the endpoint: something on the way may have answered.",
        )

    def _body(self, answer: _Answer, found: Found) -> Buffer:
        """The bytes of an answer. `BrokenBodyError` has those that came, when not all did."""
        pieces: list[bytes] = []
        failure: Exception | None = None
        try:
            while piece := answer.raw.read(PIECE, decode_content=False):
                pieces.append(piece)
        except Exception as error:  # whatever of urllib3, http.client and ssl it is
            failure = error
        value = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if failure is None:
            return value
        answer.raw.close()
        silence = connection_error(SERVICE, failure, store=self.url)
        part = found._replace(value=value)
        raise BrokenBodyError(silence.message, found=part, store=self.url, code=silence.code, hint=silence.hint)

    def _verify(self, found: Found, headers: Mapping[str, str]) -> None:
        """Compare a range with its checksum, which Azure computes when it is asked to."""
        sent = headers.get("Content-MD5")
        if sent is None or sent == _md5(found.value):
            return
        raise UnavailableError(
            f"md5 of the range: expected {sent}, got {_md5(found.value)}",
            store=self.url,
            code="broken_answer",
            hint="Bytes change on the way: use TLS.",
        )

    # ---- writing

    def put(self, name: str, value: Buffer, condition: Condition | None, writer: str) -> str:
        headers = {
            "x-ms-blob-type": "BlockBlob",
            "Content-Type": "application/octet-stream",
            "Content-MD5": _md5(value),
            _CRC: checksum_of("crc32c", value).hex(),
        }
        if writer:
            headers[_WRITER] = writer
        if self.access_tier is not None:
            headers["x-ms-access-tier"] = self.access_tier
        if condition is not None:
            headers |= {"If-None-Match": "*"} if condition.version is None else {"If-Match": condition.version}
        answer = self._ask("PUT", self._blob(name), headers, value if len(value) else b"")
        if answer.status >= 300:
            if answer.word == "BlobNotFound" and condition is not None:
                self._missing(condition.version)
            raise self._error(answer)
        answer.raw.drain_conn()
        version: str | None = answer.headers.get("ETag")
        if not version or "x-ms-request-id" not in answer.headers:
            raise self._broken("the ETag of a blob")
        return version

    def delete(self, name: str) -> None:
        answer = self._ask("DELETE", self._blob(name), {})
        if answer.status < 300:
            answer.raw.drain_conn()
        elif answer.word != "BlobNotFound":
            raise self._error(answer)

    def delete_many(self, names: Sequence[str]) -> None:
        if len(names) == 1:
            self.delete(names[0])
            return
        failure = self._delete_batch(names)
        if failure is not None:
            raise failure

    def _delete_batch(self, names: Sequence[str]) -> StoreError | None:
        require("azure.storage.blob", EXTRA)
        from azure.core.exceptions import AzureError, HttpResponseError

        kind = "token"
        try:
            credential, client = self._container()
            kind = credential.kind
            parts = list(client.delete_blobs(*names, raise_on_any_failure=False))
        except StoreError as error:
            return error.with_traceback(None)
        except HttpResponseError as error:
            answer: Any = error.response
            if answer is None:
                return raised_error(error, kind, store=self.url)
            return answer_error(answer.status_code, answer.headers, "", kind, store=self.url)
        except AzureError as error:
            return raised_error(error, kind, store=self.url)
        for part in parts:
            gone = part.status_code == 404 and part.headers.get("x-ms-error-code") == "BlobNotFound"
            if not (200 <= part.status_code < 300 or gone):
                return answer_error(part.status_code, part.headers, "", kind, store=self.url)
        return None

    # ---- listing

    def list(self, prefix: str, token: str | None, *, by_folder: bool) -> Page:
        query = {"restype": "container", "comp": "list"}
        if prefix:
            query["prefix"] = prefix
        if token is not None:
            query["marker"] = token
        if by_folder:
            query["delimiter"] = "/"
        text = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        answer = self._ask("GET", f"?{text}", {})
        if answer.status >= 300:
            raise self._error(answer)
        page = _page(bytes(self._body(answer, Found(b"", "", 0))))
        if page is None:
            raise self._broken("a listing")
        return page


class _Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]  # found by any case
    raw: Any  # the body, of urllib3
    credential: Credential
    text: str  # of an error

    @property
    def word(self) -> str:
        """What the service calls the error, when it is the service that speaks."""
        return self.headers.get("x-ms-error-code", "") if self.status >= 300 else ""


def _text(raw: Any) -> str:
    try:
        text = raw.read(LONGEST_TEXT, decode_content=True)
        if len(text) == LONGEST_TEXT:
            raw.close()
        else:
            raw.drain_conn()
    except Exception:  # whatever of urllib3, http.client and ssl it is; the status says enough
        return ""
    return str(text, "utf-8", "replace")


def _page(text: bytes) -> Page | None:
    """The names in a listing; ``None`` when it is none."""
    try:
        whole = text.decode()
    except UnicodeDecodeError:
        return None
    entries, marker = _ENTRY.findall(whole), _MARKER.findall(whole)
    plain = len(entries) == len(_BEGIN.findall(whole)) and len(marker) <= 1 and "<Blobs" in whole
    # A parser takes ten times as long; it is for what looks otherwise, or is no listing at all.
    if not plain or "<ResourceType>" in whole or "<!" in whole or not whole.endswith("</EnumerationResults>"):
        return _parsed(text)
    page = Page([], [], unescape(marker[0]) or None if marker else None)
    for kind, name in entries:
        (page.folders if kind == "BlobPrefix" else page.names).append(unescape(name) if "&" in name else name)
    return page


def _parsed(text: bytes) -> Page | None:
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return None
    blobs = root.find("Blobs")
    if root.tag != "EnumerationResults" or blobs is None:
        return None
    page = Page([], [], root.findtext("NextMarker") or None)
    for each in blobs:
        element = each.find("Name")
        if element is None or not element.text:
            return None
        # Characters that XML cannot hold.
        name = unquote(element.text) if element.get("Encoded") == "true" else element.text
        if each.tag == "BlobPrefix":
            page.folders.append(name)
        elif each.findtext("Properties/ResourceType") != "directory":
            page.names.append(name)
    return page


def _md5(value: Buffer) -> str:
    return base64.b64encode(hashlib.md5(value, usedforsecurity=False).digest()).decode()


def _checksum(headers: Mapping[str, str]) -> Checksum | None:
    """That of the whole blob: ours, or the one that Azure or another writer has stored."""
    ours = headers.get(_CRC, "")
    if re.fullmatch("[0-9a-f]{8}", ours):
        return Checksum("crc32c", bytes.fromhex(ours))
    stored = headers.get("x-ms-blob-content-md5") or ("" if "Content-Range" in headers else headers.get("Content-MD5"))
    try:
        value = base64.b64decode(stored or "", validate=True)
    except ValueError:
        return None
    return Checksum("md5", value) if len(value) == 16 else None


def _transport(endpoint: str, connections: Connections) -> Any:
    """A transport with enough sockets, that looks at the environment once and reads no passwords from ~/.netrc."""
    transport = require("azure.core.pipeline.transport", EXTRA)
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    session = requests.Session()
    session.trust_env = False
    session.headers.clear()
    session.headers["Accept-Encoding"] = "identity"
    session.proxies.update(requests.utils.get_environ_proxies(endpoint))
    adapter = HTTPAdapter(
        pool_maxsize=CONNECTIONS, max_retries=Retry(total=False, redirect=False, raise_on_status=False)
    )
    connections.of(adapter.poolmanager)
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter)
    return transport.RequestsTransport(
        session=session,
        session_owner=False,
        connection_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        connection_verify=os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True,
    )


class _SignaturesHidden(logging.Filter):
    """Cuts signatures out of the addresses that urllib3 logs at DEBUG."""

    _signature = re.compile(r"(?i)(sig=)[^&\s\"']+")

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                self._signature.sub(r"\1***", each) if isinstance(each, str) else each for each in record.args
            )
        return True


_hidden = _SignaturesHidden()


def _hide_signatures() -> None:
    logging.getLogger("urllib3.connectionpool").addFilter(_hidden)  # adding it twice is fine
