"""Paths of this machine; which exception an errno becomes, and what to do about it."""

from __future__ import annotations

import errno
import os

from zarrcy.errors import ConflictError, PermissionDeniedError, ReadOnlyError, StoreError, UnavailableError

__all__ = ["absolute_path", "file_url", "store_error"]

_OUT_OF_FILES = "Raise the limit with `ulimit -n`, or close what is open."
_PERMISSIONS = "Give your user the rights: `chmod -R u+rwX {path}` (or `chown`), or choose another directory."
_LINK = "A link leads out of the store. Put the data into the store, or open the directory that it points to."
_BELOW = "A key cannot lie below another key in a directory: delete one of the two."

# errno: the class, what to do about it. {path} is the root directory.
_ERRORS = {
    errno.EACCES: (PermissionDeniedError, _PERMISSIONS),
    errno.EPERM: (PermissionDeniedError, _PERMISSIONS),
    errno.EROFS: (ReadOnlyError, 'The file system is mounted read-only: open with mode="r", or choose another place.'),
    errno.ENOSPC: (StoreError, "Free some space below {path}; the old value is still there."),
    errno.EDQUOT: (StoreError, "Free some of your quota below {path}; the old value is still there."),
    errno.EFBIG: (StoreError, "Raise the limit with `ulimit -f`, or choose smaller chunks or shards."),
    errno.EMFILE: (StoreError, _OUT_OF_FILES),
    errno.ENFILE: (StoreError, _OUT_OF_FILES),
    errno.ENAMETOOLONG: (StoreError, "Choose shorter names: at most 255 bytes each, and 1024 for the whole key."),
    errno.ENOTDIR: (StoreError, _BELOW),
    errno.EISDIR: (StoreError, _BELOW),
    errno.ENOTEMPTY: (StoreError, _BELOW),
    errno.ELOOP: (StoreError, _LINK),
    errno.EXDEV: (StoreError, _LINK),
    errno.ETIMEDOUT: (ConflictError, "Another writer held the lock of this key all the time. Is one of them stopped?"),
    errno.ENOENT: (StoreError, "The directory {path} is missing: create it, or check the path."),
    errno.EIO: (StoreError, "The device failed: look into the system's log."),
    errno.ESTALE: (UnavailableError, "The file server lost the file: try again, or mount it again."),
    errno.ENOLCK: (StoreError, "The file system has no locks: check how it is mounted."),
}

# The same for a table of shared memory.
_IN_MEMORY_HINTS = {
    errno.ENOSPC: "The memory mount is full: see `df -h {path}`. Containers take a larger one by --shm-size. The old "
    "value is still there.",
    errno.ENOENT: "The table is gone: its owner has ended without an heir, or deleted it.",
}


def file_url(path: str) -> str:
    """The ``file://`` URL of an absolute path.

    Examples
    --------
    >>> file_url("/data/my ocean.zarr")
    'file:///data/my%20ocean.zarr'
    """
    from urllib.parse import quote

    return "file://" + quote(path, errors="surrogateescape")


def absolute_path(path: str | os.PathLike[str], what: str) -> str:
    """The path of a file of this machine as absolute text.

    Parameters
    ----------
    path : str or path-like
    what : str
        What is expected there, for the error.

    Raises
    ------
    ValueError
        No file can have this name: it is empty, or holds a NUL or what the file system's encoding has no bytes for.

    Examples
    --------
    >>> absolute_path("/data/../data.zip", "a file")
    '/data.zip'
    """
    try:
        text = os.fsdecode(os.fsencode(path))  # there and back: a text of NumPy becomes one of Python
    except UnicodeEncodeError:
        text = ""
    if not text or "\0" in text:
        raise ValueError(f"path {os.fspath(path)!r}: expected {what}")
    return os.path.abspath(text)


def store_error(code: int, url: str, key: str | None, *, path: str | None = None) -> StoreError:
    """The exception for an errno.

    Parameters
    ----------
    code : int
        The errno, positive.
    url : str
        The URL of the store.
    key : str or None
        The key; ``None`` when the root directory itself is meant.
    path : str, optional
        The root directory, for the hint; taken from the URL when absent.

    Returns
    -------
    StoreError
        Or one of its subclasses; ``code`` is the errno's name in lower case, ``errno`` its number.

    Examples
    --------
    >>> error = store_error(28, "file:///data/a.zarr", "c/0")
    >>> print(error)
    file:///data/a.zarr: c/0: No space left on device
    >>> error.code, error.errno
    ('enospc', 28)
    """
    path = path or url.removeprefix("file://")
    cls, hint = _ERRORS.get(code, (StoreError, None))
    if url.startswith("shm://"):
        hint = _IN_MEMORY_HINTS.get(code, hint)
    message = os.strerror(code)
    if key is None:
        message = f"directory {path}: {message}"
        if code == errno.ENOTDIR:
            hint = "The path names a file: give the directory that holds the hierarchy."
    error = cls(
        message,
        store=url,
        key=key,
        code=errno.errorcode.get(code, str(code)).lower(),
        hint=None if hint is None else hint.format(path=path),
    )
    error.errno = code
    return error
