"""Azure Blob Storage through obstore, which is given the keys, signatures and tokens that zarrcy has found."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from zarrcy.stores.azure_client import AzureClient
from zarrcy.stores.azure_credentials import EXTRA, Credential, Source
from zarrcy.stores.azure_errors import REFUSALS, SERVICE, answer_error, bad_key_error, raised_error
from zarrcy.stores.catalogue import require
from zarrcy.stores.object_client import Found, Span
from zarrcy.stores.object_reads import last_bytes
from zarrcy.stores.obstore_client import INSTALL, PairedClient, Refused, certificates, client_options

__all__ = ["AzureObstoreClient"]

SCOPE = "https://storage.azure.com/.default"

# The word of the service for an error, which its headers have too, and obstore does not show.
_CODE = re.compile("<Code>([A-Za-z]+)</Code>")


class AzureObstoreClient(PairedClient):
    """A container.

    Parameters
    ----------
    own : AzureClient
        zarrcy's own client of it.
    source : Source
        Where the credential comes from.
    """

    writer, crc32c = "zarrcy_writer", "zarrcy_crc32c"
    _own: AzureClient

    def __init__(self, own: AzureClient, source: Source) -> None:
        self._source = source
        super().__init__(SERVICE, own.url, own)
        if own.access_tier is not None:
            self.attributes["Storage-Class"] = own.access_tier

    def _make(self, provide: Callable[[], dict[str, Any]]) -> Any:
        own = self._own
        return require("obstore.store", INSTALL).AzureStore(
            own.container,
            # What it would else take from the environment is said too.
            config={
                "account_name": own.account,
                "endpoint": own.endpoint,
                "use_emulator": False,
                "skip_signature": False,
            },
            client_options=client_options(own.endpoint, **certificates()),
            retry_config={"max_retries": 0},
            credential_provider=provide,
        )

    def _credential(self) -> tuple[Any, dict[str, Any]]:
        credential = self._source.current()
        self._own.check_transport(credential)
        if credential.kind == "key":
            return credential, {"access_key": self._key(credential)}
        if credential.kind == "sas":
            pairs = [pair.partition("=") for pair in credential.value.split("&") if pair]
            return credential, {"sas_token": [(name, unquote(value)) for name, _, value in pairs]}
        return credential, {"token": self._token(credential)}

    def _key(self, credential: Credential) -> str:
        """As obstore reads base64, which is less than Python does."""
        try:
            return base64.b64encode(base64.b64decode(credential.value, validate=True)).decode()
        except ValueError:
            pass
        raise bad_key_error(store=self.url)

    def _token(self, credential: Credential) -> str:
        require("azure.core", EXTRA)
        from azure.core.exceptions import AzureError

        try:
            return str(self._own.for_client(credential).get_token(SCOPE).token)
        except AzureError as error:
            failure = raised_error(error, credential.kind, store=self.url)
        raise failure

    def _renew(self, given: Any) -> bool:
        return given is not None and self._source.renew(given)

    def _read(self, status: int, body: bytes, given: Any) -> Refused:
        text = body.decode("utf-8", "replace")
        found = _CODE.search(text)
        code = found[1] if found is not None else ""
        kind = "token" if given is None else given.kind
        error = answer_error(status, {"x-ms-error-code": code}, text, kind, store=self.url)
        return Refused(status, error, is_absence=code == "BlobNotFound", is_denial=code in REFUSALS)

    def _failure(self, error: Exception, given: Any) -> Any:
        if isinstance(error, FileNotFoundError) and "Not a file, got x-ms-resource-type" in str(error):
            return Refused(404, self._conflict(), is_absence=True)
        return super()._failure(error, given)

    def _is_folder(self, attributes: Mapping[str, str]) -> bool:
        return attributes.get("hdi_isfolder", "").lower() == "true"

    def get(self, name: str, span: Span | None, version: str | None) -> Found | None:
        if span is not None and span.begin < 0:
            # By a request of one byte, which costs less than one of zarrcy's own client.
            return last_bytes(super(PairedClient, self).head, super().get, name, span, version)
        return super().get(name, span, version)
