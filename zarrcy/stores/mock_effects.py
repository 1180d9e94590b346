"""What a fault does to a call of a `zarrcy.stores.mock.MockStore`."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from random import Random
from typing import Any, ClassVar, NoReturn

from zarrcy.errors import (
    ConflictError,
    OutcomeUnknownError,
    PermissionDeniedError,
    StoreError,
    ThrottledError,
    UnavailableError,
)
from zarrcy.kernels.posix_errors import store_error
from zarrcy.stores.clock import Clock
from zarrcy.stores.mock_latency import Distribution
from zarrcy.stores.store import Buffer

__all__ = [
    "WRITING",
    "Crash",
    "Crashed",
    "Delivery",
    "DiskFull",
    "Duplicate",
    "Effect",
    "Fail",
    "Flip",
    "Reset",
    "Slow",
    "Stale",
    "Status",
    "Timeout",
    "Truncate",
]

STORING = ("set", "set_if")
WRITING = (*STORING, "delete", "commit")


class Crashed(BaseException):
    """The process ended here, as far as the store is concerned.

    Like `KeyboardInterrupt` it is no `Exception`: in a dead process no retry and no handler of errors would run either.
    """


class Delivery:
    """A call on its way to the wrapped store, for the `Effect` that it meets.

    Attributes
    ----------
    method : str
        The method that was called, such as ``"set_if"``.
    key : str
        The key, or the prefix of a listing; empty where there is none.
    value : bytes-like or None
        What is to be stored.
    url : str
        The URL of the store, for errors.
    random : random.Random
        For choices; seeded by the store's seed and the fault's place in the plan.
    clock : Clock
        What to wait by.
    """

    def __init__(
        self,
        method: str,
        key: str,
        value: Buffer | None,
        url: str,
        random: Random,
        clock: Clock,
        work: Callable[[Any], Any],
        stale: Callable[[], Any],
        later: Callable[[int, Callable[[], Any]], None],
        die: Callable[[], None],
    ) -> None:
        self.method, self.key, self.value, self.url = method, key, value, url
        self.random, self.clock = random, clock
        self._work, self._stale, self._later, self._die = work, stale, later, die

    @property
    def writes(self) -> bool:
        """Whether the call changes what is stored."""
        return self.method in WRITING

    def perform(self) -> Any:
        """Call the wrapped store; what it answers."""
        return self._work(self.value)

    def perform_with(self, value: Buffer) -> Any:
        """Call the wrapped store with another value to be stored."""
        return self._work(value)

    def perform_stale(self) -> Any:
        """The answer from before the last write of the key, where that write is known; else that of now."""
        return self._stale()

    def perform_again_after(self, n: int) -> None:
        """Call the wrapped store once more when `n` further calls have been made."""
        value = None if self.value is None else memoryview(self.value).tobytes()
        self._later(n, lambda: self._work(value))

    def die(self) -> NoReturn:
        """Raise `Crashed`, now and for every later call."""
        self._die()
        raise Crashed(f"{self.url}: {self.key}: the process crashed in {self.method}")


class Effect:
    """What a fault does to a call. A subclass overrides `apply`.

    Attributes
    ----------
    is_last : bool, default False
        No other call begins after one that meets this, in any thread.
    """

    is_last: ClassVar[bool] = False

    def apply(self, delivery: Delivery) -> Any:
        """Answer the call, or raise what the caller is to see."""
        return delivery.perform()


_KINDS: dict[int, type[StoreError]] = {
    401: PermissionDeniedError,
    403: PermissionDeniedError,
    409: ConflictError,
    412: ConflictError,
    429: ThrottledError,
    408: UnavailableError,
}
_HINTS: dict[type[StoreError], str] = {
    PermissionDeniedError: "Check the credentials, and what they may do.",
    ThrottledError: "Send fewer requests, and try again later.",
    UnavailableError: "Try again later.",
    ConflictError: "Read the value again, and decide anew.",
}
_CODES = {404: "no_such_bucket"}


@dataclass(frozen=True)
class Status(Effect):
    """The call is refused, and nothing happens, as by a service that answers with a status of HTTP.

    401 and 403 are `zarrcy.PermissionDeniedError`; 409 and 412 `zarrcy.ConflictError`; 429 `zarrcy.ThrottledError`;
    408 and 5xx `zarrcy.UnavailableError`; others, such as the 404 of a missing bucket, `zarrcy.StoreError`.

    Parameters
    ----------
    status : int
        The status, 400 to 599.
    code : str, optional
        The error's `code`; by default the status's name, ``"no_such_bucket"`` for 404. ``"slow_down"`` makes a 503 a
        `zarrcy.ThrottledError`, ``"expired_token"`` a 400 a `zarrcy.PermissionDeniedError`.

    Raises
    ------
    ValueError
        It is no status of an error.

    Examples
    --------
    >>> from zarrcy.stores.mock import Fault, MockStore, Status
    >>> MockStore(faults=[Fault(Status(429))]).get("c/0")
    Traceback (most recent call last):
        ...
    zarrcy.errors.ThrottledError: memory://...: c/0: expected an answer, got 429 Too Many Requests
    Send fewer requests, and try again later.
    """

    status: int
    code: str | None = None

    def __post_init__(self) -> None:
        if not 400 <= self.status < 600:
            raise ValueError(f"status: expected 400 to 599, got {self.status}")

    def apply(self, delivery: Delivery) -> Any:
        """Refuse the call."""
        known = self.status in set(HTTPStatus)
        kind = _KINDS.get(self.status, UnavailableError if self.status >= 500 else StoreError)
        kind = {"slow_down": ThrottledError, "expired_token": PermissionDeniedError}.get(self.code or "", kind)
        name = f"{self.status} {HTTPStatus(self.status).phrase}" if known else str(self.status)
        code = HTTPStatus(self.status).name.lower() if known else f"http_{self.status}"
        raise kind(
            f"expected an answer, got {name}",
            store=delivery.url,
            key=delivery.key,
            code=self.code or _CODES.get(self.status, code),
            hint=_HINTS.get(kind),
        )


@dataclass(frozen=True)
class Fail(Effect):
    """The call is a plain `zarrcy.StoreError` with that `code`, and nothing happens."""

    code: str = "mock_error"

    def apply(self, delivery: Delivery) -> Any:
        """Refuse the call."""
        raise StoreError(
            f"expected {delivery.method} to work, got the failure that was asked for",
            store=delivery.url,
            key=delivery.key,
            code=self.code,
        )


def _no_answer(delivery: Delivery, stored: bool, what: str, code: str) -> NoReturn:
    if not delivery.writes:
        raise UnavailableError(
            f"expected an answer, got {what}",
            store=delivery.url,
            key=delivery.key,
            code=code,
            hint=_HINTS[UnavailableError],
        )
    if stored:
        delivery.perform()
    raise OutcomeUnknownError(
        f"expected an answer to the write, got {what}",
        store=delivery.url,
        key=delivery.key,
        code=code,
        hint="Read the value to see whether it was written.",
    )


@dataclass(frozen=True)
class Timeout(Effect):
    """No answer comes: `zarrcy.UnavailableError` for what reads, `zarrcy.OutcomeUnknownError` for what writes.

    Parameters
    ----------
    seconds : float, default 30.0
        How long the caller waits, by the store's clock.
    stored : bool, default False
        A write takes place all the same, and only its answer is lost.
    """

    seconds: float = 30.0
    stored: bool = False

    def apply(self, delivery: Delivery) -> Any:
        """Wait, and answer nothing."""
        delivery.clock.sleep(self.seconds)
        _no_answer(delivery, self.stored, f"none within {self.seconds:g} s", "timeout")


@dataclass(frozen=True)
class Reset(Effect):
    """The connection breaks at once; as `Timeout` otherwise.

    Parameters
    ----------
    stored : bool, default False
        A write takes place all the same, and only its answer is lost.
    """

    stored: bool = False

    def apply(self, delivery: Delivery) -> Any:
        """Answer nothing."""
        _no_answer(delivery, self.stored, "a connection that was reset", "reset")


@dataclass(frozen=True)
class DiskFull(Effect):
    """There is no room for a value: `zarrcy.StoreError` with code ``"enospc"``. Reading and deleting work."""

    def apply(self, delivery: Delivery) -> Any:
        """Refuse to store."""
        if delivery.method in STORING:
            raise store_error(errno.ENOSPC, delivery.url, delivery.key)
        return delivery.perform()


def _altered(delivery: Delivery, change: Callable[[bytes], bytes]) -> Any:
    """The call with another value: the one that is stored, or the one that is read."""
    if delivery.method in STORING and delivery.value is not None:
        return delivery.perform_with(change(memoryview(delivery.value).tobytes()))
    answer = delivery.perform()
    if delivery.method == "get" and answer is not None:
        return change(bytes(answer))
    if delivery.method == "get_with_version" and answer[0] is not None:
        return change(bytes(answer[0])), answer[1]
    return answer


@dataclass(frozen=True)
class Truncate(Effect):
    """A value that is read, or stored, ends early; no error says so.

    Parameters
    ----------
    keep : int, optional
        The bytes that are left; by default a random number of them, fewer than there are.
    """

    keep: int | None = None

    def apply(self, delivery: Delivery) -> Any:
        """Cut the value."""

        def cut(value: bytes) -> bytes:
            return value[: delivery.random.randrange(len(value) or 1) if self.keep is None else self.keep]

        return _altered(delivery, cut)


@dataclass(frozen=True)
class Flip(Effect):
    """Bits of a value that is read, or stored, are inverted; no error says so. An empty value stays.

    Parameters
    ----------
    n_bits : int, default 1
        How many, at different places.
    """

    n_bits: int = 1

    def apply(self, delivery: Delivery) -> Any:
        """Invert some bits."""

        def flip(value: bytes) -> bytes:
            flipped = bytearray(value)
            for bit in delivery.random.sample(range(8 * len(value)), min(self.n_bits, 8 * len(value))):
                flipped[bit // 8] ^= 1 << bit % 8
            return bytes(flipped)

        return _altered(delivery, flip)


@dataclass(frozen=True)
class Stale(Effect):
    """What is read is as it was before the last write of the key (of each key, for a listing).

    Only writes through the same store count, and only those since its plan has held such a fault.
    """

    def apply(self, delivery: Delivery) -> Any:
        """Answer with what was there before."""
        return delivery.perform_stale()


@dataclass(frozen=True)
class Duplicate(Effect):
    """The call reaches the storage twice; the second answer is the one that is seen.

    So a `set_if` that worked is seen as a `zarrcy.ConflictError`, as by a client that sends a request again when the
    answer was lost.

    Parameters
    ----------
    after : int, default 0
        Further calls before the second one arrives, unseen. By then it may overwrite a newer value.
    """

    after: int = 0

    def apply(self, delivery: Delivery) -> Any:
        """Deliver the call twice."""
        if self.after:
            delivery.perform_again_after(self.after)
        else:
            delivery.perform()
        return delivery.perform()


@dataclass(frozen=True)
class Slow(Effect):
    """The call takes longer, by a number of seconds or a `Distribution`; it may meet another fault as well."""

    seconds: float | Distribution


@dataclass(frozen=True)
class Crash(Effect):
    """The process ends during the call: `Crashed` is raised, now and by every later call.

    Until `zarrcy.stores.MockStore.reset` is called, that is.

    Parameters
    ----------
    stored : bool, default False
        A write has taken place by then.
    kill : bool, default False
        Really end the process, by SIGKILL: for a child process of a test.
    """

    is_last: ClassVar[bool] = True

    stored: bool = False
    kill: bool = False

    def apply(self, delivery: Delivery) -> Any:
        """End."""
        if self.stored and delivery.writes:
            delivery.perform()
        if self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        delivery.die()
