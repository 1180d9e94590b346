"""The contract of a store: a mapping of keys to values that any thread may use.

A store author writes `Store.get`, `Store.set`, `Store.delete`, `Store.list_prefix` and `Store.options`. The rest has
defaults that may be improved on.

The laws, checked by `zarrcy.testing.check_store`:

- A missing key is ``None``. Anything else that goes wrong is an exception, never ``None``.
- ``get(key, part) == get(key)[part]`` for every slice with step 1, suffixes and out-of-range ones included.
- `Store.set` is atomic per key: a reader sees the old value or the new one, whole.
- Every method may be called from any thread. Connections open lazily, and again after a fork.
- A pickle is the recipe for opening the same storage: no values, no connection, no secret.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

from zarrcy.errors import ConcurrentWriteWarning, ConflictError, ReadOnlyError, StoreError

if TYPE_CHECKING:
    from zarrcy.stores.clock import Clock

__all__ = [
    "UPDATE_TIMEOUT",
    "Buffer",
    "Store",
    "Version",
    "check_key",
    "check_prefix",
    "resolve_part",
    "warn_unguarded",
]

# How long a read-modify-write goes on against other writers of the key, in seconds.
UPDATE_TIMEOUT = 120.0

Buffer = bytes | bytearray | memoryview
Version = Hashable


class Store(ABC):
    """A mapping of keys to values.

    Attributes
    ----------
    concurrency : int
        Requests worth having in flight; 0 means one per CPU.
    coalesce_gap : int
        Bytes worth reading over to save a request.
    byte_budget : int
        Bytes of encoded chunks, or of values in `get_many`, worth having in flight, whatever `concurrency` says; 0
        means any number.
    batch : int
        Chunks worth moving by one call of `get_many` or `set_many`, within `byte_budget`, where the store has that
        method of its own; 1 means a call for each.
    supports_cas : bool
        `get_with_version` and `set_if` work, between all the processes that use the storage.
    read_only : bool
        Writing raises `zarrcy.ReadOnlyError`.
    priced_as : str
        The name in ``zarrcy.cost.PRICES`` of the service that charges for the storage and each request; empty for none.
    clock : Clock
        What `update` waits by; the module `time` unless a store has another.
    """

    concurrency: int = 0
    coalesce_gap: int = 0
    byte_budget: int = 0
    batch: int = 1
    supports_cas: bool = False
    read_only: bool = False
    priced_as: str = ""
    clock: Clock = time

    # What `zarrcy.stores.info` tells of the class.
    kind: ClassVar[str] = ""
    persistence: ClassVar[str] = ""
    scalability: ClassVar[str] = ""
    latency: ClassVar[str] = ""
    use: ClassVar[str] = ""

    @property
    @abstractmethod
    def url(self) -> str:
        """The URL of this storage, without secrets: for messages, and for opening it again."""

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """The keyword arguments that open this storage again, in another process too. No secret is among them."""

    @abstractmethod
    def get(self, key: str, part: slice | None = None) -> Buffer | None:
        """The value of a key, or a part of it.

        Parameters
        ----------
        key : str
            The key.
        part : slice, optional
            A slice of the value in bytes, with step 1; ``slice(-n, None)`` is a suffix. Out of range is as for `bytes`.

        Returns
        -------
        bytes-like or None
            The value; ``None`` when there is no such key.
        """

    @abstractmethod
    def set(self, key: str, value: Buffer) -> None:
        """Store a value, replacing an older one. A reader sees the old value or the new one, whole."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Delete a key. An absent key is fine."""

    @abstractmethod
    def list_prefix(self, prefix: str = "") -> Iterator[str]:
        """Every key that starts with `prefix`, in any order.

        Parameters
        ----------
        prefix : str
            Empty, or ending in ``"/"``.
        """

    def list_dir(self, prefix: str = "") -> Iterator[str]:
        """What lies directly below `prefix`, once each: a key's last segment, or a shared segment followed by
        ``"/"``."""
        seen = set()
        for key in self.list_prefix(prefix):
            name, slash, _ = key[len(prefix) :].partition("/")
            if name + slash not in seen:
                seen.add(name + slash)
                yield name + slash

    def size(self, key: str) -> int | None:
        """The length of a value in bytes; ``None`` when there is no such key."""
        value = self.get(key)
        return None if value is None else len(value)

    def exists(self, key: str) -> bool:
        """Whether there is such a key."""
        return self.size(key) is not None

    def get_many(self, requests: Iterable[tuple[str, slice | None]]) -> Iterator[tuple[int, Buffer | None]]:
        """Several values, as ``(position in requests, value)``, in the order in which they arrive, each position once.

        The first error stops new requests and is raised.
        """
        for i, (key, part) in enumerate(requests):
            yield i, self.get(key, part)

    def set_many(self, items: Iterable[tuple[str, Buffer]]) -> None:
        """Store several values. Each is atomic; all of them together are only where the class says so."""
        for key, value in items:
            self.set(key, value)

    def delete_prefix(self, prefix: str) -> None:
        """Delete every key that starts with `prefix`."""
        for key in list(self.list_prefix(prefix)):
            self.delete(key)

    def get_with_version(
        self, key: str, part: slice | None = None, *, if_version: Version | None = None
    ) -> tuple[Buffer | None, Version | None]:
        """A value, or a part of it, and the version of the whole value.

        Parameters
        ----------
        key, part
            As for `get`.
        if_version : optional
            Read only that version.

        Raises
        ------
        ConflictError
            `if_version` was given, and the value has another version now.
        """
        raise self._no_cas()

    def set_if(self, key: str, value: Buffer, version: Version | None) -> Version:
        """Store a value if the key still has `version`; with ``None``, if it is still absent. Returns the new version.

        Raises
        ------
        ConflictError
            The key has another version; nothing was written.
        """
        raise self._no_cas()

    def update(self, key: str, change: Callable[[Buffer | None], Buffer]) -> None:
        """Replace a value by what `change` makes of the old one, so that no concurrent update of the key is lost.

        Under compare-and-swap or the lock of the store; where it has neither, `ConcurrentWriteWarning` is given.

        Parameters
        ----------
        key : str
            The key.
        change : callable
            Takes the value, or ``None`` where there is none, and returns the new one. It may be called several times.

        Raises
        ------
        ConflictError
            Other writers were faster for two minutes.
        """
        if self.supports_cas:
            self._update_by_versions(key, change)
            return
        lock = self.lock(key)
        if lock is None:
            warn_unguarded(self.url)
        with lock or nullcontext():
            self.set(key, change(self.get(key)))

    def _update_by_versions(self, key: str, change: Callable[[Buffer | None], Buffer]) -> None:
        import itertools
        import random

        deadline = self.clock.monotonic() + UPDATE_TIMEOUT
        for attempt in itertools.count():
            old, version = self.get_with_version(key)
            value = change(old)
            try:
                self.set_if(key, value, version)
                return
            except ConflictError:
                if self.clock.monotonic() > deadline:
                    raise
                self.clock.sleep(random.uniform(0, min(0.0005 * 2 ** min(attempt, 10), 0.25)))

    def _no_cas(self) -> StoreError:
        return StoreError("expected a store that can compare and swap", store=self.url, code="no_cas")

    def _conflict(self, key: str) -> ConflictError:
        return ConflictError(
            "expected the version that was given, got another one",
            store=self.url,
            key=key,
            code="conflict",
            hint="Read the value again, and decide anew.",
        )

    def lock(self, key: str) -> AbstractContextManager[None] | None:
        """A context in which no other writer of that key is active; ``None`` where the store cannot lock."""
        return None

    def transaction(self) -> AbstractContextManager[Store]:
        """A context whose store commits all that is written through it at the end, or nothing.

        What was written is seen through that store at once, and by others after the commit. Any thread may use it
        while the context is open. An exception that leaves the context drops the changes.

        Returns
        -------
        context manager of Store
            Give its store to `zarrcy.open` and the like, to let their changes join in.

        Raises
        ------
        ConflictError
            At the end of the context: another writer changed what was read through it. Nothing was written; do it
            again from the start.
        StoreError
            The storage has no transactions (``code="no_transaction"``).
        """
        raise StoreError(
            "expected a store that has transactions",
            store=self.url,
            code="no_transaction",
            hint="A database has them. Here each value is atomic by itself.",
        )

    def native_reader(self) -> object | None:
        """The compiled reader of the file system store; ``None`` for every other store, wrappers included."""
        return None

    def prepare(self) -> None:  # noqa: B027 - most stores need nothing
        """Make what the first write needs, such as a directory or a table. Making an array or group calls it."""

    def repair(self) -> list[str]:
        """Collect what crashed writers left; returns a line for each thing that was done."""
        return []

    def sync(self) -> None:  # noqa: B027 - most stores have nothing to do
        """Return when all that was written is as safe as the store can make it."""

    def close(self) -> None:  # noqa: B027 - as above
        """Give connections and files back. The store opens them again when it is used again."""

    def check_writable(self) -> None:
        """Raise `ReadOnlyError` when the store was opened for reading."""
        if self.read_only:
            raise ReadOnlyError(
                "the store is read-only", store=self.url, code="read_only", hint='Open it with mode="r+".'
            )

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.options()))

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.options() == other.options()

    def __hash__(self) -> int:
        return hash((type(self), self.url))

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.options().items())
        return f"{type(self).__name__}({arguments})"


def _rebuild(cls: type[Store], options: dict[str, Any]) -> Store:
    return cls(**options)


def warn_unguarded(url: str) -> None:
    """Warn that the storage cannot guard a value that several write."""
    import warnings

    warnings.warn(
        f"{url}: writers of different parts of one value could lose data here: the storage can neither compare and "
        "swap nor lock. Let each chunk have one writer.",
        ConcurrentWriteWarning,
        stacklevel=4,
    )


def check_key(key: str) -> str:
    """Return `key` when it is one that every store can hold.

    Raises
    ------
    ValueError
        A key is one or more segments joined by ``"/"``, none of them empty, ``"."`` or ``".."``, without a backslash,
        NUL or control character.
    """
    if not isinstance(key, str) or not key.isprintable() or "\\" in key:
        raise ValueError(f"key {key!r}: expected printable text without a backslash")
    # Twice as quick as to look at each segment, which every call of a store would pay for.
    around = f"/{key}/"
    if "//" in around or "/./" in around or "/../" in around:
        segment = next(each for each in key.split("/") if each in ("", ".", ".."))
        raise ValueError(f"key {key!r}: expected segments that are not empty, '.' or '..', got {segment!r}")
    return key


def check_prefix(prefix: str) -> str:
    """Return `prefix` when it is empty or a valid key followed by ``"/"``.

    Raises
    ------
    ValueError
        It is neither.
    """
    if prefix:
        if not prefix.endswith("/"):
            raise ValueError(f"prefix {prefix!r}: expected an empty string or a final '/'")
        check_key(prefix[:-1])
    return prefix


def resolve_part(part: slice, nbytes: int) -> tuple[int, int]:
    """The ``(offset, n)`` in bytes that a part of a value of `nbytes` bytes means.

    Raises
    ------
    ValueError
        The slice has a step other than 1.
    """
    start, stop, step = part.indices(nbytes)
    if step != 1:
        raise ValueError(f"part {part!r}: expected step 1, got {step}")
    return start, max(stop - start, 0)
