"""A process with 1,100 open files uses Mnesia, and one whose limit was raised late is told of it. Run by
test_mnesia_sockets.py: without zarrcy's sockets for libei it crashes.

    python mnesia_many_files.py NODE many|late
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import sys

import numpy as np

import zarrcy
from zarrcy.errors import PermissionDeniedError, UnavailableError
from zarrcy.stores.ei import Connection, EiError
from zarrcy.stores.mnesia import MnesiaStore

N_FILES = 1100
FIRST_BAD = 1024  # FD_SETSIZE


def allow(n_files: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert hard == resource.RLIM_INFINITY or hard >= n_files, f"ulimit -Hn is {hard}: expected at least {n_files}"
    resource.setrlimit(resource.RLIMIT_NOFILE, (n_files, hard))


def connect(node: str) -> Connection:
    cookie = os.environ["ZARRCY_MNESIA_COOKIE"].encode()
    return Connection(node, cookie, "localhost", f"files{os.getpid()}", 10)


def use(node: str) -> None:
    connection = connect(node)
    assert connection.call("erlang", "node", [], 10) == node
    assert connection.call("erlang", "byte_size", [bytes(3 << 20)], 10) == 3 << 20
    try:
        connection.call("timer", "sleep", [2000], 0.2)
    except EiError as error:
        assert (error.stage, error.errno) == ("receive", errno.ETIMEDOUT), error
    else:
        raise AssertionError("a call that takes too long did not time out")

    refused: dict[str, object] = {PermissionDeniedError: {"cookie": "wrong"}, UnavailableError: {"node": f"no{node}"}}
    for kind, options in refused.items():
        with contextlib.suppress(kind):
            MnesiaStore("many", **{"node": node, **options}).get("a")
            raise AssertionError(f"no {kind.__name__}")

    values = np.random.default_rng(7).integers(0, 1 << 60, (600, 1000))
    array = zarrcy.create(
        shape=values.shape,
        chunks=(100, 1000),
        dtype=values.dtype,
        storage="mnesia",
        node=node,
        array_id="many",
        overwrite=True,
    )
    array[...] = values
    opened = zarrcy.open(storage="mnesia", node=node, array_id="many", mode="r")
    assert (opened[...] == values).all()
    opened.store.close()
    array.store.close()


def main(node: str, how: str) -> None:
    if how == "late":
        allow(512)
        connect(node).close()
    allow(4096)
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(N_FILES)]
    assert max(files) >= FIRST_BAD
    if how == "many":
        use(node)
        return
    try:
        MnesiaStore("many", node).get("a")
    except UnavailableError as error:
        assert error.code == "emfile", error
    else:
        raise AssertionError("libei found room for a descriptor beyond the limit that it started with")


main(*sys.argv[1:])
