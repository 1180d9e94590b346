"""An HTTP server on loopback that answers what a test wrote down, or breaks the connection: for what no server does."""

from __future__ import annotations

import http.server
import json
import socket
import struct
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

__all__ = ["Answer", "Break", "Request", "Scripted", "as_json"]


class Request(NamedTuple):
    """What came in.

    Attributes
    ----------
    method : str
    target : str
        The path and the query, as they came.
    path : str
        Without the query, decoded.
    query : dict
        The last value of each name.
    headers : dict
        By names in lower case.
    body : bytes
    """

    method: str
    target: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


class Answer(NamedTuple):
    """What goes out, with its length."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = {}


class Break(NamedTuple):
    """What happens in the place of an answer, or within it.

    Attributes
    ----------
    kind : {"reset", "end", "stall"}
        The connection is reset, or ended; or nothing comes until the server is closed.
    answer : Answer, optional
        What goes out before.
    n : int
        How many bytes of its body.
    """

    kind: str
    answer: Answer | None = None
    n: int = 0


def as_json(document: Any, status: int = 200, **headers: str) -> Answer:
    """An answer in JSON."""
    return Answer(status, json.dumps(document).encode(), {"Content-Type": "application/json", **headers})


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Clients that go away are what some tests are about.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class Scripted:
    """A server that calls `answers` with each `Request` for an `Answer` or a `Break`; any thread may call it.

    Attributes
    ----------
    endpoint : str
    requests : list of Request
        All that came in.
    n_connections : int
        How many connections they came over.
    """

    def __init__(self, answers: Callable[[Request], Answer | Break]) -> None:
        self.answers = answers
        self.requests: list[Request] = []
        self.n_connections = 0
        self._closed = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                outer.n_connections += 1

            def log_message(self, *arguments: object) -> None:
                pass

            def _any(self) -> None:
                outer._handle(self)

        for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
            setattr(Handler, f"do_{method}", Handler._any)
        self._http = _Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def _handle(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        headers = {name.lower(): value for name, value in handler.headers.items()}
        body = handler.rfile.read(int(headers.get("content-length", 0)))
        request = Request(handler.command, handler.path, unquote(parts.path), query, headers, body)
        self.requests.append(request)
        answer = self.answers(request)
        if isinstance(answer, Answer):
            self._send(handler, answer, len(answer.body))
            return
        if answer.answer is not None:
            self._send(handler, answer.answer, answer.n)
        if answer.kind == "stall":
            self._closed.wait()
        elif answer.kind == "reset":
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.close_connection = True
        # The handler's files keep the connection open until they are closed as well.
        handler.rfile.close()
        handler.connection.close()

    def _send(self, handler: http.server.BaseHTTPRequestHandler, answer: Answer, n: int) -> None:
        handler.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(answer.body[:n])
        handler.wfile.flush()

    def close(self) -> None:
        self._closed.set()
        self._http.shutdown()
        self._http.server_close()

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
