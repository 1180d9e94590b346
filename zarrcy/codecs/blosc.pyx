"""The codec "blosc": the frames of C-Blosc 1 (README_CHUNK_FORMAT.rst of the C-Blosc project)."""
from libc.stdint cimport uint8_t, uint32_t
from libc.stdio cimport snprintf
from zarrcy.codecs.codec cimport CORRUPT, DONE, NO_MEMORY, TOO_LARGE, UNREAD, Codec, Failure, Outcome, fail
from zarrcy.codecs.lib.blosc cimport (
    BLOSC_MAX_BUFFERSIZE, BLOSC_MAX_OVERHEAD, BLOSC_MAX_TYPESIZE, ZARRCY_READS_WITH_BLOSC2, blosc2_prepare,
    blosc2_read, blosc2_read_items, blosc2_reader_free, blosc2_reader_make, blosc2_version, blosc_compress_ctx,
    blosc_decompress_ctx, blosc_get_version_string, blosc_list_compressors
)
from zarrcy.codecs.lib.words cimport little_endian
from zarrcy.kernels.buffer cimport Bytes
from zarrcy.kernels.needed cimport Needed, fetch, needs_any
from zarrcy.kernels.pool cimport ContextKind, Worker, worker_context

from zarrcy.codecs.configuration import checked_choice, checked_integer, checked_members
from zarrcy.errors import MetadataError

__all__ = ["Blosc"]

cdef ContextKind BLOSC2_READER = ContextKind(blosc2_reader_make, blosc2_reader_free)

CNAMES = ("blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd")
SHUFFLES = ("noshuffle", "shuffle", "bitshuffle")   # by C-Blosc's codes
LINKED_CNAMES = frozenset(blosc_list_compressors().decode().split(","))

blosc2_prepare()

cdef enum:
    HEADER_NBYTES = 16
    DO_SHUFFLE = 1
    COPIED = 2
    DO_BITSHUFFLE = 4
    RESERVED = 8
    NOT_SPLIT = 16
    SNAPPY_FORMAT = 2
    FIRST_READ_NBYTES = 4096   # the header, and the table of most frames

cdef struct Header:
    uint8_t version
    uint8_t flags
    uint8_t typesize
    uint32_t nbytes
    uint32_t blocksize
    uint32_t cbytes
    uint32_t n_blocks


cdef class Blosc(Codec):
    """The codec "blosc": a shuffle of the bytes, or bits, of the items, then a fast compressor, block by block.

    Parameters
    ----------
    cname : {"lz4", "lz4hc", "blosclz", "zstd", "zlib", "snappy"}, default "lz4"
        The compressor; "snappy" only where the C-Blosc that is linked has it.
    clevel : int, default 5
        From 0 (stored) to 9 (smallest).
    shuffle : {"noshuffle", "shuffle", "bitshuffle"} or None, default None
        ``None`` leaves it to `bind`: "bitshuffle" for items of one byte, "shuffle" for larger ones.
    typesize : int or None, default None
        The length of an item in bytes; ``None`` leaves it to `bind`, which takes the item size of the data type.
        C-Blosc does not shuffle items of more than 255 bytes.
    blocksize : int, default 0
        Bytes to a block; 0 leaves it to C-Blosc.

    Raises
    ------
    MetadataError
        A parameter is not one that C-Blosc takes.

    Examples
    --------
    >>> import numpy as np
    >>> from zarrcy.codecs import ChunkSpec
    >>> from zarrcy.codecs.blosc import Blosc
    >>> Blosc(cname="zstd").bind(ChunkSpec((10, 10), np.dtype("float32")))
    Blosc(cname='zstd', clevel=5, shuffle='shuffle', typesize=4, blocksize=0)
    """

    name = "blosc"
    cdef readonly str cname
    cdef readonly int clevel
    cdef readonly str shuffle
    cdef readonly object typesize
    cdef readonly size_t blocksize
    cdef bytes encoded_cname        # holds the characters that c_cname points at
    cdef const char* c_cname
    cdef int shuffle_code
    cdef size_t stride

    def __cinit__(self, *args, **kwargs):
        self.needs_gil = False
        self.decodes_parts = ZARRCY_READS_WITH_BLOSC2

    def __init__(self, cname="lz4", clevel=5, shuffle=None, typesize=None, blocksize=0):
        self.cname = checked_choice("cname", cname, CNAMES)
        if cname not in LINKED_CNAMES:
            raise MetadataError(
                f"cname: expected one of {', '.join(sorted(LINKED_CNAMES))}, got {cname}",
                hint="The C-Blosc that zarrcy is linked with was built without this compressor.",
            )
        self.clevel = checked_integer("clevel", clevel, 0, 9)
        self.shuffle = None if shuffle is None else checked_choice("shuffle", shuffle, SHUFFLES)
        self.typesize = None if typesize is None else checked_integer("typesize", typesize, 1, 2**31 - 1)
        self.blocksize = checked_integer("blocksize", blocksize, 0, 2**31 - 1)
        self.encoded_cname = cname.encode()
        self.c_cname = self.encoded_cname
        self.shuffle_code = SHUFFLES.index(self.shuffle or "shuffle")
        self.stride = self.typesize if self.typesize and self.typesize <= BLOSC_MAX_TYPESIZE else 1

    def configuration(self):
        members = {"cname": self.cname, "clevel": self.clevel}
        if self.shuffle is not None:
            members["shuffle"] = self.shuffle
        if self.typesize is not None:
            members["typesize"] = self.typesize
        members["blocksize"] = self.blocksize
        return members

    @classmethod
    def from_configuration(cls, configuration):
        checked_members(configuration, required=("cname", "clevel", "shuffle", "blocksize"), optional=("typesize",))
        if configuration["shuffle"] != "noshuffle":
            checked_members(configuration, required=("cname", "clevel", "shuffle", "typesize", "blocksize"))
        checked_choice("shuffle", configuration["shuffle"], SHUFFLES)
        if "typesize" in configuration:
            checked_integer("typesize", configuration["typesize"], 1, 2**31 - 1)
        return cls(**configuration)

    def __reduce__(self):
        return (type(self), (self.cname, self.clevel, self.shuffle, self.typesize, self.blocksize))

    def bind(self, spec):
        if spec.nbytes > BLOSC_MAX_BUFFERSIZE:
            raise MetadataError(
                f"blosc: expected chunks of at most {BLOSC_MAX_BUFFERSIZE} bytes, got {spec.nbytes}",
                hint="Choose smaller chunks, or zstd.",
            )
        if self.shuffle is not None and self.typesize is not None:
            return self
        itemsize = min(spec.dtype.itemsize, BLOSC_MAX_TYPESIZE + 1)
        typesize = self.typesize or (itemsize if 0 < itemsize <= BLOSC_MAX_TYPESIZE else 1)
        shuffle = self.shuffle or ("bitshuffle" if itemsize == 1 else "shuffle")
        return type(self)(self.cname, self.clevel, shuffle, typesize, self.blocksize)

    def max_encoded_nbytes(self, nbytes):
        return nbytes + BLOSC_MAX_OVERHEAD

    cdef Outcome decode_into(self, Bytes src, Bytes* dst, Worker* worker, Failure* failure) noexcept nogil:
        cdef Header header
        cdef Outcome outcome = read_header(src, dst.nbytes, &header, failure)
        cdef void* reader = NULL
        cdef int result
        if outcome == DONE and header.nbytes and not header.flags & COPIED:
            outcome = check_table(src, header.n_blocks, failure)
        if outcome != DONE:
            return outcome
        if header.nbytes == 0:
            dst.nbytes = 0
            return DONE
        if readable_with_blosc2(&header):
            reader = worker_context(worker, &BLOSC2_READER)
            if reader is NULL:
                return NO_MEMORY
            result = blosc2_read(reader, src.data, <int>src.nbytes, dst.data, <int>header.nbytes)
        else:
            result = blosc_decompress_ctx(src.data, dst.data, header.nbytes, 1)
        if result < 0 or <uint32_t>result != header.nbytes:
            return fail(failure, CORRUPT, b"expected valid blocks, got other bytes")
        dst.nbytes = header.nbytes
        return DONE

    cdef Outcome decode_part_into(self, Bytes src, Bytes* dst, const Needed* needed, Worker* worker,
                                  Failure* failure) noexcept nogil:
        cdef Header header
        cdef Outcome outcome
        cdef size_t end, block, end_block, n_hit = 0
        cdef void* reader
        if not fetch(needed, 0, min(src.nbytes, <size_t>FIRST_READ_NBYTES)):
            return UNREAD
        outcome = read_header(src, dst.nbytes, &header, failure)
        if outcome != DONE or header.nbytes == 0:
            dst.nbytes = 0
            return outcome
        if header.flags & COPIED:
            return point_at_parts(src, dst, &header, needed)
        end = HEADER_NBYTES + 4 * <size_t>header.n_blocks
        if end > <size_t>FIRST_READ_NBYTES and not fetch(needed, FIRST_READ_NBYTES, end):
            return UNREAD
        outcome = check_table(src, header.n_blocks, failure)
        if outcome != DONE:
            return outcome
        for block in range(header.n_blocks):
            n_hit += is_hit(&header, needed, block)
        if n_hit == header.n_blocks or not has_separable_blocks(src, &header):
            return self.decode_all_into(src, dst, needed, worker, failure)
        reader = worker_context(worker, &BLOSC2_READER)
        if reader is NULL:
            return NO_MEMORY
        block = 0
        while block < header.n_blocks:
            end_block = block
            while end_block < header.n_blocks and is_hit(&header, needed, end_block):
                end_block += 1
            if end_block > block:
                outcome = read_blocks(reader, src, dst[0], &header, block, end_block, needed)
                if outcome == CORRUPT:   # the whole decides what is wrong, if anything is
                    return self.decode_all_into(src, dst, needed, worker, failure)
                if outcome != DONE:
                    return outcome
            block = end_block + 1
        dst.nbytes = header.nbytes
        return DONE

    cdef Outcome encode_into(self, Bytes src, Bytes* dst, Worker* worker, Failure* failure) noexcept nogil:
        cdef int result
        if src.nbytes > <size_t>BLOSC_MAX_BUFFERSIZE:
            snprintf(failure.reason, sizeof(failure.reason), "expected at most %d bytes, got %zu", BLOSC_MAX_BUFFERSIZE,
                     src.nbytes)
            return fail(failure, TOO_LARGE, NULL)
        result = blosc_compress_ctx(self.clevel, self.shuffle_code, self.stride, src.nbytes, src.data, dst.data,
                                    dst.nbytes, self.c_cname, self.blocksize, 1)
        if result == 0:
            return fail(failure, TOO_LARGE, b"the encoded frame does not fit")
        if result < 0:
            snprintf(failure.reason, sizeof(failure.reason), "C-Blosc cannot encode this (%d)", result)
            return fail(failure, CORRUPT, NULL)
        dst.nbytes = result
        return DONE


cdef Outcome read_header(Bytes src, size_t capacity, Header* header, Failure* failure) noexcept nogil:
    """Reads the header and refuses one that does not agree with the value or with itself."""
    cdef const uint8_t* data = <const uint8_t*>src.data
    if src.nbytes < HEADER_NBYTES:
        snprintf(failure.reason, sizeof(failure.reason), "expected at least 16 bytes, got %zu", src.nbytes)
        return fail(failure, CORRUPT, NULL)
    header.version = data[0]
    header.flags = data[2]
    header.typesize = data[3]
    header.nbytes = little_endian(data + 4)
    header.blocksize = little_endian(data + 8)
    header.cbytes = little_endian(data + 12)
    if header.version > 2 and header.version <= 6:
        return fail(failure, CORRUPT, b"expected a frame of C-Blosc 1, got one of C-Blosc2, which Zarr does not allow")
    if header.version == 0 or header.version > 6 or data[1] != 1 or header.flags >> 5 > 4 or header.typesize == 0:
        return fail(failure, CORRUPT, b"expected a Blosc header, got other bytes")
    if header.flags & RESERVED or (header.flags & DO_SHUFFLE and header.flags & DO_BITSHUFFLE):
        return fail(failure, CORRUPT, b"expected the flags of a C-Blosc 1 frame, got others")
    if header.cbytes != src.nbytes:
        snprintf(failure.reason, sizeof(failure.reason), "expected %u bytes, as the header says, got %zu",
                 header.cbytes, src.nbytes)
        return fail(failure, CORRUPT, NULL)
    if header.nbytes > capacity:
        snprintf(failure.reason, sizeof(failure.reason), "expected at most %zu bytes, the header promises %u",
                 capacity, header.nbytes)
        return fail(failure, TOO_LARGE, NULL)
    if header.nbytes == 0:
        return DONE
    if header.nbytes > <uint32_t>BLOSC_MAX_BUFFERSIZE or header.blocksize == 0 or header.blocksize > header.nbytes:
        return fail(failure, CORRUPT, b"expected a block size from 1 to the length of the content, got another")
    header.n_blocks = (header.nbytes + <size_t>header.blocksize - 1) // header.blocksize
    if header.flags & COPIED:
        if src.nbytes != HEADER_NBYTES + <size_t>header.nbytes:
            return fail(failure, CORRUPT, b"expected the content as it is behind the header, got another length")
        return DONE
    if HEADER_NBYTES + 4 * <size_t>header.n_blocks >= src.nbytes:
        return fail(failure, CORRUPT, b"expected the table of all blocks, the value ends before")
    return DONE


cdef Outcome check_table(Bytes src, size_t n_blocks, Failure* failure) noexcept nogil:
    """Refuses a frame whose blocks do not start right behind the table, or start outside the frame."""
    cdef const uint8_t* table = <const uint8_t*>src.data + HEADER_NBYTES
    cdef uint32_t end = <uint32_t>(HEADER_NBYTES + 4 * n_blocks)
    cdef uint32_t start, first = <uint32_t>src.nbytes
    cdef size_t i
    for i in range(n_blocks):   # threads that write a frame put the blocks into any order
        start = little_endian(table + 4 * i)
        first = min(first, start)
        if start >= src.nbytes:
            return fail(failure, CORRUPT, b"expected blocks inside the frame, got one that starts behind it")
    if first != end:
        return fail(failure, CORRUPT, b"expected the first block right behind the table, got it elsewhere")
    return DONE


cdef bint readable_with_blosc2(const Header* header) noexcept nogil:
    # C-Blosc2 loses the last nbytes % typesize bytes of a bitshuffled frame of C-Blosc 1, and has no Snappy.
    if header.flags & DO_BITSHUFFLE and header.nbytes % header.typesize:
        return False
    return ZARRCY_READS_WITH_BLOSC2 and header.flags >> 5 != SNAPPY_FORMAT


# ---- Some blocks of a frame


cdef Outcome point_at_parts(Bytes src, Bytes* dst, const Header* header, const Needed* needed) noexcept nogil:
    """The content of a frame that holds it as it is."""
    if not fetch(needed, HEADER_NBYTES + needed.begin, HEADER_NBYTES + min(needed.end, <size_t>header.nbytes)):
        return UNREAD
    dst[0] = Bytes(src.data + HEADER_NBYTES, header.nbytes)
    return DONE


cdef bint is_hit(const Header* header, const Needed* needed, size_t block) noexcept nogil:
    return needs_any(needed, block * header.blocksize, (block + 1) * header.blocksize)


cdef size_t start_of(Bytes src, const Header* header, size_t block) noexcept nogil:
    """Where a block starts; for the one behind the last, where the frame ends."""
    if block == header.n_blocks:
        return src.nbytes
    return little_endian(<const uint8_t*>src.data + HEADER_NBYTES + 4 * block)


cdef bint has_separable_blocks(Bytes src, const Header* header) noexcept nogil:
    """Whether blocks can be read, and decoded, by themselves."""
    cdef size_t block
    if not readable_with_blosc2(header) or header.nbytes % header.typesize or header.blocksize % header.typesize:
        return False
    for block in range(header.n_blocks):   # in the order of the table, each ends where the next one starts
        if start_of(src, header, block + 1) < start_of(src, header, block):
            return False
    return True


cdef bint is_block(Bytes src, const Header* header, size_t block) noexcept nogil:
    """Whether the streams of a block, each behind its length, fill it: then nothing behind it is looked at."""
    cdef const uint8_t* data = <const uint8_t*>src.data
    cdef size_t at = start_of(src, header, block)
    cdef size_t end = start_of(src, header, block + 1)
    cdef bint is_short = block == header.n_blocks - 1 and header.nbytes % header.blocksize
    cdef int n_left = 1 if header.flags & NOT_SPLIT or is_short else header.typesize
    cdef uint32_t nbytes
    while n_left:
        if end - at < 4:
            return False
        nbytes = little_endian(data + at)
        if nbytes == 0 or nbytes > end - at - 4:
            return False
        at += 4 + nbytes
        n_left -= 1
    return at == end


cdef Outcome read_blocks(void* reader, Bytes src, Bytes dst, const Header* header, size_t block, size_t end_block,
                         const Needed* needed) noexcept nogil:
    """Blocks [block, end_block) into their places; CORRUPT when they are not what they should be."""
    cdef size_t begin, end
    cdef int typesize = header.typesize
    if not fetch(needed, start_of(src, header, block), start_of(src, header, end_block)):
        return UNREAD
    while block < end_block:
        begin = block * header.blocksize
        end = min(begin + header.blocksize, <size_t>header.nbytes)
        if not is_block(src, header, block):
            return CORRUPT
        # One whole block goes straight to its place; of several, each would be copied there.
        if blosc2_read_items(reader, src.data, <int>src.nbytes, <int>begin // typesize, <int>(end - begin) // typesize,
                             dst.data + begin, <int>(end - begin)) != <int>(end - begin):
            return CORRUPT
        block += 1
    return DONE


def linked():
    """The libraries that are linked: their names and versions."""
    versions = {"c-blosc": blosc_get_version_string().decode()}
    if ZARRCY_READS_WITH_BLOSC2:
        versions["c-blosc2"] = blosc2_version().decode()
    return versions
