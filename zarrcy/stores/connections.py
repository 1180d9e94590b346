"""Connections of urllib3 that can be broken off: Ctrl-C does not wait for a service that is silent."""

from __future__ import annotations

import socket
import threading
import weakref
from typing import Any

__all__ = ["Connections"]


class Connections:
    """The open connections of one client.

    Examples
    --------
    >>> import urllib3
    >>> from zarrcy.stores.connections import Connections
    >>> connections = Connections()
    >>> pools = connections.of(urllib3.PoolManager())
    """

    def __init__(self) -> None:
        self._open: weakref.WeakSet[Any] = weakref.WeakSet()
        self._lock = threading.Lock()
        self.n_breaks = 0

    def of(self, pools: Any) -> Any:
        """Know every connection that a `urllib3.PoolManager` makes from now on; returns it."""
        classes = dict(pools.pool_classes_by_scheme)
        pools.pool_classes_by_scheme = {scheme: self._pool_class(cls) for scheme, cls in classes.items()}
        return pools

    def _pool_class(self, cls: Any) -> Any:
        connections = self

        class Connection(cls.ConnectionCls):  # type: ignore[misc]
            def connect(self) -> None:
                n_breaks = connections.n_breaks
                super().connect()
                connections.add(self)
                if connections.n_breaks != n_breaks:
                    self.close()
                    raise ConnectionAbortedError("connections were broken off while this one was made")

        return type(cls.__name__, (cls,), {"ConnectionCls": Connection})

    def add(self, connection: Any) -> None:
        """Know a connection."""
        with self._lock:
            self._open.add(connection)

    def break_off(self) -> None:
        """End all of them, as if the service had: who waits for an answer gets an error, and may ask again."""
        self.n_breaks += 1
        with self._lock:
            known = list(self._open)
        for connection in known:
            sock = getattr(connection, "sock", None)
            if sock is not None:
                try:
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)  # that of TLS would change the object too
                except OSError:
                    continue  # it is closed already
