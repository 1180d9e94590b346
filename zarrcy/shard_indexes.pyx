"""Decoded indexes of shards in files that a thread has read lately.

Reading one inner chunk means reading the shard's index first, which for thousands of inner chunks costs more than the
chunk. Each thread keeps a few. No descriptor is kept: every read opens its file, and an index counts only for a file of
the identity, length and times that it was read from, so that a shard that was replaced is noticed.

A clock of a file system has ticks of some milliseconds, and within one tick a file can change, or go and leave its
inode to another, without a trace. An index is therefore kept only of a file whose times lie further back than that.
"""
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy
from zarrcy.kernels.pool cimport ContextKind, Worker, worker_context

cdef enum:
    N_KEPT = 4                    # indexes per thread,
    MAX_KEPT_NBYTES = 262144      # of at most that many bytes each

cdef extern from *:
    """
    #include <errno.h>
    #include <stdint.h>
    #include <sys/stat.h>
    #include <time.h>
    #ifdef __APPLE__
    #define ZARRCY_TIME(st, which) ((st)->st_##which##timespec)
    #else
    #define ZARRCY_TIME(st, which) ((st)->st_##which##tim)
    #endif
    static inline int64_t zarrcy_ns(struct timespec t) { return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec; }
    static inline int zarrcy_file_version(int fd, uint64_t* device, uint64_t* inode, int64_t* nbytes,
                                          int64_t* modified_ns, int64_t* changed_ns) {
      struct stat st;
      if (fstat(fd, &st) < 0) return -errno;
      if (S_ISDIR(st.st_mode)) return -EISDIR;
      *device = st.st_dev;
      *inode = st.st_ino;
      *nbytes = st.st_size;
      *modified_ns = zarrcy_ns(ZARRCY_TIME(&st, m));
      *changed_ns = zarrcy_ns(ZARRCY_TIME(&st, c));
      return 0;
    }
    static inline int64_t zarrcy_now_ns(void) {
      struct timespec now;
      clock_gettime(CLOCK_REALTIME, &now);
      return zarrcy_ns(now);
    }
    #define ZARRCY_SETTLED_NS 2000000000   /* the coarsest clock of a file system, that of FAT */
    """
    const int64_t SETTLED_NS "ZARRCY_SETTLED_NS"
    int read_version "zarrcy_file_version"(int fd, uint64_t* device, uint64_t* inode, int64_t* nbytes,
                                           int64_t* modified_ns, int64_t* changed_ns) noexcept nogil
    int64_t now_ns "zarrcy_now_ns"() noexcept nogil

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


cdef int file_version(int fd, FileVersion* version) noexcept nogil:
    cdef int code = read_version(fd, &version.device, &version.inode, &version.nbytes, &version.modified_ns,
                                 &version.changed_ns)
    version.is_settled = code == 0 and now_ns() - max(version.modified_ns, version.changed_ns) > SETTLED_NS
    return code


cdef bint is_same(const FileVersion* a, const FileVersion* b) noexcept nogil:
    return (a.device == b.device and a.inode == b.inode and a.nbytes == b.nbytes and a.modified_ns == b.modified_ns
            and a.changed_ns == b.changed_ns)


cdef const uint64_t* kept_index(Worker* worker, const FileVersion* version, uint64_t pipeline) noexcept nogil:
    cdef Cache* cache = <Cache*>worker_context(worker, &CACHE)
    cdef int i
    if cache is not NULL:
        for i in range(N_KEPT):
            if (cache.kept[i].index is not NULL and cache.kept[i].pipeline == pipeline
                    and is_same(&cache.kept[i].version, version)):
                return cache.kept[i].index
    return NULL


cdef void keep_index(Worker* worker, const FileVersion* version, uint64_t pipeline, const uint64_t* index,
                     size_t n_words) noexcept nogil:
    cdef Cache* cache = <Cache*>worker_context(worker, &CACHE)
    cdef Kept* kept
    if cache is NULL or not version.is_settled or n_words * sizeof(uint64_t) > MAX_KEPT_NBYTES:
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
