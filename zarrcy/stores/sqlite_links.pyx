"""The short way of `zarrcy.stores.sqlite_connections`: one statement by an idle connection, in the fewest steps.

When a value of 100 KiB has gone through the cache of the processor, what else a call touches has left it. The same in
Python took 2 µs more, where the statement takes 13.
"""
from cpython.pythread cimport PyThread_get_thread_ident
from libc.stdint cimport int64_t, uint64_t

from zarrcy.kernels.posix_compat cimport (
    FileVersion, c_close, c_stat, stat_result, zarrcy_is_same_version, zarrcy_now_ns, zarrcy_open_unread,
    zarrcy_version_of)

__all__ = ["NOT_DONE", "Idle", "Link"]

NOT_DONE = object()   # instead of an answer

cdef enum:
    TICK_NS = 20_000_000   # of a file system's clock, and more; not of the oldest ones, which count seconds
    SECOND_NS = 1_000_000_000


cdef class Link:
    """What ties a connection to its file and its pool.

    A file that is replaced, removed or renamed is changed by that, which a descriptor of it shows in a third of the
    time of a walk along the path. The path is walked again after 20 ms, as nothing else shows that a directory above
    was renamed, or that a link leads elsewhere; and until the file's last change lies so far back that the next one
    has another time.

    Parameters
    ----------
    path : bytes
        The path that the connection was opened with.
    identity : tuple of int
        What `zarrcy.stores.files.identity` says of the file that it leads to, whatever has the name now.
    generation : object
        That of the pool for as long as the connection may be used.

    Attributes
    ----------
    thread : int
        The thread that works with the connection; 0 while it is idle.

    Examples
    --------
    >>> import os, tempfile
    >>> from zarrcy.stores.files import identity
    >>> file = tempfile.NamedTemporaryFile()
    >>> path = os.fsencode(file.name)
    >>> link = Link(path, identity(path), None)
    >>> link.is_current()
    True
    >>> file.close()
    >>> link.is_current()
    False
    """

    cdef bytes path
    cdef const char* c_path
    cdef uint64_t device, inode
    cdef readonly object generation
    cdef public unsigned long thread
    cdef int fd                # or a negative number
    cdef FileVersion version   # the last that was seen,
    cdef int64_t seen_ns       # when that was first,
    cdef int64_t walked_ns     # and when the path led to it last

    def __cinit__(self, bytes path not None, tuple identity not None, generation):
        self.fd = -1
        self.path = path
        self.c_path = self.path
        self.device, self.inode = identity
        self.generation = generation
        self.fd = zarrcy_open_unread(self.c_path)
        if self.fd >= 0 and (zarrcy_version_of(self.fd, &self.version) < 0 or self.version.device != self.device
                             or self.version.inode != self.inode):
            c_close(self.fd)   # another file, which has taken the name meanwhile
            self.fd = -1
        self.seen_ns = zarrcy_now_ns()

    def __dealloc__(self):
        if self.fd >= 0:
            c_close(self.fd)

    @property
    def identity(self):
        return self.device, self.inode

    cpdef bint is_current(self) noexcept:
        """Whether the path still leads to the file. The GIL is kept, as to give it up and take it again would cost a
        part of the call."""
        cdef int64_t now = zarrcy_now_ns()
        cdef stat_result result
        if self.is_unchanged(now):
            return True
        if c_stat(self.c_path, &result) < 0 or result.st_dev != self.device or result.st_ino != self.inode:
            return False
        self.walked_ns = now
        return True

    cdef bint is_unchanged(self, int64_t now) noexcept:
        """Whether the file is as it was when the path led to it, less than 20 ms ago."""
        cdef FileVersion version
        if self.fd < 0 or zarrcy_version_of(self.fd, &version) < 0:
            return False
        if not zarrcy_is_same_version(&version, &self.version):
            self.version = version
            self.seen_ns = now
            return False
        return (now - self.walked_ns < TICK_NS and self.walked_ns - self.seen_ns > TICK_NS
                and version.changed_ns % SECOND_NS != 0)


cdef class Idle:
    """The idle connections of a pool, which derives from this.

    Attributes
    ----------
    idle : list of tuple
        Each connection with its `Link`, a cursor, and the method ``execute`` of that. Taking from it and putting back
        needs no lock. The cursor has no row and no statement at work.
    generation : object
        Another one from each close and fork on: connections of an older one are closed instead of used.
    """

    cdef public list idle
    cdef public object generation

    def give_back(self, connection):
        """Take a connection back that may not be used again, or was not."""
        raise NotImplementedError

    def first_row(self, str statement not None, tuple values not None):
        """The first row of an answer, ``None`` when there is none.

        Parameters
        ----------
        statement : str
            One statement of SQL, whose answer has one row or none: after more of them it would stay at work.
        values : tuple
            Its parameters.

        Returns
        -------
        tuple, None or NOT_DONE
            `NOT_DONE` when no connection was idle, or the path does not lead to its file any more.

        Raises
        ------
        sqlite3.Error
            As SQLite raised it; nothing was done.
        """
        cdef list idle = self.idle
        cdef tuple entry
        cdef Link link
        try:
            entry = idle.pop()
        except IndexError:
            return NOT_DONE
        row = NOT_DONE
        link = <Link>entry[1]
        link.thread = PyThread_get_thread_ident()
        try:
            if link.generation is self.generation and link.is_current():
                entry[3](statement, values)
                # Looks for a second row, and thereby ends the statement.
                row = next(entry[2], None)
        finally:
            # Not that of a forked child, which would have another generation.
            if row is not NOT_DONE and link.generation is self.generation:
                link.thread = 0
                idle.append(entry)
            else:
                self.give_back(entry[0])
        return row
