"""`S3Store`: values in a bucket of Amazon S3, or of another service that speaks its protocol."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from zarrcy.errors import StoreError
from zarrcy.stores.object_client import ObjectClient
from zarrcy.stores.object_store import MAX_CONCURRENCY, ObjectStore
from zarrcy.stores.retry import Retry
from zarrcy.stores.s3_credentials import Identity, Rotating, Settings

__all__ = ["S3Store"]

# Kept for the stores that share a client, whatever each of them has in flight.
MIN_CONNECTIONS = 64

_TEXTS = ("region", "endpoint_url", "profile", "storage_class", "engine")


class S3Store(ObjectStore):
    """Values as objects in a bucket, called ``PREFIX/KEY``.

    Needs ``pip install "zarrcy[s3]"``. Nothing is connected before the first use.

    Parameters
    ----------
    bucket : str
        The name of the bucket, or the ARN of an access point.
    prefix : str, default ""
        What stands in front of every key.
    region : str, optional
        Where the bucket is; by default ``AWS_DEFAULT_REGION``, ``AWS_REGION``, what the profile says, or us-east-1.
    endpoint_url : str, optional
        Another service than Amazon's, such as ``"http://localhost:9000"``; by default ``AWS_ENDPOINT_URL_S3``,
        ``AWS_ENDPOINT_URL``, or what the profile says.
    profile : str, optional
        A profile of the shared files; by default ``AWS_PROFILE``.
    storage_class : str, optional
        Of what is written, such as ``"STANDARD_IA"``.
    anonymous : bool, default False
        Ask without credentials, as a public bucket allows.
    credentials : callable, optional
        Returns a mapping with ``access_key``, ``secret_key`` and optionally ``token`` and ``expiry``, or a tuple of
        them; it is called again before they expire. By default the SDK looks for credentials: in the environment, the
        shared files, the role of the machine.
    engine : {None, "obstore"}
        What makes the requests: zarrcy's own client, or the package obstore (``pip install "zarrcy[obstore]"``), which
        the SDK's credentials are given to.
    retry, max_concurrency
        As of `zarrcy.stores.object_store.ObjectStore`.

    Raises
    ------
    StoreError
        There is no name of a bucket (``code="no_bucket"``), or the endpoint cannot be one (``"bad_endpoint"``).
    TypeError
        `credentials` cannot be called: secrets are not options.

    Notes
    -----
    Secrets are in no pickle, ``repr``, message or `url`: another process finds its own. The credentials are looked for
    when the store is first used, and by each store anew.

    Examples
    --------
    >>> from zarrcy.stores.s3 import S3Store
    >>> store = S3Store("my-zarr-data", prefix="experiments/array1", region="us-west-2")
    >>> store.url
    's3://my-zarr-data/experiments/array1?region=us-west-2'
    """

    schemes = ("s3",)

    kind = "Cloud"
    persistence = "Yes"
    scalability = "Unlimited"
    latency = "High"
    use = "AWS infrastructure, and services that speak its protocol"

    def __init__(
        self,
        bucket: str,
        *,
        prefix: str = "",
        region: str | None = None,
        endpoint_url: str | None = None,
        profile: str | None = None,
        storage_class: str | None = None,
        anonymous: bool = False,
        credentials: Callable[[], Any] | None = None,
        engine: str | None = None,
        retry: Retry | None = None,
        max_concurrency: int = MAX_CONCURRENCY,
    ) -> None:
        super().__init__(prefix=prefix, retry=retry, max_concurrency=max_concurrency)
        self.bucket = _checked_bucket(bucket)
        self.region = region
        self.endpoint_url = _checked_endpoint(endpoint_url)
        self.profile = profile
        self.storage_class = storage_class
        self.anonymous = anonymous
        if credentials is not None and not callable(credentials):
            raise TypeError(
                f"credentials=: expected a callable that returns them, got {type(credentials).__name__}: "
                "secrets are not options"
            )
        if credentials is not None and anonymous:
            raise TypeError("anonymous=True: expected no credentials= beside it")
        self._credentials = credentials
        if engine not in (None, "obstore"):
            raise ValueError(f'engine: expected None or "obstore", got {engine!r}')
        self.engine = engine
        self._settings: Settings | None = None
        self._identity: Identity | None = None

    @classmethod
    def from_url(cls, url: str, *, mode: str | None = None, **options: Any) -> S3Store:
        """The store of ``s3://BUCKET/PREFIX``; the options that are text may stand behind a question mark.

        Examples
        --------
        >>> from zarrcy.stores.s3 import S3Store
        >>> S3Store.from_url("s3://my-zarr-data/experiments/array1").prefix
        'experiments/array1'
        """
        place, _, query = url.partition("://")[2].partition("?")
        bucket, _, prefix = place.partition("/")
        given: dict[str, Any] = dict(parse_qsl(query))
        if "anonymous" in given:
            given["anonymous"] = given["anonymous"] == "true"
        unknown = given.keys() - {*_TEXTS, "anonymous"}
        if "@" in bucket or unknown:
            # It is not shown: it may be where somebody put a secret.
            raise StoreError(
                "url: expected s3://BUCKET/PREFIX, and behind a question mark some of "
                f"{', '.join((*_TEXTS, 'anonymous'))}; got another text",
                code="bad_url",
                hint="Credentials are not part of a URL: see the page on S3.",
            )
        return cls(unquote(bucket), **{"prefix": unquote(prefix), **given, **options})

    @property
    def url(self) -> str:
        """The URL of the store, without secrets."""
        place = quote(self.bucket, safe=":") + ("/" + quote(self.prefix) if self.prefix else "")
        given = [(name, value) for name in _TEXTS if (value := getattr(self, name)) is not None]
        if self.anonymous:
            given.append(("anonymous", "true"))
        return f"s3://{place}" + (f"?{urlencode(given, safe=':/')}" if given else "")

    @property
    def priced_as(self) -> str:  # type: ignore[override]
        """``"s3"`` at Amazon's own endpoints; the prices of other services are not known."""
        others = (self.endpoint_url, os.environ.get("AWS_ENDPOINT_URL_S3"), os.environ.get("AWS_ENDPOINT_URL"))
        return "" if any(others) else "s3"

    def options(self) -> dict[str, Any]:
        """The arguments that open this storage again, without secrets; a callable is one of them."""
        options: dict[str, Any] = {"bucket": self.bucket, **super().options()}
        options |= {name: value for name in _TEXTS if (value := getattr(self, name)) is not None}
        if self.anonymous:
            options["anonymous"] = True
        if self._credentials is not None:
            options["credentials"] = self._credentials
        return options

    def __repr__(self) -> str:
        # The repr of a callable may show what it was made with.
        options = {**self.options(), **({"credentials": "<callable>"} if self._credentials is not None else {})}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in options.items())})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._credentials is not None and not _is_importable(self._credentials):
            raise StoreError(
                "credentials=: expected a function of a module, got a callable that may hold a secret",
                store=self.url,
                code="not_picklable",
                hint="Write it as `def` at the top of a module: another process imports it by its name.",
            )
        return super().__reduce__()

    def _client_key(self) -> Hashable:
        self._settings = settings = Settings(self.region, self.endpoint_url, self.profile)
        n_connections = max(self.max_concurrency, MIN_CONNECTIONS)
        key = ("s3", self.engine, self.bucket, self.storage_class, n_connections)
        if self._credentials is not None:
            # Whoever gives the same callable has the same credentials, as long as the client holds it.
            return *key, id(self._credentials), settings.digest(None)
        self._identity = None if self.anonymous else settings.identity()
        return *key, self.anonymous, settings.digest(self._identity)

    def _make_client(self) -> ObjectClient:
        from zarrcy.stores.s3_client import S3Client

        settings = self._settings
        assert settings is not None
        identity = Rotating(self._credentials) if self._credentials is not None else self._identity
        if self.engine is not None:
            from zarrcy.stores.s3_obstore import S3ObstoreClient

            return S3ObstoreClient(self.bucket, settings, identity, self.storage_class)
        n_connections = max(self.max_concurrency, MIN_CONNECTIONS)
        return S3Client(
            settings.place(self.bucket), identity, settings.certificates(), self.storage_class, n_connections
        )


def _checked_bucket(bucket: str) -> str:
    if not bucket or "/" in bucket.removeprefix("arn:").partition("accesspoint/")[0]:
        raise StoreError(
            f"bucket: expected a name, got {bucket!r}", code="no_bucket", hint="What follows it goes into prefix=."
        )
    if bucket.endswith("--x-s3"):
        raise StoreError(
            f"bucket: expected one of the general kind, got the directory bucket {bucket!r}",
            code="directory_bucket",
            hint="Directory buckets (S3 Express) have a protocol of their own, which is not spoken here.",
        )
    return bucket


def _checked_endpoint(url: str | None) -> str | None:
    if url is None:
        return None
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query:
        raise StoreError(
            "endpoint_url: expected http://HOST:PORT or https://HOST, got another text",
            code="bad_endpoint",
            hint="No user and no password: credentials come from the environment.",
        )
    return url.rstrip("/")


def _is_importable(call: Callable[[], Any]) -> bool:
    return hasattr(call, "__qualname__") and hasattr(call, "__code__") and "<" not in call.__qualname__
