"""`MnesiaStore` while writers and nodes are killed, while many write one key, and after forks."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from servers import erlang

import zarrcy
from zarrcy.errors import StoreError
from zarrcy.stores.mnesia import MnesiaStore

SCRIPT = Path(__file__).with_name("mnesia_writers.py")


def run(*arguments):
    """Runs the script; its assertions are this test's."""
    node = erlang.server()[0]
    environment = os.environ | {"PYTHONPATH": str(Path(zarrcy.__file__).parents[1])}
    command = [sys.executable, str(SCRIPT), arguments[0], node.name, f"crashes_{arguments[0]}"]
    command += map(str, arguments[1:])
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("n", [200, pytest.param(2000, marks=pytest.mark.long)])
def test_a_killed_writer_leaves_whole_values_and_every_acknowledged_write(n):
    n_unacknowledged = int(run("kills", n))
    assert n_unacknowledged > 0  # else no writer was killed in the middle of a write


# A restart of a node costs about a second: 200 of them are the long version.
@pytest.mark.parametrize("n", [12, pytest.param(200, marks=pytest.mark.long)])
def test_a_killed_node_has_every_acknowledged_write_when_it_is_back(n):
    node = erlang.Node()
    node.start_mnesia()
    store = MnesiaStore("a", node.name)
    store.prepare()
    choice = random.Random(3)
    acknowledged = {}
    serials = itertools.count(1)
    try:
        for _ in range(n):
            writers = [
                threading.Thread(target=write_until_killed, args=(store, k, serials, acknowledged)) for k in "abc"
            ]
            for writer in writers:
                writer.start()
            time.sleep(0.02 + choice.random() / 20)
            node.kill()
            for writer in writers:
                writer.join()
            node.restart()
            for key, serial in acknowledged.items():
                value = store.get(key)
                assert value is not None, f"an acknowledged write of {key} is lost"
                found = int(value[:10])
                assert value == make_value(found) and found >= serial, f"{key}: {serial} acknowledged, {found} there"
        assert len(acknowledged) == 3
    finally:
        node.stop()


def make_value(serial):
    return b"%010d" % serial * (1 + serial % 50)


def write_until_killed(store, key, serials, acknowledged):
    try:
        while True:
            serial = next(serials)
            # As a partial write of a chunk does: read, compare, swap.
            store.update(key, lambda _, serial=serial: make_value(serial))
            acknowledged[key] = serial
    except StoreError:
        pass


@pytest.mark.parametrize("n", [50, pytest.param(500, marks=pytest.mark.long)])
def test_16_processes_and_32_threads_increment_one_number_and_lose_nothing(n):
    assert f"{48 * n} increments, none lost" in run("increments", 16, 32, n)


@pytest.mark.parametrize("n", [30, pytest.param(100, marks=pytest.mark.long)])
def test_forked_children_work_while_other_threads_write(n):
    assert f"{n} forks" in run("forks", n)
