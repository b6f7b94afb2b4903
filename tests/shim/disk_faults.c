/* A disk that fails on demand: preloaded into the broker, in front of libc's file calls.
 *
 * The environment variable DISK_FAULTS names a control file. While it is there, each of
 * its lines says what goes wrong with files and directories below a path:
 *
 *     sync 0 PATH       syncs fail with EIO
 *     hang MS PATH      syncs take MS milliseconds longer; 0: until this line is gone
 *     full BYTES PATH   files grow by BYTES in all, from when this process began; then ENOSPC
 *
 * As on a real disk, bytes that a file already has can be written again when no space is left, the
 * last write that fits is short, and what is removed or cut is free again. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long long grown;

#define REAL(name, result, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) real = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

/* Finds the line `kind` for `path`; *bytes is its number. */
static int fault(const char *kind, const char *path, long long *bytes) {
    const char *control = getenv("DISK_FAULTS");
    FILE *file = control ? fopen(control, "re") : NULL;
    char line[4200], word[8], below[4096];
    int found = 0;
    while (file && !found && fgets(line, sizeof line, file)) {
        if (sscanf(line, "%7s %lld %4095s", word, bytes, below) != 3) continue;
        size_t length = strlen(below);
        found = !strcmp(word, kind) && !strncmp(path, below, length) &&
                (path[length] == '/' || path[length] == 0);
    }
    if (file) fclose(file);
    return found;
}

static int path_of(int fd, char *path, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, size - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return 1;
}

/* Takes up to `wanted` bytes of space for `path` (below 0: frees them): gives how many it got. */
static long long take(const char *path, long long wanted) {
    long long limit, got = wanted;
    int limited = fault("full", path, &limit);
    pthread_mutex_lock(&lock);
    if (limited && got > 0 && got > limit - grown) got = limit > grown ? limit - grown : 0;
    grown += got;
    pthread_mutex_unlock(&lock);
    return got;
}

ssize_t pwrite64(int fd, const void *data, size_t count, off64_t offset) {
    REAL("pwrite64", ssize_t, int, const void *, size_t, off64_t);
    char path[4096];
    struct stat64 before;
    if (!path_of(fd, path, sizeof path) || fstat64(fd, &before) || !S_ISREG(before.st_mode))
        return real(fd, data, count, offset);
    long long more = offset + (long long)count - before.st_size;
    if (more > 0) {
        long long short_by = more - take(path, more);
        if (short_by >= (long long)count) {
            errno = ENOSPC;
            return -1;
        }
        count -= short_by;
    }
    return real(fd, data, count, offset);
}

int ftruncate64(int fd, off64_t length) {
    REAL("ftruncate64", int, int, off64_t);
    struct stat64 before;
    if (!fstat64(fd, &before) && length < before.st_size) take("", length - before.st_size);
    return real(fd, length);
}

int unlink(const char *path) {
    REAL("unlink", int, const char *);
    struct stat64 before;
    int last = !stat64(path, &before) && S_ISREG(before.st_mode) && before.st_nlink == 1;
    int result = real(path);
    if (!result && last) take("", -before.st_size);
    return result;
}

static int sync_fails(int fd) {
    char path[4096];
    long long ms, waited = 0;
    if (!path_of(fd, path, sizeof path)) return 0;
    for (; fault("hang", path, &ms) && (ms == 0 || waited < ms); waited += 5) usleep(5000);
    if (!fault("sync", path, &ms)) return 0;
    errno = EIO;
    return 1;
}

int fsync(int fd) {
    REAL("fsync", int, int);
    return sync_fails(fd) ? -1 : real(fd);
}

int fdatasync(int fd) {
    REAL("fdatasync", int, int);
    return sync_fails(fd) ? -1 : real(fd);
}
