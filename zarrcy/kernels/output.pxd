"""New arrays for what is read."""
from libc.stdint cimport int64_t

# A new NumPy array in C order, its items undefined. Large ones lie where the kernel copies into them at full speed.
cdef object new_array(int ndim, int64_t* shape, object dtype)
# The first item of a NumPy array, and its strides in bytes, one for each dimension.
cdef char* array_data(object array) noexcept
cdef const int64_t* array_strides(object array) noexcept
