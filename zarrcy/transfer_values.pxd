"""Reads and writes of stored chunks through any store."""
from zarrcy.transfer_call cimport Call

# The call on Python threads; raises what went wrong.
cdef int run_values(Call* call, object store, int n_threads, bint writes) except -1
