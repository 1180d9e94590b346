"""A TCP proxy in front of a server that breaks what passes: flipped bits, cut streams, resets, silence.

For protocols of requests and answers. A fault strikes at a byte of a message, which begins when the direction changes;
it is armed while connections are open, and can be bound to the requests that contain some bytes.
"""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from typing import NamedTuple

__all__ = ["TO_CLIENT", "TO_SERVER", "Fault", "Proxy"]

TO_SERVER, TO_CLIENT = 0, 1
HEAD = 4096  # of a request, in which its bytes are looked for


class Fault(NamedTuple):
    """What happens to messages of one direction.

    Attributes
    ----------
    kind : {"flip", "cut", "reset", "stall"}
        One bit is turned; the connection ends, with FIN or with RST; nothing passes until `Proxy.heal`.
    after : int
        How many bytes of the message pass before. A flip hits the byte after them.
    times : int or None
        How often it strikes; ``None`` for always.
    request : bytes
        What the request must contain: the message itself, or for an answer the one it answers.
    share : float
        Of the messages that it could strike, seeded.
    """

    kind: str
    after: int = 0
    times: int | None = 1
    request: bytes = b""
    share: float = 1.0


class Proxy:
    """A listener on `port` that passes everything on to a server on loopback. `hits` counts what was struck.

    Each answer waits for `latency` seconds.
    """

    def __init__(self, server_port: int, *, seed: int = 0, latency: float = 0.0) -> None:
        self.server_port = server_port
        self.latency = latency
        self.refuses = False
        self.hits = 0
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._healed = threading.Event()
        self._faults: list[Fault | None] = [None, None]
        self._connections: set[_Connection] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, direction: int, fault: Fault) -> None:
        """Let a fault strike the messages of a direction, instead of the one before it."""
        with self._lock:
            self._faults[direction] = fault
            self._healed.clear()

    def heal(self) -> None:
        """No faults any more; what is stalled ends."""
        with self._lock:
            self._faults = [None, None]
            self.refuses = False
            self._healed.set()

    def reset(self) -> None:
        """Reset every open connection."""
        for connection in list(self._connections):
            connection.end(reset=True)

    def close(self) -> None:
        self.heal()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                connection = _Connection(self, client)
            except OSError:
                client.close()
                continue
            if self.refuses:
                connection.end(reset=True)
                continue
            self._connections.add(connection)
            for direction in (TO_SERVER, TO_CLIENT):
                threading.Thread(target=connection.pump, args=(direction,), daemon=True).start()

    def strike(self, direction: int, request: bytes, passed: int, n: int) -> tuple[Fault, int] | None:
        """The fault that strikes among the next `n` bytes of a message, and at which of them."""
        with self._lock:
            fault = self._faults[direction]
            if fault is None or not passed <= fault.after < passed + n or fault.request not in request:
                return None
            if self._random.random() >= fault.share:
                return None
            if fault.times is not None:
                self._faults[direction] = fault._replace(times=fault.times - 1) if fault.times > 1 else None
            self.hits += 1
            return fault, fault.after - passed

    def flipped(self, data: bytes, at: int) -> bytes:
        changed = bytearray(data)
        changed[at] ^= 1 << self._random.randrange(8)
        return bytes(changed)

    def forget(self, connection: _Connection) -> None:
        self._connections.discard(connection)

    def wait_until_healed(self) -> None:
        self._healed.wait()


class _Connection:
    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self.proxy = proxy
        self.sockets = socket.create_connection(("127.0.0.1", proxy.server_port)), client
        for each in self.sockets:
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.direction = TO_CLIENT
        self.passed = 0
        self.request = b""

    def pump(self, direction: int) -> None:
        source, target = self.sockets[1 - direction], self.sockets[direction]
        try:
            while data := source.recv(1 << 16):
                if direction != self.direction:
                    self.direction, self.passed = direction, 0
                    if direction == TO_SERVER:
                        self.request = b""
                    elif self.proxy.latency:
                        time.sleep(self.proxy.latency)
                if direction == TO_SERVER:
                    self.request = (self.request + data)[:HEAD]
                struck = self.proxy.strike(direction, self.request, self.passed, len(data))
                self.passed += len(data)
                if struck is None:
                    target.sendall(data)
                elif struck[0].kind == "flip":
                    target.sendall(self.proxy.flipped(data, struck[1]))
                else:
                    target.sendall(data[: struck[1]])
                    if struck[0].kind == "stall":
                        self.proxy.wait_until_healed()
                    self.end(reset=struck[0].kind == "reset")
                    return
            target.shutdown(socket.SHUT_WR)
        except OSError:
            self.end()

    def end(self, *, reset: bool = False) -> None:
        self.proxy.forget(self)
        for each in self.sockets:
            try:
                if reset:
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                each.shutdown(socket.SHUT_RD)  # wakes the other direction, which may wait for bytes
            except OSError:
                pass
            each.close()
