"""Turns that the threads of a process take to change one value: each attempt that loses costs requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Turns"]


class Turns:
    """Locks by name, which hold nobody for ever: correctness does not depend on them.

    Parameters
    ----------
    seconds : float
        How long a thread waits before it goes on without its turn.

    Examples
    --------
    >>> from zarrcy.stores.turns import Turns
    >>> with Turns(2.0).turn("c/0"):
    ...     pass
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()
        self._turns: dict[str, list[Any]] = {}  # by name: a lock, and how many want it

    @contextmanager
    def turn(self, name: str, seconds: float | None = None) -> Iterator[None]:
        """Wait until no other thread has the turn of that name, and have it; but no longer than `seconds`."""
        with self._lock:
            entry = self._turns.setdefault(name, [threading.Lock(), 0])
            entry[1] += 1
        mine = entry[0].acquire(timeout=self.seconds if seconds is None else min(seconds, self.seconds))
        try:
            yield
        finally:
            if mine:
                entry[0].release()
            with self._lock:
                entry[1] -= 1
                if not entry[1]:
                    del self._turns[name]
