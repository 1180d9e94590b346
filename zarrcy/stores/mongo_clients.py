"""The MongoDB client of a URL, shared by the stores that use it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zarrcy.stores import shared_clients
from zarrcy.stores.catalogue import require
from zarrcy.stores.mongo_url import MongoURL
from zarrcy.stores.shared_clients import SharedClient

if TYPE_CHECKING:
    from pymongo import MongoClient

__all__ = ["SharedMongoClient", "acquire"]

# Long enough for a replica set to elect a primary (10 s by default), short enough to wait for.
DEFAULTS: dict[str, Any] = {
    "serverSelectionTimeoutMS": 15_000,
    "connectTimeoutMS": 10_000,
    "socketTimeoutMS": 60_000,
    "wtimeoutMS": 30_000,
    "appname": "zarrcy",
}

TURN_SECONDS = 2.0


class SharedMongoClient(SharedClient["MongoClient[dict[str, Any]]"]):
    """A client, and what its users know of the server.

    Attributes
    ----------
    prepared : set
        The buckets whose indexes are known to be there.
    retired : bool
        It is of no use any more: ask for another.
    """

    def __init__(self, key: tuple[str, str], client: MongoClient[dict[str, Any]]) -> None:
        super().__init__(key, client, TURN_SECONDS)
        self.prepared: set[tuple[str, str]] = set()
        self.retired = False

    def retire(self) -> None:
        """Let every user ask for another one: this one repeats something that the server refuses."""
        self.retired = True
        super().retire()


def acquire(url: MongoURL, user: int) -> SharedMongoClient:
    """The client of this process for a URL, for a user of some number. Nothing is connected yet.

    Raises
    ------
    PyMongoError, ValueError, TypeError
        An option is unknown or wrong. pymongo itself would only warn, with what might be a secret.
    """
    pymongo = require("pymongo", "zarrcy[mongo]")
    if url.query:
        from pymongo.uri_parser import split_options

        split_options(url.query, validate=True, warn=False)
    key = "mongodb", url.full

    def make() -> SharedMongoClient:
        defaults = {name: value for name, value in DEFAULTS.items() if url.option(name) is None}
        return SharedMongoClient(key, pymongo.MongoClient(url.full, connect=False, **defaults))

    return shared_clients.acquire(key, make, user)
