/* The least work in C: what reading and writing the rows of the comparison costs when nothing is general.

   A chunk is opened relative to the array's open directory, read with one pread into reused scratch (or straight into the
   output, where its bytes lie there as they do in the file), decoded by a reused decoder, and its rows are copied out. As
   many threads as there are processors take the chunks by an atomic counter. Writing is the same backwards: gather, encode,
   write a temporary file, rename it. Nothing is checked that the rows do not need: chunks divide the shape, every chunk is
   there, a shard's index stands at its end and its checksum is not looked at.

   The codecs are the libraries that zarrcy is linked with, declared by zarrcy/codecs/lib. Every function that returns an int
   returns 0, or a negative number. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blosc_abi.h"
#include "deflate.h"
#include "zstd_abi.h"

enum { MAX_DIMS = 4, MAX_WORKERS = 64, MAX_KEY = 96, HUGE_PAGE = 1 << 21, FAILED = -1 };
enum { GZIP_HEADER = 10, GZIP_TRAILER = 8, BLOSC_HEADER = 16, FIRST_READ = 4096 };

typedef enum { RAW, ZSTD, GZIP, BLOSC } Codec;

/* Mirrored in reference.py. */
typedef struct {
  int32_t directory; /* open descriptor of the array's directory */
  int32_t codec;
  int32_t level;
  int32_t n_dims;
  int32_t itemsize;
  int32_t n_workers;
  int64_t shape[MAX_DIMS];
  int64_t chunk[MAX_DIMS];
  int64_t shard[MAX_DIMS]; /* shard[0] == 0: no shards */
} Layout;

typedef struct {
  char* data;
  size_t capacity;
} Scratch;

typedef struct {
  Scratch encoded, decoded, index;
  ZSTD_DCtx* unzstd;
  ZSTD_CCtx* zstd;
  void* unblosc;
  void* inflater;
  void* deflater;
} Worker;

static Worker workers[MAX_WORKERS];

/* At least nbytes; what it held is lost when it grows. Huge pages are allowed, as NumPy allows them. */
static char* scratch(Scratch* s, size_t nbytes) {
  if (s->capacity >= nbytes) return s->data;
  const size_t alignment = nbytes >= HUGE_PAGE ? HUGE_PAGE : 4096;
  const size_t capacity = (nbytes + alignment - 1) / alignment * alignment;
  free(s->data);
  s->data = aligned_alloc(alignment, capacity);
  s->capacity = s->data ? capacity : 0;
  if (s->data && alignment == HUGE_PAGE) madvise(s->data, capacity, MADV_HUGEPAGE);
  return s->data;
}

/* ---- geometry */

/* A box of items in memory that holds a larger box, in C order. */
typedef struct {
  char* data;
  int64_t stride[MAX_DIMS];
} View;

static View view(const Layout* a, char* data, const int64_t* shape, const int64_t* start) {
  View v = {data, {0}};
  int64_t stride = a->itemsize;
  for (int i = a->n_dims - 1; i >= 0; --i) {
    v.stride[i] = stride;
    v.data += start[i] * stride;
    stride *= shape[i];
  }
  return v;
}

static size_t chunk_nbytes(const Layout* a) {
  size_t nbytes = a->itemsize;
  for (int i = 0; i < a->n_dims; ++i) nbytes *= a->chunk[i];
  return nbytes;
}

static const int64_t ORIGIN[MAX_DIMS] = {0};

/* Whether a chunk lies in a larger box as it does in its own. */
static int lies_contiguously(const Layout* a, const View* v) {
  int64_t stride = a->itemsize;
  for (int i = a->n_dims - 1; i >= 0; --i) {
    if (a->chunk[i] > 1 && v->stride[i] != stride) return 0;
    stride *= a->chunk[i];
  }
  return 1;
}

static void copy_rows(char* to, int64_t to_stride, const char* from, int64_t from_stride, int64_t n, size_t nbytes) {
  if (nbytes == 64) { /* a length that the compiler knows: no call */
    for (int64_t i = 0; i < n; ++i) memcpy(to + i * to_stride, from + i * from_stride, 64);
  } else {
    for (int64_t i = 0; i < n; ++i) memcpy(to + i * to_stride, from + i * from_stride, nbytes);
  }
}

/* One chunk from one view to another. */
static void copy_chunk(const Layout* a, const View* to, const View* from, int dim) {
  if (dim >= a->n_dims - 2) {
    const int row = a->n_dims - 1;
    const int64_t n = a->n_dims > 1 ? a->chunk[row - 1] : 1;
    const int64_t to_stride = n > 1 ? to->stride[row - 1] : 0, from_stride = n > 1 ? from->stride[row - 1] : 0;
    copy_rows(to->data, to_stride, from->data, from_stride, n, a->chunk[row] * a->itemsize);
    return;
  }
  View t = *to, f = *from;
  for (int64_t i = 0; i < a->chunk[dim]; ++i) {
    copy_chunk(a, &t, &f, dim + 1);
    t.data += to->stride[dim];
    f.data += from->stride[dim];
  }
}

/* The index of chunk number `number` in a grid of n[] chunks. */
static void unravel(int n_dims, const int64_t* n, int64_t number, int64_t* index) {
  for (int i = n_dims - 1; i >= 0; --i) {
    index[i] = number % n[i];
    number /= n[i];
  }
}

/* "c/1/2/3" */
static void format_key(char* key, int n_dims, const int64_t* index) {
  *key++ = 'c';
  for (int i = 0; i < n_dims; ++i) {
    char digits[20];
    int n = 0;
    int64_t rest = index[i];
    do digits[n++] = '0' + rest % 10;
    while (rest /= 10);
    *key++ = '/';
    while (n) *key++ = digits[--n];
  }
  *key = 0;
}

static int open_key(const Layout* a, const int64_t* index) {
  char key[MAX_KEY];
  format_key(key, a->n_dims, index);
  return openat(a->directory, key, O_RDONLY | O_CLOEXEC);
}

/* ---- codecs */

static int decode(const Layout* a, Worker* w, const char* src, size_t nbytes, char* dst, size_t capacity) {
  size_t n_read, n_written = 0;
  switch (a->codec) {
    case ZSTD:
      if (!w->unzstd) w->unzstd = ZSTD_createDCtx();
      return ZSTD_decompressDCtx(w->unzstd, dst, capacity, src, nbytes) == capacity ? 0 : FAILED;
    case GZIP: {
      if (nbytes < GZIP_HEADER + GZIP_TRAILER) return FAILED;
      if (!w->inflater) w->inflater = inflater_make();
      const size_t body = nbytes - GZIP_HEADER - GZIP_TRAILER;
      if (inflate_raw(w->inflater, (const uint8_t*)src + GZIP_HEADER, body, &n_read, (uint8_t*)dst, capacity, &n_written))
        return FAILED;
      uint32_t checksum;
      memcpy(&checksum, src + nbytes - GZIP_TRAILER, 4);
      return n_written == capacity && deflate_crc32(dst, capacity) == checksum ? 0 : FAILED;
    }
    case BLOSC:
      if (!ZARRCY_READS_WITH_BLOSC2) return blosc_decompress_ctx(src, dst, capacity, 1) == (int)capacity ? 0 : FAILED;
      if (!w->unblosc) w->unblosc = blosc2_reader_make();
      return blosc2_read(w->unblosc, src, nbytes, dst, capacity) == (int)capacity ? 0 : FAILED;
    default: return FAILED;
  }
}

/* The encoded length, or FAILED. */
static int64_t encode(const Layout* a, Worker* w, const char* src, size_t nbytes, char* dst, size_t capacity) {
  static const char header[GZIP_HEADER] = {31, (char)139, 8, 0, 0, 0, 0, 0, 0, (char)255};
  size_t n_written;
  switch (a->codec) {
    case ZSTD:
      if (!w->zstd) w->zstd = ZSTD_createCCtx();
      ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_compressionLevel, a->level);
      n_written = ZSTD_compress2(w->zstd, dst, capacity, src, nbytes);
      return ZSTD_isError(n_written) ? FAILED : (int64_t)n_written;
    case GZIP: {
      if (!w->deflater) w->deflater = deflater_make();
      memcpy(dst, header, GZIP_HEADER);
      if (deflate_raw(w->deflater, a->level, (const uint8_t*)src, nbytes, (uint8_t*)dst + GZIP_HEADER,
                      capacity - GZIP_HEADER - GZIP_TRAILER, &n_written))
        return FAILED;
      const uint32_t trailer[2] = {deflate_crc32(src, nbytes), (uint32_t)nbytes};
      memcpy(dst + GZIP_HEADER + n_written, trailer, GZIP_TRAILER);
      return GZIP_HEADER + n_written + GZIP_TRAILER;
    }
    default: return FAILED;
  }
}

/* ---- one chunk */

static size_t max_encoded_nbytes(const Layout* a) {
  const size_t nbytes = chunk_nbytes(a);
  return nbytes + nbytes / 4 + 65536;
}

/* The chunk at `offset` of a file, in `nbytes` bytes or up to the end, into a view of the output. */
static int read_chunk(const Layout* a, Worker* w, int fd, int64_t offset, size_t nbytes, View to) {
  const size_t capacity = chunk_nbytes(a);
  const int straight = lies_contiguously(a, &to);
  char* decoded = straight ? to.data : scratch(&w->decoded, capacity);
  if (a->codec == RAW) {
    if (pread(fd, decoded, capacity, offset) != (ssize_t)capacity) return FAILED;
  } else {
    char* encoded = scratch(&w->encoded, nbytes);
    const ssize_t n = pread(fd, encoded, nbytes, offset);
    if (n <= 0 || decode(a, w, encoded, n, decoded, capacity)) return FAILED;
  }
  if (!straight) {
    const View from = view(a, decoded, a->chunk, ORIGIN);
    copy_chunk(a, &to, &from, 0);
  }
  return 0;
}

/* The entries of a shard's index: the offset and the length of each inner chunk. */
static uint64_t* read_index(const Layout* a, Worker* w, int fd) {
  int64_t n = 1;
  for (int i = 0; i < a->n_dims; ++i) n *= a->shard[i] / a->chunk[i];
  const ssize_t nbytes = 16 * n + 4; /* with a checksum */
  char* index = scratch(&w->index, nbytes);
  const off_t end = lseek(fd, 0, SEEK_END);
  return pread(fd, index, nbytes, end - nbytes) == nbytes ? (uint64_t*)index : NULL;
}

/* Every inner chunk of a shard. */
static int read_shard(const Layout* a, Worker* w, int fd, const int64_t* index, char* out) {
  const uint64_t* entries = read_index(a, w, fd);
  int64_t n[MAX_DIMS], total = 1, inner[MAX_DIMS], start[MAX_DIMS];
  if (!entries) return FAILED;
  for (int i = 0; i < a->n_dims; ++i) total *= n[i] = a->shard[i] / a->chunk[i];
  for (int64_t number = 0; number < total; ++number) {
    unravel(a->n_dims, n, number, inner);
    for (int i = 0; i < a->n_dims; ++i) start[i] = index[i] * a->shard[i] + inner[i] * a->chunk[i];
    const uint64_t* entry = entries + 2 * number;
    if (read_chunk(a, w, fd, entry[0], entry[1], view(a, out, a->shape, start))) return FAILED;
  }
  return 0;
}

/* ---- everything, on all processors */

typedef struct {
  const Layout* layout;
  char* data;
  int64_t n[MAX_DIMS]; /* files along each axis */
  int64_t n_files, step;
  _Atomic int64_t next;
  _Atomic int failed;
  int (*one)(const Layout* a, Worker* w, const int64_t* index, char* data);
} Job;

typedef struct {
  Job* job;
  Worker* worker;
} Share;

static void* work(void* argument) {
  Share* share = argument;
  Job* job = share->job;
  int64_t index[MAX_DIMS];
  while (!job->failed) {
    const int64_t first = atomic_fetch_add(&job->next, job->step);
    if (first >= job->n_files) break;
    const int64_t end = first + job->step < job->n_files ? first + job->step : job->n_files;
    for (int64_t number = first; number < end; ++number) {
      unravel(job->layout->n_dims, job->n, number, index);
      if (job->one(job->layout, share->worker, index, job->data)) job->failed = 1;
    }
  }
  return NULL;
}

static int run(const Layout* a, char* data, int (*one)(const Layout*, Worker*, const int64_t*, char*)) {
  Job job = {.layout = a, .data = data, .n_files = 1, .one = one};
  pthread_t threads[MAX_WORKERS];
  Share shares[MAX_WORKERS];
  for (int i = 0; i < a->n_dims; ++i) job.n_files *= job.n[i] = a->shape[i] / (a->shard[0] ? a->shard[i] : a->chunk[i]);
  job.step = job.n_files / (a->n_workers * 16);
  job.step = job.step < 1 ? 1 : job.step > 64 ? 64 : job.step;
  for (int i = 0; i < a->n_workers; ++i) {
    shares[i] = (Share){&job, &workers[i]};
    if (i && pthread_create(&threads[i], NULL, work, &shares[i])) return FAILED;
  }
  work(&shares[0]);
  for (int i = 1; i < a->n_workers; ++i) pthread_join(threads[i], NULL);
  return job.failed ? FAILED : 0;
}

static int read_file(const Layout* a, Worker* w, const int64_t* index, char* out) {
  int64_t start[MAX_DIMS];
  const int fd = open_key(a, index);
  if (fd < 0) return FAILED;
  int result;
  if (a->shard[0]) {
    result = read_shard(a, w, fd, index, out);
  } else {
    for (int i = 0; i < a->n_dims; ++i) start[i] = index[i] * a->chunk[i];
    result = read_chunk(a, w, fd, 0, max_encoded_nbytes(a), view(a, out, a->shape, start));
  }
  close(fd);
  return result;
}

int reference_read(const Layout* a, char* out) { return run(a, out, read_file); }

static int make_parents(int directory, char* key) {
  for (char* slash = strchr(key, '/'); slash; slash = strchr(slash + 1, '/')) {
    *slash = 0;
    const int result = mkdirat(directory, key, 0777);
    *slash = '/';
    if (result && errno != EEXIST) return FAILED;
  }
  return 0;
}

static int replace(const Layout* a, const int64_t* index, const char* data, size_t nbytes) {
  char key[MAX_KEY], temporary[MAX_KEY + 8];
  const int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
  format_key(key, a->n_dims, index);
  snprintf(temporary, sizeof temporary, "%s.part", key);
  int fd = openat(a->directory, temporary, flags, 0666);
  if (fd < 0 && errno == ENOENT) {
    if (make_parents(a->directory, temporary)) return FAILED;
    fd = openat(a->directory, temporary, flags, 0666);
  }
  if (fd < 0) return FAILED;
  const ssize_t n = write(fd, data, nbytes);
  close(fd);
  return n == (ssize_t)nbytes ? renameat(a->directory, temporary, a->directory, key) : FAILED;
}

static int write_file(const Layout* a, Worker* w, const int64_t* index, char* data) {
  int64_t start[MAX_DIMS];
  size_t nbytes = chunk_nbytes(a);
  for (int i = 0; i < a->n_dims; ++i) start[i] = index[i] * a->chunk[i];
  View from = view(a, data, a->shape, start);
  char* value = from.data;
  if (!lies_contiguously(a, &from)) {
    value = scratch(&w->decoded, nbytes);
    const View to = view(a, value, a->chunk, ORIGIN);
    copy_chunk(a, &to, &from, 0);
  }
  if (a->codec != RAW) {
    const size_t capacity = max_encoded_nbytes(a);
    char* encoded = scratch(&w->encoded, capacity);
    const int64_t n = encode(a, w, value, nbytes, encoded, capacity);
    if (n < 0) return FAILED;
    value = encoded;
    nbytes = n;
  }
  return replace(a, index, value, nbytes);
}

/* The data into a new directory. */
int reference_write(const Layout* a, char* data) { return a->shard[0] ? FAILED : run(a, data, write_file); }

/* ---- many small calls, each with all that one call needs; what the last one read is left in `last` */

static int read_one(const Layout* a, Worker* w, const int64_t* index, char* out) {
  int64_t file[MAX_DIMS], number = 0;
  if (!a->shard[0]) {
    const int fd = open_key(a, index);
    if (fd < 0) return FAILED;
    const int result = read_chunk(a, w, fd, 0, max_encoded_nbytes(a), view(a, out, a->chunk, ORIGIN));
    close(fd);
    return result;
  }
  for (int i = 0; i < a->n_dims; ++i) {
    const int64_t n = a->shard[i] / a->chunk[i];
    file[i] = index[i] / n;
    number = number * n + index[i] % n;
  }
  const int fd = open_key(a, file);
  if (fd < 0) return FAILED;
  const uint64_t* entries = read_index(a, w, fd);
  const int result = !entries ? FAILED
                              : read_chunk(a, w, fd, entries[2 * number], entries[2 * number + 1],
                                           view(a, out, a->chunk, ORIGIN));
  close(fd);
  return result;
}

/* n chunks, by their indices, each into memory of its own. */
int reference_read_chunks(const Layout* a, int64_t n, const int64_t* indices, char* last) {
  const size_t nbytes = chunk_nbytes(a);
  for (int64_t i = 0; i < n; ++i) {
    char* out = malloc(nbytes);
    if (!out || read_one(a, &workers[0], indices + i * a->n_dims, out)) return FAILED;
    if (i == n - 1) memcpy(last, out, nbytes);
    free(out);
  }
  return 0;
}

/* One item of a blosc frame: its header, its list of blocks, and the one block that holds the item. */
static int read_item(const Layout* a, Worker* w, int fd, int64_t item, char* out) {
  uint32_t header[4], start, end;
  char* frame = scratch(&w->encoded, max_encoded_nbytes(a));
  const ssize_t n = pread(fd, frame, FIRST_READ, 0);
  if (n < BLOSC_HEADER) return FAILED;
  memcpy(header, frame, BLOSC_HEADER); /* flags and versions, nbytes, blocksize, encoded nbytes */
  const uint32_t n_blocks = (header[1] + header[2] - 1) / header[2];
  const uint32_t block = item * a->itemsize / header[2];
  const ssize_t list_end = BLOSC_HEADER + 4 * (ssize_t)n_blocks;
  if (n < list_end && pread(fd, frame, list_end, 0) != list_end) return FAILED;
  memcpy(&start, frame + BLOSC_HEADER + 4 * block, 4);
  end = header[3];
  if (block + 1 < n_blocks) memcpy(&end, frame + BLOSC_HEADER + 4 * (block + 1), 4);
  if (end <= start || pread(fd, frame + start, end - start, start) != (ssize_t)(end - start)) return FAILED;
#if ZARRCY_READS_WITH_BLOSC2
  if (!w->unblosc) w->unblosc = blosc2_reader_make();
  return blosc2_getitem_ctx(w->unblosc, frame, header[3], item, 1, out, a->itemsize) == a->itemsize ? 0 : FAILED;
#else
  return blosc_getitem(frame, item, 1, out) == a->itemsize ? 0 : FAILED;
#endif
}

/* n items, by their coordinates. */
int reference_read_items(const Layout* a, int64_t n, const int64_t* coordinates, char* last) {
  int64_t index[MAX_DIMS];
  for (int64_t i = 0; i < n; ++i) {
    int64_t item = 0;
    for (int k = 0; k < a->n_dims; ++k) {
      const int64_t at = coordinates[i * a->n_dims + k];
      index[k] = at / a->chunk[k];
      item = item * a->chunk[k] + at % a->chunk[k];
    }
    const int fd = open_key(a, index);
    if (fd < 0 || read_item(a, &workers[0], fd, item, last)) return FAILED;
    close(fd);
  }
  return 0;
}

/* An array's directory and its document, n times. */
int reference_open(const char* path, int64_t n) {
  char document[FIRST_READ];
  for (int64_t i = 0; i < n; ++i) {
    const int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int fd = openat(directory, "zarr.json", O_RDONLY | O_CLOEXEC);
    if (pread(fd, document, sizeof document, 0) <= 0) return FAILED;
    close(fd);
    close(directory);
  }
  return 0;
}
