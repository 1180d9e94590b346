"""Reads of stored chunks in files: without the GIL, on the native pool."""
from libc.errno cimport ENOENT, EOVERFLOW
from libc.stdint cimport SIZE_MAX, int64_t
from libc.string cimport memset

from zarrcy.codecs.codec cimport DONE, NO_MEMORY, Bytes, Failure, Outcome
from zarrcy.codecs.pipeline cimport SLOT_VALUE, CodecPipeline
from zarrcy.kernels.plan cimport Cell, Place, Plan
from zarrcy.kernels.pool cimport Worker, current_worker, parallel_for, worker_listen
from zarrcy.kernels.posix cimport (
    MAX_KEY_NBYTES, Directory, Folder, close_folder, close_value, open_value, open_value_near, read_part, read_value,
    value_nbytes)
from zarrcy.kernels.posix_compat cimport FileVersion, zarrcy_is_settled, zarrcy_version_of
from zarrcy.shard_indexes cimport keep_index, kept_index
from zarrcy.transfer_call cimport (
    CODEC_FAILED, FINE, STORE_FAILED, Call, format_key, go_on, record, record_exception, stops, too_large)
from zarrcy.transfer_cells cimport Source, fill_cells, is_part_of_file, read_cells, read_file, read_memory
from zarrcy.transfer_raw cimport is_raw, read_raw


cdef void read_files(Call* call, Directory directory, int n_threads) noexcept nogil:
    """The call on the native pool; again when the directory was replaced by another one meanwhile."""
    cdef int64_t n_items
    cdef bint shards = ((<CodecPipeline>call.pipeline).inner is not None
                        and (<CodecPipeline>call.pipeline).n_steps == 0)
    call.block = max(1, min(MAX_BLOCK, call.n_values // (n_threads * BLOCKS_PER_THREAD)))
    n_items = (call.n_values + call.block - 1) // call.block
    while open_root(call, directory) == FINE:
        if shards and call.n_values < n_threads:
            read_shards(call, n_threads)
        else:
            parallel_for(n_items, n_threads, read_block, call)
        if not call.any_absent or (directory.is_current() and directory.generation == call.generation):
            return
        if call.failed and call.status != STORE_FAILED:
            return
        call.failed = 0
        call.any_absent = 0


cdef int open_root(Call* call, Directory directory) noexcept nogil:
    # The generation first: whoever opens the directory again after this is noticed by it.
    call.generation = directory.generation
    call.root = directory.fd
    if call.root < 0 or directory.stale:
        return open_directory(call, directory)
    return FINE


cdef int open_directory(Call* call, Directory directory) noexcept with gil:
    try:
        call.root = directory.open()
        call.generation = directory.generation
        return FINE
    except BaseException as error:
        return record_exception(call, error)


cdef int read_block(void* context, size_t item) noexcept nogil:
    cdef Call* call = <Call*>context
    cdef Worker* worker = current_worker()
    cdef Folder folder
    cdef int64_t number
    cdef int status = FINE
    folder.fd = -1
    folder.path[0] = 0
    worker_listen(worker, stops, call)
    for number in range(item * call.block, min((item + 1) * call.block, call.n_values)):
        status = go_on(call, worker)
        if status == FINE:
            status = read_native(call, <CodecPipeline>call.pipeline, number, &folder, worker)
        if status != FINE:
            break
    worker_listen(worker, NULL, NULL)
    close_folder(&folder)
    return status


cdef int read_native(Call* call, CodecPipeline pipeline, int64_t number, Folder* folder,
                     Worker* worker) noexcept nogil:
    """One stored chunk from its file into the buffer."""
    cdef char key[MAX_KEY_NBYTES]
    cdef Place place
    cdef Source source
    cdef Bytes value
    cdef int fd, status
    (<Plan>call.plan).find_place(number, &place)
    format_key(call, place.value, key)
    fd = open_value(call.root, key) if call.n_values == 1 else open_value_near(call.root, key, folder)
    if fd == -ENOENT:
        return fill_cells(call, &place, worker)
    if fd < 0:
        return record(call, STORE_FAILED, &place, DONE, -fd, NULL)
    if is_raw(pipeline):
        status = read_raw_file(call, <Plan>call.plan, pipeline, &place, fd, worker)
        close_value(fd)
        return status
    if is_part_of_file(<Plan>call.plan, pipeline, &place):
        status = read_file(call, <Plan>call.plan, pipeline, &place, fd, worker)
        close_value(fd)
        return status
    if pipeline.inner is None or pipeline.n_steps:
        status = fetch_value(call, pipeline, &place, fd, &value, worker)
        close_value(fd)
        return read_memory(call, &place, value, worker) if status == FINE else status
    status = open_shard_file(call, pipeline, &place, fd, &source, worker)
    if status == FINE:
        status = read_cells(call, &place, &source, 0, place.n_pieces, worker)
    close_value(fd)
    return status


cdef int read_raw_file(Call* call, Plan plan, CodecPipeline pipeline, const Place* place, int fd,
                       Worker* worker) noexcept nogil:
    cdef Cell cell
    cdef int64_t number
    cdef int status = FINE
    for number in range(place.n_pieces):
        plan.find_cell(place, number, &cell)
        status = read_raw(call, plan, pipeline, place, &cell, fd, 0, -1, worker)
        if status != FINE:
            break
    return status


cdef int fetch_value(Call* call, CodecPipeline pipeline, const Place* place, int fd, Bytes* value,
                     Worker* worker) noexcept nogil:
    # A shard that others have written to in place may hold many chunks that are not in use any more.
    cdef size_t limit = pipeline.limit_nbytes if pipeline.inner is None or pipeline.n_steps else SIZE_MAX
    cdef int code = read_value(fd, worker, SLOT_VALUE, pipeline.max_encoded_nbytes, limit, value)
    if code == -EOVERFLOW:
        return too_large(call, place, pipeline, value_nbytes(fd))
    return record(call, STORE_FAILED, place, DONE, -code, NULL) if code else FINE


cdef int open_shard_file(Call* call, CodecPipeline pipeline, const Place* place, int fd, Source* source,
                         Worker* worker) noexcept nogil:
    """Read the index of a shard. The open file is one version of the shard, whatever writers do meanwhile."""
    cdef Failure failure
    cdef Outcome outcome
    cdef Bytes encoded
    cdef FileVersion version
    cdef int64_t nbytes
    cdef bint is_settled
    cdef int code = zarrcy_version_of(fd, &version)
    if code:
        return record(call, STORE_FAILED, place, DONE, -code, NULL)
    is_settled = zarrcy_is_settled(&version)
    nbytes = version.nbytes
    source.fd = fd
    source.segments = NULL
    source.n_segments = 0
    source.index = kept_index(worker, &version, pipeline.number)
    if source.index is not NULL:
        return FINE
    memset(&failure, 0, sizeof(failure))
    if nbytes < pipeline.index_nbytes:
        outcome = pipeline.shard_index(Bytes(NULL, nbytes), &source.index, worker, &failure)   # says what is wrong
        return record(call, CODEC_FAILED, place, outcome, 0, &failure)
    encoded = Bytes(pipeline.scratch(worker, SLOT_VALUE, pipeline.index_nbytes), pipeline.index_nbytes)
    if encoded.data is NULL:
        return record(call, CODEC_FAILED, place, NO_MEMORY, 0, &failure)
    code = read_part(fd, 0 if pipeline.index_at_start else nbytes - pipeline.index_nbytes, pipeline.index_nbytes,
                     encoded.data)
    if code:
        return record(call, STORE_FAILED, place, DONE, -code, NULL)
    outcome = pipeline.decode_index(encoded, nbytes, &source.index, worker, &failure)
    if outcome != DONE:
        return record(call, CODEC_FAILED, place, outcome, 0, &failure)
    if is_settled and place.n_pieces <= pipeline.n_inner // 8:   # else reading the index is little of the work
        keep_index(worker, &version, pipeline.number, source.index, 2 * pipeline.n_inner)
    return FINE


# A shard whose inner chunks are shared out, when there are fewer shards than threads.
cdef struct SharedShard:
    Call* call
    Place* place
    Source source
    int64_t block


cdef int read_shards(Call* call, int n_threads) noexcept nogil:
    cdef Worker* worker = current_worker()
    cdef SharedShard shard
    cdef Place place
    cdef char key[MAX_KEY_NBYTES]
    cdef int64_t number, n_items
    cdef int fd, status = FINE
    shard.call = call
    shard.place = &place
    for number in range(call.n_values):
        (<Plan>call.plan).find_place(number, &place)
        format_key(call, place.value, key)
        fd = open_value(call.root, key)
        if fd == -ENOENT:
            status = fill_cells(call, &place, worker)
        elif fd < 0:
            status = record(call, STORE_FAILED, &place, DONE, -fd, NULL)
        else:
            status = open_shard_file(call, <CodecPipeline>call.pipeline, &place, fd, &shard.source, worker)
            if status == FINE:
                shard.block = max(1, min(MAX_BLOCK, place.n_pieces // (n_threads * BLOCKS_PER_THREAD)))
                n_items = (place.n_pieces + shard.block - 1) // shard.block
                status = parallel_for(n_items, n_threads, read_shard_block, &shard)
            close_value(fd)
        if status != FINE:
            break
    return status


cdef int read_shard_block(void* context, size_t item) noexcept nogil:
    cdef SharedShard* shard = <SharedShard*>context
    cdef Worker* worker = current_worker()
    cdef int status = go_on(shard.call, worker)
    if status != FINE:
        return status
    worker_listen(worker, stops, shard.call)
    status = read_cells(shard.call, shard.place, &shard.source, item * shard.block,
                        min((item + 1) * shard.block, shard.place.n_pieces), worker)
    worker_listen(worker, NULL, NULL)
    return status
