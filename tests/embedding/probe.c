/* Every function of the C API as a Python function, so that the tests can hold them against NumPy.
 * A handle is its address as an int, and 0 is NULL. Sequences of int are int64_t arrays, and None is NULL.
 */
#define _GNU_SOURCE
#include <Python.h>

#include <pthread.h>
#include <time.h>

#include <zarrcy/zarrcy.h>

#define MAX_NDIM 80
#define MAX_JOBS 256

static const zarrcy_api *Z;

typedef struct {
  int64_t entries[MAX_NDIM];
  int64_t *pointer; /* entries, or NULL for None */
} Numbers;

static int to_numbers(PyObject *object, void *into) {
  Numbers *numbers = (Numbers *)into;
  PyObject *list;
  Py_ssize_t i;
  numbers->pointer = NULL;
  if (object == Py_None) return 1;
  list = PySequence_List(object);
  if (!list) return 0;
  for (i = 0; i < PyList_GET_SIZE(list) && i < MAX_NDIM; ++i)
    numbers->entries[i] = PyLong_AsLongLong(PyList_GET_ITEM(list, i));
  Py_DECREF(list);
  numbers->pointer = numbers->entries;
  return !PyErr_Occurred();
}

static PyObject *outcome(int result, const zarrcy_error *error, unsigned long long handle) {
  if (result != error->result) return PyErr_Format(PyExc_AssertionError, "%d is not %d", result, error->result);
  return Py_BuildValue("iisK", result, error->os_error, error->message, handle);
}

static PyObject *open_array(PyObject *self, PyObject *arguments) {
  const char *store, *path, *mode, *dtype;
  zarrcy_array *array = NULL;
  zarrcy_error error;
  (void)self;
  if (!PyArg_ParseTuple(arguments, "zzzz", &store, &path, &mode, &dtype)) return NULL;
  int result;
  Py_BEGIN_ALLOW_THREADS
  result = Z->open_array(store, path, mode, dtype, &array, &error);
  Py_END_ALLOW_THREADS
  return outcome(result, &error, (unsigned long long)(uintptr_t)array);
}

static PyObject *from_object(PyObject *self, PyObject *arguments) {
  PyObject *object;
  const char *dtype;
  zarrcy_array *array = NULL;
  zarrcy_error error;
  (void)self;
  if (!PyArg_ParseTuple(arguments, "Oz", &object, &dtype)) return NULL;
  int result = Z->from_object(object == Py_None ? NULL : (void *)object, dtype, &array, &error);
  return outcome(result, &error, (unsigned long long)(uintptr_t)array);
}

static PyObject *close_array(PyObject *self, PyObject *handle) {
  zarrcy_error error;
  (void)self;
  int result = Z->close_array((zarrcy_array *)PyLong_AsVoidPtr(handle), &error);
  return outcome(result, &error, 0);
}

static PyObject *numbers(const int64_t *entries, int n) {
  PyObject *tuple = PyTuple_New(n);
  for (int i = 0; tuple && i < n; ++i) PyTuple_SET_ITEM(tuple, i, PyLong_FromLongLong(entries[i]));
  return tuple;
}

static PyObject *info(PyObject *self, PyObject *handle) {
  (void)self;
  const zarrcy_info *of = Z->info((const zarrcy_array *)PyLong_AsVoidPtr(handle));
  if (!of) Py_RETURN_NONE;
  return Py_BuildValue("{sisisLsNsNsNss}", "ndim", of->ndim, "is_writable", of->is_writable, "itemsize",
                       (long long)of->itemsize, "shape", numbers(of->shape, of->ndim), "chunk_shape",
                       numbers(of->chunk_shape, of->ndim), "shard_shape", numbers(of->shard_shape, of->ndim), "dtype",
                       of->dtype);
}

static PyObject *set_threads(PyObject *self, PyObject *arguments) {
  unsigned long long handle;
  int n;
  zarrcy_error error;
  (void)self;
  if (!PyArg_ParseTuple(arguments, "Ki", &handle, &n)) return NULL;
  int result = Z->set_threads((zarrcy_array *)(uintptr_t)handle, n, &error);
  return outcome(result, &error, 0);
}

/* One read or write. */
typedef struct {
  zarrcy_array *array;
  int ndim, writes, n_turns, result, was_known;
  Numbers start, shape, step, strides;
  void *data;
  zarrcy_error *error; /* &own_error, or NULL */
  zarrcy_error own_error;
} Job;

static int to_job(PyObject *object, Job *job) {
  unsigned long long handle, address;
  int with_error;
  if (!PyArg_ParseTuple(object, "KpiO&O&O&KO&p", &handle, &job->writes, &job->ndim, to_numbers, &job->start, to_numbers,
                        &job->shape, to_numbers, &job->step, &address, to_numbers, &job->strides, &with_error))
    return 0;
  job->array = (zarrcy_array *)(uintptr_t)handle;
  job->data = (void *)(uintptr_t)address;
  job->error = with_error ? &job->own_error : NULL;
  job->n_turns = 1;
  return 1;
}

static void *run_job(void *argument) {
  Job *job = (Job *)argument;
  job->was_known = PyGILState_GetThisThreadState() != NULL;
  for (int turn = 0; turn < job->n_turns; ++turn) {
    if (job->writes)
      job->result = Z->write_region(job->array, job->ndim, job->start.pointer, job->shape.pointer, job->step.pointer,
                                    job->data, job->strides.pointer, job->error);
    else
      job->result = Z->read_region(job->array, job->ndim, job->start.pointer, job->shape.pointer, job->step.pointer,
                                   job->data, job->strides.pointer, job->error);
    if (job->result) break;
  }
  return NULL;
}

static PyObject *job_outcome(const Job *job) {
  zarrcy_error nothing = {0, 0, ""};
  nothing.result = job->result;
  return outcome(job->result, job->error ? job->error : &nothing, 0);
}

/* run(job, without_gil): here, on the calling thread. */
static PyObject *run(PyObject *self, PyObject *arguments) {
  PyObject *object;
  int without_gil;
  Job job;
  (void)self;
  if (!PyArg_ParseTuple(arguments, "Op", &object, &without_gil) || !to_job(object, &job)) return NULL;
  if (without_gil) {
    Py_BEGIN_ALLOW_THREADS
    run_job(&job);
    Py_END_ALLOW_THREADS
  } else {
    run_job(&job);
  }
  return job_outcome(&job);
}

static void join(pthread_t *threads, int n, int *n_stuck) {
  struct timespec deadline;
  clock_gettime(CLOCK_REALTIME, &deadline);
  deadline.tv_sec += 60;
  for (int i = 0; i < n; ++i)
    if (pthread_timedjoin_np(threads[i], NULL, &deadline)) ++*n_stuck;
}

/* run_in_threads(jobs, n_turns, holds_gil): each on a thread of its own that Python never saw; with holds_gil the
 * caller waits for them without giving the GIL away. */
static PyObject *run_in_threads(PyObject *self, PyObject *arguments) {
  static Job jobs[MAX_JOBS];
  static pthread_t threads[MAX_JOBS];
  PyObject *list, *result;
  int n_turns, holds_gil, n_stuck = 0, n = 0;
  (void)self;
  if (!PyArg_ParseTuple(arguments, "O!ip", &PyList_Type, &list, &n_turns, &holds_gil)) return NULL;
  for (; n < PyList_GET_SIZE(list) && n < MAX_JOBS; ++n) {
    if (!to_job(PyList_GET_ITEM(list, n), &jobs[n])) return NULL;
    jobs[n].n_turns = n_turns;
  }
  for (int i = 0; i < n; ++i)
    if (pthread_create(&threads[i], NULL, run_job, &jobs[i])) return PyErr_NoMemory();
  if (holds_gil) {
    join(threads, n, &n_stuck);
  } else {
    Py_BEGIN_ALLOW_THREADS
    join(threads, n, &n_stuck);
    Py_END_ALLOW_THREADS
  }
  if (n_stuck) return PyErr_Format(PyExc_TimeoutError, "%d threads are stuck", n_stuck);
  result = PyList_New(n);
  for (int i = 0; result && i < n; ++i) {
    if (jobs[i].was_known) return PyErr_Format(PyExc_AssertionError, "Python knows the thread");
    PyList_SET_ITEM(result, i, job_outcome(&jobs[i]));
  }
  return result;
}

static PyMethodDef methods[] = {{"open_array", open_array, METH_VARARGS, NULL},
                                {"from_object", from_object, METH_VARARGS, NULL},
                                {"close_array", close_array, METH_O, NULL},
                                {"info", info, METH_O, NULL},
                                {"set_threads", set_threads, METH_VARARGS, NULL},
                                {"run", run, METH_VARARGS, NULL},
                                {"run_in_threads", run_in_threads, METH_VARARGS, NULL},
                                {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "probe", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_probe(void) {
  Z = zarrcy_import();
  return Z ? PyModule_Create(&definition) : NULL;
}
