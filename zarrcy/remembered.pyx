"""Metadata by the documents that it was made of: the same documents are parsed and checked once.

The documents themselves are the key: every opening reads them, so that what is found can never be out of date. Whoever
finds something gets a twin whose dictionaries are its own. It is compiled, as it is a part of each opening.
"""
from cpython.dict cimport PyDict_Copy

import marshal

__all__ = ["MAX_DOCUMENTS", "MAX_NBYTES", "Remembered", "bytes_of", "twin_of"]

MAX_DOCUMENTS = 64
MAX_NBYTES = 16384  # of the documents of one node

cdef object new = object.__new__
cdef object put = object.__setattr__   # past the refusal of `zarrcy.frozen.Frozen`
cdef tuple SCALARS = (str, int, float, bool, type(None))


def twin_of(node, dict loose not None, dict reads=None):
    """The same node with some fields of its own, or read later; it shares the others.

    Parameters
    ----------
    node : Frozen
        What to begin with.
    loose : dict
        Fields by name; the twin takes them as they are.
    reads : dict of str to callable, optional
        What reads fields when they are first used.

    Returns
    -------
    Frozen
        Of the same class.

    Examples
    --------
    >>> from zarrcy.metadata import GroupMetadata
    >>> twin_of(GroupMetadata({"title": "ocean"}), {"attributes": {}}).attributes
    {}
    """
    cdef dict late = node._late
    cdef dict own
    if late:
        late = PyDict_Copy(late)   # before the fields: another thread may read one at any allocation
    own = PyDict_Copy(node.__dict__)
    own.update(loose)
    if late or reads:
        reads = reads or {}
        for name in reads:
            own.pop(name, None)
        late = {**late, **reads}
        own["_late"] = {name: read for name, read in late.items() if name in reads or name not in loose}
    twin = new(type(node))
    put(twin, "__dict__", own)
    return twin


cdef class Remembered:
    """A bounded table of metadata by its documents. Any thread may use it.

    Examples
    --------
    >>> from zarrcy.metadata import GroupMetadata
    >>> remembered = Remembered()
    >>> remembered.keep((b"{}",), GroupMetadata({"title": "ocean"}))
    >>> remembered.find((b"{}",)).attributes
    {'title': 'ocean'}
    """

    cdef dict table

    def __cinit__(self):
        self.table = {}

    def __len__(self):
        return len(self.table)

    def find(self, tuple documents not None, **reads):
        """A twin of the metadata that these documents describe; ``None`` where it is not known.

        Parameters
        ----------
        documents : tuple of bytes-like
            The documents, and what tells their kinds apart.
        **reads
            What reads fields that stand in other documents, when they are first used.
        """
        cdef dict own
        try:
            found = self.table.get(documents)
        except (TypeError, ValueError):
            return None  # no bytes: a store may give memory that can be written to
        if found is None:
            return None
        node, fields, kept = <tuple>found
        if fields is not None:
            if reads:
                return twin_of(node, {name: PyDict_Copy(values) for name, values in (<dict>kept).items()}, reads)
            own = PyDict_Copy(fields)
            for name, values in (<dict>kept).items():
                own[name] = PyDict_Copy(values)
            twin = new(type(node))
            put(twin, "__dict__", own)
            return twin
        # The node's own, which knows what consolidated metadata is made of.
        return node.twin(marshal.loads(kept), **reads)

    def keep(self, tuple documents not None, node):
        """Note what the documents describe, unless they are large, or something that it shares may change."""
        if not node.is_shareable or not all([type(document) is bytes for document in documents]):
            return
        if sum([len(document) for document in documents]) > MAX_NBYTES:
            return
        loose = node.loose()
        try:
            kept = marshal.dumps(loose)
        except ValueError:
            return  # nested too deeply for it
        twin = node.twin(marshal.loads(kept))
        is_flat = "consolidated" not in loose and all([is_flat_json(values) for values in loose.values()])
        is_flat = is_flat and not twin._late
        while len(self.table) >= MAX_DOCUMENTS:
            # The oldest. Another thread may have been faster, and may change the table now: so of a list.
            self.table.pop(next(iter(list(self.table)), documents), None)
        self.table[documents] = (twin, twin.__dict__, marshal.loads(kept)) if is_flat else (twin, None, kept)


cdef bint is_flat_json(dict values):
    """Whether nothing in a JSON object can be changed in place: its copy is made quicker than decoded."""
    return all([type(value) in SCALARS for value in values.values()])


def bytes_of(value):
    """Bytes that stand for a JSON value and for no other; ``None`` where it nests too deeply."""
    try:
        return marshal.dumps(value, 2)  # the version without references: equal values give equal bytes
    except ValueError:
        return None
