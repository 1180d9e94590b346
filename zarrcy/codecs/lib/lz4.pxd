"""LZ4's block interface, as far as zarrcy calls it."""

cdef extern from "lz4_abi.h" nogil:
    const int LZ4_MAX_INPUT_SIZE
    int LZ4_sizeofState()
    int LZ4_compress_fast_extState(void* state, const char* src, char* dst, int nbytes, int capacity, int acceleration)
    int LZ4_decompress_safe(const char* src, char* dst, int nbytes, int capacity)
    const char* LZ4_versionString()
