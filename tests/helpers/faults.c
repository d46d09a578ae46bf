// A faulty operating system: the nth of the chosen calls on files below a folder fails, or kills the process.
//
//   FAULT_UNDER=folder   calls on other files are left alone and not counted
//   FAULT_CALLS=open,write,rename,fsync,mkdir,unlink,truncate   which are counted
//   FAULT_NTH=n          0: none, only count
//   FAULT_ERRNO=number   what the nth fails with, all later ones too if FAULT_STAYS is set; 0: SIGKILL
//   FAULT_LOG=file       gets one byte a counted call
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long count;

static int faulty(const char *call, const char *path) {
    const char *under = getenv("FAULT_UNDER"), *calls = getenv("FAULT_CALLS"), *nth = getenv("FAULT_NTH");
    if (!under || !calls || !nth || !path || strncmp(path, under, strlen(under)) || !strstr(calls, call)) return 0;
    pthread_mutex_lock(&mutex);
    long now = ++count;
    pthread_mutex_unlock(&mutex);
    const char *log = getenv("FAULT_LOG");
    int (*really_open)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    ssize_t (*really_write)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    int fd = log ? really_open(log, O_WRONLY | O_APPEND | O_CREAT, 0600) : -1;
    if (fd >= 0) {
        really_write(fd, call, 1);
        close(fd);
    }
    long wanted = atol(nth);
    if (!wanted || now < wanted || (now > wanted && !getenv("FAULT_STAYS"))) return 0;
    int code = atoi(getenv("FAULT_ERRNO"));
    if (!code) kill(getpid(), SIGKILL);
    errno = code;
    return 1;
}

static int faulty_fd(const char *call, int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return faulty(call, path);
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define MODE va_list ap; va_start(ap, flags); mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0; va_end(ap)
#define WRITES(flags) ((flags) & (O_WRONLY | O_RDWR | O_CREAT))

int open(const char *path, int flags, ...) { MODE; REAL(open); return WRITES(flags) && faulty("open", path) ? -1 : real(path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE; REAL(open64); return WRITES(flags) && faulty("open", path) ? -1 : real(path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE; REAL(openat); return WRITES(flags) && faulty("open", path) ? -1 : real(at, path, flags, mode); }
FILE *fopen64(const char *path, const char *how) { REAL(fopen64); return strpbrk(how, "wa+") && faulty("open", path) ? NULL : real(path, how); }
ssize_t write(int fd, const void *data, size_t n) { REAL(write); return faulty_fd("write", fd) ? -1 : real(fd, data, n); }
ssize_t pwrite(int fd, const void *data, size_t n, off_t at) { REAL(pwrite); return faulty_fd("write", fd) ? -1 : real(fd, data, n, at); }
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) { REAL(pwrite64); return faulty_fd("write", fd) ? -1 : real(fd, data, n, at); }
ssize_t writev(int fd, const struct iovec *parts, int n) { REAL(writev); return faulty_fd("write", fd) ? -1 : real(fd, parts, n); }
int fsync(int fd) { REAL(fsync); return faulty_fd("fsync", fd) ? -1 : real(fd); }
int truncate64(const char *path, off64_t n) { REAL(truncate64); return faulty("truncate", path) ? -1 : real(path, n); }
int ftruncate64(int fd, off64_t n) { REAL(ftruncate64); return faulty_fd("truncate", fd) ? -1 : real(fd, n); }
int mkdir(const char *path, mode_t mode) { REAL(mkdir); return faulty("mkdir", path) ? -1 : real(path, mode); }
int unlink(const char *path) { REAL(unlink); return faulty("unlink", path) ? -1 : real(path); }
int rename(const char *old, const char *new) { REAL(rename); return faulty("rename", old) ? -1 : real(old, new); }
int renameat(int a, const char *old, int b, const char *new) { REAL(renameat); return faulty("rename", old) ? -1 : real(a, old, b, new); }
int renameat2(int a, const char *old, int b, const char *new, unsigned flags) {
    if (getenv("FAULT_NO_EXCHANGE")) { errno = EINVAL; return -1; }
    REAL(renameat2);
    return faulty("rename", old) ? -1 : real(a, old, b, new, flags);
}
