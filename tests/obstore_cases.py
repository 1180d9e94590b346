"""The stores with ``engine="obstore"``, one of each service: on its server, and before a script of answers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import servers.azure
import servers.gcs
import servers.s3
import test_azure_errors
import test_gcs_errors
import test_s3_errors
from google.oauth2.credentials import Credentials
from servers.gcs import as_xml, path_of
from servers.scripted import Answer, Request

from zarrcy.errors import StoreError
from zarrcy.stores import Store
from zarrcy.stores.azure import AzureBlobStore
from zarrcy.stores.clock import VirtualClock
from zarrcy.stores.gcs import GCSStore
from zarrcy.stores.retry import Retry
from zarrcy.stores.s3 import S3Store

__all__ = ["ENGINE", "SERVICES", "Service", "copy_of"]

ENGINE: dict[str, Any] = {"engine": "obstore"}

_numbers = itertools.count()


class Service(NamedTuple):
    """A service, for tests of its engine.

    Attributes
    ----------
    new : callable
        A new, empty store on its server; takes options.
    scripted : callable
        A store at the URL of a script, with a credential that says "canary"; takes options.
    outcomes : mapping
        Of a test by zarrcy's own client: the class of the error, its code, the answer.
    operations : mapping
        The ways to read.
    absent : callable
        The answer of a container that is empty.
    source : str
        What opens the store of `new` again in another process: imports, and an expression with a ``{prefix}`` and
        ``{more}`` options.
    """

    new: Callable[..., Any]
    scripted: Callable[..., Any]
    outcomes: Mapping[str, tuple[type[StoreError], str, Any]]
    operations: Mapping[str, Callable[[Any], Any]]
    absent: Callable[[Request], Answer]
    source: Callable[[], tuple[str, str]]


def copy_of(store: Any, **options: Any) -> Store:
    """The same storage with other options."""
    return type(store)(**{**store.options(), **options})  # type: ignore[no-any-return]


def _before(store: Any) -> Any:
    store.clock = VirtualClock()
    return store


def _name() -> str:
    return f"obstore/{next(_numbers)}"


# ---- S3


def _s3(**options: Any) -> S3Store:
    endpoint = servers.s3.server().endpoint
    return servers.s3.WeedStore("arrays", **{"prefix": _name(), "endpoint_url": endpoint, **ENGINE, **options})


def _scripted_s3(url: str, **options: Any) -> Any:
    options = {"retry": Retry(deadline=0), "region": "us-west-2", **ENGINE, **options}
    return _before(S3Store("my-zarr-data", prefix="lab/a", endpoint_url=url, **{"credentials": _keys, **options}))


def _keys() -> tuple[str, str, str]:
    return "key", "canary of the secret", "canary of the token"


def _s3_source() -> tuple[str, str]:
    endpoint = servers.s3.server().endpoint
    return (
        "from zarrcy.stores import S3Store",
        f"S3Store('arrays', prefix={{prefix!r}}, endpoint_url={endpoint!r}, **{{more}})",
    )


# ---- GCS


def _gcs(**options: Any) -> GCSStore:
    front = servers.gcs.xml_front()
    given = {"endpoint": front.url, "credentials": servers.gcs.credentials, "prefix": _name(), **ENGINE, **options}
    return GCSStore(front.behind.shared_bucket, **given)


def _scripted_gcs(url: str, **options: Any) -> Any:
    options = {"retry": Retry(deadline=0), "credentials": Credentials("ya29.canary"), **ENGINE, **options}
    return _before(GCSStore("my-bucket", prefix="lab/a", endpoint=url, **options))


def _no_gcs_object(request: Request) -> Answer:
    path = path_of(request)
    if path.startswith("/storage") or request.method == "DELETE":
        return test_gcs_errors.no_such_object(request)
    bucket, _, name = path[1:].partition("/")
    return as_xml(404, "NoSuchKey", f"No such object: {bucket}/{name}")


def _gcs_source() -> tuple[str, str]:
    front = servers.gcs.xml_front()
    place = f"{front.behind.shared_bucket!r}, prefix={{prefix!r}}, endpoint={front.url!r}"
    return (
        "import servers.gcs; from zarrcy.stores import GCSStore",
        f"GCSStore({place}, credentials=servers.gcs.credentials, **{{more}})",
    )


# ---- Azure


def _azure(**options: Any) -> AzureBlobStore:
    given = {"prefix": _name(), "endpoint": servers.azure.server().endpoint(), **ENGINE, **options}
    return AzureBlobStore(servers.azure.ACCOUNT, container=servers.azure.CONTAINER, **given)


def _scripted_azure(url: str, **options: Any) -> Any:
    options = {"retry": Retry(deadline=0), "account_key": test_azure_errors.CANARY, **ENGINE, **options}
    account = servers.azure.ACCOUNT
    return _before(
        AzureBlobStore(
            account, container=servers.azure.CONTAINER, prefix="lab/a", endpoint=f"{url}/{account}", **options
        )
    )


def _no_blob(request: Request) -> Answer:
    if "comp=list" in request.path:
        return Answer(200, {"x-ms-request-id": "1"}, b"<EnumerationResults><Blobs/><NextMarker/></EnumerationResults>")
    return test_azure_errors.own(404, "BlobNotFound")


def _azure_source() -> tuple[str, str]:
    endpoint = servers.azure.server().endpoint()
    place = f"{servers.azure.ACCOUNT!r}, container={servers.azure.CONTAINER!r}, prefix={{prefix!r}}"
    return (
        "from zarrcy.stores import AzureBlobStore",
        f"AzureBlobStore({place}, endpoint={endpoint!r}, **{{more}})",
    )


SERVICES = {
    "s3": Service(
        _s3, _scripted_s3, test_s3_errors.OUTCOMES, test_s3_errors.OPERATIONS, test_s3_errors.absent, _s3_source
    ),
    "gcs": Service(
        _gcs, _scripted_gcs, test_gcs_errors.OUTCOMES, test_gcs_errors.OPERATIONS, _no_gcs_object, _gcs_source
    ),
    "azure_blob": Service(
        _azure,
        _scripted_azure,
        {name: (kind, code, answer) for name, (answer, kind, code) in test_azure_errors.FAILURES.items()},
        test_azure_errors.OPERATIONS,
        _no_blob,
        _azure_source,
    ),
}
