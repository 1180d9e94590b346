"""The documents that the commands print: plain dictionaries, as `docs/cli.md` describes them."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import zarrcy
from zarrcy.codecs import registry
from zarrcy.codecs.chain import codecs_to_json
from zarrcy.codecs.config import linked
from zarrcy.stores import Store

Document = dict[str, Any]


@contextmanager
def opened(target: str) -> Iterator[Store]:
    """The store that a path or URL on the command line means, closed at the end."""
    store = zarrcy.stores.open(target)
    try:
        yield store
    finally:
        store.close()


def json_value(value: Any) -> Any:
    """`value` with the numbers that JSON cannot hold spelled as Zarr v3 spells fill values, such as ``"NaN"``."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {name: json_value(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(item) for item in value]
    return value


def sorted_members(group: zarrcy.Group) -> list[tuple[str, zarrcy.Array | zarrcy.Group]]:
    return sorted(group.items(), key=lambda member: member[0])


def info(store: Store, path: str) -> Document:
    """What ``zarrcy info`` prints."""
    node = zarrcy.open(store, path, mode="r")
    document = {
        "store": store.url,
        "path": node.path,
        "node_type": node_type(node),
        "zarr_format": node.metadata.zarr_format,
        "attributes": json_value(dict(node.attrs)),
    }
    if isinstance(node, zarrcy.Group):
        names = {name: node_type(member) for name, member in node.items()}
        groups, arrays = ([name for name in names if names[name] == wanted] for wanted in ("group", "array"))
        return document | {"groups": groups, "arrays": arrays}
    names = node.metadata.dimension_names
    return document | {
        "shape": list(node.shape),
        "chunks": list(node.chunks),
        "shards": None if node.shards is None else list(node.shards),
        "dimension_names": None if names is None else list(names),
        "data_type": node.metadata.data_type.to_json(),
        "dtype": str(node.dtype),
        "fill_value": fill_value(node),
        "codecs": [{"configuration": {}, **codec} for codec in codecs_to_json(node.metadata.codecs)],
        "nbytes": node.nbytes,
        "nbytes_stored": node.nbytes_stored,
        "nchunks": node.nchunks,
        "nchunks_initialized": node.nchunks_initialized,
    }


def fill_value(array: zarrcy.Array) -> Any:
    """The fill value as ``zarr.json`` spells it; None when a v2 array has none."""
    value = array.metadata.fill_value
    return None if value is None else array.metadata.data_type.fill_value_to_json(value)


def node_type(node: zarrcy.Array | zarrcy.Group) -> str:
    return "group" if isinstance(node, zarrcy.Group) else "array"


def entry(name: str, node: zarrcy.Array | zarrcy.Group) -> Document:
    """What a listing says of a node; the fields of arrays are null for a group."""
    document: Document = {
        "name": name,
        "path": node.path,
        "node_type": node_type(node),
        "zarr_format": node.metadata.zarr_format,
    }
    if isinstance(node, zarrcy.Group):
        return document | dict.fromkeys(("shape", "chunks", "dtype", "nbytes"))
    return document | {
        "shape": list(node.shape),
        "chunks": list(node.chunks),
        "dtype": str(node.dtype),
        "nbytes": node.nbytes,
    }


def tree(store: Store, path: str, level: int | None) -> Document:
    """What ``zarrcy tree`` prints."""
    node = zarrcy.open(store, path, mode="r")
    return {"store": store.url, "path": node.path, "root": branch(node.basename, node, level)}


def branch(name: str, node: zarrcy.Array | zarrcy.Group, level: int | None) -> Document:
    children = []
    if isinstance(node, zarrcy.Group) and level != 0:
        below = None if level is None else level - 1
        children = [branch(child_name, child, below) for child_name, child in sorted_members(node)]
    return entry(name, node) | {"children": children}


def ls(store: Store, path: str, *, long: bool, recursive: bool) -> Document:
    """What ``zarrcy ls`` prints. An array is listed as itself."""
    node = zarrcy.open(store, path, mode="r")
    nodes = walk(node, recursive) if isinstance(node, zarrcy.Group) else iter([(node.basename, node)])
    entries = []
    for name, child in nodes:
        stored = child.nbytes_stored if long and isinstance(child, zarrcy.Array) else None
        entries.append(entry(name, child) | {"nbytes_stored": stored})
    return {"store": store.url, "path": node.path, "long": long, "recursive": recursive, "entries": entries}


def walk(group: zarrcy.Group, recursive: bool) -> Iterator[tuple[str, zarrcy.Array | zarrcy.Group]]:
    for name, node in sorted_members(group):
        yield name, node
        if recursive and isinstance(node, zarrcy.Group):
            yield from walk(node, recursive)


def repair(store: Store) -> Document:
    """What ``zarrcy repair`` prints."""
    return {"store": store.url, "done": store.repair()}


def cost(store: Store, path: str, *, reads: float, writes: float, listings: float) -> Document:
    """What ``zarrcy cost`` prints."""
    node = zarrcy.open(store, path, mode="r")
    nodes = [child for _, child in walk(node, True)] if isinstance(node, zarrcy.Group) else [node]
    arrays = [each for each in nodes if isinstance(each, zarrcy.Array)]
    nbytes = sum(array.nbytes_stored for array in arrays)
    n_objects = sum(1 for array in arrays for _ in array.stored_chunks())
    rows = []
    for service, prices in zarrcy.cost.PRICES.items():
        it = zarrcy.cost.estimate(
            service, nbytes=nbytes, n_objects=n_objects, reads=reads, writes=writes, listings=listings
        )
        parts = {name: getattr(it, name) for name in ("storage", "put", "get", "list", "egress", "total")}
        rows.append({"service": service, "region": prices.region, **parts})
    return {
        "store": store.url,
        "path": node.path,
        "nbytes_stored": nbytes,
        "n_objects": n_objects,
        "reads": reads,
        "writes": writes,
        "listings": listings,
        "prices_of": zarrcy.cost.PRICES_DATE,
        "estimates": rows,
    }


def stores() -> Document:
    """What ``zarrcy stores`` prints."""
    titles = ("type", "persistence", "scalability", "latency", "use")
    rows = []
    for name in zarrcy.stores.names():
        told = zarrcy.stores.info(name)
        rows.append({"name": name} | {title: getattr(told, title) for title in titles})
    return {"stores": rows}


def codecs() -> Document:
    """What ``zarrcy codecs`` prints."""
    rows = [{"name": name, "from": registry.get(name).__module__.partition(".")[0]} for name in registry.names()]
    return {"codecs": rows, "numcodecs": version_of("numcodecs"), "libraries": linked()}


def version_of(package: str) -> str | None:
    """The version of an installed package; ``None`` when it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def config() -> Document:
    """What ``zarrcy config`` prints."""
    return (zarrcy.show_config("dicts") or {}) | {"platform": platform.platform()}
