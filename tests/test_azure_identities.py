"""`AzureBlobStore` with tokens of identities, over TLS: azure-identity itself, and an endpoint that gives it tokens."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import servers.azure
from servers.azure import ACCOUNT, CONTAINER
from servers.scripted import Answer, Request, Scripted

import zarrcy
from zarrcy.errors import PermissionDeniedError, UnavailableError
from zarrcy.stores.azure import AzureBlobStore
from zarrcy.stores.retry import Retry

ENGINE: dict[str, Any] = {}


@pytest.fixture(params=[None, "obstore"], autouse=True)
def both_engines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stores of the test are of one engine, and then of the other."""
    monkeypatch.setitem(ENGINE, "engine", request.param)


class Tokens:
    """A credential of azure-identity, as far as clients use it."""

    def __init__(self, **claims: Any) -> None:
        self.claims = claims
        self.scopes: list[str] = []

    def get_token(self, *scopes: str, **options: Any) -> Any:
        from azure.core.credentials import AccessToken

        self.scopes += scopes
        return AccessToken(servers.azure.token(**self.claims), int(time.time() + 3600))


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> str:
    server = servers.azure.secure_server()
    for name in ("ACCOUNT", "KEY", "SAS_TOKEN", "CONNECTION_STRING"):
        monkeypatch.delenv(f"AZURE_STORAGE_{name}", raising=False)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.authority))
    return server.endpoint()


def store_at(endpoint: str, tmp_path: Path, **options: Any) -> AzureBlobStore:
    options = {"prefix": tmp_path.as_posix().strip("/"), "retry": Retry(deadline=0), **ENGINE, **options}
    return AzureBlobStore(ACCOUNT, container=CONTAINER, endpoint=endpoint, **options)


@pytest.fixture
def identity_endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    """What App Service has for programs that ask for the token of its identity."""

    def answer(request: Request) -> Answer:
        if request.headers["X-IDENTITY-HEADER"] != "canary of a header":
            return Answer(401, {"Content-Type": "application/json"}, b'{"error": "unauthorized"}')
        body = {
            "access_token": servers.azure.token(),
            "expires_on": str(int(time.time() + 3600)),
            "token_type": "Bearer",
        }
        return Answer(200, {"Content-Type": "application/json"}, json.dumps(body).encode())

    with Scripted(answer) as server:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{server.url}/token")
        monkeypatch.setenv("IDENTITY_HEADER", "canary of a header")
        yield server


def test_an_array_is_kept_with_the_token_of_a_credential(endpoint: str, tmp_path: Path) -> None:
    tokens = Tokens()
    with store_at(endpoint, tmp_path, credential=tokens) as store:
        array = zarrcy.create_array(store, shape=4, chunks=2, dtype="int8")
        array[:] = 3
        assert zarrcy.open_array(store)[:].tolist() == [3] * 4
        store.delete_prefix("")
        assert list(store.list_prefix()) == []
    assert tokens.scopes == ["https://storage.azure.com/.default"]
    with store_at(endpoint, tmp_path, credential=lambda: tokens) as store:
        assert store.get("k") is None


@pytest.mark.parametrize("claims", [{"seconds": -3600}, {"audience": "https://vault.azure.net"}])
def test_a_token_that_azure_refuses_is_an_invalid_credential(endpoint: str, tmp_path: Path, claims: Any) -> None:
    with store_at(endpoint, tmp_path, credential=Tokens(**claims)) as store:
        for call in (lambda: store.get("k"), lambda: store.set("k", b"1"), lambda: list(store.list_prefix())):
            with pytest.raises(PermissionDeniedError) as caught:
                call()
            assert caught.value.code == "invalid_credential" and "Storage Blob Data" in caught.value.hint
            assert servers.azure.token(**claims)[:40] not in "".join(traceback.format_exception(caught.value))


def test_the_managed_identity_is_asked_once_for_its_token(
    endpoint: str, tmp_path: Path, identity_endpoint: Scripted
) -> None:
    with store_at(endpoint, tmp_path, use_managed_identity=True) as store:
        store.set_many((f"c/{i}", b"1") for i in range(20))
        assert "use_managed_identity=True" in repr(store)
    assert len(identity_endpoint.requests) == 1
    assert "storage.azure.com" in identity_endpoint.requests[0].path


def test_without_a_credential_azure_identity_finds_one(
    endpoint: str, tmp_path: Path, identity_endpoint: Scripted
) -> None:
    with store_at(endpoint, tmp_path) as store:
        store.set("k", b"1")
        assert store.get("k") == b"1"


def test_an_identity_that_cannot_be_had_is_no_credentials_and_the_variables_are_named(
    endpoint: str, tmp_path: Path, identity_endpoint: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IDENTITY_HEADER", "another")
    with (
        store_at(endpoint, tmp_path, use_managed_identity=True) as store,
        pytest.raises(PermissionDeniedError) as caught,
    ):
        store.get("k")
    assert "AZURE_STORAGE_KEY" in caught.value.hint


def test_a_certificate_that_is_not_trusted_is_an_error_that_says_so(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with (
        store_at(endpoint, tmp_path, account_key=servers.azure.KEY) as store,
        pytest.raises(UnavailableError) as caught,
    ):
        store.get("k")
    assert caught.value.code == "certificate"


def test_a_credential_that_fails_is_permission_denied_without_its_words(endpoint: str, tmp_path: Path) -> None:
    class Failing(Tokens):
        def get_token(self, *scopes: str, **options: Any) -> Any:
            raise RuntimeError("canary")

    with store_at(endpoint, tmp_path, credential=Failing()) as store, pytest.raises(PermissionDeniedError) as caught:
        store.get("k")
    assert caught.value.code == "credential_failed"
    assert "canary" not in "".join(traceback.format_exception(caught.value))
