"""What is imported at its first use: classes by name (codecs, stores), and modules of zarrcy that opening and reading a
plain array does not need."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from zarrcy.errors import UnknownExtensionError

__all__ = ["LazyModule", "Registry"]


class LazyModule:
    """A module that is imported when something of it is first used; from then on, that is found here.

    Parameters
    ----------
    name : str
        The module, such as ``"zarrcy.selection"``.

    Examples
    --------
    >>> from zarrcy.registry import LazyModule
    >>> fractions = LazyModule("fractions")
    >>> fractions.Fraction(2, 4)
    Fraction(1, 2)
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        found = getattr(importlib.import_module(self._name), name)
        setattr(self, name, found)
        return found


class Registry:
    """A table of names and the classes they stand for: registered, built in, and entry points, read on the first miss.

    Parameters
    ----------
    kind : str
        What the names stand for, for error messages, such as ``"codec"``.
    group : str
        The entry point group where other packages add names, such as ``"zarrcy.codecs"``.
    built_in : dict of str to str
        Names that zarrcy brings, each with ``"module:Class"``, imported on first use.

    Examples
    --------
    >>> from zarrcy.registry import Registry
    >>> shapes = Registry("shape", "example.shapes", {"fraction": "fractions:Fraction"})
    >>> shapes.get("fraction").__name__
    'Fraction'
    >>> shapes.register("integer", int)
    >>> shapes.names()
    ['fraction', 'integer']
    """

    def __init__(self, kind: str, group: str, built_in: dict[str, str]) -> None:
        self.kind = kind
        self.group = group
        self._built_in = built_in
        self._classes: dict[str, type[Any]] = {}
        self._entry_points: dict[str, Any] | None = None

    def register(self, name: str, cls: type[Any]) -> None:
        """Add a class under a name. Registering the same class twice is fine; a name that is taken is not.

        Raises
        ------
        ValueError
            The name stands for another class.
        """
        if name in self and self.get(name) is not cls:
            raise ValueError(f"{self.kind} {name!r}: expected a new name, got one that stands for {self.get(name)!r}")
        self._classes[name] = cls

    def get(self, name: str) -> type[Any]:
        """The class that `name` stands for.

        Raises
        ------
        UnknownExtensionError
            No class of that name is known.
        """
        cls = self._classes.get(name)
        if cls is None:
            cls = self._classes[name] = self._load(name)
        return cls

    def _load(self, name: str) -> type[Any]:
        if name in self._built_in:
            module, _, attribute = self._built_in[name].partition(":")
            cls: type[Any] = getattr(importlib.import_module(module), attribute)
            return cls
        if name in self._found():
            loaded: type[Any] = self._found()[name].load()
            return loaded
        raise UnknownExtensionError(
            f"{self.kind} {name!r}: expected one of {', '.join(self.names())}",
            code="unknown",
            hint=f"A package can add it through the entry point group {self.group!r}.",
        )

    def _found(self) -> dict[str, Any]:
        if self._entry_points is None:
            from importlib.metadata import entry_points

            self._entry_points = {point.name: point for point in entry_points(group=self.group)}
        return self._entry_points

    def __contains__(self, name: object) -> bool:
        return name in self._classes or name in self._built_in or name in self._found()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def names(self) -> list[str]:
        """Every name, sorted."""
        return sorted({*self._classes, *self._built_in, *self._found()})
