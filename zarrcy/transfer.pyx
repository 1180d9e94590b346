"""The way between an array and its store: the only loop over chunks.

A call lays a selection over the grid of chunks (`zarrcy.kernels.plan`) and hands out stored chunks by number. Where the
store is a directory and the chain needs no Python, a chunk is read, decoded and copied without the GIL on the native
pool; otherwise Python threads fetch the values, each decoding what it fetched. In both the calling thread takes part,
and small calls stay on it.
"""
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from cpython.object cimport PyObject
from cpython.slice cimport PySlice_AdjustIndices, PySlice_Check, PySlice_Unpack
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from zarrcy.codecs.pipeline cimport CodecPipeline
from zarrcy.kernels.copy cimport MAX_NDIM
from zarrcy.kernels.output cimport array_data, array_strides, new_array
from zarrcy.kernels.plan cimport Plan
from zarrcy.kernels.pool cimport current_worker, worker_trim
from zarrcy.kernels.posix cimport MAX_KEY_NBYTES
from zarrcy.transfer_call cimport Call, key_text, raise_failure
from zarrcy.transfer_document cimport ShapeDocument
from zarrcy.transfer_file_writes cimport write_files
from zarrcy.transfer_files cimport read_files
from zarrcy.transfer_values cimport run_values

import numpy as np

from zarrcy.errors import SelectionError
from zarrcy.registry import LazyModule
from zarrcy.thread_count import get_threads

selections = LazyModule("zarrcy.selection")   # reading plain integers and slices does without

cdef extern from "clock.h" nogil:
    int64_t monotonic_us "zarrcy_monotonic_us"() noexcept

cdef enum:
    MAX_THREADS = 4096            # of one call
    HELPERS_PAY_US = 50           # estimated work below which other threads are left alone
    VALUE_US = 3                  # rough cost of a stored chunk, beside its bytes
    NBYTES_PER_US = 1500
    FIND_NBYTES = 1 << 17         # of a write that looks for the document of its array: as much work as to find it


cdef class Transfer:
    """The way between an array and its store. Immutable: an array that is resized gets a new one.

    Parameters
    ----------
    store : Store
        Where the chunks lie.
    path : str
        The path of the array in the store; ``""`` at its root.
    metadata : ArrayMetadata
        What the array is.
    raises_missing : bool
        Whether an absent chunk is an error instead of the fill value.
    keeps_empty : bool
        Whether chunks equal to the fill value are written.

    Raises
    ------
    MetadataError
        The codecs cannot work on the chunks.
    """

    def __init__(self, store, path, metadata, bint raises_missing=False, bint keeps_empty=False):
        cdef int axis
        cdef dict fields = metadata.__dict__   # past `Frozen`, which looks for what is read late: nothing of these is
        self.store = store
        self.path = path
        self.metadata = metadata
        self.dtype = fields["data_type"].dtype
        self.shape = fields["shape"]
        self.ndim = len(self.shape)
        for axis in range(self.ndim):
            self.extents[axis] = self.shape[axis]
        pipelines = fields["pipelines"]
        self.pipeline = pipelines.get(keeps_empty)
        if self.pipeline is None:
            self.pipeline = pipelines[keeps_empty] = bound_pipeline(metadata, keeps_empty)
        self.cells = self.pipeline if self.pipeline.inner is None else self.pipeline.inner
        self.raises_missing = raises_missing
        encoding = fields["chunk_key_encoding"]
        prefix = f"{path}/{encoding.prefix}" if path else encoding.prefix
        if self.ndim == 0:
            prefix = f"{path}/{encoding.key(())}" if path else encoding.key(())
        self.key_prefix = prefix.encode()
        self.c_key_prefix = self.key_prefix
        self.key_prefix_nbytes = len(self.key_prefix)
        self.separator = ord(encoding.separator)
        self.separator_first = bool(encoding.prefix)
        if not self.pipeline.needs_gil and len(self.key_prefix) + 21 * self.ndim < MAX_KEY_NBYTES:
            self.directory = store.native_reader()

    @property
    def cell_shape(self):
        """The shape of a chunk, of an inner chunk where there are shards, along the axes of the array."""
        return tuple([self.cells.shape[axis] for axis in range(self.ndim)])

    def key(self, index):
        """The key of a stored chunk, by its index along each axis."""
        cdef int64_t c_index[MAX_NDIM]
        cdef int axis
        cdef Call call
        for axis in range(self.ndim):
            c_index[axis] = index[axis]
        set_key_format(self, &call)
        return key_text(&call, c_index)

    def read(self, selection, buffer):
        """Read a selection into a writable NumPy array of shape ``selection.transfer_shape``, or into a new one for
        ``None``; returns it."""
        cdef int64_t strides[MAX_NDIM + 1]
        cdef int64_t shape[MAX_NDIM]
        cdef int dim
        if buffer is None:
            for dim in range(len(selection.transfer_shape)):
                shape[dim] = selection.transfer_shape[dim]
            buffer = new_array(len(selection.transfer_shape), shape, self.dtype)
        selection_strides(self, selection, buffer, strides)
        self.run(plan_of(self, selection), array_data(buffer), buffer.nbytes, strides, False)
        return buffer

    def write(self, selection, buffer):
        """Write a NumPy array of shape ``selection.transfer_shape`` and of the array's data type."""
        cdef int64_t strides[MAX_NDIM + 1]
        selection_strides(self, selection, buffer, strides)
        self.run(plan_of(self, selection), array_data(buffer), buffer.nbytes, strides, True)

    cdef int run(self, Plan plan, char* buffer, int64_t nbytes, const int64_t* strides, bint writes) except -1:
        cdef Call call
        cdef ShapeDocument document = None   # the call points into it: not another thread's that has taken its place
        cdef int n_threads
        if plan.n_values == 0:
            return 0
        self.begin_call(&call, plan, buffer, strides)
        call.caller = current_worker()
        call.last_signal_check = monotonic_us()
        n_threads = threads_worth(&call, nbytes, MAX_THREADS)
        if n_threads > 1:   # asking costs as much as a small read can save
            n_threads = min(n_threads, get_threads())
        if writes and self.directory is not None and has_edges(self):
            if self.document is None:
                self.document = ShapeDocument(self.store, self.path, self.metadata)
            document = self.document
            if nbytes >= FIND_NBYTES:
                document.find(self.directory)
            document.tell(&call)
        try:
            if self.directory is None:
                run_values(&call, self.store, n_threads, writes)
            else:
                with nogil:
                    self.run_files(&call, n_threads, writes)
                if call.failed:
                    raise_failure(&call, self.directory.url)
        finally:
            if document is not None:
                document.learn(&call)
            worker_trim(call.caller, KEEP_NBYTES)
        return 0

    cdef void run_files(self, Call* call, int n_threads, bint writes) noexcept nogil:
        if writes:
            write_files(call, self.directory, n_threads)
        else:
            read_files(call, self.directory, n_threads)

    cdef void begin_call(self, Call* call, Plan plan, char* buffer, const int64_t* strides) noexcept nogil:
        memset(call, 0, sizeof(Call))
        call.plan = <PyObject*>plan
        call.pipeline = <PyObject*>self.pipeline
        call.cells = <PyObject*>self.cells
        call.raises_missing = self.raises_missing
        set_key_format(self, call)
        memcpy(call.extents, self.extents, self.ndim * sizeof(int64_t))
        memcpy(call.strides, strides, (self.ndim + 1) * sizeof(int64_t))
        call.buffer = buffer
        call.n_values = plan.n_values


cdef bint has_edges(Transfer transfer) noexcept:
    """Whether a chunk sticks out of the array."""
    cdef int axis
    for axis in range(transfer.ndim):
        if transfer.extents[axis] % transfer.pipeline.shape[axis]:
            return True
    return False


cdef CodecPipeline bound_pipeline(metadata, bint keeps_empty):
    fill = None if metadata.fill_value is None else np.asarray(metadata.fill_value, metadata.dtype).tobytes()
    word = metadata.data_type.word
    return CodecPipeline(metadata.codecs, metadata.chunk_shape, metadata.dtype, word, fill, keeps_empty)


cdef int threads_worth(const Call* call, int64_t nbytes, int64_t n_threads) noexcept nogil:
    cdef int64_t work_us = call.n_values * VALUE_US + nbytes // NBYTES_PER_US
    return min(n_threads, MAX_THREADS) if work_us > HELPERS_PAY_US else 1


cdef void set_key_format(Transfer transfer, Call* call) noexcept nogil:
    call.ndim = transfer.ndim
    call.key_prefix = transfer.c_key_prefix
    call.key_prefix_nbytes = transfer.key_prefix_nbytes
    call.separator = transfer.separator
    call.separator_first = transfer.separator_first


cdef Plan plan_of(Transfer transfer, object selection):
    """A selection laid over the grid of the chunks."""
    cdef Plan plan = Plan(transfer.ndim)
    cdef int axis
    if 0 in selection.transfer_shape:
        return plan   # no tables for the other axes, which may be long
    for axis in range(transfer.ndim):
        chosen = selection.axes[axis]
        if chosen is None:
            continue
        if isinstance(chosen, tuple):
            plan.set_slice(axis, chosen[0], chosen[1], chosen[2], transfer.pipeline.shape[axis],
                           transfer.cells.shape[axis])
        else:
            plan.set_positions(axis, chosen, transfer.pipeline.shape[axis], transfer.cells.shape[axis])
    if selection.points is not None:
        axes, coordinates = selection.points
        plan.set_points(axes, coordinates, [transfer.pipeline.shape[axis] for axis in axes],
                        [transfer.cells.shape[axis] for axis in axes])
    plan.finish()
    return plan


cdef int selection_strides(Transfer transfer, object selection, object buffer, int64_t* strides) except -1:
    """The strides of the buffer in bytes, per axis of the array."""
    cdef const int64_t* of_dims = array_strides(buffer)
    cdef int axis, dim
    if len(selection.transfer_axes) != transfer.ndim:
        # Which the caller looked up before another thread refreshed the array.
        raise SelectionError(f"expected a selection along {transfer.ndim} axes, got {len(selection.transfer_axes)}")
    for axis in range(transfer.ndim):
        dim = selection.transfer_axes[axis]
        strides[axis] = of_dims[dim] if dim >= 0 else 0
    dim = selection.points_dim
    strides[transfer.ndim] = of_dims[dim] if dim >= 0 else 0
    return 0


cdef class ArrayBase:
    """What `zarrcy.Array` does in compiled code: it begins, and takes plain integers and slices without a Python object
    per step."""

    def _begin(self, store, path, metadata, read_only, missing, write_empty_chunks):
        self._store, self._path, self._read_only = store, path, read_only
        self._missing, self._write_empty_chunks = missing, write_empty_chunks
        self._set_metadata(metadata)

    cpdef _set_metadata(self, metadata):
        # The transfer first: it may refuse the metadata, and then the array stays what it was.
        self._transfer = Transfer(self._store, self._path, metadata, self._missing == "raise", self._write_empty_chunks)
        self._metadata = metadata

    def __getitem__(self, key):
        cdef Transfer transfer = self._transfer
        cdef int64_t strides[MAX_NDIM + 1]
        cdef int64_t shape[MAX_NDIM]
        cdef bint is_dropped[MAX_NDIM]
        cdef Plan plan
        cdef int64_t nbytes
        cdef int axis, ndim, dim = 0
        if transfer is None:
            raise TypeError("array: expected one that was opened or made, got one whose __init__ has not run")
        plan = Plan.__new__(Plan, transfer.ndim)
        ndim = plan_basic(transfer, key, plan, shape, is_dropped)
        nbytes = transfer.pipeline.itemsize
        if ndim < 0:
            return self._get(selections.parse(key, transfer.shape))
        out = new_array(ndim, shape, transfer.dtype)
        for axis in range(transfer.ndim):
            strides[axis] = 0
            if not is_dropped[axis]:
                strides[axis] = array_strides(out)[dim]
                nbytes *= shape[dim]
                dim += 1
        strides[transfer.ndim] = 0
        transfer.run(plan, array_data(out), nbytes, strides, False)
        return out if ndim else out[()]


cdef int plan_basic(Transfer transfer, object key, Plan plan, int64_t* shape, bint* is_dropped) except -2:
    """Lay integers, slices and an ellipsis over the grid. Sets the shape of the result and returns its number of
    dimensions; -1 for any other key."""
    cdef Py_ssize_t start, stop, step, count, n_before, n_after
    cdef Py_ssize_t n = 1
    cdef int axis, overflow, ndim = 0
    cdef int64_t starts[MAX_NDIM]
    cdef int64_t steps[MAX_NDIM]
    cdef int64_t counts[MAX_NDIM]
    cdef object item
    cdef bint is_nothing = False
    cdef bint is_tuple = type(key) is tuple
    if is_tuple:
        n = PyTuple_GET_SIZE(key)
    n_before, n_after = n, 0
    for axis in range(<int>n):
        if (<object>PyTuple_GET_ITEM(key, axis) if is_tuple else key) is Ellipsis:
            n_before, n_after = axis, n - 1 - axis
            break
    if n_before + n_after > transfer.ndim:
        return -1
    for axis in range(transfer.ndim):
        is_dropped[axis] = False
        if n_before <= axis < transfer.ndim - n_after:
            start, step, count = 0, 1, transfer.extents[axis]
        else:
            if not is_tuple:
                item = key
            elif axis < n_before:
                item = <object>PyTuple_GET_ITEM(key, axis)
            else:
                item = <object>PyTuple_GET_ITEM(key, n - (transfer.ndim - axis))
            if PySlice_Check(item):
                try:
                    PySlice_Unpack(item, &start, &stop, &step)
                except (TypeError, ValueError):
                    return -1   # `parse` says what is wrong with it
                count = PySlice_AdjustIndices(transfer.extents[axis], &start, &stop, step)
            elif PyLong_CheckExact(item):
                start = PyLong_AsLongLongAndOverflow(item, &overflow)
                if overflow or not -transfer.extents[axis] <= start < transfer.extents[axis]:
                    return -1
                if start < 0:
                    start += transfer.extents[axis]
                step = count = 1
                is_dropped[axis] = True
            else:
                return -1
        starts[axis], steps[axis], counts[axis] = start, step, count
        is_nothing = is_nothing or count == 0
        if not is_dropped[axis]:
            shape[ndim] = count
            ndim += 1
    if ndim == 0 and n_before < n:
        return -1   # an array without axes, where the same index without the ellipsis gives an item
    if is_nothing:
        return ndim   # no tables for the other axes, which may be long
    for axis in range(transfer.ndim):
        plan.set_slice(axis, starts[axis], steps[axis], counts[axis], transfer.pipeline.shape[axis],
                       transfer.cells.shape[axis])
    plan.finish()
    return ndim
