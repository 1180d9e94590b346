"""Which version of its metadata document says that an array has the shape that a transfer takes it to have.

Another process may make the array longer at any time. A chunk that sticks out of the array then holds items that this
one knows nothing of, and may not be replaced as a whole. To read it and keep what lies beyond the edge is always right.
To see, under the lock of the chunk, that the document is the one that was read is right too, and takes a fraction of
the time of reading and decoding a chunk.

A document that was written in the last two seconds is not trusted: it could be written again without another time.
"""
from zarrcy.kernels.posix cimport close_value, open_value
from zarrcy.kernels.posix_compat cimport (
    zarrcy_is_same_version, zarrcy_is_settled, zarrcy_now_ns, zarrcy_version_of)
from zarrcy.transfer_call cimport note_reshaped, was_reshaped

from zarrcy.errors import ZarrcyError
from zarrcy.registry import LazyModule

metadata_v2 = LazyModule("zarrcy.metadata_v2")   # reading does without

cdef enum:
    FIND_AGAIN_US = 2_000_000


cdef class ShapeDocument:
    """The document of an array in files.

    Parameters
    ----------
    store : Store
        Where the array lies.
    path : str
        Its path.
    shape : tuple of int
        What the transfer takes for its shape.
    zarr_format : {2, 3}
    """

    def __cinit__(self, store, str path, tuple shape, int zarr_format):
        self.store = store
        self.path = path
        self.shape = shape
        self.zarr_format = zarr_format

    cdef int find(self, Directory directory) except -1:
        cdef FileVersion before, after
        cdef int64_t now = zarrcy_now_ns() // 1000
        cdef int root
        if self.is_found or (self.found_us and now - self.found_us < FIND_AGAIN_US):
            return 0
        self.found_us = now
        try:
            if self.key is None:
                self.key = metadata_v2.array_document(self.path, self.zarr_format).encode()
                self.c_key = self.key
            root = directory.open()
            if not read_version(root, self.c_key, &before) or not zarrcy_is_settled(&before):
                return 0
            found = metadata_v2.read_node(self.store, self.path, self.zarr_format)
            if found is None or getattr(found, "shape", None) != self.shape:
                return 0
            if read_version(directory.open(), self.c_key, &after) and zarrcy_is_same_version(&before, &after):
                self.version = before
                self.is_found = True
        except ZarrcyError:
            return 0   # the write says what is wrong, if that is in its way
        return 0

    cdef void tell(self, Call* call) noexcept:
        if self.is_found:
            call.document_key = self.c_key
            call.document = self.version

    cdef void learn(self, const Call* call) noexcept:
        if was_reshaped(call):
            self.is_found = False


cdef bint read_version(int root, const char* key, FileVersion* version) noexcept nogil:
    # Opened, although its name would do: a network file system asks its server then.
    cdef int fd = open_value(root, key)
    if fd < 0:
        return False
    cdef int code = zarrcy_version_of(fd, version)
    close_value(fd)
    return code == 0


cdef bint has_shape(Call* call) noexcept nogil:
    cdef FileVersion version
    if call.document_key is NULL or was_reshaped(call):
        return False
    if read_version(call.root, call.document_key, &version) and zarrcy_is_same_version(&version, &call.document):
        return True
    note_reshaped(call)
    return False
