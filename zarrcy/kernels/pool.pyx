"""The worker pool of the process. One module holds it, so that there is one pool; the others cimport these
functions."""

cdef extern from "pool.hpp" nogil:
    ctypedef struct NativeWorker "::Worker"
    ctypedef struct NativeKind "::ContextKind"
    ctypedef int (*NativeFunction "ItemFunction")(void* context, size_t i) noexcept
    ctypedef int (*NativeStop "StopFunction")(void* context) noexcept
    int native_parallel_for "::parallel_for"(size_t n, int n_threads, NativeFunction function, void* context) noexcept
    size_t native_n_threads "::n_pool_threads"() noexcept
    NativeWorker* native_current_worker "::current_worker"() noexcept
    bint native_suspend "::suspend_worker"() noexcept
    void native_resume "::resume_worker"() noexcept
    char* native_scratch "::worker_scratch"(NativeWorker* worker, int slot, size_t nbytes) noexcept
    void* native_context "::worker_context"(NativeWorker* worker, const NativeKind* kind) noexcept
    void native_listen "::worker_listen"(NativeWorker* worker, NativeStop stops, void* context) noexcept
    bint native_is_stopped "::worker_is_stopped"(NativeWorker* worker) noexcept
    void native_trim "::worker_trim"(NativeWorker* worker, size_t keep_nbytes) noexcept


cdef int parallel_for(size_t n, int n_threads, ItemFunction function, void* context) noexcept nogil:
    return native_parallel_for(n, n_threads, <NativeFunction>function, context)


cdef Worker* current_worker() noexcept nogil:
    return <Worker*>native_current_worker()


cdef bint suspend_worker() noexcept nogil:
    return native_suspend()


cdef void resume_worker() noexcept nogil:
    native_resume()


cdef char* worker_scratch(Worker* worker, int slot, size_t nbytes) noexcept nogil:
    return native_scratch(<NativeWorker*>worker, slot, nbytes)


cdef void* worker_context(Worker* worker, const ContextKind* kind) noexcept nogil:
    return native_context(<NativeWorker*>worker, <const NativeKind*>kind)


cdef void worker_listen(Worker* worker, StopFunction stops, void* context) noexcept nogil:
    native_listen(<NativeWorker*>worker, <NativeStop>stops, context)


cdef bint worker_is_stopped(Worker* worker) noexcept nogil:
    return native_is_stopped(<NativeWorker*>worker)


cdef void worker_trim(Worker* worker, size_t keep_nbytes) noexcept nogil:
    native_trim(<NativeWorker*>worker, keep_nbytes)


def n_started_threads():
    """How many worker threads were started in this process so far."""
    return native_n_threads()
