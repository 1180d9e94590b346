"""CRC-32C, as crc32c.h has it."""
from libc.stdint cimport uint32_t

cdef extern from "crc32c.h" nogil:
    const char* crc32c_how
    void crc32c_prepare()
    uint32_t crc32c_power(size_t nbytes)
    uint32_t crc32c_times(uint32_t a, uint32_t b)
    uint32_t crc32c_fast(const void* data, size_t nbytes)
    uint32_t crc32c_by_tables(const void* data, size_t nbytes)
