/* C-Blosc 1, which writes the frames that Zarr means by "blosc", and, where it is linked, C-Blosc2, which reads most of them
   faster because it keeps its zstd context from one block to the next. */
#pragma once
#include <blosc.h>

#ifdef ZARRCY_HAVE_BLOSC2
#include <blosc2.h>

static void blosc2_prepare(void) { blosc2_init(); }
static const char* blosc2_version(void) { return blosc2_get_version_string(); }
static void* blosc2_reader_make(void) {
  blosc2_dparams parameters = BLOSC2_DPARAMS_DEFAULTS;
  parameters.nthreads = 1;
  return blosc2_create_dctx(parameters);
}
static void blosc2_reader_free(void* context) { blosc2_free_ctx((blosc2_context*)context); }
static int blosc2_read(void* context, const void* src, int nbytes, void* dst, int capacity) {
  return blosc2_decompress_ctx((blosc2_context*)context, src, nbytes, dst, capacity);
}
/* Items [start, start + n_items) of a frame: decodes the blocks they lie in. */
static int blosc2_read_items(void* context, const void* src, int nbytes, int start, int n_items, void* dst, int capacity) {
  return blosc2_getitem_ctx((blosc2_context*)context, src, nbytes, start, n_items, dst, capacity);
}
#define ZARRCY_READS_WITH_BLOSC2 1
#else
static void blosc2_prepare(void) {}
static const char* blosc2_version(void) { return ""; }
static void* blosc2_reader_make(void) { return 0; }
static void blosc2_reader_free(void* context) { (void)context; }
static int blosc2_read(void* context, const void* src, int nbytes, void* dst, int capacity) {
  (void)context; (void)src; (void)nbytes; (void)dst; (void)capacity;
  return -1;
}
static int blosc2_read_items(void* context, const void* src, int nbytes, int start, int n_items, void* dst, int capacity) {
  (void)context; (void)src; (void)nbytes; (void)start; (void)n_items; (void)dst; (void)capacity;
  return -1;
}
#define ZARRCY_READS_WITH_BLOSC2 0
#endif
