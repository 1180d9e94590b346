"""Writers and readers of a `FilesystemStore` in processes of their own, for the tests: a script, which may fork.

usage: filesystem_writers.py kills ROOT N [durable] | readers ROOT NBYTES N | increments ROOT PROCESSES THREADS N |
       forks ROOT
"""

import itertools
import mmap
import os
import random
import signal
import sys
import threading

from store_crashes import KEYS, check_values, kill_one_writer, make_value

from zarrcy.errors import ConflictError
from zarrcy.stores.filesystem import FilesystemStore


def temporaries(root):
    return [name for _, _, names in os.walk(root) for name in names if name.endswith("-partial")]


def kills(root, n, durable=""):
    """Kill N writers; every acknowledged write must be there and whole, and leftovers must not show."""
    store = FilesystemStore(root, durable=bool(durable))
    choice = random.Random(17)
    serials = [0] * len(KEYS)
    n_left = 0
    for _ in range(int(n)):
        kill_one_writer(store, serials, choice)
        check_values(store, serials)
        n_left += len(temporaries(root))
        # Every second time the next writer meets what is left.
        if choice.random() < 0.5:
            store.repair()
            assert temporaries(root) == []
    for number, key in enumerate(KEYS):
        store.set(key, make_value(number, serials[number]))
    assert temporaries(root) == [], "the next writer of a key did not collect what was left"
    print(n_left)


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


def read_many(root, patterns, n, n_written):
    """Reads at least N values, until 20 were written meanwhile, and one of each pattern was seen."""

    def read():
        store = FilesystemStore(root)
        n_read, seen = 0, set()
        while n_read < n or n_written[0] < 20 or len(seen) < 2:
            value = store.get("value")
            assert value in patterns, "a mixed value"
            seen.add(value[0])
            n_read += 1

    run_in_threads(2, read)


def readers(root, nbytes, n):
    """One writer alternates two patterns; 8 readers, 2 threads in each of 4 processes, read N values together."""
    patterns = (b"\x55" * int(nbytes), b"\xaa" * (int(nbytes) // 2 + 1))
    store = FilesystemStore(root)
    store.set("value", patterns[0])
    n_written = mmap.mmap(-1, mmap.PAGESIZE)  # one byte that the processes share

    def write_until_killed():
        for i in itertools.count():
            store.set("value", patterns[i % 2])
            n_written[0] = min(n_written[0] + 1, 255)

    writer = spawn(write_until_killed)
    try:
        join([spawn(read_many, root, patterns, int(n) // 8, n_written) for _ in range(4)])
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)


def increment(store, n):
    for _ in range(n):
        with store.lock("group/locked"):
            store.set("group/locked", b"%d" % (int(store.get("group/locked") or 0) + 1))
        while True:
            value, version = store.get_with_version("group/swapped")
            try:
                store.set_if("group/swapped", b"%d" % (int(value or 0) + 1), version)
                break
            except ConflictError:
                pass


def increment_in_threads(root, n_threads, n):
    store = FilesystemStore(root)
    run_in_threads(n_threads, lambda: increment(store, n))


def increments(root, n_processes, n_threads, n):
    """Increments of two numbers, N by each of many threads, one under the lock and one by compare and swap."""
    join([spawn(increment_in_threads, root, int(n_threads), int(n)) for _ in range(int(n_processes))])
    store = FilesystemStore(root)
    expected = int(n_processes) * int(n_threads) * int(n)
    assert int(store.get("group/locked")) == expected, "an increment under the lock is lost"
    assert int(store.get("group/swapped")) == expected, "an increment by compare and swap is lost"
    assert temporaries(root) == []


def forks(root):
    """A forked child neither holds nor gives back the locks of its parent, and can read and write."""
    store = FilesystemStore(root)
    store.set("k", b"1")
    context = store.lock("k")
    context.__enter__()

    def in_the_child():
        assert store.get("k") == b"1"
        store.set("other", b"2")
        try:
            store._files.hold(b"k", timeout=0.05)
        except ConflictError:
            context.__exit__(None, None, None)
            assert temporaries(root) == [".k.zarrcy-partial"], "the child gave the lock back"
        else:
            raise AssertionError("the child got the lock")

    join([spawn(in_the_child)])
    store.set("k", b"3")
    context.__exit__(None, None, None)
    join([spawn(store.set, "k", b"4")])
    assert (store.get("k"), store.get("other")) == (b"4", b"2")
    assert temporaries(root) == []


if __name__ == "__main__":
    {"kills": kills, "readers": readers, "increments": increments, "forks": forks}[sys.argv[1]](*sys.argv[2:])
