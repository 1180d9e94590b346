"""What ``zarrcy doctor`` finds out about a store: each step uses it as a program would, and says what came of it."""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable
from typing import Any

import zarrcy
from zarrcy.errors import ConflictError, ZarrcyError
from zarrcy.stores import Store
from zarrcy.stores.object_store import ObjectStore
from zarrcy.stores.retry import Retry

__all__ = ["diagnose"]

Document = dict[str, Any]

N_TRIES = 5
PROBE_NBYTES = 100_000
# The seconds in which a service that does not answer is asked again.
DEADLINE = 5.0

# What a step that fails makes pointless to try.
NEEDS = {
    "list": "reach",
    "latency": "reach",
    "write": "reach",
    "read back": "write",
    "conditions": "write",
    "delete": "write",
}


class Diagnosis:
    """The steps of one examination.

    Parameters
    ----------
    target : str
        What was given on the command line.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.steps: list[Document] = []
        self.failed: set[str] = set()
        self.store: Store | None = None
        self.key = f"zarrcy-doctor-{secrets.token_hex(8)}"
        self.value = secrets.token_bytes(PROBE_NBYTES)

    def step(self, name: str, work: Callable[[], str]) -> None:
        """Do one step; `work` returns what there is to say when all is well."""
        if NEEDS.get(name) in self.failed:
            self.failed.add(name)
            self.steps.append({"step": name, "ok": None, "says": f"not tried: {NEEDS[name]} failed", "hints": []})
            return
        begin = time.monotonic()
        try:
            says, ok, hints = work(), True, []
        except (ZarrcyError, OSError, ValueError, LookupError, TypeError) as error:
            says, ok, hints = str(error) or type(error).__name__, False, list(getattr(error, "__notes__", ()))
            self.failed.add(name)
        self.steps.append({"step": name, "ok": ok, "says": says, "hints": hints, "seconds": time.monotonic() - begin})

    @property
    def opened(self) -> Store:
        assert self.store is not None
        return self.store

    # ---- the steps

    def open(self) -> str:
        self.store = zarrcy.stores.open(self.target)
        if isinstance(self.store, ObjectStore):
            self.store.retry = Retry(deadline=DEADLINE)
        return repr(self.store)

    def reach(self) -> str:
        found = self.opened.get(self.key)
        if found is not None:
            raise ZarrcyError(f"expected no value under a new key, got {len(found)} bytes", store=self.opened.url)
        return "it answers, and takes the credentials for reading"

    def list(self) -> str:
        first = next(iter(self.opened.list_dir()), None)
        return "it can be listed; there is nothing yet" if first is None else f"it can be listed; there is {first!r}"

    def latency(self) -> str:
        seconds = []
        for _ in range(N_TRIES):
            begin = time.monotonic()
            self.opened.get(self.key)
            seconds.append(time.monotonic() - begin)
        return f"{statistics.median(seconds) * 1000:.1f} ms for a read, the median of {N_TRIES}"

    def write(self) -> str:
        self.opened.prepare()
        self.opened.set(self.key, self.value)
        return f"{PROBE_NBYTES:,} bytes were written as {self.key!r}"

    def read_back(self) -> str:
        if self.opened.get(self.key) != self.value:
            raise ZarrcyError("expected the bytes that were written, got others", store=self.opened.url, key=self.key)
        return "what was written is read"

    def conditions(self) -> str:
        if not self.opened.supports_cas:
            return "the store cannot compare and swap: let each chunk have one writer"
        try:
            self.opened.set_if(self.key, b"", None)
        except ConflictError:
            if self.opened.supports_cas:
                return "conditional writes are obeyed: writers of one chunk lose nothing"
        return "conditional writes are ignored: let each chunk have one writer"

    def delete(self) -> str:
        self.opened.delete(self.key)
        if self.opened.get(self.key) is not None:
            raise ZarrcyError("expected no value after its deletion", store=self.opened.url, key=self.key)
        return "it can be deleted; nothing is left"


def diagnose(target: str, *, write: bool) -> Document:
    """What ``zarrcy doctor`` prints.

    Parameters
    ----------
    target : str
        A path or URL.
    write : bool
        Also write a value under a key of its own, and delete it.
    """
    it = Diagnosis(target)
    it.step("open", it.open)
    if it.store is not None:
        try:
            for name, work in (("reach", it.reach), ("list", it.list), ("latency", it.latency)):
                it.step(name, work)
            if write:
                steps = (("write", it.write), ("read back", it.read_back), ("conditions", it.conditions))
                for name, work in (*steps, ("delete", it.delete)):
                    it.step(name, work)
        finally:
            it.store.close()
    url = target if it.store is None else it.store.url
    return {"store": url, "steps": it.steps, "healthy": not it.failed}
