"""What Azure answers, and what its packages raise, as the errors of stores."""

from __future__ import annotations

import re
from collections.abc import Mapping

from zarrcy.errors import ConflictError, PermissionDeniedError, StoreError, ThrottledError, UnavailableError
from zarrcy.stores.service_errors import Meaning, connection_error, retry_after, status_error

__all__ = ["REFUSALS", "SERVICE", "answer_error", "bad_key_error", "raised_error"]

SERVICE = "Azure"

_KEY = (
    "Copy the whole key again from the portal, without line breaks, and check that account_name is its account "
    "(AZURE_STORAGE_KEY, AZURE_STORAGE_ACCOUNT). A firewall of the account, or a clock that is wrong, look alike."
)
_REFUSED = {
    "key": Meaning(PermissionDeniedError, "invalid_account_key", _KEY),
    "sas": Meaning(
        PermissionDeniedError,
        "invalid_sas_token",
        "Make a new SAS token: has it expired, and was it made for this account and container?",
    ),
    "token": Meaning(
        PermissionDeniedError,
        "invalid_credential",
        "Check who is logged in, and give that identity the role Storage Blob Data Contributor, or Reader.",
    ),
}
_PERMISSION = (
    "Give the SAS token the permissions rwdl (to read: rl), or the identity the role Storage Blob Data "
    "Contributor (to read: Reader)."
)
_ARCHIVED = (
    "Rehydrate the blob: set its tier to Hot or Cool, and wait some hours "
    "(az storage blob set-tier --tier Hot). Reading needs an online tier."
)
_CONTAINER = "Make the container, or check its name and account_name."
_ACCOUNT = "Check account_name and endpoint: there is no such account at this address."
_LEASE = "Something holds a lease on it: end the lease."

# By the service's own word for it, where it says more than the status.
_MEANINGS: dict[str, Meaning] = {
    "AccountIsDisabled": Meaning(PermissionDeniedError, "account_disabled", "The account is disabled."),
    "AuthorizationPermissionMismatch": Meaning(PermissionDeniedError, "missing_permission", _PERMISSION),
    "BlobAlreadyExists": Meaning(ConflictError, "conflict"),
    "BlobArchived": Meaning(StoreError, "archived", _ARCHIVED),
    "BlobBeingRehydrated": Meaning(StoreError, "archived", _ARCHIVED),
    "BlobImmutableDueToPolicy": Meaning(
        PermissionDeniedError, "immutable", "The container forbids to change blobs: see its immutability policy."
    ),
    "ConditionNotMet": Meaning(ConflictError, "conflict"),
    "ContainerBeingDeleted": Meaning(StoreError, "no_container", _CONTAINER),
    "ContainerDisabled": Meaning(StoreError, "no_container", _CONTAINER),
    "ContainerNotFound": Meaning(StoreError, "no_container", _CONTAINER),
    "InvalidBlobType": Meaning(StoreError, "blob_type", "It is a page or append blob: delete it."),
    "InvalidHeaderValue": Meaning(
        StoreError, "bad_request", "An emulator that is older than the SDK needs --skipApiVersionCheck."
    ),
    "KeyBasedAuthenticationNotPermitted": Meaning(
        PermissionDeniedError, "keys_forbidden", "The account takes no keys: use an identity (credential=)."
    ),
    "LeaseIdMissing": Meaning(StoreError, "leased", _LEASE),
    "Md5Mismatch": Meaning(UnavailableError, "broken_request", "Bytes change on the way: use TLS."),
    "PublicAccessNotPermitted": Meaning(PermissionDeniedError, "unauthorized", "Give a credential."),
    "RequestBodyTooLarge": Meaning(StoreError, "too_large", "Choose smaller chunks or shards."),
    "ResourceNotFound": Meaning(StoreError, "no_account", _ACCOUNT),
    "ServerBusy": Meaning(ThrottledError, "throttled", "Azure asks for fewer requests: lower max_concurrency."),
    "SnapshotsPresent": Meaning(StoreError, "snapshots", "The blob has snapshots: delete them first."),
}
# The credential is not one that the service takes.
REFUSALS = {"AuthenticationFailed", "AuthorizationFailure", "InvalidAuthenticationInfo"}

_TEXT = re.compile(r"<Message>([^<\n]*)")
# Other details hold the signature that was sent.
_DETAIL = re.compile(r"<AuthenticationErrorDetail>((?:Signature not valid in the|Request date header)[^<\n]*)")


def answer_error(status: int, headers: Mapping[str, str], body: str, credential: str, *, store: str) -> StoreError:
    """The error of a store for an answer of Azure.

    Parameters
    ----------
    status : int
        The HTTP status.
    headers : mapping
        Of the answer, found by any case.
    body : str
        Its text. Shown only where it is the service's own.
    credential : {"key", "sas", "token"}
        What the request was signed with.
    store : str
        As of `zarrcy.ZarrcyError`.
    """
    code = headers.get("x-ms-error-code") or ""
    found = [match[1].strip() for pattern in (_TEXT, _DETAIL) if code and (match := pattern.search(body))]
    meaning = _REFUSED[credential] if code in REFUSALS else _MEANINGS.get(code)
    if code == "InvalidOperation" and "MD5" in body:  # the emulator's word for it
        meaning = _MEANINGS["Md5Mismatch"]
    if meaning is None and status == 409:
        # Most of them are no races of writers.
        meaning = Meaning(StoreError, "status_409")
    text = ": ".join(each for each in (code, *found) if each)
    return status_error(
        SERVICE, status, text, store=store, meaning=meaning, wait=retry_after(headers.get("Retry-After"))
    )


def bad_key_error(*, store: str) -> PermissionDeniedError:
    """The error of a store for a key of an account that can be none."""
    return PermissionDeniedError(
        "account_key: expected base64 text, got another one, or a part of it",
        store=store,
        code="invalid_account_key",
        hint=_KEY,
    )


def raised_error(error: Exception, credential: str, *, store: str) -> StoreError:
    """The error of a store for what azure-core, azure-storage-blob or azure-identity raised instead of an answer.

    Their texts may show signed URLs and headers, and are not repeated.
    """
    from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError, ServiceResponseError

    name = type(error).__name__
    if name == "AzureSigningError":
        return bad_key_error(store=store)
    if isinstance(error, ClientAuthenticationError):
        meaning = _REFUSED[credential]
        code = "no_credentials" if name == "CredentialUnavailableError" else meaning.code
        hint = (
            "Log in (az login), or set AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN or the variables of azure-identity; "
            "secrets are never pickled."
        )
        return PermissionDeniedError(f"expected a token, got {name}", store=store, code=code, hint=hint)
    if isinstance(error, (ServiceRequestError, ServiceResponseError)):
        silence = connection_error(SERVICE, error, store=store)
        if silence.code == "name_lookup":
            return UnavailableError(silence.message, store=store, code=silence.code, hint=_ACCOUNT)
        return silence
    return StoreError(f"expected an answer of {SERVICE}, got {name}", store=store, code="azure", hint=None)
