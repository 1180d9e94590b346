"""Every store and wrapper keeps the laws of stores, one test for each."""

import pytest
import sanitized
from store_makers import EVERY, mnesia

from zarrcy.stores import Store
from zarrcy.stores.memory import MemoryStore
from zarrcy.stores.mock import MockStore, VirtualClock
from zarrcy.stores.zip import ZipStore
from zarrcy.testing import STORE_LAWS, check_store


class Plain(Store):
    """What an author writes who overrides nothing: the defaults of the contract over a dict."""

    def __init__(self):
        self.inner = MemoryStore()

    @property
    def url(self):
        return "plain://"

    def options(self):
        return {}

    def get(self, key, part=None):
        return self.inner.get(key, part)

    def set(self, key, value):
        self.inner.set(key, value)

    def delete(self, key):
        self.inner.delete(key)

    def list_prefix(self, prefix=""):
        return self.inner.list_prefix(prefix)

    def __reduce__(self):
        return self.inner.__reduce__()


FORMS = {
    **EVERY,
    "memory over a dict": lambda path: MemoryStore.over({}),
    "zip, durable": lambda path: ZipStore(path / "a.zip", durable=True, mode="x"),
    "a store with only what must be written": lambda path: Plain(),
    "mock, with latency": lambda path: MockStore(latency=0.01, clock=VirtualClock()),
}
if not sanitized.KIND:  # servers do not run below a sanitizer
    FORMS["mnesia, durable"] = lambda path: mnesia(path, durable=True)


@pytest.mark.parametrize("law", STORE_LAWS)
@pytest.mark.parametrize("name", FORMS)
def test_a_store_keeps_the_law(name, law, tmp_path):
    store = FORMS[name](tmp_path)
    STORE_LAWS[law](store)
    store.close()


def test_check_store_runs_every_law_over_one_store(tmp_path):
    store = ZipStore(tmp_path / "a.zip")
    check_store(store)
    assert list(store.list_prefix()) == []


def test_check_store_takes_a_callable():
    check_store(MemoryStore)


def test_check_store_deletes_nobodys_values():
    store = MemoryStore({"c/0": b"1"})
    with pytest.raises(ValueError, match="expected an empty store"):
        check_store(store)
    assert store.get("c/0") == b"1"


BROKEN = {
    "a missing key is none": ("get", lambda self, key, part=None: MemoryStore.get(self, key, part) or b""),
    "a part is a slice of the value": (
        "get",
        lambda self, key, part=None: MemoryStore.get(self, key, part and slice(part.start, part.stop or None)),
    ),
    "list prefix gives the keys below": (
        "list_prefix",
        lambda self, prefix="": (key for key in MemoryStore.list_prefix(self) if key.startswith(prefix.rstrip("/"))),
    ),
    "bad keys are refused": ("get", lambda self, key, part=None: self._data.get(key)),
    "a version is that of one value": ("_version", lambda self, key, value: 1),
    "set if refuses a stale version": ("set_if", lambda self, key, value, version: MemoryStore.set(self, key, value)),
    "changing the buffer afterwards changes nothing": (
        "set",
        lambda self, key, value: self._data.__setitem__(key, value),
    ),
    "delete removes and an absent key is fine": ("delete", lambda self, key: self._data.__delitem__(key)),
    "a listing bears changes while it runs": ("list_prefix", lambda self, prefix="": iter(self._data)),
    "get many answers every request once": (
        "get_many",
        lambda self, requests: enumerate(self.get(*request) for request in list(requests)[1:]),
    ),
}


@pytest.mark.parametrize("law", BROKEN)
def test_a_store_that_breaks_a_law_is_found(law):
    method, broken = BROKEN[law]
    store = type("Broken", (MemoryStore,), {method: broken})()
    with pytest.raises((AssertionError, RuntimeError, KeyError)):
        STORE_LAWS[law](store)
