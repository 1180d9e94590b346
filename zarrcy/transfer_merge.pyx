"""Between the caller's buffer and one stored value: encode, merge.

Nothing here knows the store. The objects of a call are passed as arguments, as in `zarrcy.transfer_cells`.
"""
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

from zarrcy.codecs.codec cimport DONE, NO_MEMORY, Bytes, Failure, Outcome, fail
from zarrcy.codecs.pipeline cimport (
    ABSENT, PARTLY, SLOT_DENSE, SLOT_PIECES, SLOT_TOUCHED, TO_EDGE, UNTOUCHED, WHOLLY, CodecPipeline, Touch, Update)
from zarrcy.kernels.copy cimport MAX_NDIM, Loop, all_items_are, copy_items
from zarrcy.kernels.plan cimport Cell, Piece, Place, Plan
from zarrcy.kernels.pool cimport Worker, worker_scratch
from zarrcy.kernels.posix_compat cimport FilePiece
from zarrcy.transfer_call cimport CODEC_FAILED, FINE, Call, loops_of, record
from zarrcy.transfer_cells cimport entry_of, open_shard

cdef enum:
    PIECE_NBYTES = 2048   # of a row that costs less as a piece of its own than gathered into a buffer first


cdef int64_t valid_extent(Call* call, CodecPipeline pipeline, int axis, int64_t index) noexcept nogil:
    """How many items of a chunk lie within the array."""
    return min(pipeline.shape[axis], call.extents[axis] - index * pipeline.shape[axis])


cdef bint is_even(const Piece* pieces, int64_t n) noexcept nogil:
    """Whether the items of all these pieces are evenly spaced. Positions may be so in one chunk and not in the next."""
    cdef int64_t i
    for i in range(n):
        if pieces[i].items is not NULL or pieces[i].step != pieces[0].step:
            return False
    return True


cdef Touch covers(Call* call, Plan plan, CodecPipeline pipeline, const Place* place, char** origin, int64_t* strides,
                  int64_t* extents) noexcept nogil:
    """How much of a stored chunk the buffer holds; unless that is PARTLY, where its first item is, and how it lies."""
    cdef const Piece* first
    cdef const Piece* last
    cdef Touch touch = WHOLLY
    cdef int axis
    cdef int64_t covered
    if plan.n_dims > plan.ndim:
        return PARTLY
    origin[0] = call.buffer
    for axis in range(plan.ndim):
        first = &plan.pieces[axis][place.begin[axis]]
        last = first + place.count[axis] - 1
        extents[axis] = valid_extent(call, pipeline, axis, place.value[axis])
        covered = last.out + last.count - first.out
        if covered != extents[axis] or not is_even(first, place.count[axis]):
            return PARTLY
        if covered != 1 and first.step != 1 and first.step != -1:
            return PARTLY
        if covered != pipeline.shape[axis]:
            touch = TO_EDGE
        strides[axis] = call.strides[axis]
        origin[0] += first.out * call.strides[axis]
        if covered != 1 and first.step == -1:
            origin[0] += (covered - 1) * call.strides[axis]
            strides[axis] = -strides[axis]
    return touch


cdef int64_t row_nbytes(CodecPipeline pipeline, const int64_t* strides) noexcept nogil:
    """How many bytes of a raw chunk lie together in the buffer as well, which has these strides."""
    cdef int64_t nbytes = pipeline.itemsize
    cdef int axis = 0
    while axis < pipeline.ndim:
        # An axis of the chunk that goes on where the row ends, in both.
        if pipeline.strides[axis] == nbytes and strides[axis] == nbytes and pipeline.shape[axis] > 1:
            nbytes *= pipeline.shape[axis]
            axis = 0
        else:
            axis += 1
    return nbytes


cdef int find_rows(Call* call, CodecPipeline pipeline, const Place* place, FilePiece** pieces, int64_t* n_pieces,
                   bint* is_empty, Worker* worker) noexcept nogil:
    cdef char* origin
    cdef int64_t strides[MAX_NDIM]
    cdef int64_t extents[MAX_NDIM]
    cdef int64_t i, offset, rest, nbytes
    cdef int axis
    n_pieces[0] = 0
    is_empty[0] = False
    if pipeline.inner is not None or pipeline.n_steps or pipeline.word:
        return FINE
    if covers(call, <Plan>call.plan, pipeline, place, &origin, strides, extents) != WHOLLY:
        return FINE
    nbytes = row_nbytes(pipeline, strides)
    if nbytes < PIECE_NBYTES or nbytes == pipeline.nbytes:
        return FINE
    pieces[0] = <FilePiece*>worker_scratch(worker, SLOT_PIECES, pipeline.nbytes // nbytes * sizeof(FilePiece))
    if pieces[0] is NULL:
        return record(call, CODEC_FAILED, place, NO_MEMORY, 0, NULL)
    n_pieces[0] = pipeline.nbytes // nbytes
    is_empty[0] = not pipeline.keeps_empty
    for i in range(n_pieces[0]):
        # From the place of the row in the chunk to its place in the buffer.
        offset = 0
        rest = i * nbytes
        for axis in range(pipeline.ndim):
            if pipeline.strides[axis] >= nbytes:
                offset += rest // pipeline.strides[axis] % pipeline.shape[axis] * strides[axis]
        pieces[0][i].data = origin + offset
        pieces[0][i].nbytes = nbytes
        is_empty[0] = is_empty[0] and all_items_are(origin + offset, pipeline.stored_fill_item,
                                                    nbytes // pipeline.itemsize, pipeline.itemsize)
    return FINE


cdef int encode_whole(Call* call, Place* place, Bytes* value, Touch* touch, bint* is_empty,
                      Worker* worker) noexcept nogil:
    cdef char* origin
    cdef int64_t strides[MAX_NDIM]
    cdef int64_t extents[MAX_NDIM]
    cdef Failure failure
    cdef Outcome outcome
    touch[0] = covers(call, <Plan>call.plan, <CodecPipeline>call.pipeline, place, &origin, strides, extents)
    if touch[0] != WHOLLY:
        return FINE
    memset(&failure, 0, sizeof(failure))
    outcome = (<CodecPipeline>call.pipeline).encode_region(origin, strides, extents, NULL, False, value, is_empty,
                                                           worker,
                                                           &failure)
    return FINE if outcome == DONE else record(call, CODEC_FAILED, place, outcome, 0, &failure)


cdef int encode_merged(Call* call, Place* place, Bytes old, bint keep, Bytes* value, bint* is_empty,
                       Worker* worker) noexcept nogil:
    cdef Failure failure
    cdef Outcome outcome
    memset(&failure, 0, sizeof(failure))
    outcome = merge(call, <Plan>call.plan, <CodecPipeline>call.pipeline, <CodecPipeline>call.cells, place, old, keep,
                    value, is_empty, worker, &failure)
    return FINE if outcome == DONE else record(call, CODEC_FAILED, place, outcome, 0, &failure)


cdef Outcome merge(Call* call, Plan plan, CodecPipeline pipeline, CodecPipeline cells, Place* place, Bytes old,
                   bint keep, Bytes* value, bint* is_empty, Worker* worker, Failure* failure) noexcept nogil:
    """Old items into the dense form of the stored chunk as far as they are needed, new items over them, and encode.

    What lies beyond the edge of the array is kept: another process may have made the array longer since this one
    looked.
    """
    cdef char* origin
    cdef int64_t strides[MAX_NDIM]
    cdef int64_t extents[MAX_NDIM]
    cdef Update update = Update(Bytes(NULL, 0), NULL, NULL)
    cdef char* touched = NULL
    cdef char* dense
    cdef int64_t number
    cdef Outcome outcome = DONE
    cdef Cell cell
    cdef Touch touch = covers(call, plan, pipeline, place, &origin, strides, extents)
    if old.data is NULL and touch != PARTLY:
        return pipeline.encode_region(origin, strides, extents, NULL, keep, value, is_empty, worker, failure)
    dense = pipeline.scratch(worker, SLOT_DENSE, pipeline.nbytes)
    if dense is NULL:
        return fail(failure, NO_MEMORY, NULL)
    if pipeline.inner is not None:
        touched = worker_scratch(worker, SLOT_TOUCHED, pipeline.n_inner)
        if touched is NULL:
            return fail(failure, NO_MEMORY, NULL)
        memset(touched, UNTOUCHED, pipeline.n_inner)
        update.touched = touched
        if old.data is not NULL:
            outcome = open_shard(pipeline, old, &update.shard, &update.index, worker, failure)
    elif old.data is NULL:
        pipeline.fill_chunk(dense, pipeline.strides, pipeline.shape)
    else:
        outcome = pipeline.decode_region(old, dense, pipeline.strides, pipeline.shape, worker, failure)
    for number in range(place.n_pieces):
        if outcome != DONE:
            return outcome
        plan.find_cell(place, number, &cell)
        outcome = merge_cell(call, plan, pipeline, cells, place, &cell, &update, touched, dense, worker, failure)
    if outcome != DONE:
        return outcome
    return pipeline.encode_region(dense, pipeline.strides, pipeline.shape, &update, keep or touch == PARTLY, value,
                                  is_empty,
                                  worker, failure)


cdef Outcome merge_cell(Call* call, Plan plan, CodecPipeline pipeline, CodecPipeline cells, const Place* place,
                        const Cell* cell, Update* update, char* touched, char* dense, Worker* worker,
                        Failure* failure) noexcept nogil:
    """The items of one cell into the dense form of its stored chunk."""
    cdef Loop loops[MAX_NDIM + 1]
    cdef int64_t chunk_offset, buffer_offset, entry
    cdef Outcome outcome = DONE
    cdef int axis, n
    if pipeline.inner is not None:
        for axis in range(pipeline.ndim):
            dense += ((cell.chunk[axis] - place.value[axis] * pipeline.counts[axis]) * cells.shape[axis]
                      * pipeline.strides[axis])
        entry = entry_of(pipeline, place, cell)
        touched[entry] = <char>covers_cell(call, plan, cells, cell)
        if touched[entry] != <char>WHOLLY:
            outcome = place_old(pipeline, cells, entry, update, dense, worker, failure)
            if outcome != DONE:
                return outcome
    n = loops_of(call, plan, cell, pipeline.strides, True, loops, &chunk_offset, &buffer_offset, worker)
    if n < 0:
        return fail(failure, NO_MEMORY, NULL)
    copy_items(dense + chunk_offset, call.buffer + buffer_offset, loops, n, pipeline.itemsize, 0)
    return DONE


cdef Touch covers_cell(Call* call, Plan plan, CodecPipeline cells, const Cell* cell) noexcept nogil:
    """How much of an inner chunk a write covers."""
    cdef Touch touch = WHOLLY
    cdef int axis
    if plan.n_dims > plan.ndim:
        return PARTLY
    for axis in range(plan.ndim):
        if (cell.pieces[axis].items is not NULL
                or cell.pieces[axis].count != valid_extent(call, cells, axis, cell.chunk[axis])):
            return PARTLY
        if cell.pieces[axis].count != cells.shape[axis]:
            touch = TO_EDGE
    return touch


cdef Outcome place_old(CodecPipeline pipeline, CodecPipeline cells, int64_t entry, Update* update, char* dense,
                       Worker* worker, Failure* failure) noexcept nogil:
    """What an inner chunk held before a write that does not cover it."""
    cdef Bytes part
    if update.shard.data is NULL or update.index[2 * entry] == <uint64_t>ABSENT:
        cells.fill_chunk(dense, pipeline.strides, cells.shape)
        return DONE
    part = Bytes(update.shard.data + update.index[2 * entry], update.index[2 * entry + 1])
    return cells.decode_region(part, dense, pipeline.strides, cells.shape, worker, failure)
