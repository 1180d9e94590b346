"""Erlang's external term format, as far as Mnesia's tables and calls need it.

===================  =======================================================
Erlang               Python
===================  =======================================================
atom                 `Atom`, a `str`
integer              `int`
float                `float`
binary               `bytes`; any C-contiguous buffer is encoded
tuple, list          `tuple`, `list`
``fun m:f/1``        `ExternalFun`
anything else        `Encoded`: its bytes, which can be sent back as they are
===================  =======================================================

Lengths are checked against what is there, and depth is bounded: no message makes a process read beyond its buffer.
"""
from cpython.buffer cimport (
    PyBUF_ANY_CONTIGUOUS, PyBUF_C_CONTIGUOUS, PyBuffer_Release, PyObject_CheckBuffer, PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_RawFree, PyMem_RawRealloc
from libc.string cimport memcpy

import struct
from typing import NamedTuple

__all__ = ["Atom", "Encoded", "ExternalFun", "decode", "encode"]

cdef enum:
    MAX_DEPTH = 200
    # https://www.erlang.org/doc/apps/erts/erl_ext_dist.html
    VERSION = 131
    SMALL_INTEGER = 97
    INTEGER = 98
    OLD_ATOM = 100
    PORT = 102
    PID = 103
    SMALL_TUPLE = 104
    LARGE_TUPLE = 105
    NIL = 106
    STRING = 107
    LIST = 108
    BINARY = 109
    SMALL_BIG = 110
    LARGE_BIG = 111
    NEW_FUN = 112
    EXPORT = 113
    NEW_REFERENCE = 114
    SMALL_OLD_ATOM = 115
    MAP = 116
    ATOM = 118
    SMALL_ATOM = 119
    V4_PORT = 120
    NEW_PID = 88
    NEW_PORT = 89
    NEWER_REFERENCE = 90
    NEW_FLOAT = 70
    BIT_BINARY = 77


class Atom(str):
    """An atom; a plain `str` is no term.

    Examples
    --------
    >>> encode(Atom("ok")) == b"\\x83w\\x02ok"
    True
    """

    __slots__ = ()


class ExternalFun(NamedTuple):
    """``fun module:function/arity``."""

    module: str
    function: str
    arity: int


class Encoded(NamedTuple):
    """A term that is kept as it was encoded, without the version byte in front."""

    data: bytes


cdef class TermWriter:
    def __dealloc__(self):
        PyMem_RawFree(self.data)

    cdef int clear(self) except -1:
        """Forget what was written, and give the memory of a large value back."""
        self.nbytes = 0
        if self.capacity > 1 << 20:
            PyMem_RawFree(self.data)
            self.data = NULL
            self.capacity = 0
        return 0

    cdef char* grow(self, size_t n) except NULL:
        """Room for `n` more bytes, which the caller fills."""
        cdef size_t capacity = self.capacity
        cdef char* data
        if self.nbytes + n > capacity:
            capacity = max(self.nbytes + n, 2 * capacity, <size_t>1024)
            data = <char*>PyMem_RawRealloc(self.data, capacity)
            if data == NULL:
                raise MemoryError(f"a term of {self.nbytes + n} bytes")
            self.data = data
            self.capacity = capacity
        self.nbytes += n
        return self.data + self.nbytes - n

    cdef int put_byte(self, unsigned char value) except -1:
        self.grow(1)[0] = value
        return 0

    cdef int put_number(self, unsigned long long value, int n) except -1:
        cdef char* to = self.grow(n)
        cdef int i
        for i in range(n):
            to[i] = <char>(value >> (8 * (n - 1 - i)) & 0xFF)
        return 0

    cdef int put_bytes(self, bytes data) except -1:
        cdef const char* source = data
        memcpy(self.grow(len(data)), source, len(data))
        return 0

    cdef int put_atom(self, object name) except -1:
        cdef bytes text = name.encode()
        if len(name) > 255:
            raise ValueError(f"atom of {len(name)} characters: expected at most 255")
        if len(text) < 256:
            self.put_byte(SMALL_ATOM)
            self.put_byte(<unsigned char>len(text))
        else:
            self.put_byte(ATOM)
            self.put_number(len(text), 2)
        self.put_bytes(text)
        return 0

    cdef int put_integer(self, object value) except -1:
        cdef bytes digits
        if 0 <= value < 256:
            self.put_byte(SMALL_INTEGER)
            self.put_byte(value)
        elif -(1 << 31) <= value < 1 << 31:
            self.put_byte(INTEGER)
            self.put_number(<unsigned int><int>value, 4)
        else:
            digits = abs(value).to_bytes((abs(value).bit_length() + 7) // 8, "little")
            if len(digits) > 255:
                raise ValueError(f"integer of {len(digits)} bytes: expected at most 255")
            self.put_byte(SMALL_BIG)
            self.put_byte(<unsigned char>len(digits))
            self.put_byte(value < 0)
            self.put_bytes(digits)
        return 0

    cdef int put_binary(self, object value) except -1:
        cdef Py_buffer view
        cdef char* to
        PyObject_GetBuffer(value, &view, PyBUF_C_CONTIGUOUS)
        try:
            if view.len >= 1 << 31:
                raise ValueError(f"binary of {view.len} bytes: expected less than 2 GiB")
            self.put_byte(BINARY)
            self.put_number(view.len, 4)
            to = self.grow(view.len)
            with nogil:
                memcpy(to, view.buf, view.len)
        finally:
            PyBuffer_Release(&view)
        return 0

    cdef int put_sequence(self, object terms) except -1:
        cdef Py_ssize_t n = len(terms)
        if type(terms) is not list:
            if n < 256:
                self.put_byte(SMALL_TUPLE)
                self.put_byte(<unsigned char>n)
            else:
                self.put_byte(LARGE_TUPLE)
                self.put_number(n, 4)
        elif n:
            self.put_byte(LIST)
            self.put_number(n, 4)
        for term in terms:
            self.put(term)
        if type(terms) is list:
            self.put_byte(NIL)
        return 0

    cdef int put(self, object term) except -1:
        kind = type(term)
        if kind is Atom:
            self.put_atom(term)
        elif kind is int:
            self.put_integer(term)
        elif kind is tuple or kind is list:
            self.put_sequence(term)
        elif kind is Encoded:
            self.put_bytes(term.data)
        elif kind is ExternalFun:
            self.put_byte(EXPORT)
            self.put_atom(term.module)
            self.put_atom(term.function)
            self.put_integer(term.arity)
        elif kind is bool:
            self.put_atom("true" if term else "false")
        elif kind is float:
            self.put_byte(NEW_FLOAT)
            self.put_bytes(struct.pack(">d", term))
        elif PyObject_CheckBuffer(term):
            self.put_binary(term)
        else:
            raise TypeError(f"term: expected one that Erlang has, got {kind.__name__}")
        return 0


cdef class TermReader:
    """A place in memory that somebody else keeps."""

    cdef const unsigned char* data
    cdef size_t nbytes
    cdef size_t at
    cdef int depth

    cdef const unsigned char* take(self, size_t n) except NULL:
        if n > self.nbytes - self.at:
            raise ValueError(f"term: expected {n} bytes at {self.at}, got {self.nbytes - self.at}")
        self.at += n
        return self.data + self.at - n

    cdef size_t number(self, int n) except? 999:
        cdef const unsigned char* source = self.take(n)
        cdef size_t value = 0
        cdef int i
        for i in range(n):
            value = value << 8 | source[i]
        return value

    cdef bytes blob(self, size_t n):
        cdef const unsigned char* source = self.take(n)
        return PyBytes_FromStringAndSize(<const char*>source, n)

    cdef object atom(self, int length_nbytes, str encoding):
        return Atom(self.blob(self.number(length_nbytes)).decode(encoding))

    cdef object big(self, size_t n):
        cdef bint negative = self.take(1)[0]
        value = int.from_bytes(self.blob(n), "little")
        return -value if negative else value

    cdef list terms(self, size_t n):
        # Each term takes a byte at least: a length that cannot be true is refused before memory is taken for it.
        if n > self.nbytes - self.at:
            raise ValueError(f"term: expected {n} terms at {self.at}, got {self.nbytes - self.at} bytes")
        cdef list found = []
        cdef size_t _i
        for _i in range(n):
            found.append(self.term())
        return found

    cdef object items(self, size_t start):
        cdef list found = self.terms(self.number(4))
        return found if self.term() == [] else self.as_it_is(start)  # an improper list has no form in Python

    cdef object as_it_is(self, size_t start):
        return Encoded(PyBytes_FromStringAndSize(<const char*>self.data + start, self.at - start))

    cdef object term(self):
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ValueError(f"term: expected at most {MAX_DEPTH} levels")
        try:
            return self.tagged()
        finally:
            self.depth -= 1

    cdef object tagged(self):
        cdef size_t start = self.at
        cdef int tag = self.take(1)[0]
        if tag == SMALL_INTEGER:
            return <object>self.take(1)[0]
        if tag == INTEGER:
            return <int><unsigned int>self.number(4)
        if tag == SMALL_ATOM:
            return self.atom(1, "utf-8")
        if tag == ATOM:
            return self.atom(2, "utf-8")
        if tag == SMALL_OLD_ATOM:
            return self.atom(1, "latin-1")
        if tag == OLD_ATOM:
            return self.atom(2, "latin-1")
        if tag == BINARY:
            return self.blob(self.number(4))
        if tag == SMALL_TUPLE:
            return tuple(self.terms(self.number(1)))
        if tag == LARGE_TUPLE:
            return tuple(self.terms(self.number(4)))
        if tag == NIL:
            return []
        if tag == STRING:
            return list(self.blob(self.number(2)))
        if tag == LIST:
            return self.items(start)
        if tag == SMALL_BIG:
            return self.big(self.number(1))
        if tag == LARGE_BIG:
            return self.big(self.number(4))
        if tag == NEW_FLOAT:
            return struct.unpack(">d", self.blob(8))[0]
        self.skip(tag)
        return self.as_it_is(start)

    cdef int skip(self, int tag) except -1:
        """Step over what has no form in Python."""
        cdef size_t n
        if tag in (PID, NEW_PID):
            self.term()
            self.take(9 if tag == PID else 12)
        elif tag in (PORT, NEW_PORT, V4_PORT):
            self.term()
            self.take({PORT: 5, NEW_PORT: 8}.get(tag, 12))
        elif tag in (NEW_REFERENCE, NEWER_REFERENCE):
            n = self.number(2)
            self.term()
            self.take((1 if tag == NEW_REFERENCE else 4) + 4 * n)
        elif tag == EXPORT:
            self.terms(3)
        elif tag == NEW_FUN:
            n = self.number(4)
            if n < 4:
                raise ValueError(f"term: expected a fun at {self.at}")
            self.take(n - 4)
        elif tag == BIT_BINARY:
            n = self.number(4)
            self.take(n + 1)
        elif tag == MAP:
            self.terms(2 * self.number(4))
        else:
            raise ValueError(f"term: expected a known tag at {self.at - 1}, got {tag}")
        return 0


cdef object read_term(const unsigned char* data, size_t nbytes):
    """The term that the bytes hold, after an optional version byte. ValueError when they are no whole term."""
    cdef TermReader reader = TermReader()
    reader.data = data
    reader.nbytes = nbytes
    if nbytes and data[0] == VERSION:
        reader.at = 1
    term = reader.term()
    if reader.at != nbytes:
        raise ValueError(f"term: expected its end at {reader.at}, got {nbytes} bytes")
    return term


def encode(term):
    """The bytes of a term, with the version byte in front.

    Raises
    ------
    TypeError
        It is no term.

    Examples
    --------
    >>> decode(encode((Atom("chunk"), [1, -2, 2**40], b"abc")))
    ('chunk', [1, -2, 1099511627776], b'abc')
    """
    cdef TermWriter writer = TermWriter()
    writer.put_byte(VERSION)
    writer.put(term)
    return PyBytes_FromStringAndSize(writer.data, writer.nbytes)


def decode(data):
    """The term that `encode`, or ``term_to_binary`` of Erlang, made.

    Raises
    ------
    ValueError
        The bytes are no whole term.
    """
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_ANY_CONTIGUOUS)
    try:
        return read_term(<const unsigned char*>view.buf, view.len)
    finally:
        PyBuffer_Release(&view)
