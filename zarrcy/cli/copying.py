"""``zarrcy copy`` and ``zarrcy sync``.

The first is `zarrcy.copy`, node by node, with shapes that hold for the arrays that have as many axes; the second is
`zarrcy.stores.copy_store`, key by key.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any, NamedTuple

import typer

import zarrcy
from zarrcy.cli.documents import opened
from zarrcy.cli.human import Ticker
from zarrcy.copying import check_apart
from zarrcy.errors import NodeExistsError
from zarrcy.stores import Store, copy_store

__all__ = ["Options", "copy", "parse_shape", "sync"]

Document = dict[str, Any]
Node = zarrcy.Array | zarrcy.Group


class Options(NamedTuple):
    """What the copy is to have that the source has not; `None` keeps what the source has."""

    zarr_format: int | None
    chunks: tuple[int, ...] | str | None
    shards: tuple[int, ...] | str | None
    compressor: str | None
    overwrite: bool


def parse_shape(text: str | None, option: str, *, word: str) -> tuple[int, ...] | str | None:
    """The shape that an option such as ``--chunks 100,200`` means; `word` and `None` are returned as they are.

    Raises
    ------
    typer.BadParameter
        It is neither a shape nor `word`.
    """
    if text is None or text == word:
        return text
    extents = text.split(",")
    if not all(extent.strip().isdecimal() and int(extent) > 0 for extent in extents):
        raise typer.BadParameter(
            f'{option}: expected positive whole numbers such as 100,200, or "{word}", got {text!r}'
        )
    return tuple(int(extent) for extent in extents)


def copy(source: str, source_path: str, target: str, target_path: str, options: Options, progress: Ticker) -> Document:
    """Copy a node with all below it; the document is described in ``docs/cli.md``."""
    start = time.perf_counter()
    with opened(source) as store:
        node = zarrcy.open(store, source_path, mode="r")
        nodes = [("", node), *(node.members(None) if isinstance(node, zarrcy.Group) else ())]
        check_shapes(nodes, options)
        with zarrcy.stores.open(target, mode="a") as into:
            copies = copy_nodes(nodes, into, target_path.strip("/"), options, progress)
            arrays = [found for found in copies if isinstance(found, zarrcy.Array)]
            return {
                "source": store.url,
                "source_path": node.path,
                "target": into.url,
                "target_path": copies[0].path,
                "arrays": len(arrays),
                "groups": len(copies) - len(arrays),
                "nbytes": sum(array.nbytes for array in arrays),
                "nbytes_stored": sum(array.nbytes_stored for array in arrays),
                "seconds": round(time.perf_counter() - start, 3),
            }


def sync(source: str, targets: list[str], prefix: str, delete: bool, verify: bool, progress: Ticker) -> Document:
    """Copy keys to several stores; the document is described in ``docs/cli.md``."""
    start = time.perf_counter()
    with ExitStack() as stack:
        store = stack.enter_context(opened(source))
        into = [stack.enter_context(zarrcy.stores.open(target, mode="a")) for target in targets]

        def tick(done: int, n_keys: int) -> None:
            progress(store.url, done, n_keys)

        try:
            done = copy_store(store, *into, prefix=prefix, delete=delete, verify=verify, progress=tick)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        return {
            "source": store.url,
            "targets": [target.url for target in into],
            **done._asdict(),
            "seconds": round(time.perf_counter() - start, 3),
        }


def copy_nodes(
    nodes: list[tuple[str, Node]], store: Store, path: str, options: Options, progress: Ticker
) -> list[Node]:
    """Copy nodes, the topmost first, under their names below `path`. Only the topmost one may replace something."""
    check_apart(nodes[0][1], store, path)
    nbytes = sum(node.nbytes for _, node in nodes if isinstance(node, zarrcy.Array))
    before = 0
    copies: list[Node] = []

    def tick(label: str, done: int, total: int | None) -> None:
        progress(label, before + done, nbytes)

    for name, node in nodes:
        place = f"{path}/{name}" if path and name else path or name
        try:
            copies.append(copy_node(node, store, place, options, options.overwrite and not copies, tick))
        except NodeExistsError as error:
            if error.code != "exists":
                raise
            where = {"store": error.store, "key": error.key, "code": error.code}
            raise NodeExistsError(error.message, **where, hint="Give --overwrite to replace it.") from error
        before += node.nbytes if isinstance(node, zarrcy.Array) else 0
    return copies


def copy_node(node: Node, store: Store, path: str, options: Options, overwrite: bool, tick: Ticker) -> Node:
    changes = changes_for(node, options)
    if isinstance(node, zarrcy.Array):
        copied: zarrcy.Array = zarrcy.copy(node, store, path, overwrite=overwrite, progress=tick, **changes)
        return copied
    zarr_format = changes.get("zarr_format", node.metadata.zarr_format)
    return zarrcy.create_group(
        store, path, attributes=node.attrs.asdict(), zarr_format=zarr_format, overwrite=overwrite
    )


def changes_for(node: Node, options: Options) -> dict[str, Any]:
    """The options of `zarrcy.copy` for one node. Shapes of another number of axes are left out."""
    changes: dict[str, Any] = {}
    if options.zarr_format:
        changes["zarr_format"] = options.zarr_format
    if isinstance(node, zarrcy.Group):
        return changes
    if options.chunks == "auto" or (isinstance(options.chunks, tuple) and len(options.chunks) == node.ndim):
        changes["chunks"] = options.chunks
    if options.shards == "none":
        changes["shards"] = None
    elif options.shards is not None and len(options.shards) == node.ndim:
        changes["shards"] = options.shards
    if options.compressor is not None:
        changes["compressor"] = None if options.compressor == "none" else options.compressor
    return changes


def check_shapes(nodes: list[tuple[str, Node]], options: Options) -> None:
    """Refuse a shape that fits none of the arrays: it is a mistake, and would be passed over."""
    n_axes = sorted({node.ndim for _, node in nodes if isinstance(node, zarrcy.Array)})
    for name, shape in (("--chunks", options.chunks), ("--shards", options.shards)):
        if isinstance(shape, tuple) and len(shape) not in n_axes:
            have = " or ".join(map(str, n_axes)) or "no"
            raise typer.BadParameter(f"{name}: expected {have} extents, as the arrays have axes, got {len(shape)}")
