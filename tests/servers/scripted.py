"""A web server on loopback that answers what a test says: statuses, silence, broken bodies, another server's answers.

It runs in threads of the tests, and speaks HTTP/1.1 with connections that stay open.
"""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

__all__ = ["RESET", "SILENCE", "Answer", "Request", "Scripted", "forward"]


class Request(NamedTuple):
    """What came in. `path` has the query; `headers` are found by any case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Answer(NamedTuple):
    """What goes out.

    Attributes
    ----------
    status : int
    headers : mapping
        ``Content-Length`` is added.
    body : bytes
        Of an answer to HEAD, what it would be.
    cut : int or None
        After so many bytes of the body the connection ends.
    """

    status: int = 200
    headers: Mapping[str, str] = {}
    body: bytes = b""
    cut: int | None = None


# The connection is reset; nothing comes until the server is closed.
RESET, SILENCE = Answer(-1), Answer(-2)


class Scripted:
    """A server that answers by a script.

    Parameters
    ----------
    answers : Answer, sequence of Answer, or callable
        The answer to every request; to one after the other, the last one for all that follow; or what makes it of a
        `Request`.

    Attributes
    ----------
    port : int
    requests : list of Request
        What came in.
    """

    def __init__(self, answers: Answer | Sequence[Answer] | Callable[[Request], Answer]) -> None:
        self.answers = answers
        self.requests: list[Request] = []
        self._lock = threading.Lock()
        self._closed = threading.Event()
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # head and body are sent apart

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(1 << 16)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                scripted._answer(self, Request(self.command, self.path, self.headers, body))

            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:
                    self.close_connection = True

            def log_message(self, format: str, *arguments: Any) -> None:
                """Nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 128

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Clients may go away."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()

    def _next(self, request: Request) -> Answer:
        with self._lock:
            n = len(self.requests)
            self.requests.append(request)
        if isinstance(self.answers, Answer):
            return self.answers
        if callable(self.answers):
            return self.answers(request)
        return self.answers[min(n, len(self.answers) - 1)]

    def _answer(self, handler: BaseHTTPRequestHandler, request: Request) -> None:
        answer = self._next(request)
        if answer == SILENCE:
            self._closed.wait()
            handler.close_connection = True
            return
        if answer == RESET:
            _reset(handler)
            return
        head = [f"HTTP/1.1 {answer.status} {http.client.responses.get(answer.status, '')}"]
        head += [f"{name}: {value}" for name, value in answer.headers.items()]
        if not any(name.lower() == "content-length" for name in answer.headers):
            head.append(f"Content-Length: {len(answer.body)}")
        handler.wfile.write("\r\n".join([*head, "", ""]).encode("latin-1"))
        if request.method != "HEAD":
            handler.wfile.write(answer.body[: answer.cut])
        handler.wfile.flush()
        if answer.cut is not None and request.method != "HEAD":
            handler.close_connection = True


def _reset(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.shutdown(socket.SHUT_RD)
    handler.wfile.close()
    handler.connection.close()


def forward(port: int, request: Request) -> Answer:
    """What a server at a port of loopback answers to a request."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        connection.request(request.method, request.path, request.body, dict(request.headers.items()))
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    hop = {"connection", "keep-alive", "transfer-encoding", "content-length"}
    kept = {name: value for name, value in answer.getheaders() if name.lower() not in hop}
    if request.method == "HEAD":
        kept["Content-Length"] = answer.getheader("Content-Length", "0")
    return Answer(answer.status, kept, body)
