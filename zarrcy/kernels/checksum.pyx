"""CRC-32C of Python's buffers, for stores whose medium does not notice a flipped bit."""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint32_t

__all__ = ["crc32c_of", "crc32c_of_chunks"]

crc32c_prepare()


def crc32c_of(data, *, bint by_tables=False):
    """The CRC-32C (Castagnoli) of some bytes.

    Parameters
    ----------
    data : bytes-like
    by_tables : bool, default False
        Do it as on a processor that has no instruction for it.

    Returns
    -------
    int

    Examples
    --------
    >>> from zarrcy.kernels.checksum import crc32c_of
    >>> hex(crc32c_of(b"123456789"))
    '0xe3069283'
    """
    cdef Py_buffer view
    cdef uint32_t crc
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    with nogil:
        crc = crc32c_by_tables(view.buf, view.len) if by_tables else crc32c_fast(view.buf, view.len)
    PyBuffer_Release(&view)
    return crc


def crc32c_of_chunks(data, Py_ssize_t chunk_nbytes):
    """The CRC-32C of each chunk of some bytes, and of all of them: in one pass.

    Parameters
    ----------
    data : bytes-like
    chunk_nbytes : int
        At least 1. The last chunk may be shorter.

    Returns
    -------
    checksums : list of int
    whole : int

    Examples
    --------
    >>> from zarrcy.kernels.checksum import crc32c_of_chunks
    >>> checksums, whole = crc32c_of_chunks(b"123456789", 4)
    >>> len(checksums), hex(whole)
    (3, '0xe3069283')
    """
    cdef Py_buffer view
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t nbytes
    cdef uint32_t crc
    cdef uint32_t whole = 0
    cdef uint32_t power = 0
    cdef list checksums = []
    if chunk_nbytes < 1:
        raise ValueError(f"crc32c_of_chunks: expected chunks of at least one byte, got {chunk_nbytes}")
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        while at < view.len:
            nbytes = min(chunk_nbytes, view.len - at)
            if at == 0 or nbytes < chunk_nbytes:
                power = crc32c_power(nbytes)
            with nogil:
                crc = crc32c_fast(<const char*>view.buf + at, nbytes)
                whole = crc32c_times(power, whole) ^ crc   # as crc32c.h joins its streams
            checksums.append(crc)
            at += nbytes
    finally:
        PyBuffer_Release(&view)
    return checksums, whole
