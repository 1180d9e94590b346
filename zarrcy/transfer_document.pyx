"""Which version of its metadata document says that an array has the shape that a transfer takes it to have.

Another process may make the array longer at any time. A chunk that sticks out of the array then holds items that this
one knows nothing of, and may not be replaced as a whole. To read it and keep what lies beyond the edge is always right.
To see, under the lock of the chunk, that the document is the one that was read is right too, and takes a fraction of
the time of reading and decoding a chunk.

A document that was written in the last two seconds is not trusted: it could be written again without another time. Nor
is one beside which the same chunks have a document of the other format, as arrays have that were taken from v2 to v3.
"""
from libc.errno cimport ENOENT
from zarrcy.kernels.posix cimport c_error, close_value, open_value
from zarrcy.kernels.posix_compat cimport (
    O_CLOEXEC, O_NOCTTY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, openat, zarrcy_is_same_version, zarrcy_is_settled,
    zarrcy_now_ns, zarrcy_version_of)
from zarrcy.transfer_call cimport note_reshaped, was_reshaped

from zarrcy.errors import ZarrcyError
from zarrcy.metadata import ArrayMetadata
from zarrcy.registry import LazyModule

metadata_v2 = LazyModule("zarrcy.metadata_v2")   # reading does without

cdef enum:
    FIND_AGAIN_NS = 2_000_000_000


cdef class ShapeDocument:
    """The document of an array in files.

    Parameters
    ----------
    store : Store
        Where the array lies.
    path : str
        Its path.
    metadata : ArrayMetadata
        What the transfer takes it to be.
    """

    def __cinit__(self, store, str path, metadata):
        self.store = store
        self.path = path
        self.metadata = metadata

    cdef int find(self, Directory directory) except -1:
        cdef FileVersion before, after
        cdef int64_t now = zarrcy_now_ns()
        cdef int root
        if self.is_found or (self.looked_ns and now - self.looked_ns < FIND_AGAIN_NS):
            return 0
        self.looked_ns = now
        try:
            self.name_documents()
            root = directory.open()
            if not read_version(open_value(root, self.c_key), &before) or not zarrcy_is_settled(&before):
                return 0
            found = metadata_v2.read_node(self.store, self.path, self.metadata.zarr_format)
            if not isinstance(found, ArrayMetadata) or without_notes(found) != without_notes(self.metadata):
                return 0
            root = directory.open()
            if read_version(open_value(root, self.c_key), &after) and zarrcy_is_same_version(&before, &after):
                self.version = before
                self.is_found = True
        except ZarrcyError:
            return 0   # the write says what is wrong, if that is in its way
        return 0

    cdef int name_documents(self) except -1:
        cdef int zarr_format = self.metadata.zarr_format
        cdef bytes key, way
        cdef bytes other_way = None
        if self.key is not None:
            return 0
        encoding = self.metadata.chunk_key_encoding
        up = "../" * encoding.key((0,) * self.metadata.ndim).count("/")
        key = metadata_v2.array_document(self.path, zarr_format).encode()
        way = (up + metadata_v2.array_document("", zarr_format)).encode()
        if not encoding.prefix:   # keys as an array of either format may have them
            other_way = (up + metadata_v2.array_document("", 5 - zarr_format)).encode()
        if self.key is None:   # another thread may have been here meanwhile, and its call uses these
            self.key, self.way, self.other_way = key, way, other_way
            self.c_key, self.c_way = self.key, self.way
            if other_way is not None:
                self.c_other_way = self.other_way
        return 0

    cdef void tell(self, Call* call) noexcept:
        if self.is_found:
            call.document_way = self.c_way
            call.other_document_way = self.c_other_way
            call.document = self.version

    cdef void learn(self, const Call* call) noexcept:
        if was_reshaped(call):
            self.is_found = False


cdef object without_notes(metadata):
    """What the chunks depend on."""
    return metadata.twin({"attributes": {}, "extra_fields": {}})


cdef bint read_version(int fd, FileVersion* version) noexcept nogil:
    # Opened, although its name would do: a network file system asks its server then.
    if fd < 0:
        return False
    cdef int code = zarrcy_version_of(fd, version)
    close_value(fd)
    return code == 0


cdef int open_near(int directory, const char* way) noexcept nogil:
    """A document by the way from the directory of a chunk, -ENOENT where there is none. Along the path from the root
    there may be another one by now: a directory or a link can be replaced while the lock is held."""
    cdef int fd = openat(directory, way, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW)
    return fd if fd >= 0 else c_error()


cdef bint is_absent(int directory, const char* way) noexcept nogil:
    cdef int fd = open_near(directory, way)
    if fd >= 0:
        close_value(fd)
    return fd == -ENOENT


cdef bint has_shape(Call* call, int directory) noexcept nogil:
    cdef FileVersion version
    if call.document_way is NULL or was_reshaped(call):
        return False
    if (read_version(open_near(directory, call.document_way), &version)
            and zarrcy_is_same_version(&version, &call.document)
            and (call.other_document_way is NULL or is_absent(directory, call.other_document_way))):
        return True
    note_reshaped(call)
    return False
