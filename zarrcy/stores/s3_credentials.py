"""Who asks S3, and where: the SDK's own chain of credentials, or a callable; regions and endpoints as the SDK finds
them.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import io
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from zarrcy.errors import PermissionDeniedError, StoreError
from zarrcy.stores.catalogue import require

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials

__all__ = ["CHECK_HINT", "INSTALL", "Identity", "Place", "Rotating", "Settings"]

INSTALL = "zarrcy[s3]"
CHECK_HINT = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, give profile= or credentials=, or run where a role is."

# A callable is called again this long before what it gave expires, or after four fifths of its time if that is sooner.
EARLY, EARLY_SHARE = 300.0, 0.2
# After a call that failed while the credentials still hold, in seconds.
AGAIN = 10.0

# A key that is never asked for: it finds out where a bucket is.
_ANY_KEY = "zarrcy"


class Identity:
    """Credentials as the SDK found them, and refreshes them.

    Parameters
    ----------
    found : botocore.credentials.Credentials
        Their ``repr`` shows nothing.
    """

    def __init__(self, found: Any) -> None:
        self._found = found

    def current(self) -> ReadOnlyCredentials:
        """What to sign with now.

        Raises
        ------
        PermissionDeniedError
            They expired, and cannot be had again.
        """
        with _translated(), _hushed():
            current: ReadOnlyCredentials = self._found.get_frozen_credentials()
        return current


class Rotating(Identity):
    """Credentials of a callable, which is called again before they expire; by one thread at a time.

    Parameters
    ----------
    make : callable
        Returns a mapping or a tuple of an access key, a secret key and optionally a token and the time of expiry.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._known: ReadOnlyCredentials | None = None
        self._again = self._expiry = float("-inf")

    def current(self) -> ReadOnlyCredentials:
        """As of `Identity`. Others go on with what they have while one thread calls, as long as it holds."""
        if time.time() >= self._again and self._lock.acquire(blocking=time.time() >= self._expiry):
            try:
                if time.time() >= self._again:
                    self._refresh()
            finally:
                self._lock.release()
        assert self._known is not None
        return self._known

    def _refresh(self) -> None:
        called = time.time()
        try:
            self._known, self._expiry = _credentials_of(self._make())
        except Exception as error:
            if time.time() < self._expiry:
                self._again = time.time() + AGAIN
                return
            if isinstance(error, TypeError):
                raise
            raise PermissionDeniedError(
                f"credentials=: expected an access key and a secret, the callable raised {type(error).__name__}",
                code="credentials",
                hint="Its own error is above.",
            ) from error
        left = self._expiry - called
        self._again = self._expiry - min(EARLY, left * EARLY_SHARE) if left < float("inf") else float("inf")


_NAMES = (
    ("access_key", "aws_access_key_id", "AccessKeyId"),
    ("secret_key", "aws_secret_access_key", "SecretAccessKey"),
    ("token", "aws_session_token", "SessionToken"),
    ("expiry", "expiration", "Expiration"),
)


def _credentials_of(given: Any) -> tuple[ReadOnlyCredentials, float]:
    """The credentials that a callable returned, and when they expire."""
    if isinstance(given, Mapping):
        values = [next((given[name] for name in names if given.get(name) is not None), None) for names in _NAMES]
    elif isinstance(given, tuple) and 2 <= len(given) <= 4:
        values = [*given, *(None,) * (4 - len(given))]
    else:
        values = [None] * 4
    access_key, secret_key, token, expiry = values
    if not (access_key and secret_key and isinstance(access_key, str) and isinstance(secret_key, str)):
        raise TypeError(
            "credentials=: expected a callable that returns a mapping with access_key, secret_key and optionally token "
            f"and expiry, or a tuple of them, got another {type(given).__name__}"
        )
    from botocore.credentials import ReadOnlyCredentials

    return ReadOnlyCredentials(access_key, secret_key, token or None), _seconds(expiry)


def _seconds(expiry: Any) -> float:
    """A time since the epoch: from seconds, a datetime, or the text of one."""
    if expiry is None:
        return float("inf")
    if isinstance(expiry, str):
        expiry = datetime.fromisoformat(expiry)
    if isinstance(expiry, datetime):
        return (expiry if expiry.tzinfo else expiry.replace(tzinfo=UTC)).timestamp()
    return float(expiry)


class Place(NamedTuple):
    """Where a bucket is, and for whom requests are signed.

    Attributes
    ----------
    base : str
        What stands in front of the name of an object in its URL; ends in ``"/"``.
    region, service : str
        Of the signature.
    """

    base: str
    region: str
    service: str


class Settings:
    """What the SDK reads from the environment and the shared files, at one moment.

    Parameters
    ----------
    region, endpoint_url, profile : str, optional
        The options of the store.

    Raises
    ------
    StoreError
        There is no such profile, or a file cannot be read.
    """

    def __init__(self, region: str | None, endpoint_url: str | None, profile: str | None) -> None:
        require("boto3", INSTALL)
        import botocore.session

        with _translated(asks=False):
            self._session = botocore.session.Session(
                profile=profile, event_hooks=copy.copy(_handlers()), include_builtin_handlers=False
            )
            self._session.register_component("data_loader", _loader(self._session.get_config_variable("data_path")))
            self._profile = self._session.get_scoped_config()
            self._services = self._session.full_config.get("services")
            # AWS_REGION is what the other SDKs read, and Lambda sets; this one reads AWS_DEFAULT_REGION.
            variable = os.environ.get("AWS_DEFAULT_REGION") or os.environ.get("AWS_REGION")
            self.region = region or variable or self._session.get_config_variable("region")
            self._ca_bundle = self._session.get_config_variable("ca_bundle")
        self._endpoint_url = endpoint_url
        self._options = region, endpoint_url, profile

    def identity(self) -> Identity:
        """Whose credentials the chain finds.

        Raises
        ------
        PermissionDeniedError
            It finds none (``code="no_credentials"``), or they cannot be had (``"credentials"``).
        """
        with _translated(), _hushed():
            found = self._session.get_credentials()
        if found is None:
            raise PermissionDeniedError(
                "expected credentials, found none", code="no_credentials", hint=f"{CHECK_HINT} Or give anonymous=True."
            )
        return Identity(found)

    def digest(self, identity: Identity | None) -> bytes:
        """A digest of all that a client is made from, the credential included."""
        variables = sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_"))
        text = repr((self._options, self.region, variables, self._profile, self._services))
        if identity is not None:
            text += repr(tuple(identity.current()))
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()

    def certificates(self) -> str:
        """The file of the authorities that are trusted."""
        from botocore.httpsession import get_cert_path

        return str(self._ca_bundle or get_cert_path(True))

    def place(self, bucket: str) -> Place:
        """Where a bucket is: taken from a request that the SDK prepares, and that is not sent.

        Raises
        ------
        StoreError
            The bucket, the region or the endpoint cannot be so.
        """
        from botocore.awsrequest import AWSResponse
        from botocore.config import Config

        prepared: list[Any] = []

        def answer(request: Any, **_: Any) -> Any:
            prepared.append(request)
            return AWSResponse(request.url, 200, {}, io.BytesIO())

        with _translated(asks=False):
            client = self._session.create_client(
                "s3",
                region_name=self.region,
                endpoint_url=self._endpoint_url,
                aws_access_key_id="none",
                aws_secret_access_key="none",
                config=Config(signature_version="s3v4"),
            )
            client.meta.events.register("before-send.s3.GetObject", answer)
            client.get_object(Bucket=bucket, Key=_ANY_KEY)
            client.close()
        url = urlsplit(prepared[0].url)
        base = f"{url.scheme}://{url.netloc}{url.path.removesuffix(_ANY_KEY)}"
        authorization = prepared[0].headers["Authorization"]
        if isinstance(authorization, bytes):
            authorization = authorization.decode()
        region, service = authorization.partition("Credential=none/")[2].split("/")[1:3]
        return Place(base, region, service)


@functools.cache
def _handlers() -> Any:
    """What the SDK does at its events: to register that takes most of the time of a session."""
    import botocore.session

    return botocore.session.Session().get_component("event_emitter")


@functools.cache
def _loader(path: str | None) -> Any:
    """The SDK's data on services and endpoints: to read them takes a tenth of a second."""
    from botocore.loaders import create_loader

    return create_loader(path)


@contextmanager
def _translated(*, asks: bool = True) -> Iterator[None]:
    """Errors of the SDK as those of zarrcy. They are not chained: the output of a credential process is in some.

    Parameters
    ----------
    asks : bool
        Credentials are asked for: what else can go wrong is no option of the user's.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
        return
    except (BotoCoreError, ClientError, OSError, ValueError) as error:
        if isinstance(error, StoreError):
            raise
        failure = _meaning(type(error).__name__, asks)
    raise failure from None


# By the names of the SDK's exceptions.
_BAD_OPTIONS = {
    "ProfileNotFound": ("no_profile", "Correct profile= or AWS_PROFILE: `aws configure list-profiles` shows them."),
    "ConfigNotFound": ("bad_config", "Check AWS_CONFIG_FILE."),
    "ConfigParseError": ("bad_config", "Correct ~/.aws/config or ~/.aws/credentials."),
    "ParamValidationError": ("bad_bucket", "Check the name of the bucket."),
    "InvalidRegionError": ("bad_region", "Check region=, AWS_REGION and the profile."),
    "ValueError": ("bad_endpoint", "Write http://HOST:PORT or https://HOST."),
}


def _meaning(name: str, asks: bool) -> StoreError:
    if asks and name not in _BAD_OPTIONS:
        return PermissionDeniedError(
            f"expected credentials, the SDK raised {name}", code="credentials", hint=f"They cannot be had. {CHECK_HINT}"
        )
    code, hint = _BAD_OPTIONS.get(name, ("bad_option", "Check bucket=, region= and endpoint_url=."))
    return StoreError(f"expected options that S3 can be reached with, the SDK raised {name}", code=code, hint=hint)


class _Hush(logging.Filter):
    """Leaves out what the SDK logs while it asks for credentials: the answers hold them."""

    def __init__(self) -> None:
        super().__init__()
        self.active = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.DEBUG or not getattr(self.active, "now", False)


_hush = _Hush()
for _name in ("auth", "endpoint", "hooks", "parsers", "utils", "httpchecksum", "retryhandler", "credentials"):
    logging.getLogger(f"botocore.{_name}").addFilter(_hush)


@contextmanager
def _hushed() -> Iterator[None]:
    before = getattr(_hush.active, "now", False)
    _hush.active.now = True
    try:
        yield
    finally:
        _hush.active.now = before
