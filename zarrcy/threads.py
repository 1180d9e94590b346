"""The threads of Python that zarrcy works with: one executor.

Compiled work runs on the native pool (`zarrcy.kernels.pool`); fetching from a store in Python, and codecs in Python,
run on the executor. In both the calling thread takes part and never waits for a helper that has not started: a call on
busy threads, or in a forked child, is slower but never stuck.
"""

from __future__ import annotations

import contextvars
import os
import time
from _thread import allocate_lock
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = [
    "Stopped",
    "check_stopped",
    "map_unordered",
    "pause",
    "run_with_helpers",
    "woken_by",
]

Item = TypeVar("Item")
Result = TypeVar("Result")

# Python threads are cheap while they wait for a store: enough for several calls with 32 requests in flight each.
MAX_EXECUTOR_THREADS = 128

# A pause of a call inside a call ends so long after the outer one has to stop.
STOP_SECONDS = 0.1


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


class Stopped(BaseException):
    """What another thread of the call has made pointless: it failed, or Ctrl-C came. No caller ever sees it."""


class _Stop:
    """Whether the threads of a call are to stop, or those of the call that it is part of."""

    def __init__(self, outer: _Stop | None) -> None:
        import threading

        self.outer = outer
        self.event = threading.Event()
        self.wakers: list[Callable[[], None]] = []

    def is_set(self) -> bool:
        return self.event.is_set() or (self.outer is not None and self.outer.is_set())

    def wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not self.is_set():
            self.event.wait(min(left, STOP_SECONDS))

    def set(self, error: BaseException) -> None:
        """Let every thread stop; for Ctrl-C those too that wait for an answer."""
        self.event.set()
        if isinstance(error, (Exception, Stopped, GeneratorExit)):
            return
        for waker in list(self.wakers):
            try:
                waker()
            except Exception:
                continue  # what matters is the Ctrl-C


_stop: contextvars.ContextVar[_Stop | None] = contextvars.ContextVar("zarrcy_stop", default=None)


def check_stopped() -> None:
    """Raise `Stopped` when another thread of the same call failed, or Ctrl-C came: before a request, say."""
    stop = _stop.get()
    if stop is not None and stop.is_set():
        raise Stopped


def pause(seconds: float, sleep: Callable[[float], None] = time.sleep) -> None:
    """Sleep, but no longer than the other threads of the call go on; then `Stopped` is raised.

    Parameters
    ----------
    seconds : float
        How long.
    sleep : callable, optional
        That of a clock that is not real time.
    """
    stop = _stop.get()
    if stop is None or sleep is not time.sleep:
        sleep(seconds)
    else:
        stop.wait(seconds)
    check_stopped()


@contextmanager
def woken_by(waker: Callable[[], None]) -> Iterator[None]:
    """While the context is open, `waker` is called when the call has to stop for Ctrl-C: it ends what waits here."""
    stops = []
    stop = _stop.get()
    while stop is not None:
        stops.append(stop)
        stop = stop.outer
    for each in stops:
        each.wakers.append(waker)
    try:
        check_stopped()
        yield
    finally:
        for each in stops:
            each.wakers.remove(waker)


def run_with_helpers(work: Callable[[], None], n_threads: int) -> None:
    """Run `work` in the calling thread and, at the same time, in up to ``n_threads - 1`` helpers.

    `work` drains a counter that its copies share, and returns when it is empty. Helpers that have not started when the
    caller is done are cancelled. The first exception is raised, after every started copy has returned; those that
    `pause` are woken by it.
    """
    if n_threads <= 1:
        work()
        return
    stop = _Stop(_stop.get())
    token = _stop.set(stop)
    is_over = False

    def guarded() -> None:
        if is_over:
            return  # it was left in the queue by a call that got no thread
        try:
            work()
        except BaseException as error:
            stop.set(error)
            raise

    helpers: list[Future[None]] = []
    own: Stopped | None = None
    try:
        for _ in range(n_threads - 1):
            if not _submit(guarded, helpers):
                break
        guarded()
    except Stopped as error:
        own = error
    except BaseException as error:
        stop.set(error)
        raise
    finally:
        _stop.reset(token)
        is_over = True
        errors = _errors_of(helpers, stop)
    if errors:
        raise errors[0]
    if own is not None:
        raise own


def _submit(work: Callable[[], None], helpers: list[Future[None]]) -> bool:
    """Let a thread do some work in a copy of this context; False where none is to be had, as when the program ends."""
    try:
        helpers.append(_get_executor().submit(contextvars.copy_context().run, work))
    except RuntimeError:
        return False
    return True


def _errors_of(helpers: list[Future[None]], stop: _Stop) -> list[BaseException]:
    """What helpers raised, once all that have started are back; `Stopped` tells nothing."""
    started = [helper for helper in helpers if not helper.cancel()]
    try:
        errors = [error for helper in started if (error := helper.exception()) is not None]
    except BaseException as error:
        stop.set(error)  # Ctrl-C while they were waited for
        raise
    return [error for error in errors if not isinstance(error, Stopped)]


def map_unordered(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    n_threads: int,
    has_room: Callable[[], bool] = lambda: True,
) -> Generator[Result, None, None]:
    """What `work` makes of each item, as it comes, by up to `n_threads` threads, the caller's among them.

    While `has_room` says no, no item is begun unless it would be the only one.

    About ``2 * n_threads`` results wait to be taken; then the helpers leave, until there is room again: a generator
    that nobody goes on with keeps no thread. The first exception is raised; no item is begun after it, nor after the
    generator is closed, and every started `work` has returned by then.
    """
    if n_threads <= 1:
        yield from map(work, items)
        return
    mapping = _Mapping(work, iter(items), n_threads, has_room)
    try:
        while mapping.advance():
            while mapping.results:
                yield mapping.take()
    except BaseException as error:
        mapping.stop.set(error)  # Ctrl-C, or nobody wants more
        raise
    finally:
        mapping.finish()
    if mapping.errors:
        raise mapping.errors[0]
    if mapping.was_stopped:
        raise Stopped


class _Mapping(Generic[Item, Result]):
    """What the threads of a `map_unordered` share."""

    def __init__(
        self, work: Callable[[Item], Result], items: Iterator[Item], n_threads: int, has_room: Callable[[], bool]
    ) -> None:
        import collections
        import threading

        self.work = work
        self.items = items
        self.n_threads = n_threads
        self.has_room = has_room
        self.results: collections.deque[Result] = collections.deque()
        self.errors: list[BaseException] = []
        self.was_stopped = False
        self.n_active = 0
        self.n_helpers = 0
        self.ended = False
        self.changed = threading.Condition()
        self.stop = _Stop(None)
        self.helpers: list[Future[None]] = []
        self.threads: set[int] = set()
        self.process = os.getpid()

    def advance(self) -> bool:
        """Do an item, or wait for one; False when there is nothing more to come."""
        # Whoever goes on with a generator may be in another call than who made it.
        self.stop.outer = _stop.get()
        if self.results:
            return not self.errors
        self._call_helpers()
        if self._in_context(self.step):
            return not self.errors
        with self.changed:
            while not self.results and self.n_active and not self.errors:
                self.changed.wait()
            return bool(self.results) and not self.errors

    def take(self) -> Result:
        with self.changed:
            result = self.results.popleft()
        if len(self.results) <= self.n_threads // 2:
            self._call_helpers()
        return result

    def _in_context(self, work: Callable[[], bool]) -> bool:
        """Do some work where the call can be stopped."""
        token = _stop.set(self.stop)
        try:
            return work()
        finally:
            _stop.reset(token)

    def _call_helpers(self) -> None:
        if self.process != os.getpid():
            return  # the parent's are not here
        self.helpers = [helper for helper in self.helpers if not helper.done()]
        token = _stop.set(self.stop)
        try:
            while not self.ended and self.n_helpers < self.n_threads - 1 and self.has_room():
                with self.changed:
                    self.n_helpers += 1
                if not _submit(self._help, self.helpers):
                    with self.changed:
                        self.n_helpers -= 1
                    break
        finally:
            _stop.reset(token)

    def _help(self) -> None:
        import threading

        self.threads.add(threading.get_ident())
        try:
            while len(self.results) + self.n_active < 2 * self.n_threads and self.step():
                continue
        finally:
            self.threads.discard(threading.get_ident())
            with self.changed:
                self.n_helpers -= 1

    def step(self) -> bool:
        """Do one item; False when there is none, or no room for it."""
        with self.changed:
            is_alone = not self.n_active and not self.results
            if self.ended or not (is_alone or self.has_room()):
                return False
            try:
                item = next(self.items)
            except StopIteration:
                return self.end()
            except BaseException as error:
                return self.end(error)
            self.n_active += 1
        try:
            result = self.work(item)
        except BaseException as error:
            self.end(error, done=1)
        else:
            with self.changed:
                self.results.append(result)
                self.n_active -= 1
                self.changed.notify_all()
        return True

    def end(self, error: BaseException | None = None, done: int = 0) -> bool:
        """Begin no further item, and after an error wake who pauses."""
        with self.changed:
            self.n_active -= done
            if isinstance(error, Stopped):
                self.was_stopped = True
            elif error is not None:
                self.errors.append(error)
                self.stop.set(error)
            self.ended = True
            self.changed.notify_all()
        return False

    def finish(self) -> None:
        """End it, and return when the helpers have; but who is one of them, or a forked child, waits for none."""
        import threading

        self.end()
        if self.process == os.getpid() and threading.get_ident() not in self.threads:
            _errors_of(self.helpers, self.stop)
