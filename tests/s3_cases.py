"""What the tests of S3 share: a store of the test's own on the real server, and surroundings without credentials."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import servers.s3

from zarrcy.stores.retry import Retry
from zarrcy.stores.s3 import S3Store

_numbers = itertools.count()


def new_store() -> S3Store:
    """A new, empty one."""
    return S3Store("arrays", prefix=f"test{next(_numbers)}", endpoint_url=servers.s3.server().endpoint)


def take_credentials_away(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """No credentials anywhere, and shared files in a directory, which the test writes."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(directory / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(directory / "config"))


def copy_of(store: S3Store, **options: object) -> S3Store:
    """The same storage with other options, asked once."""
    return S3Store(**{**store.options(), "retry": Retry(deadline=0), **options})
