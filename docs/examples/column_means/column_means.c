/* column_means(array, n_threads): the mean of each column of a two-dimensional zarrcy.Array of float64, as a list.
 *
 * The threads are the extension's own. Each reads some columns of chunks at a time, without the GIL, and has them laid
 * out by column in its memory.
 */
#include <Python.h>

#include <pthread.h>
#include <stdlib.h>

#include <zarrcy/zarrcy.h>

static const zarrcy_api *zarrcy;

typedef struct {
  const zarrcy_array *array;
  int64_t first, last; /* columns of chunks that this thread takes: first ... last - 1 */
  double *means;       /* of all columns; each thread writes its own */
  zarrcy_error error;
} Job;

static void *work(void *argument) {
  Job *job = (Job *)argument;
  const zarrcy_info *info = zarrcy->info(job->array);
  const int64_t n_rows = info->shape[0], width = info->chunk_shape[1];
  double *columns = (double *)malloc(sizeof(double) * (size_t)(n_rows * width + 1));
  job->error.result = columns ? ZARRCY_OK : ZARRCY_NO_MEMORY;
  for (int64_t block = job->first; block < job->last && job->error.result == ZARRCY_OK; ++block) {
    const int64_t start[2] = {0, block * width};
    const int64_t left = info->shape[1] - start[1];
    const int64_t shape[2] = {n_rows, left < width ? left : width};
    const int64_t strides[2] = {sizeof(double), (int64_t)sizeof(double) * n_rows}; /* a column lies in one piece */
    if (zarrcy->read_region(job->array, 2, start, shape, NULL, columns, strides, &job->error)) break;
    for (int64_t j = 0; j < shape[1]; ++j) {
      double sum = 0;
      for (int64_t i = 0; i < n_rows; ++i) sum += columns[j * n_rows + i];
      job->means[start[1] + j] = sum / (double)n_rows;
    }
  }
  free(columns);
  return NULL;
}

/* Share the columns of chunks among the threads; the calling one is the last of them. */
static void share(const zarrcy_array *array, double *means, Job *jobs, int n_threads) {
  const zarrcy_info *info = zarrcy->info(array);
  const int64_t n_blocks = (info->shape[1] + info->chunk_shape[1] - 1) / info->chunk_shape[1];
  pthread_t *threads = (pthread_t *)calloc((size_t)n_threads, sizeof(pthread_t));
  int n_started = 0;
  for (int k = 0; k < n_threads; ++k) {
    jobs[k].array = array;
    jobs[k].means = means;
    jobs[k].first = k * n_blocks / n_threads;
    jobs[k].last = (k + 1) * n_blocks / n_threads;
  }
  while (threads && n_started < n_threads - 1 &&
         pthread_create(&threads[n_started], NULL, work, &jobs[n_started]) == 0)
    ++n_started;
  for (int k = n_started; k < n_threads; ++k) work(&jobs[k]); /* also what no thread could be made for */
  for (int k = 0; k < n_started; ++k) pthread_join(threads[k], NULL);
  free(threads);
}

static PyObject *means_of(const zarrcy_array *array, int n_threads) {
  const int64_t n_columns = zarrcy->info(array)->shape[1];
  double *means = (double *)calloc((size_t)n_columns + 1, sizeof(double));
  Job *jobs = (Job *)calloc((size_t)n_threads, sizeof(Job));
  PyObject *result = NULL;
  if (means && jobs) {
    Py_BEGIN_ALLOW_THREADS
    share(array, means, jobs, n_threads);
    Py_END_ALLOW_THREADS
    result = PyList_New((Py_ssize_t)n_columns);
    for (int64_t j = 0; result && j < n_columns; ++j)
      PyList_SET_ITEM(result, (Py_ssize_t)j, PyFloat_FromDouble(means[j]));
    for (int k = 0; result && k < n_threads; ++k)
      if (jobs[k].error.result != ZARRCY_OK) {
        PyErr_SetString(PyExc_RuntimeError, jobs[k].error.message[0] ? jobs[k].error.message : "memory is short");
        Py_CLEAR(result);
      }
  } else {
    PyErr_NoMemory();
  }
  free(means);
  free(jobs);
  return result;
}

static PyObject *column_means(PyObject *self, PyObject *arguments) {
  PyObject *object, *result = NULL;
  zarrcy_array *array;
  zarrcy_error error;
  int n_threads;
  (void)self;
  if (!PyArg_ParseTuple(arguments, "Oi", &object, &n_threads)) return NULL;
  if (zarrcy->from_object(object, "f8", &array, &error)) {
    PyErr_SetString(PyExc_TypeError, error.message);
    return NULL;
  }
  if (zarrcy->info(array)->ndim != 2 || n_threads < 1)
    PyErr_SetString(PyExc_ValueError, "expected two axes and at least one thread");
  else
    result = means_of(array, n_threads);
  zarrcy->close_array(array, NULL);
  return result;
}

static PyMethodDef methods[] = {{"column_means", column_means, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "column_means", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_column_means(void) {
  zarrcy = zarrcy_import();
  return zarrcy ? PyModule_Create(&definition) : NULL;
}
