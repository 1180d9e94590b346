"""Metadata by the documents that it was made of: the same documents are parsed and checked once.

The documents themselves are the key: every opening reads them, so that what is found can never be out of date. Whoever
finds something gets a copy whose dictionaries are its own.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable
from typing import Any

__all__ = ["MAX_DOCUMENTS", "MAX_NBYTES", "Remembered", "bytes_of"]

MAX_DOCUMENTS = 64
MAX_NBYTES = 16384  # of the documents of one node


class Remembered:
    """A bounded table of metadata by its documents. Any thread may use it.

    Examples
    --------
    >>> from zarrcy.metadata import GroupMetadata
    >>> remembered = Remembered()
    >>> remembered.keep((b"{}",), GroupMetadata({"title": "ocean"}))
    >>> remembered.find((b"{}",)).attributes
    {'title': 'ocean'}
    """

    def __init__(self) -> None:
        self._table: dict[tuple[Any, ...], tuple[Any, bytes]] = {}

    def __len__(self) -> int:
        return len(self._table)

    def find(self, documents: tuple[Any, ...], **reads: Callable[[], Any]) -> Any:
        """A copy of the metadata that these documents describe; ``None`` where it is not known.

        Parameters
        ----------
        documents : tuple of bytes-like
            The documents, and what tells their kinds apart.
        **reads
            What reads fields that stand in other documents, when they are first used.
        """
        try:
            found = self._table.get(documents)
        except (TypeError, ValueError):
            return None  # no bytes: a store may give memory that can be written to
        return None if found is None else found[0].twin(marshal.loads(found[1]), **reads)

    def keep(self, documents: tuple[Any, ...], node: Any) -> None:
        """Note what the documents describe, unless they are large, or something that it shares may change."""
        if not node.is_shareable or not all(type(document) is bytes for document in documents):
            return
        if sum(map(len, documents)) > MAX_NBYTES:
            return
        try:
            loose = marshal.dumps(node.loose())
        except ValueError:
            return  # nested too deeply for it
        twin = node.twin(marshal.loads(loose))
        while len(self._table) >= MAX_DOCUMENTS:
            # The oldest. Another thread may have been faster, and may change the table now: so of a list.
            self._table.pop(next(iter(list(self._table)), documents), None)
        self._table[documents] = (twin, loose)


def bytes_of(value: Any) -> bytes | None:
    """Bytes that stand for a JSON value and for no other; ``None`` where it nests too deeply."""
    try:
        return marshal.dumps(value, 2)  # the version without references: equal values give equal bytes
    except ValueError:
        return None
