"""How far the plan of a `zarrcy.stores.mock.MockStore` has come, and its journal."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

from zarrcy.stores.mock_effects import Crashed, Effect, Slow, Stale
from zarrcy.stores.mock_faults import Fault
from zarrcy.stores.mock_latency import Distribution, seconds_of
from zarrcy.stores.store import Version

__all__ = ["Call", "Run"]


class Call(NamedTuple):
    """A line of the journal.

    Attributes
    ----------
    number : int
        Its number among all calls, from 1, in the order in which they began.
    method : str
        The method of the store.
    key : str
        The key, or the prefix of a listing; empty where there is none.
    part : slice or None
        The part of the value that was asked for.
    outcome : str
        ``"ok"``; ``"missing"`` where the answer was ``None``; else the name of the exception's class.
    fault : Effect or None
        The fault that it met.
    time : float
        When it began, by the store's clock, in seconds.
    seconds : float
        How long it took, by the same clock.
    """

    number: int
    method: str
    key: str
    part: slice | None
    outcome: str
    fault: Effect | None
    time: float
    seconds: float


class Run:
    """How far a plan has come, and the journal; shared by a store and its transactions."""

    def __init__(self, faults: tuple[Fault, ...], seed: int) -> None:
        self.lock = threading.Lock()
        self.planned = faults
        self.seed = seed
        self.begin()
        _runs.add(self)

    def begin(self) -> None:
        with self.lock:
            self.is_dead = False
            self.n_calls = 0
            self.journal: list[Call] = []
            self.faults = [Counted(fault, Random(f"{self.seed}/{i}")) for i, fault in enumerate(self.planned)]
            self.pauses = Random(f"{self.seed}/latency")
            # Calls to be made once more: the number of the call before which, and the call.
            self.waiting: list[tuple[int, Callable[[], Any]]] = []
            self.before: dict[str, tuple[bytes | None, Version | None]] = {}
            self.remembers = any(isinstance(fault.effect, Stale) for fault in self.planned)

    def arm(self, fault: Fault) -> None:
        with self.lock:
            self.faults.insert(0, Counted(fault, Random(f"{self.seed}/armed/{self.n_calls}")))
            self.remembers |= isinstance(fault.effect, Stale)

    def draw(
        self, method: str, key: str, latency: float | Distribution
    ) -> tuple[int, Effect | None, Random, float, list[Callable[[], Any]]]:
        """The number of a new call, the effect it meets, what chooses for that, its latency, and the calls now due."""
        with self.lock:
            if self.is_dead:
                raise Crashed(f"{key}: the process crashed in an earlier call")
            self.n_calls += 1
            pause = seconds_of(latency, self.pauses)
            met: Counted | None = None
            for fault in self.faults:
                if fault.is_met_by(method, key, may_act=met is None):
                    if isinstance(fault.fault.effect, Slow):
                        pause += seconds_of(fault.fault.effect.seconds, fault.random)
                    else:
                        met = fault
            late = [again for number, again in self.waiting if number <= self.n_calls]
            self.waiting = [(number, again) for number, again in self.waiting if number > self.n_calls]
            if met is None:
                return self.n_calls, None, self.pauses, pause, late
            # Here, under the lock: once the call itself gets to `die`, other threads have made more calls.
            self.is_dead = met.fault.effect.is_last
            return self.n_calls, met.fault.effect, met.random, pause, late

    def later(self, n: int, again: Callable[[], Any]) -> None:
        with self.lock:
            self.waiting.append((self.n_calls + n, again))

    def die(self) -> None:
        with self.lock:
            self.is_dead = True

    def write_down(self, call: Call) -> None:
        with self.lock:
            self.journal.append(call)

    def written(self) -> list[Call]:
        with self.lock:
            return sorted(self.journal, key=lambda call: call.number)


class Counted:
    """A fault, the calls that it has matched, and those that have met it."""

    def __init__(self, fault: Fault, random: Random) -> None:
        self.fault, self.random = fault, random
        self.n_matched = self.n_met = 0

    def is_met_by(self, method: str, key: str, *, may_act: bool) -> bool:
        """Count a call. One that another fault answers draws its lot all the same: a plan does not shift."""
        if not self.fault.matches(method, key):
            return False
        self.n_matched += 1
        met = self.fault.meets(self.n_matched, self.random)
        if not met or self.n_met == self.fault.times or not (may_act or isinstance(self.fault.effect, Slow)):
            return False
        self.n_met += 1
        return True


_runs: weakref.WeakSet[Run] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # Another thread of the parent may have held them.
    for run in list(_runs):
        run.lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
