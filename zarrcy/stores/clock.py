"""Time as stores see it: the module `time`, or a clock of one's own in tests."""

from __future__ import annotations

import threading
import time
from typing import Any, Protocol

__all__ = ["Clock", "VirtualClock"]


class Clock(Protocol):
    """What waits and what it is measured by. The module `time` is one."""

    def monotonic(self) -> float:
        """Seconds since some moment in the past."""

    def sleep(self, seconds: float, /) -> None:
        """Return when that many seconds have passed."""


class VirtualClock:
    """A clock that stands still, and jumps when someone sleeps: minutes of backoff take no time.

    Parameters
    ----------
    start : float, default 0.0
        What it shows at first, in seconds.

    Notes
    -----
    Any thread may sleep. There is one time for all of them, so what several threads sleep adds up.
    Clocks with the same start are equal, and a pickle begins at the start again: like a store's, it is a recipe.

    Examples
    --------
    >>> from zarrcy.stores.clock import VirtualClock
    >>> clock = VirtualClock()
    >>> clock.sleep(120)
    >>> clock.monotonic()
    120.0
    """

    def __init__(self, start: float = 0.0) -> None:
        self.start = float(start)
        self._now = self.start
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        """The seconds that it shows."""
        return self._now

    def sleep(self, seconds: float, /) -> None:
        """Jump ahead by that many seconds.

        Raises
        ------
        ValueError
            The number is negative.
        """
        if seconds < 0:
            raise ValueError(f"sleep: expected seconds of 0 or more, got {seconds}")
        with self._lock:
            self._now += seconds
        time.sleep(0)  # whoever sleeps lets the others go on

    def __reduce__(self) -> tuple[Any, ...]:
        return (VirtualClock, (self.start,))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VirtualClock) and self.start == other.start

    def __hash__(self) -> int:
        return hash((VirtualClock, self.start))

    def __repr__(self) -> str:
        return f"VirtualClock({self.start})"
