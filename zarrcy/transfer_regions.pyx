"""Reads and writes of boxes by threads that need not have the GIL, nor be known to Python.

The thread takes a plan that was made before; everything else of a call lies on its stack.
"""
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport INT64_MAX, int64_t
from libc.string cimport memcpy, memset

from zarrcy.codecs.codec cimport NO_MEMORY
from zarrcy.kernels.copy cimport MAX_NDIM
from zarrcy.kernels.plan cimport Plan
from zarrcy.kernels.pool cimport current_worker, worker_trim
from zarrcy.transfer cimport KEEP_NBYTES, Transfer, threads_worth
from zarrcy.transfer_call cimport CODEC_FAILED, Call, record, record_exception
from zarrcy.transfer_values cimport run_values

cdef extern from *:
    """
    static inline int zarrcy_take(int* taken) {
      int none = 0;
      return __atomic_compare_exchange_n(taken, &none, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
    }
    static inline void zarrcy_give_back(int* taken) { __atomic_store_n(taken, 0, __ATOMIC_RELEASE); }
    """
    bint take "zarrcy_take"(int* taken) noexcept nogil
    void give_back "zarrcy_give_back"(int* taken) noexcept nogil

cdef enum:
    N_SPARE = 64    # calls at one time that need no GIL for their plan

cdef PyObject* spare_plans[N_SPARE]
cdef int taken[N_SPARE]


cdef int make_spare_plans() except -1:
    cdef int i
    cdef Plan plan
    for i in range(N_SPARE):
        if spare_plans[i] is NULL:
            plan = Plan(0)
            Py_INCREF(plan)
            spare_plans[i] = <PyObject*>plan
    return 0


cdef int take_plan() noexcept nogil:
    """The number of a plan that nobody uses; -1 when all are in use. In a forked child those stay in use that other
    threads of the parent had."""
    cdef int i
    for i in range(N_SPARE):
        if take(&taken[i]):
            return i
    return -1


cdef PyObject* new_plan(Call* call) noexcept with gil:
    try:
        plan = Plan(0)
        Py_INCREF(plan)
        return <PyObject*>plan
    except BaseException as error:
        record_exception(call, error)
        return NULL


cdef void drop_plan(PyObject* plan) noexcept with gil:
    Py_DECREF(<object>plan)


cdef void run_region(Transfer transfer, const int64_t* start, const int64_t* shape, const int64_t* step, char* data,
                     const int64_t* strides, int n_threads, bint writes, Call* call) noexcept nogil:
    cdef PyObject* plan
    cdef int axis, number
    memset(call, 0, sizeof(Call))
    for axis in range(transfer.ndim):
        if shape[axis] == 0:
            return
    number = take_plan()
    plan = spare_plans[number] if number >= 0 else new_plan(call)
    if plan is NULL:
        return
    if lay(transfer, <Plan>plan, start, shape, step):
        move(transfer, <Plan>plan, shape, data, strides, n_threads, writes, call)
    else:
        record(call, CODEC_FAILED, NULL, NO_MEMORY, 0, NULL)
    if number >= 0:
        (<Plan>plan).clear()
        give_back(&taken[number])
    else:
        drop_plan(plan)


cdef bint lay(Transfer transfer, Plan plan, const int64_t* start, const int64_t* shape,
              const int64_t* step) noexcept nogil:
    """The box laid over the grid of the chunks; False when memory is short."""
    cdef int axis
    plan.ndim = plan.n_dims = transfer.ndim
    for axis in range(transfer.ndim):
        if not plan.lay_slice(axis, start[axis], step[axis] if step is not NULL else 1, shape[axis],
                              transfer.pipeline.shape[axis], transfer.cells.shape[axis]):
            return False
    plan.finish()
    return True


cdef void move(Transfer transfer, Plan plan, const int64_t* shape, char* data, const int64_t* strides, int n_threads,
               bint writes, Call* call) noexcept nogil:
    cdef int64_t axis_strides[MAX_NDIM + 1]
    memcpy(axis_strides, strides, transfer.ndim * sizeof(int64_t))
    axis_strides[transfer.ndim] = 0   # of the points, which a box has none of
    transfer.begin_call(call, plan, data, axis_strides)
    n_threads = threads_worth(call, nbytes_of(transfer, shape), n_threads)
    if transfer.directory is None:
        move_values(transfer, call, n_threads, writes)
    else:
        transfer.run_files(call, n_threads, writes)
    worker_trim(current_worker(), KEEP_NBYTES)


cdef int64_t nbytes_of(Transfer transfer, const int64_t* shape) noexcept nogil:
    """The bytes of so many items; no more than an int64_t holds."""
    cdef double nbytes = transfer.cells.itemsize
    cdef int axis
    for axis in range(transfer.ndim):
        nbytes *= shape[axis]
    return <int64_t>nbytes if nbytes < <double>(INT64_MAX // 2) else INT64_MAX // 2


cdef void move_values(Transfer transfer, Call* call, int n_threads, bint writes) noexcept with gil:
    try:
        run_values(call, transfer.store, n_threads, writes)
    except BaseException as error:
        call.failed = 0   # by a thread of this call, which stopped the others
        record_exception(call, error)
