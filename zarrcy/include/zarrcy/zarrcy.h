/* The C API of zarrcy: read and write regions of Zarr arrays from C, C++ or Cython, without the GIL.
 *
 * Nothing is linked. The functions come through a capsule of the installed zarrcy, once for each extension module:
 *
 *     static const zarrcy_api *Z;
 *     PyMODINIT_FUNC PyInit_example(void) {
 *       Z = zarrcy_import();
 *       if (!Z) return NULL;
 *       ...
 *
 * Include <Python.h> before this header where zarrcy_import is needed. docs/embedding.md has whole examples.
 */
#ifndef ZARRCY_H
#define ZARRCY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Grows by one when functions are added, which happens at the end of zarrcy_api and of zarrcy_info alone. */
#define ZARRCY_API_VERSION 1

/* What a function returns. */
enum zarrcy_result {
  ZARRCY_OK = 0,                 /* It is done. */
  ZARRCY_INVALID_ARGUMENT = 1,   /* An argument is no good, such as NULL or another number of axes; nothing was done. */
  ZARRCY_OUT_OF_BOUNDS = 2,      /* The region does not lie in the array; nothing was read or written. */
  ZARRCY_READ_ONLY = 3,          /* The array, its store or the file system can only be read. */
  ZARRCY_NOT_FOUND = 4,          /* There is no array at this place. */
  ZARRCY_BAD_METADATA = 5,       /* The metadata of the array are wrong, or name something that zarrcy does not know. */
  ZARRCY_WRONG_DTYPE = 6,        /* The items of the array have another data type than the caller's memory. */
  ZARRCY_MISSING_CHUNK = 7,      /* A chunk is absent, and the array was opened with missing="raise". */
  ZARRCY_CODEC_FAILED = 8,       /* A codec could not decode or encode a chunk: the stored bytes are damaged. */
  ZARRCY_PERMISSION_DENIED = 9,  /* The storage refused access. */
  ZARRCY_CONFLICT = 10,          /* Other writers held a chunk all the time; try again. */
  ZARRCY_STORE_FAILED = 11,      /* The storage failed in another way; os_error has the errno, if there is one. */
  ZARRCY_NO_MEMORY = 12,         /* Memory was short. */
  ZARRCY_INTERRUPTED = 13,       /* Ctrl-C, or what another signal handler raised, ended the call. */
  ZARRCY_FAILED = 14             /* Another exception of Python, of a store or a codec; the message has it. */
};

/* What went wrong, in the caller's memory. Every function takes NULL instead. Its size never changes. */
typedef struct zarrcy_error {
  int32_t result;        /* the zarrcy_result */
  int32_t os_error;      /* the errno behind it, or 0 */
  char message[2040];    /* "where: what: expected, got", with store, key and codec; UTF-8, ends in NUL */
} zarrcy_error;

/* An array that was opened; opaque. Any number of threads may use one at a time; close it when none does. */
typedef struct zarrcy_array zarrcy_array;

/* What an array is, as it was when it was opened: a resize by others is not seen. Valid until it is closed. */
typedef struct zarrcy_info {
  int32_t ndim;                /* axes; the arrays below have one entry for each */
  int32_t is_writable;
  int64_t itemsize;            /* bytes of an item in the caller's memory */
  const int64_t *shape;        /* items along each axis */
  const int64_t *chunk_shape;  /* of the least that is decoded: an inner chunk, where the array is sharded */
  const int64_t *shard_shape;  /* of the least that is stored: equal to chunk_shape, where it is not sharded */
  const char *dtype;           /* NumPy's type string in native byte order, such as "<f4", "<M8[s]" or "|b1" */
} zarrcy_info;

typedef struct zarrcy_api {
  int32_t version;             /* ZARRCY_API_VERSION of the installed zarrcy */
  int32_t oldest_version;      /* extensions that were built for this one, and later ones, still work */
  uint64_t nbytes;             /* of this struct in the installed zarrcy */

  /* Open an array for reading ("r") or for reading and writing ("r+"). store: a directory, an archive or a URL, as
   * zarrcy.open takes it. path: of the array in the store; NULL or "" at its root. dtype: NumPy's name of what the
   * caller's memory holds, such as "f4"; an array of another type is ZARRCY_WRONG_DTYPE. NULL takes any: look into
   * info(). Takes the GIL. */
  int (*open_array)(const char *store, const char *path, const char *mode, const char *dtype, zarrcy_array **array,
                    zarrcy_error *error);

  /* The same for a zarrcy.Array, a PyObject* that is borrowed. It is writable if the Array is. Takes the GIL. */
  int (*from_object)(void *object, const char *dtype, zarrcy_array **array, zarrcy_error *error);

  /* Give an array back. A store that open_array opened is closed with it, which may fail where the store writes then:
   * the array is gone all the same. NULL is fine. Takes the GIL. */
  int (*close_array)(zarrcy_array *array, zarrcy_error *error);

  /* NULL for NULL. */
  const zarrcy_info *(*info)(const zarrcy_array *array);

  /* How many threads a call may use, the caller's included. At first: zarrcy.get_threads() when it was opened. */
  int (*set_threads)(zarrcy_array *array, int n_threads, zarrcy_error *error);

  /* Read, or write, the items start, start + step, ... along each axis, shape of them. All of them have to lie in the
   * array. ndim is the number of entries of start, shape and step, and has to be that of the array. step: NULL is 1
   * everywhere; negative ones go backwards. strides: bytes in the caller's memory from one item to the next along each
   * axis of the region; NULL is C order without gaps. They may be negative, and 0 for writing: one item for all. data:
   * where the first item lies.
   * May be called with or without the GIL, from any thread. A call that fails takes the GIL to say why; one that
   * succeeds takes it only where the store or a codec is written in Python. A read that fails leaves the memory
   * undefined; a write that fails has written some chunks whole, the others not at all. */
  int (*read_region)(const zarrcy_array *array, int ndim, const int64_t *start, const int64_t *shape,
                     const int64_t *step, void *data, const int64_t *strides, zarrcy_error *error);
  int (*write_region)(const zarrcy_array *array, int ndim, const int64_t *start, const int64_t *shape,
                      const int64_t *step, const void *data, const int64_t *strides, zarrcy_error *error);
} zarrcy_api;

#ifdef Py_PYTHON_H
/* The functions; NULL and ImportError when zarrcy is missing, too old or too new. Needs the GIL. */
static inline const zarrcy_api *zarrcy_import(void) {
  const zarrcy_api *api;
  PyObject *capi = PyImport_ImportModule("zarrcy.capi");
  if (!capi) return NULL;
  Py_DECREF(capi);
  api = (const zarrcy_api *)PyCapsule_Import("zarrcy.capi._C_API", 0);
  if (!api) return NULL;
  if (api->version < ZARRCY_API_VERSION || api->nbytes < sizeof(zarrcy_api)) {
    PyErr_Format(PyExc_ImportError,
                 "zarrcy: expected version %d of its C API, which this extension was built with, got version %d. "
                 "Install a newer zarrcy.", ZARRCY_API_VERSION, (int)api->version);
    return NULL;
  }
  if (api->oldest_version > ZARRCY_API_VERSION) {
    PyErr_Format(PyExc_ImportError,
                 "zarrcy: expected version %d of its C API, which this extension was built with, got versions %d to "
                 "%d. Build the extension again.", ZARRCY_API_VERSION, (int)api->oldest_version, (int)api->version);
    return NULL;
  }
  return api;
}
#endif

#ifdef __cplusplus
}
#endif
#endif
