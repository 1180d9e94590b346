"""`AzureBlobStore`: values as block blobs of a container of Azure Blob Storage.

The requests are in `zarrcy.stores.azure_client`, the credentials in `zarrcy.stores.azure_credentials`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Hashable
from typing import Any
from urllib.parse import unquote, urlsplit

from zarrcy.errors import StoreError
from zarrcy.stores.azure_client import AzureClient
from zarrcy.stores.azure_credentials import EXTRA, Credential, Environment, Given, Source, credential_of
from zarrcy.stores.catalogue import require
from zarrcy.stores.object_client import ObjectClient
from zarrcy.stores.object_store import MAX_CONCURRENCY, ObjectStore
from zarrcy.stores.retry import Retry

__all__ = ["AzureBlobStore"]

TIERS = ("Hot", "Cool", "Cold")

_ACCOUNT = re.compile("[a-z0-9][a-z0-9-]{1,62}")
_CONTAINER = re.compile(r"[a-z0-9](?:-?[a-z0-9])+|\$root|\$web")
_ENDPOINT = re.compile(r"https?://[^/?#@\s]+(?:/[^?#@\s]*)?")


class AzureBlobStore(ObjectStore):
    """Values as blobs in a container, under ``PREFIX/KEY``.

    Needs ``pip install "zarrcy[azure]"``. Nothing is connected before the first use. Without an explicit credential
    the variables ``AZURE_STORAGE_CONNECTION_STRING``, ``AZURE_STORAGE_KEY`` and ``AZURE_STORAGE_SAS_TOKEN`` are looked
    at, then ``DefaultAzureCredential`` of azure-identity: environment, workload and managed identity, Azure CLI.

    Parameters
    ----------
    account_name : str, optional
        The storage account; by default ``AZURE_STORAGE_ACCOUNT``.
    container : str
        The container. It must exist.
    prefix : str, default ""
        What stands in front of every key: segments joined by ``"/"``.
    account_key : str, optional
        A key of the account.
    sas_token : str, optional
        A shared access signature.
    use_managed_identity : bool, default False
        Take the identity of the virtual machine or service; ``AZURE_CLIENT_ID`` names one of several.
    credential : object, optional
        A credential of azure-identity; or a callable without arguments that returns a key, a SAS token or a
        credential. It is called again before a SAS token ends, and when Azure refuses what it returned.
    endpoint : str, optional
        The URL of the account, by default ``https://ACCOUNT.blob.core.windows.net``; for the emulator
        ``http://127.0.0.1:10000/devstoreaccount1``.
    access_tier : {"Hot", "Cool", "Cold"}, optional
        Of the blobs that are written; by default that of the account.
    engine : {None, "obstore"}
        What reads and writes values: zarrcy's own client, or the package obstore (``pip install "zarrcy[obstore]"``),
        which the same credential is given to.
    retry : Retry, optional
        Pauses and deadline of repetitions; by default 0.1 to 10 seconds, 120 in all.
    max_concurrency : int, default 32
        Requests in flight at once.

    Raises
    ------
    StoreError
        No account is named (``code="no_account"``), or the connection string cannot be read.
    ValueError
        An option has no sense, or two of the credentials are given.

    Notes
    -----
    Secrets are in no pickle, ``repr``, message or `url`. Another process takes them from the variables.

    Examples
    --------
    >>> from zarrcy.stores.azure import AzureBlobStore
    >>> store = AzureBlobStore("mystorageaccount", container="zarr-data", prefix="lab", account_key="c2VjcmV0")
    >>> store
    AzureBlobStore(account_name='mystorageaccount', container='zarr-data', prefix='lab')
    >>> store.url
    'az://mystorageaccount/zarr-data/lab'
    """

    schemes = ("az",)
    priced_as = "azure_blob"

    kind = "Cloud"
    persistence = "Yes"
    scalability = "Distributed"
    latency = "High"
    use = "Azure"

    def __init__(
        self,
        account_name: str | None = None,
        *,
        container: str,
        prefix: str = "",
        account_key: str | None = None,
        sas_token: str | None = None,
        use_managed_identity: bool = False,
        credential: Any = None,
        endpoint: str | None = None,
        access_tier: str | None = None,
        engine: str | None = None,
        retry: Retry | None = None,
        max_concurrency: int = MAX_CONCURRENCY,
    ) -> None:
        # First of all out of the local names, which a traceback may show.
        given = Given({"account_key": account_key, "sas_token": sas_token, "credential": credential})
        address = Given(endpoint)
        account_key = sas_token = credential = endpoint = None
        super().__init__(prefix=prefix, retry=retry, max_concurrency=max_concurrency)
        self.use_managed_identity = use_managed_identity
        self._given = _only_one(given, use_managed_identity)
        environment = Environment(account_name)
        self.account_name = _checked("account_name", _ACCOUNT, account_name or environment.account)
        self.container = _checked("container", _CONTAINER, container)
        if access_tier is not None and access_tier not in TIERS:
            raise ValueError(
                f"access_tier: expected one of {', '.join(TIERS)}, got {access_tier!r}; archived blobs cannot be read"
            )
        self.access_tier = access_tier
        if engine not in (None, "obstore"):
            raise ValueError(f'engine: expected None or "obstore", got {engine!r}')
        self.engine = engine
        usual = f"https://{self.account_name}.blob.core.windows.net"
        self.endpoint = _endpoint(Given(address.value or environment.endpoint or usual))
        self._has_usual_endpoint = self.endpoint == usual
        self._source: Source | None = None

    @classmethod
    def from_url(cls, url: str, *, mode: str | None = None, **options: Any) -> AzureBlobStore:
        """The store of ``az://ACCOUNT/CONTAINER/PREFIX``, where %, ? and # of the prefix are written ``%XX``.

        Examples
        --------
        >>> from zarrcy.stores.azure import AzureBlobStore
        >>> AzureBlobStore.from_url("az://mystorageaccount/zarr-data/experiments/array1").prefix
        'experiments/array1'
        """
        parts = urlsplit(url)
        container, _, prefix = parts.path.lstrip("/").partition("/")
        if parts.query or parts.fragment or "@" in parts.netloc or not (parts.netloc and container):
            raise StoreError(
                "url: expected az://ACCOUNT/CONTAINER/PREFIX, got another text",
                code="bad_url",
                hint="Give secrets as options (sas_token=) or variables, and write %XX for % ? # in the prefix.",
            )
        return cls(parts.netloc, container=container, prefix=unquote(prefix), **options)

    @property
    def url(self) -> str:
        """The URL of the store, without secrets."""
        prefix = re.sub("[%?#]", lambda match: f"%{ord(match[0]):02X}", self.prefix)
        return f"az://{self.account_name}/{self.container}/{prefix}".rstrip("/")

    def options(self) -> dict[str, Any]:
        """The keyword arguments that open this storage again, in another process too. No secret is among them."""
        options: dict[str, Any] = {"account_name": self.account_name, "container": self.container, **super().options()}
        if self.use_managed_identity:
            options["use_managed_identity"] = True
        if not self._has_usual_endpoint:
            options["endpoint"] = self.endpoint
        for name in ("access_tier", "engine"):
            if getattr(self, name) is not None:
                options[name] = getattr(self, name)
        return options

    def _client_key(self) -> Hashable:
        source = self._source = self._resolve()
        place = self.account_name, self.container, self.endpoint
        return "azure_blob", self.engine, *place, self.access_tier, source.digest

    def _make_client(self) -> ObjectClient:
        assert self._source is not None
        own = AzureClient(self.account_name, self.container, self.endpoint, self._source, self.access_tier)
        if self.engine is None:
            return own
        from zarrcy.stores.azure_obstore import AzureObstoreClient

        return AzureObstoreClient(own, self._source)

    def _resolve(self) -> Source:
        """Where the credential comes from: an option, the variables as they are now, or azure-identity."""
        value = self._given.value
        if isinstance(value, Credential):
            return Source(value)
        if value is not None:
            return Source(None, value)
        if self.use_managed_identity:
            return Source(_identity("ManagedIdentityCredential", client_id=os.environ.get("AZURE_CLIENT_ID")))
        found = Environment(self.account_name).credential
        return Source(found if found is not None else _identity("DefaultAzureCredential"))


def _only_one(given: Given, use_managed_identity: bool) -> Given:
    names = [name for name in given.value if given.value[name] is not None]
    both = [*names, "use_managed_identity"] if use_managed_identity else names
    if len(both) > 1:
        raise ValueError(f"{', '.join(both)}: expected one of them, got {len(both)}")
    if not names:
        return Given(None)
    value = given.value[names[0]]
    if names == ["account_key"]:
        value = Credential("key", value.strip())
    elif names == ["sas_token"]:
        value = Credential("sas", value.strip().lstrip("?"))
    elif hasattr(value, "get_token") or not callable(value):
        value = credential_of(value)
    return Given(value)


def _endpoint(given: Given) -> str:
    if not _ENDPOINT.fullmatch(given.value):
        # It may hold a signature.
        raise ValueError("endpoint: expected https://HOST without ?, # and @, got another text")
    text: str = given.value.rstrip("/")
    return text


def _checked(name: str, pattern: re.Pattern[str], value: str | None) -> str:
    if value is None:
        raise StoreError(
            f"{name}: expected the name of a storage account, got none",
            code="no_account",
            hint="Give account_name=, or set AZURE_STORAGE_ACCOUNT.",
        )
    if not pattern.fullmatch(value):
        raise ValueError(f"{name}: expected small letters, digits and '-', got {value!r}")
    return value


def _identity(kind: str, **options: Any) -> Credential:
    """A credential of azure-identity: one in a process for the same variables, so that stores share tokens."""
    settings = sorted((name, value) for name, value in os.environ.items() if name.startswith(("AZURE_", "IDENTITY_")))
    key = kind, os.getpid(), hashlib.sha256(repr(settings).encode()).hexdigest()
    found = _identities.get(key)
    if found is None:
        make: Callable[..., Any] = getattr(require("azure.identity", EXTRA), kind)
        found = _identities.setdefault(key, Credential("token", make(**options)))
    return found


_identities: dict[Hashable, Credential] = {}
