"""`FilesystemStore`: paths, values, permission bits, errors, compare and swap, locks."""

import os
import pickle
import signal
import stat
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from zarrcy.errors import ConflictError, PermissionDeniedError, ReadOnlyError, StoreError
from zarrcy.kernels.posix_errors import store_error
from zarrcy.stores.filesystem import FilesystemStore
from zarrcy.stores.sqlite import SQLiteStore
from zarrcy.stores.zip import ZipStore


@pytest.fixture
def store(tmp_path):
    (tmp_path / "root").mkdir()
    return FilesystemStore(tmp_path / "root")


@pytest.fixture
def open_place():
    """A directory that a user without rights can reach."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        os.chmod(path, 0o755)
        yield Path(path)


@contextmanager
def without_rights():
    """As a user who is not root: permission bits mean nothing to root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def umask(mask):
    old = os.umask(mask)
    try:
        yield
    finally:
        os.umask(old)


def everything(path):
    """All that lies below a directory, temporary files included."""
    return sorted(str(p.relative_to(path)) for p in Path(path).rglob("*"))


# ---- the path


def test_a_relative_path_is_made_absolute_when_the_store_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = FilesystemStore("data.zarr")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.set("zarr.json", b"{}")
    assert (tmp_path / "data.zarr" / "zarr.json").read_bytes() == b"{}"
    assert store.path == str(tmp_path / "data.zarr")


def test_a_file_url_is_a_path_too(tmp_path):
    plain = FilesystemStore(tmp_path / "a b%c")
    assert plain.url == f"file://{tmp_path}/a%20b%25c"
    assert FilesystemStore(plain.url) == plain
    assert FilesystemStore(plain.url.replace("file://", "file://localhost")) == plain


@pytest.mark.parametrize("path", ["", "a\0b", "/data/\ud800", "file:///data/\ud800"])
@pytest.mark.parametrize("cls", [FilesystemStore, ZipStore, SQLiteStore])
def test_a_path_that_cannot_be_one_is_a_value_error_that_shows_it(path, cls):
    with pytest.raises(ValueError, match=r"^path '.*': expected a (directory|file)$"):
        cls(path)


def test_the_first_write_makes_the_root_but_not_what_lies_above(tmp_path):
    FilesystemStore(tmp_path / "new").set("a/b", b"1")
    assert everything(tmp_path) == ["new", "new/a", "new/a/b"]
    with pytest.raises(StoreError, match=str(tmp_path / "missing")) as caught:
        FilesystemStore(tmp_path / "missing" / "new").set("a", b"1")
    assert caught.value.code == "enoent"
    assert not (tmp_path / "missing").exists()


def test_a_missing_root_is_an_error_and_not_an_absent_key(tmp_path):
    store = FilesystemStore(tmp_path / "missing")
    for call in (store.get, store.size, store.exists, store.delete):
        with pytest.raises(StoreError) as caught:
            call("key")
        assert caught.value.code == "enoent"
    with pytest.raises(StoreError):
        list(store.list_prefix())


def test_a_file_as_the_root_is_an_error_that_says_so(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    store = FilesystemStore(tmp_path / "file")
    for call in (lambda: store.get("a"), lambda: store.set("a", b""), store.prepare):
        with pytest.raises(StoreError, match=str(tmp_path / "file")) as caught:
            call()
        assert caught.value.code == "enotdir"
        assert "names a file" in caught.value.hint


def test_prepare_finds_an_unwritable_parent_before_anything_is_written(open_place):
    store = FilesystemStore(open_place / "new")
    open_place.chmod(0o555)
    with without_rights(), pytest.raises(PermissionDeniedError, match=str(open_place)) as caught:
        store.prepare()
    assert caught.value.code == "eacces"
    assert str(open_place) in caught.value.hint


def test_prepare_finds_an_unwritable_root(open_place):
    root = open_place / "root"
    root.mkdir(mode=0o555)
    with without_rights(), pytest.raises(PermissionDeniedError, match=str(root)):
        FilesystemStore(root).prepare()


def test_a_root_that_was_deleted_and_made_again_is_opened_again(store):
    store.set("a", b"old")
    store.delete_prefix("")
    os.rmdir(store.path)
    with pytest.raises(StoreError):
        store.get("a")
    os.mkdir(store.path)
    Path(store.path, "a").write_bytes(b"new")
    assert store.get("a") == b"new"
    assert store.get("b") is None


def test_a_root_that_was_replaced_is_noticed_by_reads_and_writes(store, tmp_path):
    store.set("a", b"old")
    os.rename(store.path, tmp_path / "moved")
    os.mkdir(store.path)
    assert store.get("a") is None
    store.set("b", b"1")
    assert everything(store.path) == ["b"]
    assert everything(tmp_path / "moved") == ["a"]


def test_a_write_makes_a_deleted_root_again(store):
    store.set("a/b", b"1")
    store.delete("a/b")
    os.rmdir(store.path)
    store.set("a/b", b"2")
    assert store.get("a/b") == b"2"


# ---- values


def test_a_missing_key_is_none(store):
    assert store.get("a") is None
    assert store.get("a/b/c", slice(1, 2)) is None
    assert store.size("a") is None
    assert not store.exists("a")


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 100_001, 3_000_000])
def test_a_value_comes_back(store, size):
    value = os.urandom(size)
    for kind in (bytes, bytearray, memoryview):
        store.set("a/b", kind(value))
        assert store.get("a/b") == value
        assert store.size("a/b") == size
        assert store.exists("a/b")


def test_parts_are_slices_of_the_value(store):
    value = bytes(range(100))
    store.set("k", value)
    edges = (None, 0, 1, 50, 99, 100, 101, 10**12, -1, -50, -100, -101, -(10**12))
    for start in edges:
        for stop in edges:
            assert store.get("k", slice(start, stop)) == value[start:stop]
    with pytest.raises(ValueError, match="step 1"):
        store.get("k", slice(None, None, 2))


def test_only_bytes_can_be_stored(store):
    store.set("k", b"old")
    with pytest.raises(TypeError):
        store.set("k", "text")
    assert store.get("k") == b"old"
    assert everything(store.path) == ["k"]


def test_deleting_removes_the_value_and_the_directories_that_are_empty_then(store):
    store.set("a/b/c/d", b"1")
    store.set("a/e", b"2")
    store.delete("a/b/c/d")
    assert everything(store.path) == ["a", "a/e"]
    store.delete("a/b/c/d")
    store.delete("x/y/z")
    store.delete("a/e")
    assert everything(store.path) == []


def test_a_store_can_be_used_after_it_was_closed(store):
    store.set("k", b"1")
    store.close()
    assert store.get("k") == b"1"
    store.sync()


def test_a_pickle_opens_the_same_directory(store):
    store.set("k", b"secret value")
    text = pickle.dumps(store)
    assert b"secret value" not in text
    assert pickle.loads(text) == store
    assert pickle.loads(text).get("k") == b"secret value"
    assert store.options() == {"path": store.path}
    other = FilesystemStore(store.path, read_only=True, durable=True)
    assert other.options() == {"path": store.path, "read_only": True, "durable": True}
    assert pickle.loads(pickle.dumps(other)) == other != store
    assert repr(other) == f"FilesystemStore(path={store.path!r}, read_only=True, durable=True)"


def test_a_read_only_store_refuses_every_change(store):
    store.set("k", b"1")
    reader = FilesystemStore(store.path, read_only=True)
    assert reader.get("k") == b"1"
    version = reader.get_with_version("k")[1]
    for call in (
        lambda: reader.set("k", b"2"),
        lambda: reader.delete("k"),
        lambda: reader.delete_prefix(""),
        lambda: reader.set_if("k", b"2", version),
        lambda: reader.lock("k"),
        reader.repair,
        reader.prepare,
    ):
        with pytest.raises(ReadOnlyError):
            call()
    assert everything(store.path) == ["k"]


def test_the_native_reader_is_for_the_class_itself_only(store):
    class Other(FilesystemStore):
        def get(self, key, part=None):
            return b"other"

    assert store.native_reader().path == os.fsencode(store.path)
    assert Other(store.path).native_reader() is None


# ---- permission bits


def test_new_files_and_directories_have_the_mode_that_the_umask_leaves(store):
    with umask(0o027):
        store.set("a/b", b"1")
    assert stat.S_IMODE(os.stat(f"{store.path}/a/b").st_mode) == 0o640
    assert stat.S_IMODE(os.stat(f"{store.path}/a").st_mode) == 0o750


def test_replacing_keeps_the_permission_bits_but_never_setuid(store):
    store.set("k", b"1")
    for before, after in ((0o604, 0o604), (0o400, 0o400), (0o6755, 0o755)):
        os.chmod(f"{store.path}/k", before)
        store.set("k", b"2")
        assert stat.S_IMODE(os.stat(f"{store.path}/k").st_mode) == after


def test_what_a_crashed_writer_left_does_not_pass_on_its_mode(store):
    left = Path(store.path, ".k.zarrcy-partial")
    left.write_bytes(b"half a value that is longer than the next one")
    left.chmod(0o600)
    with umask(0o022):
        store.set("k", b"whole")
    assert store.get("k") == b"whole"
    assert everything(store.path) == ["k"]
    assert stat.S_IMODE(os.stat(f"{store.path}/k").st_mode) == 0o644


# ---- errors are errors


def test_a_key_that_is_a_directory_is_an_error_and_not_an_absent_key(store):
    store.set("a/b", b"1")
    for call in (store.get, store.size, store.exists, store.delete, lambda key: store.set(key, b"2")):
        with pytest.raises(StoreError, match="a: Is a directory") as caught:
            call("a")
        assert (caught.value.code, caught.value.errno) == ("eisdir", 21)
        assert "below another key" in caught.value.hint
    assert everything(store.path) == ["a", "a/b"]


def test_a_key_below_a_file_is_an_error_and_not_an_absent_key(store):
    store.set("a", b"1")
    for call in (store.get, store.size, store.exists, store.delete, lambda key: store.set(key, b"2")):
        with pytest.raises(StoreError) as caught:
            call("a/b")
        assert caught.value.code == "enotdir"
    assert everything(store.path) == ["a"]


def test_empty_directories_are_no_obstacle_for_a_key(store):
    os.makedirs(f"{store.path}/a/b/c")
    Path(store.path, "a", "b", ".x.zarrcy-partial").write_bytes(b"left")
    store.set("a", b"1")
    assert everything(store.path) == ["a"]


def test_names_that_are_too_long_are_errors(store):
    for key in ("n" * 256, "é" * 128, "a/" * 600 + "b"):
        for call in (store.get, store.exists, lambda key: store.set(key, b"2")):
            with pytest.raises(StoreError) as caught:
                call(key)
            assert caught.value.code == "enametoolong"
    assert everything(store.path) == []


@pytest.mark.parametrize("n", [238, 239, 240, 254, 255])
def test_the_longest_names_can_be_written_and_locked(store, n):
    name = "n" * n
    store.set(name, b"1")
    with store.lock(name):
        store.set(name, b"2")
    assert store.get(name) == b"2"
    assert list(store.list_prefix()) == [name]
    assert everything(store.path) == [name]


def test_forbidden_directories_are_permission_errors_that_name_the_path(open_place):
    store = FilesystemStore(open_place)
    store.set("a/b", b"1")
    os.chmod(open_place / "a", 0o000)
    with without_rights():
        for call in (
            lambda: store.get("a/b"),
            lambda: store.exists("a/c"),
            lambda: store.set("a/b", b"2"),
            lambda: store.set("c", b"2"),
            lambda: list(store.list_prefix()),
        ):
            with pytest.raises(PermissionDeniedError, match=str(open_place)) as caught:
                call()
            assert isinstance(caught.value, PermissionError)
            assert caught.value.code == "eacces"
            assert f"chmod -R u+rwX {open_place}" in caught.value.__notes__[0]
    os.chmod(open_place / "a", 0o755)
    assert store.get("a/b") == b"1"


def test_a_root_that_may_not_be_entered_is_a_permission_error(open_place):
    root = open_place / "root"
    root.mkdir(mode=0o000)
    with without_rights(), pytest.raises(PermissionDeniedError, match=str(root)):
        FilesystemStore(root).get("a")


def test_every_errno_has_a_class_and_a_hint():
    import errno

    expected = {
        "ENOSPC": StoreError,
        "EDQUOT": StoreError,
        "EMFILE": StoreError,
        "EROFS": ReadOnlyError,
        "EACCES": PermissionDeniedError,
        "EPERM": PermissionDeniedError,
        "ETIMEDOUT": ConflictError,
    }
    for name, cls in expected.items():
        error = store_error(getattr(errno, name), "file:///data", "c/0")
        assert type(error) is cls
        assert error.code == name.lower()
        assert error.errno == getattr(errno, name)
        assert error.hint
        assert str(error).startswith("file:///data: c/0: ")
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), copy.code, str(copy)) == (cls, error.code, str(error))


def test_a_pipe_in_the_place_of_a_value_does_not_hang_the_reader(store):
    os.mkfifo(f"{store.path}/pipe")
    assert list(store.list_prefix()) == []
    assert store.get("pipe") == b""  # its length is 0


# ---- compare and swap, locks


def test_a_version_is_that_of_the_contents(store):
    assert store.supports_cas
    assert store.get_with_version("k") == (None, None)
    first = store.set_if("k", b"one", None)
    assert store.get_with_version("k") == (b"one", first)
    assert store.get_with_version("k", slice(1, None)) == (b"ne", first)
    second = store.set_if("k", b"two", first)
    assert second != first
    for version in (first, None):
        with pytest.raises(ConflictError):
            store.set_if("k", b"three", version)
    with pytest.raises(ConflictError):
        store.get_with_version("k", if_version=first)
    assert store.get_with_version("k", if_version=second) == (b"two", second)
    with pytest.raises(ConflictError):
        store.set_if("absent/x", b"1", first)
    assert everything(store.path) == ["k"]


def test_set_if_makes_the_root(tmp_path):
    store = FilesystemStore(tmp_path / "new")
    store.set_if("a/b", b"1", None)
    assert store.get("a/b") == b"1"


def test_the_holder_of_a_lock_may_write_and_others_wait(store):
    order = []
    ready = threading.Event()

    def other():
        ready.set()
        store.set("a/k", b"other")
        order.append("other")

    thread = threading.Thread(target=other)
    with store.lock("a/k"):
        thread.start()
        ready.wait()
        store.set("a/k", b"1")
        with store.lock("a/k"):
            store.delete("a/k")
        version = store.set_if("a/k", b"2", None)
        assert store.get_with_version("a/k") == (b"2", version)
        order.append("holder")
    thread.join()
    assert order == ["holder", "other"]
    assert store.get("a/k") == b"other"
    assert everything(store.path) == ["a", "a/k"]


def test_a_lock_that_is_not_given_back_in_time_is_a_conflict(store):
    with store.lock("k"), pytest.raises(ConflictError) as caught:
        store._files.hold(b"k", timeout=0.05)
    assert caught.value.code == "etimedout"


def test_a_lock_without_a_write_leaves_nothing(store):
    with store.lock("a/b/k"):
        assert store.get("a/b/k") is None
    assert everything(store.path) == []


def test_a_lock_that_was_given_back_cannot_be_used(store):
    held = store._files.hold(b"k")
    held.release()
    for call in (held.release, held.delete, lambda: held.replace(b"1")):
        with pytest.raises(RuntimeError, match="given back"):
            call()


def test_a_lock_that_is_forgotten_is_given_back(store):
    store._files.hold(b"k")
    store.set("k", b"1")
    assert everything(store.path) == ["k"]


def test_waiting_for_a_lock_ends_with_ctrl_c(store):
    # Without the check for signals this would wait for two minutes and end with a ConflictError.
    heard = []

    def interrupt(number, frame):
        if not heard:
            raise KeyboardInterrupt

    def hold():
        try:
            # Again and again: what is raised in a finalizer is lost.
            signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
            store._files.hold(b"k")
        finally:
            heard.append(True)

    with store.lock("k"):
        old = signal.signal(signal.SIGALRM, interrupt)
        try:
            with pytest.raises(KeyboardInterrupt):
                hold()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)
    assert everything(store.path) == []
