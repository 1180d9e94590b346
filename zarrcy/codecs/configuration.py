"""Checks of the members of a codec's configuration. Every message begins with the name of the member."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, SupportsIndex

from zarrcy.errors import MetadataError

__all__ = ["checked_boolean", "checked_choice", "checked_integer", "checked_members"]


def checked_integer(name: str, value: object, low: int, high: int) -> int:
    """`value` as an int, when it is a whole number from `low` to `high`; booleans and floats are not."""
    # int first: to ask for the protocol costs more than all else about a codec.
    if type(value) is int or (isinstance(value, SupportsIndex) and not isinstance(value, bool)):
        number = value.__index__()
        if low <= number <= high:
            return number
    raise MetadataError(f"{name}: expected a whole number from {low} to {high}, got {_shown(value)}")


def checked_boolean(name: str, value: object) -> bool:
    """`value`, when it is true or false."""
    if isinstance(value, bool):
        return value
    raise MetadataError(f"{name}: expected true or false, got {_shown(value)}")


def checked_choice(name: str, value: object, choices: Collection[str]) -> str:
    """`value`, when it is one of the words in `choices`."""
    if isinstance(value, str) and value in choices:
        return value
    raise MetadataError(f"{name}: expected one of {', '.join(choices)}, got {_shown(value)}")


def checked_members(
    configuration: dict[str, Any], *, required: Collection[str] = (), optional: Collection[str] = ()
) -> dict[str, Any]:
    """`configuration`, when it has all `required` members, and no others but `optional` ones."""
    for name in required:
        if name not in configuration:
            raise MetadataError(f"{name}: expected this member, got none")
    for name in configuration:
        if name not in required and name not in optional:
            known = ", ".join([*required, *optional]) or "no members"
            raise MetadataError(f"{_shown(name)}: expected {known}, got this unknown member")
    return configuration


def _shown(value: object) -> str:
    """`value` as it would stand in a document, cut short."""
    import json

    try:
        text = value if isinstance(value, str) and value.isidentifier() else json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
