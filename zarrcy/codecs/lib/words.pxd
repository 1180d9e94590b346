"""32-bit words in a run of bytes, in either byte order."""
from libc.stdint cimport uint8_t, uint32_t


cdef inline uint32_t little_endian(const uint8_t* p) noexcept nogil:
    return p[0] | p[1] << 8 | p[2] << 16 | <uint32_t>p[3] << 24


cdef inline uint32_t big_endian(const uint8_t* p) noexcept nogil:
    return <uint32_t>p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3]


cdef inline void put_little_endian(uint8_t* p, uint32_t value) noexcept nogil:
    p[0] = value & 255
    p[1] = value >> 8 & 255
    p[2] = value >> 16 & 255
    p[3] = value >> 24


cdef inline void put_big_endian(uint8_t* p, uint32_t value) noexcept nogil:
    p[0] = value >> 24
    p[1] = value >> 16 & 255
    p[2] = value >> 8 & 255
    p[3] = value & 255
