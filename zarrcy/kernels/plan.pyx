"""A selection laid over a chunk grid: which items of which chunks go where, as tables per axis.

The tables grow with the chunks along each axis, never with their product. In a sharded array the grid is that of the
inner chunks; pieces of one shard are neighbours, and a `Run` names them.
"""
cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from zarrcy.kernels.copy cimport Loop

import numpy as np


cdef enum:
    MAX_PIECES = 0x1000000000000    # along an axis: their table fits a size_t


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
        if len(positions) == 0:
            return 0
        chunks = positions // inner
        items = positions - chunks * inner
        if (np.diff(chunks) < 0).any():
            outs = np.argsort(chunks, kind="stable")
            chunks = chunks[outs]
            items = items[outs]
        else:
            outs = np.arange(len(positions), dtype=np.int64)
        begins = np.concatenate(([0], np.flatnonzero(np.diff(chunks)) + 1))
        return set_tables(self, axis, chunks[begins], begins, len(positions), items, outs, chunk // inner)

    cdef int set_points(self, tuple axes, list coordinates, list chunks, list inners) except -1:
        """The points with these coordinates (int64, one array per axis of `axes`)."""
        cdef int i
        # The selection False has no points on no axes.
        cdef Py_ssize_t n = len(coordinates[0]) if coordinates else 0
        self.n_dims = self.ndim + 1
        self.n_point_axes = len(axes)
        for i in range(self.n_point_axes):
            self.point_axes[i] = axes[i]
            self.is_point_axis[axes[i]] = True
            self.n_runs[<int>axes[i]] = 1
            self.per_value[<int>axes[i]] = chunks[i] // inners[i]
        if n == 0:
            return 0
        cells = [c // inner for c, inner in zip(coordinates, inners)]
        values = [c // chunk for c, chunk in zip(coordinates, chunks)]
        # Sorted by stored chunk, then by inner chunk: lexsort's last key is its first.
        outs = np.lexsort([*reversed(cells), *reversed(values)])
        cells = [np.ascontiguousarray(cell[outs]) for cell in cells]
        values = [value[outs] for value in values]
        items = [np.ascontiguousarray(c[outs] - cell * inner) for c, cell, inner in zip(coordinates, cells, inners)]
        new_cell = np.zeros(n, dtype=bool)
        new_value = np.zeros(n, dtype=bool)
        new_cell[0] = new_value[0] = True
        for cell, value in zip(cells, values):
            new_cell[1:] |= np.diff(cell) != 0
            new_value[1:] |= np.diff(value) != 0
        begins = np.flatnonzero(new_cell)
        # The extra dimension counts its stored chunks: their indices are read from the points.
        values_of_cells = np.cumsum(new_value)[begins] - 1
        for i in range(self.n_point_axes):
            self.point_items[i] = table(items[i])
            self.point_chunks[i] = table(cells[i])
        self.owned = (self.owned, items, cells)
        # In the extra dimension the tables' items are positions in the tables of the points.
        numbers = np.arange(n, dtype=np.int64)
        return set_tables(self, self.ndim, values_of_cells, begins, n, numbers, np.asarray(outs, np.int64), 1)

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
                chunk_stride = chunk_strides[dim] * piece.step
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


cdef int set_tables(Plan plan, int axis, object chunks, object begins, int64_t n, object items, object outs,
                    int64_t per_value) except -1:
    cdef int64_t i, n_pieces = len(begins)
    cdef const int64_t* item_table = table(items)
    cdef const int64_t* out_table = table(outs)
    cdef const int64_t* begin_table = table(begins)
    cdef const int64_t* chunk_table = table(chunks)
    cdef Piece* pieces = take_pieces(plan, axis, n_pieces)
    if pieces is NULL:
        raise no_memory(plan, axis)
    plan.owned = (plan.owned, items, outs)
    for i in range(n_pieces):
        pieces[i].chunk = chunk_table[i]
        pieces[i].first = 0
        pieces[i].step = 1
        pieces[i].count = (begin_table[i + 1] if i + 1 < n_pieces else n) - begin_table[i]
        pieces[i].out = 0
        pieces[i].items = item_table + begin_table[i]
        pieces[i].outs = out_table + begin_table[i]
    if not set_runs(plan, axis, per_value):
        raise no_memory(plan, axis)
    return 0
