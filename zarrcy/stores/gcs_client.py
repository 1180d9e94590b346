"""The requests to a bucket of Google Cloud Storage: its JSON API, over the authorised session of google-cloud-storage.

The session brings credentials, mutual TLS and the endpoint. The SDK's own calls are not used: a download of a part does
not tell the length of the whole, and one upload may be several requests.
"""

from __future__ import annotations

import base64
import http.client
import json
import math
import re
import secrets
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

import google.auth.exceptions
import requests
import requests.adapters
import urllib3.exceptions
from google.cloud import storage

from zarrcy.errors import ConflictError, StoreError, UnavailableError
from zarrcy.stores.connections import Connections
from zarrcy.stores.gcs_credentials import Source
from zarrcy.stores.gcs_errors import NO_BUCKET, SERVICE, Words, answer_error, auth_error, words_of
from zarrcy.stores.object_client import BrokenBodyError, Checksum, Condition, Found, ObjectClient, Page, Span
from zarrcy.stores.object_reads import checksum_of
from zarrcy.stores.service_errors import connection_error
from zarrcy.stores.store import Buffer

__all__ = ["GCSClient"]

# Seconds to connect, and to wait for the next bytes.
TIMEOUT = (10.0, 60.0)
# Idle connections that are kept; stores with several numbers of requests in flight share them.
POOL = 256
# What is lost of a body when the connection breaks, at most.
BLOCK = 1 << 18
# Names in one answer: what the service gives at most.
PAGE = 1000

# How long a bucket that was there is taken to be there.
SEEN_SECONDS = 60.0

WRITER = "zarrcy-writer"

_SILENCES = (OSError, urllib3.exceptions.HTTPError, http.client.HTTPException, ValueError)
# An emulator answers "bytes 0--1/0" for the end of an empty object.
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(-?\d+)/(\d+)")


class GCSClient(ObjectClient):
    """A bucket.

    Parameters
    ----------
    bucket : str
        Its name.
    source : Source
        Where the credentials come from; they are resolved here.
    endpoint : str, optional
        The URL of the service; that of Google by default.
    project : str, optional
        Who pays for the requests, where the bucket's owner does not.
    storage_class : str, optional
        That of new objects; the bucket's by default.
    max_concurrency : int
        Connections to keep.
    """

    def __init__(
        self,
        bucket: str,
        source: Source,
        *,
        endpoint: str | None,
        project: str | None,
        storage_class: str | None,
        max_concurrency: int,
    ) -> None:
        self.bucket = bucket
        self.url = f"gs://{bucket}"
        # Kept with what it was made of: a client is told from others by the identity of that.
        self._source = source
        self.storage_class = storage_class
        self._sdk = self._connect(source, endpoint, project)
        self._session = self._sdk._http
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=max(POOL, max_concurrency))
        self._connections = Connections()
        self._connections.of(adapter.poolmanager)
        for scheme in ("http://",) if self._session.is_mtls else ("http://", "https://"):
            self._session.mount(scheme, adapter)
        self.base = base = self._sdk.api_endpoint.rstrip("/")
        # The proxy and the certificates of the environment are asked for once: each time is a quarter of a request's
        # CPU time. And no .netrc of the user puts its password in the place of the token.
        settings = self._session.merge_environment_settings(base, {}, None, None, None)
        self._session.proxies, self._session.verify = settings["proxies"], settings["verify"]
        self._session.trust_env = False
        self._objects = f"{base}/storage/v1/b/{quote(bucket, safe='')}/o"
        self._downloads = f"{base}/download/storage/v1/b/{quote(bucket, safe='')}/o"
        self._uploads = f"{base}/upload/storage/v1/b/{quote(bucket, safe='')}/o"
        self._always = {"userProject": project} if project else {}
        self._seen = -math.inf  # when the bucket was there, by the monotonic clock

    def _connect(self, source: Source, endpoint: str | None, project: str | None) -> storage.Client:
        """The SDK's client, with a session; that may ask the machine for certificates, and where it is."""
        failure: StoreError
        try:
            credentials = source.credentials()
            options: dict[str, Any] = {"api_endpoint": endpoint}
            if credentials.universe_domain != "googleapis.com":
                options["universe_domain"] = credentials.universe_domain
            client = storage.Client(project=project, credentials=credentials, client_options=options)
            _ = client._http
            return client
        except StoreError:
            raise
        except google.auth.exceptions.GoogleAuthError as error:
            failure = auth_error(error, source=source.words, store=self.url)
        except (OSError, ValueError) as error:
            what = f"expected a connection with {source.words}, got {type(error).__name__}"
            hint = "Check the environment variables GOOGLE_* and CLOUDSDK_*: certificates, and the universe domain."
            failure = StoreError(what, store=self.url, code="bad_option", hint=hint)
        raise failure

    # ---- what another client of the bucket needs

    @property
    def source(self) -> Source:
        """Where the credentials are from."""
        return self._source

    @property
    def is_mtls(self) -> bool:
        """Whether connections have a certificate of this machine."""
        return bool(self._session.is_mtls)

    @property
    def payer(self) -> str | None:
        """The project that pays for the requests, when it is not the owner of the bucket."""
        quota: str | None = getattr(self._session.credentials.present, "quota_project_id", None)
        return self._always.get("userProject") or quota

    def token(self) -> str:
        """The token that a request has now; empty when it has none."""
        headers: dict[str, str] = {}
        request = self._session._auth_request
        self._ask(lambda: self._session.credentials.before_request(request, "GET", self._objects, headers))
        return headers.get("authorization", "").removeprefix("Bearer ")

    def refresh(self) -> None:
        """Renew the token, which the service has refused to a request of this thread."""
        self._ask(lambda: self._session.credentials.refresh(self._session._auth_request))

    # ---- requests and answers

    def _send(
        self,
        method: str,
        url: str,
        query: dict[str, str],
        headers: dict[str, str] | None = None,
        data: bytes | None = None,
    ) -> requests.Response:
        """An answer whose body is still to be read."""
        answer: requests.Response = self._ask(
            lambda: self._session.request(
                method,
                f"{url}?{urlencode({**query, **self._always})}",
                headers=headers,
                data=data,
                stream=True,
                allow_redirects=False,
                timeout=TIMEOUT,
            )
        )
        return answer

    def _ask(self, call: Callable[[], Any]) -> Any:
        """What a call of the session or of its credentials returns. Frames below hold tokens: what they raise is not
        chained."""
        failure: StoreError
        try:
            return call()
        except StoreError as error:
            failure = error.with_traceback(None)
        except google.auth.exceptions.GoogleAuthError as error:
            failure = auth_error(error, source=self._source.words, store=self.url)
        except _SILENCES as error:
            failure = connection_error(SERVICE, error, store=self.url)
        raise failure

    def _text(self, answer: requests.Response) -> bytes:
        """The body of an answer that is no object."""
        failure = None
        try:
            return b"".join(answer.raw.stream(BLOCK, decode_content=True))
        except _SILENCES as error:
            failure = connection_error(SERVICE, error, store=self.url)
        raise failure

    def _json(self, answer: requests.Response) -> dict[str, Any]:
        """What an answer of success says."""
        text = self._text(answer)
        if not 200 <= answer.status_code < 300:
            raise self._refusal(answer, words_of(text))
        try:
            document = json.loads(text)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise self._broken("JSON")
        self._seen = time.monotonic()
        return document

    def _refusal(self, answer: requests.Response, words: Words) -> StoreError:
        wait = answer.headers.get("Retry-After")
        return answer_error(answer.status_code, words, asked_to_wait=wait, source=self._source.words, store=self.url)

    def _broken(self, expected: str) -> UnavailableError:
        return UnavailableError(
            f"expected {expected} in the answer of {SERVICE}, got something else",
            store=self.url,
            code="broken_answer",
            hint="Something on the way answers in its place, or changes the bytes: check the endpoint and the proxy.",
        )

    def check_absent(self, name: str, words: Words) -> None:
        """Return if an object is absent from a bucket that exists, of which a 404 says so; raise if not.

        All 404s look alike to the letter of the API, and an emulator's do. The words that the service uses are taken
        for it only while the bucket is known to be there.
        """
        is_there = time.monotonic() - self._seen < SEEN_SECONDS
        if is_there and words.message == f"No such object: {self.bucket}/{name}":
            return
        if name in self._list({"prefix": name, "maxResults": "1"}).names:
            raise self._broken("an object that is in the listing")

    # ---- objects

    def get(self, name: str, span: Span | None, version: str | None) -> Found | None:
        query = {"alt": "media"}
        if version is not None:
            query["ifGenerationMatch"] = self.generation(version)
        headers = {"Accept-Encoding": "gzip"}  # as it is stored
        if span is not None:
            headers["Range"] = span.header
        with self._send("GET", f"{self._downloads}/{quote(name, safe='')}", query, headers) as answer:
            if answer.status_code in (200, 206):
                found = self._found(answer, span)
                return self._expected(found, version)
            words = words_of(self._text(answer))
        if answer.status_code == 404:
            self.check_absent(name, words)
            return self._expected(None, version)
        if answer.status_code == 416 and span is not None:
            # Nothing is there: the answer does not say how long the object is.
            return self._expected(self.head(name), version)
        raise self._refusal(answer, words)

    def _expected(self, found: Found | None, version: str | None) -> Found | None:
        """What was found, if it has the version that was asked for: emulators ignore the condition."""
        if version is not None and (found is None or found.version != version):
            raise self._conflict()
        return found

    def _found(self, answer: requests.Response, span: Span | None) -> Found:
        headers = answer.headers
        version = headers.get("X-Goog-Generation", "")
        stored_as = headers.get("X-Goog-Stored-Content-Encoding", "identity")
        nbytes = headers.get("X-Goog-Stored-Content-Length") or headers.get("Content-Length", "")
        begin = end = -1
        if answer.status_code == 206:
            part = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
            if part is not None:
                begin, end, nbytes = int(part[1]), int(part[2]) + 1, part[3]
        if not version.isdecimal() or not nbytes.isdecimal():
            raise self._broken("a generation and a length")
        wanted = (0, int(nbytes)) if span is None else span.within(int(nbytes))
        if answer.status_code == 206 and (span is None or (begin, end) != wanted):
            raise self._broken("the bytes that were asked for")
        found = Found(b"", version, int(nbytes), "", self._checksum(headers.get("X-Goog-Hash", "")))
        encoding = headers.get("Content-Encoding", "identity")
        value, failure = self._body(answer, encoding not in ("identity", stored_as))
        if answer.status_code == 200 and wanted != (0, found.nbytes):
            value = value[slice(*wanted)]
        found = found._replace(value=value)
        if failure is not None:
            raise BrokenBodyError(failure.message, found=found, store=self.url, code=failure.code, hint=failure.hint)
        self._seen = time.monotonic()
        return found

    def _body(self, answer: requests.Response, decode: bool) -> tuple[bytes, UnavailableError | None]:
        """The body, or as much as came of it before it broke."""
        blocks: list[bytes] = []
        failure = None
        try:
            while block := answer.raw.read(BLOCK, decode_content=decode):
                blocks.append(block)
        except _SILENCES as error:
            failure = connection_error(SERVICE, error, store=self.url)
        return blocks[0] if len(blocks) == 1 else b"".join(blocks), failure

    def _checksum(self, header: str) -> Checksum | None:
        for each in header.split(","):
            algorithm, _, text = each.strip().partition("=")
            if algorithm == "crc32c":
                return Checksum("crc32c", self._bytes_of(text))
        return None

    def _bytes_of(self, text: str) -> bytes:
        try:
            return base64.b64decode(text, validate=True)
        except ValueError as error:
            raise self._broken("a checksum in base64") from error

    def head(self, name: str) -> Found | None:
        query = {"fields": "generation,size,crc32c,metadata"}
        with self._send("GET", f"{self._objects}/{quote(name, safe='')}", query) as answer:
            if answer.status_code == 404:
                self.check_absent(name, words_of(self._text(answer)))
                return None
            document = self._json(answer)
        version, nbytes = str(document.get("generation")), str(document.get("size"))
        if not version.isdecimal() or not nbytes.isdecimal():
            raise self._broken("a generation and a length")
        checksum = document.get("crc32c")
        return Found(
            b"",
            version,
            int(nbytes),
            str((document.get("metadata") or {}).get(WRITER, "")),
            Checksum("crc32c", self._bytes_of(checksum)) if isinstance(checksum, str) else None,
        )

    def put(self, name: str, value: Buffer, condition: Condition | None, writer: str) -> str:
        query = {"uploadType": "multipart", "fields": "generation"}
        if condition is not None:
            version = condition.version
            query["ifGenerationMatch"] = "0" if version is None else self.generation(version)
        resource: dict[str, Any] = {
            "name": name,
            "contentType": "application/octet-stream",
            # Public objects would be cached for an hour, and then a replaced value is not seen.
            "cacheControl": "no-cache",
            "crc32c": base64.b64encode(checksum_of("crc32c", value)).decode(),
        }
        if self.storage_class is not None:
            resource["storageClass"] = self.storage_class
        if writer:
            resource["metadata"] = {WRITER: writer}
        boundary = secrets.token_hex(16)
        head = (
            f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{json.dumps(resource)}\r\n"
            f"--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n"
        )
        data = b"".join((head.encode(), value, f"\r\n--{boundary}--".encode()))
        headers = {"Content-Type": f"multipart/related; boundary={boundary}"}
        with self._send("POST", self._uploads, query, headers, data) as answer:
            made = str(self._json(answer).get("generation"))
        if not made.isdecimal():
            raise self._broken("a generation")
        return made

    def delete(self, name: str) -> None:
        with self._send("DELETE", f"{self._objects}/{quote(name, safe='')}", {}) as answer:
            words = words_of(self._text(answer))
        if answer.status_code == 404:
            self.check_absent(name, words)
        elif not 200 <= answer.status_code < 300:
            raise self._refusal(answer, words)

    def generation(self, version: str) -> str:
        """A version, if an object can have it."""
        # To the service, 0 is the version of what is absent.
        if not version.isdecimal() or not int(version):
            raise self._conflict()
        return version

    def _conflict(self) -> ConflictError:
        return ConflictError("expected another version", store=self.url, code="conflict")

    def list(self, prefix: str, token: str | None, *, by_folder: bool) -> Page:
        query = {"prefix": prefix, "maxResults": str(PAGE)}
        if token is not None:
            query["pageToken"] = token
        if by_folder:
            query["delimiter"] = "/"
        return self._list(query)

    def _list(self, query: dict[str, str]) -> Page:
        fields = {"fields": "kind,nextPageToken,prefixes,items(name)"}
        with self._send("GET", self._objects, {**query, **fields}) as answer:
            if answer.status_code == 404:
                words = words_of(self._text(answer))
                if words.message and NO_BUCKET not in words.message:
                    # The service says so, and nothing but the bucket was named.
                    words = words._replace(message=f"{words.message.rstrip('.')}: {NO_BUCKET}")
                raise self._refusal(answer, words)
            document = self._json(answer)
        if document.get("kind") != "storage#objects":
            raise self._broken("a listing")
        try:
            names = [str(item["name"]) for item in document.get("items", ())]
            folders = [str(folder) for folder in document.get("prefixes", ())]
            token = document.get("nextPageToken")
        except (TypeError, LookupError) as error:
            raise self._broken("a listing") from error
        return Page(names, folders, None if not token else str(token))

    def interrupt(self) -> None:
        self._connections.break_off()

    def close(self) -> None:
        self._sdk.close()
