"""Which calls of a `zarrcy.stores.mock.MockStore` meet an effect."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection
from dataclasses import dataclass
from random import Random

from zarrcy.stores.mock_effects import WRITING, Effect

__all__ = ["Fault", "call_matches"]

# Names that stand for several methods.
GROUPS = {
    "read": ("get", "get_with_version", "size", "exists", "list_prefix", "list_dir"),
    "write": WRITING,
    "list": ("list_prefix", "list_dir"),
}


@dataclass(frozen=True)
class Fault:
    """An effect, and the calls that meet it.

    Parameters
    ----------
    effect : Effect
        What happens.
    method : str or tuple of str, optional
        Calls of that method alone, such as ``"get_with_version"``, or of one of them. ``"read"``, ``"write"`` and
        ``"list"`` stand for several.
    key : str or re.Pattern, optional
        Calls with that key alone. Text that ends in ``"/"`` stands for every key below it; text with ``*``, ``?`` or
        ``[`` is a pattern as of `fnmatch`; a compiled pattern must match the whole key.
    nth : int or collection of int, optional
        Of those calls only the nth, or those of these numbers. The first is 1.
    share : float, optional
        Of those calls only this share of them, chosen at random by the store's seed.
    times : int, optional
        At most so often.

    Raises
    ------
    ValueError
        `share` is not between 0 and 1, or a number of `nth` is below 1.

    Examples
    --------
    >>> from zarrcy.stores.mock import Fault, Flip, Status
    >>> plan = [Fault(Status(503), method="set", key="c/", share=0.2), Fault(Flip(), method="get", nth=3)]
    """

    effect: Effect
    method: str | tuple[str, ...] | None = None
    key: str | re.Pattern[str] | None = None
    nth: int | Collection[int] | None = None
    share: float | None = None
    times: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.effect, Effect):
            raise TypeError(f"effect: expected an Effect, such as Status(503), got {self.effect!r}")
        if self.share is not None and not 0 <= self.share <= 1:
            raise ValueError(f"share: expected 0 to 1, got {self.share}")
        numbers = [self.nth] if isinstance(self.nth, int) else self.nth
        if numbers is not None and any(number < 1 for number in numbers):
            raise ValueError(f"nth: expected 1 or more, got {self.nth}")

    def matches(self, method: str, key: str) -> bool:
        """Whether a call is one of those that `method` and `key` mean."""
        return call_matches(method, key, self.method, self.key)

    def meets(self, number: int, random: Random) -> bool:
        """Whether the call of this number, among those that match, meets the fault, `times` apart."""
        if self.nth is not None and not (number == self.nth if isinstance(self.nth, int) else number in self.nth):
            return False
        return self.share is None or random.random() < self.share


def call_matches(
    method: str, key: str, methods: str | tuple[str, ...] | None, keys: str | re.Pattern[str] | None
) -> bool:
    """Whether a call of `method` with `key` is one that `methods` and `keys`, those of a `Fault`, mean."""
    if methods is not None:
        names = (methods,) if isinstance(methods, str) else methods
        if not any(method == name or method in GROUPS.get(name, ()) for name in names):
            return False
    if keys is None:
        return True
    if isinstance(keys, re.Pattern):
        return keys.fullmatch(key) is not None
    if keys.endswith("/"):
        return key.startswith(keys)
    if any(letter in keys for letter in "*?["):
        return fnmatch.fnmatchcase(key, keys)
    return key == keys
