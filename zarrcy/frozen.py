"""What the metadata of arrays and of groups have in common: fields that do not change, and some that are read late."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zarrcy.remembered import twin_of

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Frozen"]


class Frozen:
    """Fields that are set once. They are in `__dict__`: a twin of it is made by one copy. What `later` puts off is not
    there until it is used."""

    _names: tuple[str, ...]  # of the fields

    attributes: dict[str, Any]
    extra_fields: dict[str, Any]
    _late: dict[str, Callable[[], Any]]
    pipelines: dict[bool, Any]  # what `zarrcy.transfer` has bound the codecs to, by whether it keeps empty chunks

    if not TYPE_CHECKING:  # else any name would pass for a field

        def __getattr__(self, name: str) -> Any:
            # Only what has no value comes here: a field that was put off, or no field.
            late = object.__getattribute__(self, "_late")
            read = late.get(name)
            if read is not None:
                object.__setattr__(self, name, read())
                late.pop(name, None)
            return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name}: metadata does not change; use replace()")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__}.{name}: metadata does not change; use replace()")

    def _fields(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._names}

    def loose(self) -> dict[str, Any]:
        """What of the fields can be changed in place, as JSON values."""
        return {"attributes": self.attributes, "extra_fields": self.extra_fields}

    def twin(self, loose: dict[str, Any], **reads: Callable[[], Any]) -> Self:
        """The same node with loose fields of its own, or read later by `reads`; it shares what is immutable, and is not
        checked again."""
        return twin_of(self, loose, reads)

    def later(self, **reads: Callable[[], Any]) -> Self:
        """The same node with fields that are read when they are first used, by functions by name."""
        return self.twin({}, **reads)

    def whole(self) -> Self:
        """The node itself, once all that was put off is read."""
        self._fields()
        return self

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed; what was put off stays so."""
        late = {name: read for name, read in dict(self._late).items() if name not in changes}
        kept = {name: getattr(self, name) for name in self._names if name not in late and name not in changes}
        changed: Self = _rebuild(type(self), {**kept, **changes})
        return changed.later(**late) if late else changed

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self._fields()))

    def __repr__(self) -> str:
        late = dict(self._late)
        # A debugger shows it: no reason to ask a store.
        fields = [f"{name}={'...' if name in late else repr(getattr(self, name))}" for name in self._names]
        return f"{type(self).__name__}({', '.join(fields)})"


def _rebuild(cls: type[Any], fields: dict[str, Any]) -> Any:
    return cls(**fields)
