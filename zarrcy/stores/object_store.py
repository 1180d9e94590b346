"""`ObjectStore`: what the stores of cloud services have in common; a service adds an `ObjectClient`."""

from __future__ import annotations

import itertools
import os
import random
import secrets
import weakref
from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, suppress
from typing import Any, TypeVar

from zarrcy.errors import ConflictError, OutcomeUnknownError, StoreError, UnavailableError, ZarrcyError
from zarrcy.stores.object_client import Condition, ObjectClient, Page
from zarrcy.stores.object_reads import Download, span_of
from zarrcy.stores.object_service import ObjectService
from zarrcy.stores.retry import PASSING, Retrier, Retry
from zarrcy.stores.room import Room
from zarrcy.stores.shared_clients import acquire
from zarrcy.stores.store import (
    UPDATE_TIMEOUT,
    Buffer,
    Store,
    Version,
    check_key,
    check_prefix,
    resolve_part,
    warn_unguarded,
)
from zarrcy.threads import map_unordered, pause, woken_by

__all__ = ["MAX_CONCURRENCY", "ObjectStore"]

T = TypeVar("T")

# Requests in flight by default: with 100 ms of latency and 1 MiB chunks more than one connection carries.
MAX_CONCURRENCY = 32
# What it costs less to read over than to ask for again.
COALESCE_GAP = 1 << 18
# Encoded bytes in flight, with every thread's decoded chunk on top.
BYTE_BUDGET = 128 << 20

# Between two attempts of `update`, in seconds.
LONGEST_PAUSE = 1.0

# The request never reached the service.
NOT_SENT = frozenset({"unreachable", "name_lookup", "certificate"})

# What the names of objects begin with that find out whether a service obeys conditions.
PROBE = "zarrcy-probe-"

_numbers = itertools.count()


class ObjectStore(Store):
    """Values as objects in a container of a service, under ``PREFIX/KEY``.

    Parameters
    ----------
    prefix : str
        What stands in front of every key: empty, or segments joined by ``"/"``.
    retry : Retry, optional
        Pauses and deadline; by default 0.1 to 10 seconds, 120 in all.
    max_concurrency : int, default 32
        Requests in flight at once.
    """

    coalesce_gap = COALESCE_GAP
    byte_budget = BYTE_BUDGET

    def __init__(self, *, prefix: str = "", retry: Retry | None = None, max_concurrency: int = MAX_CONCURRENCY) -> None:
        if max_concurrency < 1:
            raise ValueError(f"max_concurrency: expected at least 1, got {max_concurrency}")
        self.prefix = prefix.strip("/")
        check_prefix(self._front)
        self.retry = Retry() if retry is None else retry
        self.max_concurrency = self.concurrency = max_concurrency
        self._acquired: tuple[ObjectService, int] | None = None
        self._retrier_of: tuple[ObjectService, Retrier] | None = None

    def options(self) -> dict[str, Any]:
        """The keyword arguments that open this storage again, in another process too. No secret is among them."""
        options: dict[str, Any] = {"prefix": self.prefix} if self.prefix else {}
        if self.retry != Retry():
            options["retry"] = self.retry
        if self.max_concurrency != MAX_CONCURRENCY:
            options["max_concurrency"] = self.max_concurrency
        return options

    @abstractmethod
    def _client_key(self) -> Hashable:
        """What a client can be shared by: the container, the endpoint, and a digest of the credential."""

    @abstractmethod
    def _make_client(self) -> ObjectClient:
        """A client of the container. Nothing is asked of the service yet."""

    @property
    def _front(self) -> str:
        return f"{self.prefix}/" if self.prefix else ""

    def _name(self, key: str) -> str:
        return self._front + check_key(key)

    def _connected(self) -> ObjectService:
        acquired = self._acquired
        if acquired is None or acquired[0].process != os.getpid():
            # A new number each time: who closes the store gives back what it had, not what another thread takes now.
            user = next(_numbers)
            try:
                key = self._client_key()
                service = acquire(key, lambda: ObjectService(key, self._make_client()), user)
            except StoreError as error:
                self._place(error, error.key)
                raise
            acquired = self._acquired = service, user
            weakref.finalize(self, service.release, user).atexit = False
        return acquired[0]

    @property
    def client(self) -> ObjectClient:
        """The client of this process, made at first use."""
        return self._connected().client

    @property
    def retrier(self) -> Retrier:
        """What makes calls again; all stores of one container and prefix keep one pace."""
        shared = self._connected()
        known = self._retrier_of
        if known is None or known[0] is not shared:
            pace = shared.pace(self._front, self.clock)
            known = self._retrier_of = shared, Retrier(self.retry, self.clock, pace)
        return known[1]

    def _call(self, key: str | None, work: Callable[[], T]) -> T:
        """What `work` returns, tried again as `retry` says. Its errors get the key."""
        try:
            with woken_by(self.client.interrupt):
                return self.retrier.call(work)
        except StoreError as error:
            self._place(error, key)
            raise

    def _place(self, error: ZarrcyError, key: str | None) -> None:
        """Give an error the store and the key: a client knows neither the prefix nor who uses it."""
        error.store = self.url
        error.key = key

    @property
    def supports_cas(self) -> bool:  # type: ignore[override]
        """Whether the service is not known to ignore conditions; the first conditional write finds out."""
        return self._acquired is None or self._acquired[0].conditions.get("version", True)

    # ---- reading

    def get(self, key: str, part: slice | None = None) -> Buffer | None:
        return self._read(key, part, None)[0]

    def get_with_version(
        self, key: str, part: slice | None = None, *, if_version: Version | None = None
    ) -> tuple[Buffer | None, Version | None]:
        return self._read(key, part, self._own(if_version, key))

    def _own(self, version: Version | None, key: str) -> str | None:
        """A version, if it can be one of this store: it becomes part of a request."""
        if version is None or (isinstance(version, str) and version.isascii() and version.isprintable()):
            return version
        raise ConflictError("expected a version of this store, got another", store=self.url, key=key)

    def _read(self, key: str, part: slice | None, version: str | None) -> tuple[Buffer | None, str | None]:
        name = self._name(key)
        span, cut = span_of(part)
        try:
            with woken_by(self.client.interrupt):
                found = Download(self.client, self.retrier, name, span, version).run()
        except ZarrcyError as error:
            self._place(error, key)
            raise
        if found is None:
            return None, None
        if cut is None:
            return found.value, found.version
        first = span.within(found.nbytes)[0] if span is not None else 0
        begin, n = resolve_part(cut, found.nbytes)
        return memoryview(found.value)[begin - first : begin - first + n] if n else b"", found.version

    def get_many(self, requests: Iterable[tuple[str, slice | None]]) -> Iterator[tuple[int, Buffer | None]]:
        room = Room(self.byte_budget)

        def asked() -> Iterator[tuple[int, str, slice | None, int]]:
            for i, (key, part) in enumerate(requests):
                yield i, key, part, room.ask(span_of(part)[0])

        def fetch(request: tuple[int, str, slice | None, int]) -> tuple[int, Buffer | None]:
            i, key, part, nbytes = request
            value = self.get(key, part)
            room.arrived(nbytes, value)
            return i, value

        with closing(map_unordered(fetch, asked(), self.concurrency, room.has_any)) as found:
            for i, value in found:
                room.left(value)
                yield i, value

    def size(self, key: str) -> int | None:
        name = self._name(key)
        found = self._call(key, lambda: self.client.head(name))
        return None if found is None else found.nbytes

    # ---- listing

    def list_prefix(self, prefix: str = "") -> Iterator[str]:
        """Every key that starts with `prefix`: a page after the other, or where there are several, by folders at once.

        Objects whose names are no keys, such as the empty ones that stand for folders, are left out.
        """
        yield from self._list(self._front + check_prefix(prefix))

    def _list(self, start: str) -> Iterator[str]:
        page = self._page(start, None, by_folder=False)
        if page.token is None:
            yield from self._keys(page.names)
            return
        # The listing is long: its folders can be listed side by side.
        folders: dict[str, None] = {}
        for each in self._pages(start, by_folder=True):
            yield from self._keys(each.names)
            folders |= dict.fromkeys(each.folders)

        def list_folder(folder: str) -> list[str]:
            return [name for each in self._pages(folder, by_folder=False) for name in each.names]

        if len(folders) == 1:
            # One at a time: a folder of folders may be as long as its parent.
            yield from self._list(*folders)
            return
        for names in map_unordered(list_folder, folders, self.concurrency):
            yield from self._keys(names)

    def list_dir(self, prefix: str = "") -> Iterator[str]:
        start = self._front + check_prefix(prefix)
        for page in self._pages(start, by_folder=True):
            for key in self._keys(page.names):
                yield key[len(prefix) :]
            for key in self._keys([folder[:-1] for folder in page.folders]):
                yield key[len(prefix) :] + "/"

    def _pages(self, start: str, *, by_folder: bool) -> Iterator[Page]:
        token = None
        while True:
            page = self._page(start, token, by_folder=by_folder)
            yield page
            token = page.token
            if token is None:
                return

    def _page(self, start: str, token: str | None, *, by_folder: bool) -> Page:
        return self._call(None, lambda: self.client.list(start, token, by_folder=by_folder))

    def _keys(self, names: Iterable[str]) -> Iterator[str]:
        for name in names:
            key = name[len(self._front) :]
            if key.rpartition("/")[2].startswith(PROBE):
                continue
            try:
                yield check_key(key)
            except ValueError:
                continue

    # ---- writing

    def set(self, key: str, value: Buffer) -> None:
        data = _flat(value)
        self._write(key, lambda name: self.client.put(name, data, None, ""))

    def delete(self, key: str) -> None:
        self._write(key, lambda name: self.client.delete(name))

    def _write(self, key: str, request: Callable[[str], T]) -> T:
        """A write that may arrive twice."""
        self.check_writable()
        name = self._name(key)
        n_lost = 0

        def attempt() -> T:
            nonlocal n_lost
            try:
                return request(name)
            except UnavailableError as error:
                n_lost += error.code not in NOT_SENT
                raise

        try:
            return self._call(key, attempt)
        except StoreError as error:
            # Whatever the last try met: one before it may have been carried out.
            if not n_lost:
                raise
            raise self._unknown(key) from error

    def _unknown(self, key: str) -> OutcomeUnknownError:
        return OutcomeUnknownError(
            "the answer to the write was lost",
            store=self.url,
            key=key,
            code="outcome_unknown",
            hint="The write may or may not have happened: read the value to know.",
        )

    def set_many(self, items: Iterable[tuple[str, Buffer]]) -> None:
        """Store several values, several at once. Each is atomic."""
        for _ in map_unordered(lambda item: self.set(*item), items, self.concurrency):
            continue

    def delete_prefix(self, prefix: str) -> None:
        self.check_writable()
        size = self.client.batch

        def batches() -> Iterator[list[str]]:
            keys = iter(list(self.list_prefix(prefix)))
            while batch := list(itertools.islice(keys, size)):
                yield [self._name(key) for key in batch]

        def delete(names: list[str]) -> None:
            self._call(None, lambda: self.client.delete_many(names))

        for _ in map_unordered(delete, batches(), self.concurrency):
            continue

    def set_if(self, key: str, value: Buffer, version: Version | None) -> Version:
        self.check_writable()
        name = self._name(key)
        own = self._own(version, key)
        if not self._obeys("absent" if own is None else "version"):
            return self._set_unguarded(key, _flat(value), own)
        return self._put_once(key, name, _flat(value), Condition(own))

    def update(self, key: str, change: Callable[[Buffer | None], Buffer]) -> None:
        """Replace a value by what `change` makes of it; no update is lost. See `zarrcy.stores.Store.update`.

        An attempt that loses has sent the value for nothing: threads take turns, and processes wait longer each time.
        """
        if not self.supports_cas:
            super().update(key, change)
            return
        deadline = self.clock.monotonic() + UPDATE_TIMEOUT
        with self._turn(self._name(key)):
            for attempt in itertools.count():
                begin = self.clock.monotonic()
                value, version = self.get_with_version(key)
                changed = change(value)
                try:
                    self.set_if(key, changed, version)
                    return
                except ConflictError:
                    now = self.clock.monotonic()
                    if now > deadline:
                        raise
                # In the time of one attempt another one succeeds.
                pause(random.uniform(0, min((now - begin) * 2 ** min(attempt, 10), LONGEST_PAUSE)), self.clock.sleep)

    def _turn(self, name: str) -> AbstractContextManager[None]:
        """A turn among the threads of this process. Who has it may have to pause longer than this store may wait."""
        return self._connected().turns.turn(name, self.retry.deadline)

    def _put_once(self, key: str, name: str, value: Buffer, condition: Condition) -> str:
        """A conditional write, though answers may be lost: the object names its writer, and so says whose it is."""
        writer = secrets.token_hex(16)
        attempts = self.retrier.begin()
        lost: UnavailableError | None = None
        try:
            attempts.wait()
            while True:
                try:
                    with woken_by(self.client.interrupt):
                        made = self.client.put(name, value, condition, writer)
                except PASSING as error:
                    if isinstance(error, UnavailableError) and error.code not in NOT_SENT:
                        lost = error
                    attempts.failed(error)
                except ConflictError:
                    self.retrier.pace.succeeded()
                    if lost is None:
                        raise
                    break
                else:
                    self.retrier.pace.succeeded()
                    return made
        except StoreError as error:
            if lost is not None:
                raise self._unknown(key) from error
            self._place(error, key)
            raise
        return self._own_version(key, name, writer, lost)

    def _own_version(self, key: str, name: str, writer: str, lost: UnavailableError) -> str:
        """The version in the way of a write that was sent again: its own, or nobody knows."""
        try:
            found = self._call(key, lambda: self.client.head(name))
        except StoreError as error:
            raise self._unknown(key) from error
        if found is not None and found.writer == writer:
            return found.version
        # Another writer's, which may have come before this one, or have replaced it.
        raise self._unknown(key) from lost

    def _set_unguarded(self, key: str, value: Buffer, version: str | None) -> Version:
        """`set_if` where the service ignores conditions."""
        warn_unguarded(self.url)
        name = self._name(key)
        found = self._call(key, lambda: self.client.head(name))
        if version != (None if found is None else found.version):
            raise ConflictError("expected the version that was read before, got another", store=self.url, key=key)
        return self._write(key, lambda name: self.client.put(name, value, None, ""))

    def _obeys(self, asked: str) -> bool:
        """Whether the service obeys conditions: some answer 200 and overwrite. Tried once, on a key of its own."""
        shared = self._connected()
        if asked not in shared.conditions:
            with self._turn(f"{self._front}{PROBE}"):
                if asked not in shared.conditions:
                    shared.conditions.update(self._try_conditions())
        return shared.conditions[asked]

    def _try_conditions(self) -> dict[str, bool]:
        key = f"{PROBE}{secrets.token_hex(16)}"
        name = self._front + key
        is_begun = False

        def put(value: bytes, condition: Condition | None = None, writer: str = "") -> str:
            nonlocal is_begun
            is_begun = True
            return self.client.put(name, value, condition, writer)

        def refuses(condition: Condition) -> bool:
            writer = secrets.token_hex(16)
            try:
                self._call(key, lambda: put(b"2", condition, writer))
            except ConflictError:
                # Nobody else writes there: a try whose answer was lost has written this, or none has.
                found = self._call(key, lambda: self.client.head(name))
                return found is None or found.writer != writer
            return False

        try:
            first = self._call(key, lambda: put(b"1"))
            obeyed = {"absent": refuses(Condition(None))}
            second = self._call(key, lambda: put(b"3"))
            obeyed["version"] = refuses(Condition(first)) and not refuses(Condition(second))
        finally:
            # Also when the call has to stop. Who may not delete leaves it: no listing shows it.
            if is_begun:
                with suppress(StoreError):
                    self.client.delete(name)
        return obeyed

    # ---- the rest

    def close(self) -> None:
        acquired, self._acquired = self._acquired, None
        if acquired is not None:
            acquired[0].release(acquired[1])


def _flat(value: Buffer) -> Buffer:
    """The value as bytes, or as a contiguous view of bytes, which is what the packages of the services take."""
    if type(value) is bytes:
        return value
    view = memoryview(value)
    return view.cast("B") if view.c_contiguous and view.ndim == 1 else view.tobytes()
