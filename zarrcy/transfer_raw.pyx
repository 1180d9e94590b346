"""Chunks that are stored as they lie in memory: from a file into the buffer.

What a selection takes of such a chunk is runs of bytes that are contiguous in the file and in the buffer. There are two
ways to read them, and the cheaper is taken: a call for each run, straight to its place; or all that lies between the
first and the last byte into scratch, a cache-full at a time, and from there by `copy_items`. Files are never mapped
(docs/decisions/0005).
"""
from libc.errno cimport ENODATA, EOVERFLOW
from libc.stdint cimport int64_t, uintptr_t
from libc.stdio cimport snprintf
from libc.stdlib cimport llabs
from libc.string cimport memcpy, memset

from zarrcy.codecs.codec cimport CORRUPT, DONE, NO_MEMORY, Failure
from zarrcy.codecs.pipeline cimport SLOT_CHUNK, CodecPipeline
from zarrcy.kernels.copy cimport MAX_NDIM, Loop, copy_items
from zarrcy.kernels.plan cimport Cell, Place, Plan
from zarrcy.kernels.pool cimport Worker
from zarrcy.kernels.posix cimport SMALL_NBYTES, go_on_after, read_exactly, read_part, value_nbytes
from zarrcy.transfer_call cimport CODEC_FAILED, FINE, STORE_FAILED, Call, loops_of, record

cdef enum:
    # Rough costs in nanoseconds, measured on a file in the page cache.
    CALL_NS = 400
    RUN_COPY_NS = 5           # of one more run in copy_items
    NBYTES_PER_NS = 8         # read by the kernel
    SCRATCH_PER_NS = 16       # copied from scratch
    UNALIGNED_PER_NS = 2      # read by the kernel to where it copies slowly
    ALIGNMENT = 32
    STOP_RUNS = 64            # calls after which the worker is asked whether to go on
    BLOCK_NBYTES = 128 << 10  # read into scratch at once: it stays in the cache of the core

# The runs of a selection in a chunk: what is left of its loops, the one with the largest steps in the file first.
cdef struct Runs:
    Loop loops[MAX_NDIM + 1]
    int n_loops
    int64_t nbytes      # of one run
    int64_t count
    int64_t low         # of their bytes in the chunk: the first,
    int64_t high        # and the one behind the last
    int64_t first       # where the first run begins in the chunk, tables left out,
    char* dst           # and in the buffer


cdef inline int64_t offset_of(int64_t i, int64_t stride, const int64_t* positions) noexcept nogil:
    return (i if positions is NULL else positions[i]) * stride


cdef void set_runs(Runs* runs, const Loop* loops, int n_loops, int64_t itemsize, bint swaps) noexcept nogil:
    """Sort the loops by their steps in the file, and take as much as is contiguous on both sides into the run."""
    cdef int i, j, n = 0
    cdef Loop loop
    cdef Loop* last
    for i in range(n_loops):
        loop = loops[i]
        if loop.count == 1:
            runs.first += offset_of(0, loop.src_stride, loop.src_positions)
            runs.dst += offset_of(0, loop.dst_stride, loop.dst_positions)
            continue
        j = n
        while j > 0 and llabs(runs.loops[j - 1].src_stride) < llabs(loop.src_stride):
            runs.loops[j] = runs.loops[j - 1]
            j -= 1
        runs.loops[j] = loop
        n += 1
    runs.nbytes = itemsize
    while n and not swaps:
        last = &runs.loops[n - 1]
        if (last.src_positions is not NULL or last.dst_positions is not NULL or last.src_stride != runs.nbytes
                or last.dst_stride != runs.nbytes):
            break
        runs.nbytes *= last.count
        n -= 1
    runs.n_loops = n
    survey(runs)


cdef void survey(Runs* runs) noexcept nogil:
    """Count the runs, and find out where they lie in the file."""
    cdef int i
    cdef int64_t k, offset, low, high
    cdef Loop* loop
    runs.count = 1
    runs.low = runs.first
    runs.high = runs.first + runs.nbytes
    for i in range(runs.n_loops - 1, -1, -1):
        loop = &runs.loops[i]
        low = high = offset_of(0, loop.src_stride, loop.src_positions)
        k = 1 if loop.src_positions is not NULL else loop.count - 1
        while k < loop.count:
            offset = offset_of(k, loop.src_stride, loop.src_positions)
            low = min(low, offset)
            high = max(high, offset)
            k += 1
        runs.low += low
        runs.high += high
        runs.count *= loop.count


cdef bint is_aligned(const Runs* runs) noexcept nogil:
    """Whether the kernel copies at full speed to where the runs lie in the buffer."""
    cdef int i
    cdef uintptr_t bits = <uintptr_t>runs.dst
    for i in range(runs.n_loops):
        bits |= <uintptr_t>runs.loops[i].dst_stride
    return bits % ALIGNMENT == 0


cdef bint calls_pay(const Runs* runs) noexcept nogil:
    """Whether a call for each run costs less than the way over scratch."""
    cdef int64_t wanted = runs.count * runs.nbytes
    cdef int64_t span = runs.high - runs.low
    cdef int64_t calls_ns = runs.count * CALL_NS + wanted // (NBYTES_PER_NS if is_aligned(runs) else UNALIGNED_PER_NS)
    return calls_ns < CALL_NS + span // NBYTES_PER_NS + wanted // SCRATCH_PER_NS + runs.count * RUN_COPY_NS


# ---- the two ways

cdef struct Turn:
    int64_t i[MAX_NDIM + 1]
    int64_t src     # of the present run in the chunk
    char* dst       # and in the buffer


cdef void first_run(const Runs* runs, Turn* turn) noexcept nogil:
    cdef int k
    turn.src, turn.dst = runs.first, runs.dst
    for k in range(runs.n_loops):
        turn.i[k] = 0
        turn.src += offset_of(0, runs.loops[k].src_stride, runs.loops[k].src_positions)
        turn.dst += offset_of(0, runs.loops[k].dst_stride, runs.loops[k].dst_positions)


cdef bint next_run(const Runs* runs, Turn* turn) noexcept nogil:
    cdef int k
    cdef int64_t i
    cdef const Loop* loop
    for k in range(runs.n_loops - 1, -1, -1):
        loop = &runs.loops[k]
        i = turn.i[k]
        turn.src -= offset_of(i, loop.src_stride, loop.src_positions)
        turn.dst -= offset_of(i, loop.dst_stride, loop.dst_positions)
        i = i + 1 if i + 1 < loop.count else 0
        turn.src += offset_of(i, loop.src_stride, loop.src_positions)
        turn.dst += offset_of(i, loop.dst_stride, loop.dst_positions)
        turn.i[k] = i
        if i:
            return True
    return False


cdef int read_by_calls(const Runs* runs, int fd, int64_t offset) noexcept nogil:
    cdef Turn turn
    cdef int64_t n_done = 0
    cdef int code
    first_run(runs, &turn)
    while True:
        code = read_part(fd, offset + turn.src, runs.nbytes, turn.dst)
        n_done += 1
        if code == 0 and n_done % STOP_RUNS == 0:
            code = go_on_after(n_done)
        if code or not next_run(runs, &turn):
            return code


cdef int64_t turns_at_once(const Runs* runs) noexcept nogil:
    """How many turns of the outermost loop are read into scratch at once; 0 for all that there is."""
    if runs.n_loops == 0 or runs.loops[0].src_positions is not NULL:
        return 0
    return max(1, min(runs.loops[0].count, BLOCK_NBYTES // llabs(runs.loops[0].src_stride)))


cdef int64_t scratch_nbytes(const Runs* runs) noexcept nogil:
    cdef int64_t n = turns_at_once(runs)
    return runs.high - runs.low - ((runs.loops[0].count - n) * llabs(runs.loops[0].src_stride) if n else 0)


cdef int read_by_scratch(const Runs* runs, int fd, int64_t offset, char* scratch, int word) noexcept nogil:
    cdef Loop loops[MAX_NDIM + 1]
    cdef const Loop* outer = runs.loops
    cdef int64_t n = turns_at_once(runs)
    cdef int64_t low, begin = 0, nbytes = scratch_nbytes(runs)
    cdef char* dst
    cdef int code
    if n == 0:
        code = read_part(fd, offset + runs.low, nbytes, scratch)
        if code == 0:
            memcpy(loops, runs.loops, runs.n_loops * sizeof(Loop))
            copy_items(runs.dst, scratch + (runs.first - runs.low), loops, runs.n_loops, runs.nbytes, word)
        return code
    while begin < outer.count:
        if begin + n > outer.count:
            nbytes -= (begin + n - outer.count) * llabs(outer.src_stride)
            n = outer.count - begin
        low = runs.low + (begin if outer.src_stride > 0 else outer.count - begin - n) * llabs(outer.src_stride)
        code = go_on_after(begin)
        if code == 0:
            code = read_part(fd, offset + low, nbytes, scratch)
        if code:
            return code
        memcpy(loops, runs.loops, runs.n_loops * sizeof(Loop))
        loops[0].count = n
        dst = runs.dst
        if outer.dst_positions is NULL:
            dst += begin * outer.dst_stride
        else:
            loops[0].dst_positions += begin
        copy_items(dst, scratch + (runs.first + begin * outer.src_stride - low), loops, runs.n_loops, runs.nbytes, word)
        begin += n
    return 0


# ---- one chunk

cdef int wrong_length(Call* call, CodecPipeline cells, const Place* place, int64_t nbytes) noexcept nogil:
    cdef Failure failure
    memset(&failure, 0, sizeof(failure))
    if nbytes < 0:
        return record(call, STORE_FAILED, place, DONE, -nbytes, NULL)
    snprintf(failure.reason, sizeof(failure.reason), "expected a chunk of %lld bytes, got %lld",
             <long long>cells.nbytes, <long long>nbytes)
    return record(call, CODEC_FAILED, place, CORRUPT, 0, &failure)


cdef int read_raw(Call* call, Plan plan, CodecPipeline cells, const Place* place, const Cell* cell, int fd,
                  int64_t offset, int64_t nbytes, Worker* worker) noexcept nogil:
    cdef Loop loops[MAX_NDIM + 1]
    cdef Runs runs
    cdef int64_t buffer_offset
    cdef char* scratch
    cdef int code
    cdef int n = loops_of(call, plan, cell, cells.strides, False, loops, &runs.first, &buffer_offset, worker)
    cdef bint by_calls
    if n < 0:
        return record(call, CODEC_FAILED, place, NO_MEMORY, 0, NULL)
    runs.dst = call.buffer + buffer_offset
    set_runs(&runs, loops, n, cells.itemsize, cells.word != 0)
    by_calls = cells.word == 0 and (runs.nbytes <= SMALL_NBYTES and runs.count == 1 or calls_pay(&runs))
    if by_calls and nbytes < 0 and runs.nbytes == cells.nbytes:
        code = read_exactly(fd, runs.dst, cells.nbytes)
    else:
        if nbytes < 0:
            nbytes = value_nbytes(fd)
        if nbytes != cells.nbytes:
            return wrong_length(call, cells, place, nbytes)
        if by_calls:
            code = read_by_calls(&runs, fd, offset)
        else:
            scratch = cells.scratch(worker, SLOT_CHUNK, scratch_nbytes(&runs))
            if scratch is NULL:
                return record(call, CODEC_FAILED, place, NO_MEMORY, 0, NULL)
            code = read_by_scratch(&runs, fd, offset, scratch, cells.word)
    if code in (-ENODATA, -EOVERFLOW):
        return wrong_length(call, cells, place, value_nbytes(fd))
    return record(call, STORE_FAILED, place, DONE, -code, NULL) if code else FINE
