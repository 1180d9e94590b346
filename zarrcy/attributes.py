"""What the user noted about an array or a group, as a mapping that writes through."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

__all__ = ["Attributes"]


class Attributes(MutableMapping[str, Any]):
    """What the user noted about an array or a group: names and JSON values.

    Every change is stored at once, and made to the attributes as they are in the store then: two processes that set
    different names lose nothing. Values that are changed in place are not noticed: assign them again.

    Parameters
    ----------
    node : Array or Group
        Whose they are.

    Examples
    --------
    >>> import zarrcy
    >>> a = zarrcy.zeros((4,), chunks=2)
    >>> a.attrs["unit"] = "K"
    >>> dict(a.attrs)
    {'unit': 'K'}
    """

    # The node does not keep it: with it in a cycle, the store's open files would wait for the collector of cycles.
    def __init__(self, node: Any) -> None:
        self._node = node

    @property
    def _values(self) -> dict[str, Any]:
        values: dict[str, Any] = self._node.metadata.attributes
        return values

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def __delitem__(self, name: str) -> None:
        if name not in self._values:
            raise KeyError(name)
        self._node._store_attributes(lambda old: {key: value for key, value in old.items() if key != name})

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Attributes({self._values!r})"

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set several attributes in one write."""
        changes = _checked(dict(*args, **kwargs))
        self._node._store_attributes(lambda old: {**old, **changes})

    def put(self, values: dict[str, Any]) -> None:
        """Replace all attributes in one write."""
        checked = _checked(values)
        self._node._store_attributes(lambda old: dict(checked))

    def asdict(self) -> dict[str, Any]:
        """The attributes as a dictionary of its own."""
        return dict(self._values)


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    for name in values:
        if type(name) is not str:
            raise TypeError(f"attributes: expected text as names, got {name!r}")  # JSON would make text of it
    return values
