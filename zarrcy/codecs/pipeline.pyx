"""The chain of codecs of an array, bound to its chunks, and the layout of shards.

``transpose`` and ``bytes`` never run: they become the strides of a decoded chunk and the word that is swapped in the
copy. What is left is a row of bytes → bytes codecs around either a chunk or a shard. A shard (Zarr v3, sharding codec
1.0) is a value that holds inner chunks, each with a chain of its own, and an index of their places.
"""
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memset

from zarrcy.codecs.codec cimport (
    CORRUPT, DONE, GIVEN_UP, NO_MEMORY, TOO_LARGE, UNREAD, Bytes, Codec, Failure, Outcome, fail)
from zarrcy.kernels.copy cimport MAX_NDIM, Loop, all_items_are, copy_items, fill_items
from zarrcy.kernels.needed cimport Needed, fetch
from zarrcy.kernels.pool cimport Worker, worker_is_stopped, worker_scratch

import itertools

import numpy as np

from zarrcy.codecs.codec import ChunkSpec
from zarrcy.codecs.layout import BytesCodec, Transpose
from zarrcy.errors import MetadataError
from zarrcy.registry import LazyModule

sharding = LazyModule("zarrcy.codecs.sharding")

MAX_NBYTES = 2**61    # of a stored chunk: products and sums of sizes stay within 64 bits
SPARE_NBYTES = 2**20
MAX_INNER = 2**40     # inner chunks of a shard

# Smaller chunks are read and decoded whole: they are one or two blocks, so that there is little to leave out. Tests set
# this to 0, and to more than any chunk has, and compare; it is looked at when an array is opened.
MIN_PART_NBYTES = 2**18

numbers = itertools.count()


cdef class CodecPipeline:
    """The chain of codecs of an array, bound to its chunks.

    Parameters
    ----------
    codecs : tuple of Codec
        The chain, as in ``zarr.json``.
    shape : tuple of int
        The shape of a chunk, along the axes of the array.
    dtype : numpy.dtype
        The data type in memory, in native byte order.
    word : int
        How many bytes of an item swap together when the byte order changes.
    fill : bytes or None
        One item of the fill value, as in memory; `None` when the array has none: no chunk then counts as empty.
    keeps_empty : bool
        Whether chunks equal to the fill value are written.
    axes : tuple of int, optional
        The axis of the array at each dimension of what the chain is given; for chains inside shards.
    level : int
        How many chains this one is inside of.

    Raises
    ------
    MetadataError
        The chain cannot work on such chunks.
    """

    def __init__(self, codecs, shape, dtype, int word, fill, bint keeps_empty=False, axes=None, int level=0):
        cdef int i
        if level >= MAX_LEVELS:
            raise MetadataError(f"codecs: expected at most {MAX_LEVELS - 2} shards within shards")
        if len(shape) > MAX_NDIM:
            raise MetadataError(f"codecs: expected chunks of at most {MAX_NDIM} axes, got {len(shape)}")
        self.number = next(numbers)
        self.codecs = tuple(codecs)
        self.level = level
        self.ndim = len(shape)
        self.itemsize = dtype.itemsize
        self.keeps_empty = keeps_empty or fill is None
        self.nbytes = self.itemsize
        for i in range(self.ndim):
            self.shape[i] = shape[i]
            self.nbytes *= self.shape[i]
        axes = list(range(self.ndim)) if axes is None else list(axes)
        steps = []
        spec = ChunkSpec(shape, dtype)
        for codec in self.codecs:
            if isinstance(codec, (BytesCodec, Transpose)):
                codec.bind(spec)
            if isinstance(codec, Transpose):
                axes = [axes[axis] for axis in codec.order]
            elif isinstance(codec, BytesCodec):
                self.word = word if swaps(codec, word) else 0
                bind_layout(self, axes)
            elif getattr(codec, "kind", None) == "array_to_bytes" and isinstance(codec, sharding.Sharding):
                bind_layout(self, axes)
                bind_shard(self, codec, axes, dtype, word, fill)
            else:
                steps.append(codec)
        bind_steps(self, steps, spec)
        bind_fill(self, fill)

    def __reduce__(self):
        raise TypeError("a bound pipeline is not pickled: pickle the metadata")

    cdef char* scratch(self, Worker* worker, Slot slot, int64_t nbytes) noexcept nogil:
        return worker_scratch(worker, self.level * SLOTS_PER_LEVEL + slot, nbytes)

    cdef Outcome decode_steps(self, Bytes value, Bytes* result, const Needed* needed, Worker* worker,
                              Failure* failure) noexcept nogil:
        cdef int i
        cdef Needed part = Needed(0, 0, NULL, False, NULL, NULL)
        cdef Slot slot = SLOT_STEP
        cdef Bytes src = value
        cdef Bytes dst
        cdef char* place
        cdef Outcome outcome
        if needed is not NULL:
            part = needed[0]
            if self.n_steps > 1:   # only the codec next to the items can tell what of its input it can do without
                if not fetch(&part, 0, value.nbytes):
                    return UNREAD
                part.fetch = NULL
        for i in range(self.n_steps - 1, -1, -1):
            if i == 0 and result.data is not NULL:
                dst = result[0]
            else:
                dst.nbytes = self.bounds[i]
                dst.data = self.scratch(worker, slot, dst.nbytes)
                if dst.data is NULL:
                    return fail(failure, NO_MEMORY, NULL)
            place = dst.data
            if i == 0 and needed is not NULL:
                outcome = (<Codec>self.steps[i]).decode_part_into(src, &dst, &part, worker, failure)
            else:
                outcome = (<Codec>self.steps[i]).decode_into(src, &dst, worker, failure)
                part.is_verified |= (<Codec>self.steps[i]).verifies
            if outcome != DONE:
                failure.codec = <void*>self.steps[i]
                return outcome
            if dst.data == place:
                slot = SLOT_STEP_2 if slot == SLOT_STEP else SLOT_STEP
            src = dst
        result[0] = src
        return DONE

    cdef Outcome encode_steps(self, Bytes raw, Bytes* result, Worker* worker, Failure* failure) noexcept nogil:
        cdef int i
        cdef Bytes src = raw
        cdef Bytes dst
        cdef Outcome outcome
        for i in range(self.n_steps):
            if i == self.n_steps - 1 and result.data is not NULL:
                dst = result[0]
            else:
                dst.nbytes = self.bounds[i + 1]
                dst.data = self.scratch(worker, SLOT_STEP if i % 2 == 0 else SLOT_STEP_2, dst.nbytes)
                if dst.data is NULL:
                    return fail(failure, NO_MEMORY, NULL)
            outcome = (<Codec>self.steps[i]).encode_into(src, &dst, worker, failure)
            if outcome != DONE:
                failure.codec = <void*>self.steps[i]
                return outcome
            src = dst
        result[0] = src
        return DONE

    cdef Outcome decode_chunk(self, Bytes value, Bytes* chunk, const Needed* needed, Worker* worker,
                              Failure* failure) noexcept nogil:
        cdef Outcome outcome
        if self.inner is not None:
            if chunk.data is NULL:
                chunk.data = self.scratch(worker, SLOT_DENSE, self.nbytes)
                if chunk.data is NULL:
                    return fail(failure, NO_MEMORY, NULL)
            chunk.nbytes = self.nbytes
            return self.decode_region(value, chunk.data, self.strides, self.shape, worker, failure)
        chunk.nbytes = self.nbytes
        outcome = self.decode_steps(value, chunk, needed, worker, failure)
        if outcome == DONE and chunk.nbytes != <size_t>self.nbytes:
            snprintf(failure.reason, sizeof(failure.reason), "expected a chunk of %lld bytes, got %zu",
                     <long long>self.nbytes, chunk.nbytes)
            return fail(failure, CORRUPT, NULL)
        return outcome

    cdef Outcome decode_region(self, Bytes value, char* dst, const int64_t* dst_strides, const int64_t* extent,
                               Worker* worker, Failure* failure) noexcept nogil:
        cdef Outcome outcome
        cdef Bytes chunk = Bytes(NULL, 0)
        cdef Loop loops[MAX_NDIM]
        cdef int axis
        if self.inner is not None:
            return decode_shard(self, value, dst, dst_strides, extent, worker, failure)
        if self.word == 0 and is_packed(self, dst_strides, extent):
            chunk.data = dst
        outcome = self.decode_chunk(value, &chunk, NULL, worker, failure)
        if outcome == DONE and chunk.data != dst:
            for axis in range(self.ndim):
                loops[axis] = Loop(extent[axis], self.strides[axis], dst_strides[axis], NULL, NULL)
            copy_items(dst, chunk.data, loops, self.ndim, self.itemsize, self.word)
        return outcome

    cdef Outcome encode_region(self, const char* src, const int64_t* src_strides, const int64_t* extent, Update* update,
                               bint keep, Bytes* value, bint* is_empty, Worker* worker,
                               Failure* failure) noexcept nogil:
        cdef Loop loops[MAX_NDIM]
        cdef Bytes chunk
        cdef int axis
        if self.inner is not None:
            return encode_shard(self, src, src_strides, extent, update, keep, value, is_empty, worker, failure)
        chunk = Bytes(<char*>src, self.nbytes)
        if self.word != 0 or not is_packed(self, src_strides, extent):
            # A chain without codecs is packed straight into the place where the value is wanted.
            if self.n_steps == 0 and value.data is not NULL:
                chunk.data = value.data
            else:
                chunk.data = self.scratch(worker, SLOT_CHUNK, self.nbytes)
                if chunk.data is NULL:
                    return fail(failure, NO_MEMORY, NULL)
            pad(self, chunk.data, extent)
            for axis in range(self.ndim):
                loops[axis] = Loop(extent[axis], src_strides[axis], self.strides[axis], NULL, NULL)
            copy_items(chunk.data, src, loops, self.ndim, self.itemsize, self.word)
        is_empty[0] = (
            not keep and not self.keeps_empty
            and all_items_are(chunk.data, self.stored_fill_item, self.nbytes // self.itemsize, self.itemsize)
        )
        if is_empty[0]:
            return DONE
        if self.n_steps == 0 and value.data is not NULL:
            if value.data != chunk.data:
                memcpy(value.data, chunk.data, chunk.nbytes)
            value.nbytes = chunk.nbytes
            return DONE
        return self.encode_steps(chunk, value, worker, failure)

    cdef Outcome decode_index(self, Bytes encoded, int64_t shard_nbytes, const uint64_t** entries, Worker* worker,
                              Failure* failure) noexcept nogil:
        cdef uint64_t* index = <uint64_t*>self.scratch(worker, SLOT_INDEX, self.n_inner * 16)
        cdef int64_t i
        cdef Outcome outcome
        if index is NULL:
            return fail(failure, NO_MEMORY, NULL)
        outcome = self.index.decode_region(encoded, <char*>index, self.entry_strides, self.index.shape, worker, failure)
        if outcome != DONE:
            return outcome
        for i in range(self.n_inner):
            if index[2 * i] == <uint64_t>ABSENT and index[2 * i + 1] == <uint64_t>ABSENT:
                continue
            if index[2 * i] > <uint64_t>shard_nbytes or index[2 * i + 1] > <uint64_t>shard_nbytes - index[2 * i]:
                snprintf(failure.reason, sizeof(failure.reason),
                         "shard index: entry %lld: expected a range within %lld bytes, got offset %llu and length %llu",
                         <long long>i, <long long>shard_nbytes, <unsigned long long>index[2 * i],
                         <unsigned long long>index[2 * i + 1])
                return fail(failure, CORRUPT, NULL)
        entries[0] = index
        return DONE

    cdef Outcome shard_index(self, Bytes shard, const uint64_t** entries, Worker* worker,
                             Failure* failure) noexcept nogil:
        cdef Bytes encoded = Bytes(shard.data, self.index_nbytes)
        if shard.nbytes < <size_t>self.index_nbytes:
            snprintf(failure.reason, sizeof(failure.reason),
                     "expected a shard with an index of %lld bytes, got %zu bytes",
                     <long long>self.index_nbytes, shard.nbytes)
            return fail(failure, CORRUPT, NULL)
        if not self.index_at_start:
            encoded.data += shard.nbytes - self.index_nbytes
        return self.decode_index(encoded, shard.nbytes, entries, worker, failure)

    cdef void fill_chunk(self, char* dst, const int64_t* dst_strides, const int64_t* extent) noexcept nogil:
        cdef Loop loops[MAX_NDIM]
        cdef int axis
        for axis in range(self.ndim):
            loops[axis] = Loop(extent[axis], 0, dst_strides[axis], NULL, NULL)
        fill_items(dst, self.fill_item, loops, self.ndim, self.itemsize)


def swaps(codec, word):
    """Whether the ``bytes`` codec stores another byte order than that of memory."""
    import sys

    return word > 1 and codec.endian is not None and codec.endian != sys.byteorder


cdef int bind_layout(CodecPipeline self, list axes) except -1:
    """The strides of a chunk whose dimensions are the axes of the array in this order."""
    cdef int64_t stride = self.itemsize
    for axis in reversed(axes):
        self.strides[<int>axis] = stride
        stride *= self.shape[<int>axis]
    return 0


cdef int bind_steps(CodecPipeline self, list codecs, spec) except -1:
    cdef int i
    if len(codecs) > MAX_STEPS:
        raise MetadataError(
            f"codecs: expected at most {MAX_STEPS} codecs that turn bytes into bytes, got {len(codecs)}"
        )
    bound = [codec.bind(spec) for codec in codecs]
    self.steps_owned = bound
    self.n_steps = len(bound)
    nbytes = <object>self.nbytes   # no C integers: a document may ask for more than they hold
    if self.inner is not None:
        nbytes = <object>self.n_inner * self.inner.max_encoded_nbytes + self.index_nbytes
    self.bounds[0] = checked_nbytes(nbytes)
    for i in range(self.n_steps):
        codec = bound[i]
        self.steps[i] = <PyObject*>codec
        self.needs_gil = self.needs_gil or codec.needs_gil
        nbytes = codec.max_encoded_nbytes(nbytes)
        # Other writers may need a little more than our own codec would.
        self.bounds[i + 1] = checked_nbytes(nbytes + nbytes // 8 + 4096)
    self.max_encoded_nbytes = self.bounds[self.n_steps]
    self.limit_nbytes = 2 * self.max_encoded_nbytes + SPARE_NBYTES
    if self.inner is not None:
        self.needs_gil = self.needs_gil or self.inner.needs_gil or self.index.needs_gil
    elif self.n_steps:
        self.decodes_parts = bound[0].decodes_parts and self.nbytes >= MIN_PART_NBYTES
        self.reads_parts = self.decodes_parts and self.n_steps == 1
    return 0


cdef object checked_nbytes(object nbytes):
    if not 0 <= nbytes <= MAX_NBYTES:
        raise MetadataError(f"codecs: expected stored chunks of 0 to 2**61 bytes, got up to {nbytes}")
    return nbytes


cdef int bind_fill(CodecPipeline self, fill) except -1:
    self.fill_owned = bytes(self.itemsize) if fill is None else fill
    stored = np.frombuffer(self.fill_owned, np.uint8)
    if self.word:
        stored = stored.reshape(-1, self.word)[:, ::-1]
    self.stored_fill_owned = stored.tobytes()
    self.fill_item = <const char*>self.fill_owned
    self.stored_fill_item = <const char*>self.stored_fill_owned
    return 0


cdef int bind_shard(CodecPipeline self, codec, list axes, dtype, int word, fill) except -1:
    cdef int i, axis
    cdef int64_t stride = 1
    if len(codec.chunk_shape) != self.ndim:
        raise MetadataError(
            f"sharding_indexed: chunk_shape: expected {self.ndim} dimensions, got {len(codec.chunk_shape)}"
        )
    inner_shape = [0] * self.ndim
    for i in range(self.ndim - 1, -1, -1):
        axis = axes[i]
        extent = codec.chunk_shape[i]
        if extent < 1 or self.shape[axis] % extent:
            raise MetadataError(
                f"sharding_indexed: chunk_shape[{i}]: expected a divisor of the shard's extent {self.shape[axis]}, "
                f"got {extent}"
            )
        inner_shape[axis] = extent
        self.counts[axis] = self.shape[axis] // extent
        self.index_strides[axis] = stride
        if self.counts[axis] > MAX_INNER // stride:
            raise MetadataError(
                "sharding_indexed: chunk_shape: expected at most 2**40 chunks in a shard, "
                f"got {list(codec.chunk_shape)} in {[self.shape[i] for i in range(self.ndim)]}"
            )
        stride *= self.counts[axis]
    self.n_inner = stride
    self.inner = CodecPipeline(codec.codecs, inner_shape, dtype, word, fill, self.keeps_empty, axes, self.level + 1)
    counts = [self.counts[axis] for axis in axes]
    if not any(isinstance(step, Transpose) for step in codec.index_codecs):
        counts = [self.n_inner]   # laid out alike, and never of more axes than an array
    self.index = CodecPipeline(codec.index_codecs, (*counts, 2), np.dtype(np.uint64), 8, b"\xff" * 8, True, None,
                               self.level + 1)
    stride = 8
    for i in range(self.index.ndim - 1, -1, -1):
        self.entry_strides[i] = stride
        stride *= self.index.shape[i]
    if self.index.inner is not None:
        raise MetadataError("sharding_indexed: index_codecs: expected no shards in the index of a shard")
    self.index_nbytes = fixed_nbytes(self.index)
    self.index_at_start = codec.index_location == "start"
    return 0


cdef int64_t fixed_nbytes(CodecPipeline index) except -1:
    """The length of every encoded index: its place in the shard is only known when the chain does not compress."""
    nbytes = index.nbytes
    for codec in index.steps_owned:
        nbytes = codec.fixed_encoded_nbytes(nbytes)
        if nbytes is None:
            raise MetadataError(
                f"sharding_indexed: index_codecs: expected codecs with results of fixed size, got {codec.name!r}"
            )
    return nbytes


cdef bint is_packed(CodecPipeline self, const int64_t* strides, const int64_t* extent) noexcept nogil:
    """Whether a buffer with these strides and extents is laid out as a decoded chunk."""
    cdef int axis
    for axis in range(self.ndim):
        if extent[axis] != self.shape[axis] or (extent[axis] != 1 and strides[axis] != self.strides[axis]):
            return False
    return True


cdef void pad(CodecPipeline self, char* chunk, const int64_t* extent) noexcept nogil:
    """The fill value into what lies beyond the extents of a chunk about to be encoded."""
    cdef Loop loops[MAX_NDIM]
    cdef int axis, other
    for axis in range(self.ndim):
        if extent[axis] == self.shape[axis]:
            continue
        for other in range(self.ndim):
            loops[other] = Loop(extent[other] if other < axis else self.shape[other], 0, self.strides[other], NULL,
                                NULL)
        loops[axis].count = self.shape[axis] - extent[axis]
        fill_items(chunk + extent[axis] * self.strides[axis], self.stored_fill_item, loops, self.ndim, self.itemsize)


cdef bint is_stopped(CodecPipeline self, int64_t* n_done, Worker* worker) noexcept nogil:
    """Asked after each inner chunk; the worker is asked after as many of them as take a while."""
    n_done[0] += 1
    return n_done[0] % (1 + STOP_NBYTES // self.inner.nbytes) == 0 and worker_is_stopped(worker)


cdef bint next_inner(CodecPipeline self, int64_t* position) noexcept nogil:
    """Move to the next inner chunk of a shard, the last axis fastest; False after the last."""
    cdef int axis
    for axis in range(self.ndim - 1, -1, -1):
        position[axis] += 1
        if position[axis] < self.counts[axis]:
            return True
        position[axis] = 0
    return False


cdef bint inner_extent(CodecPipeline self, const int64_t* position, const int64_t* extent,
                       int64_t* inner_extents) noexcept nogil:
    """How much of an inner chunk lies within the extents of its shard; False when nothing does."""
    cdef int axis
    cdef int64_t left
    for axis in range(self.ndim):
        left = extent[axis] - position[axis] * self.inner.shape[axis]
        if left <= 0:
            return False
        inner_extents[axis] = min(left, self.inner.shape[axis])
    return True


cdef Outcome decode_shard(CodecPipeline self, Bytes value, char* dst, const int64_t* dst_strides, const int64_t* extent,
                          Worker* worker, Failure* failure) noexcept nogil:
    cdef Bytes shard = Bytes(NULL, 0)
    cdef const uint64_t* index = NULL
    cdef int64_t position[MAX_NDIM]
    cdef int64_t extents[MAX_NDIM]
    cdef int64_t entry, n_done = 0
    cdef int axis
    cdef char* place
    cdef Outcome outcome = self.decode_steps(value, &shard, NULL, worker, failure)
    if outcome == DONE:
        outcome = self.shard_index(shard, &index, worker, failure)
    if outcome != DONE:
        return outcome
    memset(position, 0, sizeof(position))
    while True:
        if inner_extent(self, position, extent, extents):
            entry = 0
            place = dst
            for axis in range(self.ndim):
                entry += position[axis] * self.index_strides[axis]
                place += position[axis] * self.inner.shape[axis] * dst_strides[axis]
            if index[2 * entry] == <uint64_t>ABSENT:
                self.inner.fill_chunk(place, dst_strides, extents)
            else:
                outcome = self.inner.decode_region(Bytes(shard.data + index[2 * entry], index[2 * entry + 1]), place,
                                                   dst_strides, extents, worker, failure)
                if outcome != DONE:
                    return outcome
        if is_stopped(self, &n_done, worker):
            return GIVEN_UP
        if not next_inner(self, position):
            return DONE


cdef Outcome encode_inner(CodecPipeline self, const char* src, const int64_t* src_strides, const int64_t* position,
                          const int64_t* extent, int64_t entry, Update* update, Bytes* value, bint* is_empty,
                          Worker* worker, Failure* failure) noexcept nogil:
    """One inner chunk into value.data: encoded, or copied from the old shard when the write does not touch it."""
    cdef int64_t extents[MAX_NDIM]
    cdef int axis
    cdef bint keep
    if update is not NULL and update.touched[entry] == <char>UNTOUCHED:
        is_empty[0] = update.shard.data is NULL or update.index[2 * entry] == <uint64_t>ABSENT
        if is_empty[0]:
            return DONE
        if update.index[2 * entry + 1] > value.nbytes:
            return fail(failure, CORRUPT, "shard: expected inner chunks that do not overlap, got some that do")
        value.nbytes = update.index[2 * entry + 1]
        memcpy(value.data, update.shard.data + update.index[2 * entry], value.nbytes)
        return DONE
    is_empty[0] = not inner_extent(self, position, extent, extents)
    if is_empty[0]:
        return DONE
    # Chunks of an old shard that overlap can take more room, copied one by one, than the shard had.
    if value.nbytes < <size_t>self.inner.max_encoded_nbytes:
        return fail(failure, CORRUPT, "shard: expected inner chunks that do not overlap, got some that do")
    for axis in range(self.ndim):
        src += position[axis] * self.inner.shape[axis] * src_strides[axis]
    # What a write touches in part it never takes away.
    keep = update is not NULL and update.touched[entry] == <char>PARTLY
    return self.inner.encode_region(src, src_strides, extents, NULL, keep, value, is_empty, worker, failure)


cdef Outcome encode_shard(CodecPipeline self, const char* src, const int64_t* src_strides, const int64_t* extent,
                          Update* update, bint keep, Bytes* value, bint* is_empty, Worker* worker,
                          Failure* failure) noexcept nogil:
    cdef int64_t position[MAX_NDIM]
    cdef int64_t entry, n_done = 0, filled = 0
    # Copied chunks of another writer may be larger than ours would be.
    cdef int64_t capacity = self.bounds[0] + (update.shard.nbytes if update is not NULL else 0)
    cdef bint direct = self.n_steps == 0 and value.data is not NULL and value.nbytes >= <size_t>capacity
    cdef Bytes shard = Bytes(value.data, capacity)
    cdef uint64_t* index = <uint64_t*>self.index.scratch(worker, SLOT_DENSE, self.n_inner * 16)
    cdef Bytes part
    cdef bint inner_is_empty, all_empty = True
    cdef Outcome outcome
    cdef int axis
    if not direct:
        shard.data = self.scratch(worker, SLOT_SHARD, capacity)
    if shard.data is NULL or index is NULL:
        return fail(failure, NO_MEMORY, NULL)
    if self.index_at_start:
        filled = self.index_nbytes
    memset(index, 0xFF, self.n_inner * 16)
    memset(position, 0, sizeof(position))
    while True:
        entry = 0
        for axis in range(self.ndim):
            entry += position[axis] * self.index_strides[axis]
        part = Bytes(shard.data + filled, capacity - filled - (0 if self.index_at_start else self.index_nbytes))
        outcome = encode_inner(self, src, src_strides, position, extent, entry, update, &part, &inner_is_empty,
                               worker, failure)
        if outcome != DONE:
            return outcome
        if not inner_is_empty:
            if part.data != shard.data + filled:
                memcpy(shard.data + filled, part.data, part.nbytes)
            index[2 * entry] = filled
            index[2 * entry + 1] = part.nbytes
            filled += part.nbytes
            all_empty = False
        if is_stopped(self, &n_done, worker):
            return GIVEN_UP
        if not next_inner(self, position):
            break
    is_empty[0] = all_empty and not keep and not self.keeps_empty
    if is_empty[0]:
        return DONE
    part = Bytes(shard.data, self.index_nbytes)
    if not self.index_at_start:
        part.data += filled
    outcome = self.index.encode_region(<const char*>index, self.entry_strides, self.index.shape, NULL, True, &part,
                                       &inner_is_empty, worker, failure)
    if outcome != DONE:
        return outcome
    shard.nbytes = filled if self.index_at_start else filled + self.index_nbytes
    if direct or self.n_steps == 0 and value.data is NULL:
        value[0] = shard
        return DONE
    if self.n_steps == 0:
        return fail(failure, TOO_LARGE, "shard: expected a smaller shard")
    return self.encode_steps(shard, value, worker, failure)
