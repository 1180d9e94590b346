"""Azure Blob Storage: Microsoft's emulator Azurite, in memory; it checks keys and signatures as the cloud does."""

from __future__ import annotations

import base64
import functools
import os
import secrets
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from servers.process import Process, directory, free_port, need

__all__ = ["ACCOUNT", "CONTAINER", "KEY", "Azurite", "server"]

ACCOUNT = "testacct"
CONTAINER = "arrays"
# As long as a key of the cloud; tests look for it wherever it must not be.
KEY = base64.b64encode(secrets.token_bytes(64)).decode()

INSTALLED = Path(__file__).resolve().parents[2] / ".cache" / "servers" / "azurite" / "node_modules" / "azurite"


class Azurite:
    """One emulator, with the account `ACCOUNT` and in it the container `CONTAINER`."""

    def __init__(self, *options: str) -> None:
        main = INSTALLED / "dist" / "src" / "blob" / "main.js"
        need(main.exists() and shutil.which("node"), "azurite, and node to run it")
        self.port = free_port()
        arguments = ["node", str(main), "--silent", "--blobHost", "127.0.0.1", "--blobPort", str(self.port)]
        # Without them it writes a database, refuses versions of the protocol newer than itself, and calls home.
        arguments += ["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", *options]
        log = directory("azurite") / "log"
        self.process = Process(arguments, log, {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"})
        self.process.wait_until(lambda: self.plain_client().get_account_information())
        self.plain_client().create_container(CONTAINER)

    def endpoint(self, port: int | None = None) -> str:
        """The URL of the account, by default at its own port."""
        return f"http://127.0.0.1:{port or self.port}/{ACCOUNT}"

    def plain_client(self) -> Any:
        """Azure's own client, with the account key."""
        from azure.storage.blob import BlobServiceClient

        credential = {"account_name": ACCOUNT, "account_key": KEY}
        return BlobServiceClient(self.endpoint(), credential=credential, retry_total=0)

    def sas_token(self, permissions: str, *, seconds: float = 3600) -> str:
        """A signature for the container that ends after that many seconds."""
        from azure.storage.blob import generate_container_sas

        expiry = datetime.now(UTC) + timedelta(seconds=seconds)
        return generate_container_sas(ACCOUNT, CONTAINER, KEY, permission=permissions, expiry=expiry)


@functools.cache
def server() -> Azurite:
    """An emulator, started on first use; the environment has the key of its account."""
    os.environ["AZURE_STORAGE_ACCOUNT"] = ACCOUNT
    os.environ["AZURE_STORAGE_KEY"] = KEY
    return Azurite()
