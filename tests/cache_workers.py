"""Processes that share a cache: a script, which may fork.

usage: cache_workers.py kills PLACE N     fillers of a cache are killed while the values behind it change
       cache_workers.py shares PLACE N    8 processes read N values each through one cache, while one changes them
"""

import os
import random
import signal
import struct
import sys
import time

from zarrcy.stores.cached import CachedStore
from zarrcy.stores.filesystem import FilesystemStore

KEYS = [f"c/{i}" for i in range(40)]
MAX_NBYTES = 400_000


def make_value(number, serial):
    head = struct.pack("<II", number, serial)
    return head + bytes([serial % 251]) * (1000 + 137 * ((serial * 7 + number) % 30))


def serial_of(value, number):
    found, serial = struct.unpack_from("<II", value)
    assert found == number and value == make_value(number, serial), "a torn value"
    return serial


def open_stores(place):
    far = FilesystemStore(os.path.join(place, "far"))
    return far, CachedStore(far, FilesystemStore(os.path.join(place, "cache")), max_nbytes=MAX_NBYTES)


def check_size(store):
    nbytes = store.stats().nbytes
    assert nbytes <= MAX_NBYTES, f"{nbytes} bytes in a cache of {MAX_NBYTES}"


def kills(place, n):
    far, store = open_stores(place)
    serials = [1] * len(KEYS)
    for number, key in enumerate(KEYS):
        far.set(key, make_value(number, 1))
    choice = random.Random(3)
    for i in range(n):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                filled = random.Random(os.getpid())
                os.write(writer, b".")
                while True:
                    number = filled.randrange(len(KEYS))
                    start = filled.choice([None, *range(900)])
                    store.get(KEYS[number], None if start is None else slice(start, None))
            finally:
                os._exit(1)
        os.close(writer)
        os.read(reader, 1)
        time.sleep(choice.random() / 200)
        for number in choice.sample(range(len(KEYS)), 4):
            serials[number] += 1
            far.set(KEYS[number], make_value(number, serials[number]))
        os.kill(child, signal.SIGKILL)
        os.close(reader)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL, "the filler ended by itself"
        for number in choice.sample(range(len(KEYS)), 10):
            assert serial_of(bytes(store.get(KEYS[number])), number) == serials[number], "a stale value"
        if i % 10 == 9:
            check_size(store)
    print(f"{n} fillers killed")


def shares(place, n):
    far, store = open_stores(place)
    for number, key in enumerate(KEYS):
        far.set(key, make_value(number, 1))
    children = []
    for i in range(8):
        child = os.fork()
        if child == 0:
            try:
                read(store, n, random.Random(i))
                os._exit(0)
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                os._exit(1)
        children.append(child)
    serial = 1
    while children:
        serial += 1
        for number, key in enumerate(KEYS):
            far.set(key, make_value(number, serial))
        done, status = os.waitpid(children[0], os.WNOHANG)
        if done:
            assert status == 0, "a reader failed"
            children.pop(0)
    check_size(store)
    print(f"8 readers, {serial} changes")


def read(store, n, choice):
    latest = [0] * len(KEYS)
    for i in range(n):
        number = choice.randrange(len(KEYS))
        before = serial_of(bytes(store.store.get(KEYS[number])), number)
        found = serial_of(bytes(store.get(KEYS[number])), number)
        assert found >= before >= latest[number], "a stale value"
        latest[number] = found
        if i % 50 == 0:
            check_size(store)


if __name__ == "__main__":
    {"kills": kills, "shares": shares}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
