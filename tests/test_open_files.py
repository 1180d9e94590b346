"""What stores, arrays and tables keep open, and for how long."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from open_files import open_files
from store_makers import MAKERS, ON_SERVERS

import zarrcy
from zarrcy.stores.shared_memory import SharedMemoryStore

LOCAL = [name for name in MAKERS if name not in ON_SERVERS]


@pytest.fixture
def without_collector() -> Iterator[None]:
    """What waits for the collector of cycles stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.usefixtures("without_collector")
def test_what_is_dropped_closes_its_files_at_once(name: str, tmp_path: Path) -> None:
    def use() -> None:
        root = zarrcy.open_group(MAKERS[name](tmp_path), mode="a")
        array = root.require_array("deep/a", shape=(8,), chunks=(4,), dtype="int16")
        array.attrs["unit"] = "K"
        root.attrs.update(title="t")
        array[...] = np.arange(8)
        assert root["deep/a"][3:5].tolist() == [3, 4]
        array.resize((9,))
        array.refresh()
        assert dict(array.attrs) == {"unit": "K"} and list(root.groups()) and root.tree() and array.info

    before = open_files()
    use()
    kept = {Path(path).name for path in open_files() - before}
    # The lock of a table in shared memory belongs to the process.
    assert kept == ({"owner"} if name == "shared_memory" else set())


@pytest.mark.parametrize("name", LOCAL)
def test_a_closed_store_has_no_open_files(name: str, tmp_path: Path) -> None:
    before = open_files()
    store = MAKERS[name](tmp_path)
    store.set("a", b"1")
    assert store.get("a") == b"1"
    store.close()
    kept = {Path(path).name for path in open_files() - before}
    assert kept == ({"owner"} if name == "shared_memory" else set())


# ---- tables in shared memory


def test_a_table_lives_on_when_its_store_is_closed_or_dropped(tmp_path: Path) -> None:
    with SharedMemoryStore("a", mount=tmp_path) as store:
        store.set("k", b"1")
    del store
    gc.collect()
    again = SharedMemoryStore("a", mount=tmp_path)
    assert again.get("k") == b"1" and again.table_info()["is_owner"]
    again.delete_table()


def test_a_deleted_table_leaves_nothing_open(tmp_path: Path) -> None:
    before = open_files()
    store = SharedMemoryStore("a", mount=tmp_path)
    store.set("k", b"1")
    assert len(open_files() - before) == 2
    store.delete_table()
    assert open_files() == before
    store.set("k", b"2")  # a new one
    assert store.get("k") == b"2"
    store.delete_table()


def remove_by_another(mount: Path) -> None:
    script = "import sys; from zarrcy.stores import SharedMemoryStore as S; S('a', mount=sys.argv[1]).delete_table()"
    environment = os.environ | {"PYTHONPATH": str(Path(zarrcy.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", script, str(mount)], check=True, timeout=60, env=environment)


@pytest.mark.parametrize("remove", [remove_by_another, shutil.rmtree])
@pytest.mark.parametrize("then", ["close", "open another"])
def test_the_lock_of_a_table_that_was_removed_is_given_back(remove, then: str, tmp_path: Path) -> None:
    before = open_files()
    mount, elsewhere = tmp_path / "mount", tmp_path / "elsewhere"
    mount.mkdir(), elsewhere.mkdir()
    store = SharedMemoryStore("a", mount=mount)
    store.set("k", b"1")
    remove(mount)
    if then == "close":
        store.close()
    else:
        del store
        other = SharedMemoryStore("b", mount=elsewhere)
        other.set("k", b"1")
        assert [Path(path).name for path in open_files() - before if "owner" in path] == ["owner"]
        other.delete_table()
    assert open_files() == before
