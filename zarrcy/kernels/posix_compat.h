// What Cython cannot express: system calls without a C library function, thread-local state, atomics.
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define ZARRCY_PARTIAL ".zarrcy-partial"

// Numbers that some threads read while another writes them. Each access is one atomic operation, in an order that is
// the same for all threads.
typedef _Atomic int zarrcy_shared_int;
typedef _Atomic uint64_t zarrcy_shared_uint64;

#ifdef __linux__
#include <sys/syscall.h>

// openat2(2): its number is the same on every architecture but alpha; older headers have neither it nor the structure.
struct zarrcy_open_how {
  uint64_t flags, mode, resolve;
};
enum { ZARRCY_SYS_OPENAT2 = 437, ZARRCY_RESOLVE_NO_MAGICLINKS = 0x02, ZARRCY_RESOLVE_BENEATH = 0x08 };

static int zarrcy_call_openat2(int root, const char* path, int flags) {
  struct zarrcy_open_how how = {(uint64_t)flags, 0, ZARRCY_RESOLVE_BENEATH | ZARRCY_RESOLVE_NO_MAGICLINKS};
  for (int attempt = 0;; attempt++) {
    int fd = (int)syscall(ZARRCY_SYS_OPENAT2, root, path, &how, sizeof how);
    if (fd >= 0) return fd;
    // EAGAIN: something was renamed while a ".." in a link was followed.
    if (errno != EINTR && (errno != EAGAIN || attempt >= 100)) return -errno;
  }
}
#endif

// A descriptor for a path that cannot leave root, or -errno; -ENOSYS where the kernel, or a sandbox around it, has no
// openat2.
static inline int zarrcy_openat2(int root, const char* path, int flags) {
#ifdef __linux__
  static int state;  // 0 not tried yet, 1 works, -1 does not
  int known = __atomic_load_n(&state, __ATOMIC_RELAXED);
  if (known == 0) {
    // Sandboxes answer EPERM to calls that they do not know, so ask for something that cannot be forbidden.
    int fd = zarrcy_call_openat2(root, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    known = fd == -ENOSYS || fd == -EPERM ? -1 : 1;
    if (fd >= 0) close(fd);
    __atomic_store_n(&state, known, __ATOMIC_RELAXED);
  }
  if (known > 0) return zarrcy_call_openat2(root, path, flags);
#else
  (void)root, (void)path, (void)flags;
#endif
  return -ENOSYS;
}

// Puts the file of `fd` under the number `number` at one instant, and closes fd.
static inline void zarrcy_move(int fd, int number) {
#ifdef __linux__
  dup3(fd, number, O_CLOEXEC);
#else
  dup2(fd, number);
  fcntl(number, F_SETFD, FD_CLOEXEC);
#endif
  close(fd);
}

// Renames a file within a directory, where nothing has the new name: 0 or -errno; -ENOSYS where there is no such call.
static inline int zarrcy_rename_new(int directory, const char* old, const char* new_name) {
#if defined(__linux__) && defined(SYS_renameat2)
  enum { NOREPLACE = 1 };  // RENAME_NOREPLACE of linux/fs.h
  return syscall(SYS_renameat2, directory, old, directory, new_name, NOREPLACE) == 0 ? 0 : -errno;
#else
  (void)directory, (void)old, (void)new_name;
  return -ENOSYS;
#endif
}

// fsync as far as the medium; 0 or -errno.
static inline int zarrcy_sync(int fd) {
#ifdef F_FULLFSYNC
  if (fcntl(fd, F_FULLFSYNC) == 0) return 0;
#endif
  return fsync(fd) == 0 ? 0 : -errno;
}

// Writes out everything on the file system of fd; 0 or -errno.
static inline int zarrcy_sync_all(int fd) {
#ifdef __linux__
  return syscall(SYS_syncfs, fd) == 0 ? 0 : -errno;
#else
  (void)fd;
  sync();
  return 0;
#endif
}

static inline int64_t zarrcy_ns(struct timespec time) { return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec; }

static inline int64_t zarrcy_now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return zarrcy_ns(now);
}

// What tells one version of a file from another.
typedef struct {
  uint64_t device, inode;
  int64_t nbytes, modified_ns, changed_ns;
} zarrcy_file_version;

#ifdef __APPLE__
#define ZARRCY_TIME(result, which) zarrcy_ns((result).st_##which##timespec)
#else
#define ZARRCY_TIME(result, which) zarrcy_ns((result).st_##which##tim)
#endif

// The version of an open file: 0 or -errno.
static inline int zarrcy_version_of(int fd, zarrcy_file_version* version) {
  struct stat result;
  if (fstat(fd, &result) < 0) return -errno;
  if (S_ISDIR(result.st_mode)) return -EISDIR;
  version->device = result.st_dev;
  version->inode = result.st_ino;
  version->nbytes = result.st_size;
  version->modified_ns = ZARRCY_TIME(result, m);
  version->changed_ns = ZARRCY_TIME(result, c);
  return 0;
}

static inline int zarrcy_is_same_version(const zarrcy_file_version* a, const zarrcy_file_version* b) {
  return a->device == b->device && a->inode == b->inode && a->nbytes == b->nbytes &&
         a->modified_ns == b->modified_ns && a->changed_ns == b->changed_ns;
}

// Whether, right after that, nobody can change the file any more without changing one of the times.
static inline int zarrcy_is_settled(const zarrcy_file_version* version) {
  const int64_t coarsest_clock_ns = 2000000000;  // of a file system: that of FAT
  int64_t changed_ns = version->changed_ns > version->modified_ns ? version->changed_ns : version->modified_ns;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return zarrcy_ns(now) - changed_ns > coarsest_clock_ns;
}

// A descriptor that says what its file is and does nothing else: to close it leaves the process its locks on the file,
// unlike any other one's close. -ENOSYS where there is no such thing.
static inline int zarrcy_open_unread(const char* path) {
#ifdef O_PATH
  int fd = open(path, O_PATH | O_CLOEXEC);
  return fd < 0 ? -errno : fd;
#else
  (void)path;
  return -ENOSYS;
#endif
}

// A number that differs between threads, processes and calls (xorshift64*, Vigna 2016; the clock separates forked
// twins).
static inline uint64_t zarrcy_random(void) {
  static _Thread_local uint64_t state;
  state ^= (uint64_t)zarrcy_now_ns() * 0x9E3779B97F4A7C15u ^ (uint64_t)getpid() << 32 ^ (uint64_t)(uintptr_t)&state;
  state |= state == 0;
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return state * 0x2545F4914F6CDD1Du;
}

// Sleeps between a half and the whole of at_most_ns.
static inline void zarrcy_sleep(int64_t at_most_ns) {
  int64_t ns = at_most_ns / 2 + (int64_t)(zarrcy_random() % (uint64_t)(at_most_ns / 2 + 1));
  struct timespec delay = {ns / 1000000000, ns % 1000000000};
  nanosleep(&delay, NULL);
}

// A table of numbers that forgets: whether this one was the last put in its place.
enum { ZARRCY_TABLE_LENGTH = 1024 };
static uint64_t zarrcy_table[ZARRCY_TABLE_LENGTH];
static inline int zarrcy_remembers(uint64_t number) {
  return __atomic_load_n(&zarrcy_table[number % ZARRCY_TABLE_LENGTH], __ATOMIC_RELAXED) == number;
}
static inline void zarrcy_remember(uint64_t number) {
  __atomic_store_n(&zarrcy_table[number % ZARRCY_TABLE_LENGTH], number, __ATOMIC_RELAXED);
}
