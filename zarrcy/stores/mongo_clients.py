"""One MongoDB client for each URL in a process, shared by the stores that use it; a forked child makes its own."""

from __future__ import annotations

import atexit
import os
import threading
from typing import TYPE_CHECKING, Any

from zarrcy.stores.catalogue import require
from zarrcy.stores.mongo_url import MongoURL
from zarrcy.stores.turns import Turns

if TYPE_CHECKING:
    from pymongo import MongoClient

__all__ = ["SharedClient", "acquire"]

# Long enough for a replica set to elect a primary (10 s by default), short enough to wait for.
DEFAULTS: dict[str, Any] = {
    "serverSelectionTimeoutMS": 15_000,
    "connectTimeoutMS": 10_000,
    "socketTimeoutMS": 60_000,
    "wtimeoutMS": 30_000,
    "appname": "zarrcy",
}

TURN_SECONDS = 2.0

_clients: dict[str, SharedClient] = {}
_lock = threading.Lock()
# A parent's clients, kept in its child: collecting one would end the sessions of the parent.
_inherited: list[SharedClient] = []


class SharedClient:
    """A client, and what its users know of the server.

    Attributes
    ----------
    client : pymongo.MongoClient
    process : int
        The process that may use it.
    prepared : set
        The buckets whose indexes are known to be there.
    turns : Turns
        What threads take to change a value.
    retired : bool
        It is of no use any more: ask for another.
    """

    def __init__(self, key: str, client: MongoClient[dict[str, Any]]) -> None:
        self.key = key
        self.client = client
        self.process = os.getpid()
        self.prepared: set[tuple[str, str]] = set()
        self.retired = False
        self.users: set[int] = set()
        self.turns = Turns(TURN_SECONDS)

    def release(self, user: int) -> None:
        """Give it back; the last user closes it."""
        if self.process != os.getpid():
            return
        with _lock:
            self.users.discard(user)
            if self.users:
                return
            if _clients.get(self.key) is self:
                del _clients[self.key]
        self.client.close()

    def retire(self) -> None:
        """Let every user ask for another one: this one repeats something that the server refuses."""
        with _lock:
            self.retired = True
            if _clients.get(self.key) is self:
                del _clients[self.key]


def acquire(url: MongoURL, user: int) -> SharedClient:
    """The client of this process for a URL, for a user of some number. Nothing is connected yet.

    Raises
    ------
    PyMongoError, ValueError, TypeError
        An option is unknown or wrong. pymongo itself would only warn, with what might be a secret.
    """
    pymongo = require("pymongo", "zarrcy[mongo]")
    key = url.full
    if url.query:
        from pymongo.uri_parser import split_options

        split_options(url.query, validate=True, warn=False)
    with _lock:
        shared = _clients.get(key)
        if shared is None:
            defaults = {name: value for name, value in DEFAULTS.items() if url.option(name) is None}
            shared = _clients[key] = SharedClient(key, pymongo.MongoClient(key, connect=False, **defaults))
        shared.users.add(user)
        return shared


def _forget_after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    _inherited.extend(_clients.values())
    _clients.clear()


def _close_all() -> None:
    for shared in _clients.values():
        shared.client.close()


os.register_at_fork(after_in_child=_forget_after_fork)
atexit.register(_close_all)
