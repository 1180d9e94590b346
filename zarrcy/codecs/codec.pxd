"""The contract of a codec: a pure function from bytes to bytes, and an immutable recipe of it."""
from zarrcy.kernels.buffer cimport Bytes
from zarrcy.kernels.pool cimport Worker

# What encode_into and decode_into return. A new kind of failure goes at the end, with its exception in `raise_failure`.
cdef enum Outcome:
    DONE = 0
    CORRUPT = 1      # the bytes are not what this codec writes
    MISMATCH = 2     # a stored checksum does not match the bytes
    TOO_LARGE = 3    # the value promises, or holds, more than the destination can take
    NO_MEMORY = 4
    RAISED = 5       # Failure.error holds the exception of a codec in Python

cdef struct Failure:
    char reason[200]   # "expected …, got …", NUL-terminated
    void* error        # an exception, owned, or NULL; only with RAISED
    void* codec        # the codec that failed, borrowed, or NULL

cdef class Codec:
    # False in a codec that overrides encode_into and decode_into and never takes the GIL in them.
    cdef readonly bint needs_gil

    # Decodes src into dst.data, whose capacity is dst.nbytes; sets dst.nbytes to what was written. Never writes, and
    # never allocates, more than the capacity: a header that promises more is TOO_LARGE. src and dst do not overlap. A
    # codec whose result lies in src as it is, such as a checksum, may point dst.data there instead of copying.
    cdef Outcome decode_into(self, Bytes src, Bytes* dst, Worker* worker, Failure* failure) noexcept nogil
    # The same for encoding; the capacity is at least max_encoded_nbytes(src.nbytes).
    cdef Outcome encode_into(self, Bytes src, Bytes* dst, Worker* worker, Failure* failure) noexcept nogil

cdef Outcome fail(Failure* failure, Outcome outcome, const char* reason) noexcept nogil
cdef object failure_error(Outcome outcome, Failure* failure)
