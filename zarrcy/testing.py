"""The laws of stores and codecs, for their authors and for our own tests.

`check_codec` checks all the laws of codecs, `check_store` those of stores; `STORE_LAWS` has them one by one, by a name
that says what must hold, for a parametrised test. A law gets an empty store, and raises `AssertionError` with a
sentence.
"""

from __future__ import annotations

from collections.abc import Callable

from zarrcy.codecs.laws import check_codec
from zarrcy.stores import laws_sharing, laws_values
from zarrcy.stores.store import Store

__all__ = ["STORE_LAWS", "check_codec", "check_store"]

STORE_LAWS: dict[str, Callable[[Store], None]] = laws_values.LAWS | laws_sharing.LAWS


def check_store(store: Store | Callable[[], Store]) -> None:
    """Check that a store keeps the laws of stores.

    Parameters
    ----------
    store : Store or callable
        An empty store, which is emptied between the laws; or a callable that gives a new empty one.

    Raises
    ------
    AssertionError
        A law is broken; the message says which and how.
    ValueError
        The store has keys already: they would be deleted.

    Examples
    --------
    >>> from zarrcy.stores.memory import MemoryStore
    >>> from zarrcy.testing import check_store
    >>> check_store(MemoryStore)
    """
    if isinstance(store, Store) and any(True for _ in store.list_prefix()):
        raise ValueError(f"{store.url}: expected an empty store: the laws write and delete")
    for name, law in STORE_LAWS.items():
        subject = store if isinstance(store, Store) else store()
        try:
            law(subject)
        except AssertionError as error:
            raise AssertionError(f"{subject!r} breaks the law {name!r}: {error}") from error
        for key in list(subject.list_prefix()):
            subject.delete(key)
        if subject is not store:
            subject.close()
