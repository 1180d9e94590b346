"""Clients of services, one for each container and credential in a process; a forked child makes its own."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Hashable

from zarrcy.stores.clock import Clock
from zarrcy.stores.object_client import ObjectClient
from zarrcy.stores.retry import Pace
from zarrcy.stores.turns import Turns

__all__ = ["Shared", "acquire"]

TURN_SECONDS = 10.0


class Shared:
    """A client, and what its users learn about the service together.

    Attributes
    ----------
    client : ObjectClient
    process : int
        The process that may use it.
    conditions : dict
        By what a `Condition` asks for (``"absent"``, ``"version"``): whether the service obeys it.
    probing : threading.Lock
        Held by who finds that out.
    turns : Turns
        What threads take to change a value.
    """

    def __init__(self, key: Hashable, client: ObjectClient) -> None:
        self.key = key
        self.client = client
        self.process = os.getpid()
        self.conditions: dict[str, bool] = {}
        self.probing = threading.Lock()
        self.turns = Turns(TURN_SECONDS)
        self._lock = threading.Lock()
        self._paces: dict[tuple[str, int], Pace] = {}
        self._users: set[int] = set()

    def pace(self, prefix: str, clock: Clock) -> Pace:
        """How fast requests below a prefix are sent: services count them by prefix."""
        with self._lock:
            return self._paces.setdefault((prefix, id(clock)), Pace(clock))

    def release(self, user: int) -> None:
        """Give it back; the last user closes it."""
        if self.process != os.getpid():
            return
        with _lock:
            self._users.discard(user)
            if self._users:
                return
            if _clients.get(self.key) is self:
                del _clients[self.key]
        self.client.close()


_clients: dict[Hashable, Shared] = {}
# Stores that are collected give their clients back, at any moment: also in a thread that holds the lock.
_lock = threading.RLock()
# A parent's clients, kept in its child: collecting one would close connections that the parent uses.
_inherited: list[Shared] = []


def acquire(key: Hashable, make: Callable[[], ObjectClient], user: int) -> Shared:
    """The client of this process for a key, for a user of some number; `make` makes it."""
    with _lock:
        while True:
            shared = _clients.get(key)
            if shared is None:
                shared = _clients[key] = Shared(key, make())
            shared._users.add(user)
            # The last other user may have been collected, and have closed it, until it had this one.
            if _clients.get(key) is shared:
                return shared


def _forget_after_fork() -> None:
    global _lock
    _lock = threading.RLock()
    _inherited.extend(_clients.values())
    _clients.clear()


def _close_all() -> None:
    for shared in _clients.values():
        shared.client.close()


os.register_at_fork(after_in_child=_forget_after_fork)
atexit.register(_close_all)
