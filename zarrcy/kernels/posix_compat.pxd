"""The system calls: C declarations only."""
from libc.stdint cimport int64_t, uint64_t

cdef extern from "posix_compat.h" nogil:
    ctypedef int mode_t
    ctypedef uint64_t dev_t
    ctypedef uint64_t ino_t
    ctypedef int shared_int "zarrcy_shared_int"
    ctypedef uint64_t shared_uint64 "zarrcy_shared_uint64"
    cdef struct stat_result "stat":
        mode_t st_mode
        dev_t st_dev
        ino_t st_ino
        uint64_t st_nlink
        int64_t st_size
    cdef struct FilePiece "iovec":
        void* data "iov_base"
        size_t nbytes "iov_len"
    ctypedef struct FileVersion "zarrcy_file_version":
        uint64_t device
        uint64_t inode
        int64_t nbytes
        int64_t modified_ns
        int64_t changed_ns
    enum:
        O_RDONLY, O_RDWR, O_CREAT, O_EXCL, O_CLOEXEC, O_NOFOLLOW, O_DIRECTORY, O_NONBLOCK, O_NOCTTY
        LOCK_EX, LOCK_NB, AT_SYMLINK_NOFOLLOW, AT_REMOVEDIR, F_DUPFD_CLOEXEC
    const char* PARTIAL "ZARRCY_PARTIAL"   # how the name of a temporary file ends
    int S_ISREG(mode_t mode)
    int S_ISDIR(mode_t mode)
    int c_open "open"(const char* path, int flags)
    int openat(int directory, const char* name, int flags, ...)
    int c_close "close"(int fd)
    int fcntl(int fd, int command, ...)
    int c_stat "stat"(const char* path, stat_result* result)
    int fstat(int fd, stat_result* result)
    int fstatat(int directory, const char* name, stat_result* result, int flags)
    int fchmod(int fd, mode_t mode)
    int flock(int fd, int operation)
    int mkdirat(int directory, const char* name, mode_t mode)
    int renameat(int from_directory, const char* old, int to_directory, const char* new)
    int unlinkat(int directory, const char* name, int flags)
    ssize_t pread(int fd, void* into, size_t nbytes, int64_t offset)
    ssize_t preadv(int fd, const FilePiece* pieces, int n, int64_t offset)
    ssize_t write(int fd, const void* data, size_t nbytes)
    ssize_t writev(int fd, const FilePiece* pieces, int n)
    int zarrcy_openat2(int root, const char* path, int flags)
    void zarrcy_move(int fd, int number)
    int zarrcy_rename_new(int directory, const char* old, const char* new)
    int zarrcy_sync(int fd)
    int zarrcy_sync_all(int fd)
    int64_t zarrcy_now_ns()
    int zarrcy_version_of(int fd, FileVersion* version)
    bint zarrcy_is_settled(const FileVersion* version)
    bint zarrcy_is_same_version(const FileVersion* a, const FileVersion* b)
    int zarrcy_open_unread(const char* path)
    uint64_t zarrcy_random()
    void zarrcy_sleep(int64_t at_most_ns)
    int zarrcy_remembers(uint64_t number)
    void zarrcy_remember(uint64_t number)
