"""Any store, with calls made again that failed for the moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from zarrcy.errors import ConflictError, OutcomeUnknownError, StoreError
from zarrcy.stores.retry import PASSING, Retrier, Retry
from zarrcy.stores.store import Buffer, Store, Version
from zarrcy.stores.wrapper import WrapperStore

__all__ = ["RetryingStore"]

T = TypeVar("T")


class RetryingStore(WrapperStore):
    """A store whose calls are made again after `zarrcy.ThrottledError`, `zarrcy.UnavailableError` and lost answers.

    Other errors, such as `zarrcy.PermissionDeniedError` and `zarrcy.ConflictError`, are raised at once. While the
    service asks for fewer requests, fewer are sent: see `zarrcy.stores.retry.Pace`.

    Parameters
    ----------
    store : Store
        The store to call. Closing this one closes that one.
    retry : Retry, optional
        Pauses and deadline; by default 0.1 to 10 seconds, 120 in all.

    Notes
    -----
    `set` and `delete` may arrive twice when an answer was lost. `set_if` may not: it is sent again only when the key
    still has the version from before. Otherwise nobody can tell whether this write or another one made the new value,
    equal as it may be, and `zarrcy.OutcomeUnknownError` says so.

    It has the URL and the clock of the store. A transaction would need more than this: there is none.

    Examples
    --------
    >>> from zarrcy.stores.mock import Fault, MockStore, Status, VirtualClock
    >>> from zarrcy.stores.retrying import RetryingStore
    >>> busy = MockStore(faults=[Fault(Status(503), share=0.5)], clock=VirtualClock())
    >>> store = RetryingStore(busy)
    >>> for i in range(100):
    ...     store.set(f"c/{i}", b"1")
    >>> busy.call_count("set") > 150
    True
    """

    use = "Services that are busy at times"

    def __init__(self, store: Store, retry: Retry | None = None) -> None:
        super().__init__(store)
        self.retry = Retry() if retry is None else retry
        self._retrier = Retrier(self.retry, store.clock)

    def options(self) -> dict[str, Any]:
        """The store, and the policy where it is not the default."""
        return {"store": self.store} if self.retry == Retry() else {"store": self.store, "retry": self.retry}

    def _call(self, work: Callable[[], T], *also: type[StoreError]) -> T:
        try:
            return self._retrier.call(work, *also)
        except StoreError as error:
            self._place(error)
            raise

    def _place(self, error: StoreError) -> None:
        """Give the store to an error that no call of it has raised."""
        error.store = error.store or self.url

    # ---- reading

    def get(self, key: str, part: slice | None = None) -> Buffer | None:
        return self._call(lambda: self.store.get(key, part))

    def get_many(self, requests: Iterable[tuple[str, slice | None]]) -> Iterator[tuple[int, Buffer | None]]:
        waiting = dict(enumerate(requests))
        attempts = self._retrier.begin()
        try:
            attempts.wait()
        except StoreError as error:
            self._place(error)
            raise
        while waiting:
            positions = list(waiting)
            try:
                for i, value in self.store.get_many([waiting[position] for position in positions]):
                    del waiting[positions[i]]
                    attempts.advanced()
                    self._retrier.pace.succeeded()
                    yield positions[i], value
            except PASSING as error:
                attempts.failed(error)
            else:
                return  # what the store has left out without an error, it would leave out again

    def get_with_version(
        self, key: str, part: slice | None = None, *, if_version: Version | None = None
    ) -> tuple[Buffer | None, Version | None]:
        return self._call(lambda: self.store.get_with_version(key, part, if_version=if_version))

    def size(self, key: str) -> int | None:
        return self._call(lambda: self.store.size(key))

    def exists(self, key: str) -> bool:
        return self._call(lambda: self.store.exists(key))

    def list_prefix(self, prefix: str = "") -> Iterator[str]:
        """The keys, once all of them are known: a listing that breaks off begins again, and gives no key twice."""
        return iter(self._call(lambda: list(self.store.list_prefix(prefix))))

    def list_dir(self, prefix: str = "") -> Iterator[str]:
        return iter(self._call(lambda: list(self.store.list_dir(prefix))))

    # ---- writing

    def set(self, key: str, value: Buffer) -> None:
        self._call(lambda: self.store.set(key, value), OutcomeUnknownError)

    def delete(self, key: str) -> None:
        self._call(lambda: self.store.delete(key), OutcomeUnknownError)

    def set_if(self, key: str, value: Buffer, version: Version | None) -> Version:
        attempts = self._retrier.begin()
        lost: OutcomeUnknownError | None = None
        while True:
            try:
                return self._call(lambda: self.store.set_if(key, value, version))
            except OutcomeUnknownError as error:
                lost = error
            except ConflictError as error:
                # The write whose answer was lost may have made the version that is in the way.
                if lost is None:
                    raise
                raise lost from error
            if self.get_with_version(key, slice(0, 0))[1] != version:
                raise lost
            attempts.failed(lost)

    def lock(self, key: str) -> AbstractContextManager[None] | None:
        return self._call(lambda: self.store.lock(key))

    def prepare(self) -> None:
        self._call(self.store.prepare)

    def repair(self) -> list[str]:
        return self._call(self.store.repair)

    def sync(self) -> None:
        self._call(self.store.sync, OutcomeUnknownError)
