"""The codec "zstd" (RFC 8878)."""
from libc.stdint cimport uint8_t
from libc.stdio cimport snprintf
from zarrcy.codecs.codec cimport (
    CORRUPT, DONE, MISMATCH, NO_MEMORY, TOO_LARGE, UNREAD, Codec, Failure, Outcome, fail
)
from zarrcy.codecs.lib.zstd cimport (
    ZARRCY_ZSTD_STABLE_OUTPUT, ZSTD_CONTENTSIZE_ERROR, ZSTD_CONTENTSIZE_UNKNOWN, ZSTD_c_checksumFlag,
    ZSTD_c_compressionLevel, ZSTD_CCtx, ZSTD_CCtx_setParameter, ZSTD_compress2, ZSTD_compressBound, ZSTD_createCCtx,
    ZSTD_createDCtx, ZSTD_DCtx, ZSTD_DCtx_reset, ZSTD_DCtx_setParameter, ZSTD_decompressDCtx, ZSTD_decompressStream,
    ZSTD_error_checksum_wrong, ZSTD_error_dstSize_tooSmall, ZSTD_error_memory_allocation, ZSTD_freeCCtx, ZSTD_freeDCtx,
    ZSTD_getErrorCode, ZSTD_getErrorName, ZSTD_getFrameContentSize, ZSTD_inBuffer, ZSTD_isError, ZSTD_maxCLevel,
    ZSTD_minCLevel, ZSTD_outBuffer, ZSTD_reset_session_only, ZSTD_versionString
)
from zarrcy.kernels.buffer cimport Bytes
from zarrcy.kernels.needed cimport Needed, fetch
from zarrcy.kernels.pool cimport ContextKind, Worker, worker_context

from zarrcy.codecs.configuration import checked_boolean, checked_integer, checked_members

cdef extern from *:
    const char* ZARRCY_CODECS_FROM

__all__ = ["Zstd"]

LINKED_FROM = ZARRCY_CODECS_FROM.decode()

cdef enum:
    BLOCK_NBYTES = 131072  # of content at most (section 3.1.1.2.4)
    HEADER_NBYTES = 18     # the longest header of a frame (RFC 8878, section 3.1.1.1)
    DESCRIPTOR = 4         # where the header's descriptor stands, behind the magic number,
    HAS_CHECKSUM = 4       # and its bit for a checksum behind the content

cdef void* make_compressor() noexcept nogil:
    return ZSTD_createCCtx()

cdef void free_compressor(void* context) noexcept nogil:
    ZSTD_freeCCtx(<ZSTD_CCtx*>context)

cdef void* make_decompressor() noexcept nogil:
    return ZSTD_createDCtx()

cdef void free_decompressor(void* context) noexcept nogil:
    ZSTD_freeDCtx(<ZSTD_DCtx*>context)

cdef ContextKind COMPRESSOR = ContextKind(make_compressor, free_compressor)
cdef ContextKind DECOMPRESSOR = ContextKind(make_decompressor, free_decompressor)


cdef class Zstd(Codec):
    """The codec "zstd": Zstandard, with a checksum in each frame unless told otherwise.

    Frames of unknown size, several frames one after the other, and skippable frames are all read.

    Parameters
    ----------
    level : int, default 0
        From about -131072 (fastest) to 22 (smallest); 0 is the library's default, 3.
    checksum : bool, default True
        Whether each frame ends in four bytes of XXH64 of its content, which every reader of Zstandard checks.

    Raises
    ------
    MetadataError
        `level` is not a level of the library, or `checksum` not a boolean.

    Examples
    --------
    >>> from zarrcy.codecs.zstd import Zstd
    >>> codec = Zstd(level=5)
    >>> codec.decode(codec.encode(b"chunk" * 100), 500) == b"chunk" * 100
    True
    """

    name = "zstd"
    cdef readonly int level
    cdef readonly bint checksum

    def __cinit__(self, *args, **kwargs):
        self.needs_gil = False
        self.decodes_parts = True

    def __init__(self, level=0, checksum=True):
        self.level = checked_integer("level", level, ZSTD_minCLevel(), ZSTD_maxCLevel())
        self.checksum = checked_boolean("checksum", checksum)

    def configuration(self):
        return {"level": self.level, "checksum": self.checksum}

    @classmethod
    def from_configuration(cls, configuration):
        # Writers older than the checksum flag leave it out.
        return cls(**{"checksum": False, **checked_members(configuration, required=("level",), optional=("checksum",))})

    def max_encoded_nbytes(self, nbytes):
        return ZSTD_compressBound(nbytes)

    cdef Outcome decode_into(self, Bytes src, Bytes* dst, Worker* worker, Failure* failure) noexcept nogil:
        cdef unsigned long long promised
        cdef size_t result
        cdef ZSTD_DCtx* context
        if src.nbytes == 0:
            return fail(failure, CORRUPT, b"expected a frame, got an empty value")
        promised = ZSTD_getFrameContentSize(src.data, src.nbytes)
        if promised == ZSTD_CONTENTSIZE_ERROR:
            return fail(failure, CORRUPT, b"expected a frame header, got other bytes")
        if promised != ZSTD_CONTENTSIZE_UNKNOWN and promised > dst.nbytes:
            snprintf(failure.reason, sizeof(failure.reason), "expected at most %zu bytes, the header promises %llu",
                     dst.nbytes, promised)
            return fail(failure, TOO_LARGE, NULL)
        context = <ZSTD_DCtx*>worker_context(worker, &DECOMPRESSOR)
        if context is NULL:
            return NO_MEMORY
        # The whole value at once: the destination is the window, so that a frame's window size allocates nothing.
        result = ZSTD_decompressDCtx(context, dst.data, dst.nbytes, src.data, src.nbytes)
        if ZSTD_isError(result):
            return decoding_failure(result, dst.nbytes, failure)
        dst.nbytes = result
        return DONE

    cdef Outcome decode_part_into(self, Bytes src, Bytes* dst, const Needed* needed, Worker* worker,
                                  Failure* failure) noexcept nogil:
        # A frame is decoded from its beginning. What lies behind the last byte that is needed is left alone, unless
        # that would leave the frame's checksum unchecked while nothing else has checked the value.
        cdef size_t head = min(src.nbytes, <size_t>HEADER_NBYTES)
        cdef ZSTD_DCtx* context
        cdef Outcome outcome
        if not fetch(needed, 0, head):
            return UNREAD
        if (needed.end + BLOCK_NBYTES > dst.nbytes
                or ZSTD_getFrameContentSize(src.data, head) != dst.nbytes
                or (<const uint8_t*>src.data)[DESCRIPTOR] & HAS_CHECKSUM and not needed.is_verified):
            return self.decode_all_into(src, dst, needed, worker, failure)
        context = <ZSTD_DCtx*>worker_context(worker, &DECOMPRESSOR)
        if context is NULL:
            return NO_MEMORY
        outcome = decode_front(context, src, dst[0], needed)
        ZSTD_DCtx_reset(context, ZSTD_reset_session_only)
        if outcome == CORRUPT:   # the whole decides what is wrong, if anything is
            return self.decode_all_into(src, dst, needed, worker, failure)
        return outcome

    cdef Outcome encode_into(self, Bytes src, Bytes* dst, Worker* worker, Failure* failure) noexcept nogil:
        cdef ZSTD_CCtx* context = <ZSTD_CCtx*>worker_context(worker, &COMPRESSOR)
        cdef size_t result
        if context is NULL:
            return NO_MEMORY
        ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, self.level)
        ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, self.checksum)
        result = ZSTD_compress2(context, dst.data, dst.nbytes, src.data, src.nbytes)
        if ZSTD_isError(result):
            if ZSTD_getErrorCode(result) == ZSTD_error_memory_allocation:
                return NO_MEMORY
            return fail(failure, TOO_LARGE, ZSTD_getErrorName(result))
        dst.nbytes = result
        return DONE


cdef Outcome decode_front(ZSTD_DCtx* context, Bytes src, Bytes dst, const Needed* needed) noexcept nogil:
    """The content of a frame up to the last byte that is needed, block by block; CORRUPT when that cannot be done."""
    cdef ZSTD_inBuffer source = ZSTD_inBuffer(src.data, min(src.nbytes, <size_t>HEADER_NBYTES), 0)
    cdef ZSTD_outBuffer target = ZSTD_outBuffer(dst.data, dst.nbytes, 0)
    cdef size_t wanted
    if ZSTD_isError(ZSTD_DCtx_setParameter(context, ZARRCY_ZSTD_STABLE_OUTPUT, 1)):
        return CORRUPT
    while target.pos < needed.end:
        # What the library asks for is one block; given more, it would decode more, or copy.
        wanted = ZSTD_decompressStream(context, &target, &source)
        if ZSTD_isError(wanted):
            return CORRUPT
        if target.pos >= needed.end:
            return DONE
        if wanted == 0 or wanted > src.nbytes - source.pos:
            return CORRUPT
        source.size = source.pos + wanted
        if not fetch(needed, source.pos, source.size):
            return UNREAD
    return DONE


cdef Outcome decoding_failure(size_t result, size_t capacity, Failure* failure) noexcept nogil:
    code = ZSTD_getErrorCode(result)
    if code == ZSTD_error_memory_allocation:
        return NO_MEMORY
    if code == ZSTD_error_dstSize_tooSmall:
        snprintf(failure.reason, sizeof(failure.reason), "expected at most %zu bytes, the frames hold more", capacity)
        return fail(failure, TOO_LARGE, NULL)
    if code == ZSTD_error_checksum_wrong:
        return fail(failure, MISMATCH, b"the checksum of the frame does not match its content")
    snprintf(failure.reason, sizeof(failure.reason), "expected valid frames, got: %s", ZSTD_getErrorName(result))
    return fail(failure, CORRUPT, NULL)


def linked():
    """The library that is linked: its name and version."""
    return {"zstd": ZSTD_versionString().decode()}
