"""Between one stored value and the caller's buffer: keys, failures, decoding, filling.

Nothing here knows the store. A stored value is one chunk, or a shard of chunks; the plan says which of them take part
and where their items lie in the buffer. The objects of a call are passed as arguments: a typed argument is borrowed, so
that no reference is counted without the GIL.
"""
from cpython.exc cimport PyErr_CheckSignals
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memset

from zarrcy.codecs.codec cimport DONE, NO_MEMORY, RAISED, TOO_LARGE, Bytes, Failure, Outcome, failure_error
from zarrcy.codecs.pipeline cimport ABSENT, SLOT_POINTS, SLOT_VALUE, CodecPipeline
from zarrcy.kernels.copy cimport MAX_NDIM, Loop, copy_items, fill_items
from zarrcy.kernels.plan cimport Cell, Piece, Place, Plan
from zarrcy.kernels.pool cimport Worker, resume_worker, suspend_worker, worker_scratch
from zarrcy.kernels.posix cimport read_part

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


cdef bint has_failed(const Call* call) noexcept nogil:
    return is_set(&call.failed)


cdef int go_on(Call* call, Worker* worker) noexcept nogil:
    return STOPPED if has_failed(call) else check_signals(call, worker)


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
        return record_interrupt(call, error)
    finally:
        resume_worker()
    return FINE


cdef int record_interrupt(Call* call, object error) noexcept:
    cdef Failure failure
    memset(&failure, 0, sizeof(failure))
    Py_INCREF(error)
    failure.error = <void*>error
    return record(call, INTERRUPTED, NULL, RAISED, 0, &failure)


cdef int raise_failure(const Call* call, object url) except -1:
    cdef Failure failure = call.failure
    key = key_text(call, call.value)
    if call.status == STORE_FAILED:
        raise store_error(call.error_number, url, key)
    if call.status == CHUNK_MISSING:
        raise MissingChunkError("expected a stored chunk, found none", store=url, key=key, code="missing_chunk",
                                hint='Open the array without missing="raise" to read the fill value there.')
    if call.status == INTERRUPTED:
        interrupt = <object>failure.error
        Py_DECREF(interrupt)
        raise interrupt   # whatever a signal handler raised, as it is
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


cdef bint is_direct(Call* call, Plan plan, CodecPipeline cells, const Cell* cell,
                    int64_t* buffer_offset) noexcept nogil:
    """Whether a whole chunk lies in the buffer as it lies decoded: it can be decoded there."""
    cdef int axis
    cdef const Piece* piece
    if cells.word != 0 or plan.n_dims > plan.ndim:
        return False
    buffer_offset[0] = 0
    for axis in range(cells.ndim):
        piece = cell.pieces[axis]
        if piece.count != cells.shape[axis] or piece.items is not NULL or (piece.step != 1 and piece.count != 1):
            return False
        if piece.count != 1 and call.strides[axis] != cells.strides[axis]:
            return False
        buffer_offset[0] += piece.out * call.strides[axis]
    return True


cdef int decode_cell(Call* call, Plan plan, CodecPipeline cells, const Place* place, const Cell* cell, Bytes value,
                     Worker* worker) noexcept nogil:
    """One encoded chunk into the buffer."""
    cdef Loop loops[MAX_NDIM + 1]
    cdef int64_t chunk_offset, buffer_offset
    cdef Bytes chunk = Bytes(NULL, 0)
    cdef bint direct = is_direct(call, plan, cells, cell, &buffer_offset)
    cdef Failure failure
    cdef Outcome outcome
    cdef int n
    memset(&failure, 0, sizeof(failure))
    if direct:
        chunk.data = call.buffer + buffer_offset
    outcome = cells.decode_chunk(value, &chunk, worker, &failure)
    if outcome != DONE:
        return record(call, CODEC_FAILED, place, outcome, 0, &failure)
    if direct:
        if chunk.data != call.buffer + buffer_offset:
            memcpy(call.buffer + buffer_offset, chunk.data, chunk.nbytes)
        return FINE
    n = loops_of(call, plan, cell, cells.strides, False, loops, &chunk_offset, &buffer_offset, worker)
    if n < 0:
        return out_of_memory(call, place)
    copy_items(call.buffer + buffer_offset, chunk.data + chunk_offset, loops, n, cells.itemsize, cells.word)
    return FINE


cdef int fill_cell(Call* call, Plan plan, CodecPipeline cells, const Place* place, const Cell* cell,
                   Worker* worker) noexcept nogil:
    """The fill value into the buffer, for a chunk that is absent."""
    cdef Loop loops[MAX_NDIM + 1]
    cdef int64_t chunk_offset, buffer_offset
    cdef int n
    if call.raises_missing:
        return record(call, CHUNK_MISSING, place, DONE, 0, NULL)
    n = loops_of(call, plan, cell, cells.strides, False, loops, &chunk_offset, &buffer_offset, worker)
    if n < 0:
        return out_of_memory(call, place)
    fill_items(call.buffer + buffer_offset, cells.fill_item, loops, n, cells.itemsize)
    return FINE


cdef int fill_cells(Call* call, Place* place, Worker* worker) noexcept nogil:
    cdef Cell cell
    cdef int64_t number
    cdef int status = FINE
    set_flag(&call.any_absent)
    for number in range(place.n_pieces):
        (<Plan>call.plan).find_cell(place, number, &cell)
        status = fill_cell(call, <Plan>call.plan, <CodecPipeline>call.cells, place, &cell, worker)
        if status != FINE:
            break
    return status


cdef int64_t entry_of(CodecPipeline pipeline, const Place* place, const Cell* cell) noexcept nogil:
    """The entry of an inner chunk in the index of its shard."""
    cdef int axis
    cdef int64_t entry = 0
    for axis in range(pipeline.ndim):
        entry += (cell.chunk[axis] - place.value[axis] * pipeline.counts[axis]) * pipeline.index_strides[axis]
    return entry


cdef int64_t entry_number(Call* call, Place* place, int64_t number) noexcept nogil:
    cdef Cell cell
    (<Plan>call.plan).find_cell(place, number, &cell)
    return entry_of(<CodecPipeline>call.pipeline, place, &cell)


cdef int fetch_part(Call* call, CodecPipeline cells, const Place* place, const Source* source, int64_t offset,
                    Bytes* part, Worker* worker) noexcept nogil:
    """The bytes of an inner chunk, part.nbytes from offset on."""
    cdef int64_t i, low = 0, high = source.n_segments
    cdef int code
    if part.nbytes > <size_t>cells.limit_nbytes:
        return too_large(call, place, cells, part.nbytes)
    if source.fd >= 0:
        part.data = cells.scratch(worker, SLOT_VALUE, part.nbytes)
        if part.data is NULL:
            return out_of_memory(call, place)
        code = read_part(source.fd, offset, part.nbytes, part.data)
        return record(call, STORE_FAILED, place, DONE, -code, NULL) if code else FINE
    while high - low > 1:
        i = (low + high) // 2
        if source.segments[i].begin <= offset:
            low = i
        else:
            high = i
    part.data = source.segments[low].data + (offset - source.segments[low].begin)
    return FINE


cdef int read_cells(Call* call, Place* place, const Source* source, int64_t begin, int64_t end,
                    Worker* worker) noexcept nogil:
    cdef Cell cell
    cdef Bytes part
    cdef int64_t number, entry
    cdef int status = FINE
    for number in range(begin, end):
        (<Plan>call.plan).find_cell(place, number, &cell)
        if source.index is NULL:
            part = Bytes(source.segments[0].data, source.segments[0].end)
        else:
            entry = entry_of(<CodecPipeline>call.pipeline, place, &cell)
            if source.index[2 * entry] == <uint64_t>ABSENT:
                status = fill_cell(call, <Plan>call.plan, <CodecPipeline>call.cells, place, &cell, worker)
                if status != FINE:
                    return status
                continue
            part = Bytes(NULL, source.index[2 * entry + 1])
            status = fetch_part(call, <CodecPipeline>call.cells, place, source, source.index[2 * entry], &part, worker)
        if status == FINE:
            status = decode_cell(call, <Plan>call.plan, <CodecPipeline>call.cells, place, &cell, part, worker)
        if status != FINE:
            return status
    return FINE


cdef int read_memory(Call* call, Place* place, Bytes value, Worker* worker) noexcept nogil:
    cdef Source source = Source(-1, NULL, 1, NULL)
    cdef Segment segment
    cdef Bytes shard = Bytes(NULL, 0)
    cdef Failure failure
    cdef Outcome outcome
    if (<CodecPipeline>call.pipeline).inner is None:
        shard = value
    else:
        memset(&failure, 0, sizeof(failure))
        outcome = open_shard(<CodecPipeline>call.pipeline, value, &shard, &source.index, worker, &failure)
        if outcome != DONE:
            return record(call, CODEC_FAILED, place, outcome, 0, &failure)
    segment = Segment(0, shard.nbytes, shard.data)
    source.segments = &segment
    return read_cells(call, place, &source, 0, place.n_pieces, worker)


cdef Outcome open_shard(CodecPipeline pipeline, Bytes value, Bytes* shard, const uint64_t** index, Worker* worker,
                        Failure* failure) noexcept nogil:
    """Take the codecs off that are around a shard, and decode its index."""
    cdef Outcome outcome = pipeline.decode_steps(value, shard, worker, failure)
    return pipeline.shard_index(shard[0], index, worker, failure) if outcome == DONE else outcome
