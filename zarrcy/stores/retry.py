"""When a call that failed is made again, and how fast calls are made at all: for services that are busy at times."""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from zarrcy.errors import StoreError, ThrottledError, UnavailableError
from zarrcy.stores.clock import Clock
from zarrcy.threads import check_stopped, pause

__all__ = ["Attempts", "Pace", "Retrier", "Retry"]

T = TypeVar("T")

# Errors after which nothing has happened, and which another try may get over.
PASSING = (ThrottledError, UnavailableError)
# Of these, what another try does not get over, by its `code`.
LASTING = frozenset({"certificate"})

# The rate is halved at most so often, in seconds: the answers to requests that were under way say nothing new.
HALVING_INTERVAL = 1.0
# What each success adds to a limited rate, in requests per second: it grows e-fold in two seconds.
GAIN = 0.5
# The least rate, as a share of the one before the first halving, and in requests per second.
LEAST_SHARE, LEAST_RATE = 1 / 64, 0.5
# How much of the average each answer is, and the average of failures that is taken for a call to slow down.
WEIGHT, TOO_MANY = 1 / 16, 0.5


@dataclass(frozen=True)
class Retry:
    """How often, and after what pauses, a call is made again: exponential backoff with full jitter.

    The pause before the nth repetition is drawn from 0 to ``min(longest, initial * 2 ** (n - 1))`` seconds; it is no
    shorter than what the service asks for (``Retry-After``).

    Parameters
    ----------
    initial : float, default 0.1
        The upper bound of the first pause, in seconds.
    longest : float, default 10.0
        The upper bound of any pause that is drawn, in seconds.
    deadline : float, default 120.0
        The seconds from the beginning of a call within which its last try begins. A call that may be sent only after
        that, because the service asked others to wait, fails at once.
    seed : int, optional
        For the draws; by default they differ each time.

    Raises
    ------
    ValueError
        A number is negative, or `longest` is less than `initial`.

    Examples
    --------
    >>> from zarrcy.stores.retry import Retry
    >>> Retry(deadline=30)
    Retry(initial=0.1, longest=10.0, deadline=30, seed=None)
    """

    initial: float = 0.1
    longest: float = 10.0
    deadline: float = 120.0
    seed: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.initial <= self.longest:
            raise ValueError(f"initial: expected 0 to longest={self.longest} seconds, got {self.initial}")
        if self.deadline < 0:
            raise ValueError(f"deadline: expected 0 or more seconds, got {self.deadline}")

    def pause(self, number: int, random: Random) -> float:
        """The seconds before repetition `number`, from 1."""
        return random.uniform(0, min(self.initial * 2 ** min(number - 1, 60), self.longest))


class Pace:
    """How fast requests are sent: freely, until the service asks for fewer or fails most of the time.

    Then the rate is halved, at most once a second, down to a 64th of what it was. Each success raises it a little;
    above twice of what it was, requests are sent freely again.

    Parameters
    ----------
    clock : Clock
        What to wait by.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.rate: float | None = None
        self._rate_before = 0.0
        self._next = self._interval = 0.0
        self._halved = float("-inf")
        self._failing = 0.0
        self._second = float("-inf")
        self._n_sent = self._n_sent_before = 0
        self._lock = threading.Lock()
        _paces.add(self)

    def wait(self, until: float = math.inf) -> float:
        """Return 0 when the next request may be sent; never, when the call has to stop.

        When that would be after `until`, by the clock, return at once: how many seconds it would take. The interval of
        a limited rate is waited for in any case: it slows those down that give up at once, and come again.
        """
        check_stopped()
        with self._lock:
            now = self.clock.monotonic()
            slot = max(now, self._next)
            if slot > max(now + 1.01 * self._interval, until):  # clocks round
                return slot - now
            if now - self._second >= 1:
                self._n_sent_before = self._n_sent if now - self._second < 2 else 0
                self._second, self._n_sent = now, 0
            self._n_sent += 1
            if self.rate is not None:
                self._interval = 1 / self.rate
                self._next = slot + self._interval
        if slot > now:
            pause(slot - now, self.clock.sleep)
        return 0.0

    def hold(self, seconds: float) -> None:
        """Let no request be sent for that long."""
        with self._lock:
            self._next = max(self._next, self.clock.monotonic() + seconds)

    def succeeded(self) -> None:
        """Take note that a request was answered."""
        if self.rate is None and self._failing < 0.01:
            return  # without the lock: nothing to raise
        with self._lock:
            self._failing *= 1 - WEIGHT
            if self.rate is not None:
                self.rate += GAIN
                if self.rate > 2 * self._rate_before:
                    self.rate = None

    def failed(self, error: StoreError) -> None:
        """Take note that a request failed."""
        with self._lock:
            self._failing += (1 - self._failing) * WEIGHT
            now = self.clock.monotonic()
            slow_down = isinstance(error, ThrottledError) or self._failing > TOO_MANY
            if not slow_down or now - self._halved < HALVING_INTERVAL:
                return
            self._halved = now
            if self.rate is None:
                self.rate = self._rate_before = float(max(self._n_sent, self._n_sent_before, 1))
            self.rate = max(self.rate / 2, self._rate_before * LEAST_SHARE, LEAST_RATE)


class Attempts:
    """The tries of one call."""

    def __init__(self, retrier: Retrier) -> None:
        self.retrier = retrier
        self.n_failed = 0
        self._begin = retrier.clock.monotonic()

    def wait(self) -> None:
        """Return when the first try may be made.

        Raises
        ------
        ThrottledError
            That is after the deadline: it is raised at once.
        """
        seconds = self._wait()
        if seconds:
            raise ThrottledError(
                f"expected to send a request within {self.retrier.retry.deadline:g} s, got no turn: "
                f"the service asks for a pause, and {_shown(seconds)} s of it are left",
                code="throttled",
                retry_after=seconds,
                hint="It asked others that use this place. Try later, or give the store a longer deadline.",
            )

    def failed(self, error: StoreError) -> None:
        """Return when the next try may be made; when there is no time for one, raise the error."""
        retrier = self.retrier
        if error.code in LASTING:
            raise error
        self.n_failed += 1
        retrier.pace.failed(error)
        asked = getattr(error, "retry_after", None) or 0.0
        seconds = max(retrier.retry.pause(self.n_failed, retrier.random), asked)
        passed = retrier.clock.monotonic() - self._begin
        if passed + seconds <= retrier.retry.deadline:
            if asked:
                retrier.pace.hold(asked)
            pause(seconds, retrier.clock.sleep)
            asked = self._wait()
            if not asked:
                return
            passed = retrier.clock.monotonic() - self._begin
        wanted = f", and the service asks to wait for {_shown(asked)} s more" if asked else ""
        error.add_note(f"Tried {self.n_failed} times in {passed:.1f} s{wanted}.")
        raise error

    def _wait(self) -> float:
        """0 when the next request may be sent; the seconds that it would take, when there is no time for it."""
        return self.retrier.pace.wait(self._begin + self.retrier.retry.deadline)

    def advanced(self) -> None:
        """Begin to count anew: the call has come further."""
        self.n_failed = 0
        self._begin = self.retrier.clock.monotonic()


def _shown(seconds: float) -> str:
    return f"{round(seconds, 1):g}"


class Retrier:
    """Makes calls by a `Retry`, no faster than a `Pace`. Any thread may use it; those of one service share it.

    Parameters
    ----------
    retry : Retry
        When to try again.
    clock : Clock
        What to wait by.
    pace : Pace, optional
        How fast; one of its own by default.

    Examples
    --------
    >>> from zarrcy.errors import ThrottledError
    >>> from zarrcy.stores.clock import VirtualClock
    >>> from zarrcy.stores.retry import Retrier, Retry
    >>> answers = iter([ThrottledError("busy", retry_after=3), b"value"])
    >>> def fetch():
    ...     answer = next(answers)
    ...     if isinstance(answer, Exception):
    ...         raise answer
    ...     return answer
    >>> clock = VirtualClock()
    >>> Retrier(Retry(), clock).call(fetch), clock.monotonic()
    (b'value', 3.0)
    """

    def __init__(self, retry: Retry, clock: Clock, pace: Pace | None = None) -> None:
        self.retry = retry
        self.clock = clock
        self.random = Random(retry.seed)
        self.pace = Pace(clock) if pace is None else pace
        _retriers.add(self)

    def begin(self) -> Attempts:
        """The tries of a new call."""
        return Attempts(self)

    def call(self, work: Callable[[], T], *also: type[StoreError]) -> T:
        """What `work` returns, tried again after `zarrcy.ThrottledError`, `zarrcy.UnavailableError` and those of
        `also`.

        Raises
        ------
        StoreError
            Another error; or one of those when there is no time for another try.
        """
        attempts = self.begin()
        passing: tuple[type[StoreError], ...] = (*PASSING, *also)
        attempts.wait()
        while True:
            try:
                answer = work()
            except passing as error:
                attempts.failed(error)
            else:
                self.pace.succeeded()
                return answer


_paces: weakref.WeakSet[Pace] = weakref.WeakSet()
_retriers: weakref.WeakSet[Retrier] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # Another thread of the parent may have held it.
    for pace in list(_paces):
        pace._lock = threading.Lock()
    # Parent and child would pause alike, and meet again.
    for retrier in list(_retriers):
        if retrier.retry.seed is None:
            retrier.random = Random()


os.register_at_fork(after_in_child=_after_fork_in_child)
