"""What `FilesystemStore` does when system calls fail: a script that runs with filesystem_faults.c loaded first.

usage: filesystem_faults.py COMMAND ROOT; the commands are the functions at the end.
"""

import ctypes
import errno
import itertools
import json
import os
import resource
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np

import zarrcy
from zarrcy.errors import ConflictError, StoreError
from zarrcy.stores.filesystem import FilesystemStore

FAIL, KILL, ALWAYS, CUT, RECORD, STEAL = 1, 2, 3, 4, 5, 6
OLD = b"old" * 10_000
NEW = b"new!" * 20_000

library = ctypes.CDLL(None)
library.faults_records.restype = ctypes.c_char_p


def arm(mode, name="", nth=0, error=0):
    library.faults_arm(mode, name.encode(), nth, error)


disarm = library.faults_disarm


def set_in_lock(store, key):
    with store.lock(key):
        store.set(key, NEW)


def set_if(store, key):
    store.set_if(key, NEW, store.get_with_version(key)[1])


CHANGES = {
    "set": (lambda store, key: store.set(key, NEW), NEW),
    "set_if": (set_if, NEW),
    "set_in_lock": (set_in_lock, NEW),
    "delete": (lambda store, key: store.delete(key), None),
}


def start_over(root, old):
    shutil.rmtree(root)
    os.mkdir(root)
    if old is not None:
        FilesystemStore(root).set("a/b/k", old)


def temporaries(root):
    return [name for _, _, names in os.walk(root) for name in names if name.endswith("-partial")]


def check_after(root, allowed):
    """The value is one of those allowed; nothing else lists; the next writer finds nothing in its way."""
    store = FilesystemStore(root)
    value = store.get("a/b/k")
    assert value in allowed, f"a value of {len(value or b'')} bytes"
    assert list(store.list_prefix()) == ([] if value is None else ["a/b/k"])
    store.set("a/b/k", b"next")
    assert store.get("a/b/k") == b"next"
    store.repair()
    assert temporaries(root) == []


def changes():
    """Every change, over an old value and over none, plain and durable."""
    return itertools.product(CHANGES, (OLD, None), (False, True))


def fail_writes(root):
    """The nth call fails, for every n: the old value or the new one, and an exception that says so."""
    total = 0
    for (name, old, durable), error in itertools.product(changes(), (errno.EIO, errno.ENOSPC)):
        change, new = CHANGES[name]
        for nth in itertools.count(1):
            start_over(root, old)
            store = FilesystemStore(root, durable=durable)
            raised = None
            arm(FAIL, nth=nth, error=error)
            try:
                change(store, "a/b/k")
            except StoreError as exception:
                raised = exception
            count = disarm()
            where = f"{name}, call {nth}"
            if raised is None:
                check_after(root, [new])
            else:
                assert raised.code == errno.errorcode[error].lower(), where
                assert raised.hint, where
                # Only the fsync that comes after the rename can fail with the new value in place; a lock cannot be
                # given back twice, so that the change is done when its context fails.
                check_after(root, [old, new] if durable or name == "set_in_lock" else [old])
            total += 1
            if count < nth:
                break
    print(json.dumps(total))


def fail_reads(root):
    """The nth call fails, for every n: the right answer or an exception, never an absent key."""
    start_over(root, OLD)
    answers = {
        "get": (lambda store: store.get("a/b/k"), OLD),
        "part": (lambda store: store.get("a/b/k", slice(-5, None)), OLD[-5:]),
        "size": (lambda store: store.size("a/b/k"), len(OLD)),
        "exists": (lambda store: store.exists("a/b/k"), True),
        "list_prefix": (lambda store: list(store.list_prefix()), ["a/b/k"]),
        "list_dir": (lambda store: list(store.list_dir()), ["a/"]),
        "absent": (lambda store: store.get("a/b/absent"), None),
    }
    total = 0
    for name, error in itertools.product(answers, (errno.EIO, errno.EACCES, errno.EMFILE, errno.ESTALE)):
        question, answer = answers[name]
        for nth in itertools.count(1):
            store = FilesystemStore(root)
            arm(FAIL, nth=nth, error=error)
            try:
                found = question(store)
                assert found == answer, f"{name}, call {nth}: {found!r}"
            except StoreError as exception:
                assert exception.code == errno.errorcode[error].lower()
            total += 1
            if disarm() < nth:
                break
    print(json.dumps(total))


def opening(root):
    """How many of these calls an array is opened with, by format; the second time, when its document is known."""
    import zarrcy

    counts = {}
    for zarr_format in (2, 3):
        path = f"{root}/v{zarr_format}"
        zarrcy.create_array(path, shape=(1000, 1000), chunks=(100, 100), zarr_format=zarr_format)
        zarrcy.open_array(path, mode="r")
        arm(FAIL, nth=-1)
        zarrcy.open_array(path, mode="r")
        counts[zarr_format] = disarm()
    print(json.dumps(counts))


def interrupt(root):
    """Interrupted and short calls are carried on."""
    total = 0
    for name, old, durable in changes():
        change, new = CHANGES[name]
        for call in ("openat2", "open", "openat", "flock", "write", "pread"):
            for nth in itertools.count(1):
                start_over(root, old)
                store = FilesystemStore(root, durable=durable)
                arm(FAIL, call, nth, errno.EINTR)
                change(store, "a/b/k")
                assert store.get("a/b/k") == new, f"{name}, {call} {nth}"
                count = disarm()
                check_after(root, [new])
                total += 1
                if count < nth:
                    break
        start_over(root, old)
        store = FilesystemStore(root, durable=durable)
        arm(CUT)
        change(store, "a/b/k")
        assert store.get("a/b/k") == new
        disarm()
        check_after(root, [new])
    print(json.dumps(total))


def kill_at_every_call(root):
    """The process is killed before the nth call, for every n."""
    total = n_left = 0
    for name, old, durable in changes():
        change, new = CHANGES[name]
        for nth in itertools.count(1):
            start_over(root, old)
            child = os.fork()
            if child == 0:
                arm(KILL, nth=nth)
                change(FilesystemStore(root, durable=durable), "a/b/k")
                os._exit(0)
            status = os.waitpid(child, 0)[1]
            total += 1
            n_left += len(temporaries(root))
            check_after(root, [old, new] if status else [new])
            if status == 0:
                break
            assert os.WTERMSIG(status) == signal.SIGKILL
    print(json.dumps([total, n_left]))


def steal(root):
    """A temporary file that another writer takes away before it is locked is not the lock."""
    for n_stolen in range(1, 4):
        for name, old, durable in changes():
            change, new = CHANGES[name]
            start_over(root, old)
            store = FilesystemStore(root, durable=durable)
            store.prepare()
            arm(STEAL, nth=n_stolen)
            change(store, "a/b/k")
            assert disarm() > n_stolen or (name, old) == ("delete", None)
            check_after(root, [new])


# ---- arrays, whose writer keeps the directory of the last chunk open

N_CHUNKS = 3
SIDE = 2048  # a row of a chunk is long enough to be written from where it lies


def open_chunks(root, old, durable):
    """An array of raw chunks of two rows in one directory, filled with 1 or absent."""
    shutil.rmtree(root)
    store = FilesystemStore(root, durable=durable)
    shape = (2, N_CHUNKS * SIDE)
    raw = [{"name": "bytes", "configuration": {"endian": "little"}}]
    array = zarrcy.create_array(store, shape=shape, chunks=(2, SIDE), dtype="u2", fill_value=0, codecs=raw)
    if old:
        array[:] = 1
    return array


def check_chunks(root, allowed):
    """Each chunk is whole and one of those allowed; the next write finds nothing in its way."""
    array = zarrcy.open_array(root)
    for i in range(N_CHUNKS):
        found = np.unique(array[:, i * SIDE : (i + 1) * SIDE]).tolist()
        assert found in [[value] for value in allowed], found
    assert set(FilesystemStore(root).list_prefix()) <= {"zarr.json", *(f"c/0/{i}" for i in range(N_CHUNKS))}
    array[:] = 3
    FilesystemStore(root).repair()
    assert temporaries(root) == []


def fail_chunks(root):
    """The nth call of a write of an array fails, for every n: each chunk is the old one or the new one."""
    zarrcy.set_threads(1)
    total = 0
    for old, durable, new, error in itertools.product((0, 1), (False, True), (2, 0), (errno.EIO, errno.ENOSPC)):
        for nth in itertools.count(1):
            array = open_chunks(root, old, durable)
            raised = None
            arm(FAIL, nth=nth, error=error)
            try:
                array[:] = new
            except StoreError as exception:
                raised = exception
            count = disarm()
            assert raised is None or raised.code == errno.errorcode[error].lower()
            check_chunks(root, [old, new] if raised else [new])
            total += 1
            if count < nth:
                break
    print(json.dumps(total))


def interrupt_chunks(root):
    """Interrupted and short calls of a write of an array are carried on."""
    zarrcy.set_threads(1)
    total = 0
    for old, call in itertools.product((0, 1), ("openat2", "open", "openat", "flock", "write", "pread", "cut")):
        for nth in itertools.count(1):
            array = open_chunks(root, old, False)
            arm(CUT if call == "cut" else FAIL, call, nth, errno.EINTR)
            array[:] = 2
            count = disarm()
            check_chunks(root, [2])
            total += 1
            if count < nth:
                break
    print(json.dumps(total))


def kill_chunks(root):
    """The process is killed before the nth call of a write of an array, for every n."""
    zarrcy.set_threads(1)
    total = n_left = 0
    for old, durable in itertools.product((0, 1), (False, True)):
        for nth in itertools.count(1):
            array = open_chunks(root, old, durable)
            child = os.fork()
            if child == 0:
                arm(KILL, nth=nth)
                array[:] = 2
                os._exit(0)
            status = os.waitpid(child, 0)[1]
            total += 1
            n_left += len(temporaries(root))
            check_chunks(root, [old, 2] if status else [2])
            if status == 0:
                break
            assert os.WTERMSIG(status) == signal.SIGKILL
    print(json.dumps([total, n_left]))


def without_openat2(root):
    """The kernel is old: links are refused altogether, the rest is the same."""
    arm(ALWAYS, "openat2", error=errno.ENOSYS)
    start_over(root, None)
    store = FilesystemStore(root)
    for change, new in CHANGES.values():
        change(store, "a/b/k")
        assert store.get("a/b/k") == new
    store.set("a/b/k", OLD)
    assert store.get("a/x/k") is None
    assert list(store.list_prefix()) == ["a/b/k"]
    os.makedirs(f"{root}-outside", exist_ok=True)
    Path(f"{root}-outside", "k").write_bytes(b"outside")
    for link, target in (("out", f"{root}-outside"), ("up", f"../{Path(root).name}-outside"), ("in", "a")):
        os.symlink(target, f"{root}/{link}")
        for call in (store.get, store.exists, lambda key: store.set(key, NEW)):
            try:
                call(f"{link}/k")
            except StoreError as error:
                assert error.code in ("enotdir", "eloop"), error
            else:
                raise AssertionError(f"{link} was followed")
    os.symlink(f"{root}-outside/k", f"{root}/leaf")
    for name in (b"../x", b"/etc/hostname", b"a/../../x", b"leaf"):
        try:
            store._files.read(name)
        except StoreError as error:
            assert error.code in ("exdev", "eloop"), error
        else:
            raise AssertionError(f"{name!r} was followed")
    assert os.listdir(f"{root}-outside") == ["k"]
    disarm()


def without_locks(root):
    """The file system has no locks: the last writer wins, and the store says that it cannot compare and swap."""
    arm(ALWAYS, "flock", error=errno.EOPNOTSUPP)
    start_over(root, OLD)
    store = FilesystemStore(root)
    assert not store.supports_cas
    assert store.lock("a/b/k") is None
    for call in (lambda: store.set_if("a/b/k", NEW, None), lambda: store.set_if("new", NEW, None)):
        try:
            call()
        except ConflictError:
            raise
        except StoreError as error:
            assert error.code == "no_cas"
        else:
            raise AssertionError("compared and swapped without a lock")
    store.set("a/b/k", NEW)
    assert store.get("a/b/k") == NEW
    assert temporaries(root) == []
    # Nothing tells a crashed writer from a living one but time.
    for name, age in ((".young.0.zarrcy-partial", 60), (".old.0.zarrcy-partial", 2 * 24 * 3600)):
        path = Path(root, name)
        path.write_bytes(b"left")
        os.utime(path, (time.time() - age,) * 2)
    assert store.repair() == ["removed the unfinished write .old.0.zarrcy-partial"]
    assert temporaries(root) == [".young.0.zarrcy-partial"]
    store.delete("a/b/k")
    assert store.get("a/b/k") is None
    disarm()


def record(root):
    """The calls of durable and of plain changes, as JSON: {name: [[call, path, path], …]}."""
    logs = {}
    for durable in (True, False):
        start_over(root, None)
        store = FilesystemStore(root, durable=durable)
        store.prepare()
        steps = [("set", "a/b/k"), ("set", "a/b/k"), ("set", "a/c/k"), ("set", "k"), ("set_if", "a/b/k")]
        steps += [("set_in_lock", "a/b/k"), ("delete", "a/c/k"), ("set", "a/c/k"), ("delete", "k")]
        events = []
        for name, key in steps:
            arm(RECORD)
            CHANGES[name][0](store, key)
            disarm()
            for line in library.faults_records().decode().splitlines():
                call, *paths = line.split("\t")
                events.append([call, *(os.path.relpath(path, root) for path in paths if path)])
            events.append(["done", name, key])
        logs["durable" if durable else "plain"] = events
    print(json.dumps(logs))


def without_descriptors(root):
    """Each call with no descriptor left, and with one: here, where no thread of another test gives one back."""
    store = FilesystemStore(root)
    store.set("a/k", b"old")
    highest = max(map(int, os.listdir("/proc/self/fd")))
    while os.open(os.devnull, os.O_RDONLY) <= highest:
        continue
    n_open = len(os.listdir("/proc/self/fd")) - 1  # without that of the list
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for n_free in range(2):
        for call in (lambda: store.set("a/k", b"new"), lambda: store.get("a/k"), lambda: list(store.list_prefix())):
            resource.setrlimit(resource.RLIMIT_NOFILE, (n_open + n_free, hard))
            try:
                answer = call()
            except StoreError as error:
                assert error.code == "emfile"
                assert "ulimit -n" in error.hint
            else:
                assert n_free
                assert answer in (b"old", ["a/k"])
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert store.get("a/k") == b"old"
    assert os.listdir(os.path.join(root, "a")) == ["k"]


if __name__ == "__main__":
    COMMANDS = (fail_writes, fail_reads, interrupt, kill_at_every_call, without_openat2, without_locks, record)
    COMMANDS += (opening, steal, fail_chunks, interrupt_chunks, kill_chunks, without_descriptors)
    {command.__name__: command for command in COMMANDS}[sys.argv[1]](sys.argv[2])
