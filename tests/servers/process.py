"""A server as a child process that never outlives the tests."""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Process", "directory", "free_port", "need", "stop_all"]

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)
_running: list[Process] = []
_directories: list[tempfile.TemporaryDirectory[str]] = []


def _die_with_the_tests() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """A running server, its log in `directory`.

    Parameters
    ----------
    arguments : sequence of str
        The command.
    log : Path
        Where its output goes.
    env : mapping, optional
        What it sees beside the environment of the tests.
    """

    def __init__(self, arguments: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                list(arguments),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                preexec_fn=_die_with_the_tests,
            )
        _running.append(self)

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_until(self, is_ready: Callable[[], Any], timeout: float = 60) -> Process:
        """Wait until `is_ready` answers something true; what it raises counts as not ready."""
        deadline = time.monotonic() + timeout
        last: Exception | None = None
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}: {self.output()}")
            try:
                if is_ready():
                    return self
            except Exception as error:
                last = error
            time.sleep(0.02)
        self.stop(signal.SIGKILL)
        raise TimeoutError(f"the server was not ready after {timeout} s: {last!r}: {self.output()}")

    def output(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]

    def stop(self, with_signal: int = signal.SIGTERM, grace: float = 4) -> None:
        """End it and wait for its end; after `grace` seconds by SIGKILL."""
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
            try:
                self.process.wait(grace)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self in _running:
            _running.remove(self)


def stop_all() -> None:
    """End every server that still runs."""
    for process in reversed(_running[:]):
        process.stop(signal.SIGKILL)
    while _directories:
        _directories.pop().cleanup()


atexit.register(stop_all)


def directory(name: str) -> Path:
    """A new directory for a server, removed at the end of the tests."""
    place = tempfile.TemporaryDirectory(prefix=f"zarrcy-{name}-", ignore_cleanup_errors=True)
    _directories.append(place)
    return Path(place.name)


def free_port() -> int:
    """A port on loopback that nobody listens on at this moment."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def need(found: object, what: str) -> None:
    """Fail the test when a server is not installed."""
    if not found:
        pytest.fail(f"{what}: expected it installed; scripts/servers installs it")
