"""The chain of codecs of an array, bound to its chunks."""
from libc.stdint cimport int64_t, uint64_t
from cpython.object cimport PyObject
from zarrcy.codecs.codec cimport Bytes, Failure, Outcome
from zarrcy.kernels.copy cimport MAX_NDIM
from zarrcy.kernels.needed cimport Needed
from zarrcy.kernels.pool cimport Worker

cdef enum:
    MAX_STEPS = 16      # bytes → bytes codecs in one chain
    MAX_LEVELS = 5      # shards within shards, and the chains of their indexes
    SLOTS_PER_LEVEL = 8
    STOP_NBYTES = 1 << 20   # of inner chunks after which a worker is asked whether to go on

# The worker's scratch buffers of one level; a pipeline inside another one has the next level.
cdef enum Slot:
    SLOT_VALUE = 0      # a value, or a part of one, as it came from the store
    SLOT_STEP = 1       # between two codecs
    SLOT_STEP_2 = 2
    SLOT_CHUNK = 3      # one chunk, decoded or about to be encoded
    SLOT_INDEX = 4      # a shard's index
    SLOT_SHARD = 5      # a shard that is being built
    SLOT_DENSE = 6      # a whole decoded shard or chunk
    # Beyond the levels, for the transfer:
    SLOT_POINTS = 40    # byte offsets of points
    SLOT_TOUCHED = 41   # what a write touches of a shard
    SLOT_NEEDED = 42    # what a read needs of a chunk
    SLOT_PIECES = 43    # where the rows of a raw chunk lie

cdef enum Touch:
    UNTOUCHED = 0
    PARTLY = 1
    TO_EDGE = 2    # all that lies in the array, of a chunk that sticks out of it
    WHOLLY = 3

# An old shard whose untouched inner chunks are copied as they are.
cdef struct Update:
    Bytes shard             # without the codecs around it; data is NULL when there was none
    const uint64_t* index   # its index
    const char* touched     # a Touch per inner chunk, in the order of the index

cdef class CodecPipeline:
    cdef readonly tuple codecs
    cdef readonly CodecPipeline inner    # the chain of the inner chunks; None when the chunks are not sharded
    cdef readonly bint needs_gil
    cdef readonly bint decodes_parts     # of chunks, where a part is all that is needed
    cdef bint reads_parts                # and of encoded chunks
    cdef uint64_t number                 # no other pipeline of the process ever has it
    cdef int ndim
    cdef int64_t shape[MAX_NDIM]         # of a chunk
    cdef int64_t strides[MAX_NDIM]       # of a decoded chunk, in bytes, per axis of the array
    cdef int64_t itemsize
    cdef int word                        # bytes to swap together, 0: none
    cdef readonly int64_t nbytes         # of a decoded chunk
    cdef readonly int64_t max_encoded_nbytes
    cdef readonly int64_t limit_nbytes   # a stored value with more is no chunk, whoever has written it

    cdef object steps_owned
    cdef PyObject* steps[MAX_STEPS]
    cdef int64_t bounds[MAX_STEPS + 1]   # bounds[i]: the most bytes that step i is given to encode
    cdef int n_steps
    cdef int level
    cdef bint keeps_empty                # chunks equal to the fill value are written
    cdef bytes fill_owned, stored_fill_owned
    cdef const char* fill_item           # one item, as in memory
    cdef const char* stored_fill_item    # one item, as in a decoded chunk

    cdef CodecPipeline index             # the chain of the shard's index
    cdef int64_t counts[MAX_NDIM]        # inner chunks of a shard per axis of the array
    cdef int64_t index_strides[MAX_NDIM]  # in entries, per axis of the array
    cdef int64_t entry_strides[MAX_NDIM]  # of the decoded index in bytes, per axis of the index
    cdef readonly int64_t n_inner
    cdef readonly int64_t index_nbytes   # of the encoded index
    cdef readonly bint index_at_start

    cdef char* scratch(self, Worker* worker, Slot slot, int64_t nbytes) noexcept nogil

    # The bytes → bytes codecs. result.data: where to write, with its capacity in result.nbytes, or NULL; afterwards,
    # where the bytes lie: there, in scratch, or inside the input. needed: NULL, or what is needed of them, where
    # decodes_parts is set.
    cdef Outcome decode_steps(self, Bytes value, Bytes* result, const Needed* needed, Worker* worker,
                              Failure* failure) noexcept nogil
    cdef Outcome encode_steps(self, Bytes raw, Bytes* result, Worker* worker, Failure* failure) noexcept nogil

    # A whole chunk, laid out by `strides`, its items swapped where `word` is set. chunk.data: where to write if that is
    # convenient, or NULL; afterwards, where it lies. needed as for decode_steps.
    cdef Outcome decode_chunk(self, Bytes value, Bytes* chunk, const Needed* needed, Worker* worker,
                              Failure* failure) noexcept nogil
    # A whole chunk into a strided buffer that takes `extent` items per axis.
    cdef Outcome decode_region(self, Bytes value, char* dst, const int64_t* dst_strides, const int64_t* extent,
                               Worker* worker, Failure* failure) noexcept nogil
    # A whole chunk out of a strided buffer that has `extent` items per axis; beyond them lies the fill value. is_empty
    # is set, and nothing encoded, when all of it equals the fill value and such chunks are not kept: neither this one,
    # nor all. update may be NULL.
    cdef Outcome encode_region(self, const char* src, const int64_t* src_strides, const int64_t* extent, Update* update,
                               bint keep, Bytes* value, bint* is_empty, Worker* worker, Failure* failure) noexcept nogil

    # The index of a shard: n_inner pairs of offset and length, both 2**64 - 1 for an absent chunk.
    cdef Outcome decode_index(self, Bytes encoded, int64_t shard_nbytes, const uint64_t** entries, Worker* worker,
                              Failure* failure) noexcept nogil
    # The index of a shard in memory.
    cdef Outcome shard_index(self, Bytes shard, const uint64_t** entries, Worker* worker,
                             Failure* failure) noexcept nogil
    cdef void fill_chunk(self, char* dst, const int64_t* dst_strides, const int64_t* extent) noexcept nogil

cdef enum:
    ABSENT = 0xFFFFFFFFFFFFFFFF
