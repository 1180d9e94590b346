/* Raw deflate (RFC 1951) and the checksums of gzip and zlib, over the library that is linked: libdeflate, else zlib-ng, else
   zlib. The gzip and zlib wrappers around the stream are written and checked in deflate.pyx, the same for all three. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

typedef enum {
  DEFLATE_DONE,
  DEFLATE_CORRUPT,
  DEFLATE_TRUNCATED, /* the input ends before the stream does */
  DEFLATE_TOO_LARGE, /* the output does not fit */
  DEFLATE_NO_MEMORY
} deflate_outcome;

#if defined(ZARRCY_HAVE_LIBDEFLATE)

#include <libdeflate.h>

static const char* deflate_library(void) { return "libdeflate"; }
static const char* deflate_version(void) { return LIBDEFLATE_VERSION_STRING; }
static uint32_t deflate_crc32(const void* data, size_t nbytes) { return libdeflate_crc32(0, data, nbytes); }
static uint32_t deflate_adler32(const void* data, size_t nbytes) { return libdeflate_adler32(1, data, nbytes); }

static void* inflater_make(void) { return libdeflate_alloc_decompressor(); }
static void inflater_free(void* context) { libdeflate_free_decompressor((struct libdeflate_decompressor*)context); }

static deflate_outcome inflate_raw(void* context, const uint8_t* src, size_t nbytes, size_t* n_read, uint8_t* dst,
                                   size_t capacity, size_t* n_written) {
  switch (libdeflate_deflate_decompress_ex((struct libdeflate_decompressor*)context, src, nbytes, dst, capacity, n_read,
                                           n_written)) {
    case LIBDEFLATE_SUCCESS: return DEFLATE_DONE;
    case LIBDEFLATE_INSUFFICIENT_SPACE: return DEFLATE_TOO_LARGE;
    default: return DEFLATE_CORRUPT;
  }
}

/* One compressor for each level that the thread has met: a level is fixed when a compressor is made. */
typedef struct { struct libdeflate_compressor* of_level[13]; } deflater;

static void* deflater_make(void) { return calloc(1, sizeof(deflater)); }
static void deflater_free(void* context) {
  for (int level = 0; level < 13; ++level) libdeflate_free_compressor(((deflater*)context)->of_level[level]);
  free(context);
}

static deflate_outcome deflate_raw(void* context, int level, const uint8_t* src, size_t nbytes, uint8_t* dst,
                                   size_t capacity, size_t* n_written) {
  struct libdeflate_compressor** compressor = &((deflater*)context)->of_level[level];
  if (!*compressor) *compressor = libdeflate_alloc_compressor(level);
  if (!*compressor) return DEFLATE_NO_MEMORY;
  *n_written = libdeflate_deflate_compress(*compressor, src, nbytes, dst, capacity);
  return *n_written ? DEFLATE_DONE : DEFLATE_TOO_LARGE;
}

#else /* zlib-ng and zlib differ in the names of functions and the width of some members only */

#if defined(ZARRCY_HAVE_ZLIB_NG)
#if defined(ZARRCY_NO_HEADERS)
/* zlib-ng 2.1 and later, native interface (zlib-ng.h). */
typedef struct {
  const uint8_t* next_in;
  uint32_t avail_in;
  size_t total_in;
  uint8_t* next_out;
  uint32_t avail_out;
  size_t total_out;
  const char* msg;
  void* state;
  void* (*zalloc)(void* opaque, unsigned items, unsigned size);
  void (*zfree)(void* opaque, void* address);
  void* opaque;
  int data_type;
  uint32_t adler;
  unsigned long reserved;
} zng_stream;
enum { Z_NO_FLUSH = 0, Z_FINISH = 4, Z_OK = 0, Z_STREAM_END = 1, Z_MEM_ERROR = -4, Z_BUF_ERROR = -5, Z_DEFLATED = 8 };
enum { Z_DEFAULT_STRATEGY = 0 };
int32_t zng_inflateInit2(zng_stream* stream, int32_t window_bits);
int32_t zng_inflateReset(zng_stream* stream);
int32_t zng_inflate(zng_stream* stream, int32_t flush);
int32_t zng_inflateEnd(zng_stream* stream);
int32_t zng_deflateInit2(zng_stream* stream, int32_t level, int32_t method, int32_t window_bits, int32_t memory_level,
                         int32_t strategy);
int32_t zng_deflateReset(zng_stream* stream);
int32_t zng_deflate(zng_stream* stream, int32_t flush);
int32_t zng_deflateEnd(zng_stream* stream);
uint32_t zng_crc32_z(uint32_t crc, const uint8_t* data, size_t nbytes);
uint32_t zng_adler32_z(uint32_t adler, const uint8_t* data, size_t nbytes);
const char* zlibng_version(void);
#else
#include <zlib-ng.h>
#endif
#define ZARRCY_Z(name) zng_##name
typedef zng_stream zarrcy_stream;
static const char* deflate_library(void) { return "zlib-ng"; }
static const char* deflate_version(void) { return zlibng_version(); }
#else
#include <zlib.h>
#define ZARRCY_Z(name) name
typedef z_stream zarrcy_stream;
static const char* deflate_library(void) { return "zlib"; }
static const char* deflate_version(void) { return zlibVersion(); }
#endif

static uint32_t deflate_crc32(const void* data, size_t nbytes) {
  return (uint32_t)ZARRCY_Z(crc32_z)(0, (const uint8_t*)data, nbytes);
}
static uint32_t deflate_adler32(const void* data, size_t nbytes) {
  return (uint32_t)ZARRCY_Z(adler32_z)(1, (const uint8_t*)data, nbytes);
}

/* The streams count in 32 bits: what is longer goes through in portions. */
#define DEFLATE_PORTION ((size_t)1 << 30)
static size_t deflate_portion(size_t nbytes) { return nbytes < DEFLATE_PORTION ? nbytes : DEFLATE_PORTION; }

static void* inflater_make(void) {
  zarrcy_stream* stream = (zarrcy_stream*)calloc(1, sizeof(zarrcy_stream));
  if (stream && ZARRCY_Z(inflateInit2)(stream, -15) != Z_OK) {
    free(stream);
    return NULL;
  }
  return stream;
}
static void inflater_free(void* context) {
  ZARRCY_Z(inflateEnd)((zarrcy_stream*)context);
  free(context);
}

static deflate_outcome inflate_raw(void* context, const uint8_t* src, size_t nbytes, size_t* n_read, uint8_t* dst,
                                   size_t capacity, size_t* n_written) {
  zarrcy_stream* stream = (zarrcy_stream*)context;
  uint8_t nowhere; /* the library refuses a null pointer, even for no bytes */
  size_t in_left = nbytes, out_left = capacity;
  ZARRCY_Z(inflateReset)(stream);
  stream->next_in = (uint8_t*)src;
  stream->next_out = dst ? dst : &nowhere;
  for (;;) {
    const size_t in = deflate_portion(in_left), out = deflate_portion(out_left);
    stream->avail_in = (uint32_t)in;
    stream->avail_out = (uint32_t)out;
    const int flush = in == in_left && out == out_left ? Z_FINISH : Z_NO_FLUSH;
    const int result = ZARRCY_Z(inflate)(stream, flush);
    in_left -= in - stream->avail_in;
    out_left -= out - stream->avail_out;
    if (result == Z_STREAM_END) break;
    if (result == Z_MEM_ERROR) return DEFLATE_NO_MEMORY;
    if (result != Z_OK && result != Z_BUF_ERROR) return DEFLATE_CORRUPT;
    const int stuck = stream->avail_in == in && stream->avail_out == out;
    if (flush == Z_FINISH || stuck) return in_left ? DEFLATE_TOO_LARGE : DEFLATE_TRUNCATED;
  }
  *n_read = nbytes - in_left;
  *n_written = capacity - out_left;
  return DEFLATE_DONE;
}

/* One stream for each level that the thread has met: resetting it costs less than changing its level. */
typedef struct { zarrcy_stream* of_level[10]; } deflater;

static void* deflater_make(void) { return calloc(1, sizeof(deflater)); }
static void deflater_free(void* context) {
  for (int level = 0; level < 10; ++level) {
    zarrcy_stream* stream = ((deflater*)context)->of_level[level];
    if (stream) ZARRCY_Z(deflateEnd)(stream);
    free(stream);
  }
  free(context);
}

static zarrcy_stream* deflater_stream(deflater* streams, int level) {
  zarrcy_stream* stream = streams->of_level[level];
  if (stream) {
    ZARRCY_Z(deflateReset)(stream);
    return stream;
  }
  stream = (zarrcy_stream*)calloc(1, sizeof(zarrcy_stream));
  if (stream && ZARRCY_Z(deflateInit2)(stream, level, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
    free(stream);
    return NULL;
  }
  return streams->of_level[level] = stream;
}

static deflate_outcome deflate_raw(void* context, int level, const uint8_t* src, size_t nbytes, uint8_t* dst,
                                   size_t capacity, size_t* n_written) {
  static const uint8_t nothing = 0;
  zarrcy_stream* stream = deflater_stream((deflater*)context, level);
  if (!stream) return DEFLATE_NO_MEMORY;
  size_t in_left = nbytes, out_left = capacity;
  stream->next_in = (uint8_t*)(src ? src : &nothing);
  stream->next_out = dst;
  for (;;) {
    const size_t in = deflate_portion(in_left), out = deflate_portion(out_left);
    stream->avail_in = (uint32_t)in;
    stream->avail_out = (uint32_t)out;
    const int result = ZARRCY_Z(deflate)(stream, in == in_left ? Z_FINISH : Z_NO_FLUSH);
    in_left -= in - stream->avail_in;
    out_left -= out - stream->avail_out;
    if (result == Z_STREAM_END) break;
    if (out_left == 0 || (result != Z_OK && result != Z_BUF_ERROR)) return DEFLATE_TOO_LARGE;
  }
  *n_written = capacity - out_left;
  return DEFLATE_DONE;
}

#endif
