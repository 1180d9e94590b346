"""Processes that share a table of `SharedMemoryStore`, for the tests: a script, which forks and is killed.

usage: shared_memory_workers.py mixed MOUNT N_WRITES | owners MOUNT N | writers MOUNT N | make MOUNT TABLE ACCESS
       | inherit MOUNT TABLE | use MOUNT TABLE
"""

import os
import random
import signal
import struct
import subprocess
import sys
import time

import numpy as np

import zarrcy
from zarrcy.errors import ConflictError, StoreError
from zarrcy.stores.shared_memory import SharedMemoryStore

SERIAL = struct.Struct("<II")
KEYS = [f"c/{i}" for i in range(4)]


def make_value(number, serial):
    return SERIAL.pack(number, serial) * (1000 + 5000 * ((serial + number) % 4))


def check_value(value, number):
    """The serial number of a whole value; AssertionError for one that is torn or of another key."""
    found, serial = SERIAL.unpack_from(value)
    assert found == number
    assert value == make_value(number, serial), f"a torn value at key {number}"
    return serial


def spawn(function, *arguments):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            function(*arguments)
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    return child


def join(children):
    for child in children:
        assert os.waitpid(child, 0)[1] == 0, "a process failed"


def mixed(mount, n_writes, seconds=0):
    """8 processes read and write the same values, and count in one under compare-and-swap: none torn, none lost."""
    SharedMemoryStore("mixed", mount=mount).set("n", b"0")
    end = time.monotonic() + float(seconds)

    def work(seed):
        store = SharedMemoryStore("mixed", mount=mount)
        choice = random.Random(seed)
        n_counted = n_written = 0
        while n_written < int(n_writes) or time.monotonic() < end:
            n_written += 1
            number = choice.randrange(len(KEYS))
            store.set(KEYS[number], make_value(number, choice.randrange(1000)))
            store.set(f"own/{seed}", SERIAL.pack(seed, n_written))
            assert store.get(f"own/{seed}") == SERIAL.pack(seed, n_written), "a write is lost"
            for number, key in enumerate(KEYS):
                value = store.get(key)
                if value is not None:
                    check_value(value, number)
            if n_written % 8 == 0:
                count_one(store)
                n_counted += 1
        store.set(f"counted/{seed}", b"%d" % n_counted)

    join([spawn(work, seed) for seed in range(8)])
    store = SharedMemoryStore("mixed", mount=mount)
    counted = sum(int(store.get(f"counted/{seed}")) for seed in range(8))
    assert int(store.get("n")) == counted, "an increment is lost"
    store.delete_table()
    print(f"{counted} increments, none lost")


def count_one(store):
    while True:
        value, version = store.get_with_version("n")
        try:
            store.set_if("n", b"%d" % (int(value) + 1), version)
            return
        except ConflictError:
            pass


def start(*arguments):
    """The script again, as a process that is no child of a fork; it has said that it is ready."""
    command = [sys.executable, __file__, *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def wait_for_end():
    print("ready", flush=True)
    sys.stdin.read()


def make(mount, name, access):
    """Own a table with an array in it until the standard input ends, or death."""
    store = SharedMemoryStore(name, access=access, mount=mount)
    zarrcy.array(np.arange(64, dtype="int32"), store, chunks=8)
    assert store.table_info()["owner"] == os.getpid()
    wait_for_end()


def inherit(mount, name):
    """Be the heir of a table."""
    store = SharedMemoryStore(name, heir=True, mount=mount)
    assert store.table_info()["heir"] == os.getpid()
    wait_for_end()
    assert store.table_info()["is_owner"]


def use(mount, name):
    """Read and write a table of others."""
    store = SharedMemoryStore(name, mount=mount)
    assert zarrcy.open(store)[:].tolist() == list(range(64))
    store.set("used", b"by another program")


def read_within_a_second(store):
    begin = time.monotonic()
    value = store.get("c/3")
    assert time.monotonic() - begin < 1, "a reader had to wait"
    return value


class Process:
    """A forked child that does something and then lives on until it is killed or told to end."""

    def __init__(self, function):
        ready, is_ready = os.pipe()
        self.read, self.end = os.pipe()

        def work():
            os.close(self.end)
            last = function()
            os.write(is_ready, b"1")
            os.read(self.read, 1)
            if last:
                last()

        self.pid = spawn(work)
        os.close(is_ready)
        assert os.read(ready, 1), "the process failed"
        os.close(ready)

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.close()

    def finish(self):
        self.close()
        join([self.pid])

    def close(self):
        os.close(self.read)
        os.close(self.end)


def owners(mount, n):
    """Kill N owners; with an heir the table lives on, else it is collected, and is an error for who has it open."""
    for i in range(int(n)):
        name = f"table{i}"
        owner = Process(lambda name=name: own(mount, name))
        store = SharedMemoryStore(name, mount=mount)
        value = read_within_a_second(store)
        assert value == make_value(3, 7)
        has_heir = i % 3 == 0
        if has_heir:
            heir = Process(lambda name=name: be_heir(mount, name))
        owner.kill()
        assert read_within_a_second(store) == value
        done = SharedMemoryStore("any", mount=mount).repair()
        if has_heir:
            assert done == []
            assert read_within_a_second(store) == value
            store.set("c/0", value)
            heir.finish()
            done = SharedMemoryStore("any", mount=mount).repair()
        assert done == [f"removed the table {name!r}: no process owns it"]
        for call in (lambda store=store: store.get("c/3"), lambda store=store: store.set("c/3", b"1")):
            try:
                call()
            except StoreError as error:
                assert error.code in ("enoent", "table_gone"), error
            else:
                raise AssertionError("a table that is gone answers")
    assert os.listdir(f"{mount}/zarrcy-{os.geteuid()}") == [".lock"]


def own(mount, name):
    store = SharedMemoryStore(name, mount=mount)
    for number, key in enumerate(KEYS):
        store.set(key, make_value(number, 7))
    assert store.table_info()["is_owner"]


def be_heir(mount, name):
    store = SharedMemoryStore(name, heir=True, mount=mount)

    def last():
        assert store.table_info()["is_owner"]
        assert store.get("c/0") == make_value(3, 7)

    return last


def write_for_ever(store, serials, pipe):
    while True:
        for number, key in enumerate(KEYS):
            serials[number] += 1
            store.set(key, make_value(number, serials[number]))
            os.write(pipe, SERIAL.pack(number, serials[number]))


def writers(mount, n):
    """Kill N writers, forked children of the owner: acknowledged values are there and whole, readers do not wait."""
    store = SharedMemoryStore("table", mount=mount)
    store.prepare()
    choice = random.Random(5)
    serials = [0] * len(KEYS)
    n_left = 0
    for _ in range(int(n)):
        reader, writer = os.pipe()
        child = spawn(write_for_ever, store, serials, writer)
        os.close(writer)
        data = b""
        while len(data) < choice.randrange(1, 12) * SERIAL.size:
            data += os.read(reader, 1 << 16)
        time.sleep(choice.random() / 1000)
        os.kill(child, signal.SIGKILL)
        while more := os.read(reader, 1 << 16):
            data += more
        os.close(reader)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        for number, serial in SERIAL.iter_unpack(data):
            serials[number] = serial
        for number, key in enumerate(KEYS):
            begin = time.monotonic()
            value = store.get(key)
            assert time.monotonic() - begin < 1, "a reader had to wait"
            if value is not None:
                found = check_value(value, number)
                assert found in (serials[number], serials[number] + 1), "an acknowledged write is lost"
                serials[number] = found
        assert set(store.list_prefix()) <= set(KEYS)
        n_left += sum(name.endswith("-partial") for _, _, names in os.walk(store.path) for name in names)
        store.repair()
        assert not any(name.endswith("-partial") for _, _, names in os.walk(store.path) for name in names)
    store.delete_table()
    print(n_left)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
