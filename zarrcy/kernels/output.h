// The memory of large new arrays: a handler for NumPy (NEP 49).
#pragma once
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <numpy/arrayobject.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

enum {
  // As for a worker's scratch (pool.cpp): where malloc puts a large array, the kernel copies into it at a fifth of its
  // speed.
  ZARRCY_ALIGNMENT = 128,
  ZARRCY_HUGE_PAGES_FROM = 4 << 20,  // as NumPy
};

static void* zarrcy_allocate(void* context, size_t nbytes) {
  void* memory = NULL;
  (void)context;
  if (posix_memalign(&memory, ZARRCY_ALIGNMENT, nbytes ? nbytes : 1)) return NULL;
#ifdef MADV_HUGEPAGE
  if (nbytes >= ZARRCY_HUGE_PAGES_FROM) {
    uintptr_t first = ((uintptr_t)memory + 4095) & ~(uintptr_t)4095;
    madvise((void*)first, nbytes - (first - (uintptr_t)memory), MADV_HUGEPAGE);
  }
#endif
  return memory;
}

static void* zarrcy_allocate_zeros(void* context, size_t n, size_t size) {
  void* memory = size && n > SIZE_MAX / size ? NULL : zarrcy_allocate(context, n * size);
  return memory ? memset(memory, 0, n * size) : NULL;
}

static void* zarrcy_reallocate(void* context, void* memory, size_t nbytes) {
  (void)context;
  return realloc(memory, nbytes ? nbytes : 1);
}

static void zarrcy_release(void* context, void* memory, size_t nbytes) {
  (void)context, (void)nbytes;
  free(memory);
}

static PyDataMem_Handler zarrcy_memory = {
    "zarrcy", 1, {NULL, zarrcy_allocate, zarrcy_allocate_zeros, zarrcy_reallocate, zarrcy_release}};
