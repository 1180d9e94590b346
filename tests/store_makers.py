"""A new, empty store of every kind: the table that the laws, the model and the tests of arrays run over.

Each maker takes a new directory of the test's own. Stores with a server start it on first use (`servers`). A store that
is in the table goes through all of them; what it can do (pickle, compare and swap, lock) is found out.
"""

from __future__ import annotations

import itertools
import math
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sanitized
import servers.azure
import servers.erlang
import servers.gcs
import servers.mongodb
import servers.s3

from zarrcy.errors import ZarrcyError
from zarrcy.stores import Store
from zarrcy.stores.azure import AzureBlobStore
from zarrcy.stores.cached import CachedStore
from zarrcy.stores.filesystem import FilesystemStore
from zarrcy.stores.gcs import GCSStore
from zarrcy.stores.gridfs import GridFSStore
from zarrcy.stores.memory import MemoryStore
from zarrcy.stores.mnesia import MnesiaStore
from zarrcy.stores.mock import Fault, MockStore, Reset, Status, VirtualClock
from zarrcy.stores.partitioned import PartitionedStore
from zarrcy.stores.retrying import RetryingStore
from zarrcy.stores.shared_memory import SharedMemoryStore
from zarrcy.stores.sqlite import SQLiteStore
from zarrcy.stores.zip import ZipStore

__all__ = [
    "CLOUDS",
    "DATABASES",
    "EVERY",
    "MAKERS",
    "ON_SERVERS",
    "SECRETS",
    "STACKS",
    "guards",
    "has_recipe_for_writers",
    "mnesia",
    "own_tables",
]


def filesystem(path: Path) -> Store:
    # A directory that is missing is an error, not an empty store.
    (path / "store").mkdir()
    return FilesystemStore(path / "store")


def azure_blob(path: Path) -> Store:
    # The key is not in a recipe: other processes find it in the environment, where the server has put it.
    azurite = servers.azure.server()
    return AzureBlobStore(
        servers.azure.ACCOUNT,
        container=servers.azure.CONTAINER,
        prefix=path.as_posix().strip("/"),
        endpoint=azurite.endpoint(),
    )


_numbers = itertools.count()


def gcs(path: Path) -> Store:
    # The bucket is every test's, and the server keeps it in memory; the prefix is the test's own.
    server = servers.gcs.server()
    return GCSStore(server.shared_bucket, prefix=path.as_posix().strip("/"), endpoint=server.endpoint)


def mnesia(path: Path, *, durable: bool = False) -> Store:
    # As above. The table is every test's; the array is the test's own. The nodes outlive the tests, so that few of them
    # need to wait for the disc, which other programs keep busy.
    first, second = servers.erlang.server()
    SECRETS.add(first.cluster.cookie)
    store = MnesiaStore(f"array {next(_numbers)}", nodes=[first.name, second.name], durable=durable)
    store.prepare()
    return store


def mongo_gridfs(path: Path) -> Store:
    # A recipe holds no password: other processes find it here.
    os.environ["ZARRCY_MONGODB_PASSWORD"] = servers.mongodb.PASSWORD
    return GridFSStore(servers.mongodb.server().url(), bucket="arrays", array_id=path.as_posix().strip("/"))


def s3(path: Path) -> Store:
    server = servers.s3.server()
    return servers.s3.WeedStore(
        "arrays", prefix=f"{path.as_posix().strip('/')}/{next(_numbers)}", endpoint_url=server.endpoint
    )


_mounts: list[Path] = []


def shared_memory(path: Path) -> Store:
    # As above. The directory is the test's own, so that its tables are not those of other runs.
    store = SharedMemoryStore("table", mount=path)
    store.prepare()
    _mounts.append(path)
    return store


@contextmanager
def own_tables() -> Iterator[None]:
    """The tables in shared memory that are made inside are deleted: this process would own them until it ends."""
    n_before = len(_mounts)
    yield
    for path in _mounts[n_before:]:
        if path.exists():
            SharedMemoryStore("table", mount=path).delete_table()
    del _mounts[n_before:]


def sqlite(path: Path) -> Store:
    # As above.
    store = SQLiteStore(path / "data.db", "a")
    store.prepare()
    return store


MAKERS: dict[str, Callable[[Path], Store]] = {
    "azure_blob": azure_blob,
    "filesystem": filesystem,
    "gcs": gcs,
    "memory": lambda path: MemoryStore(),
    "mnesia": mnesia,
    "mongo_gridfs": mongo_gridfs,
    "s3": s3,
    "shared_memory": shared_memory,
    "sqlite": sqlite,
    "zip": lambda path: ZipStore(path / "a.zip", mode="a"),
}

# Those whose every call is a round trip: the tests take smaller counts.
ON_SERVERS = frozenset({"azure_blob", "gcs", "mnesia", "mongo_gridfs", "s3"})

# Of those, whose every write of one value waits for the one before: fewer still.
CLOUDS = frozenset({"azure_blob", "gcs", "s3"})

# Servers do not run below a sanitizer; nothing compiled knows of them.
if sanitized.KIND:
    MAKERS = {name: make for name, make in MAKERS.items() if name not in ON_SERVERS}

# Those, and those whose every write is a transaction of a database.
DATABASES = ON_SERVERS | {"sqlite"}

# What the makers have given to stores and must show nowhere: passwords, cookies.
SECRETS = {servers.azure.KEY, servers.mongodb.PASSWORD, servers.s3.SECRET}


def flaky(store: Store) -> Store:
    """One call in five fails in a way that another try gets over."""
    lost = Fault(Reset(stored=True), method=("get", "size", "set", "delete"), share=0.05)
    faults = [Fault(Status(503), share=0.1), Fault(Status(429), share=0.05), lost]
    return MockStore(store, faults, clock=VirtualClock())


# Wrappers over those in the process.
STACKS: dict[str, Callable[[Path], Store]] = {
    **{
        f"mock over {name}": lambda path, make=make: MockStore(make(path))
        for name, make in MAKERS.items()
        if name not in ON_SERVERS
    },
    "mock over mock": lambda path: MockStore(MockStore()),
    "retrying over a flaky filesystem": lambda path: RetryingStore(flaky(filesystem(path))),
    "partitioned over a filesystem": lambda path: PartitionedStore(filesystem(path), 20),
    "cached over partitioned over memory": lambda path: CachedStore(
        PartitionedStore(MemoryStore(), 3), MemoryStore(), max_nbytes=1 << 20
    ),
    "cached for ever over retrying over a flaky shared_memory": lambda path: CachedStore(
        RetryingStore(flaky(shared_memory(path))), FilesystemStore(path / "cache"), ttl=math.inf
    ),
}

EVERY = MAKERS | STACKS


def has_recipe_for_writers(store: Store) -> bool:
    """Whether other processes can open the same storage, and write."""
    try:
        again = pickle.loads(pickle.dumps(store))
    except ZarrcyError:
        return False
    with again:
        return not again.read_only


def guards(store: Store) -> bool:
    """Whether no update of a value is lost beside others: by compare-and-swap, or under a lock."""
    return store.supports_cas or store.lock("key") is not None
