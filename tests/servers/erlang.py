"""Erlang nodes with Mnesia: an epmd of their own, a cookie of their own, and loopback only.

`server` starts two that run Mnesia. `Node` starts more of them, for tests that stop and kill.
"""

from __future__ import annotations

import functools
import itertools
import os
import secrets
import shutil
import signal
from pathlib import Path
from typing import Any

from servers.process import Process, directory, free_port, need
from zarrcy.stores.erlang_terms import Atom

__all__ = ["Cluster", "Node", "server"]

HOST = "127.0.0.1"
_numbers = itertools.count()


class Cluster:
    """What nodes share: the cookie, in a file that the owner alone may read, and the process that knows their ports."""

    def __init__(self) -> None:
        need(shutil.which("erl"), "erlang-base, erlang-mnesia")
        need(shutil.which("epmd"), "erlang-base")
        self.home = directory("erlang")
        self.cookie = secrets.token_hex(16)
        path = self.home / ".erlang.cookie"
        path.write_text(self.cookie)
        path.chmod(0o400)
        port = free_port()
        self.env = {
            "HOME": str(self.home),
            "ERL_EPMD_PORT": str(port),
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_CRASH_DUMP_SECONDS": "0",
        }
        self.epmd = Process(["epmd"], self.home / "epmd.log", self.env).wait_until(lambda: _listens(port))
        # What a user sets: libei reads the first, zarrcy the second.
        os.environ["ERL_EPMD_PORT"] = str(port)
        os.environ["ZARRCY_MNESIA_COOKIE"] = self.cookie


def _listens(port: int) -> bool:
    import socket

    with socket.create_connection((HOST, port), timeout=1):
        return True


@functools.cache
def cluster() -> Cluster:
    return Cluster()


class Node:
    """A node, started; Mnesia does not run yet.

    Parameters
    ----------
    name : str, optional
        The part of its name before the ``@``; by default a new one.
    """

    def __init__(self, name: str | None = None) -> None:
        self.cluster = cluster()
        self.alive = name or f"node{next(_numbers)}"
        self.name = f"{self.alive}@{HOST}"
        self.directory = Path(self.cluster.home) / self.alive
        self.process = self._start()

    def _start(self) -> Process:
        command = ["erl", "-noinput", "-name", self.name, "-start_epmd", "false"]
        command += ["-kernel", "inet_dist_use_interface", "{127,0,0,1}"]
        # Where it lies, and where it writes what it knows when it ends by an error: not beside the tests.
        command += ["-mnesia", "dir", f'"{self.directory}"', "core_dir", f'"{self.directory}"']
        log = self.cluster.home / f"{self.alive}.log"
        process = Process(command, log, self.cluster.env)
        self.process = process
        # A node answers before its applications have started.
        return process.wait_until(lambda: self.call("init", "get_status")[0] == "started")

    def call(self, module: str, function: str, *arguments: Any) -> Any:
        """``rpc:call`` of a function on this node, over a connection of its own."""
        from zarrcy.stores.ei import Connection

        connection = Connection(self.name, self.cluster.cookie.encode(), "localhost", f"test{secrets.token_hex(4)}", 5)
        try:
            return connection.call(module, function, list(arguments), 60)
        finally:
            connection.close()

    def evaluate(self, source: str, **bindings: Any) -> Any:
        """The value of Erlang expressions on this node."""
        ok, tokens, _ = self.call("erl_scan", "string", list(map(ord, source)))
        assert ok == "ok", tokens
        ok, expressions = self.call("erl_parse", "parse_exprs", tokens)
        assert ok == "ok", expressions
        names = [(Atom(name), value) for name, value in sorted(bindings.items())]
        answer = self.call("erl_eval", "exprs", expressions, names)
        assert answer[0] == "value", answer
        return answer[1]

    def start_mnesia(self, *, on_disc: bool = True) -> None:
        """Start Mnesia, alone, with its schema on disc."""
        if on_disc:
            self.call("mnesia", "create_schema", [Atom(self.name)])
        assert self.call("mnesia", "start") == "ok"

    def kill(self) -> None:
        """End it at once, as a loss of power would."""
        self.process.stop(signal.SIGKILL)

    def restart(self, *, mnesia: bool = True) -> None:
        """Start it again with what is on its disc."""
        self.process.stop(signal.SIGKILL)
        self.process = self._start()
        if mnesia:
            assert self.call("mnesia", "start") == "ok"

    def stop(self) -> None:
        self.process.stop(signal.SIGKILL)


@functools.cache
def server() -> tuple[Node, Node]:
    """Two nodes with Mnesia in one cluster, schema on disc, for all tests that leave them running."""
    first, second = Node("n0"), Node("n1")
    names = [Atom(first.name), Atom(second.name)]
    assert first.call("net_kernel", "connect_node", names[1]) is not None
    assert first.call("mnesia", "create_schema", names) == "ok"
    for node in (first, second):
        assert node.call("mnesia", "start") == "ok"
    return first, second
