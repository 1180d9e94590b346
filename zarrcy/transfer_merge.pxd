"""Between the caller's buffer and one stored value: encode, merge."""
from zarrcy.codecs.codec cimport Bytes
from zarrcy.codecs.pipeline cimport Touch
from zarrcy.kernels.plan cimport Place
from zarrcy.kernels.pool cimport Worker
from zarrcy.transfer_call cimport Call

# How much of a stored chunk the buffer holds, and the encoding of the chunk when that is WHOLLY.
cdef int encode_whole(Call* call, Place* place, Bytes* value, Touch* touch, bint* is_empty,
                      Worker* worker) noexcept nogil
# The encoding of a stored chunk: the old one (data NULL: absent) with the items of the buffer written over it. is_empty
# is set, and nothing encoded, when all of that is the fill value; not with keep, nor when the buffer holds only a part
# of the chunk.
cdef int encode_merged(Call* call, Place* place, Bytes old, bint keep, Bytes* value, bint* is_empty,
                       Worker* worker) noexcept nogil
