"""S3 through obstore: its store, made of what the SDK found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zarrcy.stores.catalogue import require
from zarrcy.stores.obstore_client import INSTALL, ObstoreClient, Refused, client_options
from zarrcy.stores.s3_answers import refusal_in
from zarrcy.stores.s3_credentials import Identity, Settings

__all__ = ["S3ObstoreClient"]


class S3ObstoreClient(ObstoreClient):
    """A bucket.

    Parameters
    ----------
    bucket : str
        Its name.
    settings : Settings
        What the SDK found of the place.
    identity : Identity or None
        Who asks; ``None`` for nobody.
    storage_class : str, optional
        Of what is written.
    """

    def __init__(self, bucket: str, settings: Settings, identity: Identity | None, storage_class: str | None) -> None:
        self.bucket = bucket
        self._place = settings.place(bucket)
        self._identity = identity
        self._storage_class = storage_class
        super().__init__("S3", self._place.base)

    def _make(self, provide: Callable[[], dict[str, Any]]) -> Any:
        base = self._place.base.rstrip("/")
        # With the bucket in the host or in the path, as the SDK would ask.
        is_virtual = not base.endswith(f"/{self.bucket}")
        endpoint = base if is_virtual else base.removesuffix(f"/{self.bucket}")
        config: dict[str, Any] = {
            "endpoint": endpoint,
            "region": self._place.region,
            "virtual_hosted_style_request": is_virtual,
            "skip_signature": self._identity is None,
        }
        if self._storage_class is not None:
            config["storage_class"] = self._storage_class
        return require("obstore.store", INSTALL).S3Store(
            self.bucket,
            config=config,
            client_options=client_options(endpoint),
            retry_config={"max_retries": 0},
            credential_provider=None if self._identity is None else provide,
        )

    def _credential(self) -> tuple[Any, dict[str, Any]]:
        if self._identity is None:
            return None, {}
        now = self._identity.current()
        return None, {"access_key_id": now.access_key, "secret_access_key": now.secret_key, "token": now.token}

    def _read(self, status: int, body: bytes, given: Any) -> Refused:
        refusal = refusal_in(status, {}, body)
        return Refused(status, refusal.error(self.url), refusal.is_absence)
