"""`MockStore`: any store, with faults on order, a journal, and a clock of one's own. For tests."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

from zarrcy.errors import ConflictError, ZarrcyError
from zarrcy.stores.clock import Clock, VirtualClock
from zarrcy.stores.mock_effects import (
    Crash,
    Crashed,
    Delivery,
    DiskFull,
    Duplicate,
    Effect,
    Fail,
    Flip,
    Reset,
    Slow,
    Stale,
    Status,
    Timeout,
    Truncate,
)
from zarrcy.stores.mock_faults import Fault, call_matches
from zarrcy.stores.mock_latency import Distribution, Exponential, LogNormal, Uniform
from zarrcy.stores.mock_run import Call, Run
from zarrcy.stores.store import Buffer, Store, Version, resolve_part
from zarrcy.stores.wrapper import WrapperStore

__all__ = [
    "Call",
    "Crash",
    "Crashed",
    "Delivery",
    "DiskFull",
    "Distribution",
    "Duplicate",
    "Effect",
    "Exponential",
    "Fail",
    "Fault",
    "Flip",
    "LogNormal",
    "MockStore",
    "Reset",
    "Slow",
    "Stale",
    "Status",
    "Timeout",
    "Truncate",
    "Uniform",
    "VirtualClock",
]

# The keys of metadata documents, v2 and v3.
_DOCUMENT = r"(?:.*/)?(?:zarr\.json|\.z[a-z]+)"
_CHUNK = rf"(?!{_DOCUMENT}$).*"

# What `fail_on` calls the operations on arrays: the methods and keys that each means.
OPERATIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "read_chunk": (("get", "get_with_version"), _CHUNK),
    "write_chunk": (("set", "set_if"), _CHUNK),
    "delete_chunk": (("delete",), _CHUNK),
    "read_metadata": (("get", "get_with_version"), _DOCUMENT),
    "write_metadata": (("set", "set_if"), _DOCUMENT),
    "list_chunks": (("list_prefix", "list_dir"), ".*"),
}


class MockStore(WrapperStore):
    """A store that fails when it is told to, and writes down every call.

    Parameters
    ----------
    store : Store, optional
        The store that holds the values; by default a new `MemoryStore`. Closing this one closes that one.
    faults : iterable of Fault
        The plan. Each fault counts the calls that it matches by itself; where several meet a call, it sees the first.
    latency : float or Distribution, default 0
        The seconds that each call takes: a number, or e.g. ``Uniform(0.01, 0.1)``.
    seed : int, default 0
        For the choices of the plan. One thread that makes the same calls meets the same faults.
    clock : Clock, optional
        What latencies, timeouts and `update` wait by; by default that of `store`, which is real time. With a
        `VirtualClock` they take none.
    error_mode : {None, "always", "random"}
        Short for a fault of every call, or of half of them.
    delay : float, optional
        Latency in milliseconds.
    fail_on : iterable of str
        Short for a fault of each of these methods. The operations on arrays may be named too: ``"read_chunk"``,
        ``"write_chunk"``, ``"delete_chunk"``, ``"read_metadata"``, ``"write_metadata"``, ``"list_chunks"``.

    Raises
    ------
    ValueError
        An `error_mode` of another name; both `latency` and `delay`.

    Notes
    -----
    Any thread may use it. A pickle is the recipe: the store, the plan, the seed and the clock's start. The journal and
    what has been counted stay behind.

    Several values, and a prefix to delete, are calls of `get`, `set` and `delete`, so that each key meets its faults.

    Examples
    --------
    >>> from zarrcy.stores.mock import Fault, MockStore, Status, VirtualClock
    >>> store = MockStore(faults=[Fault(Status(503), method="set", nth=2)], latency=0.1, clock=VirtualClock())
    >>> store.set("c/0", b"1")
    >>> store.set("c/1", b"2")
    Traceback (most recent call last):
        ...
    zarrcy.errors.UnavailableError: memory://...: c/1: expected an answer, got 503 Service Unavailable
    Try again later.
    >>> [(call.method, call.key, call.outcome, call.time) for call in store.journal]
    [('set', 'c/0', 'ok', 0.0), ('set', 'c/1', 'UnavailableError', 0.1)]
    """

    schemes = ()
    clock: Clock = time

    kind = "Testing"
    latency = "As asked for"
    use = "Development, error simulation"

    def __init__(
        self,
        store: Store | None = None,
        faults: Iterable[Fault] = (),
        *,
        latency: float | Distribution = 0.0,
        seed: int = 0,
        clock: Clock | None = None,
        error_mode: str | None = None,
        delay: float | None = None,
        fail_on: Iterable[str] = (),
    ) -> None:
        if store is None:
            from zarrcy.stores.memory import MemoryStore

            store = MemoryStore()
        if delay is not None and latency:
            raise ValueError(f"delay: expected one of latency and delay, got {latency!r} and {delay!r}")
        super().__init__(store)
        self.faults = (*faults, *_short(error_mode, fail_on))
        self._latency = latency if delay is None else delay / 1000
        self.seed = seed
        self.clock = store.clock if clock is None else clock
        self._run = Run(self.faults, seed)

    def options(self) -> dict[str, Any]:
        """The store, the plan, the latency, the seed and the clock; those with their default value are left out."""
        options: dict[str, Any] = {"store": self.store}
        if self.faults:
            options["faults"] = self.faults
        if self._latency:
            options["latency"] = self._latency
        if self.seed:
            options["seed"] = self.seed
        if self.clock is not time:
            options["clock"] = self.clock
        return options

    # ---- faults and the journal

    def arm(
        self,
        effect: Effect,
        *,
        method: str | tuple[str, ...] | None = None,
        key: str | re.Pattern[str] | None = None,
    ) -> None:
        """Let the next call that matches meet `effect`, once, before any fault of the plan.

        Parameters
        ----------
        effect : Effect
            What happens.
        method, key
            As of a `Fault`.

        Examples
        --------
        >>> from zarrcy.stores.mock import MockStore, Truncate
        >>> store = MockStore()
        >>> store.set("c/0", b"abcd")
        >>> store.arm(Truncate(keep=1), method="get")
        >>> store.get("c/0"), store.get("c/0")
        (b'a', b'abcd')
        """
        self._run.arm(Fault(effect, method, key, times=1))

    @property
    def journal(self) -> list[Call]:
        """Every call that has ended, in the order in which they began."""
        return self._run.written()

    def calls(
        self, method: str | tuple[str, ...] | None = None, key: str | re.Pattern[str] | None = None
    ) -> list[Call]:
        """The calls of the journal with such a method and key, named as for a `Fault`."""
        return [call for call in self.journal if call_matches(call.method, call.key, method, key)]

    def call_count(self, method: str | tuple[str, ...] | None = None, key: str | re.Pattern[str] | None = None) -> int:
        """How many calls the journal has with such a method and key."""
        return len(self.calls(method, key))

    def reset(self) -> None:
        """Begin anew: an empty journal, the plan from its start, nothing armed, no crash. The values stay."""
        self._run.begin()

    def _call(
        self,
        method: str,
        key: str,
        work: Callable[[Any], Any],
        *,
        value: Buffer | None = None,
        part: slice | None = None,
        stale: Callable[[], Any] | None = None,
    ) -> Any:
        number, effect, random, pause, late = self._run.draw(method, key, self._latency)
        for again in late:
            with suppress(ZarrcyError):
                again()
        begin = self.clock.monotonic()
        outcome = "ok"
        try:
            if pause > 0:
                self.clock.sleep(pause)
            if effect is None:
                answer = work(value)
            else:
                answer = effect.apply(
                    Delivery(
                        *(method, key, value, self.url, random, self.clock, work),
                        *(stale or (lambda: work(value)), self._run.later, self._run.die),
                    )
                )
            missing = answer is None or (method == "get_with_version" and answer[0] is None)
            outcome = "missing" if missing and method in ("get", "get_with_version", "size") else "ok"
            return answer
        except BaseException as error:
            outcome = type(error).__name__
            raise
        finally:
            seconds = self.clock.monotonic() - begin
            self._run.write_down(Call(number, method, key, part, outcome, effect, begin, seconds))

    # ---- reading

    def get(self, key: str, part: slice | None = None) -> Buffer | None:
        def stale() -> Buffer | None:
            value = self._run.before[key][0] if key in self._run.before else self.store.get(key)
            return _cut(value, part)

        answer: Buffer | None = self._call("get", key, lambda _: self.store.get(key, part), part=part, stale=stale)
        return answer

    def get_with_version(
        self, key: str, part: slice | None = None, *, if_version: Version | None = None
    ) -> tuple[Buffer | None, Version | None]:
        def now(_: object) -> Any:
            return self.store.get_with_version(key, part, if_version=if_version)

        def stale() -> Any:
            if key not in self._run.before:
                return now(None)
            value, version = self._run.before[key]
            if if_version is not None and version != if_version:
                raise ConflictError(
                    "expected the version that was read before, got an older one", store=self.url, key=key
                )
            return _cut(value, part), version

        answer: tuple[Buffer | None, Version | None] = self._call("get_with_version", key, now, part=part, stale=stale)
        return answer

    def size(self, key: str) -> int | None:
        def stale() -> int | None:
            if key not in self._run.before:
                return self.store.size(key)
            value = self._run.before[key][0]
            return None if value is None else len(value)

        answer: int | None = self._call("size", key, lambda _: self.store.size(key), stale=stale)
        return answer

    def exists(self, key: str) -> bool:
        def stale() -> bool:
            return self._run.before[key][0] is not None if key in self._run.before else self.store.exists(key)

        answer: bool = self._call("exists", key, lambda _: self.store.exists(key), stale=stale)
        return answer

    def list_prefix(self, prefix: str = "") -> Iterator[str]:
        answer: list[str] = self._call(
            "list_prefix",
            prefix,
            lambda _: list(self.store.list_prefix(prefix)),
            stale=lambda: self._keys_before(prefix),
        )
        return iter(answer)

    def list_dir(self, prefix: str = "") -> Iterator[str]:
        def stale() -> list[str]:
            names = (key[len(prefix) :].partition("/") for key in self._keys_before(prefix))
            return list(dict.fromkeys(name + slash for name, slash, _ in names))

        answer: list[str] = self._call("list_dir", prefix, lambda _: list(self.store.list_dir(prefix)), stale=stale)
        return iter(answer)

    def _keys_before(self, prefix: str) -> list[str]:
        keys = dict.fromkeys(self.store.list_prefix(prefix))
        for key, (value, _) in list(self._run.before.items()):
            if value is None:
                keys.pop(key, None)
            elif key.startswith(prefix):
                keys[key] = None
        return list(keys)

    # ---- writing

    def set(self, key: str, value: Buffer) -> None:
        with self._remembered(key):
            self._call("set", key, lambda value: self.store.set(key, value), value=value)

    def set_if(self, key: str, value: Buffer, version: Version | None) -> Version:
        with self._remembered(key):
            new: Version = self._call("set_if", key, lambda value: self.store.set_if(key, value, version), value=value)
        return new

    def delete(self, key: str) -> None:
        with self._remembered(key):
            self._call("delete", key, lambda _: self.store.delete(key))

    @contextmanager
    def _remembered(self, key: str) -> Iterator[None]:
        """Keep what a write replaces, where a fault may ask for it."""
        if not self._run.remembers:
            yield
            return
        old, version = self.store.get_with_version(key) if self.supports_cas else (self.store.get(key), None)
        yield
        self._run.before[key] = None if old is None else bytes(old), version

    def lock(self, key: str) -> AbstractContextManager[None] | None:
        context: AbstractContextManager[None] | None = self._call("lock", key, lambda _: self.store.lock(key))
        return context

    @contextmanager
    def transaction(self) -> Iterator[Store]:
        """A transaction of the store. Its calls meet the same faults; a fault of ``"commit"`` rolls it back."""
        context: AbstractContextManager[Store] = self._call("transaction", "", lambda _: self.store.transaction())
        with context as inner:
            within = MockStore(inner, self.faults, latency=self._latency, seed=self.seed, clock=self.clock)
            within._run = self._run
            yield within
            self._call("commit", "", lambda _: None)

    def prepare(self) -> None:
        self._call("prepare", "", lambda _: self.store.prepare())

    def repair(self) -> list[str]:
        lines: list[str] = self._call("repair", "", lambda _: self.store.repair())
        return lines

    def sync(self) -> None:
        self._call("sync", "", lambda _: self.store.sync())

    def close(self) -> None:
        """Close the store. It meets no fault, and works after a crash."""
        self.store.close()


def _short(error_mode: str | None, fail_on: Iterable[str]) -> list[Fault]:
    """The faults that the short options stand for."""
    modes = {None: [], "always": [Fault(Fail())], "random": [Fault(Fail("mock_random_error"), share=0.5)]}
    if error_mode not in modes:
        raise ValueError(f"error_mode: expected None, 'always' or 'random', got {error_mode!r}")
    faults = list(modes[error_mode])
    for name in [fail_on] if isinstance(fail_on, str) else fail_on:
        methods, pattern = OPERATIONS.get(name, ((name,), ".*"))
        faults.append(Fault(Fail("mock_fail_on"), methods, re.compile(pattern)))
    return faults


def _cut(value: Buffer | None, part: slice | None) -> Buffer | None:
    if value is None or part is None:
        return value
    start, n = resolve_part(part, len(value))
    return memoryview(value)[start : start + n]
