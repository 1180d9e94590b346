"""Values in files, below an open directory. The contract is in posix.pxd."""
from libc cimport errno as c_errno
from libc.stdint cimport int64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, strchr, strcmp, strncmp, strrchr

from zarrcy.kernels.buffer cimport Bytes
from zarrcy.kernels.pool cimport Worker, worker_scratch
from zarrcy.kernels.posix_compat cimport (
    FilePiece,
    LOCK_EX, LOCK_NB, O_CLOEXEC, O_CREAT, O_DIRECTORY, O_EXCL, O_NOCTTY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_RDWR,
    PARTIAL, S_ISDIR, c_close, c_open, c_stat, flock, fstat, openat, pread, preadv, stat_result, unlinkat, zarrcy_move,
    zarrcy_openat2, zarrcy_random,
)

import os

from zarrcy.kernels.posix_errors import file_url, store_error

__all__ = ["Directory"]

# ---- opening below the root

cdef int open_step_by_step(int root, const char* path, int flags) noexcept nogil:
    """open_beneath where the kernel has no openat2: one segment after the other, none of them a link."""
    cdef char segment[NAME_NBYTES + 1]
    cdef const char* rest = path
    cdef size_t n
    cdef int directory = root
    cdef int fd
    while True:
        n = 0
        while rest[n] != 0 and rest[n] != b"/":
            n += 1
        if n > NAME_NBYTES:
            fd = -c_errno.ENAMETOOLONG
            break
        memcpy(segment, rest, n)
        segment[n] = 0
        if n == 0 or strcmp(segment, b"..") == 0:
            fd = -c_errno.EXDEV
            break
        if rest[n] == 0:
            fd = openat(directory, segment, flags | O_NOFOLLOW)
        else:
            fd = openat(directory, segment, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
        if fd < 0:
            fd = c_error()
            if fd == -c_errno.EINTR:
                continue
            break
        if rest[n] == 0:
            break
        if directory != root:
            c_close(directory)
        directory = fd
        rest += n + 1
    if directory != root:
        c_close(directory)
    return fd


cdef int open_beneath(int root, const char* path, int flags) noexcept nogil:
    cdef int fd = zarrcy_openat2(root, path, flags)
    return open_step_by_step(root, path, flags) if fd == -c_errno.ENOSYS else fd


cdef int open_folder(int root, const char* path) noexcept nogil:
    return open_beneath(root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)


# ---- reading

cdef int open_value(int root, const char* key) noexcept nogil:
    # Not blocking: a pipe that lies where a value should be must not hang the reader.
    cdef int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY
    cdef int fd
    if strchr(key, b"/") == NULL:
        # What is no link cannot lead out of the root: the kernel need not watch the way, which takes longer.
        fd = openat(root, key, flags | O_NOFOLLOW)
        if fd >= 0:
            return fd
        if c_errno.errno == c_errno.ENOENT:
            return -c_errno.ENOENT
    return open_beneath(root, key, flags)


cdef void close_folder(Folder* folder) noexcept nogil:
    if folder.fd >= 0:
        c_close(folder.fd)
    folder.fd = -1


cdef int open_value_near(int root, const char* key, Folder* folder) noexcept nogil:
    cdef const char* slash = strrchr(key, b"/")
    cdef size_t n
    cdef int fd
    if slash == NULL:
        return open_value(root, key)
    n = slash - key
    if strncmp(folder.path, key, n) != 0 or folder.path[n] != 0:
        # A directory of one value is not worth opening: the next key shows.
        close_folder(folder)
        memcpy(folder.path, key, n)
        folder.path[n] = 0
        return open_value(root, key)
    if folder.fd < 0:
        folder.fd = open_folder(root, folder.path)
        if folder.fd < 0:
            return open_value(root, key)
    fd = openat(folder.fd, slash + 1, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW)
    # A link, an absent key, a directory that was moved meanwhile: the whole path tells.
    return fd if fd >= 0 else open_value(root, key)


cdef ssize_t read_at(int fd, char* into, size_t nbytes, int64_t offset) noexcept nogil:
    cdef ssize_t n
    while True:
        n = pread(fd, into, nbytes, offset)
        if n >= 0:
            return n
        if c_errno.errno != c_errno.EINTR:
            return c_error()


cdef int read_value(int fd, Worker* worker, int slot, size_t expected, size_t limit, Bytes* value) noexcept nogil:
    cdef size_t capacity = expected + 1  # one more than expected: a shorter answer is the end of the file
    cdef size_t asked
    cdef int64_t nbytes
    cdef ssize_t n
    value.nbytes = 0
    value.data = worker_scratch(worker, slot, capacity)
    while value.data != NULL:
        asked = min(capacity - value.nbytes, <size_t>MAX_IO_NBYTES)
        n = go_on_after(value.nbytes)
        if n == 0:
            n = read_at(fd, value.data + value.nbytes, asked, value.nbytes)
        if n < 0:
            return <int>n
        value.nbytes += n
        if <size_t>n < asked:
            return 0
        if value.nbytes == capacity:
            nbytes = value_nbytes(fd)
            if nbytes < 0:
                return <int>nbytes
            if <size_t>nbytes > limit:
                return -c_errno.EOVERFLOW
            # A larger scratch buffer does not keep what the smaller one held.
            capacity = max(<size_t>nbytes, capacity) + 1
            value.data = worker_scratch(worker, slot, capacity)
            value.nbytes = 0
    return -c_errno.ENOMEM


cdef int read_part(int fd, int64_t offset, size_t nbytes, char* into) noexcept nogil:
    cdef size_t have = 0
    cdef ssize_t n
    while have < nbytes:
        n = go_on_after(have)
        if n < 0:
            return <int>n
        n = read_at(fd, into + have, min(nbytes - have, <size_t>MAX_IO_NBYTES), offset + have)
        if n < 0:
            return <int>n
        if n == 0:
            return -c_errno.ENODATA
        have += n
    return 0


cdef int read_exactly(int fd, char* into, size_t nbytes) noexcept nogil:
    cdef char small[SMALL_NBYTES + 1]
    cdef char beyond
    cdef FilePiece pieces[2]
    cdef ssize_t n = 0
    cdef int rc = 0
    if nbytes <= SMALL_NBYTES:
        n = read_at(fd, small, nbytes + 1, 0)
        if <size_t>n == nbytes:
            memcpy(into, small, nbytes)
            return 0
    if nbytes <= MAX_IO_NBYTES:
        pieces[0] = FilePiece(into, nbytes)
        pieces[1] = FilePiece(&beyond, 1)
        n = preadv(fd, pieces, 2, 0)
        while n < 0 and c_errno.errno == c_errno.EINTR:
            n = preadv(fd, pieces, 2, 0)
        if n < 0:
            return c_error()
    if <size_t>n < nbytes:
        rc = read_part(fd, n, nbytes - n, into + n)
        n = read_at(fd, &beyond, 1, nbytes) if rc == 0 else 0
        return rc if n == 0 else <int>n if n < 0 else -c_errno.EOVERFLOW
    return 0 if <size_t>n == nbytes else -c_errno.EOVERFLOW


cdef int64_t value_nbytes(int fd) noexcept nogil:
    cdef stat_result result
    if fstat(fd, &result) < 0:
        return c_error()
    if S_ISDIR(result.st_mode):
        return -c_errno.EISDIR
    return result.st_size


cdef void close_value(int fd) noexcept nogil:
    c_close(fd)


# ---- the directory

cdef int probe_root(int root, bint* locks, bint* counts_links) noexcept nogil:
    """What the file system can do; -errno when no file can be made in the directory."""
    cdef char name[NAME_NBYTES + 1]
    cdef stat_result result
    cdef int rc = 0
    cdef int fd
    snprintf(name, sizeof(name), b".probe.%016llx%s", <unsigned long long>zarrcy_random(), PARTIAL)
    fd = openat(root, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o666)
    if fd < 0:
        return c_error()
    locks[0] = flock(fd, LOCK_EX | LOCK_NB) == 0
    if not locks[0] and not means_no_locks(c_errno.errno):
        rc = c_error()
    unlinkat(root, name, 0)
    counts_links[0] = fstat(fd, &result) == 0 and result.st_nlink == 0
    c_close(fd)
    return rc


cdef class Directory:
    """The root directory of a store in files, opened on first use.

    Parameters
    ----------
    path : bytes
        An absolute path.
    url : str
        The URL of the store, for messages. Default: that of the path.
    durable : bool, default False
        Writes return when they would survive a power failure.

    Attributes
    ----------
    locks : bool
        The file system has locks; found out by the first write.

    Examples
    --------
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as path:
    ...     Directory(os.fsencode(path)).probe()
    True
    """

    def __cinit__(self, bytes path, str url="", *, bint durable=False):
        self.path = path
        self.c_path = path
        self.own_url = url
        self.durable = durable
        self.has_locks = True
        self.fd = -1

    def __dealloc__(self):
        if self.fd >= 0:
            c_close(self.fd)

    @property
    def url(self):
        # Made when it is asked for: quoting costs as much as opening an array may.
        return self.own_url or file_url(os.fsdecode(self.path))

    cdef int open(self) except -1:
        cdef stat_result result
        cdef int fd
        if self.fd >= 0 and not self.stale:
            return self.fd
        fd = c_open(self.c_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        while fd < 0 and c_errno.errno == c_errno.EINTR:
            fd = c_open(self.c_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if fd < 0:
            raise self.error(c_errno.errno, None)
        if self.fd < 0:
            self.fd = fd   # its identity is found out when it is needed: not by who opens an array and no more
            self.generation = self.generation + 1
        else:
            if fstat(fd, &result) < 0:
                raise self.error(c_errno.errno, None)
            # The same number, at one instant: other threads are using it.
            zarrcy_move(fd, self.fd)
            # The generation after the descriptor: who begins at the new one uses the new directory. And before the
            # identity: to whom is_current() says that the new one is there, the generation says that it was another
            # before.
            self.generation = self.generation + 1
            self.device = result.st_dev
            self.inode = result.st_ino
            self.identified = True
        self.has_locks = True
        self.counts_links = False
        self.probed = False
        self.stale = False
        return self.fd

    cdef void identify(self) noexcept nogil:
        cdef stat_result result
        cdef int generation = self.generation
        if fstat(self.fd, &result) == 0:
            self.device = result.st_dev
            self.inode = result.st_ino
            self.identified = True
        if generation != self.generation:
            self.stale = True   # another thread opened it anew meanwhile, and this may be the identity of the old one

    cdef int is_current(self) noexcept nogil:
        cdef stat_result result
        if self.fd < 0:
            return 0
        if not self.identified:
            self.identify()
        if c_stat(self.c_path, &result) == 0 and result.st_dev == self.device and result.st_ino == self.inode:
            return 1
        self.stale = True
        return 0

    cdef int write_flags(self) noexcept nogil:
        if not self.probed and self.fd >= 0:
            self.find_out(self.fd)
        return ((DURABLE if self.durable else 0) | (0 if self.has_locks else UNLOCKED)
                | (COUNTS_LINKS if self.counts_links else 0))

    cdef int find_out(self, int root) noexcept nogil:
        cdef bint locks, counts_links
        cdef int rc = probe_root(root, &locks, &counts_links)
        if rc == 0:
            self.has_locks = locks
            self.counts_links = counts_links
            self.probed = True
        return rc

    @property
    def locks(self):
        return self.has_locks != 0

    def error(self, int code, key):
        """The exception for an errno at a key, or at the root itself with ``None``."""
        text = None if key is None else key.decode("utf-8", "replace")
        return store_error(code, self.url, text, path=os.fsdecode(self.path))

    def probe(self):
        """Find out whether the directory can be written to (else raise `zarrcy.StoreError`) and has locks."""
        cdef int root, rc
        self.is_current()
        root = self.open()
        if not self.probed:
            rc = self.find_out(root)
            if rc < 0:
                raise self.error(-rc, None)
        return self.locks

    cdef bint is_absent(self, int generation) except -1:
        """Whether -ENOENT means that the key is absent, not that the root was another one."""
        if self.is_current() and generation == self.generation:
            return True
        self.open()
        return False
