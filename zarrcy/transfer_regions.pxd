"""Reads and writes of boxes by threads that need not have the GIL."""
from libc.stdint cimport int64_t
from zarrcy.transfer cimport Transfer
from zarrcy.transfer_call cimport Call

# Once, with the GIL, before the first call of run_region.
cdef int make_spare_plans() except -1

# Items start, start + step, … (shape of them per axis, all inside the array; step NULL: 1) to or from `data`, which
# lies by `strides` in bytes. Where the chunks are files and the codecs need no Python, the GIL is taken only to open
# the directory. What went wrong is in the call afterwards: see call.failed, and raise_failure.
cdef void run_region(Transfer transfer, const int64_t* start, const int64_t* shape, const int64_t* step, char* data,
                     const int64_t* strides, int n_threads, bint writes, Call* call) noexcept nogil
