"""The C API for Cython: ``from zarrcy.capi cimport open_array, read_region``. The contract of each function is in
``zarrcy/zarrcy.h``, which lies in `zarrcy.get_include()`."""
from libc.stdint cimport int32_t, int64_t, uint64_t

cdef extern from "zarrcy/zarrcy.h" nogil:
    int ZARRCY_API_VERSION

    enum zarrcy_result:
        ZARRCY_OK
        ZARRCY_INVALID_ARGUMENT
        ZARRCY_OUT_OF_BOUNDS
        ZARRCY_READ_ONLY
        ZARRCY_NOT_FOUND
        ZARRCY_BAD_METADATA
        ZARRCY_WRONG_DTYPE
        ZARRCY_MISSING_CHUNK
        ZARRCY_CODEC_FAILED
        ZARRCY_PERMISSION_DENIED
        ZARRCY_CONFLICT
        ZARRCY_STORE_FAILED
        ZARRCY_NO_MEMORY
        ZARRCY_INTERRUPTED
        ZARRCY_FAILED

    ctypedef struct zarrcy_error:
        int32_t result
        int32_t os_error
        char message[2040]

    ctypedef struct zarrcy_array:
        pass

    ctypedef struct zarrcy_info:
        int32_t ndim
        int32_t is_writable
        int64_t itemsize
        const int64_t* shape
        const int64_t* chunk_shape
        const int64_t* shard_shape
        const char* dtype

    ctypedef struct zarrcy_api:
        int32_t version
        int32_t oldest_version
        uint64_t nbytes
        int (*open_array)(const char* store, const char* path, const char* mode, const char* dtype,
                          zarrcy_array** array, zarrcy_error* error) noexcept
        int (*from_object)(void* object, const char* dtype, zarrcy_array** array, zarrcy_error* error) noexcept
        int (*close_array)(zarrcy_array* array, zarrcy_error* error) noexcept
        const zarrcy_info* (*info)(const zarrcy_array* array) noexcept
        int (*set_threads)(zarrcy_array* array, int n_threads, zarrcy_error* error) noexcept
        int (*read_region)(const zarrcy_array* array, int ndim, const int64_t* start, const int64_t* shape,
                           const int64_t* step, void* data, const int64_t* strides, zarrcy_error* error) noexcept
        int (*write_region)(const zarrcy_array* array, int ndim, const int64_t* start, const int64_t* shape,
                            const int64_t* step, const void* data, const int64_t* strides,
                            zarrcy_error* error) noexcept

cdef int open_array(const char* store, const char* path, const char* mode, const char* dtype, zarrcy_array** array,
                    zarrcy_error* error) noexcept nogil
cdef int from_object(void* object, const char* dtype, zarrcy_array** array, zarrcy_error* error) noexcept nogil
cdef int close_array(zarrcy_array* array, zarrcy_error* error) noexcept nogil
cdef const zarrcy_info* info(const zarrcy_array* array) noexcept nogil
cdef int set_threads(zarrcy_array* array, int n_threads, zarrcy_error* error) noexcept nogil
cdef int read_region(const zarrcy_array* array, int ndim, const int64_t* start, const int64_t* shape,
                     const int64_t* step, void* data, const int64_t* strides, zarrcy_error* error) noexcept nogil
cdef int write_region(const zarrcy_array* array, int ndim, const int64_t* start, const int64_t* shape,
                      const int64_t* step, const void* data, const int64_t* strides,
                      zarrcy_error* error) noexcept nogil
