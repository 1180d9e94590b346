"""`MnesiaStore`: a table of Mnesia on live Erlang nodes, in the records of ExZarr.

===========================  ============================================
key                          record
===========================  ============================================
``.zarray``                  ``{Table, {ArrayId, metadata}, Json}``
``3.0``, a chunk of v2       ``{Table, {ArrayId, {chunk, {3, 0}}}, Data}``
any other                    ``{Table, {ArrayId, {key, Key}}, Data}``
===========================  ============================================

ExZarr reads and writes the first two. The third is zarrcy's own, beside them: attributes, groups, shards, and all of
v3.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import quote, unquote

from zarrcy.errors import ConflictError, StoreError, UnavailableError
from zarrcy.stores import mnesia_programs as programs
from zarrcy.stores.erlang_terms import Atom, ExternalFun
from zarrcy.stores.mnesia_nodes import Nodes, Secret, describe
from zarrcy.stores.mnesia_table import NONE, AbortedError, Table
from zarrcy.stores.store import UPDATE_TIMEOUT, Buffer, Store, Version, check_key, check_prefix

__all__ = ["MnesiaStore"]

DEFAULT_TABLE = "zarr_storage"
MAX_VALUE_NBYTES = 1 << 30

# What one transaction of `set_many` and `delete_prefix` takes. A message of 16 MiB takes the node more time than
# four of a quarter.
BATCH_NBYTES = 4 << 20
BATCH_KEYS = 1000

# Of the chunks on their way, in all threads.
BYTE_BUDGET = 64 << 20

N_TURNS = 64

READ = ExternalFun("mnesia", "read", 1)
WRITE = ExternalFun("mnesia", "write", 1)
DELETE = ExternalFun("mnesia", "delete", 1)
FOREACH = ExternalFun("lists", "foreach", 2)
MAP = ExternalFun("lists", "map", 2)

METADATA = ".zarray"
_CHUNK = re.compile(r"(?:0|[1-9][0-9]{0,18})(?:\.(?:0|[1-9][0-9]{0,18}))*")
_NODE = r"[^\s:/@?#]+@[^\s:/@?#]+"

Record = Atom | tuple[Atom, Any]


@functools.lru_cache(maxsize=4096)
def record_of(key: str) -> Record:
    """The second half of a record's key.

    Examples
    --------
    >>> record_of("3.0"), record_of(".zarray"), record_of("c/3/0")
    (('chunk', (3, 0)), 'metadata', ('key', b'c/3/0'))
    """
    check_key(key)
    if key == METADATA:
        return Atom("metadata")
    if _CHUNK.fullmatch(key):
        return Atom("chunk"), tuple(map(int, key.split(".")))
    return Atom("key"), key.encode()


def key_of(record: Any) -> str | None:
    """The key of the second half of a record's key; ``None`` for one of somebody else's making.

    Examples
    --------
    >>> key_of(record_of("3.0")), key_of((Atom("lock"), 1))
    ('3.0', None)
    """
    if record == "metadata":
        return METADATA
    if not isinstance(record, tuple) or len(record) != 2:
        return None
    kind, name = record
    if kind == "chunk" and isinstance(name, tuple) and name and all(type(i) is int and i >= 0 for i in name):
        return ".".join(map(str, name))
    if kind == "key" and isinstance(name, bytes):
        try:
            key = check_key(name.decode())
        except ValueError:
            return None
        return key if record_of(key) == record else None
    return None


class MnesiaStore(Store):
    """Values in a table of Mnesia, shared with ExZarr, replicated over the nodes of an Erlang cluster.

    Parameters
    ----------
    array_id : str
        Which of the arrays (or hierarchies) in the table.
    node : str, optional
        The node to talk to, ``name@host``; by default the first of `nodes`.
    table_name : str, default "zarr_storage"
        The table. The first array that is created makes it.
    cookie : str, optional
        The secret of the cluster. Otherwise the variable ``ZARRCY_MNESIA_COOKIE``, then the file
        ``~/.erlang.cookie``. It is in no repr, pickle or message.
    nodes : iterable of str, optional
        The nodes that hold a replica each. Mnesia is started where it does not run; creating joins the nodes, puts
        the schema on disc (unless `ram_copies`), and makes what replicas are missing. Without it no schema is
        changed, and a new table is on one node.
    ram_copies : bool, default False
        Make the table in memory alone.
    durable : bool, default True
        A write returns when the log of every replica on disc is on the disc. Otherwise a node that is killed may
        lose what it acknowledged.
    timeout : float, default 60
        Seconds that a call may take.

    Raises
    ------
    StoreError
        This zarrcy was built without Erlang's C library (``code="not_built"``).
    ValueError
        A name that cannot be one.

    Examples
    --------
    >>> from zarrcy.stores.mnesia import MnesiaStore
    >>> store = MnesiaStore(array_id="experiment_001", node="n0@127.0.0.1", cookie="not shown")
    >>> store
    MnesiaStore(array_id='experiment_001', node='n0@127.0.0.1')
    >>> store.url
    'mnesia://n0@127.0.0.1/zarr_storage/experiment_001'
    """

    supports_cas = True
    concurrency = 8
    batch = 32
    byte_budget = BYTE_BUDGET

    kind = "Database"
    persistence = "Yes"
    scalability = "Erlang cluster"
    latency = "Low"
    use = "Sharing arrays with Elixir and Erlang services, ACID transactions"

    def __init__(
        self,
        array_id: str,
        node: str | None = None,
        *,
        table_name: str = DEFAULT_TABLE,
        cookie: str | Secret | None = None,
        nodes: Iterable[str] | None = None,
        ram_copies: bool = False,
        durable: bool = True,
        timeout: float = 60.0,
    ) -> None:
        # Rebound, so that no traceback that shows local variables shows it.
        cookie = cookie if cookie is None or isinstance(cookie, Secret) else Secret(cookie)
        self.replicas = tuple(dict.fromkeys(nodes or ()))
        self.node = _checked_node(node if node is not None else next(iter(self.replicas), None))
        for name in self.replicas:
            _checked_node(name)
        if not isinstance(array_id, str) or not array_id.isprintable() or not array_id:
            raise ValueError(f"array_id: expected printable text, got {array_id!r}")
        # The node makes files of this name.
        if not table_name.isprintable() or not 0 < len(table_name) <= 255 or "/" in table_name or "\\" in table_name:
            raise ValueError(f"table_name: expected 1 to 255 printable characters, no slashes, got {table_name!r}")
        self.array_id = array_id
        self.table_name = table_name
        self.ram_copies = ram_copies
        self.durable = durable
        self.timeout = timeout
        self._id = array_id.encode()
        self._turns = _new_turns()
        self._nodes = Nodes(tuple(dict.fromkeys((self.node, *self.replicas))), cookie, self.url, timeout)
        self._table = Table(table_name, self._nodes, self.replicas, ram_copies)

    @classmethod
    def from_url(cls, url: str, *, mode: str | None = None, **options: Any) -> MnesiaStore:
        """The store that ``mnesia://node@host/table/array_id`` names."""
        node, *rest = url.removeprefix("mnesia://").split("/")
        if len(rest) != 2 or not all(rest):
            raise StoreError(
                "expected mnesia://node@host/table/array_id, got another number of parts",
                code="bad_url",
                hint="A slash in a name is written %2F.",
            )
        return cls(unquote(rest[1]), unquote(node), table_name=unquote(rest[0]), **options)

    @property
    def url(self) -> str:
        return (
            f"mnesia://{quote(self.node, safe='@')}/{quote(self.table_name, safe='')}/{quote(self.array_id, safe='')}"
        )

    def options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"array_id": self.array_id, "node": self.node}
        if self.table_name != DEFAULT_TABLE:
            options["table_name"] = self.table_name
        if self.replicas:
            options["nodes"] = self.replicas
        if self.ram_copies:
            options["ram_copies"] = True
        if not self.durable:
            options["durable"] = False
        if self.timeout != 60.0:
            options["timeout"] = self.timeout
        return options

    def prepare(self) -> None:
        """Make the table if it is missing; with `nodes`, start and join them, and make their replicas.

        Raises
        ------
        StoreError
            Mnesia could not, or a table of another form has the name.
        """
        self._table.create()

    # ---- one key

    def get(self, key: str, part: slice | None = None) -> bytes | None:
        if part is not None:
            found = self._read_part(key, part, versioned=False)
            return None if found is None else found[1]
        rows = self._read(READ, [self._place(key)], key)
        return self._binary(rows[0][2], key) if rows else None

    def _place(self, key: str) -> tuple[Any, ...]:
        return self._table.name, (self._id, record_of(key))

    def _read(self, function: ExternalFun, arguments: list[Any], key: str | None = None) -> Any:
        try:
            return self._table.transaction(function, arguments, writes=False)
        except AbortedError as aborted:
            raise self._error(aborted.reason, key) from aborted
        except StoreError as error:
            error.key = error.key or key
            raise

    def size(self, key: str) -> int | None:
        nbytes = self._run(programs.SIZE, key, Key=(self._id, record_of(key)))
        return None if nbytes == NONE else nbytes

    def set(self, key: str, value: Buffer) -> None:
        self._write(WRITE, [self._record(key, value)], key)

    def delete(self, key: str) -> None:
        self._write(DELETE, [self._place(key)], key, creates=False)

    def _record(self, key: str, value: Buffer) -> tuple[Any, ...]:
        return *self._place(key), self._checked(key, value)

    def _write(
        self, function: ExternalFun, arguments: list[Any], key: str | None = None, *, creates: bool = True
    ) -> None:
        """Write without a condition: a second time is as good as once. With `creates`, make a table that is missing."""
        try:
            try:
                self._table.transaction(function, arguments, writes=True, durable=self.durable)
            except StoreError as error:
                if error.code != "no_table" or not creates:
                    raise
                self.prepare()
                self._table.transaction(function, arguments, writes=True, durable=self.durable)
        except AbortedError as aborted:
            raise self._error(aborted.reason, key) from aborted
        except StoreError as error:
            error.key = error.key or key
            raise

    def _read_part(self, key: str, part: slice, *, versioned: bool) -> tuple[Version, bytes] | None:
        if part.step not in (None, 1):
            raise ValueError(f"part {part!r}: expected step 1, got {part.step}")
        start, stop = (NONE if at is None else int(at) for at in (part.start, part.stop))
        where = (self._id, record_of(key))
        found = self._run(programs.READ_PART, key, Key=where, Start=start, Stop=stop, Versioned=versioned)
        return None if found == NONE else (found[0], self._binary(found[1], key))

    # ---- compare and swap

    def get_with_version(
        self, key: str, part: slice | None = None, *, if_version: Version | None = None
    ) -> tuple[bytes | None, Version | None]:
        """A value and its version, a hash of the whole value that the node makes."""
        found = self._read_part(key, slice(None) if part is None else part, versioned=True)
        version, value = (None, None) if found is None else found
        if if_version is not None and version != if_version:
            raise self.conflict(key)
        return value, version

    def set_if(self, key: str, value: Buffer, version: Version | None) -> Version:
        """Store a value if the key still has that version. See `zarrcy.stores.Store.set_if`.

        Raises
        ------
        OutcomeUnknownError
            The connection broke before the answer came.
        """
        record = record_of(key)
        checks = [(record, version)]
        new: Version = self.commit([(record, self._checked(key, value))], checks=checks, key=key, versioned=True)[0]
        return new

    def update(self, key: str, change: Callable[[Buffer | None], Buffer]) -> None:
        """See `zarrcy.stores.Store.update`. The threads of a process take turns, so that they do not waste each
        other's comparisons."""
        if self._turns[0] != os.getpid():
            self._turns = _new_turns()  # threads of the parent may have held them
        turn = self._turns[1][hash(key) % N_TURNS]
        # Whoever waits in vain goes on all the same: it is the comparison that guards the value.
        is_mine = turn.acquire(timeout=UPDATE_TIMEOUT)
        try:
            super().update(key, change)
        finally:
            if is_mine:
                turn.release()

    def conflict(self, key: str | None) -> ConflictError:
        """The error that another writer was faster."""
        return ConflictError(
            "expected the version that was read before, got another",
            store=self.url,
            key=key,
            code="conflict",
            hint="Read the value again, and decide anew.",
        )

    def transaction(self) -> AbstractContextManager[Store]:
        """A context whose store commits all that is written through it at the end, in one transaction of Mnesia.

        What was read is compared then. See `zarrcy.stores.Store.transaction`.
        """
        from zarrcy.stores.mnesia_transaction import transaction

        return transaction(self)

    # ---- several keys

    def get_many(self, requests: Iterable[tuple[str, slice | None]]) -> Iterator[tuple[int, bytes | None]]:
        """Several values; the whole ones of one transaction are those of one instant."""
        numbered = enumerate(requests)
        while batch := list(itertools.islice(numbered, self.batch)):
            whole = [(i, key) for i, (key, part) in batch if part is None]
            answers = self._read(MAP, [READ, [self._place(key) for _, key in whole]]) if whole else []
            for (i, key), rows in zip(whole, answers, strict=True):
                yield i, self._binary(rows[0][2], key) if rows else None
            for i, (key, part) in batch:
                if part is not None:
                    yield i, self.get(key, part)

    def set_many(self, items: Iterable[tuple[str, Buffer]]) -> None:
        """Store several values, many in a transaction; those of one transaction come together."""
        batch: list[tuple[Any, ...]] = []
        nbytes = 0
        for key, value in items:
            batch.append(self._record(key, value))
            nbytes += memoryview(value).nbytes
            if nbytes >= BATCH_NBYTES or len(batch) >= BATCH_KEYS:
                self._write(FOREACH, [WRITE, batch])
                batch, nbytes = [], 0
        if batch:
            self._write(FOREACH, [WRITE, batch])

    def list_prefix(self, prefix: str = "") -> Iterator[str]:
        check_prefix(prefix)
        keys = map(key_of, self.list_records()[1])
        return (key for key in keys if key is not None and key.startswith(prefix))

    def list_records(self) -> tuple[Any, list[Any]]:
        """The second halves of the keys of all records of this array, and a hash of them."""
        digest, records = self._run(programs.LIST, Id=self._id)
        return digest, records

    def delete_prefix(self, prefix: str) -> None:
        records = [(self._table.name, (self._id, record_of(key))) for key in self.list_prefix(prefix)]
        for i in range(0, len(records), BATCH_KEYS):
            self._write(FOREACH, [DELETE, records[i : i + BATCH_KEYS]], creates=False)

    # ---- calls

    def commit(
        self,
        writes: list[tuple[Record, Any]] = [],  # noqa: B006 - read only
        deletes: Iterable[Record] = (),
        *,
        checks: Iterable[tuple[Record, Version | None]] = (),
        listed: Any = None,
        key: str | None = None,
        versioned: bool = False,
    ) -> list[Version]:
        """One transaction: compare versions, then write and delete. Returns the new versions when `versioned`.

        Raises
        ------
        ConflictError
            A version, or with `listed` the set of keys, is another one now; nothing was written.
        """
        nbytes = sum(memoryview(value).nbytes for _, value in writes)
        if nbytes > MAX_VALUE_NBYTES:
            raise self._too_large(nbytes, key)
        deletes = list(deletes)
        changed = {record for record, _ in writes} | set(deletes)
        variables = {
            "Writes": [((self._id, record), value) for record, value in writes],
            "Deletes": [(self._id, record) for record in deletes],
            "Checks": [
                (
                    (self._id, record),
                    NONE if version is None else version,
                    Atom("write" if record in changed else "read"),
                )
                for record, version in checks
            ],
            "Listed": NONE if listed is None else listed,
            "Id": self._id,
            "Versioned": versioned,
            "Durable": self.durable,
        }
        # Writing the same value twice is as good as once; a comparison would fail the second time.
        again = not variables["Checks"] and listed is None
        try:
            return self._run(programs.COMMIT, key, again=again, **variables)  # type: ignore[no-any-return]
        except StoreError as error:
            if error.code != "no_table" or not writes:
                raise
        self.prepare()
        return self._run(programs.COMMIT, key, again=again, **variables)  # type: ignore[no-any-return]

    def _run(self, program: str, key: str | None = None, *, again: bool = True, **variables: Any) -> Any:
        try:
            return self._table.run(program, again=again, **variables)
        except AbortedError as aborted:
            raise self._error(aborted.reason, key) from aborted
        except StoreError as error:
            error.key = error.key or key
            raise

    def _error(self, reason: Any, key: str | None) -> StoreError:
        kind = reason[0] if isinstance(reason, tuple) and reason else reason
        if kind == "conflict":
            record = reason[1]
            return self.conflict(key_of(record[1]) if isinstance(record, tuple) else key)
        if kind == "no_majority":
            return UnavailableError(
                "expected the majority of the table's replicas, got fewer: the others are down or cut off",
                store=self.url,
                key=key,
                code="no_majority",
            )
        if kind in ("no_exists", "node_not_running"):
            return UnavailableError(
                f"expected the table {self.table_name} loaded, got {describe(reason)}",
                store=self.url,
                key=key,
                code="not_loaded",
            )
        return StoreError(f"expected a commit, got {describe(reason)}", store=self.url, key=key, code="aborted")

    def _binary(self, data: Any, key: str) -> bytes:
        if type(data) is not bytes:
            raise StoreError(f"expected a binary, got {describe(data)}", store=self.url, key=key, code="not_binary")
        return data

    def _checked(self, key: str, value: Buffer) -> Any:
        view = memoryview(value)
        if view.nbytes > MAX_VALUE_NBYTES:
            raise self._too_large(view.nbytes, key)
        return value if view.c_contiguous else view.tobytes()

    def _too_large(self, nbytes: int, key: str | None) -> StoreError:
        return StoreError(
            f"expected at most {MAX_VALUE_NBYTES} bytes in one transaction, got {nbytes}",
            store=self.url,
            key=key,
            code="too_large",
            hint="Choose smaller chunks, or fewer in a transaction.",
        )

    def close(self) -> None:
        """Close the connections. They are opened again when the store is used again."""
        self._nodes.close()


def _new_turns() -> tuple[int, list[Any]]:
    """The process that they belong to, and locks that its threads share out among the keys."""
    return os.getpid(), [threading.RLock() for _ in range(N_TURNS)]


def _checked_node(node: str | None) -> str:
    if node is None:
        raise TypeError("node: expected a node, name@host, got none")
    # It is not shown when it is wrong: somebody may have put a secret in.
    if not re.fullmatch(_NODE, node) or len(node) > 255:
        raise ValueError("node: expected name@host")
    return node
