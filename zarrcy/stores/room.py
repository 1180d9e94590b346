"""How many bytes of values may be on the way at once, when the lengths of some are known only when they arrive."""

from __future__ import annotations

import threading

from zarrcy.stores.object_client import Span
from zarrcy.stores.store import Buffer

__all__ = ["FIRST_NBYTES", "Room"]

# What a value is taken for until one has arrived: about the largest that is advised.
FIRST_NBYTES = 8 << 20


class Room:
    """What of a budget of bytes is taken: by values on their way, and by those that wait for the caller.

    The length of a part is known. A whole value is taken to be as long as the longest lately: each shorter one lets
    that fall by a quarter. So it keeps to the budget and one value more where lengths are known, or much alike.

    Parameters
    ----------
    nbytes : int
        The budget; 0 for any number.

    Examples
    --------
    >>> from zarrcy.stores.room import Room
    >>> room = Room(10 << 20)
    >>> room.ask(None), room.has_any()
    (8388608, False)
    >>> room.arrived(8388608, b"12345")
    >>> room.used, room.has_any()
    (5, True)
    """

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.used = 0
        self.expected = FIRST_NBYTES
        self._lock = threading.Lock()

    def has_any(self) -> bool:
        """Whether another value may be asked for."""
        return not self.nbytes or self.used + self.expected <= self.nbytes

    def ask(self, span: Span | None) -> int:
        """The bytes that are taken for a value, or a span of one, that is asked for now."""
        begin, end = (0, None) if span is None else span
        with self._lock:
            if begin < 0:
                nbytes = self._seen(-begin)
            else:
                nbytes = self.expected if end is None else self._seen(end - begin)
            self.used += nbytes
        return nbytes

    def arrived(self, asked: int, value: Buffer | None) -> None:
        """Take what arrived for what was asked for."""
        nbytes = 0 if value is None else len(value)
        with self._lock:
            self.used += self._seen(nbytes) - asked

    def left(self, value: Buffer | None) -> None:
        """The caller has a value."""
        with self._lock:
            self.used -= 0 if value is None else len(value)

    def _seen(self, nbytes: int) -> int:
        self.expected = max(nbytes, self.expected * 3 // 4)
        return nbytes
