"""One read or write: what its threads share, the keys of its chunks, and how it fails."""
from cpython.object cimport PyObject
from libc.stdint cimport int64_t
from zarrcy.codecs.codec cimport Failure, Outcome
from zarrcy.codecs.pipeline cimport CodecPipeline
from zarrcy.kernels.copy cimport MAX_NDIM, Loop
from zarrcy.kernels.plan cimport Cell, Place, Plan
from zarrcy.kernels.pool cimport Worker
from zarrcy.kernels.posix_compat cimport FileVersion

cdef enum:
    LOCK_TIMEOUT_MS = 120000      # how long a write waits for the other writers of its chunk

cdef enum Status:
    FINE = 0
    CODEC_FAILED = 1
    STORE_FAILED = 2
    CHUNK_MISSING = 3
    PYTHON_RAISED = 4    # a signal handler, or what needs Python beside the chunks; Failure.error holds it
    STOPPED = 5          # another thread of the same call failed or raised

# One read or write. Every thread of the call sees it; only `failed`, `any_absent` and `reshaped` are written by
# several.
cdef struct Call:
    PyObject* plan                   # a Plan
    PyObject* pipeline               # a CodecPipeline: that of the stored chunks
    PyObject* cells                  # that of the chunks of the plan: those inside shards, if there are shards
    int ndim
    int64_t extents[MAX_NDIM]        # of the array
    bint raises_missing              # an absent chunk is an error
    const char* key_prefix
    int key_prefix_nbytes
    char separator
    bint separator_first             # "c/0/1": a separator before the first index, as in the encoding "default"
    char* buffer
    int64_t strides[MAX_NDIM + 1]    # of the buffer in bytes, per axis of the array; at ndim, of the points
    int64_t n_values
    int64_t block                    # values per item of the pool
    int root
    int flags
    int generation                   # of the directory
    # From the directory of a chunk to the document that says that the array has these extents; NULL where that is not
    # known.
    const char* document_way
    const char* other_document_way   # to one that must not be there; NULL where there can be none
    FileVersion document
    int reshaped                     # that is not the document any more
    Worker* caller
    int64_t last_signal_check
    int any_absent
    int failed
    Status status                    # the first failure, and what it needs to be told:
    int error_number
    Outcome outcome
    Failure failure
    int64_t value[MAX_NDIM]

# The key of a stored chunk, with a final NUL, into room for MAX_KEY_NBYTES; returns its length.
cdef int format_key(const Call* call, const int64_t* index, char* key) noexcept nogil
# The same as text.
cdef object key_text(const Call* call, const int64_t* index)
# Remembers that a chunk was absent.
cdef void note_absent(Call* call) noexcept nogil
# Remembers that the array may have another shape than the call was told.
cdef void note_reshaped(Call* call) noexcept nogil
cdef bint was_reshaped(const Call* call) noexcept nogil
# Whether a thread of the call failed. What went wrong may not stand there yet: look at that when all are back.
cdef bint has_failed(const Call* call) noexcept nogil
# FINE, unless another thread of the call failed or Ctrl-C came.
cdef int go_on(Call* call, Worker* worker) noexcept nogil
# The same, as what a worker listens to.
cdef int stops(void* call) noexcept nogil
# Lets the calling thread notice Ctrl-C now and then.
cdef int check_signals(Call* call, Worker* worker) noexcept nogil
# Records an exception as the failure of a call; it is raised as it is.
cdef int record_exception(Call* call, object error) noexcept
# Raises the first failure of a call, with the key where it happened.
cdef int raise_failure(const Call* call, object url) except -1
# Forgets the failure of a call that raises something else.
cdef void drop_failure(Call* call) noexcept
# Keeps the first failure of a call; the others are dropped. Returns the status.
cdef int record(Call* call, Status status, const Place* place, Outcome outcome, int error_number,
                Failure* failure) noexcept nogil
# Records that a stored value has more bytes than any chunk.
cdef int too_large(Call* call, const Place* place, CodecPipeline pipeline, int64_t nbytes) noexcept nogil
# Records that memory is short.
cdef int out_of_memory(Call* call, const Place* place) noexcept nogil
# The loops between a cell, laid out by these strides, and the buffer; -1 when memory is short.
cdef int loops_of(Call* call, Plan plan, const Cell* cell, const int64_t* strides, bint to_chunk, Loop* loops,
                  int64_t* chunk_offset, int64_t* buffer_offset, Worker* worker) noexcept nogil
