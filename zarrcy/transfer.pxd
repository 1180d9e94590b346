"""The way between an array and its store."""
from libc.stdint cimport int64_t
from zarrcy.codecs.pipeline cimport CodecPipeline
from zarrcy.kernels.copy cimport MAX_NDIM
from zarrcy.kernels.plan cimport Plan
from zarrcy.kernels.posix cimport Directory

cdef class Transfer:
    cdef readonly object store
    cdef readonly object dtype
    cdef readonly tuple shape
    cdef readonly CodecPipeline pipeline
    cdef readonly bint raises_missing    # an absent chunk is an error
    cdef CodecPipeline cells             # the chain of the chunks of the plan: those inside shards, if there are shards
    cdef Directory directory             # of the file system store; None when Python has to take part
    cdef int ndim
    cdef int64_t extents[MAX_NDIM]       # of the array
    cdef bytes key_prefix
    cdef char separator
    cdef bint separator_first            # "c/0/1": a separator before the first index, as in the encoding "default"

    # buffer, of nbytes bytes: the first item; strides in bytes, per axis of the array, and at ndim of the points.
    cdef int run(self, Plan plan, char* buffer, int64_t nbytes, const int64_t* strides, bint writes) except -1

cdef class ArrayBase:
    cdef public Transfer _transfer       # replaced when the array is resized
