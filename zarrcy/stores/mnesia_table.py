"""A Mnesia table: calls on it, what is done when it is not there or not in one piece, and how it is made."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zarrcy.errors import StoreError, UnavailableError
from zarrcy.stores.erlang_terms import Atom, ExternalFun
from zarrcy.stores.mnesia_nodes import Nodes, describe
from zarrcy.stores.mnesia_programs import STATE

if TYPE_CHECKING:
    from zarrcy.stores.ei import Connection

__all__ = ["AbortedError", "Table"]

# How long the answer is believed that the node of a missing replica is down.
RECHECK_SECONDS = 10.0
# How long a look at the replicas serves the calls that do not look themselves.
FRESH_SECONDS = 1.0
REPLICA_CONNECT_TIMEOUT = 2.0
MAX_ATTEMPTS = 6

ATTRIBUTES = [Atom("key"), Atom("data")]
KINDS = (Atom("disc_copies"), Atom("ram_copies"), Atom("disc_only_copies"))
NONE = Atom("none")


class AbortedError(Exception):
    """A transaction was aborted; `reason` is Erlang's."""

    def __init__(self, reason: Any) -> None:
        super().__init__(describe(reason))
        self.reason = reason


class Table:
    """A table on the nodes of a cluster.

    Parameters
    ----------
    name : str
        The name of the table.
    nodes : Nodes
        Where it is.
    replicas : tuple of str
        The nodes that are to have Mnesia running, and a replica each when the table is made. Empty: nothing is
        started, and a new table is on one node.
    ram_copies : bool
        Make the table in memory alone.
    """

    def __init__(self, name: str, nodes: Nodes, replicas: tuple[str, ...], ram_copies: bool) -> None:
        self.name = Atom(name)
        self.nodes = nodes
        self.replicas = replicas
        self.ram_copies = ram_copies
        # By the node that was asked: the replicas that it misses, and until when that is no partition.
        self._known: dict[str, tuple[list[Any], float]] = {}
        # By the node: the replicas on disc that it sees, and until when it need not be asked again.
        self._states: dict[str, tuple[list[Any], float]] = {}

    # ---- calls

    def run(self, program: str, *, again: bool = True, **variables: Any) -> Any:
        """The value of a guarded program.

        Raises
        ------
        AbortedError
            The transaction was aborted, by the program or by Mnesia.
        StoreError
            The table is not there (``code="no_table"``), not loaded, or its replicas went apart (``"partitioned"``).
        """

        def ask(connection: Connection) -> tuple[str, Any]:
            return connection.node, self._evaluate(connection, program, variables)

        return self._result(ask, again)

    def transaction(self, function: ExternalFun, arguments: list[Any], *, writes: bool, durable: bool = False) -> Any:
        """What ``mnesia:transaction(Function, Arguments)`` commits: the short way, without an expression to evaluate.

        The replicas are looked at first when the last look is `FRESH_SECONDS` old. Raises what `run` raises.

        Parameters
        ----------
        writes : bool
            It changes something; the same a second time, if need be.
        durable : bool, default False
            Wait until the log of every replica on disc is on the disc.
        """

        def ask(connection: Connection) -> tuple[str, Any]:
            node = connection.node
            if time.monotonic() >= self._states.get(node, ([], 0.0))[1]:
                state = self._evaluate(connection, STATE, {})
                if state[0] != "ok":
                    return node, state
                self._states[node] = state[1], time.monotonic() + FRESH_SECONDS
            discs = self._states[node][0] if writes and durable else []
            kind = "sync_transaction" if discs else "transaction"
            result = connection.call("mnesia", kind, [function, arguments], self.nodes.timeout)
            if discs and result[0] == "atomic":
                synced = self._sync(connection, discs)
                result = result if synced is None else (Atom("unsynced"), synced)
            return node, (Atom("ok"), result) if result[0] in ("atomic", "unsynced") else result

        return self._result(ask, again=True)

    def _sync(self, connection: Connection, discs: list[Any]) -> Any:
        """Flush the logs; None when that was done."""
        if discs == [connection.node]:
            answer = connection.call("mnesia", "sync_log", [], self.nodes.timeout)
            return None if answer == "ok" else [answer]
        call = [discs, Atom("mnesia"), Atom("sync_log"), []]
        answers = connection.call("rpc", "multicall", call, self.nodes.timeout)[0]
        return None if all(answer == "ok" for answer in answers) else answers

    def _evaluate(self, connection: Connection, program: str, variables: dict[str, Any]) -> Any:
        away, until = self._known.get(connection.node, ([], 0.0))
        known = away if time.monotonic() < until else []
        return self.nodes.evaluate(connection, program, {**variables, "Tab": self.name, "Known": known})

    def _result(self, ask: Callable[[Connection], tuple[str, Any]], again: bool) -> Any:
        reason: Any = Atom("away")
        for _ in range(MAX_ATTEMPTS):
            node, answer = self.nodes.use(ask, again=again)
            if answer[0] == "away":
                self._known[node] = self._look_into(node, answer[1]), time.monotonic() + RECHECK_SECONDS
                continue
            if answer[0] == "ok" and answer[1][0] == "atomic":
                return answer[1][1]
            if answer[0] == "ok" and answer[1][0] == "unsynced":
                raise self._unsynced(answer[1][1])
            self._states.pop(node, None)
            reason = _reason(answer)
            if not _is_absent(reason):
                break
            self._revive(node)
        raise AbortedError(reason)

    def _unsynced(self, answers: Any) -> StoreError:
        what = f"expected the change on disc, got it made, but not flushed: {describe(answers)}"
        return StoreError(what, store=self.nodes.url, code="not_durable", hint="Look at the discs of the nodes.")

    def _look_into(self, node: str, away: list[Any]) -> list[Any]:
        """The replicas that `node` misses, as they came: none of them is cut off and running."""
        for other, connected in away:
            if self._is_apart(node, str(other), connected == "true"):
                raise self._partitioned(node, other)
        return away

    def _is_apart(self, node: str, other: str, connected: bool) -> bool:
        """Whether Mnesia runs on `other` without counting `node` in."""
        info = [Atom("mnesia"), Atom("system_info"), [Atom("running_db_nodes")]]
        if connected:
            running = self.nodes.call("rpc", "call", Atom(other), *info, 5000, node=node)
        else:
            # The node cannot reach it, but we may: then both sides are up.
            try:
                connection = self.nodes.connect(other, REPLICA_CONNECT_TIMEOUT)
            except StoreError:
                return False
            try:
                running = connection.call("mnesia", "system_info", [info[2][0]], REPLICA_CONNECT_TIMEOUT)
            except Exception:
                return False
            finally:
                connection.close()
        return isinstance(running, list) and other in running and node not in running

    def _partitioned(self, node: str, other: str) -> StoreError:
        return StoreError(
            f"expected one table, got a partitioned one: {node} and {other} both run Mnesia with a replica of "
            f"{self.name}, each without the other, and may hold different values",
            store=self.nodes.url,
            code="partitioned",
            hint="Choose the side whose values stay: on the other one call mnesia:set_master_nodes([Kept]), and "
            "restart Mnesia there.",
        )

    # ---- when it is not there

    def _revive(self, node: str) -> None:
        """Wait for a table that is being loaded; start Mnesia where that was asked for."""
        if not self._is_running(node):
            if not self.replicas:
                raise UnavailableError(
                    f"expected Mnesia running on {node}, got none",
                    store=self.nodes.url,
                    code="not_running",
                    hint="Call mnesia:start() there, or name the nodes in nodes= to have it started.",
                )
            self.join()
        if self.name not in self._info(node, "tables"):
            raise StoreError(
                f"expected the table {self.name} on {node}, got none",
                store=self.nodes.url,
                code="no_table",
                hint="The first array that is created makes it.",
            )
        self._wait_until_loaded(node)

    def _is_running(self, node: str) -> bool:
        """Whether Mnesia runs there, after a wait for what is just starting or stopping, the node included."""
        deadline = time.monotonic() + self.nodes.timeout
        while True:
            state = self._info(node, "is_running")
            if state == "yes":
                return True
            is_booted = self.nodes.call("init", "get_status", node=node)[0] != "starting"
            if state == "no" and is_booted:
                return False
            if time.monotonic() > deadline:
                what = f"expected Mnesia running on {node}, got {state}"
                raise UnavailableError(what, store=self.nodes.url, code="not_running")
            time.sleep(0.02)

    def _wait_until_loaded(self, node: str) -> None:
        ms = int(self.nodes.timeout * 500)
        answer = self.nodes.call("mnesia", "wait_for_tables", [self.name], ms, node=node)
        if answer != "ok":
            raise UnavailableError(
                f"expected the table {self.name} loaded on {node}, got {describe(answer)}",
                store=self.nodes.url,
                code="not_loaded",
                hint="Start the other nodes that hold it: Mnesia loads it from the one that was up last.",
            )

    def _info(self, node: str, item: str) -> Any:
        return self.nodes.call("mnesia", "system_info", Atom(item), node=node)

    # ---- making it

    def join(self) -> None:
        """Start Mnesia on the nodes where it does not run, join them, and put the schema on disc."""
        first = self.replicas[0]
        for node in self.replicas:
            if not self._is_running(node):
                self._expect_ok(self.nodes.call("mnesia", "start", node=node), f"Mnesia to start on {node}")
                self._is_running(node)
        for node in self.replicas[1:]:
            if node in self._info(first, "running_db_nodes"):
                continue
            if self.nodes.call("net_kernel", "connect_node", Atom(node), node=first) != "true":
                what = f"expected {first} connected to {node}, got no connection"
                raise UnavailableError(what, store=self.nodes.url, code="not_connected")
            answer = self.nodes.call("mnesia", "change_config", Atom("extra_db_nodes"), [Atom(node)], node=first)
            if answer[0] != "ok" or node not in answer[1]:
                raise self._failed(f"{node} to join {first}", answer, "Each may have a schema with tables of its own.")
        if not self.ram_copies:
            for node in self.replicas:
                change = [Atom("schema"), Atom(node), Atom("disc_copies")]
                answer = self.nodes.call("mnesia", "change_table_copy_type", *change, node=first)
                self._expect_done(answer, f"the schema of {node} on disc")

    def create(self) -> None:
        """Make the table, unless it is there, and the replicas that are missing.

        Raises
        ------
        StoreError
            Mnesia could not, or a table of another form has the name.
        """
        if self.replicas:
            self.join()
            node = self.replicas[0]
        else:
            node = self.nodes.use(lambda connection: connection.node)
            if not self._is_running(node):
                self._revive(node)
        kind = Atom("ram_copies" if self.ram_copies else "disc_copies")
        if self.name not in self._info(node, "tables"):
            holders = [Atom(name) for name in self.replicas or (node,)]
            # In order, so that one array's records can be listed without a look at those of the others.
            form = [(Atom("attributes"), ATTRIBUTES), (Atom("type"), Atom("ordered_set")), (kind, holders)]
            answer = self.nodes.call("mnesia", "create_table", self.name, form, node=node)
            hint = "Pass nodes= to have the schema put on disc, or ram_copies=True."
            in_memory = _reason(answer)[0] == "bad_type"
            self._expect_done(answer, f"the table {self.name} made", hint if in_memory else None)
        self._wait_until_loaded(node)
        self._check_form(node)
        present = [name for kind in KINDS for name in self._table_info(node, kind)]
        for name in self.replicas:
            if name not in present:
                answer = self.nodes.call("mnesia", "add_table_copy", self.name, Atom(name), kind, node=node)
                self._expect_done(answer, f"a replica of {self.name} on {name}")
        # Mnesia was seen not to start again on a node that was killed between a change of the schema and this.
        for name in self.replicas or (node,):
            self.nodes.call("mnesia", "dump_log", node=name)

    def _check_form(self, node: str) -> None:
        found = tuple(self._table_info(node, Atom(item)) for item in ("attributes", "record_name", "type"))
        if found[:2] != (ATTRIBUTES, self.name) or found[2] not in ("set", "ordered_set"):
            raise StoreError(
                f"expected a table of records {{{self.name},key,data}}, got one with {describe(found)}",
                store=self.nodes.url,
                code="other_table",
                hint="Choose another table_name.",
            )

    def _table_info(self, node: str, item: Atom) -> Any:
        return self.nodes.call("mnesia", "table_info", self.name, item, node=node)

    def _expect_ok(self, answer: Any, what: str) -> None:
        if answer != "ok":
            raise self._failed(what, answer)

    def _expect_done(self, answer: Any, what: str, hint: str | None = None) -> None:
        """Another client may have done it first."""
        done = isinstance(answer, tuple) and answer[0] == "atomic"
        if not done and not (_reason(answer) or ("",))[0] == "already_exists":
            raise self._failed(what, answer, hint)

    def _failed(self, what: str, answer: Any, hint: str | None = None) -> StoreError:
        return StoreError(f"expected {what}, got {describe(answer)}", store=self.nodes.url, code="failed", hint=hint)


def _reason(answer: Any) -> Any:
    """Why something was aborted, whichever way Mnesia and rpc wrap it up."""
    while isinstance(answer, tuple) and len(answer) == 2 and answer[0] in ("ok", "aborted", "badrpc", "EXIT", "error"):
        answer = answer[1]
    if isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], tuple):
        return _reason(answer[0])  # {Reason, Stacktrace}
    return answer


def _is_absent(reason: Any) -> bool:
    return isinstance(reason, tuple) and reason[0] in ("no_exists", "node_not_running")
