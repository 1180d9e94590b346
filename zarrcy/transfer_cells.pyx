"""Between one stored value and the caller's buffer: decoding and filling.

Nothing here knows the store. A stored value is one chunk, or a shard of chunks; the plan says which of them take part
and where their items lie in the buffer.
"""
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy, memset

from zarrcy.codecs.codec cimport DONE, UNREAD, Bytes, Failure, Outcome
from zarrcy.codecs.pipeline cimport ABSENT, SLOT_NEEDED, SLOT_VALUE, STOP_NBYTES, CodecPipeline
from zarrcy.kernels.copy cimport MAX_NDIM, Loop, copy_items, fill_items
from zarrcy.kernels.needed cimport Needed, Runs, end_of_runs, find_runs, mark_runs, n_words
from zarrcy.kernels.plan cimport Cell, Piece, Place, Plan
from zarrcy.kernels.pool cimport Worker, worker_is_stopped, worker_scratch
from zarrcy.kernels.posix cimport read_part, value_nbytes
from zarrcy.transfer_call cimport (
    CHUNK_MISSING, CODEC_FAILED, FINE, STOPPED, STORE_FAILED, Call, loops_of, note_absent, out_of_memory, record,
    too_large)
from zarrcy.transfer_raw cimport is_raw, read_raw

cdef enum:
    # Of a shard's inner chunks: those that are so small, follow each other so closely and are so few bytes together are
    # read by one call. A larger one costs more to decode than a call does.
    NEIGHBOUR_NBYTES = 16 << 10
    GAP_NBYTES = 4 << 10
    WINDOW_NBYTES = 128 << 10


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


cdef bint find_needed(CodecPipeline cells, const Loop* loops, int n, int64_t chunk_offset, Needed* needed,
                      Worker* worker) noexcept nogil:
    """What a copy needs of a chunk; False when that is all of it."""
    cdef Runs runs
    cdef uint64_t* bits = NULL
    cdef size_t nbytes = n_words(cells.nbytes) * sizeof(uint64_t)
    find_runs(&runs, loops, n, chunk_offset, cells.itemsize)
    if runs.n_loops:
        bits = <uint64_t*>worker_scratch(worker, SLOT_NEEDED, nbytes)
        if bits is NULL:
            return False
        memset(bits, 0, nbytes)
        mark_runs(bits, &runs)
    needed[0] = Needed(runs.begin, end_of_runs(&runs), bits, False, NULL, NULL)
    return bits is not NULL or needed.end - needed.begin < <size_t>cells.nbytes


# An encoded chunk in a file, of which as much is read as is asked for.
cdef struct Unread:
    int fd
    int64_t offset
    char* into
    int code         # why it could not be read, or 0


cdef int read_on_demand(void* context, size_t begin, size_t end) noexcept nogil:
    cdef Unread* unread = <Unread*>context
    unread.code = read_part(unread.fd, unread.offset + begin, end - begin, unread.into + begin)
    return unread.code


cdef int decode_cell(Call* call, Plan plan, CodecPipeline cells, const Place* place, const Cell* cell, Bytes value,
                     Unread* unread, Worker* worker) noexcept nogil:
    """One encoded chunk into the buffer. unread: NULL, or where the bytes are to be read that shall be at value."""
    cdef Loop loops[MAX_NDIM + 1]
    cdef int64_t chunk_offset, buffer_offset
    cdef Bytes chunk = Bytes(NULL, 0)
    cdef bint direct = is_direct(call, plan, cells, cell, &buffer_offset)
    cdef bint is_part = False
    cdef Needed needed
    cdef Failure failure
    cdef Outcome outcome
    cdef int n = 0
    memset(&failure, 0, sizeof(failure))
    if direct:
        chunk.data = call.buffer + buffer_offset
    else:
        n = loops_of(call, plan, cell, cells.strides, False, loops, &chunk_offset, &buffer_offset, worker)
        if n < 0:
            return out_of_memory(call, place)
        is_part = cells.decodes_parts and find_needed(cells, loops, n, chunk_offset, &needed, worker)
    if unread is not NULL:
        if is_part:
            needed.fetch = read_on_demand
            needed.fetch_context = unread
        elif read_on_demand(unread, 0, value.nbytes):
            return record(call, STORE_FAILED, place, DONE, -unread.code, NULL)
    outcome = cells.decode_chunk(value, &chunk, &needed if is_part else NULL, worker, &failure)
    if outcome == UNREAD:
        return record(call, STORE_FAILED, place, DONE, -unread.code, NULL)
    if outcome != DONE:
        return record(call, CODEC_FAILED, place, outcome, 0, &failure)
    if direct:
        if chunk.data != call.buffer + buffer_offset:
            memcpy(call.buffer + buffer_offset, chunk.data, chunk.nbytes)
        return FINE
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
    note_absent(call)
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


# Bytes of a shard's file that are in memory, in SLOT_VALUE.
cdef struct Window:
    int64_t begin
    int64_t end
    char* data


cdef bint find_entry(Call* call, Place* place, const Source* source, int64_t number, Cell* cell,
                     Bytes* part, int64_t* offset) noexcept nogil:
    """Where an inner chunk lies in its shard; False when it is absent."""
    cdef int64_t entry
    (<Plan>call.plan).find_cell(place, number, cell)
    entry = entry_of(<CodecPipeline>call.pipeline, place, cell)
    offset[0] = source.index[2 * entry]
    part[0] = Bytes(NULL, source.index[2 * entry + 1])
    return source.index[2 * entry] != <uint64_t>ABSENT


cdef int read_neighbours(Call* call, CodecPipeline cells, Place* place, const Source* source, int64_t number,
                         int64_t stop, int64_t offset, int64_t nbytes, Window* window,
                         Worker* worker) noexcept nogil:
    """An inner chunk and those that follow it closely, of the numbers up to stop, by one read; none if none does."""
    cdef Cell cell
    cdef Bytes part
    cdef int64_t following, begin, end = offset + nbytes
    cdef int code
    window.end = window.begin
    for following in range(number + 1, stop):
        if not find_entry(call, place, source, following, &cell, &part, &begin):
            continue
        if (begin < end or begin > end + GAP_NBYTES or part.nbytes > NEIGHBOUR_NBYTES
                or begin + <int64_t>part.nbytes > offset + WINDOW_NBYTES):
            break
        end = begin + part.nbytes
    if end == offset + nbytes:
        return FINE
    window.data = cells.scratch(worker, SLOT_VALUE, end - offset)
    if window.data is NULL:
        return out_of_memory(call, place)
    code = read_part(source.fd, offset, end - offset, window.data)
    if code:
        return record(call, STORE_FAILED, place, DONE, -code, NULL)
    window.begin, window.end = offset, end
    return FINE


cdef int fetch_part(Call* call, CodecPipeline cells, Place* place, const Source* source, int64_t number, int64_t stop,
                    int64_t offset, Bytes* part, Window* window, Unread* unread, Worker* worker) noexcept nogil:
    """The bytes of an inner chunk, part.nbytes from offset on; of a large one in a file, only the room for them."""
    cdef int64_t i, low = 0, high = source.n_segments
    cdef int status
    unread.into = NULL
    if part.nbytes > <size_t>cells.limit_nbytes:
        return too_large(call, place, cells, part.nbytes)
    if source.fd >= 0:
        if part.nbytes <= NEIGHBOUR_NBYTES:
            if offset < window.begin or offset + <int64_t>part.nbytes > window.end:
                status = read_neighbours(call, cells, place, source, number, stop, offset, part.nbytes, window, worker)
                if status != FINE:
                    return status
            if window.end > window.begin:
                part.data = window.data + (offset - window.begin)
                return FINE
        window.end = window.begin
        part.data = cells.scratch(worker, SLOT_VALUE, part.nbytes)
        if part.data is NULL:
            return out_of_memory(call, place)
        unread[0] = Unread(source.fd, offset, part.data, 0)
        return FINE
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
    cdef Unread unread
    cdef Window window = Window(0, 0, NULL)
    cdef int64_t number, offset
    cdef int64_t at_once = 1 + STOP_NBYTES // (<CodecPipeline>call.cells).nbytes
    cdef int status = FINE
    unread.into = NULL
    for number in range(begin, end):
        if (number - begin) % at_once == at_once - 1 and worker_is_stopped(worker):
            return STOPPED
        if source.index is NULL:
            (<Plan>call.plan).find_cell(place, number, &cell)
            part = Bytes(source.segments[0].data, source.segments[0].end)
        elif not find_entry(call, place, source, number, &cell, &part, &offset):
            status = fill_cell(call, <Plan>call.plan, <CodecPipeline>call.cells, place, &cell, worker)
            if status != FINE:
                return status
            continue
        elif source.fd >= 0 and is_raw(<CodecPipeline>call.cells):
            status = read_raw(call, <Plan>call.plan, <CodecPipeline>call.cells, place, &cell, source.fd, offset,
                              part.nbytes, worker)
            if status != FINE:
                return status
            continue
        else:
            status = fetch_part(call, <CodecPipeline>call.cells, place, source, number, end, offset, &part, &window,
                                &unread, worker)
        if status == FINE:
            status = decode_cell(call, <Plan>call.plan, <CodecPipeline>call.cells, place, &cell, part,
                                 &unread if unread.into is not NULL else NULL, worker)
        if status != FINE:
            return status
    return FINE


cdef bint is_part_of_file(Plan plan, CodecPipeline pipeline, const Place* place) noexcept nogil:
    cdef int64_t nbytes = pipeline.itemsize
    cdef int dim
    cdef Cell cell
    if not pipeline.reads_parts or place.n_pieces > 1:
        return False
    plan.find_cell(place, 0, &cell)
    for dim in range(plan.n_dims):
        if cell.pieces[dim] is not NULL:
            nbytes *= cell.pieces[dim].count
    return nbytes <= pipeline.nbytes // 2


cdef int read_file(Call* call, Plan plan, CodecPipeline pipeline, Place* place, int fd,
                   Worker* worker) noexcept nogil:
    cdef Cell cell
    cdef Bytes value
    cdef Unread unread
    cdef int64_t nbytes
    plan.find_cell(place, 0, &cell)
    nbytes = value_nbytes(fd)
    if nbytes < 0:
        return record(call, STORE_FAILED, place, DONE, -nbytes, NULL)
    if nbytes > pipeline.limit_nbytes:
        return too_large(call, place, pipeline, nbytes)
    value = Bytes(pipeline.scratch(worker, SLOT_VALUE, nbytes), nbytes)
    if value.data is NULL:
        return out_of_memory(call, place)
    unread = Unread(fd, 0, value.data, 0)
    return decode_cell(call, plan, pipeline, place, &cell, value, &unread, worker)


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
    cdef Outcome outcome = pipeline.decode_steps(value, shard, NULL, worker, failure)
    return pipeline.shard_index(shard[0], index, worker, failure) if outcome == DONE else outcome
