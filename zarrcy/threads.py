"""The threads of zarrcy: how many a call may use, and the one Python executor.

Compiled work runs on the native pool (`zarrcy.kernels.pool`); fetching from a store in Python, and codecs in Python,
run on the executor. In both the calling thread takes part and never waits for a helper that has not started: a call on
busy threads, or in a forked child, is slower but never stuck.
"""

from __future__ import annotations

import contextvars
import os
from _thread import allocate_lock  # `threading` costs half a millisecond of the import
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["get_threads", "map_unordered", "run_with_helpers", "set_threads", "use_threads"]

Item = TypeVar("Item")
Result = TypeVar("Result")

# Python threads are cheap while they wait for a store: enough for several calls with 32 requests in flight each.
MAX_EXECUTOR_THREADS = 128


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


_executor: ThreadPoolExecutor | None = None
_executor_lock = allocate_lock()


def _get_executor() -> ThreadPoolExecutor:
    global _executor
    with _executor_lock:
        if _executor is None:
            from concurrent.futures import ThreadPoolExecutor

            _executor = ThreadPoolExecutor(MAX_EXECUTOR_THREADS, thread_name_prefix="zarrcy")
        return _executor


def _forget_executor() -> None:
    global _executor, _executor_lock
    _executor = None
    _executor_lock = allocate_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_executor)


def run_with_helpers(work: Callable[[], None], n_threads: int) -> None:
    """Run `work` in the calling thread and, at the same time, in up to ``n_threads - 1`` helpers.

    `work` drains a counter that its copies share, and returns when it is empty. Helpers that have not started when the
    caller is done are cancelled. The first exception is raised, after every started copy has returned.
    """
    if n_threads <= 1:
        work()
        return
    executor = _get_executor()
    helpers: list[Future[None]] = []
    try:
        for _ in range(n_threads - 1):
            helpers.append(executor.submit(contextvars.copy_context().run, work))
        work()
    finally:
        started = [helper for helper in helpers if not helper.cancel()]
        errors = [error for helper in started if (error := helper.exception()) is not None]
    if errors:
        raise errors[0]


def map_unordered(work: Callable[[Item], Result], items: Iterable[Item], n_threads: int) -> Iterator[Result]:
    """What `work` makes of each item, as it comes, by up to `n_threads` threads, the caller's among them.

    At most ``2 * n_threads`` results wait to be taken. The first exception is raised; no item is begun after it, nor
    after the generator is closed, and every started `work` has returned by then.
    """
    if n_threads <= 1:
        yield from map(work, items)
        return
    import collections
    import threading

    source = iter(items)
    results: collections.deque[Result] = collections.deque()
    errors: list[BaseException] = []
    changed = threading.Condition()
    n_active = 0
    ended = False

    def step(may_wait: bool) -> bool:
        """Do one item, or find that there is none."""
        nonlocal n_active, ended
        with changed:
            while may_wait and not ended and len(results) + n_active >= 2 * n_threads:
                changed.wait()
            if ended:
                return False
            try:
                item = next(source)
            except StopIteration:
                ended = True
            except BaseException as error:
                errors.append(error)
                ended = True
            if ended:
                changed.notify_all()
                return False
            n_active += 1
        try:
            result = work(item)
        except BaseException as error:
            with changed:
                errors.append(error)
                ended = True
        else:
            with changed:
                results.append(result)
        with changed:
            n_active -= 1
            changed.notify_all()
        return True

    def help_out() -> None:
        while step(True):
            continue

    executor = _get_executor()
    helpers = [executor.submit(contextvars.copy_context().run, help_out) for _ in range(n_threads - 1)]
    try:
        while not errors:
            if results:
                with changed:
                    result = results.popleft()
                    changed.notify()
                yield result
            elif not step(False):
                with changed:
                    while not results and n_active and not errors:
                        changed.wait()
                    if not results and not n_active:
                        break
        if errors:
            raise errors[0]
    finally:
        with changed:
            ended = True
            changed.notify_all()
        for helper in helpers:
            if not helper.cancel():
                helper.exception()
