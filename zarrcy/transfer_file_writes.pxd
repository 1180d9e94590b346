"""Writes of stored chunks in files."""
from zarrcy.kernels.posix cimport Directory
from zarrcy.transfer_call cimport Call

# The call on the native pool; raises what went wrong.
cdef int write_files(Call* call, Directory directory, int n_threads) except -1
