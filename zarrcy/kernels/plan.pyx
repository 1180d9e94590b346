"""A selection laid over a chunk grid: which items of which chunks go where, as tables per axis.

The tables grow with the chunks along each axis, never with their product. In a sharded array the grid is that of the
inner chunks; pieces of one shard are neighbours, and a `Run` names them.
"""
cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset
from zarrcy.kernels.copy cimport MAX_NDIM, Loop

import numpy as np

MAX_KEY = 2**62    # chunks that are numbered to sort points by them


cdef enum:
    MAX_PIECES = 0x1000000000000    # along an axis: their table fits a size_t
    DIGIT_BITS = 11
    N_DIGITS = 1 << DIGIT_BITS


cdef const int64_t* table(object array) except? NULL:
    """The data of a contiguous int64 array, which the caller keeps alive."""
    cdef Py_buffer view
    PyObject_GetBuffer(array, &view, PyBUF_SIMPLE)
    cdef const int64_t* data = <const int64_t*>view.buf
    PyBuffer_Release(&view)
    return data


@cython.no_gc   # what it owns are arrays of numbers
@cython.freelist(8)
cdef class Plan:
    """A selection laid over a chunk grid."""

    def __cinit__(self, int ndim):
        self.ndim = ndim
        self.n_dims = ndim

    def __dealloc__(self):
        self.clear()

    cdef void clear(self) noexcept nogil:
        """Free the tables."""
        cdef int dim
        for dim in range(self.n_dims):
            if not self.inline_pieces <= self.pieces[dim] < self.inline_pieces + N_INLINE:
                free(self.pieces[dim])
            if not self.inline_runs <= self.runs[dim] < self.inline_runs + N_INLINE:
                free(self.runs[dim])
            self.pieces[dim] = NULL
            self.runs[dim] = NULL
        self.n_inline_pieces = self.n_inline_runs = 0

    cdef int set_slice(self, int axis, int64_t start, int64_t step, int64_t count, int64_t chunk,
                       int64_t inner) except -1:
        if not self.lay_slice(axis, start, step, count, chunk, inner):
            raise no_memory(self, axis)
        return 0

    cdef bint lay_slice(self, int axis, int64_t start, int64_t step, int64_t count, int64_t chunk,
                        int64_t inner) noexcept nogil:
        """The items start, start + step, … of an axis whose stored chunks have `chunk` items and inner chunks
        `inner`."""
        cdef int64_t last = start + (count - 1) * step
        cdef int64_t n, k = 0, i = 0, position, m
        cdef Piece* pieces
        if count == 0:
            return True
        n = last // inner - start // inner if step > 0 else start // inner - last // inner
        n = min(n + 1, count)
        pieces = take_pieces(self, axis, n)
        if pieces is NULL:
            return False
        while k < count:
            position = start + k * step
            pieces[i].chunk = position // inner
            pieces[i].first = position - pieces[i].chunk * inner
            pieces[i].step = step
            m = (inner - 1 - pieces[i].first) // step if step > 0 else pieces[i].first // -step
            pieces[i].count = min(m + 1, count - k)
            pieces[i].out = k
            pieces[i].items = NULL
            pieces[i].outs = NULL
            k += pieces[i].count
            i += 1
        self.n_pieces[axis] = i
        return set_runs(self, axis, chunk // inner)

    cdef int set_positions(self, int axis, object positions, int64_t chunk, int64_t inner) except -1:
        """The items at `positions` (int64) of an axis, in that order."""
        cdef int64_t n = len(positions)
        cdef int64_t n_pieces
        cdef Piece* pieces
        cdef const int64_t* outs = NULL
        if n == 0:
            return 0
        n_pieces = count_pieces(table(positions), n, inner)
        if n_pieces < 0:
            order = np.argsort(positions // inner, kind="stable")
            positions = positions[order]
            outs = table(order)
            n_pieces = count_pieces(table(positions), n, inner)
            self.owned = (self.owned, order)
        items = np.empty(n, np.int64)
        self.owned = (self.owned, items)
        pieces = take_pieces(self, axis, n_pieces)
        if pieces is NULL:
            raise no_memory(self, axis)
        fill_pieces(pieces, table(positions), n, inner, <int64_t*>table(items), outs)
        if not set_runs(self, axis, chunk // inner):
            raise no_memory(self, axis)
        return 0

    cdef int set_points(self, tuple axes, list coordinates, list chunks, list inners) except -1:
        """The points with these coordinates (int64, one array per axis of `axes`)."""
        cdef int i
        cdef const int64_t* outs = NULL
        # The selection False has no points on no axes.
        cdef int64_t n = len(coordinates[0]) if coordinates else 0
        self.n_dims = self.ndim + 1
        self.n_point_axes = len(axes)
        for i in range(self.n_point_axes):
            self.point_axes[i] = axes[i]
            self.is_point_axis[axes[i]] = True
            self.n_runs[<int>axes[i]] = 1
            self.per_value[<int>axes[i]] = chunks[i] // inners[i]
        if n == 0:
            return 0
        cells, items, order = sorted_points(coordinates, chunks, inners)
        for i in range(self.n_point_axes):
            self.point_items[i] = table(items[i])
            self.point_chunks[i] = table(cells[i])
        # In the extra dimension the tables' items are positions in the tables of the points.
        numbers = np.arange(n, dtype=np.int64)
        self.owned = (self.owned, items, cells, numbers, order)
        if order is not None:
            outs = table(order)
        set_point_pieces(self, n, table(numbers), outs)
        if not set_runs(self, self.ndim, 1):
            raise no_memory(self, self.ndim)
        return 0

    cdef void find_place(self, int64_t number, Place* place) noexcept nogil:
        cdef int dim, i, axis
        cdef int64_t which
        cdef const Run* run
        place.n_pieces = 1
        for dim in range(self.n_dims - 1, -1, -1):
            if dim < self.ndim and self.is_point_axis[dim]:
                continue
            which = number % self.n_runs[dim]
            number //= self.n_runs[dim]
            run = &self.runs[dim][which]
            place.begin[dim] = run.begin
            place.count[dim] = run.end - run.begin
            place.n_pieces *= place.count[dim]
            if dim < self.ndim:
                place.value[dim] = run.value
                continue
            which = self.pieces[dim][run.begin].items[0]
            for i in range(self.n_point_axes):
                axis = self.point_axes[i]
                place.value[axis] = self.point_chunks[i][which] // self.per_value[axis]

    cdef void find_cell(self, const Place* place, int64_t number, Cell* cell) noexcept nogil:
        cdef int dim, i
        cdef int64_t which
        for dim in range(self.n_dims - 1, -1, -1):
            if dim < self.ndim and self.is_point_axis[dim]:
                cell.pieces[dim] = NULL
                continue
            which = place.begin[dim] + number % place.count[dim]
            number //= place.count[dim]
            cell.pieces[dim] = &self.pieces[dim][which]
            if dim < self.ndim:
                cell.chunk[dim] = cell.pieces[dim].chunk
                continue
            for i in range(self.n_point_axes):
                cell.chunk[self.point_axes[i]] = self.point_chunks[i][cell.pieces[dim].items[0]]

    cdef int64_t n_points(self, const Cell* cell) noexcept nogil:
        return cell.pieces[self.ndim].count if self.n_dims > self.ndim else 0

    cdef int cell_loops(self, const Cell* cell, const int64_t* chunk_strides, const int64_t* buffer_strides,
                        bint to_chunk, int64_t* offsets, Loop* loops, int64_t* chunk_offset,
                        int64_t* buffer_offset) noexcept nogil:
        cdef int dim, i, n = 0
        cdef int64_t k, chunk_stride
        cdef const Piece* piece
        cdef const int64_t* items
        chunk_offset[0] = buffer_offset[0] = 0
        for dim in range(self.n_dims):
            piece = cell.pieces[dim]
            if piece is NULL:
                continue
            items = piece.items
            if dim < self.ndim:
                # The step of a single item may be any number.
                chunk_stride = chunk_strides[dim] if piece.count == 1 else chunk_strides[dim] * piece.step
                chunk_offset[0] += piece.first * chunk_strides[dim]
            else:
                # The points' places in the chunk are offsets in bytes, summed over the axes that they span.
                chunk_stride = 1
                for k in range(piece.count):
                    offsets[k] = 0
                for i in range(self.n_point_axes):
                    for k in range(piece.count):
                        offsets[k] += self.point_items[i][piece.items[k]] * chunk_strides[self.point_axes[i]]
                items = offsets
            buffer_offset[0] += piece.out * buffer_strides[dim]
            if to_chunk:
                loops[n] = Loop(piece.count, buffer_strides[dim], chunk_stride, piece.outs, items)
            else:
                loops[n] = Loop(piece.count, chunk_stride, buffer_strides[dim], items, piece.outs)
            n += 1
        return n

    cdef void finish(self) noexcept nogil:
        """Count the values of the store that are touched."""
        cdef int dim
        self.n_values = 1
        for dim in range(self.n_dims):
            self.n_values *= self.n_runs[dim]


cdef object no_memory(Plan plan, int axis):
    return MemoryError(
        f"expected memory for the {plan.n_pieces[axis]} chunks of a selection along axis {axis}, got none")


cdef Piece* take_pieces(Plan plan, int axis, int64_t n) noexcept nogil:
    """Room for n pieces along an axis; NULL when memory is short."""
    cdef Piece* pieces
    plan.n_pieces[axis] = n
    if n <= N_INLINE - plan.n_inline_pieces:
        pieces = &plan.inline_pieces[plan.n_inline_pieces]
        plan.n_inline_pieces += n
    else:
        pieces = <Piece*>malloc(n * sizeof(Piece)) if n <= MAX_PIECES else NULL
    plan.pieces[axis] = pieces
    return pieces


cdef Run* take_runs(Plan plan, int axis, int64_t n) noexcept nogil:
    """Room for n runs along an axis; NULL when memory is short."""
    cdef Run* runs
    if n <= N_INLINE - plan.n_inline_runs:
        runs = &plan.inline_runs[plan.n_inline_runs]
        plan.n_inline_runs += n
    else:
        runs = <Run*>malloc(n * sizeof(Run))
    plan.runs[axis] = runs
    return runs


cdef bint set_runs(Plan plan, int axis, int64_t per_value) noexcept nogil:
    """Group the pieces of an axis by the stored chunk, which holds `per_value` chunks along the axis. False when memory
    is short."""
    cdef int64_t i, n = 0, value
    cdef Run* runs = take_runs(plan, axis, plan.n_pieces[axis])
    if runs is NULL:
        return False
    if axis < plan.ndim:
        plan.per_value[axis] = per_value
    for i in range(plan.n_pieces[axis]):
        value = plan.pieces[axis][i].chunk // per_value
        if n and runs[n - 1].value == value:
            runs[n - 1].end = i + 1
        else:
            runs[n] = Run(value, i, i + 1)
            n += 1
    plan.n_runs[axis] = n
    return True


# ---- positions along an axis


cdef int64_t count_pieces(const int64_t* positions, int64_t n, int64_t inner) noexcept nogil:
    """How many chunks the positions take, one after the other; -1 when they go back to an earlier one."""
    cdef int64_t i, begin = 0, end = 0, count = 0
    for i in range(n):
        if begin <= positions[i] < end:
            continue
        if positions[i] < begin:
            return -1
        begin = positions[i] // inner * inner
        end = begin + inner
        count += 1
    return count


cdef void fill_pieces(Piece* piece, const int64_t* positions, int64_t n, int64_t inner, int64_t* items,
                      const int64_t* outs) noexcept nogil:
    """The pieces of positions that are sorted by chunk. Those evenly spaced in a chunk need no table."""
    cdef int64_t k = 0, end, begin, step, i
    cdef bint is_even
    while k < n:
        piece.chunk = positions[k] // inner
        begin = piece.chunk * inner
        end = k + 1
        step = positions[end] - positions[k] if end < n and positions[end] < begin + inner else 1
        is_even = step > 0 and outs is NULL
        while end < n and begin <= positions[end] < begin + inner:
            is_even = is_even and positions[end] - positions[end - 1] == step
            end += 1
        piece.count = end - k
        if is_even:
            piece[0] = Piece(piece.chunk, positions[k] - begin, step, end - k, k, NULL, NULL)
        else:
            for i in range(k, end):
                items[i] = positions[i] - begin
            piece[0] = Piece(piece.chunk, 0, 1, end - k, k, items + k, NULL)
            if outs is not NULL:
                piece.out = 0
                piece.outs = outs + k
        piece += 1
        k = end


# ---- points


# One axis of the points.
cdef struct PointAxis:
    const int64_t* coordinates
    int64_t chunk
    int64_t inner
    int64_t n_values    # stored chunks that the points may lie in
    int64_t n_inner     # inner chunks of one
    int64_t* cells      # of the sorted points: the chunk,
    int64_t* items      # and the place in it


cdef tuple sorted_points(list coordinates, list chunks, list inners):
    """The points by stored chunk and then by inner chunk: per axis their chunks and their places in them, and the order
    they came in, None when it is this one."""
    cdef PointAxis axes[MAX_NDIM]
    cdef int i, n_axes = len(coordinates)
    cdef int64_t n = len(coordinates[0])
    cdef const int64_t* c_order = NULL
    cdef bint is_sorted
    n_chunks = 1
    cells = [np.empty(n, np.int64) for _ in coordinates]
    items = [np.empty(n, np.int64) for _ in coordinates]
    for i in range(n_axes):
        n_values = int(coordinates[i].max()) // chunks[i] + 1
        axes[i] = PointAxis(table(coordinates[i]), chunks[i], inners[i], n_values, chunks[i] // inners[i],
                            <int64_t*>table(cells[i]), <int64_t*>table(items[i]))
        n_chunks *= n_values * (chunks[i] // inners[i])
    order = None
    if n_chunks > MAX_KEY:
        # More chunks than an integer counts. lexsort's last key is its first.
        keys = [c // inner for c, inner in zip(coordinates, inners)]
        keys = [c // chunk for c, chunk in zip(coordinates, chunks)] + keys
        order = np.lexsort(keys[::-1])
    else:
        keys = np.empty(n, np.int64)
        is_sorted = fill_keys(axes, n_axes, n, <int64_t*>table(keys))
        if not is_sorted:
            order = sort_order(keys)
    if order is not None:
        c_order = table(order)
    for i in range(n_axes):
        with nogil:
            split_coordinates(&axes[i], n, c_order)
    return cells, items, order


cdef bint fill_keys(const PointAxis* axes, int n_axes, int64_t n, int64_t* keys) noexcept nogil:
    """For each point the number of its chunk among all. True when the points come in this order."""
    cdef int64_t k, value, key, inner_key, last = 0
    cdef bint is_sorted = True
    cdef int i
    for k in range(n):
        key = inner_key = 0
        for i in range(n_axes):
            value = axes[i].coordinates[k] // axes[i].chunk
            key = key * axes[i].n_values + value
            if axes[i].n_inner > 1:
                inner_key *= axes[i].n_inner
                inner_key += (axes[i].coordinates[k] - value * axes[i].chunk) // axes[i].inner
        for i in range(n_axes):
            key *= axes[i].n_inner
        key += inner_key
        is_sorted = is_sorted and key >= last
        keys[k] = last = key
    return is_sorted


cdef void split_coordinates(PointAxis* axis, int64_t n, const int64_t* order) noexcept nogil:
    cdef int64_t k, coordinate
    for k in range(n):
        coordinate = axis.coordinates[k if order is NULL else order[k]]
        axis.cells[k] = coordinate // axis.inner
        axis.items[k] = coordinate - axis.cells[k] * axis.inner


cdef object sort_order(object keys):
    """The stable order of keys that are not negative: a radix sort by as many digits as the largest has."""
    cdef int64_t n = len(keys)
    cdef int64_t largest = keys.max()
    cdef int64_t counts[N_DIGITS]
    cdef const int64_t* c_keys = table(keys)
    cdef int64_t* last
    cdef int64_t* next
    cdef int64_t k, digit, total
    cdef int shift = 0
    order = np.arange(n, dtype=np.int64)
    other = np.empty(n, np.int64)
    while True:
        last, next = <int64_t*>table(order), <int64_t*>table(other)
        memset(counts, 0, sizeof(counts))
        with nogil:
            for k in range(n):
                counts[(c_keys[k] >> shift) % N_DIGITS] += 1
            total = 0
            for digit in range(N_DIGITS):
                counts[digit], total = total, total + counts[digit]
            for k in range(n):
                digit = (c_keys[last[k]] >> shift) % N_DIGITS
                next[counts[digit]] = last[k]
                counts[digit] += 1
        order, other = other, order
        shift += DIGIT_BITS
        if largest >> shift == 0:
            return order


cdef int set_point_pieces(Plan plan, int64_t n, const int64_t* numbers, const int64_t* order) except -1:
    """A piece for each chunk that has points. Its `chunk` counts the stored chunks: their indices are read from the
    points."""
    cdef int64_t k, n_pieces = 1, n_values = 0
    cdef int i, axis
    cdef const int64_t* of_axis
    cdef bint is_new
    cdef Piece* piece
    for k in range(1, n):
        n_pieces += not same_chunk(plan, k)
    piece = take_pieces(plan, plan.ndim, n_pieces)
    if piece is NULL:
        raise no_memory(plan, plan.ndim)
    piece -= 1
    for k in range(n):
        if k and same_chunk(plan, k):
            piece.count += 1
            continue
        is_new = k == 0
        for i in range(plan.n_point_axes):
            axis = plan.point_axes[i]
            of_axis = plan.point_chunks[i]
            is_new = is_new or of_axis[k] // plan.per_value[axis] != of_axis[k - 1] // plan.per_value[axis]
        n_values += is_new
        piece += 1
        piece[0] = Piece(n_values - 1, 0, 1, 1, k, numbers + k, NULL)
        if order is not NULL:
            piece.out = 0
            piece.outs = order + k
    return 0


cdef inline bint same_chunk(Plan plan, int64_t k) noexcept nogil:
    """Whether a point lies in the chunk of the one before it."""
    cdef int i
    for i in range(plan.n_point_axes):
        if plan.point_chunks[i][k] != plan.point_chunks[i][k - 1]:
            return False
    return True
