"""A service of objects in a dict, that can be told to fail: what `ObjectStore` does with answers is tested with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable

from zarrcy.errors import ConflictError
from zarrcy.stores.object_client import Checksum, Condition, Found, ObjectClient, Page, Span
from zarrcy.stores.object_reads import checksum_of
from zarrcy.stores.object_store import ObjectStore
from zarrcy.stores.retry import Retry
from zarrcy.stores.store import Buffer

PAGE = 10  # names in one answer


class DictService:
    """Objects, and how the service behaves.

    Attributes
    ----------
    faults : list of callable
        The first is called with a function that does the next request, and its result is the answer.
    obeys : bool
        Conditions are obeyed.
    latency : float
        Seconds that each request takes.
    begun : list of float
        When each request began, by the monotonic clock.
    """

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, str, str]] = {}
        self.faults: list[Callable[[Callable[[], object]], object]] = []
        self.requests: list[str] = []
        self.obeys = True
        self.latency = 0.0
        self.begun: list[float] = []
        self.serial = 0
        self.lock = threading.Lock()


class DictClient(ObjectClient):
    batch = 7

    def __init__(self, service: DictService) -> None:
        self.service = service

    def _do(self, what: str, request: Callable[[], object]) -> object:
        self.service.begun.append(time.monotonic())
        if self.service.latency:
            time.sleep(self.service.latency)
        with self.service.lock:
            self.service.requests.append(what)
            fault = self.service.faults.pop(0) if self.service.faults else None
            return request() if fault is None else fault(request)

    def get(self, name: str, span: Span | None, version: str | None) -> Found | None:
        def request() -> Found | None:
            if name not in self.service.objects:
                if version is not None:
                    raise ConflictError("expected another version")
                return None
            value, own, writer = self.service.objects[name]
            if version not in (None, own):
                raise ConflictError("expected another version")
            begin, end = (span or Span(0)).within(len(value))
            checksum = Checksum("crc32c", checksum_of("crc32c", value))
            return Found(value[begin:end], own, len(value), writer, checksum)

        return self._do("get", request)  # type: ignore[return-value]

    def head(self, name: str) -> Found | None:
        def request() -> Found | None:
            if name not in self.service.objects:
                return None
            value, own, writer = self.service.objects[name]
            return Found(b"", own, len(value), writer)

        return self._do("head", request)  # type: ignore[return-value]

    def put(self, name: str, value: Buffer, condition: Condition | None, writer: str) -> str:
        data = bytes(value)

        def request() -> str:
            own = self.service.objects[name][1] if name in self.service.objects else None
            if condition is not None and self.service.obeys and condition.version != own:
                raise ConflictError("expected another version")
            self.service.serial += 1
            self.service.objects[name] = data, str(self.service.serial), writer
            return str(self.service.serial)

        return self._do("put", request)  # type: ignore[return-value]

    def delete(self, name: str) -> None:
        self._do("delete", lambda: self.service.objects.pop(name, None))

    def list(self, prefix: str, token: str | None, *, by_folder: bool) -> Page:
        def request() -> Page:
            found: dict[str, None] = {}
            for name in sorted(self.service.objects):
                if name.startswith(prefix):
                    head, slash, _ = name[len(prefix) :].partition("/")
                    found[prefix + head + slash if by_folder else name] = None
            rest = [name for name in found if token is None or name > token]
            page = rest[:PAGE]
            folders = [name for name in page if by_folder and name.endswith("/") and name != prefix]
            return Page(
                [name for name in page if name not in folders],
                folders,
                page[-1] if len(rest) > PAGE else None,
            )

        return self._do("list", request)  # type: ignore[return-value]


_services: dict[str, DictService] = {}


class DictStore(ObjectStore):
    """An `ObjectStore` of a `DictService` of this process."""

    def __init__(self, name: str, *, prefix: str = "", retry: Retry | None = None, max_concurrency: int = 8) -> None:
        super().__init__(prefix=prefix, retry=retry, max_concurrency=max_concurrency)
        self.name = name

    @property
    def service(self) -> DictService:
        return _services.setdefault(self.name, DictService())

    @property
    def url(self) -> str:
        return f"dict://{self.name}/{self.prefix}"

    def options(self) -> dict[str, object]:
        return {"name": self.name, **super().options(), "max_concurrency": self.max_concurrency}

    def _client_key(self) -> Hashable:
        return "dict", self.name

    def _make_client(self) -> ObjectClient:
        return DictClient(self.service)
