"""Raw deflate and the checksums of gzip and zlib, over the library that is linked."""
from libc.stdint cimport uint8_t, uint32_t

cdef extern from "deflate.h" nogil:
    ctypedef enum deflate_outcome:
        DEFLATE_DONE
        DEFLATE_CORRUPT
        DEFLATE_TRUNCATED
        DEFLATE_TOO_LARGE
        DEFLATE_NO_MEMORY

    const char* deflate_library()
    const char* deflate_version()
    uint32_t deflate_crc32(const void* data, size_t nbytes)
    uint32_t deflate_adler32(const void* data, size_t nbytes)

    void* inflater_make() noexcept
    void inflater_free(void* context) noexcept
    deflate_outcome inflate_raw(void* context, const uint8_t* src, size_t nbytes, size_t* n_read,
                                uint8_t* dst, size_t capacity, size_t* n_written)
    void* deflater_make() noexcept
    void deflater_free(void* context) noexcept
    deflate_outcome deflate_raw(void* context, int level, const uint8_t* src, size_t nbytes,
                                uint8_t* dst, size_t capacity, size_t* n_written)
