"""The way between an array and its store."""
from libc.stdint cimport int64_t
from zarrcy.codecs.pipeline cimport CodecPipeline
from zarrcy.kernels.copy cimport MAX_NDIM
from zarrcy.kernels.plan cimport Plan
from zarrcy.kernels.posix cimport Directory
from zarrcy.transfer_call cimport Call
from zarrcy.transfer_document cimport ShapeDocument

cdef enum:
    KEEP_NBYTES = 16 << 20        # scratch that the calling thread keeps between calls

cdef class Transfer:
    cdef readonly object store
    cdef str path
    cdef object metadata
    cdef readonly object dtype
    cdef readonly tuple shape
    cdef readonly CodecPipeline pipeline
    cdef readonly bint raises_missing    # an absent chunk is an error
    cdef CodecPipeline cells             # the chain of the chunks of the plan: those inside shards, if there are shards
    cdef Directory directory             # of the file system store; None when Python has to take part
    cdef ShapeDocument document          # None until it is needed: chunks stick out of the array, and are written
    cdef int ndim
    cdef int64_t extents[MAX_NDIM]       # of the array
    cdef bytes key_prefix
    cdef const char* c_key_prefix        # of `key_prefix`, for use without the GIL
    cdef int key_prefix_nbytes
    cdef char separator
    cdef bint separator_first            # "c/0/1": a separator before the first index, as in the encoding "default"

    # What the chunks of a call are, and where its first item lies; the call is on its caller's stack.
    cdef void begin_call(self, Call* call, Plan plan, char* buffer, const int64_t* strides) noexcept nogil
    # A call on files; what went wrong is in it afterwards.
    cdef void run_files(self, Call* call, int n_threads, bint writes) noexcept nogil
    # buffer, of nbytes bytes: the first item; strides in bytes, per axis of the array, and at ndim of the points.
    cdef int run(self, Plan plan, char* buffer, int64_t nbytes, const int64_t* strides, bint writes) except -1

cdef class ArrayBase:
    cdef readonly object _store, _path, _missing
    cdef public object _metadata
    cdef readonly bint _read_only, _write_empty_chunks
    cdef readonly Transfer _transfer     # replaced with the metadata
    cpdef _set_metadata(self, metadata)

# How many of n_threads are worth having for a call that moves so many bytes.
cdef int threads_worth(const Call* call, int64_t nbytes, int64_t n_threads) noexcept nogil
