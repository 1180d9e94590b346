"""Values in files, below an open directory: read, replaced, deleted and locked without the GIL.

Every function returns 0 (or a file descriptor) on success and ``-errno`` on failure. Keys are NUL-terminated relative
paths.

The protocol of a write. The temporary file of a key (a sibling with a name that depends on the key alone) is its
lock: whoever holds ``flock`` on it, after checking that the name still points at it, is the only one who may rename
it over the value or delete the value. Renaming or unlinking it releases the lock. A crashed writer leaves a temporary
file without a lock, which the next writer of the key takes over. Readers never lock: a rename shows them the old
value or the new one.
"""
from libc.stdint cimport int64_t, uint64_t
from zarrcy.kernels.buffer cimport Bytes
from zarrcy.kernels.pool cimport Worker

cdef enum:
    MAX_KEY_NBYTES = 1024      # longest key, in bytes of UTF-8, that the native reader and writer take

cdef enum WriteFlags:
    DURABLE = 1     # fsync the file before the rename, the directory after it
    # No lock, because the file system has none or the caller holds it: each write has a temporary file of its own.
    UNLOCKED = 2
    NO_PARENTS = 4  # a missing parent directory is -ENOENT instead of being made: for deleting

cdef struct KeyLock:
    int directory     # the directory that holds the value, open
    int fd            # the temporary file, open for writing and locked
    int flags
    int mode          # permission bits of the temporary file
    char name[256]    # of the value, in that directory
    char temporary[272]

cdef class Directory:
    """A store's root directory, opened on first use, and what the reader and the writer need to know of it."""
    cdef readonly bytes path
    cdef readonly str url
    cdef readonly bint durable
    cdef readonly bint locks
    cdef const char* c_path   # of `path`, for use without the GIL
    cdef int fd
    cdef bint stale           # is_current() found another directory, or none: the next open() opens again
    cdef bint probed          # `locks` was found out
    cdef uint64_t device, inode
    # How often it was opened. Another thread may open it again between a call and is_current(): -ENOENT means
    # that the key is absent when is_current() and the generation is the one from before the call.
    cdef readonly int generation
    # The descriptor, opened if needed; raises StoreError when there is no such directory, or the process may not
    # enter it. It is opened again after is_current() gave 0, under the same number, so that a thread that uses it
    # is not disturbed.
    cdef int open(self) except -1
    # 1 while the path still names the directory that was opened; 0 when it names another one or none.
    cdef int is_current(self) noexcept nogil
    # Call it after open(). The first call finds out whether the file system has locks.
    cdef int write_flags(self) noexcept nogil
    # -ENOENT of a call made at `generation`: the key is absent; otherwise the root was another one and is opened again.
    cdef bint is_absent(self, int generation) except -1

# A directory below the root, open.
cdef int open_folder(int root, const char* path) noexcept nogil
# A descriptor of the value, open for reading; -ENOENT when there is no such key. Never leaves the root through a link.
# The name of a directory opens too: reading it, and asking for its length, gives -EISDIR.
cdef int open_value(int root, const char* key) noexcept nogil
# The whole value into the worker's scratch `slot`, with one pread when it has at most `expected` bytes; -EOVERFLOW when
# it has more than `limit`.
cdef int read_value(int fd, Worker* worker, int slot, size_t expected, size_t limit, Bytes* value) noexcept nogil
# Exactly nbytes bytes from offset; -ENODATA when the file ends before.
cdef int read_part(int fd, int64_t offset, size_t nbytes, char* into) noexcept nogil
# The length of the value, or -errno.
cdef int64_t value_nbytes(int fd) noexcept nogil
# Closes a descriptor that open_value gave.
cdef void close_value(int fd) noexcept nogil

# Takes the lock of a key; makes missing parent directories. Waits up to timeout_ms; then -ETIMEDOUT.
cdef int lock_key(int root, const char* key, int flags, int64_t timeout_ms, KeyLock* lock) noexcept nogil
# Writes the value and gives the lock back, whether it succeeds or not. On failure the old value stands; only when the
# fsync of the directory fails, after the rename, the new one does.
cdef int replace_value(KeyLock* lock, const char* data, size_t nbytes) noexcept nogil
# Deletes the value (an absent one is fine) and gives the lock back.
cdef int delete_value(KeyLock* lock) noexcept nogil
# Gives the lock back, nothing changed.
cdef void unlock_key(KeyLock* lock) noexcept nogil
# For a forked child: closes what it inherited of a lock, which stays the parent's.
cdef void abandon_key(KeyLock* lock) noexcept nogil
# Removes a temporary file of a crashed writer: 1 when it was, 0 when a living writer holds it or it is gone.
cdef int collect_temporary(int directory, const char* name) noexcept nogil
# Removes the parent directories of a key that are empty. Safe beside writers: lock_key makes them again.
cdef void remove_empty_parents(int root, const char* key) noexcept nogil
