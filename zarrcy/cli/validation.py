"""``zarrcy validate``: every metadata document, every key, and every chunk of a hierarchy.

It goes on after a problem. Two passes over the listing keep it from holding more than the nodes in memory: the first
finds the metadata documents, the second gives each key to the node that it belongs to.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import zarrcy
from zarrcy import metadata, metadata_v2
from zarrcy.cli.human import Ticker
from zarrcy.errors import CodecError, MetadataError, UnknownExtensionError, ZarrcyError
from zarrcy.metadata import ArrayMetadata, GroupMetadata
from zarrcy.stores import Store
from zarrcy.thread_count import get_threads
from zarrcy.threads import run_with_helpers

__all__ = ["validate"]

Document = dict[str, Any]

# The last segments of the keys of metadata documents, of both formats.
DOCUMENT_NAMES = frozenset([*metadata.document_keys(""), *metadata_v2.document_keys("")])

# Errors that are told of one key, while the others are still checked. A broken document can ask for any chunk shape,
# hence MemoryError.
CHECKED_ERRORS = (ZarrcyError, ValueError, MemoryError)


def validate(store: Store, path: str, *, deep: bool, progress: Ticker) -> Document:
    """Check the node at `path` with all below it; the document is described in ``docs/cli.md``."""
    check = Validation(store, path.strip("/"))
    check.find_nodes(progress)
    check.check_hierarchy()
    check.check_keys(deep, progress)
    return {
        "store": store.url,
        "path": check.path,
        "deep": deep,
        "checked": check.checked,
        "problems": sorted(check.problems, key=lambda problem: (problem["key"], problem["code"])),
        "unknown_keys": sorted(check.unknown_keys),
    }


class Validation:
    """One run: what was found so far."""

    def __init__(self, store: Store, path: str) -> None:
        self.store = store
        self.path = path
        self.prefix = f"{path}/" if path else ""
        self.nodes: dict[str, ArrayMetadata | GroupMetadata] = {}
        self.arrays: dict[str, zarrcy.Array] = {}
        self.broken: set[str] = set()
        self.n_keys = 0
        self.checked = {"groups": 0, "arrays": 0, "chunks": 0, "nbytes_decoded": 0}
        self.problems: list[dict[str, str]] = []
        self.unknown_keys: list[str] = []
        self.lock = threading.Lock()

    def report(self, key: str, code: str, reason: str) -> None:
        with self.lock:
            self.problems.append({"key": key, "code": code, "reason": reason})

    def report_error(self, key: str, error: Exception) -> None:
        """Note an error that a key gave rise to; store and key fall away, they are told beside it."""
        if isinstance(error, UnknownExtensionError):
            code = "unknown_extension"
        elif isinstance(error, MetadataError):
            code = "metadata"
        elif isinstance(error, CodecError):
            code = "chunk"
        else:
            code = "store" if isinstance(error, OSError) else "chunk"
        reason = error.message if isinstance(error, ZarrcyError) else f"{type(error).__name__}: {error}"
        codec = getattr(error, "codec", None)
        self.report(getattr(error, "key", None) or key, code, f"{codec}: {reason}" if codec else reason)

    def find_nodes(self, progress: Ticker) -> None:
        """Read every metadata document."""
        paths: dict[str, str] = {}
        for key in self.store.list_prefix(self.prefix):
            self.n_keys += 1
            path, _, name = key.rpartition("/")
            if name in DOCUMENT_NAMES:
                paths.setdefault(path, key)
        if not self.n_keys:
            zarrcy.open(self.store, self.path)  # raises the error that says what is wrong
        for i, (path, key) in enumerate(sorted(paths.items())):
            progress("metadata", i, len(paths))
            self.read_node(path, key)

    def read_node(self, path: str, key: str) -> None:
        found = None
        for reader in (metadata, metadata_v2):
            try:
                node = reader.read(self.store, path)
                found = found if node is None else node.whole()
            except CHECKED_ERRORS as error:
                self.report_error(key, error)
                self.broken.add(path)
        if path in self.broken or found is None:
            return
        self.nodes[path] = found
        if isinstance(found, GroupMetadata):
            self.checked["groups"] += 1
            return
        self.checked["arrays"] += 1
        try:
            # Binding the codecs to the chunks finds what the documents alone do not show.
            self.arrays[path] = zarrcy.open_array(self.store, path)
        except CHECKED_ERRORS as error:
            self.report_error(key, error)
            self.broken.add(path)

    def check_hierarchy(self) -> None:
        """Every node below the root has a group above it, and consolidated metadata says what the nodes say."""
        if not self.nodes and not self.broken:
            zarrcy.open(self.store, self.path)
        for path, node in self.nodes.items():
            if path != self.path:
                self.check_parent(path)
            if isinstance(node, GroupMetadata):
                self.check_consolidated(path, node)

    def check_parent(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        found = self.nodes.get(parent)
        if found is None and parent not in self.broken:
            self.report(path, "no_parent", f"expected a group at {parent or '/'!r}, got none")
        elif isinstance(found, ArrayMetadata):
            self.report(path, "no_parent", f"expected a group at {parent or '/'!r}, got an array")

    def check_consolidated(self, path: str, node: GroupMetadata) -> None:
        key = metadata.document_keys(path)[0]
        try:
            consolidated = node.consolidated
            if consolidated is None:
                key = metadata_v2.document_keys(path)[-1]
                found = metadata_v2.read_consolidated(self.store, path)
                consolidated = None if found is None else found.consolidated
            if consolidated is None:
                return
            below = f"{path}/" if path else ""
            real = {
                name[len(below) :]: self.nodes[name] for name in self.nodes if name != path and name.startswith(below)
            }
            for member in sorted({*real, *consolidated}):
                self.check_member(key, below + member, real.get(member), consolidated.get(member))
        except CHECKED_ERRORS as error:
            self.report_error(key, error)

    def check_member(
        self,
        key: str,
        path: str,
        real: ArrayMetadata | GroupMetadata | None,
        said: ArrayMetadata | GroupMetadata | None,
    ) -> None:
        """Compare a node with what consolidated metadata says of it."""
        if path in self.broken:
            return
        if isinstance(real, GroupMetadata):
            real = real.replace(consolidated=None)
        if isinstance(said, GroupMetadata):
            said = said.replace(consolidated=None)
        if real != said:
            state = (
                "is missing there" if said is None else "does not exist" if real is None else "is described differently"
            )
            self.report(
                key, "consolidated", f"consolidated metadata: expected what the nodes say, but {path!r} {state}"
            )

    def check_keys(self, deep: bool, progress: Ticker) -> None:
        """Give every key to its node; with `deep`, decode the chunks, on several threads."""
        keys = self.store.list_prefix(self.prefix)
        done = itertools.count(1)

        def work() -> None:
            while True:
                with self.lock:
                    key = next(keys, None)
                    if key is None:
                        return
                    progress("chunks" if deep else "keys", next(done), self.n_keys)
                self.check_key(key, deep)

        run_with_helpers(work, get_threads() if deep else 1)

    def check_key(self, key: str, deep: bool) -> None:
        owner, rest = self.owner(key)
        if owner is None or owner in self.broken or (rest in DOCUMENT_NAMES and owner in self.nodes):
            if owner is None:
                self.unknown_keys.append(key)
            return
        array = self.arrays.get(owner)
        index = None if array is None else array.metadata.chunk_key_encoding.parse(rest, array.ndim)
        if array is None or index is None:
            self.unknown_keys.append(key)
            return
        grid_shape = array.metadata.chunk_grid.grid_shape(array.shape)
        if any(i >= n for i, n in zip(index, grid_shape)):
            self.report(key, "outside", f"expected a chunk of the grid {grid_shape}, got {index}")
            return
        nbytes = self.decode(key, array, index) if deep else 0
        with self.lock:
            self.checked["chunks"] += 1
            self.checked["nbytes_decoded"] += nbytes

    def owner(self, key: str) -> tuple[str | None, str]:
        """The path of the nearest node above a key, and the rest of the key."""
        path = key
        while path:
            path = path.rpartition("/")[0]
            if path in self.nodes or path in self.broken:
                return path, key[len(path) + 1 :] if path else key
            if path == self.path:
                break
        return None, key

    def decode(self, key: str, array: zarrcy.Array, index: tuple[int, ...]) -> int:
        """Read one stored chunk or shard; the bytes that came of it."""
        region = region_of(index, array.metadata.chunk_shape, array.shape)
        try:
            return int(array[region].nbytes)
        except CHECKED_ERRORS as error:
            if array.shards is None or not isinstance(error, CodecError):
                self.report_error(key, error)
                return 0
            found = len(self.problems)
            for inner in inner_regions(region, array.chunks):
                self.decode_inner(key, array, inner)
            if len(self.problems) == found:
                self.report_error(key, error)
            return 0

    def decode_inner(self, key: str, array: zarrcy.Array, region: tuple[slice, ...]) -> None:
        try:
            array[region]
        except CHECKED_ERRORS as error:
            where = ", ".join(f"{part.start}:{part.stop}" for part in region)
            reason = error.message if isinstance(error, ZarrcyError) else f"{type(error).__name__}: {error}"
            self.report(key, "chunk", f"inner chunk [{where}]: {reason}")


def region_of(index: tuple[int, ...], chunk_shape: tuple[int, ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """The items of a chunk that lie in the array."""
    return tuple(slice(i * chunk, min((i + 1) * chunk, extent)) for i, chunk, extent in zip(index, chunk_shape, shape))


def inner_regions(region: tuple[slice, ...], chunks: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """The inner chunks of a shard that lie in its region."""
    starts = (range(part.start, part.stop, chunk) for part, chunk in zip(region, chunks))
    for corner in itertools.product(*starts):
        yield tuple(slice(i, min(i + chunk, part.stop)) for i, chunk, part in zip(corner, chunks, region))
