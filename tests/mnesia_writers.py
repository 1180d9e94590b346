"""Writers of a `MnesiaStore` in processes of their own, for the tests: a script, which may fork.

usage: mnesia_writers.py kills NODE TABLE N | increments NODE TABLE PROCESSES THREADS N | forks NODE TABLE N
"""

import os
import random
import signal
import struct
import sys
import threading
import time

from zarrcy.stores.mnesia import MnesiaStore

KEYS = [".zarray", "0.0", "0.1", "c/1/0"]
ACKNOWLEDGED = struct.Struct("<II")


def make_value(key_number, serial):
    """Bytes that tell their key and serial number, in one of two patterns, and of a length that depends on both."""
    head = ACKNOWLEDGED.pack(key_number, serial)
    return head + (b"\x55" if serial % 2 else b"\xaa") * (1000 + 40_000 * ((serial * 7 + key_number) % 4))


def read_serial(value, key_number):
    """The serial number of a whole value; AssertionError for one that is torn or of another key."""
    number, serial = ACKNOWLEDGED.unpack_from(value)
    assert number == key_number, f"a value of key {number} at key {key_number}"
    assert value == make_value(key_number, serial), f"a torn value at key {key_number}"
    return serial


def write_for_ever(store, serials, pipe):
    while True:
        for number, key in enumerate(KEYS):
            serials[number] += 1
            store.set(key, make_value(number, serials[number]))
            os.write(pipe, ACKNOWLEDGED.pack(number, serials[number]))


def kill_one_writer(store, serials, choice):
    """Starts a writer, kills it after some acknowledged writes; `serials` are the last of them afterwards."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            write_for_ever(store, serials, writer)
        finally:
            os._exit(1)
    os.close(writer)
    data = b""
    n_before = choice.randrange(1, 12)
    while len(data) < n_before * ACKNOWLEDGED.size:
        data += os.read(reader, 1 << 16)
    time.sleep(choice.random() / 1000)
    os.kill(child, signal.SIGKILL)
    while more := os.read(reader, 1 << 16):
        data += more
    os.close(reader)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL, "the writer ended by itself"
    for number, serial in ACKNOWLEDGED.iter_unpack(data):
        serials[number] = serial


def kills(node, table, n):
    """Kill N writers; every acknowledged write must be there and whole, and nothing else."""
    store = MnesiaStore("kills", node, table_name=table)
    store.prepare()
    choice = random.Random(17)
    serials = [0] * len(KEYS)
    n_unacknowledged = 0
    for _ in range(int(n)):
        kill_one_writer(store, serials, choice)
        for number, key in enumerate(KEYS):
            # A write that was under way may still come: then it is the one after the last acknowledged.
            value = store.get(key)
            if value is None:
                assert serials[number] == 0, f"an acknowledged write of {key} is lost"
                continue
            found = read_serial(value, number)
            assert found in (serials[number], serials[number] + 1), (
                f"{key}: {serials[number]} acknowledged, {found} there"
            )
            n_unacknowledged += found > serials[number]
            serials[number] = max(found, serials[number])
        assert set(store.list_prefix()) <= set(KEYS)
    print(n_unacknowledged)


def spawn(function, *arguments):
    child = os.fork()
    if child == 0:
        try:
            function(*arguments)
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(1)
    return child


def join(children):
    for child in children:
        assert os.waitpid(child, 0)[1] == 0, "a process failed"


def run_in_threads(n_threads, work):
    """Runs `work` in threads; raises the first exception of any."""
    errors = []

    def guarded():
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded) for _ in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def increment(store, n):
    for _ in range(n):
        store.update("n", lambda value: b"%d" % (int(value or b"0") + 1))


def increments(node, table, processes, threads, n):
    """N increments of one number by each of the processes, and by each of the threads of one more."""
    store = MnesiaStore("increments", node, table_name=table)
    store.set("n", b"0")
    children = [spawn(increment, store, int(n)) for _ in range(int(processes))]
    run_in_threads(int(threads), lambda: increment(store, int(n)))
    join(children)
    expected = (int(processes) + int(threads)) * int(n)
    assert int(store.get("n")) == expected, f"{store.get('n')} of {expected} increments"
    print(f"{expected} increments, none lost")


def forks(node, table, n):
    """N forks while other threads of the parent write; each child reads and writes, and so does the parent."""
    store = MnesiaStore("forks", node, table_name=table)
    store.set("k", b"1" * 1000)
    done = threading.Event()

    def write():
        while not done.is_set():
            store.set("k", b"1" * 1000)
            assert store.get("k") == b"1" * 1000

    def in_the_child(i):
        for _ in range(20):
            assert store.get("k") == b"1" * 1000
        store.set(f"child/{i}", b"%d" % i)
        store.close()

    def fork():
        try:
            for i in range(int(n)):
                child = spawn(in_the_child, i)
                for _ in range(20):
                    # At the same time as the child, on what were the idle connections of both.
                    assert store.get("k") == b"1" * 1000
                join([child])
                assert store.get(f"child/{i}") == b"%d" % i
        finally:
            done.set()

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    fork()
    for thread in threads:
        thread.join()
    print(f"{n} forks")


if __name__ == "__main__":
    {"kills": kills, "increments": increments, "forks": forks}[sys.argv[1]](*sys.argv[2:])
