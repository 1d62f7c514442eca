/* Makes the disk fail under one database: loaded into the daemon with LD_PRELOAD.
 *
 * Counted are the calls that write to the file FAULT_FILE and those whose names go on with -wal or -shm: each leaves one
 * byte in FAULT_LOG, so that its size is their number. Call number FAULT_AT fails with the error FAULT_ERRNO. With FAULT_ON
 * it writes the first half of what it was given, as a disk does that is full or torn out, and all calls after it fail. While
 * the file FAULT_WHILE exists, all calls fail.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long calls;

static long number(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

static int is_watched(int fd) {
    const char *file = getenv("FAULT_FILE");
    char link[40], path[4096];
    if (!file)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    size_t prefix = strlen(file);
    if (strncmp(path, file, prefix) != 0)
        return 0;
    return !strcmp(path + prefix, "") || !strcmp(path + prefix, "-wal") || !strcmp(path + prefix, "-shm");
}

/* 0: as it was asked; 1: it fails; 2: only half of it is written. */
static int injected_fault(int fd) {
    if (!is_watched(fd))
        return 0;
    const char *log = getenv("FAULT_LOG");
    long at = number("FAULT_AT"), on = number("FAULT_ON");
    pthread_mutex_lock(&lock);
    long call = ++calls;
    int out = log ? syscall(SYS_openat, AT_FDCWD, log, O_CREAT | O_WRONLY | O_APPEND, 0600) : -1;
    if (out >= 0) {
        syscall(SYS_write, out, ".", 1);
        syscall(SYS_close, out);
    }
    pthread_mutex_unlock(&lock);
    const char *failing = getenv("FAULT_WHILE");
    if (failing && access(failing, F_OK) == 0) {
        errno = (int)number("FAULT_ERRNO");
        return 1;
    }
    if (!at || call < at || (call > at && !on))
        return 0;
    errno = (int)number("FAULT_ERRNO");
    return on && call == at ? 2 : 1;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    switch (injected_fault(fd)) {
    case 1: return -1;
    case 2: count = count > 1 ? count / 2 : count;
    }
    return syscall(SYS_write, fd, bytes, count);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    switch (injected_fault(fd)) {
    case 1: return -1;
    case 2: count = count > 1 ? count / 2 : count;
    }
    return syscall(SYS_pwrite64, fd, bytes, count, at);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    return pwrite64(fd, bytes, count, at);
}

int fsync(int fd) {
    return injected_fault(fd) ? -1 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
    return injected_fault(fd) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int ftruncate64(int fd, off64_t length) {
    return injected_fault(fd) ? -1 : (int)syscall(SYS_ftruncate, fd, length);
}

int ftruncate(int fd, off_t length) {
    return ftruncate64(fd, length);
}
