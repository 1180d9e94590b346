"""Between one stored value and the caller's buffer: decoding and filling.

Nothing here knows the store. A stored value is one chunk, or a shard of chunks; the plan says which of them take part
and where their items lie in the buffer.
"""
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy, memset

from zarrcy.codecs.codec cimport DONE, Bytes, Failure, Outcome
from zarrcy.codecs.pipeline cimport ABSENT, SLOT_VALUE, CodecPipeline
from zarrcy.kernels.copy cimport MAX_NDIM, Loop, copy_items, fill_items
from zarrcy.kernels.plan cimport Cell, Piece, Place, Plan
from zarrcy.kernels.pool cimport Worker
from zarrcy.kernels.posix cimport read_part
from zarrcy.transfer_call cimport (
    CHUNK_MISSING, CODEC_FAILED, FINE, STORE_FAILED, Call, loops_of, note_absent, out_of_memory, record, too_large)
from zarrcy.transfer_raw cimport is_raw, read_raw


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
            if source.fd >= 0 and is_raw(<CodecPipeline>call.cells):
                status = read_raw(call, <Plan>call.plan, <CodecPipeline>call.cells, place, &cell, source.fd,
                                  source.index[2 * entry], part.nbytes, worker)
                if status != FINE:
                    return status
                continue
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
