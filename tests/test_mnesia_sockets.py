"""How `MnesiaStore` finds and reaches a node: epmd, sockets, timeouts, many open files."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import threading
import time

import pytest
from child_scripts import run_script
from servers import erlang

from zarrcy.errors import UnavailableError
from zarrcy.stores import epmd
from zarrcy.stores.ei import Connection, EiError
from zarrcy.stores.mnesia import MnesiaStore

PATIENCE = 0.5  # seconds that a connection waits here


@pytest.fixture(scope="module")
def node():
    return erlang.server()[0]


@contextlib.contextmanager
def listening(answer):
    """A server on this machine: `answer` is called with each connection. Gives its port, and the connections."""
    connections = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    connections.append(connection)
                    with contextlib.suppress(OSError):
                        answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1], connections
        finally:
            for connection in connections:
                connection.close()
            server.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            assert not thread.is_alive()


@contextlib.contextmanager
def an_epmd(monkeypatch, answer):
    """An epmd that gives that answer, and keeps the connection open."""

    def respond(connection):
        connection.recv(100)
        connection.sendall(answer)

    with listening(respond) as (port, _):
        monkeypatch.setenv("ERL_EPMD_PORT", str(port))
        yield


def sockets(node):
    """The descriptors of this process that are connected with a node, or with epmd.

    Others are not looked at: threads of the clients of earlier tests open and close them meanwhile.
    """
    ports = {int(epmd.port()), epmd.find_node(node.name, 5)[1]}
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # closed meanwhile, or connected with nobody
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            with socket.socket(fileno=os.dup(int(name))) as same:
                if same.family == socket.AF_INET and same.getpeername()[1] in ports:
                    found.add(int(name))
    return found


def connect(timeout=PATIENCE):
    return Connection("n@127.0.0.1", b"cookie", "localhost", "sockets", timeout)


# ---- many open files


def test_a_process_with_more_open_files_than_select_can_wait_for_uses_mnesia(node):
    run_script("mnesia_many_files.py", node.name, "many")


def test_a_limit_that_was_raised_after_the_first_connection_is_an_error_that_says_so(node):
    run_script("mnesia_many_files.py", node.name, "late")


def test_the_socket_sends_at_once_and_is_inherited_by_nobody(node):
    before = sockets(node)
    connection = Connection(node.name, node.cluster.cookie.encode(), "localhost", "options", 5)
    descriptors = list(sockets(node) - before)
    assert len(descriptors) == 1  # epmd's is closed
    assert not os.get_inheritable(descriptors[0]) and os.get_blocking(descriptors[0])
    with socket.socket(fileno=os.dup(descriptors[0])) as same:
        assert same.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert same.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    connection.close()
    assert sockets(node) == before


# ---- epmd


@pytest.mark.parametrize("answer", [b"", b"w", b"w\0", b"w\0\1", b"v\0\0\1", b"\0" * 100], ids=repr)
def test_an_epmd_that_is_none_is_named(monkeypatch, answer):
    def hang_up(connection):
        connection.recv(100)
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_RDWR)

    with listening(hang_up) as (port, _):
        monkeypatch.setenv("ERL_EPMD_PORT", str(port))
        with pytest.raises(UnavailableError, match=rf"epmd on 127\.0\.0\.1:{port}") as caught:
            MnesiaStore("a", "n@127.0.0.1", cookie="c").get("a")
    assert caught.value.code == "no_epmd"


@pytest.mark.parametrize("answer", [b"", b"w", b"w\0\1"], ids=repr)
def test_an_epmd_that_does_not_finish_its_answer_is_waited_for_as_long_as_was_said(monkeypatch, answer):
    began = time.monotonic()
    with an_epmd(monkeypatch, answer), pytest.raises(EiError) as caught:
        connect()
    assert caught.value.errno == errno.ETIMEDOUT
    assert PATIENCE <= time.monotonic() - began < 10 * PATIENCE


def test_a_node_that_epmd_does_not_know_is_no_node(monkeypatch):
    with an_epmd(monkeypatch, b"w\1"), pytest.raises(UnavailableError) as caught:
        MnesiaStore("a", "n@127.0.0.1", cookie="c").get("a")
    assert caught.value.code == "no_node"


@pytest.mark.parametrize("port", ["0", "70000", "-1", "x"])
def test_a_port_of_epmd_that_is_none_is_an_error_of_the_store(monkeypatch, port):
    monkeypatch.setenv("ERL_EPMD_PORT", port)
    with pytest.raises(UnavailableError, match=rf"127\.0\.0\.1:{port}") as caught:
        MnesiaStore("a", "n@127.0.0.1", cookie="c").get("a")
    assert caught.value.code == "no_epmd"


# ---- nodes


def test_a_port_where_no_node_listens_is_a_refused_connection(monkeypatch):
    answer = b"w\0" + erlang.free_port().to_bytes(2, "big")
    with an_epmd(monkeypatch, answer), pytest.raises(UnavailableError) as caught:
        MnesiaStore("a", "n@127.0.0.1", cookie="c").get("a")
    assert caught.value.code == "econnrefused"


def say_nothing(connection):
    pass


def drip(connection):
    """A packet of 1,000 bytes, one after the other: each read gets something in time, and no whole packet."""
    connection.sendall((1000).to_bytes(2, "big"))
    while True:
        connection.sendall(b"s")
        time.sleep(0.02)


@pytest.mark.parametrize("answer", [say_nothing, drip])
def test_a_node_that_never_ends_its_greeting_is_waited_for_as_long_as_was_said(monkeypatch, answer):
    with listening(answer) as (port, connections), an_epmd(monkeypatch, b"w\0" + port.to_bytes(2, "big")):
        began = time.monotonic()
        with pytest.raises(EiError) as caught:
            connect()
        assert caught.value.errno == errno.ETIMEDOUT
        assert PATIENCE / 2 < time.monotonic() - began < 10 * PATIENCE
        store = MnesiaStore("a", "n@127.0.0.1", cookie="c")
        with pytest.raises(UnavailableError) as caught:
            store._nodes.connect("n@127.0.0.1", PATIENCE)
        assert caught.value.code == "etimedout"
        assert len(connections) <= 2  # nobody waits twice for one answer
