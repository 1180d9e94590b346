"""Between one stored value and the caller's buffer: decoding and filling."""
from libc.stdint cimport int64_t, uint64_t
from zarrcy.codecs.codec cimport Bytes, Failure, Outcome
from zarrcy.codecs.pipeline cimport CodecPipeline
from zarrcy.kernels.plan cimport Cell, Place, Plan
from zarrcy.kernels.pool cimport Worker
from zarrcy.transfer_call cimport Call

# Where the bytes of a shard, or of one chunk, are.
cdef struct Segment:
    int64_t begin
    int64_t end
    char* data

cdef struct Source:
    int fd                     # a file, or -1
    const Segment* segments    # else parts of the value in memory, in order
    int64_t n_segments
    const uint64_t* index      # of a shard, or NULL: the value is one chunk

# Chunks [begin, end) of a stored value into the buffer.
cdef int read_cells(Call* call, Place* place, const Source* source, int64_t begin, int64_t end,
                    Worker* worker) noexcept nogil
# Whether a read takes so little of a stored chunk that its file is not read as a whole.
cdef bint is_part_of_file(Plan plan, CodecPipeline pipeline, const Place* place) noexcept nogil
# Such a chunk into the buffer.
cdef int read_file(Call* call, Plan plan, CodecPipeline pipeline, Place* place, int fd, Worker* worker) noexcept nogil
# A whole stored value, in memory, into the buffer.
cdef int read_memory(Call* call, Place* place, Bytes value, Worker* worker) noexcept nogil
# The fill value for every chunk of a stored value that is absent.
cdef int fill_cells(Call* call, Place* place, Worker* worker) noexcept nogil
# The entry of an inner chunk in the index of its shard, by its number in the place.
cdef int64_t entry_number(Call* call, Place* place, int64_t number) noexcept nogil
# The same of a cell.
cdef int64_t entry_of(CodecPipeline pipeline, const Place* place, const Cell* cell) noexcept nogil
# Takes the codecs off that are around a shard, and decodes its index.
cdef Outcome open_shard(CodecPipeline pipeline, Bytes value, Bytes* shard, const uint64_t** index, Worker* worker,
                        Failure* failure) noexcept nogil
