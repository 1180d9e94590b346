"""`GCSStore`: values as objects in a bucket of Google Cloud Storage."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Hashable
from types import FunctionType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from zarrcy.errors import StoreError
from zarrcy.stores.catalogue import require
from zarrcy.stores.object_client import ObjectClient
from zarrcy.stores.object_store import MAX_CONCURRENCY, ObjectStore
from zarrcy.stores.retry import Retry

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

__all__ = ["GCSStore"]

EMULATOR_VARIABLE = "STORAGE_EMULATOR_HOST"
ANONYMOUS = "anonymous"

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


class GCSStore(ObjectStore):
    """Values as objects ``gs://BUCKET/PREFIX/KEY``.

    Needs ``pip install "zarrcy[gcs]"``. Nothing is asked of the service before the first use.

    Parameters
    ----------
    bucket : str
        The bucket. It must exist.
    prefix : str
        What stands in front of every key: empty, or segments joined by ``"/"``.
    project : str, optional
        The project that pays for the requests, for buckets whose owner does not.
    credentials : str, os.PathLike, google.auth.credentials.Credentials or callable, optional
        The path of a service account's JSON file; an object of google-auth; a callable that returns one, called again
        before that expires; ``"anonymous"`` for none. By default the application default credentials, and none over
        ``http://``.
    storage_class : str, optional
        ``"STANDARD"``, ``"NEARLINE"``, ``"COLDLINE"`` or ``"ARCHIVE"``, for what is written; the bucket's by default.
    endpoint : str, optional
        The URL of the service; by default the environment variable ``STORAGE_EMULATOR_HOST``, or Google's.
    engine : {None, "obstore"}
        What reads and writes values: zarrcy's own client, or the package obstore (``pip install "zarrcy[obstore]"``),
        which the SDK's credentials are given to.
    retry : Retry, optional
        Pauses and deadline; by default 0.1 to 10 seconds, 120 in all.
    max_concurrency : int, default 32
        Requests in flight at once.

    Raises
    ------
    StoreError
        The bucket or the endpoint has no such form (``code="bad_bucket"``, ``"bad_endpoint"``).
    TypeError
        `credentials` is something else.
    ValueError
        `prefix` is not such text, `engine` is another, or `max_concurrency` is less than 1.

    Notes
    -----
    Credentials are in no pickle, ``repr`` or message; the path of a file is, and the name of a function of a module.
    Another process uses its own default credentials in the place of an object or of another callable.

    Examples
    --------
    >>> from zarrcy.stores.gcs import GCSStore
    >>> store = GCSStore("my-zarr-bucket", prefix="experiments/array1")
    >>> store.url
    'gs://my-zarr-bucket/experiments/array1'
    """

    schemes = ("gs",)
    priced_as = "gcs"

    kind = "Cloud"
    persistence = "Yes"
    scalability = "Unlimited"
    latency = "Medium"
    use = "Google Cloud Platform"

    def __init__(
        self,
        bucket: str,
        *,
        prefix: str = "",
        project: str | None = None,
        credentials: str | os.PathLike[str] | Credentials | Callable[[], Credentials] | None = None,
        storage_class: str | None = None,
        endpoint: str | None = None,
        engine: str | None = None,
        retry: Retry | None = None,
        max_concurrency: int = MAX_CONCURRENCY,
    ) -> None:
        super().__init__(prefix=prefix, retry=retry, max_concurrency=max_concurrency)
        if not _BUCKET.fullmatch(bucket):
            raise StoreError(
                f"bucket: expected 3 to 222 of a-z, 0-9, '-', '_' and '.', got {bucket!r}",
                code="bad_bucket",
                hint="Give the name alone, without gs:// and the prefix.",
            )
        self.bucket = bucket
        self.project = project
        self.storage_class = storage_class
        self.endpoint = _checked_endpoint(endpoint or os.environ.get(EMULATOR_VARIABLE))
        self._credentials = _checked_credentials(credentials)
        if engine not in (None, "obstore"):
            raise ValueError(f'engine: expected None or "obstore", got {engine!r}')
        self.engine = engine

    @classmethod
    def from_url(cls, url: str, *, mode: str | None = None, **options: Any) -> GCSStore:
        """The store of ``gs://BUCKET/PREFIX``. All behind the bucket is the prefix, as it stands.

        Examples
        --------
        >>> from zarrcy.stores.gcs import GCSStore
        >>> GCSStore.from_url("gs://my-zarr-bucket/experiments/array1").prefix
        'experiments/array1'
        """
        bucket, _, prefix = url.partition("://")[2].partition("/")
        return cls(bucket, **{"prefix": prefix, **options})

    @property
    def url(self) -> str:
        """``gs://BUCKET/PREFIX``."""
        return f"gs://{self.bucket}/{self.prefix}" if self.prefix else f"gs://{self.bucket}"

    def options(self) -> dict[str, Any]:
        """The arguments that open this storage again, without secrets."""
        options: dict[str, Any] = {"bucket": self.bucket, **super().options()}
        for name in ("project", "storage_class", "endpoint", "engine"):
            if getattr(self, name) is not None:
                options[name] = getattr(self, name)
        given = self._credentials
        # Such a function is pickled, and shown, by its name.
        if isinstance(given, str) or (isinstance(given, FunctionType) and "<" not in given.__qualname__):
            options["credentials"] = given
        return options

    def _source(self) -> Any:
        require("google.cloud.storage", "zarrcy[gcs]")
        from zarrcy.stores.gcs_credentials import Source

        given = self._credentials
        if given is None and self.endpoint is not None:
            # An emulator has no accounts, and a token is not for everyone on the way to read.
            in_the_clear = self.endpoint.startswith("http://")
            if in_the_clear or self.endpoint == _checked_endpoint(os.environ.get(EMULATOR_VARIABLE)):
                given = ANONYMOUS
        return Source(given, self.url)

    def _client_key(self) -> Hashable:
        digest = self._source().digest()
        return "gcs", self.engine, self.bucket, self.endpoint, self.project, self.storage_class, digest

    def _make_client(self) -> ObjectClient:
        source = self._source()
        from zarrcy.stores.gcs_client import GCSClient

        own = GCSClient(
            self.bucket,
            source,
            endpoint=self.endpoint,
            project=self.project,
            storage_class=self.storage_class,
            max_concurrency=self.max_concurrency,
        )
        if self.engine is None:
            return own
        from zarrcy.stores.gcs_obstore import GCSObstoreClient

        return GCSObstoreClient(own)


def _checked_endpoint(endpoint: str | None) -> str | None:
    if not endpoint:
        return None
    if "://" not in endpoint:
        endpoint = f"http://{endpoint}"  # as other languages have the variable
    try:
        parts = urlsplit(endpoint)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        good = good and not (parts.username or parts.password or parts.query or parts.fragment)
    except ValueError:
        good = False
    if not good:
        # It is not shown: there may be a password in it.
        raise StoreError(
            "endpoint: expected http://HOST:PORT or https://HOST, got another text",
            code="bad_endpoint",
            hint=f"Check endpoint=, and {EMULATOR_VARIABLE}.",
        )
    return endpoint.rstrip("/")


def _checked_credentials(given: Any) -> Any:
    """What the store keeps: ``None``, ``"anonymous"``, an absolute path, an object or a callable."""
    if given is None or given == ANONYMOUS:
        return given
    if isinstance(given, (str, os.PathLike)):
        path = os.fspath(given)
        if path.lstrip().startswith("{"):
            raise TypeError(
                "credentials: expected the path of a file, got its contents; give "
                "google.oauth2.service_account.Credentials.from_service_account_info(…)"
            )
        return os.path.abspath(path)
    if callable(given) or hasattr(given, "before_request"):
        # By its word, which another process understands.
        return ANONYMOUS if type(given).__name__ == "AnonymousCredentials" else given
    raise TypeError(f"credentials: expected a path, an object of google-auth or a callable, got {type(given).__name__}")
