"""The plain clients that `stores.py` measures zarrcy against: each does what a program would do without zarrcy."""

from __future__ import annotations

import functools
import importlib
import os
import sys
import threading
import warnings
import zipfile
from pathlib import Path
from typing import Any, Protocol

from zarrcy.stores.erlang_terms import Atom, ExternalFun

__all__ = [
    "Archive",
    "Client",
    "Dict",
    "Files",
    "Libei",
    "erlang_node",
]


class Client(Protocol):
    """What a program would use without zarrcy. Any thread may call it."""

    def get(self, key: str) -> Any:
        """The value as something that NumPy reads."""

    def set(self, key: str, value: bytes) -> None:
        """Store a value as safely as the store does."""

    def close(self) -> None:
        """Give back what is open."""


class Files:
    """A directory with one file for each value, which is replaced by renaming."""

    def __init__(self, place: Path) -> None:
        self.place = place
        for prefix in ("v", "c"):
            (place / prefix).mkdir()

    def get(self, key: str) -> bytes:
        with open(f"{self.place}/{key}", "rb") as file:  # noqa: PTH123 - without the cost of pathlib
            return file.read()

    def set(self, key: str, value: bytes) -> None:
        path = f"{self.place}/{key}"
        temporary = f"{path}.{threading.get_ident()}"
        with open(temporary, "wb") as file:  # noqa: PTH123 - as above
            file.write(value)
        os.rename(temporary, path)  # noqa: PTH104 - as above

    def close(self) -> None:
        pass


class Dict:
    """A dict."""

    def __init__(self, place: Path) -> None:
        self.values: dict[str, bytes] = {}
        self.get = self.values.__getitem__
        self.set = self.values.__setitem__

    def close(self) -> None:
        pass


class Archive:
    """`zipfile`, which a lock shares among threads."""

    def __init__(self, place: Path) -> None:
        self.file = zipfile.ZipFile(place / "plain.zip", "w")
        self.lock = threading.Lock()

    def get(self, key: str) -> bytes:
        with self.lock:
            return self.file.read(key)

    def set(self, key: str, value: bytes) -> None:
        with self.lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a name that is written again
            self.file.writestr(key, value)

    def close(self) -> None:
        self.file.close()


class Libei:
    """Calls of Mnesia through OTP's C library, each followed by a flush of the log; a connection for each thread."""

    def __init__(self, place: Path) -> None:
        self.node = erlang_node()
        self.local = threading.local()

    def call(self, function: str, *arguments: Any) -> Any:
        from zarrcy.stores.ei import Connection

        if not hasattr(self.local, "connection"):
            cookie = self.node.cluster.cookie.encode()
            alive = f"plain{threading.get_ident()}"
            self.local.connection = Connection(self.node.name, cookie, "localhost", alive, 10)
        return self.local.connection.call("mnesia", function, list(arguments), 60)

    def get(self, key: str) -> bytes:
        return self.call("transaction", ExternalFun("mnesia", "read", 1), [(Atom("zarr_storage"), key.encode())])[1][0][
            2
        ]

    def set(self, key: str, value: bytes) -> None:
        record = (Atom("zarr_storage"), key.encode(), value)
        self.call("sync_transaction", ExternalFun("mnesia", "write", 1), [record])
        self.call("sync_log")

    def close(self) -> None:
        pass


@functools.cache
def erlang_node() -> Any:
    """A node of the tests' own making, with Mnesia."""
    return of_the_tests("erlang").server()[0]


def of_the_tests(server: str) -> Any:
    """The module of the tests that starts a server."""
    tests = str(Path(__file__).resolve().parent.parent / "tests")
    if tests not in sys.path:
        sys.path.append(tests)
    return importlib.import_module(f"servers.{server}")
