"""The values of a file system store, for Python: `zarrcy.kernels.posix` and `posix_locks` with exceptions."""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc cimport errno as c_errno
from libc.stdint cimport int64_t
from libc.string cimport strstr
from posix.unistd cimport getpid

from zarrcy.kernels.posix cimport (
    MAX_KEY_NBYTES, NO_PARENTS, UNLOCKED, Directory, close_value, open_folder, open_value, read_part, value_nbytes)
from zarrcy.kernels.posix_compat cimport PARTIAL, c_stat, stat_result, zarrcy_sync_all
from zarrcy.kernels.posix_locks cimport (
    KeyLock, abandon_key, collect_temporary, delete_value, lock_key, remove_empty_parents, replace_value, unlock_key)

from zarrcy.stores.store import check_key

__all__ = [
    "Files", "HeldKey", "has_temporary", "identity", "is_plain_path", "is_temporary", "path_of", "with_value"]

cdef object new = object.__new__


def is_temporary(str name not None):
    """Whether a file name is that of a writer's temporary file."""
    return name.endswith(".zarrcy-partial") and name.startswith(".")


def has_temporary(path):
    """Whether a segment of a path is the name of a temporary file."""
    return ".zarrcy-partial" in path and any(map(is_temporary, path.split("/")))


cdef bint ends_segment(char c) noexcept:
    return c == b"/" or c == 0


cdef bint is_plain(const char* key, Py_ssize_t nbytes) noexcept:
    """Whether a key is one of plain ASCII that no store refuses; other keys may be good ones too."""
    cdef Py_ssize_t i
    cdef char last = b"/"
    for i in range(nbytes):
        if not b" " <= key[i] <= b"~" or key[i] == b"\\":
            return False
        if last == b"/" and (ends_segment(key[i]) or key[i] == b"." and (
                ends_segment(key[i + 1]) or key[i + 1] == b"." and ends_segment(key[i + 2]))):
            return False
        last = key[i]
    return last != b"/" and strstr(key, PARTIAL) == NULL


cpdef bint is_plain_path(str path) except -1:
    """Whether a path is absolute, of plain ASCII, and as `os.path.abspath` would make it; others may be so too. Asking
    takes a tenth of the time of making it so.

    Examples
    --------
    >>> is_plain_path("/data/a.zarr"), is_plain_path("/data/../a.zarr"), is_plain_path("a.zarr")
    (True, False, False)
    """
    cdef Py_ssize_t nbytes, i
    cdef const char* text
    if not path.isascii():
        return False
    text = PyUnicode_AsUTF8AndSize(path, &nbytes)
    if nbytes < 2 or text[0] != b"/":
        return False
    for i in range(nbytes):
        if text[i] == 0 or text[i] == b"/" and (ends_segment(text[i + 1]) or text[i + 1] == b"."):
            return False
    return True


def path_of(key):
    """The path of a key below the directory; ``None`` when only a temporary file could have that name.

    Raises
    ------
    ValueError
        No store can hold the key, see `zarrcy.stores.store.check_key`.

    Examples
    --------
    >>> path_of("a/c/0")
    b'a/c/0'
    """
    cdef Py_ssize_t nbytes
    cdef const char* text
    if type(key) is str and (<str>key).isascii():
        text = PyUnicode_AsUTF8AndSize(key, &nbytes)
        if is_plain(text, nbytes):
            return PyBytes_FromStringAndSize(text, nbytes)
    check_key(key)
    return None if has_temporary(key) else key.encode()


def identity(bytes path not None):
    """What tells the file of a path from every other: in half the time of `os.stat`.

    Returns
    -------
    tuple of int, or None
        The device and the number of the file; ``None`` when there is none, and zeros when that cannot be found out.

    Examples
    --------
    >>> import os, tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     status = os.stat(file.name)
    ...     identity(os.fsencode(file.name)) == (status.st_dev, status.st_ino)
    True
    >>> identity(b"/no/such/file")
    """
    cdef const char* c_path = path
    cdef stat_result result
    cdef int rc
    with nogil:
        rc = c_stat(c_path, &result)
        if rc < 0:
            rc = c_errno.errno
    if rc == 0:
        return result.st_dev, result.st_ino
    return None if rc in (c_errno.ENOENT, c_errno.ENOTDIR) else (0, 0)


cdef class Files:
    """The values below a directory.

    Parameters
    ----------
    directory : zarrcy.kernels.posix.Directory
        The root directory.

    Examples
    --------
    >>> import os, tempfile
    >>> from zarrcy.kernels.posix import Directory
    >>> with tempfile.TemporaryDirectory() as path:
    ...     files = Files(Directory(os.fsencode(path)))
    ...     files.hold(b"group/key").replace(b"value")
    ...     files.read(b"group/key", slice(-2, None))
    b'ue'
    """

    cdef readonly Directory directory

    def __cinit__(self, Directory directory not None):
        self.directory = directory

    cdef int open_key(self, bytes key) except -1:
        """A descriptor of the value, or -ENOENT when the key is absent."""
        cdef const char* name = key
        cdef int root, generation, fd
        if len(key) > MAX_KEY_NBYTES:
            raise self.directory.error(c_errno.ENAMETOOLONG, key)
        self.directory.is_current()
        while True:
            root = self.directory.open()
            generation = self.directory.generation
            with nogil:
                fd = open_value(root, name)
            if fd == -c_errno.ENOENT:
                if self.directory.is_absent(generation):
                    return fd
            elif fd < 0:
                raise self.directory.error(-fd, key)
            else:
                return fd

    cpdef read(self, bytes key, part=None):
        """The value of a key, or a part of it; ``None`` when the key is absent."""
        cdef int fd = self.open_key(key)
        cdef int64_t nbytes, offset = 0
        cdef int rc
        cdef bytes value
        cdef char* into
        if fd < 0:
            return None
        try:
            nbytes = value_nbytes(fd)
            if nbytes < 0:
                raise self.directory.error(<int>-nbytes, key)
            if part is not None:
                start, stop, step = part.indices(nbytes)
                if step != 1:
                    raise ValueError(f"part {part!r}: expected step 1, got {step}")
                offset, nbytes = start, max(stop - start, 0)
            value = PyBytes_FromStringAndSize(NULL, nbytes)
            into = PyBytes_AS_STRING(value)
            with nogil:
                rc = read_part(fd, offset, nbytes, into)
            if rc < 0:
                raise self.directory.error(-rc, key)
            return value
        finally:
            close_value(fd)

    def size(self, bytes key):
        """The length of a value in bytes; ``None`` when the key is absent."""
        cdef int fd = self.open_key(key)
        cdef int64_t nbytes
        if fd < 0:
            return None
        nbytes = value_nbytes(fd)
        close_value(fd)
        if nbytes < 0:
            raise self.directory.error(<int>-nbytes, key)
        return nbytes

    def open_folder(self, bytes path):
        """A descriptor of the directory `path` (empty: the root); ``None`` where there is none."""
        cdef const char* name = path if path else b"."
        cdef int root, generation, fd
        self.directory.is_current()
        while True:
            root = self.directory.open()
            generation = self.directory.generation
            with nogil:
                fd = open_folder(root, name)
            if fd >= 0:
                return fd
            if fd == -c_errno.ENOTDIR:
                return None
            if fd != -c_errno.ENOENT:
                raise self.directory.error(-fd, path)
            if self.directory.is_absent(generation):
                return None

    def hold(self, bytes key, *, bint alone=False, bint parents=True, double timeout=120.0):
        """The lock of a key.

        Parameters
        ----------
        key : bytes
            The key.
        alone : bool, default False
            The caller holds the lock already: write beside it.
        parents : bool, default True
            Make missing parent directories; otherwise ``None`` is the answer when one is missing.
        timeout : float, default 120
            Seconds to wait for another writer.

        Returns
        -------
        HeldKey or None

        Raises
        ------
        ConflictError
            Another writer held the lock for all that time.
        StoreError
            The storage failed.
        """
        cdef HeldKey held = HeldKey.__new__(HeldKey)
        cdef const char* name = key
        cdef int64_t left_ms = <int64_t>(timeout * 1000)
        cdef int64_t slice_ms
        cdef int root, generation, flags, rc
        self.directory.is_current()
        while True:
            root = self.directory.open()
            generation = self.directory.generation
            flags = self.directory.write_flags() | (UNLOCKED if alone else 0) | (0 if parents else NO_PARENTS)
            slice_ms = min(left_ms, 200)  # between the slices Ctrl-C is heard
            with nogil:
                rc = lock_key(root, name, flags, slice_ms, NULL, &held.lock)
            if rc == 0:
                held.directory, held.key, held.process = self.directory, key, getpid()
                return held
            if rc == -c_errno.ETIMEDOUT and left_ms > slice_ms:
                left_ms -= slice_ms
                PyErr_CheckSignals()
            elif rc != -c_errno.ENOENT:
                raise self.directory.error(-rc, key)
            elif self.directory.is_absent(generation):
                if not parents:
                    return None
                raise self.directory.error(-rc, key)

    def prune(self, bytes key):
        """Remove the parent directories of a key that are empty."""
        cdef const char* name = key
        cdef int root = self.directory.open()
        with nogil:
            remove_empty_parents(root, name)

    def sync(self):
        """Write out everything on the file system."""
        cdef int root = self.directory.open()
        cdef int rc
        with nogil:
            rc = zarrcy_sync_all(root)
        if rc < 0:
            raise self.directory.error(-rc, None)

    def collect(self, int folder, bytes name):
        """Remove a temporary file of a crashed writer from an open directory.

        Returns
        -------
        bool or None
            Whether it was removed: not when a living writer holds it. ``None`` where there are no locks
            to tell them apart.
        """
        cdef int rc = collect_temporary(folder, name)
        if rc in (-c_errno.ENOLCK, -c_errno.EOPNOTSUPP, -c_errno.ENOSYS, -c_errno.EINVAL):
            return None
        if rc < 0:
            raise self.directory.error(-rc, name)
        return bool(rc)


def with_value(cls, str path not None, bytes key not None, bint read_only):
    """A `FilesystemStore` with the options of the constructor's defaults, and one of its values.

    What opening an array begins with, in one step: by the constructor and `get` it takes twice as long.

    Parameters
    ----------
    cls : type
        `FilesystemStore`.
    path : str
        The directory.
    key : bytes
        The path of the key.
    read_only : bool
        Refuse to write.

    Returns
    -------
    tuple of (FilesystemStore, bytes or None), or None
        ``None`` for a path that has to be made absolute first, or may be that of an archive, and for a subclass.

    Raises
    ------
    StoreError
        What `FilesystemStore.get` raises.
    """
    if "with_value" not in cls.__dict__:
        return None   # a subclass, which may be made otherwise
    if not is_plain_path(path) or path.endswith(("p", "P")) and path.lower().endswith(".zip"):
        return None
    files = Files(Directory(path.encode()))
    store = new(cls)
    store.path, store.read_only, store.durable, store._files = path, read_only, False, files
    return store, files.read(key)


cdef class HeldKey:
    """The lock of a key, from `Files.hold`. Each of its methods gives the lock back, as does the end of a ``with``."""

    cdef KeyLock lock
    cdef Directory directory
    cdef readonly bytes key
    cdef readonly int process   # 0 once it was given back

    cdef KeyLock take(self) except *:
        if self.process != getpid():
            raise RuntimeError(f"lock of {self.key!r}: expected it held, got one that was given back")
        self.process = 0
        return self.lock

    def __dealloc__(self):
        if self.process == getpid():
            unlock_key(&self.lock)
        elif self.process:
            # A forked child: the lock is the parent's.
            abandon_key(&self.lock)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process == getpid():
            self.release()

    def release(self):
        """Give the lock back, nothing changed."""
        cdef KeyLock lock = self.take()
        with nogil:
            unlock_key(&lock)

    def replace(self, value):
        """Replace the value with the bytes of a contiguous buffer. On failure the old value stands."""
        cdef Py_buffer view
        cdef KeyLock lock
        cdef int rc
        lock = self.take()
        try:
            PyObject_GetBuffer(value, &view, PyBUF_SIMPLE)
        except BaseException:
            unlock_key(&lock)
            raise
        with nogil:
            rc = replace_value(&lock, <const char*>view.buf, view.len)
        PyBuffer_Release(&view)
        if rc < 0:
            raise self.directory.error(-rc, self.key)

    def delete(self):
        """Delete the value; an absent one is fine."""
        cdef KeyLock lock = self.take()
        cdef int rc
        with nogil:
            rc = delete_value(&lock)
        if rc < 0:
            raise self.directory.error(-rc, self.key)
