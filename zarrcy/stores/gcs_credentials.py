"""Google's credentials: where they come from, what tells them apart, and one renewal of them at a time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import google.auth
import google.auth.credentials
import google.auth.exceptions
from google.auth.credentials import Credentials, TokenState
from google.oauth2 import service_account

from zarrcy.errors import PermissionDeniedError, StoreError

__all__ = ["ANONYMOUS", "SharedCredentials", "Source"]

ANONYMOUS = "anonymous"

# Objects may be read, written and deleted; who may do so cannot be changed with it.
SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)

FILE_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"

_FILE = "Download the JSON key of a service account, and give its path; other kinds of files go into " + FILE_VARIABLE
_DEFAULT_FILE = f"{FILE_VARIABLE} names the file, or gcloud keeps it there: check the path, and that the file is whole."
_DEFAULT = f"Give credentials=, set {FILE_VARIABLE}, or run: gcloud auth application-default login"


class Source:
    """Where a store has its credentials from.

    Parameters
    ----------
    given : str, Credentials, callable or None
        The path of a service account's file; ``"anonymous"``; an object of google-auth, or a callable that returns one;
        ``None`` for the application default credentials.
    store : str
        URL of the store, for errors.

    Attributes
    ----------
    words : str
        Which credentials these are, for errors; names the file, where there is one.
    """

    def __init__(self, given: Any, store: str) -> None:
        self.given = given
        self.store = store
        self.path = given if isinstance(given, str) and given != ANONYMOUS else None
        self.words = "the credentials that were given"
        if given is None:
            self.path = _default_file()
            self.words = "the application default credentials"
        elif given == ANONYMOUS:
            self.words = "no credentials"
        elif not isinstance(given, (str, Credentials)):
            self.words = "the credentials of the callable"
        if self.path is not None:
            self.words = f"the credentials in {self.path}"

    def digest(self) -> Hashable:
        """What tells these credentials from others. A file that has changed is another one."""
        if self.path is not None:
            return self.path, hashlib.sha256(self._read()).hexdigest()
        return self.given if isinstance(self.given, (str, type(None))) else id(self.given)

    def credentials(self) -> SharedCredentials:
        """The credentials, resolved now.

        Raises
        ------
        PermissionDeniedError
            There are none, or they cannot be read.
        """
        make: Callable[[], Credentials] | None = None
        if self.given is None:
            first = self._default()
        elif self.given == ANONYMOUS:
            first = google.auth.credentials.AnonymousCredentials()
        elif isinstance(self.given, str):
            first = self._of_file()
        elif isinstance(self.given, Credentials):
            first = self.given
        else:
            make = self._call
            first = make()
        return SharedCredentials(_scoped(first), make)

    def _default(self) -> Credentials:
        found = None
        # What is raised, and where, may show a key: it is not chained.
        with contextlib.suppress(Exception):
            found, _ = google.auth.default(scopes=SCOPES)
        if found is not None:
            return found
        if self.path is not None:
            raise self._refusal(f"expected {self.path} to hold credentials, got something else", _DEFAULT_FILE)
        raise self._refusal("expected application default credentials, got none", _DEFAULT)

    def _of_file(self) -> Credentials:
        try:
            info = json.loads(self._read())
        except ValueError:
            info = None
        if not isinstance(info, dict):
            raise self._refusal(f"expected a JSON object in {self.path}, got something else", _FILE)
        if info.get("type") != "service_account":
            what = f'expected "type": "service_account" in {self.path}, got {info.get("type")!r:.40}'
            raise self._refusal(what, _FILE)
        # As above.
        with contextlib.suppress(Exception):
            found: Credentials = service_account.Credentials.from_service_account_info(info)
            return found
        raise self._refusal(f"expected {self.path} to hold the whole key of a service account, got a broken one", _FILE)

    def _read(self) -> bytes:
        assert self.path is not None
        try:
            return Path(self.path).read_bytes()
        except OSError as error:
            hint = _DEFAULT_FILE if self.given is None else _FILE
            raise self._refusal(
                f"expected a file of credentials at {self.path}, got: {error.strerror}", hint
            ) from error

    def _call(self) -> Credentials:
        try:
            made = self.given()
        except Exception as error:
            hint = "Its cause is shown above."
            raise self._refusal(f"expected credentials of the callable, got {type(error).__name__}", hint) from error
        if not isinstance(made, Credentials):
            raise self._refusal(
                f"expected credentials of the callable, got {type(made).__name__}",
                "Let it return an object of google-auth, such as "
                "google.oauth2.service_account.Credentials.from_service_account_info(…)",
            )
        return _scoped(made)

    def _refusal(self, what: str, hint: str) -> StoreError:
        return PermissionDeniedError(what, store=self.store, code="bad_credentials", hint=hint)


class SharedCredentials(Credentials):  # type: ignore[misc]
    """Credentials of many threads: one of them renews what is about to expire, or was refused.

    Parameters
    ----------
    first : Credentials
        The present ones.
    make : callable, optional
        Called for new ones; by default they renew themselves.
    """

    def __init__(self, first: Credentials, make: Callable[[], Credentials] | None = None) -> None:
        super().__init__()
        self._present = first
        self._make = make
        self._renewing = threading.Lock()
        self._n_renewed = 0
        self._used = threading.local()

    @property
    def present(self) -> Credentials:
        """Those that requests have now."""
        return self._present

    @property
    def universe_domain(self) -> Any:
        return self._present.universe_domain

    def before_request(self, request: Any, method: Any, url: Any, headers: Any) -> None:
        """Put a token into the headers of a request. While it is good for some minutes more, others do not wait."""
        present = self._present
        if not present.valid and self._renewing.acquire(blocking=present.token_state is not TokenState.STALE):
            try:
                if not self._present.valid:
                    self._renew(request)
            finally:
                self._renewing.release()
        self._used.number = self._n_renewed
        present = self._present
        if present.valid:
            present.before_request(request, method, url, headers)
        else:
            present.apply(headers)

    def refresh(self, request: Any) -> None:
        """Renew what this thread's request was refused with, unless another thread has."""
        with self._renewing:
            if getattr(self._used, "number", self._n_renewed) == self._n_renewed:
                self._renew(request)

    def _renew(self, request: Any) -> None:
        present = self._present if self._make is None else self._make()
        if self._make is None or not present.valid:
            _refresh(present, request)
        self._present = present
        self._n_renewed += 1


def _refresh(credentials: Credentials, request: Any) -> None:
    try:
        credentials.refresh(request)
    except (google.auth.exceptions.GoogleAuthError, OSError):
        raise
    except Exception as error:
        # google-auth trusts that the answer is the JSON of a token.
        what = f"an answer without a token ({type(error).__name__})"
        raise google.auth.exceptions.RefreshError(what, retryable=True) from None


def _scoped(credentials: Credentials) -> Credentials:
    return google.auth.credentials.with_scopes_if_required(credentials, SCOPES)


def _default_file() -> str | None:
    """The file that the application default credentials are read from; ``None`` when they come from the machine."""
    named = os.environ.get(FILE_VARIABLE)
    if named:
        return named
    home = os.environ.get("CLOUDSDK_CONFIG") or str(Path.home() / ".config" / "gcloud")
    path = Path(home) / "application_default_credentials.json"
    return str(path) if path.exists() else None
