"""Writers of a `GridFSStore` in processes of their own, for the tests: a script, which may fork.

usage: gridfs_writers.py kills OPTIONS N | forks OPTIONS

OPTIONS are those of the store, as JSON; the password is in the environment.
"""

import json
import os
import random
import signal
import struct
import sys
import threading
import time
import warnings

from zarrcy.stores.gridfs import GridFSStore

KEYS = ["zarr.json", "c/0/0", "c/0/1", "c/1/0"]
ACKNOWLEDGED = struct.Struct("<II")


def make_value(number, serial):
    """Bytes that tell their key and serial number, of one chunk of GridFS or of a few."""
    pattern = b"\x55" if serial % 2 else b"\xaa"
    return ACKNOWLEDGED.pack(number, serial) + pattern * (1000 + 200_000 * ((serial * 7 + number) % 4))


def read_serial(value, number):
    """The serial number of a whole value; AssertionError for one that is torn or of another key."""
    found, serial = ACKNOWLEDGED.unpack_from(value)
    assert found == number, f"a value of key {found} at key {number}"
    assert value == make_value(number, serial), f"a torn value at key {number}"
    return serial


def in_child(work):
    """Runs `work` in a forked child; returns its pid."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return child


def write_for_ever(store, serials, pipe):
    while True:
        for number, key in enumerate(KEYS):
            serials[number] += 1
            store.set(key, make_value(number, serials[number]))
            os.write(pipe, ACKNOWLEDGED.pack(number, serials[number]))


def kill_one_writer(store, serials, choice):
    """Starts a writer, kills it after some acknowledged writes; `serials` are the last of them afterwards."""
    reader, writer = os.pipe()
    child = in_child(lambda: (os.close(reader), write_for_ever(store, serials, writer)))
    os.close(writer)
    data = b""
    n_before = choice.randrange(1, 4)
    while len(data) < n_before * ACKNOWLEDGED.size:
        more = os.read(reader, 1 << 16)
        assert more, "the writer ended by itself"
        data += more
    time.sleep(choice.random() / 50)
    os.kill(child, signal.SIGKILL)
    while more := os.read(reader, 1 << 16):
        data += more
    os.close(reader)
    os.waitpid(child, 0)
    for number, serial in ACKNOWLEDGED.iter_unpack(data):
        serials[number] = serial


def kills(options, n):
    """Kill N writers; every acknowledged write must be there and whole, and leftovers must not show."""
    store = GridFSStore(**options)
    choice = random.Random(17)
    serials = [0] * len(KEYS)
    for _ in range(int(n)):
        kill_one_writer(store, serials, choice)
        for number, key in enumerate(KEYS):
            value = store.get(key)
            if value is None:
                assert serials[number] == 0, f"an acknowledged write of {key} is lost"
                continue
            found = read_serial(value, number)
            assert found in (serials[number], serials[number] + 1), f"{key}: {found} after {serials[number]}"
            serials[number] = found
        assert set(store.list_prefix()) <= set(KEYS), "a leftover is listed"
    print(*serials)


def forks(options):
    """Children of a process whose threads use the store: they read, write and fork again, and give no warning."""
    warnings.simplefilter("error")
    store = GridFSStore(**options)
    store.set("c/0", b"parent")
    stop = threading.Event()

    def keep_busy():
        while not stop.is_set():
            store.set("busy", os.urandom(1000))

    def work(i):
        assert store.get("c/0") == b"parent"
        store.set(f"child/{i}", b"child")
        grandchild = in_child(lambda: store.set(f"grandchild/{i}", store.get(f"child/{i}")))
        assert os.waitpid(grandchild, 0)[1] == 0

    threads = [threading.Thread(target=keep_busy) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for i in range(20):
            # Python 3.12 warns of every fork with threads; that is what this is about.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                child = in_child(lambda i=i: work(i))
            assert os.waitpid(child, 0)[1] == 0, f"child {i}"
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert store.get("c/0") == b"parent"
    print(len(list(store.list_prefix("child/"))), len(list(store.list_prefix("grandchild/"))))
    store.close()


if __name__ == "__main__":
    command, options, *arguments = sys.argv[1:]
    {"kills": kills, "forks": forks}[command](json.loads(options), *arguments)
