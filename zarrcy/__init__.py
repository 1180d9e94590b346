"""Zarr v2 and v3: chunked, compressed N-dimensional arrays, from memory to object stores.

>>> import zarrcy
>>> a = zarrcy.create(shape=(1000, 1000), chunks=(100, 100), dtype="float32")
>>> a[:10, :10] = 1
>>> float(a[5, 5])
1.0
"""

from typing import TYPE_CHECKING, Any

import zarrcy.engine as _engine  # noqa: F401 - first: it finds the other compiled modules
from zarrcy import codecs, stores
from zarrcy.arrays import Array
from zarrcy.errors import (
    ChecksumError,
    ChunkCountWarning,
    ChunkSizeWarning,
    CodecError,
    ConcurrentWriteWarning,
    ConflictError,
    MetadataError,
    MissingChunkError,
    NodeError,
    NodeExistsError,
    NodeNotFoundError,
    OutcomeUnknownError,
    PermissionDeniedError,
    ReadOnlyError,
    SelectionError,
    StoreError,
    ThrottledError,
    UnavailableError,
    UnknownExtensionError,
    ZarrcyError,
    ZarrcyWarning,
)
from zarrcy.hierarchy import consolidate_metadata, create_array, create_group, open, open_array, open_group, tree
from zarrcy.metadata import ArrayMetadata, GroupMetadata
from zarrcy.stores import Store
from zarrcy.thread_count import get_threads, set_threads, use_threads

if TYPE_CHECKING:
    from zarrcy import cost
    from zarrcy.attributes import Attributes
    from zarrcy.config import get_include, show_config
    from zarrcy.copying import copy
    from zarrcy.creation import (
        array,
        create,
        empty,
        empty_like,
        full,
        full_like,
        load,
        ones,
        ones_like,
        save,
        zeros,
        zeros_like,
    )
    from zarrcy.groups import Group

__all__ = [
    "Array",
    "ArrayMetadata",
    "Attributes",
    "ChecksumError",
    "ChunkCountWarning",
    "ChunkSizeWarning",
    "CodecError",
    "ConcurrentWriteWarning",
    "ConflictError",
    "Group",
    "GroupMetadata",
    "MetadataError",
    "MissingChunkError",
    "NodeError",
    "NodeExistsError",
    "NodeNotFoundError",
    "OutcomeUnknownError",
    "PermissionDeniedError",
    "ReadOnlyError",
    "SelectionError",
    "Store",
    "StoreError",
    "ThrottledError",
    "UnavailableError",
    "UnknownExtensionError",
    "ZarrcyError",
    "ZarrcyWarning",
    "__version__",
    "array",
    "codecs",
    "consolidate_metadata",
    "copy",
    "cost",
    "create",
    "create_array",
    "create_group",
    "empty",
    "empty_like",
    "full",
    "full_like",
    "get_include",
    "get_threads",
    "load",
    "ones",
    "ones_like",
    "open",
    "open_array",
    "open_group",
    "save",
    "set_threads",
    "show_config",
    "stores",
    "tree",
    "use_threads",
    "zeros",
    "zeros_like",
]

__version__ = "0.1.0"

# Imported when they are first named: opening and reading arrays needs none of them.
_MODULES = {
    "Attributes": "attributes",
    "Group": "groups",
    "copy": "copying",
    "cost": "cost",
    "get_include": "config",
    "show_config": "config",
    **dict.fromkeys(("array", "create", "empty", "empty_like", "full", "full_like", "load"), "creation"),
    **dict.fromkeys(("ones", "ones_like", "save", "zeros", "zeros_like"), "creation"),
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    found = globals()[name] = module if name == _MODULES[name] else getattr(module, name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
