"""Connections of urllib3 that can be broken off: Ctrl-C does not wait for a service that is silent."""

from __future__ import annotations

import socket
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

    def of(self, pools: Any) -> Any:
        """Know every connection that a `urllib3.PoolManager` makes from now on; returns it."""
        classes = dict(pools.pool_classes_by_scheme)
        pools.pool_classes_by_scheme = {scheme: self._pool_class(cls) for scheme, cls in classes.items()}
        return pools

    def _pool_class(self, cls: Any) -> Any:
        opened = self._open

        class Connection(cls.ConnectionCls):  # type: ignore[misc]
            def connect(self) -> None:
                super().connect()
                opened.add(self)

        return type(cls.__name__, (cls,), {"ConnectionCls": Connection})

    def break_off(self) -> None:
        """End all of them, as if the service had: who waits for an answer gets an error, and may ask again."""
        for connection in list(self._open):
            sock = getattr(connection, "sock", None)
            if sock is not None:
                try:
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)  # that of TLS would change the object too
                except OSError:
                    continue  # it is closed already
