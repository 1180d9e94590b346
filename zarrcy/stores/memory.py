"""A dict in the process as a store: for tests and temporary arrays."""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections.abc import Iterator, MutableMapping
from typing import Any
from urllib.parse import quote, unquote

from zarrcy.errors import ConflictError, StoreError
from zarrcy.stores.store import Buffer, Store, Version, check_key, check_prefix, resolve_part

__all__ = ["MemoryStore"]

_numbers = itertools.count(1)
_versions = itertools.count(1)
_by_name: weakref.WeakValueDictionary[str, MemoryStore] = weakref.WeakValueDictionary()
_by_data: weakref.WeakValueDictionary[int, MemoryStore] = weakref.WeakValueDictionary()
_naming_lock = threading.Lock()


class MemoryStore(Store):
    """A dict in the process. Its values are lost with it; a forked child has a copy of its own from then on.

    Parameters
    ----------
    data : MutableMapping of str to bytes, optional
        The mapping that holds the values, such as a dict of one's own; by default a new dict.
    name : str, optional
        A name for the URL; by default a number. ``memory://NAME`` is this store for as long as something holds it.

    Raises
    ------
    ValueError
        Another store has that name.

    Notes
    -----
    Values are kept as `bytes`, and a part is a view of one: nothing is copied when reading. Two stores are equal when
    they are the same object. A pickle would have to hold the values, so there is none.

    Examples
    --------
    >>> from zarrcy.stores.memory import MemoryStore
    >>> store = MemoryStore()
    >>> store.set("c/0", b"abcd")
    >>> bytes(store.get("c/0", slice(1, 3)))
    b'bc'
    """

    supports_cas = True

    kind = "In-memory"
    persistence = "No"
    scalability = "Process-local"
    latency = "Lowest"
    use = "Testing, temporary arrays"

    def __init__(self, data: MutableMapping[str, bytes] | None = None, *, name: str | None = None) -> None:
        self._data: MutableMapping[str, bytes] = {} if data is None else data
        # The value that a version was given for: a dict that others change too shows by another object.
        self._stamps: dict[str, tuple[bytes, int]] = {}
        self._lock = threading.Lock()
        with _naming_lock:
            if name in _by_name:
                raise ValueError(f"memory store {name!r}: expected a new name, got that of a store in use")
            self.name = name if name is not None else next(text for i in _numbers if (text := str(i)) not in _by_name)
            _by_name[self.name] = self

    @classmethod
    def over(cls, data: MutableMapping[str, bytes]) -> MemoryStore:
        """The store of a mapping: the same one while something holds it, so that one lock guards every writer."""
        store = _by_data.get(id(data))
        if store is None:
            store = _by_data.setdefault(id(data), cls(data))
        return store

    @classmethod
    def from_url(cls, url: str, *, mode: str | None = None, **options: Any) -> Store:
        """The store that ``memory://NAME`` names, new and empty when there is none; ``memory://`` is always new."""
        name = unquote(url.removeprefix("memory://")) or None
        store = None if name is None or options else _by_name.get(name)
        return cls(name=name, **options) if store is None else store

    @property
    def url(self) -> str:
        return "memory://" + quote(self.name)

    def options(self) -> dict[str, Any]:
        return {"name": self.name}

    def get(self, key: str, part: slice | None = None) -> Buffer | None:
        value = self._data.get(key)
        if value is None:
            check_key(key)
            return None
        return value if part is None else _cut(value, part)

    def set(self, key: str, value: Buffer) -> None:
        check_key(key)
        copy = _immutable(value)
        with self._lock:
            self._data[key] = copy
            self._stamps.pop(key, None)

    def delete(self, key: str) -> None:
        check_key(key)
        with self._lock:
            self._data.pop(key, None)
            self._stamps.pop(key, None)

    def list_prefix(self, prefix: str = "") -> Iterator[str]:
        check_prefix(prefix)
        with self._lock:
            keys = list(self._data)
        return (key for key in keys if key.startswith(prefix))

    def size(self, key: str) -> int | None:
        value = self._data.get(check_key(key))
        return None if value is None else len(value)

    def get_with_version(
        self, key: str, part: slice | None = None, *, if_version: Version | None = None
    ) -> tuple[Buffer | None, Version | None]:
        with self._lock:
            value = self._data.get(check_key(key))
            version = self._version(key, value)
        if if_version is not None and version != if_version:
            raise ConflictError("expected the version that was read before, got another", store=self.url, key=key)
        return (value if value is None or part is None else _cut(value, part)), version

    def set_if(self, key: str, value: Buffer, version: Version | None) -> Version:
        check_key(key)
        copy = _immutable(value)
        with self._lock:
            if version != self._version(key, self._data.get(key)):
                expected = "an absent key" if version is None else "the version that was read before"
                raise ConflictError(f"expected {expected}, got another", store=self.url, key=key)
            self._data[key] = copy
            self._stamps[key] = copy, (new := next(_versions))
            return new

    def _version(self, key: str, value: bytes | None) -> int | None:
        if value is None:
            return None
        stamp = self._stamps.get(key)
        if stamp is None or stamp[0] is not value:
            stamp = self._stamps[key] = value, next(_versions)
        return stamp[1]

    def __reduce__(self) -> tuple[Any, ...]:
        raise StoreError(
            "expected a store that other processes can open, got the memory of this one",
            store=self.url,
            code="process_local",
            hint="A file system store works between processes: give a path.",
        )

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


def _immutable(value: Buffer) -> bytes:
    return value if type(value) is bytes else memoryview(value).tobytes()


def _cut(value: bytes, part: slice) -> memoryview:
    start, n = resolve_part(part, len(value))
    return memoryview(value)[start : start + n]


def _after_fork_in_child() -> None:
    # Another thread of the parent may have held them.
    global _naming_lock
    _naming_lock = threading.Lock()
    for store in list(_by_name.values()):
        store._lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
