"""`AzureBlobStore` on Azurite: options, URLs, layouts, credentials, and the requests that are made."""

from __future__ import annotations

import pickle
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import servers.azure
from servers.azure import ACCOUNT, CONTAINER, KEY
from servers.scripted import Request, Scripted, forward

import zarrcy
from zarrcy.errors import ConflictError, PermissionDeniedError, StoreError
from zarrcy.stores import azure_client, azure_credentials
from zarrcy.stores.azure import AzureBlobStore
from zarrcy.stores.azure_credentials import Credential, Source, TokenCache, credential_of
from zarrcy.stores.retry import Retry

VARIABLES = ["ACCOUNT", "KEY", "SAS_TOKEN", "CONNECTION_STRING"]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    servers.azure.server()
    for name in VARIABLES:
        monkeypatch.delenv(f"AZURE_STORAGE_{name}", raising=False)


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    return tmp_path.as_posix().strip("/")


ENGINE: dict[str, Any] = {}


@pytest.fixture(params=[None, "obstore"])
def both_engines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stores of the test are of one engine, and then of the other."""
    monkeypatch.setitem(ENGINE, "engine", request.param)


def opened(prefix: str, **options: Any) -> AzureBlobStore:
    given = {"account_key", "sas_token", "credential"} & set(options)
    options = {"endpoint": servers.azure.server().endpoint(), **({} if given else {"account_key": KEY}), **options}
    return AzureBlobStore(ACCOUNT, container=CONTAINER, prefix=prefix, **{**ENGINE, **options})


@pytest.fixture
def store(prefix: str) -> Iterator[AzureBlobStore]:
    with opened(prefix) as store:
        yield store


def names(prefix: str) -> list[str]:
    """What Azure's own client lists below a prefix."""
    container = servers.azure.server().plain_client().get_container_client(CONTAINER)
    return sorted(blob.name.removeprefix(prefix + "/") for blob in container.list_blobs(name_starts_with=prefix + "/"))


# ---- options, URLs, variables


def test_an_array_is_made_by_name_and_opened_by_url(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = servers.azure.server().endpoint()
    options = {"account_name": ACCOUNT, "account_key": KEY, "container": CONTAINER, "endpoint": endpoint}
    made = zarrcy.create(shape=(4, 4), chunks=(2, 2), dtype="float64", storage="azure_blob", prefix=prefix, **options)
    made[...] = np.arange(16).reshape(4, 4)
    text = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={endpoint};"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
    assert (zarrcy.open(f"az://{ACCOUNT}/{CONTAINER}/{prefix}")[...] == np.arange(16).reshape(4, 4)).all()
    assert zarrcy.stores.open(f"az://{ACCOUNT}/{CONTAINER}/{prefix}").url == f"az://{ACCOUNT}/{CONTAINER}/{prefix}"


def test_the_url_of_any_prefix_opens_the_same_store() -> None:
    for prefix in ("", "lab", "lab/größe 100%", "a?b#c", "%41"):
        store = AzureBlobStore("account", container="data", prefix=prefix)
        assert AzureBlobStore.from_url(store.url) == store


def test_the_endpoint_is_that_of_the_account_unless_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    store = AzureBlobStore("account", container="data")
    assert store.endpoint == "https://account.blob.core.windows.net"
    assert store.options() == {"account_name": "account", "container": "data"}
    china = "https://account.blob.core.chinacloudapi.cn"
    assert AzureBlobStore("account", container="data", endpoint=china + "/").options()["endpoint"] == china
    text = "AccountName=account;AccountKey=c2VjcmV0;EndpointSuffix=core.chinacloudapi.cn"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
    assert AzureBlobStore(container="data").endpoint == china


@pytest.mark.parametrize(
    "options",
    [
        {"container": "Upper"},
        {"container": "a/b"},
        {"account_name": "host.example/"},
        {"prefix": "a//b"},
        {"prefix": "a/../b"},
        {"endpoint": "ftp://host"},
        {"access_tier": "Archive"},
        {"max_concurrency": 0},
    ],
)
def test_options_that_make_no_sense_are_refused(options: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        AzureBlobStore(**{"account_name": "account", "container": "data", **options})


def test_without_an_account_the_error_names_the_option_and_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match="account_name") as caught:
        AzureBlobStore(container="data")
    assert caught.value.code == "no_account" and "AZURE_STORAGE_ACCOUNT" in caught.value.hint
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "account")
    assert AzureBlobStore(container="data").account_name == "account"


def test_variables_are_looked_at_whenever_a_store_connects(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = servers.azure.server().endpoint()
    again = AzureBlobStore(ACCOUNT, container=CONTAINER, prefix=prefix, endpoint=endpoint)
    monkeypatch.setenv("AZURE_STORAGE_KEY", KEY[:-8] + "AAAAAA==")
    with again, pytest.raises(PermissionDeniedError):
        again.get("k")
    for name, value in {"KEY": KEY, "SAS_TOKEN": servers.azure.server().sas_token("rl")}.items():
        monkeypatch.delenv("AZURE_STORAGE_KEY", raising=False)
        monkeypatch.setenv(f"AZURE_STORAGE_{name}", value)
        with again:
            assert again.get("k") is None


def test_variables_of_another_account_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "other")
    monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", f"AccountName=third;AccountKey={KEY}")
    assert azure_credentials.Environment("account").credential is None
    assert azure_credentials.Environment("other").credential is not None
    assert azure_credentials.Environment("third").credential is not None


def test_a_connection_string_that_cannot_be_read_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("canary", "AccountKey=canary", "AccountName=a;AccountKey"):
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
        with pytest.raises(StoreError) as caught:
            AzureBlobStore("account", container="data")
        assert caught.value.code == "bad_connection_string" and "canary" not in str(caught.value)


@pytest.mark.usefixtures("both_engines")
def test_another_process_takes_the_key_from_the_variables(store: AzureBlobStore, monkeypatch: Any) -> None:
    store.set("k", b"1")
    again = pickle.loads(pickle.dumps(store))
    assert again == store and KEY not in repr(vars(again))
    monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)
    with again:
        assert again.get("k") == b"1"


@pytest.mark.usefixtures("both_engines")
def test_without_any_credential_http_is_refused_and_the_variables_are_named(prefix: str) -> None:
    endpoint = servers.azure.server().endpoint()
    options = {"container": CONTAINER, "endpoint": endpoint, **ENGINE}
    store = AzureBlobStore(ACCOUNT, **options)
    for each in (store, AzureBlobStore(ACCOUNT, **options, use_managed_identity=True)):
        with each, pytest.raises(StoreError, match="https") as caught:
            each.get("k")
        assert "AZURE_STORAGE_KEY" in caught.value.hint


# ---- layouts, tiers, values


def test_the_keys_of_an_array_are_those_of_the_guide(prefix: str, store: AzureBlobStore) -> None:
    for zarr_format, expected in ((2, [".zarray", ".zattrs", "0.0", "0.1"]), (3, ["c/0/0", "c/0/1", "zarr.json"])):
        path = f"v{zarr_format}"
        array = zarrcy.create_array(
            store, path, shape=(10, 20), chunks=(10, 10), dtype="float64", attributes={"a": 1}, zarr_format=zarr_format
        )
        array[...] = 1.5
        assert names(f"{prefix}/{path}") == expected


@pytest.mark.usefixtures("both_engines")
@pytest.mark.parametrize("tier", ["Hot", "Cool", None])
def test_blobs_get_the_tier_that_was_asked_for(prefix: str, tier: str | None) -> None:
    with opened(prefix, access_tier=tier) as store:
        store.set("k", b"1")
    properties = servers.azure.server().plain_client().get_blob_client(CONTAINER, f"{prefix}/k").get_blob_properties()
    assert properties.blob_tier == (tier or "Hot")


@pytest.mark.usefixtures("both_engines")
def test_other_clients_read_and_write_the_same_values(prefix: str, store: AzureBlobStore) -> None:
    client = servers.azure.server().plain_client().get_blob_client(CONTAINER, f"{prefix}/größe 100%+~a'(b)/k")
    store.set("größe 100%+~a'(b)/k", b"ours")
    assert client.download_blob().readall() == b"ours"
    client.upload_blob(b"theirs", overwrite=True)
    assert store.get("größe 100%+~a'(b)/k") == b"theirs"


def test_a_listing_is_read_as_a_parser_would_read_it(store: AzureBlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[bytes] = []
    read = azure_client._page
    monkeypatch.setattr(azure_client, "_page", lambda text: (texts.append(text), read(text))[1])
    keys = {
        "a&b",
        "a<b>c",
        "&amp;",
        "&copy",
        "\"q\" 'r'",
        "größe",
        "c/0/0",
        "c/0/1",
        "]]>",
        "<Name>",
        "%41",
        "a;b&#65;",
    }
    store.set_many((key, b"1") for key in keys)
    assert set(store.list_prefix()) == keys
    assert set(store.list_dir()) == {key.partition("/")[0] + "/" * ("/" in key) for key in keys}
    assert len(texts) == 2
    for text in (*texts, texts[0].replace(b"<NextMarker/>", b"<NextMarker>a&amp;b</NextMarker>")):
        assert read(text) == azure_client._parsed(text)
    for text in (texts[0][:-5], b"", b"<html></html>", texts[0].replace(b"<Blobs>", b"<Blobs><Blob></Blob>")):
        assert read(text) is None


@pytest.mark.usefixtures("both_engines")
def test_long_values_come_whole_and_in_parts(store: AzureBlobStore) -> None:
    value = np.random.default_rng(1).bytes((5 << 20) + 3)
    store.set("long", memoryview(value))
    assert store.get("long") == value
    for part in (slice(1, 5 << 20), slice(-(5 << 20), None), slice(3 << 20, None), slice(1 << 22, (1 << 22) + 9)):
        assert store.get("long", part) == value[part]


# ---- credentials


@pytest.mark.usefixtures("both_engines")
def test_a_sas_token_does_what_it_permits_and_no_more(prefix: str, store: AzureBlobStore) -> None:
    store.set("k", b"1")
    for text in ("", "?"):
        with opened(prefix, sas_token=text + servers.azure.server().sas_token("rl")) as reader:
            assert reader.get("k") == b"1" and list(reader.list_prefix()) == ["k"]
            for call in (lambda: reader.set("k", b"2"), lambda: reader.delete("k"), lambda: reader.delete_prefix("")):
                with pytest.raises(PermissionDeniedError) as caught:
                    call()
                assert caught.value.code == "missing_permission" and "rwdl" in caught.value.hint
    assert store.get("k") == b"1"


@pytest.mark.usefixtures("both_engines")
def test_the_permissions_of_the_docs_are_enough(prefix: str) -> None:
    with opened(prefix, sas_token=servers.azure.server().sas_token("rwdl")) as store:
        array = zarrcy.create_array(store, shape=4, chunks=2, dtype="int8")
        array[:] = 1
        array[1:3] = 2
        store.set_if("k", b"1", None)
        assert array[:].tolist() == [1, 2, 2, 1]
        store.delete_prefix("")
        assert list(store.list_prefix()) == []


@pytest.mark.usefixtures("both_engines")
def test_an_expired_sas_token_is_permission_denied_and_never_an_absent_key(prefix: str) -> None:
    with opened(prefix, sas_token=servers.azure.server().sas_token("racwdl", seconds=-60)) as store:
        for call in (lambda: store.get("k"), lambda: store.exists("k"), lambda: list(store.list_prefix())):
            with pytest.raises(PermissionDeniedError) as caught:
                call()
            assert caught.value.code == "invalid_sas_token" and "expired" in caught.value.hint


@pytest.mark.usefixtures("both_engines")
def test_a_callable_is_asked_again_before_its_token_ends(prefix: str) -> None:
    given: list[str] = []

    def token() -> str:
        given.append(servers.azure.server().sas_token("rl", seconds=2.5 if len(given) < 2 else 3600))
        return given[-1]

    with opened(prefix, credential=token) as store:
        for _ in range(3):
            assert store.get("k") is None
        assert len(given) == 1
        deadline = time.monotonic() + 6
        while len(given) < 3 and time.monotonic() < deadline:
            assert store.get("k") is None  # no refusal is seen
            time.sleep(0.05)
    assert len(given) == 3


def test_of_32_threads_one_asks_for_a_new_token() -> None:
    calls = []

    def token() -> str:
        calls.append(threading.get_ident())
        time.sleep(0.05)
        return "sv=1&sig=x&se=2100-01-01T00:00:00Z"

    source = Source(None, token)
    found: list[Credential] = []
    threads = [threading.Thread(target=lambda: found.append(source.current())) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1 and len({id(each) for each in found}) == 1


def test_while_a_token_holds_nobody_waits_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    end = datetime.now(UTC) + timedelta(seconds=200)
    release, asked = threading.Event(), threading.Event()
    first = f"sv=1&sig=first&se={end:%Y-%m-%dT%H:%M:%SZ}"
    answers = iter([first, "sv=1&sig=second"])

    def token() -> str:
        value = next(answers)
        if value is not first:
            asked.set()
            release.wait(10)
        return value

    source = Source(None, token)
    old = source.current()
    later = time.time() + 150
    monkeypatch.setattr(azure_credentials.time, "time", lambda: later)
    refreshing = threading.Thread(target=source.current)
    refreshing.start()
    assert asked.wait(10)
    assert source.current() is old
    release.set()
    refreshing.join()
    assert "second" in source.current().value


@pytest.mark.usefixtures("both_engines")
def test_a_key_that_was_exchanged_is_asked_for_again_when_the_old_one_is_refused(prefix: str) -> None:
    keys = iter([KEY[:-8] + "AAAAAA==", KEY])
    with opened(prefix, credential=lambda: next(keys)) as store:
        assert store.get("k") is None


@pytest.mark.usefixtures("both_engines")
def test_a_callable_that_fails_or_returns_nonsense_is_permission_denied_without_its_words(prefix: str) -> None:
    def fails() -> str:
        raise RuntimeError("canary")

    for credential in (fails, lambda: 7):
        with opened(prefix, credential=credential) as store, pytest.raises(PermissionDeniedError) as caught:
            store.get("k")
        assert caught.value.code == "credential_failed" and "canary" not in str(caught.value)


@pytest.mark.usefixtures("both_engines")
def test_credentials_of_the_sdk_are_taken(prefix: str) -> None:
    from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential

    azurite = servers.azure.server()
    for credential in (AzureNamedKeyCredential(ACCOUNT, KEY), AzureSasCredential(azurite.sas_token("rl"))):
        with opened(prefix, credential=credential) as store:
            assert store.get("k") is None


class Tokens:
    """A credential of azure-identity, as far as clients use it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.calls = 0

    def get_token(self, *scopes: str, **options: Any) -> Any:
        from azure.core.credentials import AccessToken

        self.calls += 1
        time.sleep(0.02)
        return AccessToken("token", int(time.time() + self.seconds))


def test_of_32_threads_one_fetches_a_token_of_an_identity() -> None:
    tokens = Tokens(3600)
    cache = TokenCache(credential_of(tokens).value)
    threads = [threading.Thread(target=cache.get_token, args=("scope",)) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tokens.calls == 1
    cache.get_token("another scope")
    assert tokens.calls == 2


@pytest.mark.usefixtures("both_engines")
def test_stores_of_one_credential_share_a_client_and_others_do_not(prefix: str) -> None:
    with opened(prefix) as first, opened(f"{prefix}/b") as second, opened(prefix, sas_token="sv=1&sig=x") as third:
        assert first.client is second.client
        assert first.client is not third.client


# ---- requests


@pytest.fixture
def watched(prefix: str) -> Iterator[tuple[AzureBlobStore, Scripted]]:
    """A store, and a server between it and Azurite that writes down what it asks."""
    port = servers.azure.server().port
    with (
        Scripted(lambda request: forward(port, request)) as between,
        opened(prefix, endpoint=f"{between.url}/{ACCOUNT}") as store,
    ):
        yield store, between


def asked(between: Scripted) -> list[str]:
    found = [request.method for request in between.requests]
    between.requests.clear()
    return found


def test_opening_is_one_get_when_the_format_is_known_and_reading_n_chunks_is_n_gets(
    watched: tuple[AzureBlobStore, Scripted],
) -> None:
    store, between = watched
    zarrcy.create_array(store, shape=(8, 8), chunks=(2, 2), dtype="int16")[...] = 1
    asked(between)
    array = zarrcy.open_array(store, zarr_format=3)
    assert asked(between) == ["GET"]
    zarrcy.open_array(store)
    assert len(asked(between)) <= 2
    assert (array[...] == 1).all()
    assert asked(between) == ["GET"] * 16
    assert (array[2:6, 0:2] == 1).all()
    assert asked(between) == ["GET"] * 2
    array[0:2, 0:2] = 3
    assert asked(between) == ["PUT"]


def test_each_call_is_one_request(watched: tuple[AzureBlobStore, Scripted]) -> None:
    store, between = watched
    version = store.set_if("k", b"0123456789", None)
    between.requests.clear()
    for call, expected in (
        (lambda: store.get("k"), "GET"),
        (lambda: store.get("k", slice(2, 5)), "GET"),
        (lambda: store.get("k", slice(4, None)), "GET"),
        (lambda: store.get("absent"), "GET"),
        (lambda: store.get_with_version("k", if_version=version), "GET"),
        (lambda: store.size("k"), "HEAD"),
        (lambda: store.set("k", b"1"), "PUT"),
        (lambda: list(store.list_prefix()), "GET"),
        (lambda: store.set_many((f"c/{i}", b"1") for i in range(1)), "PUT"),
        (lambda: store.delete("k"), "DELETE"),
    ):
        call()
        assert asked(between) == [expected]
    # Azure has no ranges from the end: the length is asked for before.
    store.set("k", b"0123456789")
    asked(between)
    assert store.get("k", slice(-3, None)) == b"789"
    assert asked(between) == ["HEAD", "GET"]
    store.set_many((f"c/{i}", b"1") for i in range(300))
    asked(between)
    store.delete_prefix("c/")
    assert Counter(asked(between)) == {"GET": 1, "POST": 2}


# What docs/stores/azure.md says that is asked for, by the method and the query.
DOCUMENTED = {
    ("GET", ""): "Get Blob",
    ("HEAD", ""): "Get Blob Properties",
    ("PUT", ""): "Put Blob",
    ("DELETE", ""): "Delete Blob",
    ("GET", "restype=container&comp=list"): "List Blobs",
    ("POST", "restype=container&comp=batch"): "Blob Batch",
}


def kind_of(request: Request) -> tuple[str, str]:
    query = request.path.partition("?")[2]
    return request.method, "&".join(part for part in query.split("&") if part.startswith(("restype=", "comp=")))


def test_only_the_requests_of_the_docs_are_made(watched: tuple[AzureBlobStore, Scripted]) -> None:
    store, between = watched
    root = zarrcy.create_group(store)
    array = root.create_array("a", shape=(8, 8), chunks=(2, 2), shards=(4, 4), dtype="int16")
    array[...] = 1
    array[1:3] = 2
    array.attrs["a"] = 1
    array.resize((4, 4))
    zarrcy.consolidate_metadata(store)
    assert zarrcy.open(store)["a"][...].shape == (4, 4)
    assert store.exists("zarr.json") and list(store.list_dir())
    store.update("k", lambda old: b"1")
    store.delete_prefix("")
    found = {kind_of(request) for request in between.requests}
    assert found == set(DOCUMENTED)
    text = (Path(__file__).parents[1] / "docs" / "stores" / "azure.md").read_text()
    assert set(re.findall(r"^\| `(.*?)` \|", text.partition("## Permissions")[2].partition("## ")[0], re.M)) == set(
        DOCUMENTED.values()
    )


@pytest.mark.usefixtures("both_engines")
def test_conditions_are_obeyed(store: AzureBlobStore) -> None:
    first = store.set_if("k", b"1", None)
    with pytest.raises(ConflictError):
        store.set_if("k", b"2", None)
    second = store.set_if("k", b"2", first)
    for call in (
        lambda: store.set_if("k", b"3", first),
        lambda: store.set_if("absent", b"3", first),
        lambda: store.get_with_version("k", if_version=first),
        lambda: store.get_with_version("absent", if_version=first),
        lambda: store.get_with_version("k", slice(-1, None), if_version=first),
        lambda: store.get_with_version("k", slice(5, 9), if_version=first),
    ):
        with pytest.raises(ConflictError):
            call()
    assert store.get_with_version("k", slice(-1, None), if_version=second) == (b"2", second)
    assert store.supports_cas


def test_a_store_that_gives_up_says_how_often_it_tried(prefix: str) -> None:
    with (
        opened(
            prefix, endpoint=f"http://127.0.0.1:1/{ACCOUNT}", retry=Retry(initial=0, longest=0, deadline=0.05)
        ) as store,
        pytest.raises(StoreError) as caught,
    ):
        store.get("k")
    assert any("Tried" in note for note in caught.value.__notes__)
