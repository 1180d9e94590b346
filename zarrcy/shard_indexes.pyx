"""Decoded indexes of shards in files that a thread has read lately.

Reading one inner chunk means reading the shard's index first, which for thousands of inner chunks costs more than the
chunk. Each thread keeps a few. No descriptor is kept: every read opens its file, and an index counts only for a file of
the identity, length and times that it was read from, so that a shard that was replaced is noticed.

A clock of a file system has ticks of some milliseconds, and within one tick a file can change, or go and leave its
inode to another, without a trace. An index is therefore kept only of a file whose times lie further back than that.
"""
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy
from zarrcy.kernels.pool cimport ContextKind, Worker, worker_context
from zarrcy.kernels.posix_compat cimport FileVersion, zarrcy_is_same_version

cdef enum:
    N_KEPT = 4                    # indexes per thread,
    MAX_KEPT_NBYTES = 262144      # of at most that many bytes each

cdef struct Kept:
    FileVersion version
    uint64_t pipeline
    uint64_t* index

cdef struct Cache:
    Kept kept[N_KEPT]
    int oldest


cdef void* make_cache() noexcept nogil:
    return calloc(1, sizeof(Cache))


cdef void free_cache(void* context) noexcept nogil:
    cdef int i
    for i in range(N_KEPT):
        free((<Cache*>context).kept[i].index)
    free(context)


cdef ContextKind CACHE = ContextKind(make_cache, free_cache)


cdef const uint64_t* kept_index(Worker* worker, const FileVersion* version, uint64_t pipeline) noexcept nogil:
    cdef Cache* cache = <Cache*>worker_context(worker, &CACHE)
    cdef int i
    if cache is not NULL:
        for i in range(N_KEPT):
            if (cache.kept[i].index is not NULL and cache.kept[i].pipeline == pipeline
                    and zarrcy_is_same_version(&cache.kept[i].version, version)):
                return cache.kept[i].index
    return NULL


cdef void keep_index(Worker* worker, const FileVersion* version, uint64_t pipeline, const uint64_t* index,
                     size_t n_words) noexcept nogil:
    cdef Cache* cache = <Cache*>worker_context(worker, &CACHE)
    cdef Kept* kept
    if cache is NULL or n_words * sizeof(uint64_t) > MAX_KEPT_NBYTES:
        return
    kept = &cache.kept[cache.oldest]
    cache.oldest = (cache.oldest + 1) % N_KEPT
    free(kept.index)
    kept.index = <uint64_t*>malloc(n_words * sizeof(uint64_t))
    if kept.index is NULL:
        return
    memcpy(kept.index, index, n_words * sizeof(uint64_t))
    kept.version = version[0]
    kept.pipeline = pipeline
