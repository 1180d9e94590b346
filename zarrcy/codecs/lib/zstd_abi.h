/* zstd, as far as zarrcy calls it. The build requirements hold the library without its headers: there, the prototypes of
   its stable interface (zstd 1.4 and later, manual: facebook.github.io/zstd) stand here. */
#pragma once
#include <stddef.h>

#ifdef ZARRCY_NO_HEADERS
typedef struct ZSTD_CCtx_s ZSTD_CCtx;
typedef struct ZSTD_DCtx_s ZSTD_DCtx;
typedef enum { ZSTD_c_compressionLevel = 100, ZSTD_c_checksumFlag = 201 } ZSTD_cParameter;
typedef enum { ZSTD_d_experimentalParam2 = 1001 } ZSTD_dParameter;
typedef enum { ZSTD_reset_session_only = 1 } ZSTD_ResetDirective;
typedef struct { const void* src; size_t size; size_t pos; } ZSTD_inBuffer;
typedef struct { void* dst; size_t size; size_t pos; } ZSTD_outBuffer;
typedef enum {
  ZSTD_error_checksum_wrong = 22,
  ZSTD_error_memory_allocation = 64,
  ZSTD_error_dstSize_tooSmall = 70
} ZSTD_ErrorCode;
#define ZSTD_CONTENTSIZE_UNKNOWN (0ULL - 1)
#define ZSTD_CONTENTSIZE_ERROR (0ULL - 2)

ZSTD_CCtx* ZSTD_createCCtx(void);
size_t ZSTD_freeCCtx(ZSTD_CCtx* context);
size_t ZSTD_CCtx_setParameter(ZSTD_CCtx* context, ZSTD_cParameter parameter, int value);
size_t ZSTD_compress2(ZSTD_CCtx* context, void* dst, size_t capacity, const void* src, size_t nbytes);
size_t ZSTD_compressBound(size_t nbytes);
ZSTD_DCtx* ZSTD_createDCtx(void);
size_t ZSTD_freeDCtx(ZSTD_DCtx* context);
size_t ZSTD_decompressDCtx(ZSTD_DCtx* context, void* dst, size_t capacity, const void* src, size_t nbytes);
size_t ZSTD_DCtx_setParameter(ZSTD_DCtx* context, ZSTD_dParameter parameter, int value);
size_t ZSTD_DCtx_reset(ZSTD_DCtx* context, ZSTD_ResetDirective reset);
size_t ZSTD_decompressStream(ZSTD_DCtx* context, ZSTD_outBuffer* output, ZSTD_inBuffer* input);
unsigned long long ZSTD_getFrameContentSize(const void* src, size_t nbytes);
unsigned ZSTD_isError(size_t result);
ZSTD_ErrorCode ZSTD_getErrorCode(size_t result);
const char* ZSTD_getErrorName(size_t result);
int ZSTD_minCLevel(void);
int ZSTD_maxCLevel(void);
const char* ZSTD_versionString(void);
#else
#include <zstd.h>
#include <zstd_errors.h>
#endif

/* The stream writes straight into the output buffer, which stays the same until the frame ends, and keeps no window of its
   own (zstd 1.4.5 and later; a library that does not know it refuses it, and no part is decoded then). */
#define ZARRCY_ZSTD_STABLE_OUTPUT ZSTD_d_experimentalParam2
