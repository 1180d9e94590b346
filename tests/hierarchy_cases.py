"""Places for the tests of hierarchies: in memory, in a directory, in an archive, and all that lies in them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import zarrcy
from zarrcy.stores.memory import MemoryStore

KINDS = ["memory", "directory", "archive"]


class Place:
    """Where a hierarchy may lie. `target` is what the functions of zarrcy take."""

    def __init__(self, kind: str, tmp_path: Path, name: str = "place") -> None:
        self.kind = kind
        self.path = tmp_path / (f"{name}.zip" if kind == "archive" else name)
        self.target: Any = MemoryStore() if kind == "memory" else self.path

    def exists(self) -> bool:
        return self.kind == "memory" or self.path.exists()

    def contents(self) -> dict[str, bytes]:
        """Every key and its value, of an archive those of its last directory."""
        if not self.exists():
            return {}
        store = zarrcy.stores.open(self.target, mode="r")
        found = {key: bytes(store.get(key) or b"") for key in store.list_prefix()}
        if self.kind == "directory":
            files = {str(file.relative_to(self.path)) for file in self.path.rglob("*") if not file.is_dir()}
            assert files == set(found), "a file that the store does not show"
        return found

    def fill(self, values: dict[str, bytes]) -> None:
        store = zarrcy.stores.open(self.target, mode="a")
        for key, value in values.items():
            store.set(key, value)
        self.finish(store)

    def finish(self, node: Any) -> Any:
        """Close the archive that a node lies in, so that others can open it."""
        if self.kind == "archive":
            getattr(node, "store", node).close()
        return node


@contextlib.contextmanager
def nothing_written(place: Place) -> Iterator[None]:
    """Whatever happens inside leaves all keys and values as they are, and makes no directory or archive."""
    existed, before = place.exists(), place.contents()
    yield
    assert place.contents() == before
    assert place.exists() == existed


@contextlib.contextmanager
def refused(place: Place, error: Any, match: str | None = None) -> Iterator[None]:
    with nothing_written(place), pytest.raises(error, match=match):
        yield
