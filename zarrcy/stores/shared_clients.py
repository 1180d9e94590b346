"""Clients of services, one for each place and credential in a process; a forked child makes its own."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar, cast

from zarrcy.stores.turns import Turns

__all__ = ["SharedClient", "acquire"]

Client = TypeVar("Client")
Shared = TypeVar("Shared", bound="SharedClient[Any]")


class SharedClient(Generic[Client]):
    """A client; what its users learn about the service together is a subclass's.

    Parameters
    ----------
    key : hashable
        What it is shared by.
    client : object
        It has a method ``close``.
    turn_seconds : float
        How long a thread waits for its turn to change a value.

    Attributes
    ----------
    process : int
        The process that may use it.
    turns : Turns
        What threads take to change a value.
    """

    def __init__(self, key: Hashable, client: Client, turn_seconds: float) -> None:
        self.key = key
        self.client = client
        self.process = os.getpid()
        self.turns = Turns(turn_seconds)
        self._users: set[int] = set()

    def release(self, user: int) -> None:
        """Give it back; the last user closes it."""
        if self.process != os.getpid():
            return
        with _lock:
            self._users.discard(user)
            if self._users:
                return
            self.retire()
        self.client.close()  # type: ignore[attr-defined]

    def retire(self) -> None:
        """Let whoever asks from now on get another one."""
        with _lock:
            if _clients.get(self.key) is self:
                del _clients[self.key]


_clients: dict[Hashable, SharedClient[Any]] = {}
# Stores that are collected give their clients back, at any moment: also in a thread that holds the lock.
_lock = threading.RLock()
# A parent's clients, kept in its child: collecting one would close connections, or end sessions, of the parent.
_inherited: list[SharedClient[Any]] = []


def acquire(key: Hashable, make: Callable[[], Shared], user: int) -> Shared:
    """The client of this process for a key, for a user of some number; `make` makes it."""
    with _lock:
        while True:
            shared = _clients.get(key)
            if shared is None:
                shared = _clients[key] = make()
            shared._users.add(user)
            # The last other user may have been collected, and have closed it, until it had this one.
            if _clients.get(key) is shared:
                return cast("Shared", shared)


def _forget_after_fork() -> None:
    global _lock
    _lock = threading.RLock()
    _inherited.extend(_clients.values())
    _clients.clear()


def _close_all() -> None:
    for shared in list(_clients.values()):
        shared.client.close()


os.register_at_fork(after_in_child=_forget_after_fork)
atexit.register(_close_all)
