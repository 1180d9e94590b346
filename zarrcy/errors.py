"""Every exception of zarrcy.

Each is also the builtin exception that one would already catch::

    ZarrcyError
    ├── NodeError
    │   ├── NodeNotFoundError      (KeyError)          no array or group at this path
    │   └── NodeExistsError        (FileExistsError)   something is there already
    ├── MetadataError              (ValueError)        a metadata document breaks the specification
    ├── UnknownExtensionError      (LookupError)       a data type, codec, grid … that zarrcy does not know
    ├── SelectionError             (IndexError)        an index that the array cannot answer
    ├── MissingChunkError          (LookupError)       a chunk is absent and ``missing="raise"`` was asked for
    ├── CodecError                 (ValueError)        bytes that a codec cannot decode or encode
    │   └── ChecksumError                              a stored checksum does not match
    └── StoreError                 (OSError)           the storage failed
        ├── PermissionDeniedError  (PermissionError)   the storage refused access
        ├── ReadOnlyError          (PermissionError)   the store, or the array, was opened for reading
        ├── ThrottledError                             the service asks for fewer requests
        ├── UnavailableError                           the service cannot be reached, or fails
        ├── ConflictError                              another writer was faster
        └── OutcomeUnknownError                        a write may or may not have happened

The message says *where: what: expected, got*; a note says what to do. Attributes tell programs the same: ``store`` (the
store's URL, without secrets), ``key``, ``codec`` and ``code`` (a short word such as ``"eacces"``). Warnings are at the
end.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "ChecksumError",
    "ChunkCountWarning",
    "ChunkSizeWarning",
    "CodecError",
    "ConcurrentWriteWarning",
    "ConflictError",
    "MetadataError",
    "MissingChunkError",
    "NodeError",
    "NodeExistsError",
    "NodeNotFoundError",
    "OutcomeUnknownError",
    "PermissionDeniedError",
    "ReadOnlyError",
    "SelectionError",
    "StoreError",
    "ThrottledError",
    "UnavailableError",
    "UnknownExtensionError",
    "ZarrcyError",
    "ZarrcyWarning",
]


class ZarrcyError(Exception):
    """The base of every exception that zarrcy raises.

    Parameters
    ----------
    message : str
        What happened: *where: what: expected, got*.
    store : str, optional
        URL of the store, without secrets. It goes in front of the message.
    key : str, optional
        The key in the store. It goes in front of the message.
    codec : str, optional
        Name of the codec that failed. It goes in front of the message.
    code : str, optional
        A short word for programs, such as ``"eacces"`` or ``"invalid_account_key"``.
    hint : str, optional
        What to do about it. Shown below the message, as a note.

    Examples
    --------
    >>> import zarrcy
    >>> str(zarrcy.CodecError("expected 4 bytes, got 3", key="c/0", codec="bytes"))
    'c/0: bytes: expected 4 bytes, got 3'
    """

    # What a pickle keeps beside the message.
    _fields: tuple[str, ...] = ("store", "key", "codec", "code", "hint")

    def __init__(
        self,
        message: str,
        *,
        store: str | None = None,
        key: str | None = None,
        codec: str | None = None,
        code: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.store = store
        self.key = key
        self.codec = codec
        self.code = code
        self.hint = hint
        if hint is not None:
            self.add_note(hint)

    def __str__(self) -> str:
        where = [part for part in (self.store, self.key, self.codec) if part]
        return ": ".join([*where, self.message])

    def __reduce__(self) -> tuple[object, ...]:
        fields = {name: getattr(self, name) for name in self._fields}
        return (_rebuild, (type(self), self.message, fields))


def _rebuild(cls: type[ZarrcyError], message: str, fields: dict[str, Any]) -> ZarrcyError:
    return cls(message, **fields)


class NodeError(ZarrcyError):
    """A node of the hierarchy is not what the call needs."""


class NodeNotFoundError(NodeError, KeyError):
    """There is no array or group at this path."""


class NodeExistsError(NodeError, FileExistsError):
    """There is something at this path already."""


class MetadataError(ZarrcyError, ValueError):
    """A metadata document breaks the specification."""


class UnknownExtensionError(ZarrcyError, LookupError):
    """A data type, codec, chunk grid or other extension that zarrcy does not know."""


class SelectionError(ZarrcyError, IndexError):
    """An index that the array cannot answer."""


class MissingChunkError(ZarrcyError, LookupError):
    """A chunk is absent, and the array was opened with ``missing="raise"``."""


class CodecError(ZarrcyError, ValueError):
    """Bytes that a codec cannot decode, or a chunk that it cannot encode."""


class ChecksumError(CodecError):
    """The stored checksum does not match the bytes."""


class StoreError(ZarrcyError, OSError):
    """The storage failed. An absent key is not an error: it is ``None``."""


class PermissionDeniedError(StoreError, PermissionError):
    """The storage refused access."""


class ReadOnlyError(StoreError, PermissionError):
    """The store or the array was opened for reading only."""


class ThrottledError(StoreError):
    """The service asks for fewer requests.

    Parameters
    ----------
    message : str
        What happened.
    retry_after : float, optional
        The seconds that the service asks to wait, where it says so.
    **fields
        As of `ZarrcyError`.
    """

    _fields = (*StoreError._fields, "retry_after")

    def __init__(self, message: str, *, retry_after: float | None = None, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.retry_after = retry_after


class UnavailableError(StoreError):
    """The service cannot be reached, or fails."""


class ConflictError(StoreError):
    """Another writer changed the value first."""


class OutcomeUnknownError(StoreError):
    """The answer to a write was lost: it may or may not have happened."""


class ZarrcyWarning(UserWarning):
    """The base of every warning that zarrcy gives."""


class ChunkCountWarning(ZarrcyWarning):
    """The chunk grid would make more files in one directory than file systems bear well."""


class ChunkSizeWarning(ZarrcyWarning):
    """The chunks are so small, or so large, that a service of objects would charge needlessly for them."""


class ConcurrentWriteWarning(ZarrcyWarning):
    """Concurrent writers of one chunk could lose data: the store can neither compare and swap nor lock."""
