"""Decoded indexes of shards in files that a thread has read lately."""
from libc.stdint cimport int64_t, uint64_t
from zarrcy.kernels.pool cimport Worker

# What tells one version of a file from another.
cdef struct FileVersion:
    uint64_t device
    uint64_t inode
    int64_t nbytes
    int64_t modified_ns
    int64_t changed_ns
    bint is_settled      # nobody can change it any more without changing one of the times

# The version of an open file; -errno when that cannot be told.
cdef int file_version(int fd, FileVersion* version) noexcept nogil
# The index that a pipeline decoded out of this version of a file on this thread, or NULL. Valid until keep_index.
cdef const uint64_t* kept_index(Worker* worker, const FileVersion* version, uint64_t pipeline) noexcept nogil
# Keeps n_words of an index, unless the file is not settled, or the index is large, or memory is short.
cdef void keep_index(Worker* worker, const FileVersion* version, uint64_t pipeline, const uint64_t* index,
                     size_t n_words) noexcept nogil
