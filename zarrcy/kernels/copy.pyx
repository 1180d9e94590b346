"""Strided copies and fills of items between a chunk and a buffer.

A copy is a nest of loops. Loops that are contiguous in both buffers are merged, the one with the smallest steps becomes
the innermost, and that one runs in a kernel chosen by the size of the items.
"""
from libc.stdint cimport int64_t
from libc.stdlib cimport llabs
from libc.string cimport memcmp, memcpy, memset

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    /* Items of constant size: the compiler turns memcpy into loads and stores, whatever the alignment. An item may be a
       run of them. */
    #define ZARRCY_STRIDED(N) \
      for (int64_t i = 0; i < count; ++i, dst += dst_stride, src += src_stride) memcpy(dst, src, N)
    static inline void zarrcy_copy_strided(char* dst, int64_t dst_stride, const char* src, int64_t src_stride,
                                           int64_t count, int64_t itemsize) {
      switch (itemsize) {
        case 1: ZARRCY_STRIDED(1); break;
        case 2: ZARRCY_STRIDED(2); break;
        case 4: ZARRCY_STRIDED(4); break;
        case 8: ZARRCY_STRIDED(8); break;
        case 16: ZARRCY_STRIDED(16); break;
        case 32: ZARRCY_STRIDED(32); break;
        case 64: ZARRCY_STRIDED(64); break;
        case 128: ZARRCY_STRIDED(128); break;
        default: ZARRCY_STRIDED((size_t)itemsize);
      }
    }
    /* The same with positions on one side, or on both. */
    #define ZARRCY_PICK(N) \
      if (!dst_positions) \
        for (int64_t i = 0; i < count; ++i, dst += dst_stride) memcpy(dst, src + src_positions[i] * src_stride, N); \
      else if (!src_positions) \
        for (int64_t i = 0; i < count; ++i, src += src_stride) memcpy(dst + dst_positions[i] * dst_stride, src, N); \
      else \
        for (int64_t i = 0; i < count; ++i) \
          memcpy(dst + dst_positions[i] * dst_stride, src + src_positions[i] * src_stride, N)
    static inline void zarrcy_copy_picked(char* dst, int64_t dst_stride, const int64_t* dst_positions,
                                          const char* src, int64_t src_stride, const int64_t* src_positions,
                                          int64_t count, int64_t itemsize) {
      switch (itemsize) {
        case 1: ZARRCY_PICK(1); break;
        case 2: ZARRCY_PICK(2); break;
        case 4: ZARRCY_PICK(4); break;
        case 8: ZARRCY_PICK(8); break;
        case 16: ZARRCY_PICK(16); break;
        default: ZARRCY_PICK((size_t)itemsize);
      }
    }
    static inline void zarrcy_swap_item(char* dst, const char* src, int64_t itemsize, int word) {
      for (int64_t i = 0; i < itemsize; i += word) {
        if (word == 2) { uint16_t v; memcpy(&v, src + i, 2); v = __builtin_bswap16(v); memcpy(dst + i, &v, 2); }
        else if (word == 4) { uint32_t v; memcpy(&v, src + i, 4); v = __builtin_bswap32(v); memcpy(dst + i, &v, 4); }
        else { uint64_t v; memcpy(&v, src + i, 8); v = __builtin_bswap64(v); memcpy(dst + i, &v, 8); }
      }
    }
    static inline void zarrcy_swap_strided(char* dst, int64_t dst_stride, const char* src, int64_t src_stride,
                                           int64_t count, int64_t itemsize, int word) {
      if (itemsize == word) {   /* the usual case: let the compiler see a constant size */
        switch (word) {
          case 2: for (int64_t i = 0; i < count; ++i, dst += dst_stride, src += src_stride) zarrcy_swap_item(dst, src,
          2, 2); return; case 4: for (int64_t i = 0; i < count; ++i, dst += dst_stride, src += src_stride)
          zarrcy_swap_item(dst, src, 4, 4); return; case 8: for (int64_t i = 0; i < count; ++i, dst += dst_stride, src
          += src_stride) zarrcy_swap_item(dst, src, 8, 8); return;
        }
      }
      for (int64_t i = 0; i < count; ++i, dst += dst_stride, src += src_stride) zarrcy_swap_item(dst, src, itemsize,
      word);
    }
    """
    void copy_strided "zarrcy_copy_strided"(char* dst, int64_t dst_stride, const char* src, int64_t src_stride,
                                            int64_t count, int64_t itemsize) noexcept nogil
    void copy_picked "zarrcy_copy_picked"(char* dst, int64_t dst_stride, const int64_t* dst_positions,
                                          const char* src, int64_t src_stride, const int64_t* src_positions,
                                          int64_t count, int64_t itemsize) noexcept nogil
    void swap_item "zarrcy_swap_item"(char* dst, const char* src, int64_t itemsize, int word) noexcept nogil
    void swap_strided "zarrcy_swap_strided"(char* dst, int64_t dst_stride, const char* src, int64_t src_stride,
                                            int64_t count, int64_t itemsize, int word) noexcept nogil


cdef inline int64_t offset_of(int64_t i, int64_t stride, const int64_t* positions) noexcept nogil:
    return (i if positions is NULL else positions[i]) * stride


cdef inline bint has_table(Loop* loop) noexcept nogil:
    return loop.src_positions is not NULL or loop.dst_positions is not NULL


cdef inline bint is_run(Loop* loop, int64_t itemsize) noexcept nogil:
    """Whether the items of the loop are contiguous on both sides: together they are one larger item."""
    return not has_table(loop) and loop.dst_stride == itemsize and loop.src_stride == itemsize


cdef int arrange(char** dst, const char** src, Loop* loops, int n_loops) noexcept nogil:
    """Drop loops of one turn, put the smallest steps innermost and merge what is contiguous; returns how many are
    left."""
    cdef int i, j, n = 0
    cdef Loop loop
    for i in range(n_loops):
        loop = loops[i]
        if loop.count == 1:
            dst[0] += offset_of(0, loop.dst_stride, loop.dst_positions)
            src[0] += offset_of(0, loop.src_stride, loop.src_positions)
            continue
        j = n
        while j > 0 and llabs(loops[j - 1].dst_stride) < llabs(loop.dst_stride):
            loops[j] = loops[j - 1]
            j -= 1
        loops[j] = loop
        n += 1
    i = 0
    for j in range(1, n):
        if (not has_table(&loops[i]) and not has_table(&loops[j])
                and loops[i].dst_stride == loops[j].dst_stride * loops[j].count
                and loops[i].src_stride == loops[j].src_stride * loops[j].count):
            loops[j].count *= loops[i].count
            loops[i] = loops[j]
        else:
            i += 1
            loops[i] = loops[j]
    return i + 1 if n else 0


cdef void copy_innermost(char* dst, const char* src, Loop* loop, int64_t itemsize, int word) noexcept nogil:
    cdef int64_t i, dst_offset, src_offset
    if has_table(loop) and word:
        for i in range(loop.count):
            dst_offset = offset_of(i, loop.dst_stride, loop.dst_positions)
            src_offset = offset_of(i, loop.src_stride, loop.src_positions)
            swap_item(dst + dst_offset, src + src_offset, itemsize, word)
    elif has_table(loop):
        copy_picked(dst, loop.dst_stride, loop.dst_positions, src, loop.src_stride, loop.src_positions, loop.count,
                    itemsize)
    elif word:
        swap_strided(dst, loop.dst_stride, src, loop.src_stride, loop.count, itemsize, word)
    else:
        copy_strided(dst, loop.dst_stride, src, loop.src_stride, loop.count, itemsize)


cdef void copy_nest(char* dst, const char* src, Loop* loops, int n_loops, int64_t itemsize, int word) noexcept nogil:
    cdef int64_t i
    if n_loops == 1:
        copy_innermost(dst, src, loops, itemsize, word)
        return
    for i in range(loops.count):
        copy_nest(dst + offset_of(i, loops.dst_stride, loops.dst_positions),
                  src + offset_of(i, loops.src_stride, loops.src_positions), loops + 1, n_loops - 1, itemsize, word)


cdef void copy_items(char* dst, const char* src, Loop* loops, int n_loops, int64_t itemsize, int word) noexcept nogil:
    cdef int i
    cdef Loop one
    for i in range(n_loops):
        if loops[i].count == 0:
            return
    n_loops = arrange(&dst, &src, loops, n_loops)
    if n_loops and word == 0 and is_run(&loops[n_loops - 1], itemsize):
        n_loops -= 1
        itemsize *= loops[n_loops].count
    if n_loops:
        copy_nest(dst, src, loops, n_loops, itemsize, word)
    else:
        one = Loop(1, itemsize, itemsize, NULL, NULL)
        copy_innermost(dst, src, &one, itemsize, word)


cdef bint is_one_byte(const char* item, int64_t itemsize) noexcept nogil:
    cdef int64_t i
    for i in range(1, itemsize):
        if item[i] != item[0]:
            return False
    return True


cdef void fill_items(char* dst, const char* item, Loop* loops, int n_loops, int64_t itemsize) noexcept nogil:
    cdef int i
    cdef bint one_byte = is_one_byte(item, itemsize)
    cdef const char* src = item
    for i in range(n_loops):
        if loops[i].count == 0:
            return
        loops[i].src_positions = NULL
        # A zero stride reads the one item again and again. A pattern of one byte needs no source: pretending that it is
        # contiguous lets loops merge into runs for memset.
        loops[i].src_stride = loops[i].dst_stride if one_byte else 0
    n_loops = arrange(&dst, &src, loops, n_loops)
    fill_nest(dst, item, loops, n_loops, itemsize, one_byte)


cdef void fill_nest(char* dst, const char* item, Loop* loops, int n_loops, int64_t itemsize,
                    bint one_byte) noexcept nogil:
    cdef int64_t i
    if n_loops == 0:
        memcpy(dst, item, itemsize)
    elif n_loops == 1 and one_byte and loops.dst_stride == itemsize and loops.dst_positions is NULL:
        memset(dst, item[0], loops.count * itemsize)
    elif n_loops == 1 and loops.dst_positions is NULL:
        copy_strided(dst, loops.dst_stride, item, 0, loops.count, itemsize)
    else:
        for i in range(loops.count):
            fill_nest(dst + offset_of(i, loops.dst_stride, loops.dst_positions), item, loops + 1, n_loops - 1,
                      itemsize, one_byte)


cdef bint all_items_are(const char* items, const char* item, int64_t n, int64_t itemsize) noexcept nogil:
    # Equal to its first item, and equal to itself one item further on: all items are equal.
    if n == 0:
        return True
    return memcmp(items, item, itemsize) == 0 and memcmp(items, items + itemsize, (n - 1) * itemsize) == 0
