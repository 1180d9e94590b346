"""Which bytes of a decoded value somebody needs."""
from libc.stdint cimport int64_t, uint64_t
from zarrcy.kernels.copy cimport MAX_NDIM, Loop

cdef enum:
    GRAIN = 1024   # bytes that one bit stands for; items nearer to each other than that are one run

# Makes bytes [begin, end) of an encoded value be there, at their places; not 0 when they cannot be had.
ctypedef int (*Fetch)(void* context, size_t begin, size_t end) noexcept nogil

cdef struct Needed:
    size_t begin             # all needed bytes lie in [begin, end)
    size_t end
    const uint64_t* bits     # which runs of GRAIN bytes, counted from 0, are needed; NULL: all of [begin, end)
    bint is_verified         # a checksum around the encoded value matched: a part that is not looked at hides nothing
    Fetch fetch              # NULL: the encoded value is all there
    void* fetch_context

# The source side of a copy as runs of `length` bytes: the first begins at `begin`, and each turn of the loops, whose
# strides are not negative, gives one.
cdef struct Runs:
    int64_t begin
    int64_t length
    int n_loops
    Loop loops[MAX_NDIM + 1]

# The runs of a copy. Each loop has turns.
cdef void find_runs(Runs* runs, const Loop* loops, int n_loops, int64_t src_offset, int64_t itemsize) noexcept nogil
# Where the last run ends.
cdef int64_t end_of_runs(const Runs* runs) noexcept nogil
# How many words of bits a value of nbytes has.
cdef size_t n_words(size_t nbytes) noexcept nogil
# Sets the bits of the runs.
cdef void mark_runs(uint64_t* bits, const Runs* runs) noexcept nogil
# Sets the bits of bytes [begin, end).
cdef void mark_bytes(uint64_t* bits, size_t begin, size_t end) noexcept nogil
# Whether any of bytes [begin, end) is needed.
cdef bint needs_any(const Needed* needed, size_t begin, size_t end) noexcept nogil
# Makes bytes [begin, end) of the encoded value be there.
cdef bint fetch(const Needed* needed, size_t begin, size_t end) noexcept nogil
