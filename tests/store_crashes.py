"""Writers of a store that are killed at random moments: a script, which may fork, and what other tests of crashes use.

usage: store_crashes.py RECIPE N

RECIPE is a file with a pickled store. A writer is forked, and killed by SIGKILL while it writes, N times. Whatever it
had acknowledged must be there and whole, and nothing else may show.
"""

import os
import pickle
import random
import signal
import struct
import sys
import time
from pathlib import Path

KEYS = ["zarr.json", "c/0/0", "c/0/1", "c/1/0"]
ACKNOWLEDGED = struct.Struct("<II")


def make_value(key_number, serial):
    """Bytes that tell their key and serial number, in one of two patterns, and of a length that depends on both."""
    head = ACKNOWLEDGED.pack(key_number, serial)
    return head + (b"\x55" if serial % 2 else b"\xaa") * (1000 + 40_000 * ((serial * 7 + key_number) % 4))


def read_serial(value, key_number):
    """The serial number of a whole value; AssertionError for one that is torn or of another key."""
    assert len(value) >= ACKNOWLEDGED.size, f"a torn value at key {key_number}"
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
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(writer)
    data = b""
    n_before = choice.randrange(1, 12)
    while len(data) < n_before * ACKNOWLEDGED.size:
        more = os.read(reader, 1 << 16)
        assert more, "the writer ended by itself"
        data += more
    # On a busy machine this process goes on when the writer has just acknowledged: move on from that point.
    time.sleep(choice.random() / 1000)
    os.kill(child, signal.SIGKILL)
    while more := os.read(reader, 1 << 16):
        data += more
    os.close(reader)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, "the writer ended by itself"
    for number, serial in ACKNOWLEDGED.iter_unpack(data):
        serials[number] = serial


def check_values(store, serials):
    """Every acknowledged value is there and whole, or the one after it; `serials` are those that are there."""
    for number, key in enumerate(KEYS):
        value = store.get(key)
        if value is None:
            assert serials[number] == 0, f"an acknowledged write of {key} is lost"
            continue
        found = read_serial(bytes(value), number)
        assert found in (serials[number], serials[number] + 1), f"{key}: {serials[number]} acknowledged, {found} there"
        serials[number] = found
    assert set(store.list_prefix()) <= set(KEYS), "a leftover is listed as a key"
    assert set(store.list_dir()) <= {"zarr.json", "c/"}, "a leftover is listed"


def kills(recipe, n):
    store = pickle.loads(Path(recipe).read_bytes())
    choice = random.Random(17)
    serials = [0] * len(KEYS)
    for _ in range(int(n)):
        kill_one_writer(store, serials, choice)
        check_values(store, serials)
        # Every second time the next writer meets what is left.
        if choice.random() < 0.5:
            store.repair()
            check_values(store, serials)
    store.delete_prefix("")
    assert list(store.list_prefix()) == []
    print(f"{n} writers killed, {sum(serials)} writes, none lost")


if __name__ == "__main__":
    kills(*sys.argv[1:])
