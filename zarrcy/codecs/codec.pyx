"""The contract of a codec, and how its failures become exceptions."""
from cpython.buffer cimport PyBUF_READ, PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdio cimport snprintf
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset, strncpy
from zarrcy.kernels.needed cimport fetch, mark_bytes, n_words
from zarrcy.kernels.pool cimport current_worker, resume_worker, suspend_worker

from zarrcy.errors import ChecksumError, CodecError

cdef extern from "Python.h":
    PyObject* PyBytes_FromStringAndSize(const char* data, Py_ssize_t nbytes) except NULL
    char* PyBytes_AsString(PyObject* value) except NULL
    int _PyBytes_Resize(PyObject** value, Py_ssize_t nbytes) except -1

__all__ = ["ChunkSpec", "Codec"]


class ChunkSpec:
    """What a codec is told of the chunks it will see, once, when an array is opened.

    Parameters
    ----------
    shape : tuple of int
        The shape of a chunk, in items.
    dtype : numpy.dtype
        The data type of the items in memory.

    Examples
    --------
    >>> import numpy as np
    >>> ChunkSpec((10, 20), np.dtype("float32")).nbytes
    800
    """

    __slots__ = ("dtype", "nbytes", "shape")

    def __init__(self, shape, dtype):
        self.shape = tuple(shape)
        self.dtype = dtype
        self.nbytes = dtype.itemsize
        for extent in self.shape:
            self.nbytes *= extent

    def __repr__(self):
        return f"ChunkSpec(shape={self.shape}, dtype={self.dtype.str!r})"


cdef class Codec:
    """A codec turns bytes into other bytes and back: a pure function with an immutable, picklable recipe.

    A codec in Python overrides `name`, `configuration`, `encode` and `decode`. A compiled one overrides ``encode_into``
    and ``decode_into`` of ``zarrcy/codecs/codec.pxd`` and runs without the GIL.

    Examples
    --------
    >>> class Inverted(Codec):
    ...     name = "example.inverted"
    ...     def encode(self, data):
    ...         return bytes(255 - b for b in data)
    ...     def decode(self, data, max_nbytes):
    ...         return bytes(255 - b for b in data)
    >>> bytes(Inverted().decode(Inverted().encode(b"chunk"), 5))
    b'chunk'
    """

    name = ""

    def __cinit__(self, *args, **kwargs):
        self.needs_gil = True

    def configuration(self):
        """The ``configuration`` of this codec in ``zarr.json``, as a JSON object: all that `from_configuration`
        needs."""
        return {}

    @classmethod
    def from_configuration(cls, configuration):
        """The codec that a ``configuration`` describes.

        Parameters
        ----------
        configuration : dict
            The JSON object as it stands in ``zarr.json``.

        Raises
        ------
        MetadataError
            The configuration is not one that this codec has.
        """
        return cls(**configuration)

    def bind(self, spec):
        """The codec as it works on chunks of `spec`: itself, or a copy with what the configuration leaves open filled
        in.

        Raises
        ------
        MetadataError
            The codec cannot work on such chunks.
        """
        return self

    def max_encoded_nbytes(self, nbytes):
        """The most bytes that encoding `nbytes` bytes can give."""
        return 8 * nbytes + 65536

    def fixed_encoded_nbytes(self, nbytes):
        """The size of every encoding of `nbytes` bytes; None where it depends on the bytes."""
        return None

    def encode(self, data):
        """Encode one value.

        Parameters
        ----------
        data : memoryview
            The bytes; read-only, and valid only during the call.

        Returns
        -------
        bytes-like
            The encoded bytes.

        Raises
        ------
        CodecError
            The bytes cannot be encoded.
        """
        if self.needs_gil:
            raise NotImplementedError(f"{type(self).__name__}.encode")
        return run_to_bytes(self, False, data, self.max_encoded_nbytes(memoryview(data).nbytes))

    def decode(self, data, max_nbytes):
        """Decode one value.

        Parameters
        ----------
        data : memoryview
            The encoded bytes; read-only, and valid only during the call.
        max_nbytes : int
            The most bytes that the result may have.

        Returns
        -------
        bytes-like
            The decoded bytes.

        Raises
        ------
        CodecError
            The bytes are not what this codec writes, or hold more than `max_nbytes`.
        """
        if self.needs_gil:
            raise NotImplementedError(f"{type(self).__name__}.decode")
        return run_to_bytes(self, True, data, max_nbytes)

    def decode_to(self, data, out):
        """Decode one value into memory that is there already, the way a pipeline does it.

        Parameters
        ----------
        data : bytes-like
            The encoded bytes.
        out : writable bytes-like
            Where the decoded bytes go; its length is the most that they may have.

        Returns
        -------
        int
            How many bytes were written.

        Raises
        ------
        CodecError
            The bytes are not what this codec writes, or hold more than `out` takes.
        """
        return run_to_buffer(self, True, data, out)

    def decode_part_to(self, data, out, parts, *, bint verified=False):
        """Decode some parts of a value into their places in memory that is there already, the way a pipeline does it.

        Parameters
        ----------
        data : bytes-like
            The encoded bytes. Only those that the codec asks for are looked at.
        out : writable bytes-like
            Where the decoded bytes go; its length is the most that they may have.
        parts : iterable of (int, int)
            Where the parts of the result begin and end; the bytes between them are undefined afterwards.
        verified : bool, default False
            A checksum around the encoded bytes matched.

        Returns
        -------
        nbytes : int
            The length of the whole value.
        n_read : int
            How many of the encoded bytes the codec asked for.

        Raises
        ------
        CodecError
            The bytes that were looked at are not what this codec writes, or the value holds more than `out` takes.

        Examples
        --------
        >>> from zarrcy.codecs.zstd import Zstd
        >>> out = bytearray(10)
        >>> Zstd(checksum=False).decode_part_to(Zstd(checksum=False).encode(b"0123456789"), out, [(3, 5)])[0]
        10
        >>> out[3:5]
        bytearray(b'34')
        """
        return run_part(self, data, out, list(parts), verified)

    cdef Outcome decode_into(self, Bytes src, Bytes* dst, Worker* worker, Failure* failure) noexcept nogil:
        with gil:
            return call_python(self, True, src, dst, failure)

    cdef Outcome decode_part_into(self, Bytes src, Bytes* dst, const Needed* needed, Worker* worker,
                                  Failure* failure) noexcept nogil:
        return self.decode_all_into(src, dst, needed, worker, failure)

    cdef Outcome decode_all_into(self, Bytes src, Bytes* dst, const Needed* needed, Worker* worker,
                                 Failure* failure) noexcept nogil:
        if not fetch(needed, 0, src.nbytes):
            return UNREAD
        return self.decode_into(src, dst, worker, failure)

    cdef Outcome encode_into(self, Bytes src, Bytes* dst, Worker* worker, Failure* failure) noexcept nogil:
        with gil:
            return call_python(self, False, src, dst, failure)

    def __reduce__(self):
        return (rebuild, (type(self), self.configuration()))

    def __eq__(self, other):
        if not isinstance(other, Codec):
            return NotImplemented
        return type(self) is type(other) and self.configuration() == other.configuration()

    def __hash__(self):
        import json

        return hash((type(self), json.dumps(self.configuration(), sort_keys=True)))

    def __repr__(self):
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.configuration().items())
        return f"{type(self).__name__}({arguments})"


def rebuild(cls, configuration):
    """What a pickle of a codec calls."""
    return cls.from_configuration(configuration)


cdef object run_to_bytes(Codec codec, bint decoding, data, Py_ssize_t capacity):
    """Runs the compiled function of a codec into a new bytes object that is cut to what was written."""
    if capacity < 0:
        raise ValueError(f"max_nbytes: expected at least 0, got {capacity}")
    cdef PyObject* result = PyBytes_FromStringAndSize(NULL, capacity)
    cdef Bytes dst
    try:
        dst = Bytes(PyBytes_AsString(result), capacity)
        run(codec, decoding, data, &dst)
    except BaseException:
        Py_DECREF(<object>result)
        raise
    _PyBytes_Resize(&result, dst.nbytes)
    value = <object>result
    Py_DECREF(value)
    return value


cdef object run_to_buffer(Codec codec, bint decoding, data, out):
    cdef Py_buffer view
    PyObject_GetBuffer(out, &view, PyBUF_SIMPLE | PyBUF_WRITABLE)
    cdef Bytes dst = Bytes(<char*>view.buf, view.len)
    try:
        run(codec, decoding, data, &dst)
    finally:
        PyBuffer_Release(&view)
    return dst.nbytes


# Encoded bytes that come into `into` when they are asked for: what the codec does not ask for, it cannot use.
cdef struct Copies:
    const char* data
    char* into
    size_t nbytes
    size_t n_read


cdef int copy_part(void* context, size_t begin, size_t end) noexcept nogil:
    cdef Copies* copies = <Copies*>context
    if begin > end or end > copies.nbytes:
        return 1
    if begin < end:
        memcpy(copies.into + begin, copies.data + begin, end - begin)
    copies.n_read += end - begin
    return 0


cdef object run_part(Codec codec, data, out, list parts, bint verified):
    cdef const unsigned char[::1] source = data
    cdef unsigned char[::1] target = out
    cdef bytearray room = bytearray(b"\xa5") * (source.shape[0] + 1)
    cdef bytearray bits = bytearray(8 * n_words(target.shape[0]))
    cdef Copies copies = Copies(NULL, room, source.shape[0], 0)
    cdef Needed needed = Needed(target.shape[0], 0, <uint64_t*><char*>bits, verified, copy_part, &copies)
    cdef Bytes src = Bytes(room, source.shape[0])
    cdef Bytes dst = Bytes(NULL, target.shape[0])
    cdef char* wanted
    cdef size_t begin, end
    cdef Failure failure
    cdef Outcome outcome
    if source.shape[0]:
        copies.data = <const char*>&source[0]
    if target.shape[0]:
        dst.data = <char*>&target[0]
    wanted = dst.data
    for begin, end in parts:
        if not begin < end <= dst.nbytes:
            raise ValueError(f"parts: expected 0 <= begin < end <= {dst.nbytes}, got {(begin, end)}")
        mark_bytes(<uint64_t*><char*>bits, begin, end)
        needed.begin = min(needed.begin, begin)
        needed.end = max(needed.end, end)
    memset(&failure, 0, sizeof(failure))
    failure.codec = <void*>codec
    with nogil:
        outcome = codec.decode_part_into(src, &dst, &needed, current_worker(), &failure)
    if outcome == UNREAD:
        raise AssertionError(f"expected the codec to ask for bytes inside the value: {codec!r}")
    if outcome != DONE:
        raise failure_error(outcome, &failure)
    if dst.data != wanted:
        for begin, end in parts:
            memcpy(wanted + begin, dst.data + begin, min(end, max(begin, dst.nbytes)) - begin)
    return dst.nbytes, copies.n_read


cdef int run(Codec codec, bint decoding, data, Bytes* dst) except -1:
    cdef Py_buffer view
    cdef Bytes src
    cdef Failure failure
    cdef Outcome outcome
    cdef char* wanted
    memset(&failure, 0, sizeof(failure))
    failure.codec = <void*>codec
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        src = Bytes(<char*>view.buf, view.len)
        wanted = dst.data
        with nogil:
            if decoding:
                outcome = codec.decode_into(src, dst, current_worker(), &failure)
            else:
                outcome = codec.encode_into(src, dst, current_worker(), &failure)
        if outcome == DONE and dst.data != wanted:
            memcpy(wanted, dst.data, dst.nbytes)
            dst.data = wanted
    finally:
        PyBuffer_Release(&view)
    if outcome != DONE:
        raise failure_error(outcome, &failure)
    return 0


cdef Outcome call_python(Codec codec, bint decoding, Bytes src, Bytes* dst, Failure* failure) noexcept:
    # The codec may read arrays of its own, while src and dst lie in scratch of this thread.
    if not suspend_worker():
        return fail(failure, NO_MEMORY, NULL)
    try:
        data = PyMemoryView_FromMemory(src.data, src.nbytes, PyBUF_READ)
        try:
            return copy_result(codec.decode(data, dst.nbytes) if decoding else codec.encode(data), dst, failure)
        except BaseException as error:
            # The frames of the traceback may hold arrays over `data`, which must be gone before it is released.
            from traceback import clear_frames

            clear_frames(error.__traceback__)
            raise
        finally:
            data.release()
    except BaseException as error:
        Py_INCREF(error)
        failure.error = <void*>error
        return RAISED
    finally:
        resume_worker()


cdef Outcome copy_result(result, Bytes* dst, Failure* failure) except *:
    cdef Py_buffer view
    PyObject_GetBuffer(result, &view, PyBUF_SIMPLE)
    try:
        if <size_t>view.len > dst.nbytes:
            snprintf(failure.reason, sizeof(failure.reason), "expected at most %zu bytes, got %zd", dst.nbytes,
                     view.len)
            return fail(failure, TOO_LARGE, NULL)
        if view.len:
            memcpy(dst.data, view.buf, view.len)
        dst.nbytes = view.len
        return DONE
    finally:
        PyBuffer_Release(&view)


cdef Outcome fail(Failure* failure, Outcome outcome, const char* reason) noexcept nogil:
    """Notes the reason (NULL: it stands there already) and returns the outcome."""
    if reason is not NULL:
        strncpy(failure.reason, reason, sizeof(failure.reason) - 1)
        failure.reason[sizeof(failure.reason) - 1] = 0
    return outcome


cdef object failure_error(Outcome outcome, Failure* failure):
    """The exception of a failure. The caller adds the key and raises it."""
    name = (<Codec>failure.codec).name if failure.codec is not NULL else None
    reason = (<bytes>failure.reason).decode("utf-8", "replace")
    if outcome == NO_MEMORY:
        reason = reason or "expected memory for a chunk, got none"
        return MemoryError(": ".join([part for part in (name, reason) if part]))
    if outcome == MISMATCH:
        return ChecksumError(reason, codec=name, code="checksum")
    if outcome != RAISED:
        return CodecError(reason, codec=name, code="too_large" if outcome == TOO_LARGE else "corrupt")
    cause = <object>failure.error
    failure.error = NULL
    Py_DECREF(cause)
    if not isinstance(cause, Exception) or isinstance(cause, MemoryError):
        return cause
    if isinstance(cause, CodecError):
        cause.codec = cause.codec or name
        return cause
    error = CodecError(f"{type(cause).__name__}: {cause}", codec=name, code="codec")
    error.__cause__ = cause
    return error
