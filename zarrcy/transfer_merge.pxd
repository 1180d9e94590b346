"""Between the caller's buffer and one stored value: encode, merge."""
from libc.stdint cimport int64_t
from zarrcy.codecs.codec cimport Bytes
from zarrcy.codecs.pipeline cimport CodecPipeline, Touch
from zarrcy.kernels.plan cimport Place
from zarrcy.kernels.pool cimport Worker
from zarrcy.kernels.posix_compat cimport FilePiece
from zarrcy.transfer_call cimport Call

# The rows of a raw chunk that the buffer holds whole, in their order in the chunk, where they are long enough to be
# written from where they lie; none otherwise. is_empty as below.
cdef int find_rows(Call* call, CodecPipeline pipeline, const Place* place, FilePiece** pieces, int64_t* n_pieces,
                   bint* is_empty, Worker* worker) noexcept nogil
# How much of a stored chunk the buffer holds, and the encoding of the chunk when that is WHOLLY.
cdef int encode_whole(Call* call, Place* place, Bytes* value, Touch* touch, bint* is_empty,
                      Worker* worker) noexcept nogil
# The encoding of a stored chunk: the old one (data NULL: absent) with the items of the buffer written over it. is_empty
# is set, and nothing encoded, when all of that is the fill value; not with keep, nor when the buffer holds only a part
# of the chunk.
cdef int encode_merged(Call* call, Place* place, Bytes old, bint keep, Bytes* value, bint* is_empty,
                       Worker* worker) noexcept nogil
