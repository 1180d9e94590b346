"""The C API: arrays for other extensions, to be read and written without the GIL.

The header is ``zarrcy/include/zarrcy/zarrcy.h``, and says what each function does. C gets the functions through the
capsule ``zarrcy.capi._C_API``, Cython by ``cimport``.
"""
from cpython.exc cimport PyErr_Clear
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_New
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport INT64_MIN, int64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy

from zarrcy.kernels.copy cimport MAX_NDIM
from zarrcy.transfer cimport Transfer
from zarrcy.transfer_call cimport Call, raise_failure
from zarrcy.transfer_regions cimport make_spare_plans, run_region

import os

import numpy as np

from zarrcy.arrays import Array
from zarrcy.errors import (
    CodecError, ConflictError, MetadataError, MissingChunkError, NodeNotFoundError, PermissionDeniedError,
    ReadOnlyError, StoreError, UnknownExtensionError)
from zarrcy.hierarchy import open_array as open_node
from zarrcy.thread_count import get_threads

cdef enum:
    OLDEST_VERSION = 1        # raised when something that the header promised is taken away
    WHERE_NBYTES = 1500       # of store and path in a message; the rest of it says what is wrong

# The first that fits.
RESULTS = (
    (NodeNotFoundError, ZARRCY_NOT_FOUND),
    (MetadataError, ZARRCY_BAD_METADATA),
    (UnknownExtensionError, ZARRCY_BAD_METADATA),
    (MissingChunkError, ZARRCY_MISSING_CHUNK),
    (CodecError, ZARRCY_CODEC_FAILED),
    (ReadOnlyError, ZARRCY_READ_ONLY),
    (PermissionDeniedError, ZARRCY_PERMISSION_DENIED),
    (ConflictError, ZARRCY_CONFLICT),
    (StoreError, ZARRCY_STORE_FAILED),
    (MemoryError, ZARRCY_NO_MEMORY),
    (Exception, ZARRCY_FAILED),
    (BaseException, ZARRCY_INTERRUPTED),
)


class WrongDtype(Exception):
    """The items are of another data type than the caller's memory."""


cdef class Handle:
    """What a zarrcy_array points to. It keeps the transfer that the array had when it was made."""
    cdef object array
    cdef object own_store     # closed with the handle; None when it is somebody else's
    cdef Transfer transfer
    cdef bytes where_owned, dtype_owned
    cdef const char* where    # store and path, for messages
    cdef int n_threads
    cdef zarrcy_info info
    cdef int64_t shape[MAX_NDIM]
    cdef int64_t chunk_shape[MAX_NDIM]
    cdef int64_t shard_shape[MAX_NDIM]

    def __init__(self, array, own_store):
        cdef int axis
        self.array = array
        self.own_store = own_store
        self.transfer = array._transfer
        self.where_owned = ": ".join([part for part in (array.store.url, array.path) if part]).encode(errors="replace")
        self.where = self.where_owned
        self.dtype_owned = self.transfer.dtype.str.encode()
        self.n_threads = get_threads()
        self.info.ndim = self.transfer.ndim
        self.info.is_writable = not array.read_only
        self.info.itemsize = self.transfer.dtype.itemsize
        for axis in range(self.transfer.ndim):
            self.shape[axis] = self.transfer.extents[axis]
            self.chunk_shape[axis] = self.transfer.cells.shape[axis]
            self.shard_shape[axis] = self.transfer.pipeline.shape[axis]
        self.info.shape = self.shape
        self.info.chunk_shape = self.chunk_shape
        self.info.shard_shape = self.shard_shape
        self.info.dtype = self.dtype_owned


# ---- What went wrong


cdef int succeed(zarrcy_error* error) noexcept nogil:
    if error is not NULL:
        error.result = error.os_error = 0
        error.message[0] = 0
    return ZARRCY_OK


cdef int refuse(zarrcy_error* error, zarrcy_result result, const char* where, const char* what) noexcept nogil:
    if error is not NULL:
        error.result = result
        error.os_error = 0
        snprintf(error.message, sizeof(error.message), "%.*s: %s", <int>WHERE_NBYTES, where, what)
    return result


cdef int explain(zarrcy_error* error, object exception) noexcept:
    """The result of an exception, and its message with what to do about it."""
    cdef Py_ssize_t room = sizeof(error.message) - 1
    cdef bytes text
    cdef int result = ZARRCY_FAILED
    if error is not NULL:
        error.message[0] = error.os_error = 0
    try:
        if isinstance(exception, WrongDtype):
            result = ZARRCY_WRONG_DTYPE
        else:
            result = next(code for kind, code in RESULTS if isinstance(exception, kind))
        if error is not NULL:
            error.os_error = getattr(exception, "errno", None) or 0
            text = shortened(message_of(exception), room)
            memcpy(error.message, <const char*>text, len(text) + 1)
    except BaseException:
        PyErr_Clear()   # of a message that cannot be made: the result says enough
    if error is not NULL:
        error.result = result
    return result


def message_of(exception):
    """What Python would show below the traceback, without the name of the class where the message says enough."""
    text = str(exception)
    if isinstance(exception, WrongDtype) or type(exception).__module__ == "zarrcy.errors":
        lines = [text]
    else:
        lines = [f"{type(exception).__name__}: {text}" if text else type(exception).__name__]
    return "\n".join([*lines, *getattr(exception, "__notes__", ())])


def shortened(text, room):
    """At most that many bytes of UTF-8, from the start and from the end, where it says what is wrong."""
    encoded = text.replace("\0", "\\0").encode(errors="replace")
    if len(encoded) <= room:
        return encoded
    half = room // 2 - 3
    parts = [encoded[:half].decode(errors="ignore"), encoded[-half:].decode(errors="ignore")]
    return "…".join(parts).encode()


# ---- Opening and closing


cdef int open_array(const char* store, const char* path, const char* mode, const char* dtype, zarrcy_array** array,
                    zarrcy_error* error) noexcept nogil:
    if array is NULL:
        return refuse(error, ZARRCY_INVALID_ARGUMENT, "array", "expected a place for the array, got NULL")
    array[0] = NULL
    if store is NULL:
        return refuse(error, ZARRCY_INVALID_ARGUMENT, "store", "expected a directory, an archive or a URL, got NULL")
    if mode is NULL:
        return refuse(error, ZARRCY_INVALID_ARGUMENT, "mode", "expected \"r\" or \"r+\", got NULL")
    return open_in_python(store, path, mode, dtype, array, error)


cdef int open_in_python(const char* store, const char* path, const char* mode, const char* dtype, zarrcy_array** array,
                        zarrcy_error* error) noexcept with gil:
    found = None
    try:
        if (<bytes>mode) not in (b"r", b"r+"):
            what = f'expected "r" or "r+", got {ascii((<bytes>mode).decode(errors="replace"))}'.encode()
            return refuse(error, ZARRCY_INVALID_ARGUMENT, "mode", what)
        node_path = b"" if path is NULL else <bytes>path
        found = open_node(os.fsdecode(store), os.fsdecode(node_path), mode=(<bytes>mode).decode())
        hand_out(found, found.store, dtype, array)
        return succeed(error)
    except BaseException as exception:
        if found is not None:
            close_quietly(found.store)
        return explain(error, exception)


cdef int from_object(void* object, const char* dtype, zarrcy_array** array, zarrcy_error* error) noexcept nogil:
    if array is NULL:
        return refuse(error, ZARRCY_INVALID_ARGUMENT, "array", "expected a place for the array, got NULL")
    array[0] = NULL
    if object is NULL:
        return refuse(error, ZARRCY_INVALID_ARGUMENT, "object", "expected a zarrcy.Array, got NULL")
    return take_object(object, dtype, array, error)


cdef int take_object(void* given, const char* dtype, zarrcy_array** array, zarrcy_error* error) noexcept with gil:
    try:
        found = <object>given
        if not isinstance(found, Array):
            what = f"expected a zarrcy.Array, got {type(found).__name__}".encode()
            return refuse(error, ZARRCY_INVALID_ARGUMENT, "object", what)
        hand_out(found, None, dtype, array)
        return succeed(error)
    except BaseException as exception:
        return explain(error, exception)


cdef int hand_out(object found, object own_store, const char* dtype, zarrcy_array** array) except -1:
    cdef Handle handle = Handle(found, own_store)
    if dtype is not NULL:
        expect_dtype(handle, (<bytes>dtype).decode(errors="replace"))
    if handle.transfer.dtype.hasobject:
        raise WrongDtype(f"{handle.where_owned.decode()}: expected items of a fixed size, got {handle.transfer.dtype}")
    if handle.transfer.directory is not None:
        try:
            handle.transfer.directory.open()   # here, so that reading and writing need no GIL for it
        except StoreError:
            pass                               # it is gone: whoever reads or writes is told so
    Py_INCREF(handle)
    array[0] = <zarrcy_array*><PyObject*>handle
    return 0


cdef int expect_dtype(Handle handle, str name) except -1:
    try:
        expected = np.dtype(name)
    except (TypeError, ValueError, SyntaxError) as error:
        raise WrongDtype(f"dtype: expected a data type of NumPy, got {ascii(name)}") from error
    if expected != handle.transfer.dtype:
        raise WrongDtype(f"{handle.where_owned.decode()}: expected items of {expected}, got {handle.transfer.dtype}")
    return 0


cdef int close_quietly(object store) noexcept:
    try:
        store.close()
    except BaseException:
        PyErr_Clear()   # another error is on its way
    return 0


cdef int close_array(zarrcy_array* array, zarrcy_error* error) noexcept nogil:
    return succeed(error) if array is NULL else close_in_python(array, error)


cdef int close_in_python(zarrcy_array* array, zarrcy_error* error) noexcept with gil:
    cdef Handle handle = <Handle><PyObject*>array
    Py_DECREF(handle)
    try:
        if handle.own_store is not None:
            handle.own_store.close()
        return succeed(error)
    except BaseException as exception:
        return explain(error, exception)


cdef const zarrcy_info* info(const zarrcy_array* array) noexcept nogil:
    return NULL if array is NULL else &(<Handle><PyObject*>array).info


cdef int set_threads(zarrcy_array* array, int n_threads, zarrcy_error* error) noexcept nogil:
    cdef char what[80]
    if array is NULL:
        return refuse(error, ZARRCY_INVALID_ARGUMENT, "array", "expected an open array, got NULL")
    if n_threads < 1:
        snprintf(what, sizeof(what), "expected at least 1, got %d", n_threads)
        return refuse(error, ZARRCY_INVALID_ARGUMENT, "n_threads", what)
    (<Handle><PyObject*>array).n_threads = n_threads
    return succeed(error)


# ---- Reading and writing


cdef int read_region(const zarrcy_array* array, int ndim, const int64_t* start, const int64_t* shape,
                     const int64_t* step, void* data, const int64_t* strides, zarrcy_error* error) noexcept nogil:
    if array is NULL:
        return refuse(error, ZARRCY_INVALID_ARGUMENT, "array", "expected an open array, got NULL")
    return run(<Handle><PyObject*>array, ndim, start, shape, step, <char*>data, strides, False, error)


cdef int write_region(const zarrcy_array* array, int ndim, const int64_t* start, const int64_t* shape,
                      const int64_t* step, const void* data, const int64_t* strides,
                      zarrcy_error* error) noexcept nogil:
    if array is NULL:
        return refuse(error, ZARRCY_INVALID_ARGUMENT, "array", "expected an open array, got NULL")
    if not (<Handle><PyObject*>array).info.is_writable:
        return refuse(error, ZARRCY_READ_ONLY, (<Handle><PyObject*>array).where,
                      "the array is read-only\nOpen it with mode \"r+\".")
    return run(<Handle><PyObject*>array, ndim, start, shape, step, <char*>data, strides, True, error)


cdef int run(Handle handle, int ndim, const int64_t* start, const int64_t* shape, const int64_t* step, char* data,
             const int64_t* strides, bint writes, zarrcy_error* error) noexcept nogil:
    cdef int64_t packed[MAX_NDIM]
    cdef Call call
    cdef int result = check_region(handle, ndim, start, shape, step, data, strides, writes, error)
    if result != ZARRCY_OK:
        return result
    if strides is NULL:
        pack(handle, shape, packed)
        strides = packed
    run_region(handle.transfer, start, shape, step, data, strides, handle.n_threads, writes, &call)
    return explain_call(handle, &call, error) if call.failed else succeed(error)


cdef int explain_call(Handle handle, const Call* call, zarrcy_error* error) noexcept with gil:
    try:
        raise_failure(call, handle.array.store.url)
    except BaseException as exception:
        return explain(error, exception)
    return ZARRCY_FAILED


cdef void pack(Handle handle, const int64_t* shape, int64_t* strides) noexcept nogil:
    """The strides of C order without gaps."""
    cdef int axis
    cdef int64_t stride = handle.info.itemsize
    for axis in range(handle.info.ndim - 1, -1, -1):
        strides[axis] = stride
        stride *= shape[axis]


cdef int check_region(Handle handle, int ndim, const int64_t* start, const int64_t* shape, const int64_t* step,
                      const char* data, const int64_t* strides, bint writes, zarrcy_error* error) noexcept nogil:
    cdef char what[200]
    cdef int axis
    cdef bint is_nothing = False
    if ndim != handle.info.ndim:
        snprintf(what, sizeof(what), "region: expected %d axes, got %d", handle.info.ndim, ndim)
        return refuse(error, ZARRCY_INVALID_ARGUMENT, handle.where, what)
    if ndim and (start is NULL or shape is NULL):
        return refuse(error, ZARRCY_INVALID_ARGUMENT, handle.where, "region: expected start and shape, got NULL")
    for axis in range(ndim):
        if shape[axis] < 0 or (step is not NULL and (step[axis] == 0 or step[axis] == INT64_MIN)):
            snprintf(what, sizeof(what), "region: axis %d: expected a shape of at least 0 and a step other than 0, got "
                     "%lld and %lld", axis, <long long>shape[axis], <long long>(step[axis] if step is not NULL else 1))
            return refuse(error, ZARRCY_INVALID_ARGUMENT, handle.where, what)
        if not fits(start[axis], shape[axis], step[axis] if step is not NULL else 1, handle.shape[axis]):
            snprintf(what, sizeof(what), "region: axis %d: expected items of 0 ... %lld, got %lld from %lld on with "
                     "step %lld", axis, <long long>(handle.shape[axis] - 1), <long long>shape[axis],
                     <long long>start[axis], <long long>(step[axis] if step is not NULL else 1))
            return refuse(error, ZARRCY_OUT_OF_BOUNDS, handle.where, what)
        if strides is not NULL and strides[axis] == 0 and shape[axis] > 1 and not writes:
            snprintf(what, sizeof(what), "strides: axis %d: expected a place for each item, got 0", axis)
            return refuse(error, ZARRCY_INVALID_ARGUMENT, handle.where, what)
        is_nothing = is_nothing or shape[axis] == 0
    if data is NULL and not is_nothing:
        return refuse(error, ZARRCY_INVALID_ARGUMENT, handle.where, "data: expected memory for the items, got NULL")
    return ZARRCY_OK


cdef bint fits(int64_t start, int64_t n, int64_t step, int64_t extent) noexcept nogil:
    """Whether n items from start on, with step between them, lie in 0 … extent - 1."""
    if n == 0:
        return 0 <= start <= extent
    if start < 0 or start >= extent:
        return False
    return n - 1 <= ((extent - 1 - start) // step if step > 0 else start // -step)


make_spare_plans()

cdef zarrcy_api table
table.version = ZARRCY_API_VERSION
table.oldest_version = OLDEST_VERSION
table.nbytes = sizeof(zarrcy_api)
table.open_array = open_array
table.from_object = from_object
table.close_array = close_array
table.info = info
table.set_threads = set_threads
table.read_region = read_region
table.write_region = write_region

_C_API = PyCapsule_New(&table, "zarrcy.capi._C_API", NULL)
