"""What proves to Azure who one is: account keys, signatures (SAS), identities, and where they come from.

Secrets are kept in objects whose ``repr`` does not show them, so that no traceback with locals does either.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from zarrcy.errors import PermissionDeniedError, StoreError, ZarrcyError
from zarrcy.stores.catalogue import require

__all__ = ["EXTRA", "Credential", "Environment", "Given", "Source", "TokenCache", "credential_of"]

EXTRA = "zarrcy[azure]"
# So long before its end a credential is exchanged for a new one, in seconds; of a short one, half its time.
AHEAD = 300.0


class Given:
    """Something that must not be shown.

    Parameters
    ----------
    value : object
        Kept in `value`.
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "Given(...)"


class Credential:
    """What requests are signed with.

    Parameters
    ----------
    kind : {"key", "sas", "token"}
        An account key, a shared access signature, or an object that gives tokens.
    value : object
        The text of the key or the signature, or the object.

    Attributes
    ----------
    expires : float
        When a signature ends, in seconds since 1970; infinite when it does not say, and for the others.
    """

    def __init__(self, kind: str, value: Any) -> None:
        self.kind = kind
        self.value = value
        self.expires = _end_of(value) if kind == "sas" else float("inf")

    def for_client(self, account: str) -> Any:
        """What a client of azure-storage-blob takes."""
        if self.kind == "key":
            return {"account_name": account, "account_key": self.value}
        if self.kind == "sas":
            core = require("azure.core.credentials", EXTRA)
            return core.AzureSasCredential(self.value)
        return TokenCache(self.value)

    @property
    def digest(self) -> Hashable:
        """What tells it from others, and tells nothing about it."""
        if self.kind == "token":
            return id(self.value)
        return hashlib.sha256(self.value.encode()).hexdigest()

    def __repr__(self) -> str:
        return f"Credential({self.kind!r}, ...)"


def credential_of(value: Any) -> Credential:
    """The credential that a text or an object of azure-identity is.

    Examples
    --------
    >>> from zarrcy.stores.azure_credentials import credential_of
    >>> credential_of("?sv=2025-01-05&sp=r&sig=abc"), credential_of("c2VjcmV0")
    (Credential('sas', ...), Credential('key', ...))
    """
    if isinstance(value, str):
        return Credential("sas", value.strip().lstrip("?")) if "sig=" in value else Credential("key", value.strip())
    if hasattr(value, "get_token"):
        return Credential("token", value)
    if hasattr(value, "named_key"):  # AzureNamedKeyCredential
        return Credential("key", value.named_key.key)
    if hasattr(value, "signature"):  # AzureSasCredential
        return credential_of(value.signature)
    raise TypeError(
        "credential: expected an account key, a SAS token, a credential of azure-identity, "
        f"or a callable that returns one of them, got {type(value).__name__}"
    )


def _end_of(sas: str) -> float:
    """When a signature ends, in seconds since 1970."""
    text = parse_qs(sas.lstrip("?")).get("se", [""])[0]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return float("inf")
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


class Source:
    """Where a client takes its credential from: one that stays, or a callable that is asked again before the end.

    Parameters
    ----------
    credential : Credential, optional
        The one that stays.
    refresh : callable, optional
        Returns what `credential_of` takes. Called by one thread at a time; the others go on with the one before.
    """

    def __init__(self, credential: Credential | None, refresh: Callable[[], Any] | None = None) -> None:
        self._credential = credential
        self._refresh = Given(refresh)
        self._due = float("inf") if credential is not None else 0.0
        self._lock = threading.Lock()

    @property
    def digest(self) -> Hashable:
        if self._credential is not None and self._refresh.value is None:
            return self._credential.digest
        return "callable", id(self._refresh.value)

    def current(self) -> Credential:
        """The credential to use now.

        Raises
        ------
        PermissionDeniedError
            The callable failed, or returned something else.
        """
        known = self._credential
        now = time.time()
        if known is not None and now < self._due:
            return known
        # Whose credential still holds does not wait for the one that is being fetched.
        if not self._lock.acquire(blocking=known is None or now >= known.expires):
            assert known is not None
            return known
        try:
            if self._credential is None or time.time() >= self._due:
                self._take(self._ask())
            assert self._credential is not None
            return self._credential
        finally:
            self._lock.release()

    def renew(self, refused: Credential) -> bool:
        """Whether there is another credential than the one that the service refused: the callable is asked."""
        if self._refresh.value is None:
            return False
        with self._lock:
            if self._credential is refused:
                self._take(self._ask())
            assert self._credential is not None
            return self._credential.digest != refused.digest

    def _take(self, credential: Credential) -> None:
        self._credential = credential
        self._due = _due(credential.expires)

    def _ask(self) -> Credential:
        try:
            return credential_of(self._refresh.value())
        except ZarrcyError:
            raise
        except Exception as error:
            kind = type(error).__name__
        raise _failed(kind)


def _failed(kind: str) -> PermissionDeniedError:
    # Without the cause: what a secret manager raises may show its token.
    return PermissionDeniedError(
        f"credential: expected a key, a SAS token, a credential or a token, got {kind}",
        code="credential_failed",
        hint="Call it by itself to see what it raises.",
    )


def _due(expires: float) -> float:
    """When to exchange what ends at that time."""
    return expires - min(AHEAD, max(expires - time.time(), 0.0) / 2)


class TokenCache:
    """Tokens of a credential of azure-identity, of which many threads fetch a new one only once."""

    def __init__(self, credential: Any) -> None:
        self._credential = credential
        self._lock = threading.Lock()
        self._tokens: dict[Hashable, tuple[float, Any]] = {}

    def get_token(self, *scopes: str, **options: Any) -> Any:
        """As of any credential of azure-identity."""
        key = scopes, tuple(sorted((name, str(value)) for name, value in options.items()))
        now = time.time()
        due, token = self._tokens.get(key, (0.0, None))
        if now < due:
            return token
        if not self._lock.acquire(blocking=token is None or now >= token.expires_on):
            return token
        try:
            due, token = self._tokens.get(key, (0.0, None))
            if time.time() >= due:
                token = self._fetch(scopes, options)
                self._tokens[key] = _due(token.expires_on), token
            return token
        finally:
            self._lock.release()

    def _fetch(self, scopes: tuple[str, ...], options: dict[str, Any]) -> Any:
        from azure.core.exceptions import AzureError

        try:
            return self._credential.get_token(*scopes, **options)
        except (AzureError, ZarrcyError):
            raise
        except Exception as error:
            kind = type(error).__name__
        raise _failed(kind)

    def close(self) -> None:
        """Leave the credential open: it is the caller's."""

    def __repr__(self) -> str:
        return f"TokenCache({type(self._credential).__name__})"


class Environment:
    """What the variables ``AZURE_STORAGE_*`` say at this moment.

    Parameters
    ----------
    account : str, optional
        The account that is asked for: variables that name another one do not count.

    Attributes
    ----------
    account, endpoint : str or None
    credential : Credential or None

    Raises
    ------
    StoreError
        ``AZURE_STORAGE_CONNECTION_STRING`` cannot be read.
    """

    def __init__(self, account: str | None = None) -> None:
        self.account = os.environ.get("AZURE_STORAGE_ACCOUNT") or None
        self.endpoint: str | None = None
        self.credential: Credential | None = None
        whole = _connection(os.environ.get("AZURE_STORAGE_CONNECTION_STRING", ""))
        if whole and account in (None, whole["accountname"]):
            self.account = whole["accountname"]
            self.endpoint = _endpoint_of(whole)
            secret = whole.get("accountkey") or whole.get("sharedaccesssignature")
        elif account is None or self.account in (None, account):
            secret = os.environ.get("AZURE_STORAGE_KEY") or os.environ.get("AZURE_STORAGE_SAS_TOKEN")
        else:
            secret = None
        if secret:
            self.credential = credential_of(secret)


def _connection(text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.strip().split(";") if pair.strip()]
    found = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if pairs and ("" in found.values() or not ({"accountname", "blobendpoint"} & set(found))):
        raise StoreError(
            "AZURE_STORAGE_CONNECTION_STRING: expected AccountName=…;AccountKey=…;…, got another text",
            code="bad_connection_string",
            hint="Copy the whole of it from the portal, in one line.",
        )
    if "accountname" not in found and "blobendpoint" in found:
        parts = urlsplit(found["blobendpoint"])
        found["accountname"] = parts.path.strip("/") or (parts.hostname or "").partition(".")[0]
    return found


def _endpoint_of(connection: dict[str, str]) -> str | None:
    if "blobendpoint" in connection:
        return connection["blobendpoint"].rstrip("/")
    if "endpointsuffix" not in connection:
        return None
    scheme = connection.get("defaultendpointsprotocol", "https")
    return f"{scheme}://{connection['accountname']}.blob.{connection['endpointsuffix']}"
