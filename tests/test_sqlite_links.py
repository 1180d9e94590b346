"""What tells a connection to an SQLite file that the file is no longer the one of its path."""

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest
from open_files import open_files

from zarrcy.stores.files import identity
from zarrcy.stores.sqlite import SQLiteStore
from zarrcy.stores.sqlite_links import Link

WALK_SECONDS = 0.02  # between two walks along the path
WATCHED_SECONDS = 3.5 * WALK_SECONDS  # after which the next look is one at the open file alone, and no walk is due


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "above" / "data.db"
    path.parent.mkdir()
    path.write_bytes(b"1")
    return path


def link_to(path):
    """A link that has looked so often that a look is one at the open file alone."""
    link = Link(os.fsencode(path), identity(os.fsencode(path)), None)
    end = time.monotonic() + WATCHED_SECONDS
    while time.monotonic() < end:
        assert link.is_current()
    return link


def replace(path):
    other = path.with_name("other.db")
    other.write_bytes(b"2")
    other.replace(path)


def replace_one_of_two_names(path):
    path.with_name("same.db").hardlink_to(path)
    link_to(path)
    replace(path)


CHANGES = {
    "replaced": replace,
    "replaced, and with another name": replace_one_of_two_names,
    "removed": lambda path: path.unlink(),
    "renamed": lambda path: path.rename(path.with_name("other.db")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_file_that_was_changed_by_name_is_noticed_by_the_next_look(path, change):
    link = link_to(path)
    change(path)
    assert not link.is_current()


def test_a_file_that_was_renamed_within_a_tick_of_its_last_change_is_noticed(path):
    for _ in range(300):
        link = Link(os.fsencode(path), identity(os.fsencode(path)), None)
        os.utime(path)
        assert link.is_current()
        path.rename(path.with_name("other.db"))
        assert not link.is_current()
        path.with_name("other.db").rename(path)


def test_a_file_that_has_its_name_back_is_watched_and_not_the_one_between(path):
    path.with_name("kept.db").hardlink_to(path)
    opened = identity(os.fsencode(path))
    replace(path)
    link = Link(os.fsencode(path), opened, None)
    path.with_name("kept.db").replace(path)
    end = time.monotonic() + WATCHED_SECONDS
    while time.monotonic() < end:
        assert link.is_current()
    replace(path)
    assert not link.is_current()


def move_above(path):
    path.parent.rename(path.parent.with_name("elsewhere"))


def repoint(path):
    path.parent.unlink()
    (path.parent.parent / "second").mkdir()
    path.parent.symlink_to("second")
    path.write_bytes(b"1")


@pytest.mark.parametrize("is_linked", [False, True])
def test_another_directory_above_is_noticed_by_the_next_walk(path, is_linked):
    if is_linked:
        move_above(path)
        path.parent.symlink_to("elsewhere")
    link = link_to(path)
    (repoint if is_linked else move_above)(path)
    begin = time.monotonic()
    while (now := time.monotonic()) - begin < WALK_SECONDS and link.is_current():
        pass
    if now - begin >= WALK_SECONDS:
        assert not link.is_current()
    # Nor by the looks after that one: who asked first may leave it to another to close the connection.
    assert not link.is_current()


@pytest.mark.parametrize("change", ["move", "repoint"])
def test_a_store_reads_and_writes_the_file_of_another_directory_above(tmp_path, change):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        with closing(SQLiteStore(tmp_path / name / "data.db")) as store:
            store.set("a", name.encode())
    above = tmp_path / "above"
    if change == "move":
        (tmp_path / "old").rename(above)
    else:
        above.symlink_to("old")
    with closing(SQLiteStore(above / "data.db")) as store:
        end = time.monotonic() + WATCHED_SECONDS
        while time.monotonic() < end:
            assert store.get("a") == b"old"
        if change == "move":
            above.rename(tmp_path / "moved")
            (tmp_path / "new").rename(above)
        else:
            above.unlink()
            above.symlink_to("new")
        end = time.monotonic() + WATCHED_SECONDS
        while time.monotonic() < end:
            store.get("a")
        assert store.get("a") == b"new"
        store.set("a", b"newer")
    with closing(sqlite3.connect(above / "data.db")) as db:
        assert db.execute("SELECT value FROM zarrcy_values WHERE key = 'a'").fetchone() == (b"newer",)


def test_the_end_of_a_link_leaves_the_locks_on_the_file(tmp_path):
    path = tmp_path / "data.db"
    code = f"import sqlite3; sqlite3.connect({str(path)!r}, timeout=0).execute('BEGIN IMMEDIATE')"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("CREATE TABLE t (x)")
        db.execute("BEGIN EXCLUSIVE")
        link = link_to(path)
        del link
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "database is locked" in done.stderr
        db.execute("COMMIT")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_links_give_their_descriptors_back(path):
    before = open_files()
    kept = Link(os.fsencode(path), identity(os.fsencode(path)), None)
    for _ in range(100):
        Link(os.fsencode(path), identity(os.fsencode(path)), None)
    assert open_files() - before == {str(path): 1}
    del kept
    assert open_files() == before
