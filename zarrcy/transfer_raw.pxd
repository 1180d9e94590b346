"""Chunks that are stored as they lie in memory: from a file into the buffer."""
from libc.stdint cimport int64_t
from zarrcy.codecs.pipeline cimport CodecPipeline
from zarrcy.kernels.plan cimport Cell, Place, Plan
from zarrcy.kernels.pool cimport Worker
from zarrcy.transfer_call cimport Call

# Whether the stored bytes of these chunks are their items.
cdef inline bint is_raw(CodecPipeline cells) noexcept nogil:
    return cells.inner is None and cells.n_steps == 0

# One chunk, of nbytes bytes from `offset` of an open file on. With nbytes -1 the whole file is the chunk.
cdef int read_raw(Call* call, Plan plan, CodecPipeline cells, const Place* place, const Cell* cell, int fd,
                  int64_t offset, int64_t nbytes, Worker* worker) noexcept nogil
