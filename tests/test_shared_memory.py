"""`SharedMemoryStore`: tables, their owners and heirs, access, and processes that are killed. That it keeps the laws
is in test_store_laws."""

import multiprocessing
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import cpu_times
import numpy as np
import pytest

import zarrcy
from zarrcy.errors import ConflictError, NodeNotFoundError, PermissionDeniedError, ReadOnlyError, StoreError
from zarrcy.stores.readonly import ReadOnlyStore
from zarrcy.stores.shared_memory import SharedMemoryStore

SCRIPT = Path(__file__).with_name("shared_memory_workers.py")
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(zarrcy.__file__).parents[1])}


@pytest.fixture
def mount():
    """A place in memory of the test's own, so that it meets no tables of other runs."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as path:
        yield path


@pytest.fixture
def start(mount):
    """Starts the script as an unrelated process that goes on until it is told to end."""
    processes = []

    def started(command, *arguments):
        line = [sys.executable, str(SCRIPT), command, mount, *arguments]
        process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
        processes.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield started
    for process in processes:
        process.kill()
        process.communicate()


def run(*arguments):
    """Runs the script to its end; its assertions are this test's."""
    result = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def expect_code(code, call, kind=StoreError):
    with pytest.raises(kind) as caught:
        call()
    assert caught.value.code == code, caught.value
    return caught.value


def in_child(function):
    """Whether a forked child ran the function without an exception."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function()
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1] == 0


def tables(mount):
    return sorted(name for name in os.listdir(f"{mount}/zarrcy-{os.geteuid()}") if not name.startswith("."))


# ---- names


def test_a_table_is_opened_by_its_name_from_an_unrelated_process(mount, start):
    start("make", "größe 1", "public")
    a = zarrcy.open(storage="shared_memory", table_name="größe 1", mount=mount)
    assert a[:].tolist() == list(range(64))
    run("use", mount, "größe 1")
    assert a.store.get("used") == b"by another program"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_arrays_go_to_processes_that_are_started_in_any_way(mount, method):
    a = zarrcy.create_array(SharedMemoryStore("t", mount=mount), "deep/a", shape=64, chunks=8, dtype="int64")
    with multiprocessing.get_context(method).Pool(3) as pool:
        pids = pool.starmap(put, [(a, i) for i in range(8)])
    assert os.getpid() not in pids
    assert a[:].tolist() == [i // 8 for i in range(64)]
    a.store.delete_table()


def put(array, i):
    array[8 * i : 8 * i + 8] = i
    return os.getpid()


def test_the_name_ets_and_the_url_mean_the_same_store(mount):
    store = SharedMemoryStore("a::b c#d%", mount=mount)
    store.set("zarr.json", b"{}")
    for again in (
        zarrcy.stores.open(store.url, mount=mount),
        zarrcy.stores.open(store.url.replace("shm", "ets"), mount=mount),
        zarrcy.stores.by_name("ets", table_name="a::b c#d%", mount=mount),
        zarrcy.stores.by_name("shared_memory", table_name="a::b c#d%", mount=mount),
        pickle.loads(pickle.dumps(store)),
    ):
        assert again == store
        assert again.get("zarr.json") == b"{}"
    assert "shared_memory" in zarrcy.stores.names()
    assert "ets" not in zarrcy.stores.names()
    assert zarrcy.stores.info("ets")[1:] == zarrcy.stores.info("shared_memory")[1:]
    with pytest.raises(ValueError, match="ets"):
        zarrcy.stores.register("ets", SharedMemoryStore)
    reader = zarrcy.stores.open(store.url, mode="r", mount=mount)
    with pytest.raises(ReadOnlyError):
        reader.set("c/0", b"1")
    store.delete_table()


@pytest.mark.parametrize("name", ["", ".", "..", ".a", "a/b", "a\0", "a\n", "ü" * 101, 5])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(ValueError, match="table_name"):
        SharedMemoryStore(name)


def test_a_missing_table_is_an_error_and_not_an_absent_key(mount):
    store = SharedMemoryStore("t", mount=mount)
    for call in (
        lambda: store.get("c/0"),
        lambda: store.size("c/0"),
        lambda: store.get_with_version("c/0"),
        lambda: list(store.list_prefix()),
        lambda: list(store.list_dir()),
        store.table_info,
        lambda: SharedMemoryStore("t", mount=mount, heir=True),
    ):
        expect_code("enoent", call)
    with pytest.raises(NodeNotFoundError):
        zarrcy.open(store)
    assert store.repair() == []
    store.delete_table()
    assert os.listdir(mount) == []


def test_where_there_is_no_memory_mount_the_error_says_so(tmp_path):
    store = SharedMemoryStore("t", mount=tmp_path / "none")
    for call in (lambda: store.get("c/0"), lambda: store.set("c/0", b"1"), lambda: zarrcy.open(store)):
        assert "mount=" in expect_code("no_shared_memory", call).hint


# ---- the table


def test_a_table_tells_what_it_holds_and_can_be_emptied_and_deleted(mount):
    store = SharedMemoryStore("t", mount=mount)
    zarrcy.array(np.ones(10, "int8"), store, "a", compressor=None)
    zarrcy.array(np.ones(10, "int8"), store, "b", compressor=None)
    info = store.table_info()
    assert (info["name"], info["access"], info["owner"], info["heir"]) == ("t", "public", os.getpid(), None)
    assert info["is_owner"]
    assert info["n_keys"] == 5
    assert info["nbytes"] == sum(store.size(key) for key in store.list_prefix())
    store.clear()
    assert list(store.list_prefix()) == []
    assert store.table_info()["n_keys"] == 0
    store.delete_table()
    assert tables(mount) == []
    expect_code("enoent", lambda: store.get("c/0"))
    store.set("c/0", b"again")
    assert SharedMemoryStore("t", mount=mount).get("c/0") == b"again"


def test_a_table_that_another_deleted_is_an_error_and_is_not_made_again_in_silence(mount):
    store = SharedMemoryStore("t", mount=mount)
    a = zarrcy.array(np.arange(8), store, chunks=2)
    SharedMemoryStore("t", mount=mount).delete_table()
    for call in (lambda: store.get("c/0"), lambda: a[:], lambda: a.__setitem__(slice(None), 1)):
        expect_code("enoent", call)
    for call in (lambda: store.set("c/0", b"1"), lambda: store.set_if("c/0", b"1", None), store.prepare):
        expect_code("table_gone", call)
    assert tables(mount) == []
    SharedMemoryStore("t", mount=mount).set("c/0", b"new")
    assert SharedMemoryStore("t", mount=mount).table_info()["is_owner"]


# ---- owner and heir


def test_a_table_ends_with_its_owner(mount, start):
    owner = start("make", "t", "public")
    reader = SharedMemoryStore("t", mount=mount)
    assert reader.table_info()["owner"] == owner.pid
    owner.communicate()
    assert tables(mount) == []
    expect_code("enoent", lambda: reader.get("c/0"))


def test_the_table_of_a_killed_owner_is_collected_by_the_next_who_opens_any(mount, start):
    owner = start("make", "t", "public")
    owner.kill()
    owner.wait()
    assert tables(mount) == ["t"]
    SharedMemoryStore("other", mount=mount).set("c/0", b"1")
    assert tables(mount) == ["other"]
    expect_code("enoent", lambda: SharedMemoryStore("t", mount=mount).get("c/0"))


def test_the_command_repair_collects_it(mount, start, monkeypatch):
    from typer.testing import CliRunner

    from zarrcy.cli.app import app

    owner = start("make", "t", "public")
    owner.kill()
    owner.wait()
    Path(f"{mount}/zarrcy-{os.geteuid()}/.new-left").mkdir()
    monkeypatch.setattr(
        SharedMemoryStore.__init__, "__kwdefaults__", SharedMemoryStore.__init__.__kwdefaults__ | {"mount": mount}
    )
    said = CliRunner().invoke(app, ["repair", "shm://t"])
    assert said.exit_code == 0
    assert "removed the table 't'" in said.output
    assert ".new-left" in said.output
    assert os.listdir(f"{mount}/zarrcy-{os.geteuid()}") == [".lock"]


def test_an_heir_keeps_the_table_and_owns_it_then(mount, start):
    owner = start("make", "t", "protected")
    store = SharedMemoryStore("t", mount=mount, heir=True)
    assert store.table_info()["heir"] == os.getpid()
    expect_code("access", lambda: store.set("c/0", b"1"), PermissionDeniedError)
    expect_code("has_heir", lambda: run_heir(mount), ConflictError)
    owner.kill()
    owner.wait()
    # It writes as the owner, without asking for it.
    store.set("c/9", b"mine")
    info = store.table_info()
    assert (info["owner"], info["heir"], info["is_owner"]) == (os.getpid(), None, True)
    assert zarrcy.open(store)[:].tolist() == list(range(64))
    # And there is room for another heir.
    heir = start("inherit", "t")
    assert store.table_info()["heir"] == heir.pid
    store.delete_table()


def run_heir(mount):
    """Ask to be the heir in another process; its ConflictError is raised here."""
    script = f"from zarrcy.stores.shared_memory import *; SharedMemoryStore('t', heir=True, mount={mount!r})"
    result = subprocess.run([sys.executable, "-c", script], env=ENVIRONMENT, capture_output=True, text=True)
    if "ConflictError" in result.stderr:
        raise ConflictError(result.stderr, code="has_heir")
    assert result.returncode == 0, result.stderr


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_is_neither_owner_nor_keeps_the_table_alive(mount):
    """The lock goes with the open file, which a child inherits: it must let go of it."""
    go, went = os.pipe()

    def owner():
        store = SharedMemoryStore("t", mount=mount)
        store.set("c/0", b"1")
        pid = os.fork()
        if pid == 0:
            os.close(went)
            assert not store.table_info()["is_owner"]
            os.write(said, b"%d" % os.getpid())
            os.read(go, 1)
            os._exit(0)
        # The owner ends as a killed process does, while its child lives on.

    read, said = os.pipe()
    assert in_child(owner)
    assert os.read(read, 20)
    assert SharedMemoryStore("any", mount=mount).repair() == ["removed the table 't': no process owns it"]
    os.write(went, b"1")
    for descriptor in (go, went, read, said):
        os.close(descriptor)


# ---- access


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_protected_table_is_written_by_its_owner_alone(mount, start):
    store = SharedMemoryStore("t", access="protected", mount=mount)
    a = zarrcy.array(np.arange(8), store, chunks=2)
    a[2] = 5
    assert a[2] == 5

    def child():
        assert a[2] == 5
        for call in (
            lambda: a.__setitem__(2, 6),
            lambda: a.__setitem__(slice(None), 6),
            lambda: a.attrs.update(x=1),
            lambda: store.set("c/0", b"1"),
            lambda: store.set_if("c/9", b"1", None),
            lambda: store.delete("c/0"),
            lambda: store.delete_prefix(""),
            lambda: store.lock("c/0"),
            store.clear,
            store.delete_table,
            lambda: SharedMemoryStore("t", mount=mount).set("c/0", b"1"),
            lambda: (
                zarrcy.open(SharedMemoryStore("t", mount=mount))[:].__class__
                and zarrcy.create_array(store, "b", shape=3)
            ),
        ):
            error = expect_code("access", call, PermissionDeniedError)
            assert str(os.getppid()) in str(error)

    assert in_child(child)
    assert a[2] == 5
    store.delete_table()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_private_table_is_opened_by_its_owner_alone(mount):
    store = SharedMemoryStore("t", access="private", mount=mount)
    a = zarrcy.array(np.arange(8), store, chunks=2)
    assert a[2] == 2

    def child():
        for mine in (store, SharedMemoryStore("t", mount=mount)):
            for call in (
                lambda mine=mine: mine.get("c/0"),
                lambda mine=mine: mine.size("c/0"),
                lambda mine=mine: list(mine.list_prefix()),
                lambda mine=mine: mine.set("c/0", b"1"),
                lambda mine=mine: zarrcy.open(mine),
                lambda: a[:],
                mine.table_info,
            ):
                expect_code("access", call, PermissionDeniedError)

    assert in_child(child)
    store.delete_table()


def test_the_access_mode_is_that_of_who_made_the_table(mount):
    SharedMemoryStore("t", access="protected", mount=mount).prepare()
    assert SharedMemoryStore("t", mount=mount).table_info()["access"] == "protected"
    expect_code("access", lambda: SharedMemoryStore("t", access="public", mount=mount).get("c/0"))
    with pytest.raises(ValueError, match="access"):
        SharedMemoryStore("t", access="open", mount=mount)


def test_the_compiled_reader_serves_public_tables_alone(mount):
    public = SharedMemoryStore("public", mount=mount)
    assert public.native_reader() is not None
    assert ReadOnlyStore(public).native_reader() is not None
    for access in ("protected", "private"):
        assert SharedMemoryStore(access, access=access, mount=mount).native_reader() is None
        SharedMemoryStore(access, access=access, mount=mount).prepare()
        assert SharedMemoryStore(access, mount=mount).native_reader() is None

    class Own(SharedMemoryStore):
        """Its get may be another."""

    assert Own("public", mount=mount).native_reader() is None


# ---- who may enter


def test_the_directory_of_the_tables_is_the_users_alone(mount):
    store = SharedMemoryStore("t", mount=mount)
    store.set("c/0", b"1")
    root = Path(mount) / f"zarrcy-{os.geteuid()}"
    assert root.stat().st_mode & 0o777 == 0o700
    root.chmod(0o755)
    fresh = SharedMemoryStore("t", mount=mount)
    expect_code("insecure", lambda: fresh.get("c/0"), PermissionDeniedError)
    root.chmod(0o700)
    assert fresh.get("c/0") == b"1"


def test_a_link_in_the_place_of_the_directory_is_refused(mount, tmp_path):
    root = Path(mount) / f"zarrcy-{os.geteuid()}"
    root.symlink_to(tmp_path)
    store = SharedMemoryStore("t", mount=mount)
    for call in (lambda: store.get("c/0"), lambda: store.set("c/0", b"1")):
        expect_code("insecure", call, PermissionDeniedError)
    root.unlink()
    root.write_text("")
    expect_code("insecure", lambda: store.set("c/0", b"1"), PermissionDeniedError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_directory_of_somebody_else_is_refused(mount):
    root = Path(mount) / "zarrcy-0"
    root.mkdir(mode=0o700)
    os.chown(root, 65534, 65534)
    expect_code("insecure", lambda: SharedMemoryStore("t", mount=mount).set("c/0", b"1"), PermissionDeniedError)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_full_mount_is_an_error_that_says_so_and_keeps_the_old_value(tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path], check=True)
    try:
        store = SharedMemoryStore("t", mount=tmp_path)
        a = zarrcy.create_array(store, shape=4 << 20, chunks=2 << 20, dtype="int8", compressor=None)
        store.set("k", b"old")
        for call in (lambda: store.set("k", bytes(2 << 20)), lambda: a.__setitem__(slice(None), 1)):
            error = expect_code("enospc", call)
            assert "--shm-size" in error.hint
        assert store.get("k") == b"old"
        store.delete_table()
    finally:
        # Lazily: the array has the directory open.
        subprocess.run(["umount", "-l", tmp_path], check=True)


# ---- speed


@pytest.mark.bounds
def test_get_and_set_cost_little_more_than_the_same_calls_of_the_system(mount):
    """In processor time, with 100 KiB."""
    store = SharedMemoryStore("t", mount=mount)
    value = os.urandom(100 * 1024)

    def set_raw(i):
        descriptor = os.open(f"{mount}/.partial", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        os.write(descriptor, value)
        os.close(descriptor)
        os.rename(f"{mount}/.partial", f"{mount}/{i}")

    def get_raw(i):
        descriptor = os.open(f"{mount}/{i}", os.O_RDONLY | os.O_CLOEXEC)
        os.read(descriptor, len(value) + 1)
        os.close(descriptor)

    calls = {
        "set": (1.3, lambda i: store.set(f"c{i}", value), set_raw),
        # Of some 11 µs; what is above are two calls more of the system, to see that the directory is the same one.
        "get": (1.3, lambda i: store.get(f"c{i}"), get_raw),
    }
    for what, (bar, ours, raw) in calls.items():
        found = cpu_times.ratio(ours, raw, bar)
        assert found <= bar, f"{what}: {found:.2f} of the raw calls"
    store.delete_table()


# ---- processes at the same time, and killed ones


@pytest.mark.parametrize(("n", "seconds"), [(400, 0), pytest.param(400, 30, marks=pytest.mark.long)])
def test_8_processes_that_read_and_write_tear_and_lose_nothing(mount, n, seconds):
    assert "none lost" in run("mixed", mount, n, seconds)


@pytest.mark.parametrize("n", [100, pytest.param(1000, marks=pytest.mark.long)])
def test_killed_owners_leave_nothing_and_do_not_stop_readers(mount, n):
    run("owners", mount, n)


@pytest.mark.parametrize("n", [200, pytest.param(2000, marks=pytest.mark.long)])
def test_killed_writers_leave_whole_values_and_do_not_stop_readers(mount, n):
    assert int(run("writers", mount, n)) > 0  # else no writer was killed in the middle of a write
