"""Stores: where the keys and values of a hierarchy lie.

`open` finds a store by its name, its URL or a path; `register` adds one. See `zarrcy.stores.store` for the contract.
The classes are imported when they are first named.
"""

from typing import TYPE_CHECKING, Any

from zarrcy.stores.catalogue import by_name, info, names, open, register, require
from zarrcy.stores.store import Buffer, Store, Version

if TYPE_CHECKING:
    from zarrcy.stores.azure import AzureBlobStore
    from zarrcy.stores.cached import CachedStore
    from zarrcy.stores.filesystem import FilesystemStore
    from zarrcy.stores.gcs import GCSStore
    from zarrcy.stores.gridfs import GridFSStore
    from zarrcy.stores.key_copies import CopiedKeys, copy_store
    from zarrcy.stores.memory import MemoryStore
    from zarrcy.stores.mnesia import MnesiaStore
    from zarrcy.stores.mock import MockStore
    from zarrcy.stores.overview import StoreInfo
    from zarrcy.stores.partitioned import PartitionedStore
    from zarrcy.stores.readonly import ReadOnlyStore
    from zarrcy.stores.retrying import RetryingStore
    from zarrcy.stores.s3 import S3Store
    from zarrcy.stores.shared_memory import SharedMemoryStore
    from zarrcy.stores.sqlite import SQLiteStore
    from zarrcy.stores.zip import ZipStore

__all__ = [
    "AzureBlobStore",
    "Buffer",
    "CachedStore",
    "CopiedKeys",
    "FilesystemStore",
    "GCSStore",
    "GridFSStore",
    "MemoryStore",
    "MnesiaStore",
    "MockStore",
    "PartitionedStore",
    "ReadOnlyStore",
    "RetryingStore",
    "S3Store",
    "SQLiteStore",
    "SharedMemoryStore",
    "Store",
    "StoreInfo",
    "Version",
    "ZipStore",
    "by_name",
    "copy_store",
    "info",
    "names",
    "open",
    "register",
    "require",
]

_MODULES = {
    "AzureBlobStore": "azure",
    "CachedStore": "cached",
    "CopiedKeys": "key_copies",
    "FilesystemStore": "filesystem",
    "GCSStore": "gcs",
    "GridFSStore": "gridfs",
    "MemoryStore": "memory",
    "MnesiaStore": "mnesia",
    "MockStore": "mock",
    "PartitionedStore": "partitioned",
    "ReadOnlyStore": "readonly",
    "RetryingStore": "retrying",
    "S3Store": "s3",
    "SQLiteStore": "sqlite",
    "SharedMemoryStore": "shared_memory",
    "StoreInfo": "overview",
    "ZipStore": "zip",
    "copy_store": "key_copies",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    cls = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    return cls


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
