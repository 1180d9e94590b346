"""The worker pool of the process, and what each thread keeps between calls. The contract is in pool.hpp."""

ctypedef int (*ItemFunction)(void* context, size_t i) noexcept nogil

cdef struct ContextKind:
    void* (*make)() noexcept nogil
    void (*destroy)(void* context) noexcept nogil

ctypedef int (*StopFunction)(void* context) noexcept nogil

ctypedef void Worker   # opaque: only pool.cpp looks inside

cdef int parallel_for(size_t n, int n_threads, ItemFunction function, void* context) noexcept nogil
cdef Worker* current_worker() noexcept nogil
cdef bint suspend_worker() noexcept nogil
cdef void resume_worker() noexcept nogil
cdef char* worker_scratch(Worker* worker, int slot, size_t nbytes) noexcept nogil
cdef void* worker_context(Worker* worker, const ContextKind* kind) noexcept nogil
cdef void worker_listen(Worker* worker, StopFunction stops, void* context) noexcept nogil
cdef bint worker_is_stopped(Worker* worker) noexcept nogil
cdef void worker_trim(Worker* worker, size_t keep_nbytes) noexcept nogil
