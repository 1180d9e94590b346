"""A run of bytes: the argument of every kernel and codec."""

cdef struct Bytes:
    char* data
    size_t nbytes
