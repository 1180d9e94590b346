"""S3 through obstore: its store, made of what the SDK found."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from zarrcy.errors import StoreError
from zarrcy.stores.catalogue import require
from zarrcy.stores.obstore_client import INSTALL, ObstoreClient
from zarrcy.stores.s3_answers import Refusal, refusal_in
from zarrcy.stores.s3_credentials import Identity, Settings

__all__ = ["make_client"]

# How long obstore keeps a credential before it asks for it again; the SDK refreshes it when it has to.
KEPT = timedelta(minutes=1)


def make_client(bucket: str, settings: Settings, identity: Identity | None, storage_class: str | None) -> ObstoreClient:
    """A client of a bucket; see `ObstoreClient`."""
    place = settings.place(bucket)
    base = place.base.rstrip("/")
    # With the bucket in the host or in the path, as the SDK would ask.
    is_virtual = not base.endswith(f"/{bucket}")
    endpoint = base if is_virtual else base.removesuffix(f"/{bucket}")

    def make(denials: list[StoreError]) -> Any:
        config: dict[str, Any] = {
            "endpoint": endpoint,
            "region": place.region,
            "virtual_hosted_style_request": is_virtual,
            "skip_signature": identity is None,
        }
        if storage_class is not None:
            config["storage_class"] = storage_class
        return require("obstore.store", INSTALL).S3Store(
            bucket,
            config=config,
            client_options={"allow_http": endpoint.startswith("http:"), "connect_timeout": "10s", "timeout": "60s"},
            retry_config={"max_retries": 0},
            credential_provider=None if identity is None else _provider(identity, denials),
        )

    return ObstoreClient("S3", place.base, make, _read)


def _read(status: int, body: bytes) -> Refusal:
    return refusal_in(status, {}, body)


def _provider(identity: Identity, denials: list[StoreError]) -> Any:
    def provide() -> dict[str, Any]:
        try:
            now = identity.current()
        except StoreError as error:
            denials.append(error)
            raise
        return {
            "access_key_id": now.access_key,
            "secret_access_key": now.secret_key,
            "token": now.token,
            "expires_at": datetime.now(UTC) + KEPT,
        }

    return provide
