"""CRC-32C for the other compiled modules, such as the index of a shard."""
from libc.stdint cimport uint32_t

cdef uint32_t crc32c(const char* data, size_t nbytes) noexcept nogil
