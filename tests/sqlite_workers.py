"""Writers of a `SQLiteStore` in processes of their own, for the tests: a script, which forks and is killed.

usage: sqlite_workers.py kills ROOT N | creations ROOT | synced ROOT | failures ROOT; the last three with
       filesystem_faults.c loaded first
"""

import ctypes
import errno
import itertools
import os
import random
import signal
import struct
import sys
import time
from pathlib import Path

import numpy as np

import zarrcy
from zarrcy.errors import StoreError
from zarrcy.stores.sqlite import SQLiteStore

ACKNOWLEDGED = struct.Struct("<II")
FAIL, KILL, RECORD = 1, 2, 5


def write_for_ever(store, serial, pipe):
    """A value by itself, then an array and its attributes in a transaction, and so on; each acknowledged."""
    while True:
        serial += 1
        store.set("plain", ACKNOWLEDGED.pack(0, serial) * 5000)
        os.write(pipe, ACKNOWLEDGED.pack(0, serial))
        with store.transaction() as tx:
            array = zarrcy.open_array(tx, "a")
            array[:] = serial
            array.attrs["serial"] = serial
        os.write(pipe, ACKNOWLEDGED.pack(1, serial))


def kill_one_writer(store, last, choice):
    """Starts a writer, and kills it after some acknowledged writes; the last of each kind, given those before."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            write_for_ever(store, last[0], writer)
        finally:
            os._exit(1)
    os.close(writer)
    data = b""
    n_before = choice.randrange(1, 8)
    while len(data) < n_before * ACKNOWLEDGED.size:
        data += os.read(reader, 1 << 16)
    # On a busy machine this process goes on when the writer has just acknowledged: move on from that point.
    time.sleep(choice.random() / 200)
    os.kill(child, signal.SIGKILL)
    while more := os.read(reader, 1 << 16):
        data += more
    os.close(reader)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL, "the writer ended by itself"
    last = list(last)
    for kind, number in ACKNOWLEDGED.iter_unpack(data):
        last[kind] = number
    return last


def kills(root, n):
    """Kill N writers: every acknowledged write is there, and of a transaction everything or nothing."""
    store = SQLiteStore(f"{root}/data.db", "a")
    zarrcy.create_array(store, "a", shape=8 * 512, chunks=512, dtype="int32")
    choice = random.Random(17)
    last = [0, 0]
    n_cut = 0
    for _ in range(int(n)):
        plain, both = kill_one_writer(store, last, choice)
        value = store.get("plain")
        assert value == value[: ACKNOWLEDGED.size] * 5000, "a torn value"
        found = ACKNOWLEDGED.unpack_from(value)[1]
        assert found in (plain, plain + 1), f"{plain} acknowledged, {found} there"
        array = zarrcy.open_array(store, "a")
        items = set(np.unique(array[:]).tolist())
        assert items == {array.attrs.get("serial", 0)}, f"a part of a transaction: {items}, {dict(array.attrs)}"
        assert items <= {both, found}, f"{both} acknowledged, {items} there"
        n_cut += found != max(items)
        last = [found, max(items)]
        if choice.random() < 0.5:
            store.close()
        if choice.random() < 0.2:
            store.repair()
    assert set(store.list_prefix()) == {"plain", "zarr.json", "a/zarr.json", *(f"a/c/{i}" for i in range(8))}
    store.close()
    assert os.listdir(root) == ["data.db"]
    print(n_cut)


def calls():
    return ctypes.CDLL(None)


def spawn(function):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            function()
            status = 0
        finally:
            os._exit(status)
    return child


def creations(root):
    """A process is killed at its n-th write while it makes a file, for every n; then three others go on at once."""
    library = calls()
    for nth in itertools.count(1):
        path = f"{root}/{nth}.db"

        def make(number, path=path):
            SQLiteStore(path).set(f"c/{number}", b"%d" % number)

        def make_and_be_killed(nth=nth, make=make):
            library.faults_arm(KILL, b"pwrite", nth, 0)
            make(0)

        status = os.waitpid(spawn(make_and_be_killed), 0)[1]
        assert status in (0, signal.SIGKILL)
        others = [spawn(lambda number=number, make=make: make(number)) for number in (1, 2, 3)]
        assert [os.waitpid(child, 0)[1] for child in others] == [0, 0, 0]
        store = SQLiteStore(path)
        assert {"c/1", "c/2", "c/3"} <= set(store.list_prefix())
        assert status or store.get("c/0") == b"0"
        store.set("c/0", b"0")
        assert [store.get(f"c/{number}") for number in range(4)] == [b"0", b"1", b"2", b"3"]
        store.close()
        if status == 0:
            print(nth - 1)
            return


def synced(root):
    """With ``durable`` the log is flushed after its last write when a write returns; without, only by `sync`."""
    library = calls()
    library.faults_records.restype = ctypes.c_char_p

    def recorded(change):
        library.faults_arm(RECORD, b"", 0, 0)
        change()
        lines = [line.split("\t") for line in library.faults_records().decode().splitlines()]
        library.faults_disarm()
        return ["flush" if "sync" in what else "write" for what, path, _ in lines if path.endswith("-wal")]

    for durable in (True, False):
        store = SQLiteStore(f"{root}/{durable}.db", durable=durable)
        store.prepare()
        store.set("c/0", b"1" * 100_000)
        for change in (
            lambda store=store: store.set("c/1", b"2" * 100_000),
            lambda store=store: store.set_many([("c/1", b"3"), ("c/2", b"4")]),
            lambda store=store: store.delete("c/1"),
        ):
            seen = recorded(change)
            assert "write" in seen
            assert (seen[-1] == "flush") == durable, (durable, seen)
        if not durable:
            assert "flush" in recorded(store.sync)
        store.close()


def failures(root):
    """The n-th write or flush of a change fails, for every n: an error and the old values, or the new ones."""
    library = calls()
    store = SQLiteStore(f"{root}/data.db")
    old, new = {"c/0": b"old" * 20_000, "c/1": b"old"}, {"c/0": b"new!" * 20_000, "c/1": b"new"}
    n_failed = 0
    for name, code in ((b"pwrite", errno.ENOSPC), (b"pwrite", errno.EIO), (b"fdatasync", errno.EIO)):
        for nth in range(1, 100):
            store.set_many(old.items())
            library.faults_arm(FAIL, name, nth, code)
            try:
                store.set_many(new.items())
                expected = [new]
            except StoreError as error:
                n_failed += 1
                # A flush that failed says nothing of what the disk has: the log may be whole.
                expected = [old] if name == b"pwrite" else [old, new]
                assert error.code in ("eio", "enospc"), error.code
            count = library.faults_disarm()
            for reader in (store, SQLiteStore(f"{root}/data.db", read_only=True)):
                assert dict(zip(old, (reader.get(key) for key in old), strict=True)) in expected
            store.close()
            if count < nth:
                break
    assert n_failed > 5
    print(n_failed)


if __name__ == "__main__":
    Path(sys.argv[2]).mkdir(exist_ok=True)
    {"kills": kills, "creations": creations, "synced": synced, "failures": failures}[sys.argv[1]](*sys.argv[2:])
