"""URLs of MongoDB: what is secret in one, and where it comes from in another process."""

from __future__ import annotations

import os
import re
from urllib.parse import quote, unquote

from zarrcy.errors import PermissionDeniedError, StoreError

__all__ = ["PASSWORD_VARIABLE", "URL_VARIABLE", "MongoURL"]

PASSWORD_VARIABLE = "ZARRCY_MONGODB_PASSWORD"
URL_VARIABLE = "ZARRCY_MONGODB_URL"

_URL = re.compile(
    r"(?P<scheme>mongodb(?:\+srv)?)://(?:(?P<user>[^:@/?#]*)(?::(?P<password>[^:@/?#]*))?@)?"
    r"(?P<hosts>[^@/?#]+)(?:/(?P<database>[^@/?#]*))?(?:\?(?P<query>[^@?#]*))?"
)
_SECRET_OPTION = re.compile("password|passphrase|secret|token", re.IGNORECASE)

# Those that prove who one is without a password.
_WITHOUT_PASSWORD = {"MONGODB-X509", "MONGODB-AWS", "MONGODB-OIDC", "GSSAPI"}


class MongoURL:
    """A ``mongodb://`` or ``mongodb+srv://`` URL in its parts, percent-encoded as they came.

    Parameters
    ----------
    text : str
        The URL.

    Attributes
    ----------
    public : str
        The URL without what is secret in it.
    database : str
        The part after the hosts; empty when there is none.
    options : dict
        The options behind the question mark, secret ones included.

    Raises
    ------
    StoreError
        It is no such URL. The message does not show it: a password may be anywhere in it.

    Examples
    --------
    >>> from zarrcy.stores.mongo_url import MongoURL
    >>> MongoURL("mongodb://ann:secret@db.example/lab?replicaSet=rs0")
    MongoURL('mongodb://ann@db.example/lab?replicaSet=rs0')
    """

    def __init__(self, text: str) -> None:
        match = _URL.fullmatch(text)
        if match is None:
            raise StoreError(
                "url: expected mongodb://USER:PASSWORD@HOST/DATABASE?OPTIONS, got another text",
                code="bad_url",
                hint="Write %XX for each of : / ? # @ % in the user, the password and the options.",
            )
        self.scheme = match["scheme"]
        self.user: str | None = match["user"]
        self.password: str | None = match["password"]
        self.hosts = match["hosts"]
        self.database = unquote(match["database"] or "")
        pairs = (pair.partition("=") for pair in re.split("[&;]", match["query"] or "") if pair)
        self.options = {name: value for name, _, value in pairs}

    def pop(self, name: str) -> str | None:
        """Take an option out; ``None`` when it is not there."""
        value = self.options.pop(name, None)
        return None if value is None else unquote(value)

    def option(self, name: str) -> str | None:
        """The value of an option, whose name may be in any case."""
        for each, value in self.options.items():
            if each.lower() == name.lower():
                return unquote(value)
        return None

    def move_to(self, database: str) -> None:
        """Put another database into the URL, without changing where the user is looked up."""
        if self.user is not None and self.option("authSource") is None and self.database != database:
            self.options["authSource"] = quote(self.database or "admin")
        self.database = database

    def with_options(self, **options: str) -> str:
        """The URL without secrets, with further options."""
        return self._text(self.user, {**self._shown(), **{name: quote(value) for name, value in options.items()}})

    @property
    def public(self) -> str:
        return self._text(self.user, self._shown())

    @property
    def identity(self) -> tuple[str, str | None, str]:
        """Whose password it is: the scheme, the user and the hosts."""
        return self.scheme, self.user, self.hosts

    def secrets(self) -> list[str]:
        """Every text that must not be seen, as it stands in the URL and decoded."""
        found = [self.password or "", *(value for name, value in self.options.items() if _is_secret(name, value))]
        return [text for value in found if value for text in dict.fromkeys((value, unquote(value)))]

    def connection(self) -> MongoURL:
        """The URL to connect with: this one, with the password that the environment holds where it has none.

        Raises
        ------
        PermissionDeniedError
            There is a user, no password, and none in the environment.
        """
        if self.user is None or self.password is not None:
            return self
        whole = os.environ.get(URL_VARIABLE)
        if whole is not None:
            other = MongoURL(whole)
            if other.identity == self.identity:
                return self._with_secrets(other.password, other._hidden())
        if self.option("authMechanism") in _WITHOUT_PASSWORD:
            return self
        password = os.environ.get(PASSWORD_VARIABLE)
        if password is None:
            raise PermissionDeniedError(
                f"expected a password for the user {unquote(self.user)!r}, got none",
                store=self.public,
                code="missing_password",
                hint=f"Set {PASSWORD_VARIABLE} to it, or {URL_VARIABLE} to the whole URL; secrets are never pickled.",
            )
        return self._with_secrets(quote(password, safe=""), {})

    @property
    def full(self) -> str:
        """The URL with its secrets."""
        return self._text(self.user if self.password is None else f"{self.user}:{self.password}", self.options)

    def _with_secrets(self, password: str | None, options: dict[str, str]) -> MongoURL:
        other = MongoURL(self.public)
        other.password = password
        other.options |= options
        return other

    def _shown(self) -> dict[str, str]:
        return {name: value for name, value in self.options.items() if not _is_secret(name, value)}

    def _hidden(self) -> dict[str, str]:
        return {name: value for name, value in self.options.items() if _is_secret(name, value)}

    @property
    def query(self) -> str:
        """The options as they stand in the URL, with their secrets."""
        return _query(self.options)

    def _text(self, user: str | None, options: dict[str, str]) -> str:
        query = _query(options)
        start = f"{self.scheme}://{user + '@' if user is not None else ''}{self.hosts}"
        return f"{start}/{quote(self.database, safe='')}{'?' + query if query else ''}"

    def __repr__(self) -> str:
        return f"MongoURL({self.public!r})"


def _query(options: dict[str, str]) -> str:
    return "&".join(f"{name}={value}" for name, value in options.items())


def _is_secret(name: str, value: str) -> bool:
    # authMechanismProperties holds several, a session token of AWS among them.
    return bool(_SECRET_OPTION.search(name)) or "aws_session_token" in value.lower()
