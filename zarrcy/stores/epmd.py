"""The port of an Erlang node, as epmd of its host knows it
(https://www.erlang.org/doc/apps/erts/erl_dist_protocol#epmd-protocol)."""

from __future__ import annotations

import os
import socket
import time

__all__ = ["find_node", "port"]

PORT = "4369"
REQUEST, RESPONSE = 122, 119


def port() -> str:
    """Where epmd listens: ``ERL_EPMD_PORT``, or the usual one."""
    return os.environ.get("ERL_EPMD_PORT") or PORT


def find_node(node: str, timeout: float) -> tuple[str, int] | None:
    """Where a node listens.

    Parameters
    ----------
    node : str
        Its name, ``name@host``.
    timeout : float
        Seconds to wait, in all.

    Returns
    -------
    tuple of str and int, or None
        The IPv4 address and the port; ``None`` when epmd knows no such node.

    Raises
    ------
    OSError
        There is no such host, or no epmd there that answers in time.
    """
    deadline = time.monotonic() + timeout
    alive, _, host = node.partition("@")
    with _connected(host, deadline) as connection:
        name = alive.encode()
        connection.sendall((1 + len(name)).to_bytes(2, "big") + bytes([REQUEST]) + name)
        answer = b""
        while len(answer) < 4 and answer[1:2] in (b"", b"\0"):
            connection.settimeout(_left(deadline))
            part = connection.recv(4 - len(answer))
            if not part:
                break
            answer += part
        if len(answer) < 2 or answer[0] != RESPONSE:
            raise ConnectionError(f"expected an answer of epmd, got {answer!r}")
        if answer[1] != 0:
            return None
        if len(answer) < 4:
            raise ConnectionError("expected a port, got the end of the answer")
        address: str = connection.getpeername()[0]
        return address, int.from_bytes(answer[2:4], "big")


def _connected(host: str, deadline: float) -> socket.socket:
    """A connection to epmd, over IPv4, as libei connects to the node."""
    failure = OSError(f"no address of {host!r}")
    for address in _addresses(host):
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            connection.settimeout(_left(deadline))
            connection.connect((address, int(port())))
        except (OSError, OverflowError, ValueError) as error:  # the last two: that is no port
            connection.close()
            failure = error if isinstance(error, OSError) else OSError(str(error))
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise failure


def _addresses(host: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(f"{host!r} is no name of a host") from error
    except OSError:
        # A machine without a network may not know itself by its name.
        if host != socket.gethostname().partition(".")[0]:
            raise
        return ["127.0.0.1"]
    return [str(each[4][0]) for each in found]


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left
