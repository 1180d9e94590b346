"""What `SQLiteStore` asks of SQLite: the table, and one function for each question, over an open connection.

The version of a value is 64 random bits, new with each write. A number that counts would be a page more in each commit.
The number of a row is no version: it stays while the value is replaced, and may be another key's after a deletion.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from zarrcy.stores.store import Buffer, resolve_part

__all__ = [
    "BLOB_NBYTES",
    "COLUMNS",
    "READ",
    "READ_NBYTES",
    "REPLACE",
    "TABLE",
    "array_ids",
    "atomic",
    "create",
    "delete",
    "delete_below",
    "keys_below",
    "names_below",
    "read",
    "read_all",
    "replace",
    "replace_all",
    "replace_version",
    "size",
    "snapshot",
]

TABLE = "zarrcy_values"
COLUMNS = ["id", "array_id", "key", "version", "value"]

# The value stands last: what asks for the other columns does not walk through its pages.
_CREATE = f"""
CREATE TABLE IF NOT EXISTS {TABLE} (
    id INTEGER PRIMARY KEY,
    array_id TEXT NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    value BLOB NOT NULL,
    UNIQUE (array_id, key)
)
"""

# Between the time that a large page costs with small values and a small page with large ones: with 8 MiB values half
# the time of SQLite's default of 4096, with 1 KiB values half as much again.
PAGE_NBYTES = 16384

# From here on a value is read through an incremental blob: without a second copy in memory, and of a part without the
# pages that lie outside of it. To open one costs as much as to copy some ten KiB.
BLOB_NBYTES = 1 << 16

# For `READ`, which has run in vain when it finds a longer value.
READ_NBYTES = 3 << 17

PAGE_OF_KEYS = 1000  # keys in one answer, between which Ctrl-C is heard

_WHERE = "WHERE array_id = ? AND key = ?"
_BELOW = "WHERE array_id = ? AND key >= ? AND key < ?"

# The number of the row instead of a long value. To ask for the length does not walk through the pages.
_SHORT = f"CASE WHEN length(value) < {BLOB_NBYTES} THEN value ELSE id END"
_READ_VERSION = f"SELECT {_SHORT}, length(value), version FROM {TABLE} {_WHERE}"
READ = f"SELECT CASE WHEN length(value) < {READ_NBYTES} THEN value ELSE id END FROM {TABLE} {_WHERE}"

# Not "INSERT OR REPLACE": that is to delete a row and to make another, and changes the index too. A value of the same
# length is written over the old one's pages. SQLite seeds its generator anew when a forked child opens a file.
REPLACE = (
    f"INSERT INTO {TABLE} (array_id, key, version, value) VALUES (?, ?, random(), ?) "
    "ON CONFLICT (array_id, key) DO UPDATE SET version = excluded.version, value = excluded.value"
)


def create(connection: sqlite3.Connection) -> None:
    """Make the table where it is missing."""
    # Without effect where the file has pages already.
    connection.execute(f"PRAGMA page_size = {PAGE_NBYTES}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(_CREATE)


@contextmanager
def atomic(connection: sqlite3.Connection) -> Iterator[None]:
    """All the statements of the context, or none; in a transaction a part of it."""
    begin, commit, rollback = "BEGIN IMMEDIATE", "COMMIT", ["ROLLBACK"]
    if connection.in_transaction:
        begin, commit, rollback = "SAVEPOINT part", "RELEASE part", ["ROLLBACK TO part", "RELEASE part"]
    connection.execute(begin)
    try:
        yield
        connection.execute(commit)
    except BaseException:
        # Some errors have rolled everything back already.
        if connection.in_transaction:
            for statement in rollback:
                connection.execute(statement)
        raise


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """All the reads of the context see one state of the file; in a transaction they do so anyway."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        # Some errors have ended it already.
        if connection.in_transaction:
            connection.execute("COMMIT")


# ---- one value


def read(
    connection: sqlite3.Connection, array_id: str, key: str, part: slice | None
) -> tuple[bytes | None, int | None]:
    """A value, or a part of it, and its version; twice ``None`` when it is absent."""
    with snapshot(connection):  # the number of a row, and the bytes in it
        row = connection.execute(_READ_VERSION, (array_id, key)).fetchone()
        if row is None:
            return None, None
        value, nbytes, version = row
        offset, n = (0, nbytes) if part is None else resolve_part(part, nbytes)
        if nbytes < BLOB_NBYTES:
            return value if n == nbytes else value[offset : offset + n], version
        return _read_blob(connection, value, offset, n) if n else b"", version


def _read_blob(connection: sqlite3.Connection, row_id: int, offset: int, n: int) -> bytes:
    with connection.blobopen(TABLE, "value", row_id, readonly=True) as blob:
        blob.seek(offset)
        return blob.read(n)


def size(connection: sqlite3.Connection, array_id: str, key: str) -> int | None:
    """The length of a value; ``None`` when it is absent."""
    row = connection.execute(f"SELECT length(value) FROM {TABLE} {_WHERE}", (array_id, key)).fetchone()
    return None if row is None else row[0]


def replace(connection: sqlite3.Connection, array_id: str, key: str, value: Buffer) -> None:
    """Store a value."""
    connection.execute(REPLACE, (array_id, key, value))


def replace_version(
    connection: sqlite3.Connection, array_id: str, key: str, value: Buffer, version: int | None
) -> int | None:
    """Store a value if it has that version, or is absent with ``None``; the new version, ``None`` if it was not."""
    # Not from `random`, whose seed belongs to the program.
    new = int.from_bytes(os.urandom(8), "little", signed=True)
    if version is None:
        statement = f"INSERT INTO {TABLE} (array_id, key, version, value) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
        cursor = connection.execute(statement, (array_id, key, new, value))
    else:
        statement = f"UPDATE {TABLE} SET version = ?, value = ? {_WHERE} AND version = ?"
        cursor = connection.execute(statement, (new, value, array_id, key, version))
    return new if cursor.rowcount == 1 else None


def delete(connection: sqlite3.Connection, array_id: str, key: str) -> None:
    """Delete a value; an absent one is fine."""
    connection.execute(f"DELETE FROM {TABLE} {_WHERE}", (array_id, key))


# ---- many values


def read_all(connection: sqlite3.Connection, array_id: str, keys: Sequence[str]) -> dict[str, bytes]:
    """The values of those keys that are there."""
    marks = ", ".join("?" * len(keys))
    statement = f"SELECT key, {_SHORT} FROM {TABLE} WHERE array_id = ? AND key IN ({marks})"
    with snapshot(connection):
        found = dict(connection.execute(statement, (array_id, *keys)).fetchall())
        for key, value in found.items():
            if type(value) is int:
                with connection.blobopen(TABLE, "value", value, readonly=True) as blob:
                    found[key] = blob.read()
    return found


def replace_all(connection: sqlite3.Connection, array_id: str, items: Sequence[tuple[str, Buffer]]) -> None:
    """Store several values, all or none."""
    with atomic(connection):
        connection.executemany(REPLACE, ((array_id, key, value) for key, value in items))


def _bounds(prefix: str) -> tuple[str, str]:
    """The first key below a prefix, and the first above: keys are compared by their bytes, and "0" follows "/"."""
    return (prefix, prefix[:-1] + "0") if prefix else ("", "\U0010ffff")


def delete_below(connection: sqlite3.Connection, array_id: str, prefix: str) -> None:
    """Delete every key that starts with a prefix."""
    connection.execute(f"DELETE FROM {TABLE} {_BELOW}", (array_id, *_bounds(prefix)))


def keys_below(connection: sqlite3.Connection, array_id: str, prefix: str) -> Iterator[list[str]]:
    """The keys that start with a prefix, sorted, some at a time."""
    cursor = connection.execute(f"SELECT key FROM {TABLE} {_BELOW} ORDER BY key", (array_id, *_bounds(prefix)))
    while rows := cursor.fetchmany(PAGE_OF_KEYS):
        yield [key for (key,) in rows]


def names_below(connection: sqlite3.Connection, array_id: str, prefix: str) -> Iterator[str]:
    """What lies directly below a prefix; the keys below such a folder are jumped over, not read."""
    start, end = _bounds(prefix)
    statement = f"SELECT key FROM {TABLE} {_BELOW} ORDER BY key LIMIT {PAGE_OF_KEYS}"
    last = ""
    while rows := connection.execute(statement, (array_id, start, end)).fetchall():
        for (key,) in rows:
            name, slash, _ = key[len(prefix) :].partition("/")
            if name + slash != last:
                last = name + slash
                yield last
        start = prefix + name + "0" if slash else key + "\0"


def array_ids(connection: sqlite3.Connection) -> list[str]:
    """The identifiers that have a value, sorted."""
    statement = (
        f"WITH RECURSIVE ids(name) AS (SELECT min(array_id) FROM {TABLE} UNION ALL "
        f"SELECT (SELECT min(array_id) FROM {TABLE} WHERE array_id > name) FROM ids WHERE name IS NOT NULL) "
        "SELECT name FROM ids WHERE name IS NOT NULL"
    )
    return [name for (name,) in connection.execute(statement)]
