"""Reads of stored chunks in files."""
from zarrcy.codecs.pipeline cimport CodecPipeline
from zarrcy.kernels.buffer cimport Bytes
from zarrcy.kernels.plan cimport Place
from zarrcy.kernels.pool cimport Worker
from zarrcy.kernels.posix cimport Directory
from zarrcy.transfer_call cimport Call

cdef enum:
    BLOCKS_PER_THREAD = 16
    MAX_BLOCK = 64

# The call on the native pool; raises what went wrong.
cdef int read_files(Call* call, Directory directory, int n_threads) except -1
# A whole stored value into the worker's scratch, from a descriptor.
cdef int fetch_value(Call* call, CodecPipeline pipeline, const Place* place, int fd, Bytes* value,
                     Worker* worker) noexcept nogil
