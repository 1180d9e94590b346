// Faults on purpose: a sanitizer that does not report them is not at work.
#include <Python.h>

#include <limits.h>
#include <pthread.h>
#include <stdlib.h>

static volatile int shared;

static PyObject* overflow(PyObject* self, PyObject* index) {
  long i = PyLong_AsLong(index);
  volatile char* volatile bytes = malloc(16);  // the compiler shall know neither its size nor that nothing reads it
  (void)self;
  bytes[i] = 1;
  free((void*)bytes);
  Py_RETURN_NONE;
}

static PyObject* undefined(PyObject* self, PyObject* number) {
  volatile int i = (int)PyLong_AsLong(number);
  (void)self;
  i = i + 1;
  return PyLong_FromLong(i);
}

static void* count(void* times) {
  for (long i = 0; i < *(long*)times; i++) shared++;
  return NULL;
}

static PyObject* race(PyObject* self, PyObject* number) {
  long times = PyLong_AsLong(number);
  pthread_t thread;
  (void)self;
  if (pthread_create(&thread, NULL, count, &times)) return PyErr_NoMemory();
  if (times) count(&times);
  pthread_join(thread, NULL);
  return PyLong_FromLong(shared);
}

static PyMethodDef methods[] = {
    {"overflow", overflow, METH_O, "Writes the byte of that number; there are 16."},
    {"undefined", undefined, METH_O, "Adds 1."},
    {"race", race, METH_O, "Counts that far in two threads."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "planted", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_planted(void) { return PyModule_Create(&module); }
