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

# The call on the native pool; what went wrong is in it afterwards. Takes the GIL only to open the directory.
cdef void read_files(Call* call, Directory directory, int n_threads) noexcept nogil
# The descriptor of the directory into the call, and the directory's generation; FINE, or what was recorded.
cdef int open_root(Call* call, Directory directory) noexcept nogil
# A whole stored value into the worker's scratch, from a descriptor.
cdef int fetch_value(Call* call, CodecPipeline pipeline, const Place* place, int fd, Bytes* value,
                     Worker* worker) noexcept nogil
