"""Values in files, below an open directory: opened and read without the GIL. Writing is in posix_locks.

Every function returns 0 (or a file descriptor) on success and ``-errno`` on failure. Keys are NUL-terminated relative
paths.
"""
from libc cimport errno as c_errno
from libc.stdint cimport int64_t, uint64_t
from zarrcy.kernels.buffer cimport Bytes
from zarrcy.kernels.pool cimport Worker, current_worker, worker_is_stopped
from zarrcy.kernels.posix_compat cimport shared_int, shared_uint64

cdef enum:
    NAME_NBYTES = 255          # longest file name on every file system in use
    SMALL_NBYTES = 4096        # of values that read_exactly reads to a place of its own: cheaper than a second piece
    MAX_IO_NBYTES = 64 << 20   # at most this in one call: Ctrl-C is heard between calls, and some systems refuse 2 GiB
    MAX_KEY_NBYTES = 1024      # longest key, in bytes of UTF-8, that the native reader and writer take

cdef enum WriteFlags:
    DURABLE = 1     # fsync the file before the rename, the directory after it
    # No lock, because the file system has none or the caller holds it: each write has a temporary file of its own.
    UNLOCKED = 2
    NO_PARENTS = 4  # a missing parent directory is -ENOENT instead of being made: for deleting
    COUNTS_LINKS = 8  # an open file without a name has no links; network file systems may give it another name

cdef class Directory:
    """A store's root directory, opened on first use, and what the reader and the writer need to know of it.

    The shared numbers are read, and some written, by threads without the GIL while open() writes them.
    """
    cdef readonly bytes path
    cdef str own_url          # empty: that of the path
    cdef readonly bint durable
    cdef const char* c_path   # of `path`, for use without the GIL
    cdef shared_int fd
    cdef shared_int stale     # is_current() found another directory, or none: the next open() opens again
    cdef shared_int has_locks
    cdef shared_int counts_links
    cdef shared_int probed    # `has_locks` and `counts_links` were found out
    cdef shared_uint64 device, inode
    cdef shared_int identified   # `device` and `inode` are those of `fd`
    # How often it was opened. Another thread may open it again between a call and is_current(): -ENOENT means
    # that the key is absent when is_current() and the generation is the one from before the call.
    cdef shared_int generation
    # The descriptor, opened if needed; raises StoreError when there is no such directory, or the process may not
    # enter it. It is opened again after is_current() gave 0, under the same number, so that a thread that uses it
    # is not disturbed.
    cdef int open(self) except -1
    # 1 while the path still names the directory that was opened; 0 when it names another one or none, or none was
    # opened yet.
    cdef int is_current(self) noexcept nogil
    cdef void identify(self) noexcept nogil
    # Call it after open(). The first call finds out what the file system can do.
    cdef int write_flags(self) noexcept nogil
    cdef int find_out(self, int root) noexcept nogil
    # -ENOENT of a call made at `generation`: the key is absent; otherwise the root was another one and is opened again.
    cdef bint is_absent(self, int generation) except -1

# -errno of the C library's last call that failed.
cdef inline int c_error() noexcept nogil:
    return -c_errno.errno

# Between the pieces of a long read or write.
cdef inline int go_on_after(size_t done) noexcept nogil:
    return -c_errno.EINTR if done and worker_is_stopped(current_worker()) else 0

cdef inline bint means_no_locks(int code) noexcept nogil:
    return code in (c_errno.ENOLCK, c_errno.EOPNOTSUPP, c_errno.ENOSYS, c_errno.EINVAL)

# A directory below the root, open.
cdef int open_folder(int root, const char* path) noexcept nogil
# A descriptor of the value, open for reading; -ENOENT when there is no such key. Never leaves the root through a link.
# The name of a directory opens too: reading it, and asking for its length, gives -EISDIR.
cdef int open_value(int root, const char* key) noexcept nogil
# The directory of the last key, kept open for the next one. It may be moved or removed meanwhile: values written into
# it were then written before that; nothing can be made in one that was removed, which is noticed. Begin with fd -1.
cdef struct Folder:
    int fd
    int news          # of the last value that was replaced: whether there was none (NO_NEWS …)
    char path[MAX_KEY_NBYTES + 1]

cdef void close_folder(Folder* folder) noexcept nogil
# The same as open_value for one of several keys: from the second of a directory on, by a descriptor of that directory.
cdef int open_value_near(int root, const char* key, Folder* folder) noexcept nogil
# The whole value into the worker's scratch `slot`, with one pread when it has at most `expected` bytes; -EOVERFLOW when
# it has more than `limit`.
cdef int read_value(int fd, Worker* worker, int slot, size_t expected, size_t limit, Bytes* value) noexcept nogil
# Exactly nbytes bytes from offset; -ENODATA when the file ends before. Like every long read and write, it ends with
# -EINTR when its worker is stopped.
cdef int read_part(int fd, int64_t offset, size_t nbytes, char* into) noexcept nogil
# The whole value, which has to have nbytes bytes: -ENODATA when it has fewer, -EOVERFLOW when it has more.
cdef int read_exactly(int fd, char* into, size_t nbytes) noexcept nogil
# The length of the value, or -errno.
cdef int64_t value_nbytes(int fd) noexcept nogil
# Closes a descriptor that open_value gave.
cdef void close_value(int fd) noexcept nogil
