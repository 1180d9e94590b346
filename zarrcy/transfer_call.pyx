"""One read or write: what its threads share, the keys of its chunks, and how it fails.

The objects of a call are passed as arguments: a typed argument is borrowed, so that no reference is counted without the
GIL.
"""
from cpython.exc cimport PyErr_CheckSignals
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memset

from zarrcy.codecs.codec cimport NO_MEMORY, RAISED, TOO_LARGE, Failure, Outcome, failure_error
from zarrcy.codecs.pipeline cimport SLOT_POINTS, CodecPipeline
from zarrcy.kernels.copy cimport Loop
from zarrcy.kernels.plan cimport Cell, Place, Plan
from zarrcy.kernels.pool cimport Worker, current_worker, resume_worker, suspend_worker, worker_scratch

from zarrcy.errors import MissingChunkError, ZarrcyError
from zarrcy.kernels.posix_errors import store_error

cdef extern from "clock.h" nogil:
    int64_t monotonic_us "zarrcy_monotonic_us"() noexcept

cdef enum:
    SIGNAL_INTERVAL_US = 50000    # how often the calling thread looks for Ctrl-C

cdef extern from *:
    """
    static inline int zarrcy_first(int* flag) {
      int none = 0;
      return __atomic_compare_exchange_n(flag, &none, 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    }
    static inline void zarrcy_set(int* flag) { __atomic_store_n(flag, 1, __ATOMIC_RELAXED); }
    static inline int zarrcy_is_set(const int* flag) { return __atomic_load_n(flag, __ATOMIC_RELAXED); }
    """
    bint is_first "zarrcy_first"(int* flag) noexcept nogil
    void set_flag "zarrcy_set"(int* flag) noexcept nogil
    bint is_set "zarrcy_is_set"(const int* flag) noexcept nogil


cdef int format_key(const Call* call, const int64_t* index, char* key) noexcept nogil:
    cdef char digits[24]
    cdef char* end = key + call.key_prefix_nbytes
    cdef int axis, n
    cdef int64_t number
    memcpy(key, call.key_prefix, call.key_prefix_nbytes)
    for axis in range(call.ndim):
        if axis or call.separator_first:
            end[0] = call.separator
            end += 1
        number = index[axis]
        n = 0
        while True:
            digits[n] = <char>(48 + number % 10)
            n += 1
            number //= 10
            if number == 0:
                break
        while n:
            n -= 1
            end[0] = digits[n]
            end += 1
    end[0] = 0
    return end - key


cdef object key_text(const Call* call, const int64_t* index):
    cdef bytearray key = bytearray(call.key_prefix_nbytes + 21 * call.ndim + 1)
    cdef int n = format_key(call, index, key)
    return key[:n].decode()


cdef int record(Call* call, Status status, const Place* place, Outcome outcome, int error_number,
                Failure* failure) noexcept nogil:
    if is_first(&call.failed):
        call.outcome = outcome
        call.error_number = error_number
        if failure is not NULL:
            call.failure = failure[0]
        if place is not NULL:
            memcpy(call.value, place.value, sizeof(call.value))
        call.status = status
    elif failure is not NULL and failure.error is not NULL:
        with gil:
            Py_DECREF(<object>failure.error)
    return status


cdef void note_absent(Call* call) noexcept nogil:
    set_flag(&call.any_absent)


cdef void note_reshaped(Call* call) noexcept nogil:
    set_flag(&call.reshaped)


cdef bint was_reshaped(const Call* call) noexcept nogil:
    return is_set(&call.reshaped)


cdef bint has_failed(const Call* call) noexcept nogil:
    return is_set(&call.failed)


cdef int go_on(Call* call, Worker* worker) noexcept nogil:
    return STOPPED if has_failed(call) else check_signals(call, worker)


cdef int stops(void* call) noexcept nogil:
    return go_on(<Call*>call, current_worker())


cdef int check_signals(Call* call, Worker* worker) noexcept nogil:
    cdef int64_t now
    if worker is not call.caller:
        return FINE
    now = monotonic_us()
    if now - call.last_signal_check < SIGNAL_INTERVAL_US:
        return FINE
    call.last_signal_check = now
    if not suspend_worker():
        return FINE
    with gil:
        return run_handlers(call)


cdef int run_handlers(Call* call) noexcept:
    try:
        PyErr_CheckSignals()
    except BaseException as error:
        return record_exception(call, error)
    finally:
        resume_worker()
    return FINE


cdef int record_exception(Call* call, object error) noexcept:
    cdef Failure failure
    memset(&failure, 0, sizeof(failure))
    Py_INCREF(error)
    failure.error = <void*>error
    return record(call, PYTHON_RAISED, NULL, RAISED, 0, &failure)


cdef int raise_failure(const Call* call, object url) except -1:
    cdef Failure failure = call.failure
    key = key_text(call, call.value)
    if call.status == STORE_FAILED:
        raise store_error(call.error_number, url, key)
    if call.status == CHUNK_MISSING:
        raise MissingChunkError("expected a stored chunk, found none", store=url, key=key, code="missing_chunk",
                                hint='Open the array without missing="raise" to read the fill value there.')
    if call.status == PYTHON_RAISED:
        raised = <object>failure.error
        Py_DECREF(raised)
        raise raised
    error = failure_error(call.outcome, &failure)
    if isinstance(error, ZarrcyError):
        error.store = url
        error.key = key
    raise error


cdef void drop_failure(Call* call) noexcept:
    if call.failure.error is not NULL:
        Py_DECREF(<object>call.failure.error)
        call.failure.error = NULL


cdef int out_of_memory(Call* call, const Place* place) noexcept nogil:
    return record(call, CODEC_FAILED, place, NO_MEMORY, 0, NULL)


cdef int too_large(Call* call, const Place* place, CodecPipeline pipeline, int64_t nbytes) noexcept nogil:
    """A stored value, or part of one, that is no chunk, and that memory should not be spent on."""
    cdef Failure failure
    memset(&failure, 0, sizeof(failure))
    snprintf(failure.reason, sizeof(failure.reason), "expected at most %lld encoded bytes, got %lld",
             <long long>pipeline.max_encoded_nbytes, <long long>nbytes)
    return record(call, CODEC_FAILED, place, TOO_LARGE, 0, &failure)


cdef int loops_of(Call* call, Plan plan, const Cell* cell, const int64_t* strides, bint to_chunk, Loop* loops,
                  int64_t* chunk_offset, int64_t* buffer_offset, Worker* worker) noexcept nogil:
    """The loops between a cell, laid out by these strides, and the buffer; -1 when memory is short."""
    cdef int64_t* offsets = NULL
    cdef int64_t n_points = plan.n_points(cell)
    if n_points:
        offsets = <int64_t*>worker_scratch(worker, SLOT_POINTS, n_points * sizeof(int64_t))
        if offsets is NULL:
            return -1
    return plan.cell_loops(cell, strides, call.strides, to_chunk, offsets, loops, chunk_offset, buffer_offset)
