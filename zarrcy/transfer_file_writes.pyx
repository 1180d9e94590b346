"""Writes of stored chunks in files: without the GIL, on the native pool."""
from libc.errno cimport ENOENT, ETIMEDOUT
from libc.stdint cimport int64_t

from zarrcy.codecs.codec cimport DONE, Bytes
from zarrcy.codecs.pipeline cimport TO_EDGE, WHOLLY, CodecPipeline, Touch
from zarrcy.kernels.plan cimport Place, Plan
from zarrcy.kernels.pool cimport Worker, current_worker, parallel_for, worker_listen
from zarrcy.kernels.posix cimport MAX_KEY_NBYTES, UNLOCKED, Directory, Folder, close_folder, close_value, open_value
from zarrcy.kernels.posix_compat cimport FilePiece
from zarrcy.kernels.posix_locks cimport (
    KeyLock, delete_value, lock_key, open_locked, remove_empty_parents, replace_by_pieces, replace_value, unlock_key)
from zarrcy.transfer_call cimport (
    FINE, LOCK_TIMEOUT_MS, STORE_FAILED, Call, format_key, go_on, record, record_exception, stops)
from zarrcy.transfer_document cimport has_shape
from zarrcy.transfer_files cimport BLOCKS_PER_THREAD, MAX_BLOCK, fetch_value, open_root
from zarrcy.transfer_merge cimport encode_merged, encode_whole, find_rows

from zarrcy.stores.store import warn_unguarded

cdef enum:
    LOCK_WAIT_MS = 50    # between looks for Ctrl-C and failures of other threads while another writer has the lock


cdef void write_files(Call* call, Directory directory, int n_threads) noexcept nogil:
    """The call on the native pool; again when the directory was replaced by another one meanwhile."""
    cdef int64_t n_items
    call.block = max(1, min(MAX_BLOCK, call.n_values // (n_threads * BLOCKS_PER_THREAD)))
    n_items = (call.n_values + call.block - 1) // call.block
    directory.is_current()   # a directory that was moved away is not written to
    while open_root(call, directory) == FINE:
        call.flags = directory.write_flags()
        if call.flags & UNLOCKED and warn(call, directory) != FINE:
            return
        parallel_for(n_items, n_threads, write_block, call)
        if directory.is_current() and directory.generation == call.generation:
            return
        if call.failed and call.status != STORE_FAILED:
            return
        call.failed = 0


cdef int warn(Call* call, Directory directory) noexcept with gil:
    try:
        warn_unguarded(directory.url)
        return FINE
    except BaseException as error:
        return record_exception(call, error)


cdef int write_block(void* context, size_t item) noexcept nogil:
    cdef Call* call = <Call*>context
    cdef Worker* worker = current_worker()
    cdef Folder folder
    cdef int64_t number
    cdef int status = FINE
    folder.fd = -1
    worker_listen(worker, stops, call)
    for number in range(item * call.block, min((item + 1) * call.block, call.n_values)):
        status = go_on(call, worker)
        if status == FINE:
            status = write_native(call, <CodecPipeline>call.pipeline, number, &folder, worker)
        if status != FINE:
            break
    worker_listen(worker, NULL, NULL)
    close_folder(&folder)
    return status


cdef int write_native(Call* call, CodecPipeline pipeline, int64_t number, Folder* folder,
                      Worker* worker) noexcept nogil:
    """One stored chunk from the buffer into its file."""
    cdef char key[MAX_KEY_NBYTES]
    cdef Place place
    cdef KeyLock lock
    cdef Bytes value = Bytes(NULL, 0)
    cdef Touch touch = WHOLLY
    cdef FilePiece* pieces = NULL
    cdef int64_t n_pieces
    cdef bint is_empty = False
    cdef int status, code
    (<Plan>call.plan).find_place(number, &place)
    format_key(call, place.value, key)
    status = find_rows(call, pipeline, &place, &pieces, &n_pieces, &is_empty, worker)
    if status == FINE and n_pieces == 0:
        status = encode_whole(call, &place, &value, &touch, &is_empty, worker)
    if status != FINE:
        return status
    if is_empty:
        return delete_native(call, &place, key, folder, worker)
    status = take_lock(call, &place, key, folder, worker, &lock)
    if status != FINE:
        return status
    if touch != WHOLLY:
        status = merge_native(call, pipeline, &place, key, &lock, touch, &value, &is_empty, worker)
        if status != FINE:
            unlock_key(&lock)
            return status
    if is_empty:
        code = delete_value(&lock)
        remove_empty_parents(call.root, key)
    elif n_pieces:
        code = replace_by_pieces(&lock, pieces, n_pieces)
    else:
        code = replace_value(&lock, value.data, value.nbytes)
    return record(call, STORE_FAILED, &place, DONE, -code, NULL) if code else FINE


cdef int merge_native(Call* call, CodecPipeline pipeline, Place* place, const char* key, const KeyLock* lock,
                      Touch touch, Bytes* value, bint* is_empty, Worker* worker) noexcept nogil:
    """The new value of a chunk that is written in part, or as far as the edge of the array; its lock is held."""
    cdef Bytes old = Bytes(NULL, 0)
    cdef int status = FINE
    cdef int fd = open_locked(lock, call.root, key)
    if fd >= 0 and touch == TO_EDGE and has_shape(call, lock.directory):
        close_value(fd)
        fd = -ENOENT   # nothing is beyond the edge
    if fd >= 0:
        status = fetch_value(call, pipeline, place, fd, &old, worker)
        close_value(fd)
    elif fd != -ENOENT:
        status = record(call, STORE_FAILED, place, DONE, -fd, NULL)
    if status != FINE:
        return status
    return encode_merged(call, place, old, False, value, is_empty, worker)


cdef int take_lock(Call* call, const Place* place, const char* key, Folder* folder, Worker* worker,
                   KeyLock* lock) noexcept nogil:
    """Wait for the other writers of a chunk, but neither through Ctrl-C nor through the failure of another thread."""
    cdef int code = -ETIMEDOUT
    cdef int status
    cdef int waited_ms = 0
    while code == -ETIMEDOUT and waited_ms < LOCK_TIMEOUT_MS:
        status = go_on(call, worker)
        if status != FINE:
            return status
        code = lock_key(call.root, key, call.flags, LOCK_WAIT_MS, folder, lock)
        waited_ms += LOCK_WAIT_MS
    return record(call, STORE_FAILED, place, DONE, -code, NULL) if code else FINE


cdef int delete_native(Call* call, const Place* place, const char* key, Folder* folder, Worker* worker) noexcept nogil:
    cdef KeyLock lock
    cdef int status
    cdef int code = open_value(call.root, key)
    if code == -ENOENT:
        return FINE
    if code >= 0:
        close_value(code)
        status = take_lock(call, place, key, folder, worker, &lock)
        if status != FINE:
            return status
        code = delete_value(&lock)
    if code == 0:
        remove_empty_parents(call.root, key)
    return record(call, STORE_FAILED, place, DONE, -code, NULL) if code else FINE
