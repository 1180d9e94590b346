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

from servers.certificates import Authority
from servers.process import Process, directory, free_port, need

__all__ = ["ACCOUNT", "CONTAINER", "KEY", "Azurite", "Secure", "secure_server", "server", "token"]

ACCOUNT = "testacct"
CONTAINER = "arrays"
# As long as a key of the cloud; tests look for it wherever it must not be.
KEY = base64.b64encode(secrets.token_bytes(64)).decode()

COLLECT_OFTEN = Path(__file__).parent / "azurite" / "collect_often.js"
INSTALLED = Path(__file__).resolve().parents[2] / ".cache" / "servers" / "azurite" / "node_modules" / "azurite"


class Azurite:
    """One emulator, with the account `ACCOUNT` and in it the container `CONTAINER`."""

    def __init__(self, *options: str) -> None:
        main = INSTALLED / "dist" / "src" / "blob" / "main.js"
        need(main.exists() and shutil.which("node"), "azurite, and node to run it")
        self.port = free_port()
        arguments = ["node", "--require", str(COLLECT_OFTEN), str(main), "--silent"]
        arguments += ["--blobHost", "127.0.0.1", "--blobPort", str(self.port)]
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


class Secure(Azurite):
    """One with TLS, which also takes tokens of identities: it looks at what they say, and not who signed them.

    Attributes
    ----------
    authority : Path
        Whom clients must trust.
    """

    def __init__(self) -> None:
        authority = Authority()
        self.authority = authority.path
        certificate = str(authority.certificate("IP:127.0.0.1"))
        super().__init__("--cert", certificate, "--key", certificate, "--oauth", "basic")

    def endpoint(self, port: int | None = None) -> str:
        return super().endpoint(port).replace("http:", "https:")

    def plain_client(self) -> Any:
        from azure.storage.blob import BlobServiceClient

        credential = {"account_name": ACCOUNT, "account_key": KEY}
        verify = str(self.authority)
        return BlobServiceClient(self.endpoint(), credential=credential, retry_total=0, connection_verify=verify)


def token(*, seconds: float = 3600, audience: str = "https://storage.azure.com") -> str:
    """A token of an identity, unsigned."""
    import json

    now = int(datetime.now(UTC).timestamp())
    claims = {"aud": audience, "iss": "https://sts.windows.net/tenant/", "iat": now - 7200, "nbf": now - 7200}
    parts = [{"typ": "JWT", "alg": "RS256"}, {**claims, "exp": int(now + seconds), "oid": "someone"}]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])


@functools.cache
def secure_server() -> Secure:
    """As `server`, with TLS and tokens."""
    return Secure()


@functools.cache
def server() -> Azurite:
    """An emulator, started on first use; the environment has the key of its account."""
    os.environ["AZURE_STORAGE_ACCOUNT"] = ACCOUNT
    os.environ["AZURE_STORAGE_KEY"] = KEY
    return Azurite()
