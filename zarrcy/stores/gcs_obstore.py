"""Google Cloud Storage through obstore: values by its XML API, with the tokens of google-auth."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from zarrcy.errors import StoreError
from zarrcy.stores.catalogue import require
from zarrcy.stores.gcs_client import GCSClient
from zarrcy.stores.gcs_credentials import ANONYMOUS
from zarrcy.stores.gcs_errors import SERVICE, Words, answer_error, words_of
from zarrcy.stores.object_client import Condition
from zarrcy.stores.obstore_client import INSTALL, PairedClient, Refused, certificates, client_options
from zarrcy.stores.store import Buffer

__all__ = ["GCSObstoreClient"]

# Of the service's message when there is no such object.
NO_KEY = "The specified key does not exist."


class GCSObstoreClient(PairedClient):
    """A bucket.

    Parameters
    ----------
    own : GCSClient
        zarrcy's own client of it.
    """

    _own: GCSClient

    def __init__(self, own: GCSClient) -> None:
        if own.is_mtls:
            raise StoreError(
                "expected connections without a certificate of this machine, got some with one",
                store=own.url,
                code="bad_option",
                hint='Leave engine="obstore" out, or set GOOGLE_API_USE_CLIENT_CERTIFICATE=false.',
            )
        super().__init__(SERVICE, own.url, own)
        # As zarrcy's own client writes it.
        self.attributes["Cache-Control"] = "no-cache"
        if own.storage_class is not None:
            self.attributes["Storage-Class"] = own.storage_class

    @property
    def _is_anonymous(self) -> bool:
        return bool(self._own.source.given == ANONYMOUS)

    def _make(self, provide: Callable[[], dict[str, Any]]) -> Any:
        own = self._own
        # Without the first, the service unpacks what is stored as gzip.
        headers = {"Accept-Encoding": "gzip"} | ({"x-goog-user-project": own.payer} if own.payer else {})
        return require("obstore.store", INSTALL).GCSStore(
            own.bucket,
            config={"base_url": own.base, "skip_signature": self._is_anonymous},
            client_options=client_options(own.base, default_headers=headers, **certificates()),
            retry_config={"max_retries": 0},
            credential_provider=provide,
        )

    def _credential(self) -> tuple[Any, dict[str, Any]]:
        token = self._own.token()
        return _digest(token), {"token": token}

    def _renew(self, given: Any) -> bool:
        if _digest(self._own.token()) == given:
            self._own.refresh()
        return bool(_digest(self._own.token()) != given)

    def _read(self, status: int, body: bytes, given: Any) -> Refused:
        words = words_of(body)
        error = answer_error(status, words, asked_to_wait=None, source=self._own.source.words, store=self.url)
        return Refused(status, error, is_absence=status == 404, is_denial=status == 401, text=words.message)

    def _confirm(self, name: str, refused: Refused) -> None:
        # The XML API does not always repeat the name.
        said = f"No such object: {self._own.bucket}/{name}" if refused.text == NO_KEY else refused.text
        self._own.check_absent(name, Words("", said))

    def _version(self, described: Mapping[str, Any]) -> str:
        version = described["version"] or ""
        return version if version.isdecimal() else ""

    def _mode(self, version: str) -> Any:
        return {"version": self._own.generation(version)}

    def _options(self, version: str | None) -> dict[str, Any]:
        # Asked for a generation, a bucket with versions gives one that was replaced: what comes is compared instead.
        return {}

    def put(self, name: str, value: Buffer, condition: Condition | None, writer: str) -> str:
        if self._is_anonymous:
            # Obstore writes with an empty token, which the service refuses.
            return self._own.put(name, value, condition, writer)
        return super().put(name, value, condition, writer)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
