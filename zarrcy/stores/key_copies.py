"""Copies of the keys of a store, as they are, to one or several others."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple
from urllib.parse import unquote

from zarrcy.errors import StoreError
from zarrcy.stores.store import Buffer, Store, check_prefix
from zarrcy.thread_count import get_threads
from zarrcy.threads import run_with_helpers

__all__ = ["CopiedKeys", "copy_store"]

Progress = Callable[[int, int], None]

# The documents of a node, in the order in which they are written: what describes it, what makes it a node, and what
# tells of the nodes below it.
DOCUMENTS = {".zattrs": 0, "zarr.json": 1, ".zarray": 1, ".zgroup": 1, ".zmetadata": 2}


class CopiedKeys(NamedTuple):
    """What a copy did.

    Attributes
    ----------
    copied : int
        Values that were written, in all targets.
    unchanged : int
        Values that were there already, in all targets.
    deleted : int
        Keys that the source has not and that were deleted, in all targets.
    nbytes : int
        The bytes that were written, in all targets.
    """

    copied: int
    unchanged: int
    deleted: int
    nbytes: int


def copy_store(
    source: Store,
    *targets: Store,
    prefix: str = "",
    delete: bool = False,
    verify: bool = True,
    progress: Progress | None = None,
) -> CopiedKeys:
    """Copy the keys of a store, with their values as they are, to other stores.

    Each value is read once, for all targets, several at a time. A value that a target has already is not written
    again: a copy that broke off goes on when it is called again, and a second copy writes what has changed. Of a
    `PartitionedStore` the keys are the plain ones.

    Of Zarr it knows the names of the documents: they come after everything else, those of the deepest nodes first and
    those of the root last. So in a target that was empty, an array that can be opened is whole, and so is all below a
    group. What is deleted goes in the opposite order. `zarrcy.copy` copies a node, and can change its chunks, codecs
    and format.

    Parameters
    ----------
    source : Store
        Where to read.
    *targets : Store
        Where to write; at least one.
    prefix : str, default ""
        Only the keys that start with it: empty, or ending in ``"/"``.
    delete : bool, default False
        Delete, after that, what a target has below `prefix` and the source has not.
    verify : bool, default True
        Read each value that was written, and compare.
    progress : callable, optional
        Called with the number of keys that are done, and of all. Any thread calls it, one at a time.

    Returns
    -------
    CopiedKeys
        What was written, left and deleted.

    Raises
    ------
    ValueError
        There is no target, or one of them is the source, lies in it, or holds it.
    StoreError
        A value could not be read or written, or a target gives back another (``code="verify"``). Nothing is deleted
        then.

    Examples
    --------
    >>> from zarrcy.stores import MemoryStore, copy_store
    >>> source = MemoryStore({"zarr.json": b"{}", "c/0": b"1"})
    >>> near, far = MemoryStore(), MemoryStore()
    >>> copy_store(source, near, far)
    CopiedKeys(copied=4, unchanged=0, deleted=0, nbytes=6)
    >>> copy_store(source, near, far)
    CopiedKeys(copied=0, unchanged=4, deleted=0, nbytes=0)
    """
    check_prefix(prefix)
    if not targets:
        raise ValueError("copy_store: expected at least one target, got none")
    for target in targets:
        ours, theirs = place_of(source), place_of(target)
        if ours.startswith(theirs) or theirs.startswith(ours):
            raise ValueError(f"copy_store: expected a target apart from {source.url}, got {target.url}")
        target.check_writable()
        target.prepare()
    keys = list(source.list_prefix(prefix))
    run = Run(source, targets, [set(target.list_prefix(prefix)) for target in targets], len(keys), verify, progress)
    n_threads = max(s.concurrency for s in (source, *targets)) or get_threads()
    for stage in stages(keys):
        run.waiting.extend(stage)
        run_with_helpers(run.drain, min(n_threads, len(stage)))
    if delete:
        wanted = set(keys)
        for target, there in zip(targets, run.there, strict=True):
            for key in sorted(there - wanted, key=stage_of, reverse=True):
                target.delete(key)
                run.n_deleted += 1
    for target in targets:
        target.sync()
    return CopiedKeys(run.n_copied, run.n_unchanged, run.n_deleted, run.nbytes)


def stage_of(key: str) -> tuple[int, ...]:
    """When a key is written: that of a document after all that it speaks of.

    Examples
    --------
    >>> from zarrcy.stores.key_copies import stage_of
    >>> sorted(["zarr.json", "a/zarr.json", "a/b/zarr.json", "a/b/c/0"], key=stage_of)
    ['a/b/c/0', 'a/b/zarr.json', 'a/zarr.json', 'zarr.json']
    """
    rank = DOCUMENTS.get(key.rpartition("/")[2])
    return () if rank is None else (-key.count("/"), rank)


def stages(keys: list[str]) -> list[list[str]]:
    """The keys, those together that may be written in any order."""
    found: dict[tuple[int, ...], list[str]] = {}
    for key in keys:
        found.setdefault(stage_of(key), []).append(key)
    return [found[stage] for stage in sorted(found)]


def place_of(store: Store) -> str:
    """Where the keys lie, ending in a slash; the same text whichever links lead there."""
    scheme, _, rest = store.url.partition("://")
    if scheme == "file":
        return os.path.join(os.path.realpath(unquote(rest, errors="surrogateescape")), "")
    return store.url.rstrip("/") + "/"


class Run:
    """A copy under way; its threads share it."""

    def __init__(
        self,
        source: Store,
        targets: Sequence[Store],
        there: list[set[str]],
        n_keys: int,
        verify: bool,
        progress: Progress | None,
    ) -> None:
        self.source, self.targets, self.there = source, targets, there
        self.waiting: deque[str] = deque()
        self.n_keys = n_keys
        self.verify, self.progress = verify, progress
        self.n_done = self.n_copied = self.n_unchanged = self.n_deleted = self.nbytes = 0
        self.lock = threading.Lock()

    def drain(self) -> None:
        """Copy keys until none is waiting. An error lets no thread begin another one."""
        while True:
            try:
                key = self.waiting.popleft()
            except IndexError:
                return
            try:
                self.copy(key)
            except BaseException:
                self.waiting.clear()
                raise

    def copy(self, key: str) -> None:
        value = self.source.get(key)
        n_copied = n_unchanged = 0
        if value is not None:
            for target, there in zip(self.targets, self.there, strict=True):
                if key in there and same(target.get(key), value):
                    n_unchanged += 1
                    continue
                target.set(key, value)
                n_copied += 1
                if self.verify and not same(target.get(key), value):
                    raise StoreError(
                        "expected the value that was written, got another",
                        store=target.url,
                        key=key,
                        code="verify",
                        hint="Another program may write there, or the storage is damaged.",
                    )
        with self.lock:
            self.n_copied += n_copied
            self.n_unchanged += n_unchanged
            self.nbytes += n_copied * (0 if value is None else len(value))
            self.n_done += 1
            if self.progress is not None:
                self.progress(self.n_done, self.n_keys)


def same(found: Buffer | None, value: Buffer) -> bool:
    return found is not None and bytes(found) == bytes(value)
