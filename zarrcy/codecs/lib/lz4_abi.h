/* LZ4's block interface, as far as zarrcy calls it. The build requirements hold the library without its headers: there, the
   prototypes of its stable interface (lz4 1.9 and later, lz4.h) stand here. */
#pragma once

#ifdef ZARRCY_NO_HEADERS
#define LZ4_MAX_INPUT_SIZE 0x7E000000
int LZ4_sizeofState(void);
int LZ4_compress_fast_extState(void* state, const char* src, char* dst, int nbytes, int capacity, int acceleration);
int LZ4_decompress_safe(const char* src, char* dst, int nbytes, int capacity);
const char* LZ4_versionString(void);
#else
#include <lz4.h>
#endif
