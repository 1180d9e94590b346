"""Writers and readers of one array in many threads and processes: a script for the tests, as it forks beside threads.

usage: array_workers.py increments PATH KIND PROCESSES THREADS N | appends PATH KIND | readers PATH KIND N
       | forks_of PATH KIND N | forks PATH N | start METHOD PATH | interrupts PATH KIND N
"""

import itertools
import multiprocessing
import os
import pickle
import random
import signal
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from store_makers import EVERY, has_recipe_for_writers

import zarrcy
from zarrcy.stores.filesystem import FilesystemStore
from zarrcy.stores.memory import MemoryStore
from zarrcy.stores.shared_memory import SharedMemoryStore
from zarrcy.stores.sqlite import SQLiteStore


class SubclassedStore(FilesystemStore):
    """The same directory through the path of stores in Python."""


def store_at(path, kind):
    """A store of some kind at `path`; for "recipe", the one that was pickled into that file."""
    if kind == "recipe":
        return pickle.loads(Path(path).read_bytes())
    if kind == "memory":
        return MemoryStore()
    if kind == "sqlite":
        return SQLiteStore(f"{path}.db")
    if kind == "shared_memory":
        return SharedMemoryStore("table", mount=os.path.dirname(path))
    if kind in EVERY:
        Path(path).mkdir()
        return EVERY[kind](Path(path))
    return (SubclassedStore if kind == "python" else FilesystemStore)(path)


def run_all(functions, n_processes):
    """Runs the first functions in forked processes and the others in threads; fails when one of them does."""
    failures = []

    def guarded(function):
        try:
            function()
        except BaseException:
            failures.append(traceback.format_exc())

    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=function) for function in functions[:n_processes]]
    workers += [threading.Thread(target=guarded, args=(function,)) for function in functions[n_processes:]]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures, failures[0]
    assert all(worker.exitcode == 0 for worker in workers[:n_processes]), "a process failed"


def increments(path, kind, processes, threads, n):
    """Every worker adds 1 to an item of its own, N times; all items lie in one chunk, or in one shard."""
    n_workers = int(processes) + int(threads)
    options = {"chunks": 4, "shards": n_workers} if kind == "shards" else {"chunks": n_workers}
    array = zarrcy.create_array(store_at(path, kind), shape=n_workers, dtype="int32", compressor=None, **options)

    def increment(i):
        for _ in range(int(n)):
            array[i] += 1

    begin = time.perf_counter()
    run_all([lambda i=i: increment(i) for i in range(n_workers)], int(processes))
    items = array[:]
    assert (items == int(n)).all(), f"{int(n) * n_workers - items.sum()} increments lost: {items}"
    assert array.nchunks_initialized == array.nchunks
    print(f"{items.sum()} increments, none lost, {time.perf_counter() - begin:.1f} s")


def appends(path, kind):
    """Appends of different lengths into chunks that they share."""
    shards = 70 if kind == "shards" else None
    v2 = {"zarr_format": 2} if kind == "v2" else {}
    store = store_at(path, kind)
    zarrcy.create_array(store, shape=0, chunks=7, shards=shards, dtype="int32", compressor=None, fill_value=-1, **v2)

    def append(number):
        array = zarrcy.open_array(store)
        for _ in range(40):
            array.append(np.full(3 if number < 4 else 5, number))

    run_all([lambda i=i: append(i) for i in range(8)], 4 if kind != "memory" else 0)
    items = zarrcy.open_array(store)[:].tolist()
    assert Counter(items) == {i: 120 if i < 4 else 200 for i in range(8)}, Counter(items)
    # The items of one append lie together.
    assert all(len(list(run)) % (3 if i < 4 else 5) == 0 for i, run in itertools.groupby(items))
    print(f"{len(items)} items appended, none lost")


def readers(path, kind, n):
    """A writer alternates two patterns in a chunk (a shard); readers never see both in it."""
    shards = 65536 if kind == "shards" else None
    chunks = 4096 if shards else 65536
    store = store_at(path, kind)
    array = zarrcy.create_array(store, shape=65536, chunks=chunks, shards=shards, dtype="uint8", compressor=None)
    array[:] = 1
    shared = multiprocessing.get_context("fork").Value("i", 0)
    n_writes = 0

    def write():
        nonlocal n_writes
        while shared.value < 8 or n_writes < 100:
            n_writes += 1
            array[:] = 1 + n_writes % 2

    def read():
        mine = zarrcy.open_array(store)
        choice = np.random.default_rng(os.getpid())
        try:
            for _ in range(int(n)):
                begin, end = sorted(choice.integers(0, 65537, 2))
                seen = np.unique(mine[begin:end])
                assert len(seen) <= 1, f"mixed: {seen}"
                assert set(seen) <= {1, 2}, seen
        finally:
            with shared.get_lock():
                shared.value += 1

    in_processes = 0 if kind == "memory" else 4
    run_all([*[read] * 8, write], in_processes)
    print(f"{8 * int(n)} reads beside {n_writes} writes, none mixed")


def forks(path, n):
    """Forks while other threads read and write; every child reads, writes and ends."""
    items = np.arange(2**18).reshape(64, -1)
    arrays = [
        zarrcy.array(items, FilesystemStore(f"{path}/a"), chunks=(4, 1024)),
        zarrcy.array(items, SubclassedStore(f"{path}/b"), chunks=(4, 1024), compressor="gzip"),
        zarrcy.array(items, MemoryStore(), chunks=(8, 512), shards=(32, 4096)),
        zarrcy.array(items, SQLiteStore(f"{path}/c.db", durable=False), chunks=(16, 1024)),
        zarrcy.array(items, FilesystemStore(f"{path}/raw"), chunks=(64, 4096), compressor=None),
        zarrcy.array(items, FilesystemStore(f"{path}/tiny"), chunks=(4, 64), compressor=None),
        zarrcy.array(items, FilesystemStore(f"{path}/shard"), chunks=(4, 64), shards=(64, 4096)),
    ]
    stop = threading.Event()
    failures = []

    def load(array):
        try:
            while not stop.is_set():
                array[:, :2048] = items[:, :2048]
                assert (array[:] == items).all()
        except BaseException:
            failures.append(traceback.format_exc())

    threads = [threading.Thread(target=load, args=(array,)) for array in arrays]
    for thread in threads:
        thread.start()
    try:
        for number in range(int(n)):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    array = arrays[number % len(arrays)]
                    assert (array[:] == items).all()
                    array[5:9, 7:1030] = items[5:9, 7:1030]
                    assert (array[2:60:3, ::-7] == items[2:60:3, ::-7]).all()
                    status = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(status)
            _, status = os.waitpid(child, 0)
            assert status == 0, f"fork {number}: the child ended with {status}"
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures, failures[0]
    print(f"{n} forks under load")


def forks_of(path, kind, n):
    """Forks while another thread reads and writes the same array; every child reads, and writes where it may."""
    store = store_at(path, kind)
    is_shared = has_recipe_for_writers(store)
    items = np.arange(64 * 64).reshape(64, 64)
    array = zarrcy.array(items, store, chunks=(8, 64))
    store.sync()
    stop = threading.Event()
    failures = []

    def load():
        try:
            while not stop.is_set():
                array[8:16] = items[8:16]
                assert (array[:32] == items[:32]).all()
        except BaseException:
            failures.append(traceback.format_exc())

    thread = threading.Thread(target=load)
    thread.start()
    try:
        for number in range(int(n)):
            child = os.fork()
            if child == 0:
                signal.alarm(60)  # a child that hangs is killed
                status = 1
                try:
                    assert (array[32:] == items[32:]).all()
                    if is_shared:
                        array[number % 32 + 32, 3:40] = items[number % 32 + 32, 3:40]
                    status = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(status)
            _, status = os.waitpid(child, 0)
            assert status == 0, f"fork {number}: the child ended with {status}"
    finally:
        stop.set()
        thread.join()
    assert not failures, failures[0]
    assert (array[:] == items).all()
    store.close()
    print(f"{n} forks of {kind}")


def _work_in_a_child(array, path):
    name = array.path
    assert (array[:] == 1).all()
    for kind in ("plain", "python", "sqlite", "shared_memory"):
        mine = zarrcy.open_array(store_at(path, kind), name)
        mine[64 * os.getpid() % 512 :][:64] = 1
        assert (mine[:] == 1).all()
    return os.getpid()


def start(method, path):
    """Arrays go to processes that are started in one of the three ways, after this one has threads at work."""
    array = zarrcy.create_array(FilesystemStore(path), "deep/a", shape=1024, chunks=16, dtype="int8", compressor="gzip")
    array[:] = 1
    zarrcy.open_array(SubclassedStore(path), "deep/a")[:]
    for kind in ("sqlite", "shared_memory"):
        zarrcy.array(np.ones(1024, "int8"), store_at(path, kind), "deep/a", chunks=16)
    assert (array[:] == 1).all()
    with multiprocessing.get_context(method).Pool(4) as pool:
        children = set(pool.starmap(_work_in_a_child, [(array, path)] * 20))
    assert os.getpid() not in children
    print(f"20 tasks in {len(children)} processes")


# What is interrupted beside stores of other kinds: one piece of work that takes long, or many that do not.
SLOW = {"name": "gzip", "configuration": {"level": 9}}
INTERRUPTED = {
    "shards": {"chunks": (4, 2**16), "shards": (16, 2**16), "compressor": "gzip"},
    "one shard": {"chunks": (4, 2**14), "shards": (512, 2**16), "compressor": SLOW},
    "raw": {"chunks": (64, 2**16), "compressor": None},
    "one raw chunk": {"chunks": (512, 2**16), "compressor": None},
    "tiny": {"chunks": (8, 128), "compressor": None},
}


def interrupts(path, kind, n):
    """Ctrl-C at random moments in reads, writes and copies: each ends within a second, and every chunk is whole."""
    options = INTERRUPTED.get(kind, {"chunks": (8, 2**16), "compressor": "gzip"})
    store = store_at(path, kind)
    rng = np.random.default_rng(3)
    patterns = [rng.integers(0, 12, (512, 2**16), "int8") for _ in range(2)]
    array = zarrcy.create_array(store, "a", shape=(512, 2**16), dtype="int8", fill_value=99, **options)
    array[...] = patterns[0]
    actions = [
        lambda: array[...],
        lambda: array.__setitem__(Ellipsis, patterns[1]),
        lambda: array.__setitem__((slice(1, 511), slice(5, None)), patterns[0][1:511, 5:]),
        lambda: zarrcy.copy(array, store, "b", overwrite=True, compressor="zstd"),
    ]
    if kind == "one raw chunk":
        del actions[3]  # a codec that is at work on a chunk is not interrupted
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it starts in the background
    choice = random.Random(int(n))
    slowest = 0.0
    n_heard = 0
    for number in range(int(n)):
        sent = []
        timer = threading.Timer(
            choice.uniform(0, 0.4),
            lambda sent=sent: (sent.append(time.perf_counter()), os.kill(os.getpid(), signal.SIGINT)),
        )
        try:
            timer.start()
            actions[number % len(actions)]()
            timer.join()
            time.sleep(1)  # where the signal is heard, if the action was faster
            raise AssertionError("the signal was lost")
        except KeyboardInterrupt:
            slowest = max(slowest, time.perf_counter() - sent[0])
            n_heard += 1
        timer.join()
    assert slowest < 1, f"an interrupted call went on for {slowest:.1f} s"
    items = array[...]
    rows, columns = array.shards or array.chunks
    wholes = []
    for pattern in patterns:
        # A chunk at the border of a partial write keeps the old items there, which may be those of either pattern.
        same = items == pattern
        border = np.ones(same.shape, bool)
        border[1:511, 5:] = False
        assert ((items == patterns[0]) | (items == patterns[1]))[border].all(), "a chunk at the border is torn"
        same |= border
        wholes.append(same.reshape(512 // rows, rows, 2**16 // columns, columns).all(axis=(1, 3)))
    assert (wholes[0] | wholes[1]).all(), f"{(~(wholes[0] | wholes[1])).sum()} chunks are torn"
    keys = list(store.list_prefix("a/"))
    assert all(key == "a/zarr.json" or key.startswith("a/c/") for key in keys), keys
    array[...] = patterns[1]
    assert (array[...] == patterns[1]).all()
    print(f"{n_heard} interrupts, the slowest was heard after {slowest:.2f} s")


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads at work is what is tested
    globals()[sys.argv[1]](*sys.argv[2:])
