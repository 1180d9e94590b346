"""Every store of the table between processes: killed writers, increments of one chunk, forks, pickles, warnings."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import array_cases as cases
import pytest
from broken_stores import LateStore, LitteringStore, LossyStore, TornStore
from child_scripts import run_script
from store_makers import CLOUDS, DATABASES, EVERY, MAKERS, SECRETS, STACKS, guards, has_recipe_for_writers

import zarrcy
from zarrcy.errors import ConcurrentWriteWarning, StoreError
from zarrcy.stores import Store


def recipe_of(store: Store, place: Path) -> Path:
    recipe = place / "recipe"
    recipe.write_bytes(pickle.dumps(store))
    return recipe


def check_kills(name: str, place: Path, n: int) -> None:
    with EVERY[name](place) as store:
        if not has_recipe_for_writers(store):
            # Memory dies with its process. An archive has one writer, and tests of its own in test_zip_crash.py.
            assert name in ("memory", "zip") or name.startswith("mock over")
            return
        recipe = recipe_of(store, place)
        assert f"{n} writers killed" in run_script("store_crashes.py", recipe, n, timeout=3000)


@pytest.mark.parametrize("name", MAKERS)
def test_killed_writers_lose_no_acknowledged_write_and_leave_nothing_that_shows(name: str, tmp_path: Path) -> None:
    # A service stores an object whole or not at all, whatever becomes of who sends it.
    check_kills(name, tmp_path, 50 if name in CLOUDS else 200)


@pytest.mark.parametrize(
    ("broken", "n", "complaint"),
    [(TornStore, 20, "torn"), (LateStore, 20, "acknowledged"), (LitteringStore, 100, "leftover")],
)
def test_a_store_that_a_killed_writer_breaks_is_found(broken: Any, n: int, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=complaint):
        run_script("store_crashes.py", recipe_of(broken(tmp_path / "store"), tmp_path), n)


@pytest.mark.long
@pytest.mark.parametrize("name", MAKERS)
def test_2000_killed_writers_lose_no_acknowledged_write(name: str, tmp_path: Path) -> None:
    check_kills(name, tmp_path, 2000)


def check_increments(name: str, place: Path, n: int) -> None:
    """16 processes where others can write too, and 32 threads, each add 1 to an item of its own in one chunk."""
    with EVERY[name](place) as store:
        if not guards(store):
            return  # it warns instead: see below
        if has_recipe_for_writers(store):
            where = recipe_of(store, place), "recipe", 16
        else:
            where = place / "own", name, 0
        n_increments = n * (where[2] + 32)
        assert f"{n_increments} increments, none lost" in run_script(
            "array_workers.py", "increments", *where, 32, n, timeout=600
        )


@pytest.mark.parametrize("name", MAKERS)
def test_increments_of_one_chunk_by_processes_and_threads_lose_nothing(name: str) -> None:
    with cases.directory_in_memory() as place:
        check_increments(name, place, 10 if name in CLOUDS else 50 if name in DATABASES else 500)


def test_a_store_that_loses_increments_is_found(tmp_path: Path) -> None:
    recipe = recipe_of(LossyStore(tmp_path / "store"), tmp_path)
    with pytest.raises(AssertionError, match="increments lost"):
        run_script("array_workers.py", "increments", recipe, "recipe", 4, 4, 50)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(DATABASES))
def test_24000_increments_in_databases_lose_nothing(name: str, tmp_path: Path) -> None:
    check_increments(name, tmp_path, 500)


@pytest.mark.parametrize("name", EVERY)
def test_a_store_works_in_forked_children_while_the_parent_goes_on(name: str, tmp_path: Path) -> None:
    with EVERY[name](tmp_path) as store:
        if has_recipe_for_writers(store):
            where = recipe_of(store, tmp_path), "recipe"
        else:
            where = tmp_path / "own", name
        assert "20 forks" in run_script("array_workers.py", "forks_of", *where, 20)


@pytest.mark.parametrize("name", EVERY)
def test_every_store_but_memory_is_pickled_as_a_recipe_without_secrets(name: str, tmp_path: Path) -> None:
    store = EVERY[name](tmp_path)
    if name == "memory" or (name in STACKS and name.split(" over ")[-1] in ("memory", "mock")):
        with pytest.raises(StoreError, match="memory of this one"):
            pickle.dumps(store)
        return
    store.set("c/0", b"canary of a value")
    store.sync()
    data = pickle.dumps(store)
    assert b"canary of a value" not in data
    for secret in SECRETS:
        assert secret not in f"{data!r} {store!r} {store} {store.url} {store.options()}"
    with pickle.loads(data) as again:
        assert again == store and bytes(again.get("c/0")) == b"canary of a value"
    store.close()


@pytest.mark.parametrize("name", EVERY)
def test_a_partial_write_warns_only_where_the_store_cannot_guard_it(name: str, tmp_path: Path) -> None:
    with EVERY[name](tmp_path) as store:
        array = zarrcy.create_array(store, shape=10, chunks=10, dtype="int8")
        with warnings.catch_warnings(record=True) as given:
            warnings.simplefilter("always")
            array[3] = 1
        assert [warning.category for warning in given] == ([] if guards(store) else [ConcurrentWriteWarning])
