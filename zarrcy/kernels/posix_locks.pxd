"""Values in files, below an open directory: locked, replaced and deleted without the GIL.

Every function returns 0 (or a file descriptor) on success and ``-errno`` on failure. Keys are NUL-terminated relative
paths.

The protocol of a write. The temporary file of a key (a sibling with a name that depends on the key alone) is its
lock: whoever made it and holds ``flock`` on it, after checking that it still has the name, is the only one who may
rename it over the value or delete the value. Renaming or unlinking it releases the lock. A crashed writer leaves a
temporary file without a lock, which the next writer of the key unlinks, holding its lock, before it makes its own.
Readers never lock: a rename shows them the old value or the new one.

That nobody holds the lock with a file of another writer makes the check cheap: a file that nobody but its maker may
rename has the name for as long as it has a link.
"""
from libc.stdint cimport int64_t
from zarrcy.kernels.posix cimport Folder
from zarrcy.kernels.posix_compat cimport FilePiece

cdef struct KeyLock:
    int directory     # the directory that holds the value, open
    Folder* folder    # whose descriptor that is, or NULL: the lock's own
    int fd            # the temporary file, open for writing and locked
    int flags
    int mode          # permission bits of the temporary file
    char name[256]    # of the value, in that directory
    char temporary[272]

# Takes the lock of a key; makes missing parent directories. Waits up to timeout_ms; then -ETIMEDOUT. folder may be
# NULL; it must outlive the lock.
cdef int lock_key(int root, const char* key, int flags, int64_t timeout_ms, Folder* folder,
                  KeyLock* lock) noexcept nogil
# A descriptor of the value beside the lock, for reading; -ENOENT when there is none. The path of the key may lead
# to another directory by now, whose value would be another one.
cdef int open_locked(const KeyLock* lock, int root, const char* key) noexcept nogil
# Writes the value and gives the lock back, whether it succeeds or not. On failure the old value stands; only when the
# fsync of the directory fails, after the rename, the new one does.
cdef int replace_value(KeyLock* lock, const char* data, size_t nbytes) noexcept nogil
# The same for a value in pieces; changes their table.
cdef int replace_by_pieces(KeyLock* lock, FilePiece* pieces, int64_t n_pieces) noexcept nogil
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
