"""C-Blosc 1 and C-Blosc2, as far as zarrcy calls them."""

cdef extern from "blosc_abi.h" nogil:
    const int BLOSC_MAX_BUFFERSIZE
    const int BLOSC_MAX_OVERHEAD
    const int BLOSC_MAX_TYPESIZE
    int blosc_compress_ctx(int clevel, int shuffle, size_t typesize, size_t nbytes, const void* src, void* dst,
                           size_t capacity, const char* cname, size_t blocksize, int n_threads)
    int blosc_decompress_ctx(const void* src, void* dst, size_t capacity, int n_threads)
    int blosc_cbuffer_validate(const void* src, size_t src_nbytes, size_t* nbytes)
    const char* blosc_list_compressors()
    const char* blosc_get_version_string()

    const bint ZARRCY_READS_WITH_BLOSC2
    void blosc2_prepare()
    const char* blosc2_version()
    void* blosc2_reader_make() noexcept
    void blosc2_reader_free(void* context) noexcept
    int blosc2_read(void* context, const void* src, int nbytes, void* dst, int capacity)
    int blosc2_read_items(void* context, const void* src, int nbytes, int start, int n_items, void* dst, int capacity)
