"""Which exception an error of SQLite becomes, and what to do about it."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from zarrcy.errors import PermissionDeniedError, ReadOnlyError, StoreError, UnavailableError

__all__ = ["busy_error", "is_busy", "store_error"]

# Primary result code: the class, the code, what to do about it. {path} is the file.
_ERRORS: dict[int, tuple[type[StoreError], str, str | None]] = {
    sqlite3.SQLITE_CORRUPT: (StoreError, "corrupt", "Restore a copy; `sqlite3 {path} .recover` saves what is left."),
    sqlite3.SQLITE_NOTADB: (StoreError, "not_a_database", "{path} is no SQLite file: check the path."),
    sqlite3.SQLITE_FULL: (StoreError, "enospc", "Free some space for {path}; nothing of this write was stored."),
    sqlite3.SQLITE_IOERR: (StoreError, "eio", "Look into the system's log, and whether the disk of {path} is full."),
    sqlite3.SQLITE_PERM: (PermissionDeniedError, "eacces", "Give your user the rights to {path}."),
    sqlite3.SQLITE_TOOBIG: (StoreError, "too_large", "Choose smaller chunks or shards."),
}


def _primary(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection has the lock, so that another attempt may succeed."""
    return _primary(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)


def busy_error(url: str, key: str | None, timeout: float) -> UnavailableError:
    """The exception for a lock that was not to be had in time."""
    return UnavailableError(
        f"expected the lock of the file within {timeout:g} s, got none: another writer holds it",
        store=url,
        key=key,
        code="busy",
        hint="Is a transaction open in another thread or process, or a process stopped? `timeout=` waits longer.",
    )


def store_error(error: sqlite3.Error, url: str, key: str | None, *, path: str, read_only: bool) -> BaseException:
    """The exception for an error of SQLite.

    Parameters
    ----------
    error : sqlite3.Error
        The error.
    url : str
        The URL of the store.
    key : str or None
        The key that it happened at.
    path : str
        The file.
    read_only : bool
        The file was opened for reading.

    Returns
    -------
    StoreError
        Or a subclass; `KeyboardInterrupt` for a statement that Ctrl-C ended.
    """
    primary = _primary(error)
    if primary == sqlite3.SQLITE_INTERRUPT:
        return KeyboardInterrupt()
    if primary == sqlite3.SQLITE_CANTOPEN:
        return _cannot_open(str(error), url, path, read_only)
    if primary == sqlite3.SQLITE_READONLY:
        return _cannot_write(str(error), url, key, path)
    name: str = getattr(error, "sqlite_errorname", "SQLITE_ERROR")
    cls, code, hint = _ERRORS.get(primary, (StoreError, name.lower(), None))
    hint = None if hint is None else hint.format(path=path)
    return cls(f"{path}: {error}", store=url, key=key, code=code, hint=hint)


def _is_mounted_read_only(path: str | Path) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _cannot_write(message: str, url: str, key: str | None, path: str) -> StoreError:
    if _is_mounted_read_only(path):
        return _mounted_read_only(message, url, key, path)
    hint = f"Give your user the right to write {path} and the directory it lies in, or open it with mode='r'."
    return PermissionDeniedError(f"{path}: {message}", store=url, key=key, code="eacces", hint=hint)


def _mounted_read_only(message: str, url: str, key: str | None, path: str) -> StoreError:
    hint = 'The file system is mounted read-only: open with mode="r", or choose another place.'
    return ReadOnlyError(f"{path}: {message}", store=url, key=key, code="erofs", hint=hint)


def _cannot_open(message: str, url: str, path: str, read_only: bool) -> StoreError:
    """SQLite does not say why: look."""
    file, parent = Path(path), Path(path).parent
    if file.is_dir():
        return StoreError(f"expected a file, got the directory {path!r}", store=url, code="eisdir")
    if not parent.is_dir():
        hint = "Make the directory first."
        return StoreError(f"expected a directory {str(parent)!r}, got none", store=url, code="enoent", hint=hint)
    if file.exists() and not os.access(path, os.R_OK, effective_ids=_EFFECTIVE):
        hint = f"Give your user the right to read {path}."
        return PermissionDeniedError(f"{path}: {message}", store=url, code="eacces", hint=hint)
    if _is_mounted_read_only(parent):
        return _mounted_read_only(message, url, None, path)
    if not os.access(parent, os.W_OK | os.X_OK, effective_ids=_EFFECTIVE):
        hint = f"Give your user the right to write the directory {parent}: SQLite puts files beside the database" + (
            ", for reading too." if read_only else "."
        )
        return PermissionDeniedError(f"{path}: {message}", store=url, code="eacces", hint=hint)
    return StoreError(f"{path}: {message}", store=url, code="cantopen")


_EFFECTIVE = os.access in os.supports_effective_ids
