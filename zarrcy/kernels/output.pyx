"""New arrays for what is read."""
from cpython.pycapsule cimport PyCapsule_New
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t

cimport numpy as cnp

cdef extern from "output.h":
    ctypedef struct PyDataMem_Handler:
        pass
    PyDataMem_Handler memory "zarrcy_memory"
    object PyDataMem_SetHandler(object handler)
    object PyArray_Empty(int ndim, cnp.npy_intp* shape, cnp.dtype dtype, int fortran)

cdef enum:
    LARGE_NBYTES = 4 << 10   # from here on the handler costs less than it saves

cnp.import_array()

handler = PyCapsule_New(&memory, "mem_handler", NULL)


cdef object new_array(int ndim, int64_t* shape, object dtype):
    cdef int64_t nbytes = (<cnp.dtype>dtype).itemsize
    cdef int i
    for i in range(ndim):
        nbytes *= shape[i]
    if nbytes < LARGE_NBYTES:
        return make(ndim, shape, dtype)
    before = PyDataMem_SetHandler(handler)
    try:
        return make(ndim, shape, dtype)
    finally:
        PyDataMem_SetHandler(before)


cdef inline object make(int ndim, int64_t* shape, object dtype):
    Py_INCREF(dtype)   # which is given away
    return PyArray_Empty(ndim, <cnp.npy_intp*>shape, dtype, False)


cdef char* array_data(object array) noexcept:
    return cnp.PyArray_BYTES(array)


cdef const int64_t* array_strides(object array) noexcept:
    return <const int64_t*>cnp.PyArray_STRIDES(array)
