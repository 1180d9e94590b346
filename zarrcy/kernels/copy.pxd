"""Strided copies and fills of items between a chunk and a buffer."""
from libc.stdint cimport int64_t

cdef enum:
    MAX_NDIM = 65   # as NumPy, and one more: the index of a shard has pairs along an axis of its own

# One dimension of a copy. Item i lies at i * stride bytes, or at positions[i] * stride bytes where there is a table.
cdef struct Loop:
    int64_t count
    int64_t src_stride
    int64_t dst_stride
    const int64_t* src_positions   # or NULL
    const int64_t* dst_positions   # or NULL

# Copies the items of `loops` from src to dst, which do not overlap. word: how many bytes swap together when the byte
# order changes; 0 copies them as they are. Where dst positions repeat, the last one wins. The loops are reordered in
# place.
cdef void copy_items(char* dst, const char* src, Loop* loops, int n_loops, int64_t itemsize, int word) noexcept nogil

# The same with one item as the source of all. The src fields of the loops are not looked at.
cdef void fill_items(char* dst, const char* item, Loop* loops, int n_loops, int64_t itemsize) noexcept nogil

# Whether every one of n packed items has the bytes of `item`.
cdef bint all_items_are(const char* items, const char* item, int64_t n, int64_t itemsize) noexcept nogil
