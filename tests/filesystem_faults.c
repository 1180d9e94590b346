// System calls that fail, are cut short, kill the process or are recorded: loaded before the C library by the tests.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FAIL = 1, KILL = 2, ALWAYS = 3, CUT = 4, RECORD = 5, STEAL = 6 };
static int mode, nth, failure, count;
static char only[32];
static char records[1 << 20];
static size_t n_records;

// What the tests call through ctypes. `name`: only calls of that name, or all with "".
void faults_arm(int new_mode, const char *name, int new_nth, int error) {
  snprintf(only, sizeof only, "%s", name);
  nth = new_nth, failure = error, count = 0, n_records = 0, records[0] = 0;
  mode = new_mode;
}
int faults_disarm(void) { return mode = 0, count; }
const char *faults_records(void) { return records; }

static int strikes(const char *name) {
  if (mode != FAIL && mode != KILL && mode != ALWAYS) return 0;
  if (only[0] && strcmp(only, name)) return 0;
  count++;
  if (mode != ALWAYS && count != nth) return 0;
  if (mode == KILL) kill(getpid(), SIGKILL);
  errno = failure;
  return 1;
}

static void locate(char *path, size_t size, int fd, const char *name) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, size - 1);
  path[n < 0 ? 0 : n] = 0;
  if (name) snprintf(path + strlen(path), size - strlen(path), "/%s", name);
}

static void record(const char *what, int fd, const char *name, int fd2, const char *name2) {
  if (mode != RECORD) return;
  char path[4096], path2[4096] = "";
  int kept = errno;
  locate(path, sizeof path, fd, name);
  if (name2) locate(path2, sizeof path2, fd2, name2);
  n_records += (size_t)snprintf(records + n_records, sizeof records - n_records, "%s\t%s\t%s\n", what, path, path2);
  errno = kept;
}

#define REAL(type, name, ...) \
  static type (*real)(__VA_ARGS__); \
  if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

long syscall(long number, ...) {
  REAL(long, "syscall", long, long, long, long, long, long, long);
  va_list list;
  va_start(list, number);
  long a[6];
  for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
  va_end(list);
  if (number == 437 && strikes("openat2")) return -1;
  if (number == SYS_renameat2 && strikes("renameat")) return -1;
  long result = real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  if (number == SYS_renameat2 && result == 0)
    record("rename", (int)a[0], (const char *)a[1], (int)a[2], (const char *)a[3]);
  return result;
}

int open64(const char *path, int flags, ...) {
  REAL(int, "open64", const char *, int, ...);
  va_list list;
  va_start(list, flags);
  mode_t bits = va_arg(list, mode_t);
  va_end(list);
  return strikes("open") ? -1 : real(path, flags, bits);
}

int openat64(int directory, const char *name, int flags, ...) {
  REAL(int, "openat64", int, const char *, int, ...);
  va_list list;
  va_start(list, flags);
  mode_t bits = va_arg(list, mode_t);
  va_end(list);
  if (strikes("openat")) return -1;
  int fd = real(directory, name, flags, bits);
  if (fd >= 0 && flags & O_CREAT) record("create", directory, name, 0, NULL);
  return fd;
}

ssize_t write(int fd, const void *data, size_t nbytes) {
  REAL(ssize_t, "write", int, const void *, size_t);
  if (strikes("write")) return -1;
  if (mode == CUT && nbytes > 1) nbytes /= 2;
  ssize_t n = real(fd, data, nbytes);
  if (n > 0) record("write", fd, NULL, 0, NULL);
  return n;
}

ssize_t writev(int fd, const struct iovec *pieces, int n_pieces) {
  REAL(ssize_t, "writev", int, const struct iovec *, int);
  if (strikes("write")) return -1;
  struct iovec half = {pieces[0].iov_base, (pieces[0].iov_len + 1) / 2};
  ssize_t n = mode == CUT ? real(fd, &half, 1) : real(fd, pieces, n_pieces);
  if (n > 0) record("write", fd, NULL, 0, NULL);
  return n;
}

ssize_t pread64(int fd, void *into, size_t nbytes, off64_t offset) {
  REAL(ssize_t, "pread64", int, void *, size_t, off64_t);
  if (strikes("pread")) return -1;
  if (mode == CUT && nbytes > 1) nbytes /= 2;
  return real(fd, into, nbytes, offset);
}

int fsync(int fd) {
  REAL(int, "fsync", int);
  if (strikes("fsync")) return -1;
  int rc = real(fd);
  if (rc == 0) record("fsync", fd, NULL, 0, NULL);
  return rc;
}

/* SQLite writes and flushes by these two. */
ssize_t pwrite64(int fd, const void *data, size_t nbytes, off64_t offset) {
  REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
  if (strikes("pwrite")) return -1;
  ssize_t n = real(fd, data, nbytes, offset);
  if (n > 0) record("pwrite", fd, NULL, 0, NULL);
  return n;
}

int fdatasync(int fd) {
  REAL(int, "fdatasync", int);
  if (strikes("fdatasync")) return -1;
  int rc = real(fd);
  if (rc == 0) record("fdatasync", fd, NULL, 0, NULL);
  return rc;
}

int renameat(int from, const char *old, int to, const char *new) {
  REAL(int, "renameat", int, const char *, int, const char *);
  if (strikes("renameat")) return -1;
  record("rename", from, old, to, new);
  return real(from, old, to, new);
}

int mkdirat(int directory, const char *name, mode_t bits) {
  REAL(int, "mkdirat", int, const char *, mode_t);
  if (strikes("mkdirat")) return -1;
  int rc = real(directory, name, bits);
  if (rc == 0) record("mkdir", directory, name, 0, NULL);
  return rc;
}

int unlinkat(int directory, const char *name, int flags) {
  REAL(int, "unlinkat", int, const char *, int);
  if (strikes("unlinkat")) return -1;
  int rc = real(directory, name, flags);
  if (rc == 0) record("unlink", directory, name, 0, NULL);
  return rc;
}

int flock(int fd, int operation) {
  REAL(int, "flock", int, int);
  if (mode == STEAL && count++ < nth) {  // between making a file and locking it, another writer takes it away
    char path[4096];
    locate(path, sizeof path, fd, NULL);
    unlink(path);
  }
  return strikes("flock") ? -1 : real(fd, operation);
}

int stat64(const char *path, struct stat64 *result) {
  REAL(int, "stat64", const char *, struct stat64 *);
  return strikes("stat") ? -1 : real(path, result);
}

int fstat64(int fd, struct stat64 *result) {
  REAL(int, "fstat64", int, struct stat64 *);
  return strikes("fstat") ? -1 : real(fd, result);
}

int fstatat64(int directory, const char *name, struct stat64 *result, int flags) {
  REAL(int, "fstatat64", int, const char *, struct stat64 *, int);
  return strikes("fstatat") ? -1 : real(directory, name, result, flags);
}

int fchmod(int fd, mode_t bits) {
  REAL(int, "fchmod", int, mode_t);
  return strikes("fchmod") ? -1 : real(fd, bits);
}
