"""Where nodes lie: the store and the path that a call means."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from os import PathLike
from typing import Any

from zarrcy.stores import catalogue
from zarrcy.stores.store import Store, check_key

__all__ = ["StoreLike", "find_store", "join_path", "node_path", "opened"]

StoreLike = Store | str | PathLike[str] | MutableMapping[str, bytes]


def node_path(name: str) -> str:
    """A path without slashes at its ends, checked.

    Raises
    ------
    TypeError
        It is no text.
    ValueError
        A segment of it is empty, ``"."`` or ``".."``, or begins with ``"__"``, which the specification keeps for
        itself.
    """
    if not isinstance(name, str):
        raise TypeError(f"path: expected text, got {type(name).__name__}")
    path = name.strip("/")
    if path:
        check_key(path)
        if any(segment.startswith("__") for segment in path.split("/")):
            raise ValueError(f"path {name!r}: expected no segment that begins with '__', which Zarr keeps for itself")
    return path


def join_path(path: str, name: str) -> str:
    """The path of a member of the node at `path`."""
    return f"{path}/{name}" if path and name else path or name


def find_store(
    target: StoreLike | None, path: str, mode: str | None, storage: str | None, options: dict[str, Any]
) -> tuple[Store, str]:
    """The store that a call means, and the path of the node in it.

    A store, URL or path that is given first goes with the path of the node. ``storage="name"`` goes with the options of
    that store, of which `path` may be one; `path` alone is a directory, or an archive that ends in ``.zip``.
    """
    if target is not None:
        if storage is not None:
            raise TypeError("storage: expected a store or storage=, got both")
        if path != "":
            path = node_path(path)
        return catalogue.open(target, mode=mode, **options), path
    if path:
        options = {"path": path, **options}
    if storage is not None:
        return catalogue.by_name(storage, mode=mode, **options), ""
    if "path" in options:
        return catalogue.open(options.pop("path"), mode=mode, **options), ""
    if options:
        raise TypeError(f"storage: expected storage= beside {', '.join(options)}, got none")
    return catalogue.by_name("memory", mode=mode), ""


@contextmanager
def opened(
    target: StoreLike | None, path: str, mode: str | None, storage: str | None, options: dict[str, Any]
) -> Iterator[tuple[Store, str]]:
    """`find_store` for a call: when the call fails, a store that was opened for it is closed, and no archive stays
    locked."""
    found, path = find_store(target, path, mode, storage, options)
    try:
        yield found, path
    except BaseException:
        if found is not target:
            found.close()
        raise
