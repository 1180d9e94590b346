"""Which bytes of a decoded value somebody needs.

A read of a plane or a column touches many places of a chunk. A bit for each GRAIN bytes says which: it takes points in
any order, costs less than the copy of the items, and answers a codec's question, whether a block is needed, at once.
"""
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport llabs

cdef uint64_t ALL_BITS = 0xFFFFFFFFFFFFFFFF


cdef inline bint comes_before(const Loop* a, const Loop* b) noexcept nogil:
    """Tables outermost, then the largest steps: what is left at the end may be one run."""
    if a.src_positions is not NULL or b.src_positions is not NULL:
        return a.src_positions is not NULL
    return llabs(a.src_stride) >= llabs(b.src_stride)


cdef void find_runs(Runs* runs, const Loop* loops, int n_loops, int64_t src_offset, int64_t itemsize) noexcept nogil:
    cdef int i, j
    cdef Loop loop
    runs.begin = src_offset
    runs.length = itemsize
    runs.n_loops = 0
    for i in range(n_loops):
        loop = loops[i]
        if loop.src_positions is NULL:
            if loop.count == 1:
                continue
            if loop.src_stride < 0:
                runs.begin += (loop.count - 1) * loop.src_stride
                loop.src_stride = -loop.src_stride
        j = runs.n_loops
        while j > 0 and not comes_before(&runs.loops[j - 1], &loop):
            runs.loops[j] = runs.loops[j - 1]
            j -= 1
        runs.loops[j] = loop
        runs.n_loops += 1
    while runs.n_loops:
        loop = runs.loops[runs.n_loops - 1]
        if loop.src_positions is not NULL or loop.src_stride > runs.length + GRAIN:
            return
        runs.length += (loop.count - 1) * loop.src_stride
        runs.n_loops -= 1


cdef int64_t end_of_runs(const Runs* runs) noexcept nogil:
    cdef int64_t end = runs.begin + runs.length
    cdef int64_t k, last
    cdef int i
    for i in range(runs.n_loops):
        last = runs.loops[i].count - 1
        if runs.loops[i].src_positions is not NULL:
            last = 0
            for k in range(runs.loops[i].count):
                last = max(last, runs.loops[i].src_positions[k])
        end += last * runs.loops[i].src_stride
    return end


cdef size_t n_words(size_t nbytes) noexcept nogil:
    return nbytes // (64 * GRAIN) + 1


cdef void mark_bytes(uint64_t* bits, size_t begin, size_t end) noexcept nogil:
    cdef size_t first = begin // GRAIN
    cdef size_t last = (end - 1) // GRAIN
    cdef size_t word = first // 64
    cdef uint64_t mask = ALL_BITS << (first % 64)
    if end <= begin:
        return
    while word < last // 64:
        bits[word] |= mask
        mask = ALL_BITS
        word += 1
    bits[word] |= mask & (ALL_BITS >> (63 - last % 64))


cdef void mark_nest(uint64_t* bits, const Runs* runs, int depth, int64_t begin) noexcept nogil:
    cdef const Loop* loop = &runs.loops[depth]
    cdef int64_t i
    if depth == runs.n_loops:
        mark_bytes(bits, begin, begin + runs.length)
        return
    for i in range(loop.count):
        mark_nest(bits, runs, depth + 1,
                  begin + (i if loop.src_positions is NULL else loop.src_positions[i]) * loop.src_stride)


cdef void mark_runs(uint64_t* bits, const Runs* runs) noexcept nogil:
    mark_nest(bits, runs, 0, runs.begin)


cdef bint needs_any(const Needed* needed, size_t begin, size_t end) noexcept nogil:
    cdef size_t first, last, word
    cdef uint64_t mask
    begin = max(begin, needed.begin)
    end = min(end, needed.end)
    if end <= begin or needed.bits is NULL:
        return begin < end
    first = begin // GRAIN
    last = (end - 1) // GRAIN
    word = first // 64
    mask = ALL_BITS << (first % 64)
    while word < last // 64:
        if needed.bits[word] & mask:
            return True
        mask = ALL_BITS
        word += 1
    return needed.bits[word] & mask & (ALL_BITS >> (63 - last % 64)) != 0


cdef bint fetch(const Needed* needed, size_t begin, size_t end) noexcept nogil:
    return needed.fetch is NULL or needed.fetch(needed.fetch_context, begin, end) == 0
