"""The contract of a codec: a pure function from bytes to bytes, and an immutable recipe of it."""
from zarrcy.kernels.buffer cimport Bytes
from zarrcy.kernels.needed cimport Needed
from zarrcy.kernels.pool cimport Worker

# What encode_into and decode_into return. A new kind of failure goes at the end, with its exception in `raise_failure`.
cdef enum Outcome:
    DONE = 0
    CORRUPT = 1      # the bytes are not what this codec writes
    MISMATCH = 2     # a stored checksum does not match the bytes
    TOO_LARGE = 3    # the value promises, or holds, more than the destination can take
    NO_MEMORY = 4
    RAISED = 5       # Failure.error holds the exception of a codec in Python
    UNREAD = 6       # the bytes of the value cannot be had; whoever reads them knows why
    GIVEN_UP = 7     # the worker was stopped; whoever stopped it knows why

cdef struct Failure:
    char reason[200]   # "expected …, got …", NUL-terminated
    void* error        # an exception, owned, or NULL; only with RAISED
    void* codec        # the codec that failed, borrowed, or NULL

cdef class Codec:
    # False in a codec that overrides encode_into and decode_into and never takes the GIL in them.
    cdef readonly bint needs_gil
    # True in a codec that overrides decode_part_into.
    cdef readonly bint decodes_parts
    # True in a codec whose decode_into fails when the bytes are not all as they were encoded, and does not change them.
    cdef readonly bint verifies

    # Decodes src into dst.data, whose capacity is dst.nbytes; sets dst.nbytes to what was written. Never writes, and
    # never allocates, more than the capacity: a header that promises more is TOO_LARGE. src and dst do not overlap. A
    # codec whose result lies in src as it is, such as a checksum, may point dst.data there instead of copying.
    cdef Outcome decode_into(self, Bytes src, Bytes* dst, Worker* worker, Failure* failure) noexcept nogil
    # As decode_into, where not all of the result is needed: only the bytes that `needed` tells have to be written, each
    # at its place. The others are undefined, but dst.nbytes is set to the length of the whole. src.data has room for
    # all of the encoded value; a part of it is there after `fetch` only. A part that cannot be decoded in less time
    # than the whole, or not without hiding that the value is broken, is for decode_all_into.
    cdef Outcome decode_part_into(self, Bytes src, Bytes* dst, const Needed* needed, Worker* worker,
                                  Failure* failure) noexcept nogil
    # Fetches what is missing, and decodes all.
    cdef Outcome decode_all_into(self, Bytes src, Bytes* dst, const Needed* needed, Worker* worker,
                                 Failure* failure) noexcept nogil
    # Encodes src into dst; the capacity is at least max_encoded_nbytes(src.nbytes).
    cdef Outcome encode_into(self, Bytes src, Bytes* dst, Worker* worker, Failure* failure) noexcept nogil

cdef Outcome fail(Failure* failure, Outcome outcome, const char* reason) noexcept nogil
cdef object failure_error(Outcome outcome, Failure* failure)
