"""CRC-32C of Python's buffers, for stores whose medium does not notice a flipped bit."""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint32_t

__all__ = ["crc32c_of"]

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
