"""What `SQLiteStore` asks of SQLite: the table, and one function for each question, over an open connection.

Replacing a row gives it a new number, and ``AUTOINCREMENT`` never gives a number twice: the number of the row is the
version of the value.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from zarrcy.stores.store import Buffer, resolve_part

__all__ = [
    "COLUMNS",
    "READ",
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
]

TABLE = "zarrcy_values"
COLUMNS = ["id", "array_id", "key", "value"]

# The value stands last: what asks for the other columns does not walk through its pages.
_CREATE = f"""
CREATE TABLE IF NOT EXISTS {TABLE} (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    array_id TEXT NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    UNIQUE (array_id, key)
)
"""

# Between the time that a large page costs with small values and a small page with large ones: with 8 MiB values half
# the time of SQLite's default of 4096, with 1 KiB values half as much again.
PAGE_NBYTES = 16384

# From here on a part of a value is read through an incremental blob, which skips pages that `substr` would read.
BLOB_NBYTES = 1 << 20

PAGE_OF_KEYS = 1000  # keys in one answer, between which Ctrl-C is heard

READ = f"SELECT value FROM {TABLE} WHERE array_id = ? AND key = ?"
_READ_VERSION = f"SELECT value, id FROM {TABLE} WHERE array_id = ? AND key = ?"
REPLACE = f"INSERT OR REPLACE INTO {TABLE} (array_id, key, value) VALUES (?, ?, ?)"
_WHERE = "WHERE array_id = ? AND key = ?"
_BELOW = "WHERE array_id = ? AND key >= ? AND key < ?"


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


# ---- one value


def read(
    connection: sqlite3.Connection, array_id: str, key: str, part: slice | None
) -> tuple[bytes | None, int | None]:
    """A value, or a part of it, and its version; twice ``None`` when it is absent."""
    if part is None:
        row = connection.execute(_READ_VERSION, (array_id, key)).fetchone()
        return row or (None, None)
    if connection.in_transaction:
        return _read_part(connection, array_id, key, part)
    # The length and the bytes belong to one version.
    connection.execute("BEGIN")
    try:
        return _read_part(connection, array_id, key, part)
    finally:
        if connection.in_transaction:
            connection.execute("COMMIT")


def _read_part(connection: sqlite3.Connection, array_id: str, key: str, part: slice) -> tuple[bytes | None, int | None]:
    row = connection.execute(f"SELECT id, length(value) FROM {TABLE} {_WHERE}", (array_id, key)).fetchone()
    if row is None:
        return None, None
    version, nbytes = row
    offset, n = resolve_part(part, nbytes)
    if n == 0:
        return b"", version
    if nbytes < BLOB_NBYTES:
        cut = connection.execute(f"SELECT substr(value, ?, ?) FROM {TABLE} WHERE id = ?", (offset + 1, n, version))
        return cut.fetchone()[0], version
    with connection.blobopen(TABLE, "value", version, readonly=True) as blob:
        blob.seek(offset)
        return blob.read(n), version


def size(connection: sqlite3.Connection, array_id: str, key: str) -> int | None:
    """The length of a value; ``None`` when it is absent."""
    row = connection.execute(f"SELECT length(value) FROM {TABLE} {_WHERE}", (array_id, key)).fetchone()
    return None if row is None else row[0]


def replace(connection: sqlite3.Connection, array_id: str, key: str, value: Buffer) -> int:
    """Store a value, and return its version."""
    version = connection.execute(REPLACE, (array_id, key, value)).lastrowid
    assert version is not None
    return version


def replace_version(
    connection: sqlite3.Connection, array_id: str, key: str, value: Buffer, version: int | None
) -> int | None:
    """Store a value if it has that version, or is absent with ``None``; the new version, ``None`` if it was not."""
    if version is None:
        statement = f"INSERT INTO {TABLE} (array_id, key, value) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        cursor = connection.execute(statement, (array_id, key, value))
    else:
        statement = (
            f"INSERT OR REPLACE INTO {TABLE} (array_id, key, value) "
            f"SELECT ?, ?, ? WHERE EXISTS (SELECT 1 FROM {TABLE} {_WHERE} AND id = ?)"
        )
        cursor = connection.execute(statement, (array_id, key, value, array_id, key, version))
    return cursor.lastrowid if cursor.rowcount == 1 else None


def delete(connection: sqlite3.Connection, array_id: str, key: str) -> None:
    """Delete a value; an absent one is fine."""
    connection.execute(f"DELETE FROM {TABLE} {_WHERE}", (array_id, key))


# ---- many values


def read_all(connection: sqlite3.Connection, array_id: str, keys: Sequence[str]) -> dict[str, bytes]:
    """The values of those keys that are there."""
    marks = ", ".join("?" * len(keys))
    rows = connection.execute(
        f"SELECT key, value FROM {TABLE} WHERE array_id = ? AND key IN ({marks})", (array_id, *keys)
    )
    return dict(rows.fetchall())


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
