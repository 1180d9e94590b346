"""What the laws of stores are written with; they are in `laws_values` and `laws_sharing`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from zarrcy.stores.store import Store

__all__ = [
    "N_STEPS",
    "N_THREADS",
    "Laws",
    "answers",
    "brief",
    "expect",
    "expect_error",
    "expect_value",
    "in_threads",
    "listed",
    "value_of",
]

# Long enough that threads meet, short enough for a test that runs every time.
N_THREADS = 8
N_STEPS = 60


class Laws(dict[str, Callable[[Store], None]]):
    """Laws by name: what must hold, in words."""

    def add(self, check: Callable[[Store], None]) -> Callable[[Store], None]:
        self[check.__name__.replace("_", " ")] = check
        return check


def value_of(n: int, seed: int = 0) -> bytes:
    return np.random.default_rng([seed, n]).bytes(n)


def expect(condition: bool, sentence: str) -> None:
    # Not an assert statement: the laws hold under -O too.
    if not condition:
        raise AssertionError(sentence)


def expect_value(store: Store, key: str, value: bytes | None) -> None:
    got = store.get(key)
    if value is None or got is None:
        expect(got is value, f"get({key!r}): expected {brief(value)}, got {brief(got)}")
    else:
        expect(bytes(got) == value, f"get({key!r}): expected {brief(value)}, got {brief(got)}")


def expect_error(
    kinds: type[BaseException] | tuple[type[BaseException], ...], call: Callable[[], Any], what: str
) -> None:
    try:
        call()
    except kinds:
        return
    except Exception as error:
        raise AssertionError(f"{what}: expected {kinds}, got {error!r}") from error
    raise AssertionError(f"{what}: expected {kinds}, got no error")


def answers(store: Store, key: str) -> list[Any]:
    return list(store.get_many([(key, None)]))


def listed(method: Callable[[str], Iterable[str]], prefix: str) -> list[str]:
    return list(method(prefix))


def brief(value: Any) -> str:
    if value is None:
        return "None"
    data = bytes(value)
    return repr(data) if len(data) <= 40 else f"{len(data)} bytes starting with {data[:16]!r}"


def in_threads(works: Iterable[Callable[[], None]]) -> None:
    """Run each in a thread of its own; raise the first error."""
    errors: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
