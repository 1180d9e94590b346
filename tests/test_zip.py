"""The ZIP store: modes, flushing, one writer, interchange with other ZIP software."""

import gc
import os
import pickle
import subprocess
import sys
import zipfile

import pytest
from zip_files import ITEMS, contents, filled, fork, in_child

import zarrcy
from zarrcy.errors import ConflictError, PermissionDeniedError, ReadOnlyError, StoreError
from zarrcy.stores import zip_archive, zip_writer
from zarrcy.stores.zip import ZipStore


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.zip"


# Modes


def test_an_archive_that_exists_is_read_by_default(path):
    store = ZipStore(filled(path))
    assert store.read_only
    assert contents(store) == ITEMS
    for write in (
        lambda: store.set("c/0/0", b"1"),
        lambda: store.delete("c/0/0"),
        lambda: store.set_if("x", b"1", None),
        lambda: store.set_many([("x", b"1")]),
        lambda: store.delete_prefix("c/"),
        store.compact,
    ):
        with pytest.raises(ReadOnlyError) as caught:
            write()
        assert 'mode="a"' in caught.value.hint
        assert str(path) in str(caught.value)


def test_a_new_archive_is_made_by_the_first_write(path):
    store = ZipStore(path)
    assert store.get("zarr.json") is None
    assert list(store.list_prefix()) == list(store.list_dir()) == []
    store.delete("zarr.json")
    store.close()
    assert not path.exists()
    store.set("zarr.json", b"{}")
    store.close()
    assert contents(ZipStore(path)) == {"zarr.json": b"{}"}


@pytest.mark.parametrize("mode", ["r", "r+", "a", "w", "x"])
@pytest.mark.parametrize("exists", [True, False])
def test_each_mode_does_what_the_table_says(path, mode, exists):
    if exists:
        filled(path)
    outcome = {
        ("r", True): ITEMS,
        ("r", False): "enoent",
        ("r+", True): ITEMS | {"new": b"1"},
        ("r+", False): "enoent",
        ("a", True): ITEMS | {"new": b"1"},
        ("a", False): {"new": b"1"},
        ("w", True): {"new": b"1"},
        ("w", False): {"new": b"1"},
        ("x", True): "eexist",
        ("x", False): {"new": b"1"},
    }[mode, exists]
    try:
        with ZipStore(path, mode=mode) as store:
            if mode != "r":
                store.set("new", b"1")
    except StoreError as error:
        assert error.code == outcome
        assert str(path) in str(error)
    else:
        assert contents(ZipStore(path)) == outcome


def test_an_unknown_mode_is_refused(path):
    with pytest.raises(ValueError, match="mode"):
        ZipStore(path, mode="rb")


def test_an_archive_made_by_someone_else_meanwhile_is_not_replaced(path):
    store = ZipStore(path)
    filled(path)
    with pytest.raises(StoreError) as caught:
        store.set("zarr.json", b"other")
    assert caught.value.code == "eexist"
    assert contents(ZipStore(path)) == ITEMS


def test_an_empty_file_becomes_an_archive_in_mode_a(path):
    path.touch()
    with pytest.raises(StoreError, match="0 bytes"):
        ZipStore(path).get("x")
    assert contents(ZipStore(filled(path))) == ITEMS


def test_a_missing_parent_is_an_error_that_names_it(tmp_path):
    for mode in (None, "a", "w", "x"):
        with pytest.raises(StoreError, match="nowhere"):
            ZipStore(tmp_path / "nowhere" / "a.zip", mode=mode)


def test_a_directory_is_an_error_not_an_archive(tmp_path):
    for mode in ("a", "r", "w"):
        with pytest.raises(StoreError):
            ZipStore(tmp_path, mode=mode).get("x")


def test_a_relative_path_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = ZipStore("a.zip")
    monkeypatch.chdir("/")
    store.set("x", b"1")
    store.close()
    assert contents(ZipStore(tmp_path / "a.zip")) == {"x": b"1"}


def test_what_may_not_be_read_or_written_is_permission_denied(path):
    filled(path).chmod(0)
    path.parent.chmod(0o555)

    def child(call):
        # Root may do everything, and `path` lies below directories of root alone.
        os.chdir(path.parent)
        if os.geteuid() == 0:
            os.setegid(65534)
            os.seteuid(65534)
        call()

    try:
        for call in (lambda: ZipStore(path).get("x"), lambda: ZipStore(path.parent / "new.zip", mode="a")):
            text = in_child(lambda call=call: child(call))
            assert text.startswith("PermissionDeniedError: zip://") and "ermission denied" in text
    finally:
        path.parent.chmod(0o755)


def test_the_error_of_a_refused_file_is_permission_denied(path, monkeypatch):
    filled(path)

    def refuse(file, *args):
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(zip_archive.os, "open", refuse)
    with pytest.raises(PermissionDeniedError) as caught:
        ZipStore(path).get("x")
    assert caught.value.code == "eacces"
    assert str(path) in str(caught.value)


# Flushing


def test_readers_see_what_was_synced_before_they_opened(path):
    writer = ZipStore(path)
    writer.set("a", b"1")
    writer.sync()
    reader = ZipStore(path)
    assert contents(reader) == {"a": b"1"}
    writer.set("a", b"2")
    writer.set("b", b"3")
    assert contents(ZipStore(path)) == {"a": b"1"}
    writer.sync()
    assert contents(reader) == {"a": b"1"}
    assert contents(ZipStore(path)) == {"a": b"2", "b": b"3"}
    reader.close()
    assert contents(reader) == {"a": b"2", "b": b"3"}


def test_a_new_archive_keeps_the_old_one_until_its_first_sync(path):
    store = ZipStore(filled(path), mode="w")
    store.set("new", b"1")
    assert contents(ZipStore(path)) == ITEMS
    assert contents(store) == {"new": b"1"}
    store.sync()
    assert contents(ZipStore(path)) == {"new": b"1"}
    assert os.listdir(path.parent) == ["a.zip"]


def test_an_archive_under_its_name_always_has_a_directory(path):
    store = ZipStore(path)
    store.set("new", b"1")
    assert zipfile.ZipFile(path).namelist() == []
    store.close()
    assert zipfile.ZipFile(path).namelist() == ["new"]
    assert path.read_bytes()[:4] == b"PK\x03\x04"


def test_a_sync_without_changes_writes_nothing(path):
    store = ZipStore(path)
    store.set("a", b"1")
    store.sync()
    before = path.stat().st_size
    store.sync()
    store.close()
    assert path.stat().st_size == before


def test_a_forgotten_store_is_flushed_when_it_is_collected(path):
    store = ZipStore(path)
    store.set("a", b"1")
    del store
    gc.collect()
    assert contents(ZipStore(path, mode="r+")) == {"a": b"1"}


@pytest.mark.parametrize("fork", [False, True])
def test_the_end_of_the_program_flushes(path, fork):
    script = f"""
import os, sys, warnings
from zarrcy.stores.zip import ZipStore
from zarrcy.stores.zip_directory import Entry
store = ZipStore({str(path)!r})
store.set("a", b"1")
warnings.simplefilter("ignore")
if {fork} and os.fork() == 0:
    assert bytes(store.get("a")) == b"1"
    sys.exit(0)
if {fork}:
    assert os.wait()[1] == 0
    # The child has ended, and its end has not written into the archive of its parent.
    assert os.path.getsize({str(path)!r}) == 22
store.set("b", b"2")
"""
    call = subprocess.run([sys.executable, "-c", script], check=True, cwd=os.getcwd(), capture_output=True, text=True)
    assert call.stderr == ""
    assert contents(ZipStore(path)) == {"a": b"1", "b": b"2"}
    assert os.listdir(path.parent) == ["a.zip"]


def test_durable_orders_values_directory_and_name(path, monkeypatch):
    events = []

    def recorded(name, call, what=lambda *args: ""):
        def wrapper(*args):
            events.append(name + what(*args))
            return call(*args)

        return wrapper

    store = ZipStore(path, durable=True)
    store.set("a", b"1")
    replace = zip_writer.Path.replace
    monkeypatch.setattr(zip_archive.os, "fsync", recorded("fsync", os.fsync))
    monkeypatch.setattr(
        zip_archive.os, "pwritev", recorded("write ", os.pwritev, lambda _, pieces, __: str(len(pieces)))
    )
    monkeypatch.setattr(zip_writer.Path, "replace", recorded("rename", replace))
    store.set("b", b"2")
    store.sync()
    assert events == ["write 2", "fsync", "write 1", "fsync", "rename", "fsync"]
    events.clear()
    store.set("b", b"2")
    store.sync()
    assert events == ["write 2", "fsync", "write 1", "fsync"]


# One writer


def test_a_second_writer_gets_a_clear_error(path):
    first = ZipStore(path, mode="a")
    for mode in ("a", "r+", "w"):
        with pytest.raises(StoreError, match="open for writing elsewhere") as caught:
            ZipStore(path, mode=mode)
        assert caught.value.code == "locked"
    assert "locked" not in contents(first)
    first.set("a", b"1")
    text = in_child(lambda: ZipStore(path, mode="a"))
    assert text.startswith("StoreError") and "elsewhere" in text
    first.sync()
    with pytest.raises(StoreError, match="elsewhere"):
        ZipStore(path, mode="a")
    first.close()
    with ZipStore(path, mode="a") as second:
        second.set("b", b"2")
        with pytest.raises(StoreError, match="elsewhere"):
            first.set("c", b"3")
        assert contents(first) == {"a": b"1"}
    first.set("c", b"3")
    assert contents(first) == {"a": b"1", "b": b"2", "c": b"3"}


@pytest.mark.parametrize("meanwhile", [lambda store: store.set("c/0", b"2"), lambda store: store.delete("c/0")])
def test_the_same_value_again_is_another_version(meanwhile, path):
    store = ZipStore(path)
    store.set("c/0", b"1")
    version = store.get_with_version("c/0")[1]
    meanwhile(store)
    store.set("c/0", b"1")
    with pytest.raises(ConflictError):
        store.set_if("c/0", b"3", version)
    assert bytes(store.get("c/0")) == b"1"


def test_a_lock_on_a_file_that_has_lost_its_name_is_taken_again(path, monkeypatch):
    filled(path)
    other = filled(path.with_name("b.zip"), {"other": b"1"})
    lock = zip_writer.lock

    def late(file):
        if other.exists():
            other.replace(path)
        lock(file)

    monkeypatch.setattr(zip_writer, "lock", late)
    with ZipStore(path, mode="a") as store:
        store.set("new", b"2")
    assert contents(ZipStore(path)) == {"other": b"1", "new": b"2"}


def test_versions_of_an_archive_that_was_closed_are_stale(path):
    store = ZipStore(path, mode="a")
    version = store.set_if("n", b"1", None)
    store.close()
    with ZipStore(path, mode="w") as other:
        other.set("n", b"2")
    with pytest.raises(ConflictError):
        store.set_if("n", b"3", version)
    assert bytes(store.get("n")) == b"2"


def test_a_forked_child_reads_what_was_written_and_may_not_write(path):
    store = ZipStore(path)
    store.set("a", b"1")

    def child():
        assert bytes(store.get("a")) == b"1"
        with pytest.raises(ReadOnlyError):
            store.set("a", b"2")
        store.sync()
        store.close()
        return contents(store)

    assert in_child(child) == "{}"
    store.set("b", b"2")
    store.sync()
    assert in_child(lambda: contents(store)) == "{'a': b'1', 'b': b'2'}"
    store.close()
    assert contents(ZipStore(path)) == {"a": b"1", "b": b"2"}


def test_a_forked_child_does_not_keep_the_archive_locked(path):
    store = ZipStore(path)
    store.set("a", b"1")
    read, write = os.pipe()
    pid = fork()
    if pid == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    try:
        store.close()
        ZipStore(path, mode="a").close()
    finally:
        os.close(write)
        assert os.waitpid(pid, 0)[1] == 0
        os.close(read)


def test_a_pickle_of_a_writer_reads_what_was_written(path):
    store = ZipStore(path)
    store.set("a", b"1")
    again = pickle.loads(pickle.dumps(store))
    assert again.read_only and again == store
    assert contents(again) == {"a": b"1"}
    store.close()


def test_a_reader_survives_the_close_of_its_store_by_another_thread(path):
    store = ZipStore(filled(path))
    archive = store._reading()
    store.close()
    assert bytes(archive.get("c/0/0", archive.entry("c/0/0"), None)) == ITEMS["c/0/0"]


def test_a_path_that_cannot_be_one_locks_no_archive(tmp_path):
    archive = tmp_path / "a.zip"
    with pytest.raises(ValueError, match="a//b"):
        zarrcy.create_array(str(archive), "a//b", shape=4)
    assert not archive.exists()
    zarrcy.create_array(str(archive), "a", shape=4).store.close()
