"""How many threads a call may use."""

from __future__ import annotations

import contextvars
import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["get_threads", "set_threads", "use_threads"]


def _default_threads() -> int:
    text = os.environ.get("ZARRCY_NUM_THREADS")
    if text is not None:
        if not text.isdecimal() or int(text) < 1:
            raise ValueError(f"ZARRCY_NUM_THREADS: expected a positive whole number, got {text!r}")
        return int(text)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_n_threads: int | None = None
_override: contextvars.ContextVar[int | None] = contextvars.ContextVar("zarrcy_threads", default=None)


def get_threads() -> int:
    """How many threads a call may use: `use_threads`, else `set_threads`, else ``ZARRCY_NUM_THREADS``, else the CPUs of
    the process.

    Examples
    --------
    >>> import zarrcy
    >>> with zarrcy.use_threads(1):
    ...     zarrcy.get_threads()
    1
    """
    global _n_threads
    override = _override.get()
    if override is not None:
        return override
    if _n_threads is None:
        _n_threads = _default_threads()
    return _n_threads


def set_threads(n: int | None) -> None:
    """Set how many threads calls of this process may use.

    Parameters
    ----------
    n : int or None
        At least 1; ``None`` goes back to the default.

    Raises
    ------
    ValueError
        `n` is less than 1.

    Examples
    --------
    >>> import zarrcy
    >>> before = zarrcy.get_threads()
    >>> zarrcy.set_threads(2)
    >>> zarrcy.get_threads()
    2
    >>> zarrcy.set_threads(before)
    """
    global _n_threads
    _n_threads = _default_threads() if n is None else _checked(n)


@contextmanager
def use_threads(n: int) -> Iterator[None]:
    """Use `n` threads for the calls made in this context, for instance 1 inside a dask task.

    Parameters
    ----------
    n : int
        At least 1.

    Raises
    ------
    ValueError
        `n` is less than 1.

    Examples
    --------
    >>> import zarrcy
    >>> with zarrcy.use_threads(1):
    ...     zarrcy.zeros(3)[:]
    array([0., 0., 0.])
    """
    token = _override.set(_checked(n))
    try:
        yield
    finally:
        _override.reset(token)


def _checked(n: int) -> int:
    if n < 1:
        raise ValueError(f"threads: expected at least 1, got {n}")
    return n
