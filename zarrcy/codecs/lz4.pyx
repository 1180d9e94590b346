"""The codec "numcodecs.lz4": one LZ4 block (lz4_Block_format.md of the LZ4 project) behind its length."""
from libc.stdint cimport uint8_t, uint32_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, malloc
from zarrcy.codecs.codec cimport CORRUPT, DONE, NO_MEMORY, TOO_LARGE, Codec, Failure, Outcome, fail
from zarrcy.codecs.lib.lz4 cimport (
    LZ4_MAX_INPUT_SIZE, LZ4_compress_fast_extState, LZ4_decompress_safe, LZ4_sizeofState, LZ4_versionString
)
from zarrcy.codecs.lib.words cimport little_endian, put_little_endian
from zarrcy.kernels.buffer cimport Bytes
from zarrcy.kernels.pool cimport ContextKind, Worker, worker_context

from zarrcy.codecs.configuration import checked_integer, checked_members
from zarrcy.errors import MetadataError

__all__ = ["LZ4"]

cdef enum:
    HEADER_NBYTES = 4   # the length of the decoded block, little-endian

cdef void* make_state() noexcept nogil:
    return malloc(LZ4_sizeofState())

cdef ContextKind COMPRESSOR = ContextKind(make_state, free)


cdef class LZ4(Codec):
    """The codec "numcodecs.lz4": an LZ4 block behind four bytes that hold its decoded length, as numcodecs frames it.

    Parameters
    ----------
    acceleration : int, default 1
        Larger is faster and compresses less; 0 and below mean 1.

    Raises
    ------
    MetadataError
        `acceleration` is not a whole number of 32 bits.

    Examples
    --------
    >>> from zarrcy.codecs.lz4 import LZ4
    >>> LZ4().decode(LZ4().encode(b"chunk" * 100), 500) == b"chunk" * 100
    True
    """

    name = "numcodecs.lz4"
    cdef readonly int acceleration

    def __cinit__(self, *args, **kwargs):
        self.needs_gil = False

    def __init__(self, acceleration=1):
        self.acceleration = checked_integer("acceleration", acceleration, -2**31, 2**31 - 1)

    def configuration(self):
        return {"acceleration": self.acceleration}

    @classmethod
    def from_configuration(cls, configuration):
        return cls(**checked_members(configuration, optional=("acceleration",)))

    def bind(self, spec):
        if spec.nbytes > LZ4_MAX_INPUT_SIZE:
            raise MetadataError(
                f"numcodecs.lz4: expected chunks of at most {LZ4_MAX_INPUT_SIZE} bytes, got {spec.nbytes}",
                hint="Choose smaller chunks, or zstd.",
            )
        return self

    def max_encoded_nbytes(self, nbytes):
        # The bound of lz4.h, LZ4_COMPRESSBOUND.
        return HEADER_NBYTES + nbytes + nbytes // 255 + 16

    cdef Outcome decode_into(self, Bytes src, Bytes* dst, Worker* worker, Failure* failure) noexcept nogil:
        cdef uint32_t promised
        cdef int result
        if src.nbytes <= HEADER_NBYTES or src.nbytes - HEADER_NBYTES > 0x7fffffff:
            return fail(failure, CORRUPT, b"expected a length and an LZ4 block, got a value of another size")
        promised = little_endian(<const uint8_t*>src.data)
        if promised > dst.nbytes:
            snprintf(failure.reason, sizeof(failure.reason), "expected at most %zu bytes, the header promises %u",
                     dst.nbytes, promised)
            return fail(failure, TOO_LARGE, NULL)
        if promised > <uint32_t>LZ4_MAX_INPUT_SIZE:
            return fail(failure, CORRUPT, b"expected the length of an LZ4 block, got one that no block can have")
        result = LZ4_decompress_safe(src.data + HEADER_NBYTES, dst.data, <int>(src.nbytes - HEADER_NBYTES),
                                     <int>promised)
        if result < 0:
            return fail(failure, CORRUPT, b"expected a valid LZ4 block, got other bytes")
        if <uint32_t>result != promised:
            snprintf(failure.reason, sizeof(failure.reason), "expected %u bytes, the block holds %d", promised, result)
            return fail(failure, CORRUPT, NULL)
        dst.nbytes = promised
        return DONE

    cdef Outcome encode_into(self, Bytes src, Bytes* dst, Worker* worker, Failure* failure) noexcept nogil:
        cdef void* state = worker_context(worker, &COMPRESSOR)
        cdef int result, capacity
        if state is NULL:
            return NO_MEMORY
        if src.nbytes > <size_t>LZ4_MAX_INPUT_SIZE:
            snprintf(failure.reason, sizeof(failure.reason), "expected at most %d bytes, got %zu", LZ4_MAX_INPUT_SIZE,
                     src.nbytes)
            return fail(failure, TOO_LARGE, NULL)
        if dst.nbytes <= HEADER_NBYTES:
            return fail(failure, TOO_LARGE, b"the encoded block does not fit")
        capacity = <int>min(dst.nbytes - HEADER_NBYTES, <size_t>0x7fffffff)
        result = LZ4_compress_fast_extState(state, src.data, dst.data + HEADER_NBYTES, <int>src.nbytes, capacity,
                                            self.acceleration)
        if result <= 0:
            return fail(failure, TOO_LARGE, b"the encoded block does not fit")
        put_little_endian(<uint8_t*>dst.data, <uint32_t>src.nbytes)
        dst.nbytes = HEADER_NBYTES + result
        return DONE


def linked():
    """The library that is linked: its name and version."""
    return {"lz4": LZ4_versionString().decode()}
