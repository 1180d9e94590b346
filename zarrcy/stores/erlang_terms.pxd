"""Terms of Erlang's external term format, written into and read from memory."""

cdef class TermWriter:
    cdef char* data
    cdef size_t nbytes
    cdef size_t capacity
    cdef int clear(self) except -1
    cdef char* grow(self, size_t n) except NULL
    cdef int put(self, object term) except -1
    cdef int put_byte(self, unsigned char value) except -1
    cdef int put_number(self, unsigned long long value, int n) except -1
    cdef int put_bytes(self, bytes data) except -1
    cdef int put_atom(self, object name) except -1
    cdef int put_integer(self, object value) except -1
    cdef int put_binary(self, object value) except -1
    cdef int put_sequence(self, object terms) except -1


cdef object read_term(const unsigned char* data, size_t nbytes)
