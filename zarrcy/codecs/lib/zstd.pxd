"""zstd, as far as zarrcy calls it."""

cdef extern from "zstd_abi.h" nogil:
    ctypedef struct ZSTD_CCtx:
        pass
    ctypedef struct ZSTD_DCtx:
        pass
    ctypedef enum ZSTD_cParameter:
        ZSTD_c_compressionLevel
        ZSTD_c_checksumFlag
    ctypedef enum ZSTD_dParameter:
        ZARRCY_ZSTD_STABLE_OUTPUT
    ctypedef enum ZSTD_ResetDirective:
        ZSTD_reset_session_only
    ctypedef struct ZSTD_inBuffer:
        const void* src
        size_t size
        size_t pos
    ctypedef struct ZSTD_outBuffer:
        void* dst
        size_t size
        size_t pos
    ctypedef enum ZSTD_ErrorCode:
        ZSTD_error_checksum_wrong
        ZSTD_error_memory_allocation
        ZSTD_error_dstSize_tooSmall
    const unsigned long long ZSTD_CONTENTSIZE_UNKNOWN
    const unsigned long long ZSTD_CONTENTSIZE_ERROR

    ZSTD_CCtx* ZSTD_createCCtx()
    size_t ZSTD_freeCCtx(ZSTD_CCtx* context)
    size_t ZSTD_CCtx_setParameter(ZSTD_CCtx* context, ZSTD_cParameter parameter, int value)
    size_t ZSTD_compress2(ZSTD_CCtx* context, void* dst, size_t capacity, const void* src, size_t nbytes)
    size_t ZSTD_compressBound(size_t nbytes)
    ZSTD_DCtx* ZSTD_createDCtx()
    size_t ZSTD_freeDCtx(ZSTD_DCtx* context)
    size_t ZSTD_decompressDCtx(ZSTD_DCtx* context, void* dst, size_t capacity, const void* src, size_t nbytes)
    size_t ZSTD_DCtx_setParameter(ZSTD_DCtx* context, ZSTD_dParameter parameter, int value)
    size_t ZSTD_DCtx_reset(ZSTD_DCtx* context, ZSTD_ResetDirective reset)
    size_t ZSTD_decompressStream(ZSTD_DCtx* context, ZSTD_outBuffer* output, ZSTD_inBuffer* input)
    unsigned long long ZSTD_getFrameContentSize(const void* src, size_t nbytes)
    unsigned ZSTD_isError(size_t result)
    ZSTD_ErrorCode ZSTD_getErrorCode(size_t result)
    const char* ZSTD_getErrorName(size_t result)
    int ZSTD_minCLevel()
    int ZSTD_maxCLevel()
    const char* ZSTD_versionString()
