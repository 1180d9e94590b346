"""Which version of its metadata document says that an array has the shape that a transfer takes it to have."""
from libc.stdint cimport int64_t
from zarrcy.kernels.posix cimport Directory
from zarrcy.kernels.posix_compat cimport FileVersion
from zarrcy.transfer_call cimport Call

cdef class ShapeDocument:
    cdef object store
    cdef str path
    cdef object metadata
    cdef bytes key
    cdef bytes way                # to the document from the directory of a chunk,
    cdef bytes other_way          # and to that of the other format that would have the same chunks, if one can
    cdef const char* c_key        # of these, for use without the GIL
    cdef const char* c_way
    cdef const char* c_other_way
    cdef FileVersion version
    cdef bint is_found            # `version` says that shape
    cdef int64_t looked_ns        # when it was looked for last; 0 before that

    # Looks for it, unless it is known or was looked for just now. What goes wrong is not told: then it is not known.
    cdef int find(self, Directory directory) except -1
    cdef int name_documents(self) except -1   # the key and the ways
    # Lets a call look at the document, where its version is known.
    cdef void tell(self, Call* call) noexcept
    # Forgets the version that a call found to be another one.
    cdef void learn(self, const Call* call) noexcept

# Whether the document still is what the call was told: whoever makes the array longer from here on, and takes the lock
# of a chunk to write what is new in it, takes it after the caller, who holds it in that directory.
cdef bint has_shape(Call* call, int directory) noexcept nogil
