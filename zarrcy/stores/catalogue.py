"""The stores by name and by URL."""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from zarrcy.errors import StoreError, UnknownExtensionError
from zarrcy.registry import Registry
from zarrcy.stores.store import Store

if TYPE_CHECKING:
    from zarrcy.stores.overview import StoreInfo

__all__ = ["by_name", "info", "names", "open", "register", "require"]

MODES = (None, "r", "r+", "a", "w", "w-")

registry = Registry(
    "store",
    "zarrcy.stores",
    {
        "azure_blob": "zarrcy.stores.azure:AzureBlobStore",
        "filesystem": "zarrcy.stores.filesystem:FilesystemStore",
        "gcs": "zarrcy.stores.gcs:GCSStore",
        "memory": "zarrcy.stores.memory:MemoryStore",
        "mnesia": "zarrcy.stores.mnesia:MnesiaStore",
        "mock": "zarrcy.stores.mock:MockStore",
        "mongo_gridfs": "zarrcy.stores.gridfs:GridFSStore",
        "s3": "zarrcy.stores.s3:S3Store",
        "shared_memory": "zarrcy.stores.shared_memory:SharedMemoryStore",
        "sqlite": "zarrcy.stores.sqlite:SQLiteStore",
        "zip": "zarrcy.stores.zip:ZipStore",
    },
)

# URL schemes that are not the name of their store. A store of another package gives its own in the class attribute
# `schemes`.
SCHEMES = {
    "az": "azure_blob",
    "file": "filesystem",
    "gs": "gcs",
    "mongodb": "mongo_gridfs",
    "mongodb+srv": "mongo_gridfs",
    "shm": "shared_memory",
}

# Other names of built-in stores, which `names` does not list.
ALIASES = {"ets": "shared_memory"}

# What goes around a store, and is built rather than named: it takes the store itself.
WRAPPERS = {
    "cached": "CachedStore",
    "partitioned": "PartitionedStore",
    "readonly": "ReadOnlyStore",
    "retrying": "RetryingStore",
}

# The extra that brings the packages of a built-in store: pip install "zarrcy[EXTRA]".
EXTRAS: dict[str, str] = {"azure_blob": "azure", "gcs": "gcs", "mongo_gridfs": "mongo", "s3": "s3"}

# Compiled at first use, not at import; `re` keeps it.
_SCHEME = r"([A-Za-z][A-Za-z0-9+.-]*)://"


def register(name: str, cls: type[Store]) -> None:
    """Add a store under a name. Registering the same class twice is fine.

    Parameters
    ----------
    name : str
        The name for ``storage=NAME``, and a URL scheme too, unless the class has the attribute ``schemes``.
    cls : type
        A subclass of `Store`. For URLs it has a class method ``from_url(url, *, mode=None, **options)``; when it can
        do better for reading than a `ReadOnlyStore` around it, a class method ``for_mode(mode, **options)``.

    Raises
    ------
    TypeError
        `cls` is not a subclass of `Store`.
    ValueError
        The name stands for another class.

    Examples
    --------
    >>> import zarrcy.stores
    >>> from zarrcy.stores.memory import MemoryStore
    >>> zarrcy.stores.register("memory", MemoryStore)
    """
    if not (isinstance(cls, type) and issubclass(cls, Store)):
        raise TypeError(f"store {name!r}: expected a subclass of zarrcy.stores.Store, got {cls!r}")
    if name in ALIASES:
        raise ValueError(f"store {name!r}: expected a new name, got another one of {ALIASES[name]!r}")
    registry.register(name, cls)


def names() -> list[str]:
    """The name of every store, sorted; ``"ets"``, which is another one of ``"shared_memory"``, is left out.

    Examples
    --------
    >>> import zarrcy.stores
    >>> "memory" in zarrcy.stores.names()
    True
    """
    return registry.names()


def info(name: str) -> StoreInfo:
    """What a store is good for.

    Raises
    ------
    UnknownExtensionError
        There is no store of that name.
    StoreError
        A package that it needs is missing.

    Examples
    --------
    >>> import zarrcy.stores
    >>> zarrcy.stores.info("memory").scalability
    'Process-local'
    """
    from zarrcy.stores.overview import StoreInfo

    cls = _load(name)
    return StoreInfo(name, cls.kind, cls.persistence, cls.scalability, cls.latency, cls.use)


def open(
    target: Store | str | os.PathLike[str] | MutableMapping[str, bytes], /, *, mode: str | None = None, **options: Any
) -> Store:
    """Find or make the store that `target` means.

    Parameters
    ----------
    target : Store, str, os.PathLike or dict
        A store is returned as it is. A URL (``memory://``, ``file:///…``, ``zip://a.zip`` …) goes to the store of its
        scheme. A path is a directory, or a ZIP archive when it ends in ``.zip``. A dict of names and bytes holds the
        values itself.
    mode : {"r", "r+", "a", "w", "w-"}, optional
        What the caller is going to do with arrays and groups in it; ``"r"`` gives a read-only store, except of a
        `Store` or dict.
    **options
        Further options of the store.

    Raises
    ------
    TypeError
        `target` is of another type; or it is a store or dict, and there are options.
    UnknownExtensionError
        No store has this URL scheme.
    StoreError
        The storage cannot be opened.

    Examples
    --------
    >>> import zarrcy.stores
    >>> zarrcy.stores.open("memory://scratch")
    MemoryStore(name='scratch')
    """
    if mode not in MODES:
        raise _bad_mode(mode)
    if type(target) is str and "://" not in target:
        return _open_path(target, mode, options)  # most are; the questions below cost more than the store
    if isinstance(target, (Store, MutableMapping)):
        if options:
            raise TypeError(f"store: expected no options beside a {type(target).__name__}, got {', '.join(options)}")
        return target if isinstance(target, Store) else _load("memory").over(target)  # type: ignore[attr-defined]
    if not isinstance(target, (str, os.PathLike)):
        raise TypeError(f"store: expected a Store, URL, path or dict, got {type(target).__name__}")
    text = os.fsdecode(target)
    match = re.match(_SCHEME, text) if isinstance(target, str) else None
    if match is None:
        return _open_path(text, mode, options)
    name = _name_of_scheme(match[1].lower())
    url = match[1].lower() + text[match.end(1) :]
    if name == "filesystem":
        return _open_path(_path_of_url(url), mode, options)
    cls = _load(name)
    if not hasattr(cls, "from_url"):
        raise StoreError(
            f"store {name!r}: expected options, got a URL, which it cannot be opened by", store=url, code="no_url"
        )
    store: Store = cls.from_url(url, mode=mode, **options)
    return _restricted(store, mode)


def by_name(name: str, /, *, mode: str | None = None, **options: Any) -> Store:
    """Make the store of a name from its options, as ``storage=NAME`` does.

    Parameters
    ----------
    name : str
        A name of `names`.
    mode : {"r", "r+", "a", "w", "w-"}, optional
        As for `open`.
    **options
        The options of the store, such as ``path=``.

    Raises
    ------
    UnknownExtensionError
        There is no store of that name.
    TypeError
        The store has no such option, or lacks one.
    StoreError
        The storage cannot be opened, or a package that the store needs is missing.

    Examples
    --------
    >>> from zarrcy.stores import catalogue
    >>> catalogue.by_name("memory", name="results")
    MemoryStore(name='results')
    """
    if mode not in MODES:
        raise _bad_mode(mode)
    return _make(_load(name), mode, options)


def require(module: str, install: str) -> ModuleType:
    """Import the package that a store talks through; a store calls it at first use.

    Parameters
    ----------
    module : str
        The module to import, such as ``"boto3"``.
    install : str
        What pip installs for it, such as ``"zarrcy[s3]"``.

    Raises
    ------
    StoreError
        It is not installed. The note says how to install it.
    """
    import importlib

    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise StoreError(
            f"expected the package {error.name!r}, which is not installed",
            code="missing_package",
            hint=f'pip install "{install}"',
        ) from error


def _load(name: str) -> type[Store]:
    name = ALIASES.get(name, name)
    if name in WRAPPERS and name not in registry:
        raise UnknownExtensionError(
            f"store {name!r}: expected the name of a store, got that of a wrapper, which takes a store",
            code="wrapper",
            hint=f"Open what you build: zarrcy.open(zarrcy.stores.{WRAPPERS[name]}(store, ...)).",
        )
    try:
        return registry.get(name)
    except ModuleNotFoundError as error:
        raise StoreError(
            f"store {name!r}: expected the package {error.name!r}, which is not installed",
            code="missing_package",
            hint=f'pip install "zarrcy[{EXTRAS[name]}]"'
            if name in EXTRAS
            else f"Install {error.name!r}, or the extra that brings it.",
        ) from error


def _bad_mode(mode: object) -> ValueError:
    return ValueError(f"mode: expected one of {', '.join(repr(mode) for mode in MODES)}, got {mode!r}")


def _make(cls: type[Store], mode: str | None, options: dict[str, Any]) -> Store:
    store: Store = cls.for_mode(mode, **options) if hasattr(cls, "for_mode") else cls(**options)
    return _restricted(store, mode)


def _restricted(store: Store, mode: str | None) -> Store:
    if mode != "r" or store.read_only:
        return store
    from zarrcy.stores.readonly import ReadOnlyStore

    return ReadOnlyStore(store)


def _open_path(path: str, mode: str | None, options: dict[str, Any]) -> Store:
    if path[-4:].lower() == ".zip" and not _is_directory(path):
        return _make(_load("zip"), mode, {"path": path, **options})
    store: Store = registry.get("filesystem").for_mode(mode, path, **options)
    return store


def _is_directory(path: str) -> bool:
    try:
        return os.path.isdir(path)  # noqa: PTH112 - pathlib costs 1 ms of the import
    except OSError:
        # The store says what is wrong with the path.
        return False


def _path_of_url(url: str) -> str:
    from urllib.parse import unquote

    path = unquote(url.removeprefix("file://").removeprefix("localhost"))
    if not path.startswith("/"):
        raise StoreError(
            f"expected file:/// and an absolute path, got {url!r}",
            code="bad_url",
            hint="Give a relative path without file://.",
        )
    return path


def _name_of_scheme(scheme: str) -> str:
    name = SCHEMES.get(scheme, scheme)
    if name in registry or name in ALIASES:
        return name
    schemes = dict.fromkeys(SCHEMES)
    for name in registry:
        try:
            own = getattr(_load(name), "schemes", (name,))
        except StoreError:
            # Its package is missing; it is not the one that was asked for by name.
            own = (name,)
        if scheme in own:
            return name
        schemes.update(dict.fromkeys(own))
    schemes.pop("filesystem", None)
    raise UnknownExtensionError(
        f"URL scheme {scheme!r}: expected one of {', '.join(sorted(schemes))}",
        code="unknown",
        hint=f"A package can add a store through the entry point group {registry.group!r}.",
    )
