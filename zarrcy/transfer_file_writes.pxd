"""Writes of stored chunks in files."""
from zarrcy.kernels.posix cimport Directory
from zarrcy.transfer_call cimport Call

# The call on the native pool; what went wrong is in it afterwards. Takes the GIL only to open the directory, and to
# warn.
cdef void write_files(Call* call, Directory directory, int n_threads) noexcept nogil
