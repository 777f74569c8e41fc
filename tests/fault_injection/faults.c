/* Makes file system calls fail, for files beneath one folder only: loaded before the C library with LD_PRELOAD.

   Calls are counted from 1. From call AT on, COUNT of them (0: all) meet the fault; only calls of the kinds in MASK
   count. The environment variable BREAK arms it at the start, as "FOLDER:FAULT:NUMBER:AT:COUNT:MASK", and BREAK_LOG
   names a file, outside of that folder, that gets a line for each call; arm() and fired() are for programs that arm it
   themselves. Opening files elsewhere never fails, and is written to the log too. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum fault { NONE, KILL, FAIL, SHORT, DELAY };
enum mask { READING = 1, CHANGING = 2, SYNCING = 4, MOVING = 8 }; /* MOVING: bytes, which may be cut short */
enum { MOST_FILES = 1 << 16, AT_CWD = -100, CREATE = 0100, TRUNCATE = 01000, ACCESS = 3, APPEND = 02000 };

static char folder[4096];
static size_t folder_length;
static enum fault fault;
static long number, first, count, mask;
static atomic_long seen, met;
static int log_file = -1;
static char ours[MOST_FILES];

void arm(int what, long value, long at, long how_many, long which) {
    fault = what, number = value, first = at, count = how_many, mask = which;
    atomic_store(&seen, 0), atomic_store(&met, 0);
}

void within(const char *path) {
    folder_length = strlen(path);
    memcpy(folder, path, folder_length + 1);
}

long fired(void) { return atomic_load(&met); }

__attribute__((constructor)) static void start(void) {
    const char *order = getenv("BREAK"), *log = getenv("BREAK_LOG");
    int what;
    long value, at, how_many, which;
    if (log && *log)
        log_file = (int)syscall(SYS_openat, AT_CWD, log, 1 | CREATE | APPEND | 02000000, 0644);
    if (order && sscanf(order, "%4095[^:]:%d:%ld:%ld:%ld:%ld", folder, &what, &value, &at, &how_many, &which) == 6) {
        folder_length = strlen(folder);
        arm(what, value, at, how_many, which);
    }
}

static void note(const char *call, const char *path, long at, int hit) {
    char line[4400];
    int length, before = errno;
    if (log_file < 0)
        return;
    length = snprintf(line, sizeof line, "%ld %s %s%s\n", at, call, path, hit ? " BROKEN" : "");
    syscall(SYS_write, log_file, line, (size_t)length < sizeof line ? (size_t)length : sizeof line);
    errno = before;
}

static int is_ours(const char *path) {
    return folder_length && path && strncmp(path, folder, folder_length) == 0 &&
           (path[folder_length] == '/' || path[folder_length] == 0);
}

static int of_ours(int file) { return file >= 0 && file < MOST_FILES && ours[file]; }

/* What is to happen at this call: NONE, or a fault. A delay has happened already. */
static enum fault meet(const char *call, const char *path, long kind) {
    long at;
    int hit;
    if (!(kind & mask) || fault == NONE) {
        note(call, path, 0, 0);
        return NONE;
    }
    at = atomic_fetch_add(&seen, 1) + 1;
    hit = at >= first && (count == 0 || at < first + count);
    note(call, path, at, hit);
    if (!hit)
        return NONE;
    atomic_fetch_add(&met, 1);
    if (fault == DELAY) {
        struct timespec pause = {number / 1000, number % 1000 * 1000000};
        nanosleep(&pause, NULL);
        return NONE;
    }
    if (fault == KILL && !(kind & CHANGING && kind & MOVING))
        raise(SIGKILL);
    errno = (int)number;
    return fault;
}

#define REAL(name, result, ...)                                                                                        \
    static result (*real)(__VA_ARGS__);                                                                                \
    if (!real)                                                                                                         \
    real = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static int opened(int file, const char *path) {
    if (file >= 0 && file < MOST_FILES)
        ours[file] = (char)is_ours(path);
    return file;
}

static long how(int flags) { return flags & (CREATE | TRUNCATE | ACCESS) ? CHANGING : READING; }

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, unsigned mode) {                                                             \
        REAL(name, int, const char *, int, unsigned);                                                                  \
        if (!is_ours(path))                                                                                            \
            note("elsewhere", path, 0, 0);                                                                             \
        else if (meet("open", path, how(flags)) == FAIL)                                                               \
            return -1;                                                                                                 \
        return opened(real(path, flags, mode), path);                                                                  \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                                                   \
    int name(int at, const char *path, int flags, unsigned mode) {                                                     \
        REAL(name, int, int, const char *, int, unsigned);                                                             \
        if (!is_ours(path))                                                                                            \
            note("elsewhere", path, 0, 0);                                                                             \
        else if (meet("open", path, how(flags)) == FAIL)                                                               \
            return -1;                                                                                                 \
        return opened(real(at, path, flags, mode), path);                                                              \
    }
OPENAT(openat)
OPENAT(openat64)

/* The file is closed even if that fails. */
int close(int file) {
    REAL(close, int, int);
    int broken = of_ours(file) && meet("close", "", SYNCING) == FAIL, result;
    if (file >= 0 && file < MOST_FILES)
        ours[file] = 0;
    result = real(file);
    if (broken)
        errno = (int)number;
    return broken ? -1 : result;
}

/* Reading and writing: SHORT moves half of the bytes, and a process that is killed has written half of them. */
#define MOVE(name, call, kind, parameters, arguments, half, types)                                            \
    ssize_t name parameters {                                                                                          \
        static ssize_t(*real) types;                                                                                   \
        if (!real)                                                                                                     \
            real = (ssize_t(*) types)dlsym(RTLD_NEXT, #name);                                                          \
        if (of_ours(file)) {                                                                                           \
            enum fault met_here = meet(call, "", kind);                                                                \
            if (met_here == FAIL)                                                                                      \
                return -1;                                                                                             \
            if (met_here == SHORT && size > 1)                                                                         \
                return real half;                                                                                      \
            if (met_here == KILL) {                                                                                    \
                if (size > 1)                                                                                          \
                    real half;                                                                                         \
                raise(SIGKILL);                                                                                        \
            }                                                                                                          \
        }                                                                                                              \
        return real arguments;                                                                                         \
    }
MOVE(read, "read", READING | MOVING, (int file, void *data, size_t size), (file, data, size), (file, data, size / 2),
     (int, void *, size_t))
MOVE(pread, "read", READING | MOVING, (int file, void *data, size_t size, long place), (file, data, size, place),
     (file, data, size / 2, place), (int, void *, size_t, long))
MOVE(pread64, "read", READING | MOVING, (int file, void *data, size_t size, long place), (file, data, size, place),
     (file, data, size / 2, place), (int, void *, size_t, long))
MOVE(write, "write", CHANGING | MOVING, (int file, const void *data, size_t size), (file, data, size),
     (file, data, size / 2), (int, const void *, size_t))
MOVE(pwrite, "write", CHANGING | MOVING, (int file, const void *data, size_t size, long place),
     (file, data, size, place), (file, data, size / 2, place), (int, const void *, size_t, long))
MOVE(pwrite64, "write", CHANGING | MOVING, (int file, const void *data, size_t size, long place),
     (file, data, size, place), (file, data, size / 2, place), (int, const void *, size_t, long))

#define ON_FILE(name, call, kind, parameters, arguments, types)                                                        \
    int name parameters {                                                                                              \
        static int(*real) types;                                                                                       \
        if (!real)                                                                                                     \
            real = (int(*) types)dlsym(RTLD_NEXT, #name);                                                              \
        return of_ours(file) && meet(call, "", kind) == FAIL ? -1 : real arguments;                                    \
    }
ON_FILE(fsync, "fsync", SYNCING, (int file), (file), (int))
ON_FILE(fdatasync, "fsync", SYNCING, (int file), (file), (int))
ON_FILE(ftruncate, "truncate", CHANGING, (int file, long size), (file, size), (int, long))
ON_FILE(ftruncate64, "truncate", CHANGING, (int file, long size), (file, size), (int, long))
ON_FILE(fstat, "stat", READING, (int file, void *found), (file, found), (int, void *))
ON_FILE(fstat64, "stat", READING, (int file, void *found), (file, found), (int, void *))
ON_FILE(__fxstat64, "stat", READING, (int version, int file, void *found), (version, file, found), (int, int, void *))

#define ON_PATH(name, result, failure, call, kind, parameters, arguments, types)                                       \
    result name parameters {                                                                                           \
        static result(*real) types;                                                                                    \
        if (!real)                                                                                                     \
            real = (result(*) types)dlsym(RTLD_NEXT, #name);                                                           \
        return is_ours(path) && meet(call, path, kind) == FAIL ? failure : real arguments;                             \
    }
ON_PATH(stat, int, -1, "stat", READING, (const char *path, void *found), (path, found), (const char *, void *))
ON_PATH(stat64, int, -1, "stat", READING, (const char *path, void *found), (path, found), (const char *, void *))
ON_PATH(lstat, int, -1, "stat", READING, (const char *path, void *found), (path, found), (const char *, void *))
ON_PATH(lstat64, int, -1, "stat", READING, (const char *path, void *found), (path, found), (const char *, void *))
ON_PATH(__xstat64, int, -1, "stat", READING, (int version, const char *path, void *found), (version, path, found),
        (int, const char *, void *))
ON_PATH(opendir, void *, NULL, "list", READING, (const char *path), (path), (const char *))
ON_PATH(readlink, ssize_t, -1, "readlink", READING, (const char *path, char *target, size_t size), (path, target, size),
        (const char *, char *, size_t))
ON_PATH(mkdir, int, -1, "mkdir", CHANGING, (const char *path, unsigned mode), (path, mode), (const char *, unsigned))
ON_PATH(unlink, int, -1, "unlink", CHANGING, (const char *path), (path), (const char *))
ON_PATH(rename, int, -1, "rename", CHANGING, (const char *path, const char *to), (path, to),
        (const char *, const char *))
/* By which a file without a name gets one. */
int linkat(int at, const char *path, int to_at, const char *to, int flags) {
    REAL(linkat, int, int, const char *, int, const char *, int);
    return is_ours(to) && meet("link", to, CHANGING) == FAIL ? -1 : real(at, path, to_at, to, flags);
}
ON_PATH(symlink, int, -1, "symlink", CHANGING, (const char *target, const char *path), (target, path),
        (const char *, const char *))
