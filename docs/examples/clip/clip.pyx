"""Limit the items of a one-dimensional array of float32 to a range, where they are stored."""
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from zarrcy.capi cimport (
    ZARRCY_NO_MEMORY, ZARRCY_OK, close_array, info, open_array, read_region, write_region, zarrcy_array, zarrcy_error)


def clip(str directory, float low, float high):
    """Clip the array in a directory. The GIL is free all the time, and every chunk is read and written once."""
    cdef zarrcy_array* array
    cdef zarrcy_error error
    cdef bytes store = directory.encode()
    cdef int result
    if open_array(store, NULL, b"r+", b"f4", &array, &error) != ZARRCY_OK:
        raise OSError(error.message.decode())
    try:
        if info(array).ndim != 1:
            raise ValueError(f"expected one axis, got {info(array).ndim}")
        with nogil:
            result = clip_chunks(array, low, high, &error)
        if result != ZARRCY_OK:
            raise RuntimeError(error.message.decode())
    finally:
        close_array(array, NULL)


cdef int clip_chunks(zarrcy_array* array, float low, float high, zarrcy_error* error) noexcept nogil:
    cdef int64_t extent = info(array).shape[0]
    cdef int64_t n = info(array).shard_shape[0]
    cdef int64_t i, start = 0
    cdef int result = ZARRCY_OK
    cdef float* items = <float*>malloc(n * sizeof(float))
    if items is NULL:
        error.message[0] = 0
        return ZARRCY_NO_MEMORY
    while start < extent and result == ZARRCY_OK:
        n = min(n, extent - start)
        result = read_region(array, 1, &start, &n, NULL, items, NULL, error)
        if result == ZARRCY_OK:
            for i in range(n):
                items[i] = min(max(items[i], low), high)
            result = write_region(array, 1, &start, &n, NULL, items, NULL, error)
        start += n
    free(items)
    return result
