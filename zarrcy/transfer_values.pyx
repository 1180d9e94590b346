"""Reads and writes of stored chunks through any store's ``get`` and ``set``: Python threads move the values."""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport INT64_MAX, int64_t, uint64_t
from libc.string cimport memset
from posix.unistd cimport usleep

from zarrcy.codecs.codec cimport DONE, Bytes, Failure, Outcome
from zarrcy.codecs.pipeline cimport ABSENT, WHOLLY, CodecPipeline, Touch
from zarrcy.kernels.plan cimport Place, Plan
from zarrcy.kernels.pool cimport Worker, current_worker
from zarrcy.transfer_call cimport (
    CODEC_FAILED, FINE, STOPPED, Call, drop_failure, has_failed, key_text, raise_failure, record)
from zarrcy.transfer_cells cimport Segment, Source, entry_number, fill_cells, read_cells, read_memory
from zarrcy.transfer_merge cimport encode_merged, encode_whole

import itertools

from zarrcy.errors import ConflictError, StoreError
from zarrcy.registry import LazyModule
from zarrcy.stores.store import Store

threads = LazyModule("zarrcy.threads")   # reading files does without

cdef enum:
    POLL_US = 200        # between looks at whether interrupted helpers are done
    READ_NBYTES = 2 << 20   # of a batch that is read: decoded while it lies in the cache of the processor
    MAX_RESTARTS = 16    # reads by ranges of a shard that is replaced again and again; then it is read whole


cdef int run_values(Call* call, object store, int n_threads, bint writes) except -1:
    cdef ValuesCall values = ValuesCall()
    cdef int64_t n_callers = max(min(values_in_flight(call, store, writes) or n_threads, call.n_values), 1)
    values.call = call
    values.store = store
    values.writes = writes
    values.counter = itertools.count()
    values.batch = values_in_batch(call, store, n_callers, writes)
    try:
        threads.run_with_helpers(values.work, n_callers)
    except BaseException:
        values.close()
        drop_failure(call)
        raise
    values.close()
    if call.failed and call.status == STOPPED:
        raise threads.Stopped  # as a helper did: for the call that this one is part of
    return raise_failure(call, store.url) if call.failed else 0


cdef int64_t values_in_flight(Call* call, object store, bint writes) except -1:
    """How many values to move at once: what the store bears, within its bytes; 0 means one per thread of the CPU."""
    cdef int64_t n = store.concurrency
    cdef int64_t budget = store.byte_budget
    cdef CodecPipeline pipeline = <CodecPipeline>call.pipeline
    cdef int64_t nbytes = pipeline.max_encoded_nbytes
    cdef Place place
    if n == 0 or budget == 0 or call.n_values == 0:
        return n
    (<Plan>call.plan).find_place(call.n_values // 2, &place)
    if not writes and is_read_in_parts(pipeline, &place):
        nbytes = pipeline.index_nbytes + place.n_pieces * pipeline.inner.max_encoded_nbytes
    return max(min(n, budget // max(nbytes, 1)), 1)


cdef int64_t values_in_batch(Call* call, object store, int64_t n_threads, bint writes) except -1:
    """How many whole values to move by one call of the store: as many as it likes, within its bytes and the share of a
    thread. One, where the call of several would make a call for each."""
    cdef int64_t n = store.batch
    cdef str method = "set_many" if writes else "get_many"
    cdef int64_t budget = store.byte_budget
    cdef int64_t nbytes = max((<CodecPipeline>call.pipeline).max_encoded_nbytes, 1)
    if n <= 1 or getattr(type(store), method) is getattr(Store, method):
        return 1
    if budget:
        n = min(n, budget // n_threads // nbytes)
    if not writes:
        n = min(n, READ_NBYTES // nbytes)
    return max(min(n, (call.n_values + n_threads - 1) // n_threads), 1)


cdef bint is_read_in_parts(CodecPipeline pipeline, const Place* place):
    """Whether so little of a shard is touched that its inner chunks are asked for one by one."""
    return pipeline.inner is not None and pipeline.n_steps == 0 and 2 * place.n_pieces <= pipeline.n_inner


cdef class ValuesCall:
    """A call whose values Python threads fetch or store."""
    cdef Call* call
    cdef object store
    cdef object counter
    cdef int64_t batch  # values that the counter counts as one
    cdef bint writes
    cdef bint closed
    cdef int n_active   # threads inside work()

    cdef void close(self) noexcept:
        """Return when no thread uses the call any more, though Ctrl-C may have ended the wait for helpers."""
        self.closed = True
        while self.n_active:
            with nogil:
                usleep(POLL_US)

    def work(self):
        # Both are changed under the GIL only.
        if self.closed:
            return
        self.n_active += 1
        try:
            self.drain()
        finally:
            self.n_active -= 1

    cdef int drain(self) except -1:
        cdef int64_t first, end
        try:
            while not has_failed(self.call):
                first = self.batch * <int64_t>next(self.counter)
                if first >= self.call.n_values:
                    return 0
                end = min(first + self.batch, self.call.n_values)
                if self.writes:
                    self.write_batch(first, end)
                elif end - first > 1:
                    self.read_batch(first, end)
                else:
                    self.read_value(first)
        except BaseException:
            record(self.call, STOPPED, NULL, DONE, 0, NULL)
            raise
        return 0

    cdef int read_batch(self, int64_t first, int64_t end) except -1:
        """Several values by one call of the store, but for those of which parts are enough."""
        cdef Place place
        cdef int64_t number
        numbers, requests, waiting = [], [], set()
        for number in range(first, end):
            (<Plan>self.call.plan).find_place(number, &place)
            if is_read_in_parts(<CodecPipeline>self.call.pipeline, &place):
                self.read_value(number)
            else:
                waiting.add(len(numbers))
                numbers.append(number)
                requests.append((key_text(self.call, place.value), None))
        for i, value in self.store.get_many(requests):
            if i not in waiting:
                raise unasked(self.store, i, requests)
            waiting.remove(i)
            (<Plan>self.call.plan).find_place(numbers[i], &place)
            read_found(self.call, &place, value)
            if has_failed(self.call):
                return 0
        if waiting:
            # Nothing has filled its items.
            raise unasked(self.store, None, requests, requests[min(waiting)][0])
        return 0

    cdef int read_value(self, int64_t number) except -1:
        cdef Place place
        cdef CodecPipeline pipeline = <CodecPipeline>self.call.pipeline
        (<Plan>self.call.plan).find_place(number, &place)
        key = key_text(self.call, place.value)
        if is_read_in_parts(pipeline, &place):
            return self.read_parts(key, &place)
        return self.read_whole(key, &place)

    cdef int read_parts(self, object key, Place* place) except -1:
        """A few inner chunks of a shard, by ranges that all belong to one version of it."""
        for _ in range(MAX_RESTARTS):
            try:
                return self.read_version(key, place)
            except ConflictError:
                continue
        return self.read_whole(key, place)

    cdef int read_whole(self, object key, Place* place) except -1:
        return read_found(self.call, place, self.store.get(key))

    cdef int read_version(self, object key, Place* place) except -1:
        cdef CodecPipeline pipeline = <CodecPipeline>self.call.pipeline
        cdef Source source = Source(-1, NULL, 0, NULL)
        cdef Worker* worker = current_worker()
        cdef Failure failure
        cdef Outcome outcome
        cdef int64_t number, entry
        cdef Py_buffer view
        cdef Bytes found
        store = self.store
        if pipeline.index_at_start:
            part = slice(0, pipeline.index_nbytes)
        else:
            part = slice(-pipeline.index_nbytes, None)
        encoded, version = get_part(store, key, part, None)
        if encoded is None:
            with nogil:
                fill_cells(self.call, place, worker)
            return 0
        memset(&failure, 0, sizeof(failure))
        PyObject_GetBuffer(encoded, &view, PyBUF_SIMPLE)
        try:
            found = Bytes(<char*>view.buf, view.len)
            if view.len != pipeline.index_nbytes:
                outcome = pipeline.shard_index(found, &source.index, worker, &failure)
            else:
                outcome = pipeline.decode_index(found, INT64_MAX, &source.index, worker, &failure)
        finally:
            PyBuffer_Release(&view)
        if outcome != DONE:
            return record(self.call, CODEC_FAILED, place, outcome, 0, &failure) and 0
        # Out of the scratch: the store may read arrays of its own on this thread.
        own_index = PyBytes_FromStringAndSize(<const char*>source.index, 16 * pipeline.n_inner)
        source.index = <const uint64_t*><const char*>own_index
        ranges = set()
        for number in range(place.n_pieces):
            entry = entry_number(self.call, place, number)
            if source.index[2 * entry] != <uint64_t>ABSENT:
                ranges.add((source.index[2 * entry], source.index[2 * entry] + source.index[2 * entry + 1]))
        parts = []
        for begin, end in merged(sorted(ranges), store.coalesce_gap):
            data, _ = get_part(store, key, slice(begin, end), version)
            if data is None or len(data) != end - begin:
                raise ConflictError("the shard was replaced", store=store.url, key=key)
            parts.append((begin, end, data))
        return read_segments(self.call, place, &source, parts)

    cdef int write_batch(self, int64_t first, int64_t end) except -1:
        """Values, those that are replaced as a whole by one call of the store."""
        cdef int64_t number
        batch = [] if end - first > 1 else None
        for number in range(first, end):
            if has_failed(self.call):
                return 0
            PyErr_CheckSignals()   # until the store is called, nothing else would hear Ctrl-C
            self.write_value(number, batch)
        if batch and not has_failed(self.call):
            self.store.set_many(batch)
        return 0

    cdef int write_value(self, int64_t number, list batch) except -1:
        """Write a value, or, with a batch, put it there if the whole of it is known."""
        cdef Place place
        cdef Bytes value = Bytes(NULL, 0)
        cdef Touch touch
        cdef bint is_empty = False
        cdef int status
        cdef Worker* worker = current_worker()
        (<Plan>self.call.plan).find_place(number, &place)
        key = key_text(self.call, place.value)
        with nogil:
            status = encode_whole(self.call, &place, &value, &touch, &is_empty, worker)
        if status != FINE:
            return 0
        if touch != WHOLLY:
            return self.merge_value(key, &place)
        if is_empty:
            self.store.delete(key)
        elif batch is None:
            self.store.set(key, PyBytes_FromStringAndSize(value.data, value.nbytes))
        else:
            batch.append((key, PyBytes_FromStringAndSize(value.data, value.nbytes)))
        return 0

    cdef int merge_value(self, object key, Place* place) except -1:
        """A chunk that is written in part: read, merge and written under the store's compare-and-swap or lock."""
        cdef Merge merge = Merge()
        merge.call = self.call
        merge.place = place
        try:
            self.store.update(key, merge)
        except NothingToWrite:
            pass
        return 0


class NothingToWrite(Exception):
    """A chunk could not be merged, and the call holds the failure; or it is absent and equal to the fill value."""


cdef class Merge:
    """The old value of a chunk → the new one, with the items of the buffer."""
    cdef Call* call
    cdef Place* place

    def __call__(self, old):
        value = merged_value(self.call, self.place, old)
        if value is None:
            raise NothingToWrite
        return value


cdef object unasked(object store, object got, list requests, object key=None):
    """The error of a store that answers otherwise than it was asked."""
    told = "no answer" if got is None else f"position {got!r} twice or of nothing"
    return StoreError(
        f"get_many: expected each of {len(requests)} positions once, got {told}", store=store.url, key=key,
        code="bad_answer", hint="The class of the store is at fault. An absent key is answered by None.")


cdef object get_part(object store, object key, object part, object version):
    """A part of a value, and the version it belongs to where the store knows versions."""
    if store.supports_cas:
        return store.get_with_version(key, part, if_version=version)
    return store.get(key, part), None


cdef list merged(list ranges, int64_t gap):
    """Sorted ranges, neighbours joined over gaps of that many bytes."""
    joined = []
    last_end = 0
    for begin, end in ranges:
        if joined and begin <= last_end + gap:
            begin, last_end = joined.pop()[0], max(end, last_end)
        else:
            last_end = end
        joined.append((begin, last_end))
    return joined


cdef int read_found(Call* call, Place* place, object value) except -1:
    """What a store answered for a chunk; ``None`` is an absent one."""
    cdef Py_buffer view
    cdef Worker* worker = current_worker()
    if value is None:
        with nogil:
            fill_cells(call, place, worker)
        return 0
    PyObject_GetBuffer(value, &view, PyBUF_SIMPLE)
    try:
        with nogil:
            read_memory(call, place, Bytes(<char*>view.buf, view.len), worker)
    finally:
        PyBuffer_Release(&view)
    return 0


cdef int read_segments(Call* call, Place* place, Source* source, list parts) except -1:
    """The chunks of a place out of parts ``(begin, end, data)`` of the shard."""
    cdef int64_t i
    cdef Worker* worker = current_worker()
    cdef bytearray table = bytearray(max(len(parts), 1) * sizeof(Segment))
    cdef Segment* segments = <Segment*><char*>table
    cdef const unsigned char[::1] data
    for i in range(len(parts)):
        data = parts[i][2]
        segments[i] = Segment(parts[i][0], parts[i][1], NULL)
        if data.shape[0]:
            segments[i].data = <char*>&data[0]
    source.segments = segments
    source.n_segments = len(parts)
    with nogil:
        read_cells(call, place, source, 0, place.n_pieces, worker)
    return 0


cdef object merged_value(Call* call, Place* place, object old):
    """The new value of a chunk as bytes; None when there is none to be written.

    One that is there is not deleted, also when it is equal to the fill value now: a store cannot compare and delete.
    """
    cdef Py_buffer view
    cdef Bytes value = Bytes(NULL, 0)
    cdef bint is_empty = False
    cdef int status
    cdef Worker* worker = current_worker()
    if old is None:
        with nogil:
            status = encode_merged(call, place, Bytes(NULL, 0), False, &value, &is_empty, worker)
    else:
        PyObject_GetBuffer(old, &view, PyBUF_SIMPLE)
        try:
            with nogil:
                status = encode_merged(call, place, Bytes(<char*>view.buf, view.len), True, &value, &is_empty, worker)
        finally:
            PyBuffer_Release(&view)
    return PyBytes_FromStringAndSize(value.data, value.nbytes) if status == FINE and not is_empty else None
