"""The codecs "gzip" (RFC 1952) and "numcodecs.zlib" (RFC 1950): deflate streams (RFC 1951) in two wrappers."""
from libc.stdint cimport uint8_t, uint32_t
from libc.stdio cimport snprintf
from libc.string cimport memchr, memcpy
from zarrcy.codecs.codec cimport (
    CORRUPT, DONE, MISMATCH, NO_MEMORY, TOO_LARGE, Codec, Failure, Outcome, fail
)
from zarrcy.codecs.lib.deflate cimport (
    DEFLATE_DONE, DEFLATE_NO_MEMORY, DEFLATE_TOO_LARGE, DEFLATE_TRUNCATED, deflate_adler32, deflate_crc32,
    deflate_library, deflate_outcome, deflate_raw, deflate_version, deflater_free, deflater_make, inflate_raw,
    inflater_free, inflater_make
)
from zarrcy.codecs.lib.words cimport big_endian, little_endian, put_big_endian, put_little_endian
from zarrcy.kernels.buffer cimport Bytes
from zarrcy.kernels.pool cimport ContextKind, Worker, worker_context

from zarrcy.codecs.configuration import checked_integer, checked_members

__all__ = ["Gzip", "Zlib"]

cdef ContextKind INFLATER = ContextKind(inflater_make, inflater_free)
cdef ContextKind DEFLATER = ContextKind(deflater_make, deflater_free)

cdef enum:
    GZIP_HEADER_NBYTES = 10
    GZIP_TRAILER_NBYTES = 8
    ZLIB_HEADER_NBYTES = 2
    ZLIB_TRAILER_NBYTES = 4

cdef enum:   # the flags of a gzip header (RFC 1952, section 2.3.1)
    FHCRC = 2
    FEXTRA = 4
    FNAME = 8
    FCOMMENT = 16
    RESERVED = 224


cdef class Gzip(Codec):
    """The codec "gzip".

    Values of several members are read as their contents one after the other; bytes behind the last member are an error.
    What is written is the same for the same bytes: the header holds no time and no name.

    Parameters
    ----------
    level : int, default 5
        From 0 (stored) to 9 (smallest).

    Raises
    ------
    MetadataError
        `level` is not a level of gzip.

    Examples
    --------
    >>> import gzip
    >>> from zarrcy.codecs.deflate import Gzip
    >>> gzip.decompress(Gzip().encode(b"chunk"))
    b'chunk'
    """

    name = "gzip"
    cdef readonly int level

    def __cinit__(self, *args, **kwargs):
        self.needs_gil = False

    def __init__(self, level=5):
        self.level = checked_integer("level", level, 0, 9)

    def configuration(self):
        return {"level": self.level}

    @classmethod
    def from_configuration(cls, configuration):
        return cls(**checked_members(configuration, required=("level",)))

    def max_encoded_nbytes(self, nbytes):
        return GZIP_HEADER_NBYTES + max_deflated_nbytes(nbytes) + GZIP_TRAILER_NBYTES

    cdef Outcome decode_into(self, Bytes src, Bytes* dst, Worker* worker, Failure* failure) noexcept nogil:
        cdef void* context = worker_context(worker, &INFLATER)
        cdef Bytes rest = src
        cdef Bytes into = dst[0]
        cdef size_t n_written = 0
        cdef Outcome outcome
        if context is NULL:
            return NO_MEMORY
        while True:
            outcome = decode_member(context, &rest, &into, failure)
            if outcome != DONE:
                return outcome
            n_written += into.nbytes
            if rest.nbytes == 0:
                dst.nbytes = n_written
                return DONE
            if into.nbytes:
                into.data += into.nbytes
            into.nbytes = dst.nbytes - n_written

    cdef Outcome encode_into(self, Bytes src, Bytes* dst, Worker* worker, Failure* failure) noexcept nogil:
        cdef uint8_t* out = <uint8_t*>dst.data
        cdef size_t n_written
        cdef Outcome outcome
        if dst.nbytes < GZIP_HEADER_NBYTES + GZIP_TRAILER_NBYTES:
            return fail(failure, TOO_LARGE, b"the encoded value does not fit")
        # Deflate, no flags, no time, the hint at the level, an unknown system.
        memcpy(out, b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff", GZIP_HEADER_NBYTES)
        out[8] = 2 if self.level == 9 else 4 if self.level == 1 else 0
        outcome = deflate(self.level, src, out + GZIP_HEADER_NBYTES,
                          dst.nbytes - GZIP_HEADER_NBYTES - GZIP_TRAILER_NBYTES, &n_written, worker, failure)
        if outcome != DONE:
            return outcome
        n_written += GZIP_HEADER_NBYTES
        put_little_endian(out + n_written, deflate_crc32(src.data, src.nbytes))
        put_little_endian(out + n_written + 4, <uint32_t>src.nbytes)
        dst.nbytes = n_written + GZIP_TRAILER_NBYTES
        return DONE


cdef class Zlib(Codec):
    """The codec "numcodecs.zlib", which v2 calls "zlib".

    Parameters
    ----------
    level : int, default 1
        From 0 (stored) to 9 (smallest); -1 is zlib's default, 6.

    Raises
    ------
    MetadataError
        `level` is not a level of zlib.

    Examples
    --------
    >>> import zlib
    >>> from zarrcy.codecs.deflate import Zlib
    >>> zlib.decompress(Zlib().encode(b"chunk"))
    b'chunk'
    """

    name = "numcodecs.zlib"
    cdef readonly int level

    def __cinit__(self, *args, **kwargs):
        self.needs_gil = False

    def __init__(self, level=1):
        self.level = checked_integer("level", level, -1, 9)

    def configuration(self):
        return {"level": self.level}

    @classmethod
    def from_configuration(cls, configuration):
        return cls(**checked_members(configuration, optional=("level",)))

    def max_encoded_nbytes(self, nbytes):
        return ZLIB_HEADER_NBYTES + max_deflated_nbytes(nbytes) + ZLIB_TRAILER_NBYTES

    cdef Outcome decode_into(self, Bytes src, Bytes* dst, Worker* worker, Failure* failure) noexcept nogil:
        cdef const uint8_t* data = <const uint8_t*>src.data
        cdef void* context = worker_context(worker, &INFLATER)
        cdef size_t n_read, n_written
        cdef deflate_outcome result
        if context is NULL:
            return NO_MEMORY
        if src.nbytes < ZLIB_HEADER_NBYTES + ZLIB_TRAILER_NBYTES:
            return fail(failure, CORRUPT, b"expected a header, a stream and a checksum, got too few bytes")
        # Method 8 with a window of at most 32 KiB, no preset dictionary, and the check of the two bytes.
        if data[0] & 15 != 8 or data[0] >> 4 > 7 or data[1] & 32 or (data[0] << 8 | data[1]) % 31:
            return fail(failure, CORRUPT, b"expected a zlib header, got other bytes")
        src.nbytes -= ZLIB_HEADER_NBYTES + ZLIB_TRAILER_NBYTES
        data += ZLIB_HEADER_NBYTES
        result = inflate_raw(context, data, src.nbytes, &n_read, <uint8_t*>dst.data, dst.nbytes, &n_written)
        if result != DEFLATE_DONE:
            return inflating_failure(result, dst.nbytes, failure)
        if n_read != src.nbytes:
            snprintf(failure.reason, sizeof(failure.reason), "expected one stream, got %zu bytes behind it",
                     src.nbytes - n_read)
            return fail(failure, CORRUPT, NULL)
        if deflate_adler32(dst.data, n_written) != big_endian(data + n_read):
            return fail(failure, MISMATCH, b"the checksum (Adler-32) does not match the content")
        dst.nbytes = n_written
        return DONE

    cdef Outcome encode_into(self, Bytes src, Bytes* dst, Worker* worker, Failure* failure) noexcept nogil:
        cdef uint8_t* out = <uint8_t*>dst.data
        cdef size_t n_written
        cdef int level = 6 if self.level < 0 else self.level
        cdef int hint = 0 if level < 2 else 1 if level < 6 else 2 if level == 6 else 3
        cdef Outcome outcome
        if dst.nbytes < ZLIB_HEADER_NBYTES + ZLIB_TRAILER_NBYTES:
            return fail(failure, TOO_LARGE, b"the encoded value does not fit")
        out[0] = 0x78
        out[1] = hint << 6
        out[1] += 31 - (out[0] << 8 | out[1]) % 31
        outcome = deflate(level, src, out + ZLIB_HEADER_NBYTES,
                          dst.nbytes - ZLIB_HEADER_NBYTES - ZLIB_TRAILER_NBYTES, &n_written, worker, failure)
        if outcome != DONE:
            return outcome
        n_written += ZLIB_HEADER_NBYTES
        put_big_endian(out + n_written, deflate_adler32(src.data, src.nbytes))
        dst.nbytes = n_written + ZLIB_TRAILER_NBYTES
        return DONE


cdef Py_ssize_t max_deflated_nbytes(Py_ssize_t nbytes):
    # zlib-ng's fastest level may spend 9 bits on a byte; what the libraries add for blocks stays below the rest.
    return nbytes + nbytes // 8 + nbytes // 256 + 256


cdef Outcome decode_member(void* context, Bytes* rest, Bytes* into, Failure* failure) noexcept nogil:
    """Decodes the gzip member at the front of `rest`, takes it off there, and sets into.nbytes to what was written."""
    cdef const uint8_t* data = <const uint8_t*>rest.data
    cdef size_t header_nbytes = gzip_header_nbytes(data, rest.nbytes)
    cdef size_t n_read, n_written
    cdef deflate_outcome result
    if header_nbytes == 0:
        return fail(failure, CORRUPT, b"expected a gzip header, got other bytes")
    data += header_nbytes
    result = inflate_raw(context, data, rest.nbytes - header_nbytes, &n_read, <uint8_t*>into.data, into.nbytes,
                         &n_written)
    if result != DEFLATE_DONE:
        return inflating_failure(result, into.nbytes, failure)
    if rest.nbytes - header_nbytes - n_read < GZIP_TRAILER_NBYTES:
        return fail(failure, CORRUPT, b"expected a checksum and a length, the value ends before")
    data += n_read
    if deflate_crc32(into.data, n_written) != little_endian(data):
        return fail(failure, MISMATCH, b"the checksum (CRC-32) does not match the content")
    if <uint32_t>n_written != little_endian(data + 4):
        return fail(failure, MISMATCH, b"the length at the end of the member is not the length of its content")
    rest.data += header_nbytes + n_read + GZIP_TRAILER_NBYTES
    rest.nbytes -= header_nbytes + n_read + GZIP_TRAILER_NBYTES
    into.nbytes = n_written
    return DONE


cdef size_t gzip_header_nbytes(const uint8_t* data, size_t nbytes) noexcept nogil:
    """The length of the gzip header at `data`, optional fields included; 0 when there is none."""
    cdef size_t end = GZIP_HEADER_NBYTES
    cdef int flags
    if nbytes < GZIP_HEADER_NBYTES or data[0] != 0x1f or data[1] != 0x8b or data[2] != 8 or data[3] & RESERVED:
        return 0
    flags = data[3]
    if flags & FEXTRA:
        if nbytes - end < 2:
            return 0
        end += 2 + (data[end] | data[end + 1] << 8)
        if end > nbytes:
            return 0
    if flags & FNAME:
        end = after_text(data, end, nbytes)
    if flags & FCOMMENT:
        end = after_text(data, end, nbytes)
    if flags & FHCRC:
        if end + 2 > nbytes or deflate_crc32(data, end) & 0xffff != (data[end] | data[end + 1] << 8):
            return 0
        end += 2
    return end if end <= nbytes else 0


cdef size_t after_text(const uint8_t* data, size_t start, size_t nbytes) noexcept nogil:
    """The position behind the NUL that ends the text at `start`; beyond nbytes when there is none."""
    cdef const void* end = memchr(data + start, 0, nbytes - start) if start < nbytes else NULL
    return nbytes + 1 if end is NULL else <const uint8_t*>end - data + 1


cdef Outcome deflate(int level, Bytes src, uint8_t* out, size_t capacity, size_t* n_written, Worker* worker,
                     Failure* failure) noexcept nogil:
    cdef void* context = worker_context(worker, &DEFLATER)
    if context is NULL:
        return NO_MEMORY
    result = deflate_raw(context, level, <const uint8_t*>src.data, src.nbytes, out, capacity, n_written)
    if result == DEFLATE_NO_MEMORY:
        return NO_MEMORY
    if result != DEFLATE_DONE:
        return fail(failure, TOO_LARGE, b"the encoded value does not fit")
    return DONE


cdef Outcome inflating_failure(deflate_outcome result, size_t capacity, Failure* failure) noexcept nogil:
    if result == DEFLATE_NO_MEMORY:
        return NO_MEMORY
    if result == DEFLATE_TOO_LARGE:
        snprintf(failure.reason, sizeof(failure.reason), "expected at most %zu bytes more, the stream holds more",
                 capacity)
        return fail(failure, TOO_LARGE, NULL)
    if result == DEFLATE_TRUNCATED:
        return fail(failure, CORRUPT, b"expected the end of the deflate stream, the value ends before")
    return fail(failure, CORRUPT, b"expected a valid deflate stream, got other bytes")


def linked():
    """The library that is linked: its name and version."""
    return {deflate_library().decode(): deflate_version().decode()}
