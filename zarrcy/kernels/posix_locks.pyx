"""Values in files, locked, replaced and deleted. The contract is in posix_locks.pxd."""
from libc cimport errno as c_errno
from libc.stdint cimport int64_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, strcmp, strlen, strrchr

from zarrcy.kernels.posix cimport (
    COUNTS_LINKS, DURABLE, MAX_IO_NBYTES, MAX_KEY_NBYTES, NAME_NBYTES, NO_PARENTS, UNLOCKED, Folder, c_error,
    close_folder, go_on_after, means_no_locks, open_folder, open_value)
from zarrcy.kernels.posix_compat cimport (
    AT_REMOVEDIR, AT_SYMLINK_NOFOLLOW, F_DUPFD_CLOEXEC, LOCK_EX, LOCK_NB, O_CLOEXEC, O_CREAT, O_EXCL, O_NOCTTY,
    O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_RDWR, PARTIAL, S_ISDIR, S_ISREG, FilePiece, c_close, fchmod, fcntl, flock,
    fstat, fstatat, mkdirat, openat, renameat, stat_result, unlinkat, write, writev, zarrcy_now_ns, zarrcy_random,
    zarrcy_remember, zarrcy_remembers, zarrcy_rename_new, zarrcy_sleep, zarrcy_sync,
)

cdef enum:
    MAX_PIECES = 1024           # at most so many in one call (IOV_MAX)
    MAX_PARENT_ATTEMPTS = 1000  # how often parents are made again that others remove
    FIRST_DELAY_NS = 50_000
    LAST_DELAY_NS = 2_000_000
    # What try_lock answers, beside 0 and -errno.
    MOVED = 1                   # the file is not the lock any more: try again at once
    BUSY = 2                    # another writer holds it
    # What Folder.news says.
    NO_NEWS = 0
    IS_NEW = 1                  # the last value replaced none
    CANNOT_TELL = 2             # the file system has no rename that refuses to replace


cdef uint64_t hash_name(const char* name) noexcept nogil:
    """FNV-1a, 64 bits (draft-eastlake-fnv). Two names with one hash would share a lock, and nothing else."""
    cdef uint64_t value = 0xCBF29CE484222325u
    while name[0] != 0:
        value = (value ^ <unsigned char>name[0]) * 0x100000001B3u
        name += 1
    return value


cdef void name_temporary(KeyLock* lock) noexcept nogil:
    cdef size_t room = NAME_NBYTES - strlen(PARTIAL) - 1
    cdef char own[18]
    own[0] = 0
    if lock.flags & UNLOCKED:
        snprintf(own, sizeof(own), b".%016llx", <unsigned long long>zarrcy_random())
    if strlen(lock.name) + strlen(own) <= room:
        snprintf(lock.temporary, sizeof(lock.temporary), b".%s%s%s", lock.name, own, PARTIAL)
    else:
        snprintf(lock.temporary, sizeof(lock.temporary), b".%016llx%s%s",
                 <unsigned long long>hash_name(lock.name), own, PARTIAL)


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


cdef int check_name(KeyLock* lock, const stat_result* mine) noexcept nogil:
    """MOVED when the locked file does not have the name any more."""
    cdef stat_result named
    if fstatat(lock.directory, lock.temporary, &named, AT_SYMLINK_NOFOLLOW) < 0:
        return MOVED if c_errno.errno == c_errno.ENOENT else c_error()
    return 0 if mine.st_dev == named.st_dev and mine.st_ino == named.st_ino else MOVED


cdef int check_lock(KeyLock* lock, bint is_own) noexcept nogil:
    """Whether the locked file still has the name; the file of another writer, who crashed, is taken away."""
    cdef stat_result mine
    cdef int rc = 0
    if fstat(lock.fd, &mine) < 0:
        return c_error()
    if not is_own or not lock.flags & COUNTS_LINKS:
        rc = check_name(lock, &mine)
    elif mine.st_nlink == 0:
        rc = MOVED
    if rc != 0:
        return rc
    if not is_own:
        if not S_ISREG(mine.st_mode):
            return -c_errno.EEXIST
        return c_error() if unlinkat(lock.directory, lock.temporary, 0) < 0 else MOVED
    lock.mode = mine.st_mode & 0o777
    return 0


cdef int try_lock(KeyLock* lock) noexcept nogil:
    cdef int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY
    cdef bint is_own = True
    cdef int rc
    if lock.flags & UNLOCKED:
        name_temporary(lock)
    lock.fd = openat(lock.directory, lock.temporary, flags | O_CREAT | O_EXCL, 0o666)
    if lock.fd < 0 and c_errno.errno == c_errno.EEXIST and not lock.flags & UNLOCKED:
        is_own = False
        lock.fd = openat(lock.directory, lock.temporary, flags)
        if lock.fd < 0 and c_errno.errno == c_errno.ENOENT:
            return MOVED
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
        rc = check_lock(lock, is_own)
    if rc != 0:
        c_close(lock.fd)
        lock.fd = -1
    return rc


cdef void close_directory(KeyLock* lock) noexcept nogil:
    if lock.folder is NULL:
        c_close(lock.directory)


cdef int reach_parent(int root, char* parent, bint again, bint* is_new, KeyLock* lock) noexcept nogil:
    """Opens the directory of a key, unless it is the one that is open; again: what is open was removed."""
    cdef Folder* folder = lock.folder
    if folder is not NULL and folder.fd >= 0 and not again and strcmp(folder.path, parent) == 0:
        lock.directory = folder.fd
        return 0
    if folder is not NULL:
        close_folder(folder)
    elif again:
        c_close(lock.directory)
    lock.directory = open_parent(root, parent, lock.flags, is_new)
    if lock.directory < 0:
        return lock.directory
    if folder is not NULL:
        folder.fd = lock.directory
        folder.news = NO_NEWS
        memcpy(folder.path, parent, strlen(parent) + 1)
    return 0


cdef int lock_key(int root, const char* key, int flags, int64_t timeout_ms, Folder* folder,
                  KeyLock* lock) noexcept nogil:
    cdef char parent[MAX_KEY_NBYTES + 1]
    cdef int64_t deadline = 0
    cdef int64_t delay = FIRST_DELAY_NS
    cdef int attempt = 0
    cdef bint is_new = False
    cdef int rc = split_key(key, parent, lock)
    if rc < 0:
        return rc
    lock.flags = flags
    lock.folder = folder
    name_temporary(lock)
    rc = reach_parent(root, parent, False, &is_new, lock)
    if rc < 0:
        return rc
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
            rc = reach_parent(root, parent, True, &is_new, lock)
            if rc < 0:
                return rc
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
        close_directory(lock)
    return rc


cdef int open_locked(const KeyLock* lock, int root, const char* key) noexcept nogil:
    cdef int fd = openat(lock.directory, lock.name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW)
    if fd >= 0:
        return fd
    # A link may lead out of the root: the whole path tells.
    return -c_errno.ENOENT if c_errno.errno == c_errno.ENOENT else open_value(root, key)


cdef void unlock_key(KeyLock* lock) noexcept nogil:
    unlinkat(lock.directory, lock.temporary, 0)
    abandon_key(lock)


cdef void abandon_key(KeyLock* lock) noexcept nogil:
    c_close(lock.fd)
    close_directory(lock)


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
        if go_on_after(done) < 0:
            return -c_errno.EINTR
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
        if c_errno.errno != c_errno.ENOENT:
            return c_error()
        if lock.folder is not NULL and lock.folder.news == NO_NEWS:
            lock.folder.news = IS_NEW
        return 0
    if not S_ISREG(old.st_mode):
        return 0
    mode = old.st_mode & 0o777
    if mode != lock.mode and fchmod(lock.fd, mode) < 0:
        # File systems without permission bits refuse; they have nothing to keep.
        return 0 if c_errno.errno in (c_errno.EPERM, c_errno.EOPNOTSUPP) else c_error()
    return 0


cdef int rename_over(KeyLock* lock) noexcept nogil:
    """Gives the temporary file the name of the value, and the permission bits of the one that it replaces.

    Where the last value of the directory was a new one, this one is taken for new as well: a rename that refuses to
    replace saves the look at the old value.
    """
    cdef Folder* folder = lock.folder
    cdef int rc
    if folder is not NULL and folder.news == IS_NEW and not lock.flags & DURABLE:
        rc = zarrcy_rename_new(lock.directory, lock.temporary, lock.name)
        if rc == 0:
            return 0
        folder.news = NO_NEWS if rc == -c_errno.EEXIST else CANNOT_TELL
    rc = keep_mode(lock)
    if rc == 0 and lock.flags & DURABLE:
        rc = zarrcy_sync(lock.fd)
    if rc == 0 and renameat(lock.directory, lock.temporary, lock.directory, lock.name) < 0:
        rc = c_error()
    return rc


cdef int write_pieces(int fd, FilePiece* pieces, int64_t n_pieces) noexcept nogil:
    cdef int64_t i = 0
    cdef ssize_t n
    while i < n_pieces:
        if go_on_after(i) < 0:
            return -c_errno.EINTR
        n = writev(fd, pieces + i, min(n_pieces - i, MAX_PIECES))
        if n < 0 and c_errno.errno == c_errno.EINTR:
            continue
        if n <= 0:
            return c_error() if n < 0 else -c_errno.EIO
        while i < n_pieces and <size_t>n >= pieces[i].nbytes:
            n -= pieces[i].nbytes
            i += 1
        if n > 0:
            pieces[i].data = <char*>pieces[i].data + n
            pieces[i].nbytes -= n
    return 0


cdef int replace_value(KeyLock* lock, const char* data, size_t nbytes) noexcept nogil:
    return finish(lock, write_whole(lock.fd, data, nbytes))


cdef int replace_by_pieces(KeyLock* lock, FilePiece* pieces, int64_t n_pieces) noexcept nogil:
    return finish(lock, write_pieces(lock.fd, pieces, n_pieces))


cdef int finish(KeyLock* lock, int rc) noexcept nogil:
    """Puts the temporary file, written with this outcome, in the place of the value."""
    if rc == 0:
        rc = rename_over(lock)
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
        rc = c_error() if flock(lock.fd, LOCK_EX | LOCK_NB) < 0 or fstat(lock.fd, &mine) < 0 else 0
        if rc == 0:
            rc = check_name(&lock, &mine)
        if rc == 0 and unlinkat(directory, name, 0) < 0:
            rc = c_error()
        c_close(lock.fd)
    if rc in (MOVED, -c_errno.EAGAIN, -c_errno.ENOENT):
        return 0
    return 1 if rc == 0 else rc
