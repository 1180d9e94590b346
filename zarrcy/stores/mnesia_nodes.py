"""The nodes of an Erlang cluster, as `MnesiaStore` calls them: the cookie, a pool of connections, another node when
one is gone."""

from __future__ import annotations

import errno
import os
import random
import socket
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from zarrcy.errors import OutcomeUnknownError, PermissionDeniedError, StoreError, UnavailableError
from zarrcy.stores import epmd
from zarrcy.stores.erlang_terms import Atom, Encoded, ExternalFun

if TYPE_CHECKING:
    from zarrcy.stores.ei import Connection, EiError

__all__ = ["COOKIE_VARIABLE", "Nodes", "Secret", "describe", "load_ei"]

COOKIE_VARIABLE = "ZARRCY_MNESIA_COOKIE"
CONNECT_TIMEOUT = 10.0
MAX_TRIES = 3
MAX_COOKIE_NBYTES = 512

# The node keeps an atom for each name that ever connected, and never forgets one: names come from a small set.
N_NAMES = 1 << 16

# What libei returns when it gets no connection (ei.h).
HUNG_UP, NO_EPMD, NO_SUCH_NODE = -1, -2, -3

T = TypeVar("T")


class Secret:
    """A cookie, which is shown nowhere: in no repr, pickle or traceback with local variables."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        try:
            self._value = value.encode()
        except UnicodeEncodeError:
            # The original error holds the text.
            raise ValueError("cookie: expected text") from None
        if not 0 < len(self._value) <= MAX_COOKIE_NBYTES:
            raise ValueError(f"cookie: expected 1 to {MAX_COOKIE_NBYTES} bytes, got {len(self._value)}")

    def reveal(self) -> bytes:
        return self._value

    def __repr__(self) -> str:
        return "Secret(...)"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a cookie is not pickled")


def load_ei(url: str) -> ModuleType:
    """The compiled module that talks to nodes.

    Raises
    ------
    StoreError
        This zarrcy was built without it.
    """
    try:
        from zarrcy.stores import ei
    except ImportError as error:
        raise StoreError(
            "expected a zarrcy that was built with Erlang's C library, got one without it",
            store=url,
            code="not_built",
            hint="Install Erlang's erl_interface (Debian: apt-get install erlang-dev), then build zarrcy there: "
            "pip install --force-reinstall --no-deps --no-binary zarrcy zarrcy",
        ) from error
    return ei


class Nodes:
    """Connections to the nodes of a cluster. Any thread may call; each call has a connection to itself.

    Parameters
    ----------
    names : tuple of str
        The nodes, ``name@host``; the first that can be reached is used, until it cannot be reached any more.
    cookie : Secret, optional
        The cluster's secret; otherwise it is looked for when a connection is opened.
    url : str
        For messages.
    timeout : float
        Seconds that a call may take.
    """

    def __init__(self, names: tuple[str, ...], cookie: Secret | None, url: str, timeout: float) -> None:
        self.names = names
        self.url = url
        self.timeout = timeout
        self._cookie = cookie
        self._ei = load_ei(url)
        self._forget()

    def _forget(self) -> None:
        self._idle: dict[str, list[Connection]] = {}
        self._process = os.getpid()

    # ---- calling

    def call(self, module: str, function: str, *arguments: Any, node: str | None = None, again: bool = True) -> Any:
        """``rpc:call`` of a function, on the node that is in use or on `node`.

        Parameters
        ----------
        again : bool, default True
            Call again when the answer was lost: twice is as good as once.

        Raises
        ------
        UnavailableError
            No node can be reached, or the answer did not come in time.
        PermissionDeniedError
            The nodes refused the cookie.
        OutcomeUnknownError
            The answer was lost, and the call must not be made twice.
        """
        return self.use(lambda each: each.call(module, function, list(arguments), self.timeout), node, again)

    def evaluate(self, connection: Connection, source: str, variables: dict[str, Any]) -> Any:
        """The value of an Erlang expression. The node parses it once for each connection; no module is loaded into
        it."""
        program = connection.programs.get(source)
        if program is None:
            try:
                program = connection.programs[source] = self._parse(connection, source)
            except self._ei.EiError as error:
                raise self._ei.EiError("send", error.status, error.errno) from error  # the expression did not run
        bindings = [(Atom(name), value) for name, value in sorted(variables.items())]
        none = Atom("none")
        # The value alone comes back, without the variables.
        return connection.call("erl_eval", "expr", [program, bindings, none, none, Atom("value")], self.timeout)

    def _parse(self, connection: Connection, source: str) -> Encoded:
        from zarrcy.stores.erlang_terms import encode

        answer = connection.call("erl_scan", "string", [list(map(ord, source))], self.timeout)
        if answer[0] == "ok":
            answer = connection.call("erl_parse", "parse_exprs", [answer[1]], self.timeout)
        if answer[0] != "ok" or len(answer[1]) != 1:
            raise StoreError(f"expected an expression that Erlang can parse, got {describe(answer)}", store=self.url)
        return Encoded(encode(answer[1][0])[1:])

    def use(self, work: Callable[[Connection], T], node: str | None = None, again: bool = True) -> T:
        """What `work` makes of a connection, which is its own meanwhile. Raises what `call` raises."""
        for left in reversed(range(MAX_TRIES)):
            connection = self._take(node)
            try:
                value = work(connection)
            except self._ei.EiError as error:
                connection.close()
                if error.errno == errno.ETIMEDOUT and error.stage == "receive":
                    raise self._no_answer(again, connection.node, f"within {self.timeout:g} s") from error
                if error.stage == "receive" and not again:
                    raise self._no_answer(again, connection.node, "before the connection broke") from error
                if not left:
                    raise self._unreachable(connection.node, error) from error
            except ValueError as error:
                connection.close()
                raise StoreError(f"expected an answer of Erlang's format: {error}", store=self.url) from error
            else:
                self._give_back(connection)
                return value
        raise AssertionError("the loop ends by a return or an exception")

    def _no_answer(self, again: bool, node: str, when: str) -> StoreError:
        if again:
            return UnavailableError(f"expected an answer of {node} {when}, got none", store=self.url, code="no_answer")
        return OutcomeUnknownError(
            f"expected an answer of {node} {when}, got none: the change may have been made, or not",
            store=self.url,
            code="outcome_unknown",
            hint="Read what is there, and decide anew.",
        )

    # ---- connections

    def _take(self, node: str | None) -> Connection:
        if self._process != os.getpid():
            self._forget()  # the connections, and the answers under way on them, are the parent's
        if node is not None:
            return self._open_or_reuse(node)
        failures: list[StoreError] = []
        for name in self.names:
            try:
                connection = self._open_or_reuse(name)
            except StoreError as error:
                failures.append(error)
                continue
            if failures:  # the next call begins with a node that answers
                self.names = (name, *(other for other in self.names if other != name))
            return connection
        raise self._no_node(failures)

    def _open_or_reuse(self, node: str) -> Connection:
        idle = self._idle.setdefault(node, [])
        while idle:
            try:
                connection = idle.pop()
            except IndexError:
                break  # another thread took it
            # A node hangs up on a connection whose ticks nobody answered, and when it ends.
            if connection.is_alive():
                return connection
            connection.close()
        return self.connect(node)

    def connect(self, node: str, timeout: float = CONNECT_TIMEOUT) -> Connection:
        """A new connection, outside the pool."""
        secret = self._cookie or _found_cookie(self.url)
        host = socket.gethostname() or "localhost"
        for is_last in (False, True):
            alive = f"zarrcy-{random.SystemRandom().randrange(N_NAMES)}"
            try:
                connection: Connection = self._ei.Connection(node, secret.reveal(), host, alive, timeout)
                return connection
            except self._ei.EiError as error:
                # The name may have been another client's: once more with another.
                if is_last or error.status != HUNG_UP or error.errno == errno.ETIMEDOUT:
                    raise self._unreachable(node, error) from error
        raise AssertionError("the loop ends by a return or an exception")

    def _give_back(self, connection: Connection) -> None:
        self._idle.setdefault(connection.node, []).append(connection)

    def close(self) -> None:
        """Close what is idle."""
        idle = self._idle
        self._forget()
        for connections in idle.values():
            for connection in connections:
                connection.close()

    def _unreachable(self, node: str, error: EiError) -> StoreError:
        where = f"epmd on {node.partition('@')[2]}:{epmd.port()}"
        if error.status == NO_SUCH_NODE:
            what = f"expected {node} among the nodes that {where} knows, got no such node"
            return UnavailableError(what, store=self.url, code="no_node", hint="Is it running, under this name?")
        if error.status == NO_EPMD:
            cause = error.__cause__
            reason = getattr(cause, "strerror", None) or cause
            what = f"expected {where}, which knows the ports of Erlang's nodes, got no connection: {reason}"
            hint = "Is the node running, with -name or -sname? ERL_EPMD_PORT names another port than 4369."
            return UnavailableError(what, store=self.url, code="no_epmd", hint=hint)
        if error.stage == "connect" and error.errno == errno.EIO:
            return PermissionDeniedError(
                f"expected {node} to accept the connection, got none: the cookie is wrong, or the network failed "
                "(libei cannot tell which)",
                store=self.url,
                code="refused",
                hint=f"Compare the cookie (cookie=, {COOKIE_VARIABLE} or ~/.erlang.cookie) with the node's; if it is "
                "the same, look at the network.",
            )
        reason = os.strerror(error.errno) if error.errno > 0 else f"status {error.status}"
        code = errno.errorcode.get(error.errno, "unavailable").lower()
        return UnavailableError(f"expected a connection to {node}, got {reason}", store=self.url, code=code)

    def _no_node(self, failures: list[StoreError]) -> StoreError:
        if len(failures) == 1:
            return failures[0]
        denied = any(isinstance(failure, PermissionDeniedError) for failure in failures)
        texts = "; ".join(failure.message for failure in failures)
        return (PermissionDeniedError if denied else UnavailableError)(
            f"no node can be reached: {texts}", store=self.url, code=failures[0].code, hint=failures[0].hint
        )


def _found_cookie(url: str) -> Secret:
    if os.environ.get(COOKIE_VARIABLE):
        return Secret(os.environ[COOKIE_VARIABLE])
    from pathlib import Path

    try:
        return Secret((Path.home() / ".erlang.cookie").read_text().strip())
    except (OSError, RuntimeError) as error:
        raise StoreError(
            f"expected the cookie of the Erlang cluster in cookie=, in {COOKIE_VARIABLE} or in ~/.erlang.cookie, got "
            "none",
            store=url,
            code="no_cookie",
            hint=f"Set {COOKIE_VARIABLE}. A pickle holds no cookie.",
        ) from error


def describe(term: Any, limit: int = 300) -> str:
    """A term for a message: in Erlang's writing, without the bytes of long binaries.

    Examples
    --------
    >>> describe((Atom("aborted"), [1, b"ab", bytes(100)]))
    '{aborted,[1,<<"ab">>,<<100 bytes>>]}'
    """
    text = _written(term)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _written(term: Any) -> str:
    if isinstance(term, ExternalFun):
        return f"fun {term.module}:{term.function}/{term.arity}"
    if isinstance(term, Encoded):
        return "..."
    if isinstance(term, tuple):
        return "{" + ",".join(map(_written, term)) + "}"
    if isinstance(term, list):
        if term and all(type(item) is int and 32 <= item < 127 for item in term):
            return '"' + bytes(term).decode() + '"'
        return "[" + ",".join(map(_written, term)) + "]"
    if isinstance(term, bytes):
        return f'<<"{term.decode()}">>' if len(term) <= 40 and term.isascii() else f"<<{len(term)} bytes>>"
    return str(term)
