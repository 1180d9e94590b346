"""The codec "crc32c"."""
from libc.stdint cimport uint8_t, uint32_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy
from zarrcy.codecs.codec cimport CORRUPT, DONE, MISMATCH, TOO_LARGE, Codec, Failure, Outcome, fail
from zarrcy.codecs.lib.words cimport little_endian, put_little_endian
from zarrcy.kernels.buffer cimport Bytes
from zarrcy.kernels.checksum cimport crc32c_fast, crc32c_how, crc32c_prepare
from zarrcy.kernels.pool cimport Worker

from zarrcy.codecs.configuration import checked_members

__all__ = ["Crc32c"]

cdef enum:
    CHECKSUM_NBYTES = 4

crc32c_prepare()


cdef uint32_t crc32c(const char* data, size_t nbytes) noexcept nogil:
    return crc32c_fast(data, nbytes)


cdef class Crc32c(Codec):
    """The codec "crc32c": the bytes, and four more that hold their CRC-32C, little-endian.

    Examples
    --------
    >>> from zarrcy.codecs.checksums import Crc32c
    >>> Crc32c().encode(b"123456789")
    b'123456789\\x83\\x92\\x06\\xe3'
    """

    name = "crc32c"

    def __cinit__(self, *args, **kwargs):
        self.needs_gil = False
        self.verifies = True

    def __init__(self):
        pass

    @classmethod
    def from_configuration(cls, configuration):
        return cls(**checked_members(configuration))

    def max_encoded_nbytes(self, nbytes):
        return nbytes + CHECKSUM_NBYTES

    def fixed_encoded_nbytes(self, nbytes):
        return nbytes + CHECKSUM_NBYTES

    cdef Outcome decode_into(self, Bytes src, Bytes* dst, Worker* worker, Failure* failure) noexcept nogil:
        cdef uint32_t expected, found
        cdef size_t nbytes
        if src.nbytes < CHECKSUM_NBYTES:
            snprintf(failure.reason, sizeof(failure.reason), "expected at least 4 bytes, got %zu", src.nbytes)
            return fail(failure, CORRUPT, NULL)
        nbytes = src.nbytes - CHECKSUM_NBYTES
        if nbytes > dst.nbytes:
            snprintf(failure.reason, sizeof(failure.reason), "expected at most %zu bytes, got %zu", dst.nbytes, nbytes)
            return fail(failure, TOO_LARGE, NULL)
        expected = little_endian(<const uint8_t*>src.data + nbytes)
        found = crc32c_fast(src.data, nbytes)
        if found != expected:
            snprintf(failure.reason, sizeof(failure.reason), "expected checksum %08x, got %08x", expected, found)
            return fail(failure, MISMATCH, NULL)
        dst[0] = Bytes(src.data, nbytes)
        return DONE

    cdef Outcome encode_into(self, Bytes src, Bytes* dst, Worker* worker, Failure* failure) noexcept nogil:
        if src.nbytes + CHECKSUM_NBYTES > dst.nbytes:
            return fail(failure, TOO_LARGE, b"the checksum does not fit")
        cdef uint32_t crc = crc32c_fast(src.data, src.nbytes)
        if src.nbytes:
            memcpy(dst.data, src.data, src.nbytes)
        put_little_endian(<uint8_t*>dst.data + src.nbytes, crc)
        dst.nbytes = src.nbytes + CHECKSUM_NBYTES
        return DONE


def linked():
    """How CRC-32C is computed on this processor."""
    return {"crc32c": crc32c_how.decode()}
