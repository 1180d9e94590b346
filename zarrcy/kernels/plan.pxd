"""A selection laid over a chunk grid: which items of which chunks go where, as tables per axis."""
from libc.stdint cimport int64_t
from zarrcy.kernels.copy cimport MAX_NDIM, Loop

# What one chunk gives along one axis: `count` items, from `first` on with `step` between them, or at the positions
# `items`; they lie in the buffer from `out` on, or at the positions `outs`.
cdef struct Piece:
    int64_t chunk
    int64_t first
    int64_t step
    int64_t count
    int64_t out
    const int64_t* items   # or NULL
    const int64_t* outs    # or NULL

# Neighbouring pieces whose chunks lie in one value of the store: one chunk, or the inner chunks of a shard.
cdef struct Run:
    int64_t value    # index of the stored chunk along the axis
    int64_t begin    # pieces [begin, end)
    int64_t end

# One stored chunk that a plan touches, and the block of pieces that lie in it.
cdef struct Place:
    int64_t value[MAX_NDIM]         # index of the stored chunk, per axis
    int64_t begin[MAX_NDIM + 1]     # first piece, per dimension of the plan
    int64_t count[MAX_NDIM + 1]     # pieces, per dimension
    int64_t n_pieces                # their product

# One chunk of a place: the piece of each dimension (NULL on axes of the points) and the chunk's index per axis.
cdef struct Cell:
    const Piece* pieces[MAX_NDIM + 1]
    int64_t chunk[MAX_NDIM]

cdef enum:
    N_INLINE = 16    # pieces that a plan holds without an allocation: enough for small reads

cdef class Plan:
    cdef readonly int ndim
    cdef int n_dims                        # ndim, and one more when there are points
    cdef Piece* pieces[MAX_NDIM + 1]
    cdef Run* runs[MAX_NDIM + 1]
    cdef int64_t n_pieces[MAX_NDIM + 1]
    cdef int64_t n_runs[MAX_NDIM + 1]
    cdef int64_t per_value[MAX_NDIM]       # chunks that a stored chunk holds along an axis
    cdef int n_point_axes                  # axes that the points span; they have no pieces of their own
    cdef int point_axes[MAX_NDIM]
    cdef bint is_point_axis[MAX_NDIM]
    cdef const int64_t* point_items[MAX_NDIM]    # per axis of the points: positions inside the chunk, sorted by chunk
    cdef const int64_t* point_chunks[MAX_NDIM]   # and the chunk's index
    cdef readonly int64_t n_values               # values of the store that are touched
    cdef object owned                            # the arrays that the tables point into
    cdef Piece inline_pieces[N_INLINE]
    cdef Run inline_runs[N_INLINE]
    cdef int64_t n_inline_pieces, n_inline_runs  # how many of them are taken

    # lay_slice: False when memory is short.
    cdef bint lay_slice(self, int axis, int64_t start, int64_t step, int64_t count, int64_t chunk,
                        int64_t inner) noexcept nogil
    cdef int set_slice(self, int axis, int64_t start, int64_t step, int64_t count, int64_t chunk,
                       int64_t inner) except -1
    cdef int set_positions(self, int axis, object positions, int64_t chunk, int64_t inner) except -1
    cdef int set_points(self, tuple axes, list coordinates, list chunks, list inners) except -1
    cdef void finish(self) noexcept nogil
    cdef void clear(self) noexcept nogil

    # The stored chunk `number` of 0 … n_values - 1, the last axis fastest.
    cdef void find_place(self, int64_t number, Place* place) noexcept nogil
    # The chunk `number` of 0 … place.n_pieces - 1.
    cdef void find_cell(self, const Place* place, int64_t number, Cell* cell) noexcept nogil
    # How many points the cell has; 0 when the plan has none.
    cdef int64_t n_points(self, const Cell* cell) noexcept nogil
    # The loops that copy the cell's items between the chunk and the buffer, and where they start; returns how many.
    # offsets: room for n_points entries. The last entry of buffer_strides, at `ndim`, belongs to the points.
    cdef int cell_loops(self, const Cell* cell, const int64_t* chunk_strides, const int64_t* buffer_strides,
                        bint to_chunk, int64_t* offsets, Loop* loops, int64_t* chunk_offset,
                        int64_t* buffer_offset) noexcept nogil
