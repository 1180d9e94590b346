"""Decoded indexes of shards in files that a thread has read lately."""
from libc.stdint cimport uint64_t
from zarrcy.kernels.pool cimport Worker
from zarrcy.kernels.posix_compat cimport FileVersion

# The index that a pipeline decoded out of this version of a file on this thread, or NULL. Valid until keep_index.
cdef const uint64_t* kept_index(Worker* worker, const FileVersion* version, uint64_t pipeline) noexcept nogil
# Keeps n_words of an index of a settled version, unless the index is large, or memory is short.
cdef void keep_index(Worker* worker, const FileVersion* version, uint64_t pipeline, const uint64_t* index,
                     size_t n_words) noexcept nogil
