"""Values in files, below an open directory. The contract is in posix.pxd."""
from libc cimport errno as c_errno
from libc.stdint cimport int64_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, strcmp, strlen, strrchr

from zarrcy.kernels.buffer cimport Bytes
from zarrcy.kernels.pool cimport Worker, worker_scratch
from zarrcy.kernels.posix_compat cimport (
    AT_REMOVEDIR, AT_SYMLINK_NOFOLLOW, F_DUPFD_CLOEXEC, LOCK_EX, LOCK_NB,
    O_CLOEXEC, O_CREAT, O_DIRECTORY, O_EXCL, O_NOCTTY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_RDWR, S_ISDIR, S_ISREG,
    c_close, c_open, c_stat, fchmod, fcntl, flock, fstat, fstatat, mkdirat, openat, pread, renameat, stat_result,
    unlinkat, write, zarrcy_move, zarrcy_now_ns, zarrcy_openat2, zarrcy_random, zarrcy_remember, zarrcy_remembers,
    zarrcy_sleep, zarrcy_sync,
)

import os

from zarrcy.kernels.posix_errors import store_error

__all__ = ["Directory"]

cdef enum:
    NAME_NBYTES = 255           # longest file name on every file system in use
    MAX_PARENT_ATTEMPTS = 1000  # how often parents are made again that others remove
    MAX_IO_NBYTES = 1 << 30     # at most this in one call: some systems refuse 2 GiB, others move less than asked for
    FIRST_DELAY_NS = 50_000
    LAST_DELAY_NS = 2_000_000
    # What try_lock answers, beside 0 and -errno.
    MOVED = 1                   # the file is not the lock any more: try again at once
    BUSY = 2                    # another writer holds it

cdef char* SUFFIX = b".zarrcy-partial"


# ---- opening below the root

cdef inline int c_error() noexcept nogil:
    return -c_errno.errno


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
    return open_beneath(root, key, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)


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
        n = read_at(fd, into + have, min(nbytes - have, <size_t>MAX_IO_NBYTES), offset + have)
        if n < 0:
            return <int>n
        if n == 0:
            return -c_errno.ENODATA
        have += n
    return 0


cdef int64_t value_nbytes(int fd) noexcept nogil:
    cdef stat_result result
    if fstat(fd, &result) < 0:
        return c_error()
    if S_ISDIR(result.st_mode):
        return -c_errno.EISDIR
    return result.st_size


cdef void close_value(int fd) noexcept nogil:
    c_close(fd)


# ---- the lock of a key

cdef uint64_t hash_name(const char* name) noexcept nogil:
    """FNV-1a, 64 bits (draft-eastlake-fnv). Two names with one hash would share a lock, and nothing else."""
    cdef uint64_t value = 0xCBF29CE484222325u
    while name[0] != 0:
        value = (value ^ <unsigned char>name[0]) * 0x100000001B3u
        name += 1
    return value


cdef void name_temporary(KeyLock* lock) noexcept nogil:
    cdef size_t room = NAME_NBYTES - strlen(SUFFIX) - 1
    cdef char own[18]
    own[0] = 0
    if lock.flags & UNLOCKED:
        snprintf(own, sizeof(own), b".%016llx", <unsigned long long>zarrcy_random())
    if strlen(lock.name) + strlen(own) <= room:
        snprintf(lock.temporary, sizeof(lock.temporary), b".%s%s%s", lock.name, own, SUFFIX)
    else:
        snprintf(lock.temporary, sizeof(lock.temporary), b".%016llx%s%s",
                 <unsigned long long>hash_name(lock.name), own, SUFFIX)


cdef int split_key(const char* key, char* parent, KeyLock* lock) noexcept nogil:
    """The parent path and the name in it. -EINVAL for a name that would not be a file of its own."""
    cdef const char* slash = strrchr(key, b"/")
    cdef const char* name = key if slash == NULL else slash + 1
    if strlen(key) > MAX_KEY_NBYTES or strlen(name) > NAME_NBYTES:
        return -c_errno.ENAMETOOLONG
    if name[0] == 0 or strcmp(name, b".") == 0 or strcmp(name, b"..") == 0:
        return -c_errno.EINVAL
    parent[0] = 0
    if slash != NULL:
        memcpy(parent, key, slash - key)
        parent[slash - key] = 0
    memcpy(lock.name, name, strlen(name) + 1)
    return 0


cdef int make_folders(int root, char* path) noexcept nogil:
    """Makes the directories of a path that are missing; -ENOENT when another process removes them at the same time."""
    cdef size_t start = 0
    cdef size_t end
    cdef int directory = root
    cdef int rc = 0
    cdef char rest
    while rc == 0:
        end = start
        while path[end] != 0 and path[end] != b"/":
            end += 1
        rest = path[end]
        path[end] = 0
        if mkdirat(directory, path + start, 0o777) < 0 and c_errno.errno != c_errno.EEXIST:
            rc = c_error()
        if directory != root:
            c_close(directory)
            directory = root
        if rc == 0 and rest != 0:
            # From the root on, so that a link among the segments cannot lead out of it.
            directory = open_folder(root, path)
            if directory < 0:
                rc = directory
        path[end] = rest
        if rest == 0:
            break
        start = end + 1
    return rc


cdef int open_parent(int root, char* parent, int flags, bint* is_new) noexcept nogil:
    cdef int _attempt, fd, rc
    if parent[0] == 0:
        # A descriptor of its own: Directory may put another directory under the root's number.
        fd = fcntl(root, F_DUPFD_CLOEXEC, 0)
        return c_error() if fd < 0 else fd
    for _attempt in range(MAX_PARENT_ATTEMPTS):
        fd = open_folder(root, parent)
        if fd != -c_errno.ENOENT or flags & NO_PARENTS:
            return fd
        is_new[0] = True
        rc = make_folders(root, parent)
        if rc < 0 and rc != -c_errno.ENOENT:
            return rc
        if rc == -c_errno.ENOENT and is_removed(root):
            return rc
    return -c_errno.ENOENT


cdef bint is_removed(int root) noexcept nogil:
    """Whether nothing can be made in the root: a removed directory has no '..' but keeps its descriptor."""
    cdef stat_result result
    return fstatat(root, b"..", &result, 0) < 0 and c_errno.errno == c_errno.ENOENT


cdef bint means_no_locks(int code) noexcept nogil:
    return code in (c_errno.ENOLCK, c_errno.EOPNOTSUPP, c_errno.ENOSYS, c_errno.EINVAL)


cdef int check_name(KeyLock* lock, stat_result* mine) noexcept nogil:
    """MOVED when the locked file does not have the name any more."""
    cdef stat_result named
    if fstat(lock.fd, mine) < 0:
        return c_error()
    if fstatat(lock.directory, lock.temporary, &named, AT_SYMLINK_NOFOLLOW) < 0:
        return MOVED if c_errno.errno == c_errno.ENOENT else c_error()
    return 0 if mine.st_dev == named.st_dev and mine.st_ino == named.st_ino else MOVED


cdef int check_lock(KeyLock* lock) noexcept nogil:
    """Whether the locked file is still the one with the name, and not what a crashed writer left."""
    cdef stat_result mine
    cdef int rc = check_name(lock, &mine)
    if rc != 0:
        return rc
    if not S_ISREG(mine.st_mode):
        return -c_errno.EEXIST
    if mine.st_size > 0:
        # A writer crashed. A new file has the mode and owner that a new value should have.
        return c_error() if unlinkat(lock.directory, lock.temporary, 0) < 0 else MOVED
    lock.mode = mine.st_mode & 0o777
    return 0


cdef int try_lock(KeyLock* lock) noexcept nogil:
    cdef int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY
    cdef int rc
    if lock.flags & UNLOCKED:
        name_temporary(lock)
        flags |= O_EXCL
    lock.fd = openat(lock.directory, lock.temporary, flags, 0o666)
    if lock.fd < 0:
        return MOVED if c_errno.errno in (c_errno.EINTR, c_errno.EEXIST) else c_error()
    # A file of one writer alone is locked too, so that whoever collects crashed writers' files sees that it lives.
    rc = 0
    if flock(lock.fd, LOCK_EX | LOCK_NB) < 0:
        rc = c_error()
        if rc == -c_errno.EAGAIN:
            rc = BUSY
        elif rc == -c_errno.EINTR:
            rc = MOVED
        elif lock.flags & UNLOCKED and means_no_locks(-rc):
            rc = 0
    if rc == 0:
        rc = check_lock(lock)
    if rc != 0:
        c_close(lock.fd)
        lock.fd = -1
    return rc


cdef int lock_key(int root, const char* key, int flags, int64_t timeout_ms, KeyLock* lock) noexcept nogil:
    cdef char parent[MAX_KEY_NBYTES + 1]
    cdef int64_t deadline = 0
    cdef int64_t delay = FIRST_DELAY_NS
    cdef int attempt = 0
    cdef bint is_new = False
    cdef int rc = split_key(key, parent, lock)
    if rc < 0:
        return rc
    lock.flags = flags
    name_temporary(lock)
    lock.directory = open_parent(root, parent, flags, &is_new)
    if lock.directory < 0:
        return lock.directory
    while True:
        rc = try_lock(lock)
        if rc == BUSY:
            if deadline == 0:
                deadline = zarrcy_now_ns() + timeout_ms * 1_000_000
            elif zarrcy_now_ns() >= deadline:
                rc = -c_errno.ETIMEDOUT
        if rc == -c_errno.ENOENT and parent[0] != 0 and attempt < MAX_PARENT_ATTEMPTS:
            # The directory was removed since it was opened.
            attempt += 1
            c_close(lock.directory)
            lock.directory = open_parent(root, parent, flags, &is_new)
            if lock.directory < 0:
                return lock.directory
            continue
        if rc == BUSY:
            zarrcy_sleep(delay)
            delay = min(2 * delay, LAST_DELAY_NS)
        elif rc != MOVED:
            break
    if rc == 0 and flags & DURABLE:
        rc = sync_ancestors(root, parent, lock.directory, is_new)
        if rc < 0:
            unlinkat(lock.directory, lock.temporary, 0)
            c_close(lock.fd)
    if rc < 0:
        c_close(lock.directory)
    return rc


cdef void unlock_key(KeyLock* lock) noexcept nogil:
    unlinkat(lock.directory, lock.temporary, 0)
    abandon_key(lock)


cdef void abandon_key(KeyLock* lock) noexcept nogil:
    c_close(lock.fd)
    c_close(lock.directory)


# ---- writing

cdef int sync_folder(int fd) noexcept nogil:
    cdef int rc = zarrcy_sync(fd)
    # Some network file systems refuse fsync of a directory: their server does it.
    return 0 if rc in (-c_errno.EINVAL, -c_errno.EOPNOTSUPP) else rc


cdef int sync_ancestors(int root, char* parent, int directory, bint is_new) noexcept nogil:
    """Makes the names of the directories above a value durable, once for each directory that this process writes to.

    Not only by the one that made a directory: another writer may finish between its mkdir and its fsync.
    """
    cdef stat_result result
    cdef uint64_t number
    cdef size_t i
    cdef int fd
    cdef int rc = 0
    if parent[0] == 0:
        return 0
    if fstat(directory, &result) < 0:
        return c_error()
    number = (<uint64_t>result.st_dev * 0x9E3779B97F4A7C15u) ^ (<uint64_t>result.st_ino * 0xD1B54A32D192ED03u)
    number ^= hash_name(parent)
    if not is_new and zarrcy_remembers(number):
        return 0
    rc = sync_folder(root)
    for i in range(strlen(parent)):
        if rc < 0:
            return rc
        if parent[i] == b"/":
            parent[i] = 0
            fd = open_folder(root, parent)
            parent[i] = b"/"
            if fd < 0:
                return fd
            rc = sync_folder(fd)
            c_close(fd)
    if rc == 0:
        zarrcy_remember(number)
    return rc


cdef int write_whole(int fd, const char* data, size_t nbytes) noexcept nogil:
    cdef size_t done = 0
    cdef ssize_t n
    while done < nbytes:
        n = write(fd, data + done, min(nbytes - done, <size_t>MAX_IO_NBYTES))
        if n > 0:
            done += n
        elif n == 0:
            return -c_errno.EIO
        elif c_errno.errno != c_errno.EINTR:
            return c_error()
    return 0


cdef int keep_mode(KeyLock* lock) noexcept nogil:
    """Gives the temporary file the permission bits of the value that it replaces."""
    cdef stat_result old
    cdef int mode
    if fstatat(lock.directory, lock.name, &old, AT_SYMLINK_NOFOLLOW) < 0:
        return 0 if c_errno.errno == c_errno.ENOENT else c_error()
    if not S_ISREG(old.st_mode):
        return 0
    mode = old.st_mode & 0o777
    if mode != lock.mode and fchmod(lock.fd, mode) < 0:
        # File systems without permission bits refuse; they have nothing to keep.
        return 0 if c_errno.errno in (c_errno.EPERM, c_errno.EOPNOTSUPP) else c_error()
    return 0


cdef int replace_value(KeyLock* lock, const char* data, size_t nbytes) noexcept nogil:
    cdef int rc = write_whole(lock.fd, data, nbytes)
    if rc == 0:
        rc = keep_mode(lock)
    if rc == 0 and lock.flags & DURABLE:
        rc = zarrcy_sync(lock.fd)
    if rc == 0 and renameat(lock.directory, lock.temporary, lock.directory, lock.name) < 0:
        rc = c_error()
    if rc < 0:
        unlinkat(lock.directory, lock.temporary, 0)
    elif lock.flags & DURABLE:
        rc = sync_folder(lock.directory)
    abandon_key(lock)
    return rc


cdef int delete_value(KeyLock* lock) noexcept nogil:
    cdef stat_result result
    cdef int rc = 0
    if unlinkat(lock.directory, lock.name, 0) < 0 and c_errno.errno != c_errno.ENOENT:
        rc = c_error()
        # POSIX answers EPERM for a directory, Linux EISDIR.
        if rc == -c_errno.EPERM and fstatat(lock.directory, lock.name, &result, AT_SYMLINK_NOFOLLOW) == 0:
            rc = -c_errno.EISDIR if S_ISDIR(result.st_mode) else rc
    unlinkat(lock.directory, lock.temporary, 0)
    if rc == 0 and lock.flags & DURABLE:
        rc = sync_folder(lock.directory)
    abandon_key(lock)
    return rc


cdef void remove_empty_parents(int root, const char* key) noexcept nogil:
    cdef char parent[MAX_KEY_NBYTES + 1]
    cdef char* slash
    cdef int directory
    if strlen(key) > MAX_KEY_NBYTES:
        return
    memcpy(parent, key, strlen(key) + 1)
    slash = strrchr(parent, b"/")
    while slash != NULL:
        slash[0] = 0
        slash = strrchr(parent, b"/")
        if slash == NULL:
            unlinkat(root, parent, AT_REMOVEDIR)
            return
        slash[0] = 0
        directory = open_folder(root, parent)
        slash[0] = b"/"
        if directory < 0:
            return
        if unlinkat(directory, slash + 1, AT_REMOVEDIR) < 0:
            c_close(directory)
            return
        c_close(directory)


cdef int collect_temporary(int directory, const char* name) noexcept nogil:
    cdef KeyLock lock
    cdef stat_result mine
    cdef int rc
    if strlen(name) > NAME_NBYTES:
        return -c_errno.ENAMETOOLONG
    memcpy(lock.temporary, name, strlen(name) + 1)
    lock.directory = directory
    lock.fd = openat(directory, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)
    if lock.fd < 0:
        rc = c_error()
    else:
        rc = c_error() if flock(lock.fd, LOCK_EX | LOCK_NB) < 0 else check_name(&lock, &mine)
        if rc == 0 and unlinkat(directory, name, 0) < 0:
            rc = c_error()
        c_close(lock.fd)
    if rc in (MOVED, -c_errno.EAGAIN, -c_errno.ENOENT):
        return 0
    return 1 if rc == 0 else rc


# ---- the directory

cdef int probe_locks(int root) noexcept nogil:
    """1 when files in the directory can be locked, 0 when not, -errno when none can be made."""
    cdef KeyLock lock
    cdef int rc
    memcpy(lock.name, b"probe", 6)
    lock.flags = UNLOCKED
    lock.directory = root
    name_temporary(&lock)
    lock.fd = openat(root, lock.temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o666)
    if lock.fd < 0:
        return c_error()
    rc = 1
    if flock(lock.fd, LOCK_EX | LOCK_NB) < 0:
        rc = 0 if means_no_locks(c_errno.errno) else c_error()
    unlinkat(root, lock.temporary, 0)
    c_close(lock.fd)
    return rc


cdef class Directory:
    """The root directory of a store in files, opened on first use.

    Parameters
    ----------
    path : bytes
        An absolute path.
    url : str
        The URL of the store, for messages.
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
        self.url = url or "file://" + os.fsdecode(path)
        self.durable = durable
        self.locks = True
        self.fd = -1

    def __dealloc__(self):
        if self.fd >= 0:
            c_close(self.fd)

    cdef int open(self) except -1:
        cdef stat_result result
        cdef int fd
        if self.fd >= 0 and not self.stale:
            return self.fd
        fd = c_open(self.c_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        while fd < 0 and c_errno.errno == c_errno.EINTR:
            fd = c_open(self.c_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if fd < 0 or fstat(fd, &result) < 0:
            raise self.error(c_errno.errno, None)
        if self.fd < 0:
            self.fd = fd
        else:
            # The same number, at one instant: other threads are using it.
            zarrcy_move(fd, self.fd)
        self.device, self.inode = result.st_dev, result.st_ino
        self.stale = self.probed = False
        self.locks = True
        self.generation += 1
        return self.fd

    cdef int is_current(self) noexcept nogil:
        cdef stat_result result
        if c_stat(self.c_path, &result) == 0 and result.st_dev == self.device and result.st_ino == self.inode:
            return 1
        self.stale = True
        return 0

    cdef int write_flags(self) noexcept nogil:
        cdef int answer
        if not self.probed and self.fd >= 0:
            answer = probe_locks(self.fd)
            if answer >= 0:
                self.locks = answer
                self.probed = True
        return (DURABLE if self.durable else 0) | (0 if self.locks else UNLOCKED)

    def error(self, int code, key):
        """The exception for an errno at a key, or at the root itself with ``None``."""
        text = None if key is None else key.decode("utf-8", "replace")
        return store_error(code, self.url, text, path=os.fsdecode(self.path))

    def probe(self):
        """Find out whether the directory can be written to (else raise `zarrcy.StoreError`) and has locks."""
        cdef int root, answer
        self.is_current()
        root = self.open()
        if not self.probed:
            answer = probe_locks(root)
            if answer < 0:
                raise self.error(-answer, None)
            self.locks = answer
            self.probed = True
        return self.locks

    cdef bint is_absent(self, int generation) except -1:
        """Whether -ENOENT means that the key is absent, not that the root was another one."""
        if self.is_current() and generation == self.generation:
            return True
        self.open()
        return False
