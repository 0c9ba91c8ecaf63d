/* Fails one file operation below a folder; LD_PRELOAD it, then call `arm`.

Each call there is logged as a line "NAME PATH": that is how one learns which there are. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static char below[PATH_MAX], failing[64], pattern[PATH_MAX];
static int log_file = -1, error_number, lasting;
static atomic_int calls_left;

/* Fails the nth call of that name whose path fits; lasting: and all calls that follow it. */
void arm(const char *folder, const char *log, const char *name, const char *fits, int nth,
         int error, int and_all_after) {
  snprintf(below, sizeof below, "%s/", folder);
  snprintf(failing, sizeof failing, "%s", name);
  snprintf(pattern, sizeof pattern, "%s", fits);
  calls_left = nth;
  error_number = error;
  lasting = and_all_after;
  log_file = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

static void absolute(int folder, const char *path, char *found) {
  if (path && path[0] == '/') {
    snprintf(found, PATH_MAX, "%s", path);
    return;
  }
  char link[64], base[PATH_MAX];
  if (folder == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
  else snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
  ssize_t length = readlink(link, base, sizeof base - 1);
  base[length < 0 ? 0 : length] = 0;
  if (path) snprintf(found, PATH_MAX, "%s/%s", base, path);
  else snprintf(found, PATH_MAX, "%s", base);
}

static int fails(const char *name, int folder, const char *path) {
  static atomic_int broken;
  if (log_file < 0) return 0;
  int before = errno;
  char found[PATH_MAX], line[PATH_MAX + 64];
  absolute(folder, path, found);
  errno = before;
  size_t length = strlen(below);
  if (strncmp(found, below, length)) return 0;
  const char *inside = found + length;
  int hit = !strcmp(name, failing) && !fnmatch(pattern, inside, 0) && --calls_left == 0;
  if (hit) broken = 1;
  else hit = lasting && broken;
  int size = snprintf(line, sizeof line, "%s %s%s\n", name, inside, hit ? " FAILS" : "");
  syscall(SYS_write, log_file, line, size);
  errno = hit ? error_number : before;
  return hit;
}

#define NEXT(name) __typeof__(&name) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define WITH_MODE                    \
  mode_t mode = 0;                   \
  if (flags & (O_CREAT | O_TMPFILE)) { \
    va_list rest;                    \
    va_start(rest, flags);           \
    mode = va_arg(rest, mode_t);     \
    va_end(rest);                    \
  }

#define OPEN(function)                                   \
  int function(const char *path, int flags, ...) {       \
    WITH_MODE                                            \
    if (fails("open", AT_FDCWD, path)) return -1;        \
    NEXT(function);                                      \
    return next(path, flags, mode);                      \
  }
#define OPENAT(function)                                          \
  int function(int folder, const char *path, int flags, ...) {    \
    WITH_MODE                                                     \
    if (fails("open", folder, path)) return -1;                   \
    NEXT(function);                                               \
    return next(folder, path, flags, mode);                       \
  }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

#define WRAP(result, function, name, folder, path, parameters, arguments) \
  result function parameters {                                            \
    if (fails(name, folder, path)) return -1;                             \
    NEXT(function);                                                       \
    return next arguments;                                                \
  }
WRAP(int, mkdir, "mkdir", AT_FDCWD, path, (const char *path, mode_t mode), (path, mode))
WRAP(int, mkdirat, "mkdir", folder, path, (int folder, const char *path, mode_t mode),
     (folder, path, mode))
WRAP(int, rmdir, "rmdir", AT_FDCWD, path, (const char *path), (path))
WRAP(int, unlink, "unlink", AT_FDCWD, path, (const char *path), (path))
WRAP(int, unlinkat, flags ? "rmdir" : "unlink", folder, path,
     (int folder, const char *path, int flags), (folder, path, flags))
WRAP(int, rename, "rename", AT_FDCWD, from, (const char *from, const char *to), (from, to))
WRAP(int, renameat, "rename", folder, from,
     (int folder, const char *from, int other, const char *to), (folder, from, other, to))
WRAP(int, renameat2, "rename", folder, from,
     (int folder, const char *from, int other, const char *to, unsigned flags),
     (folder, from, other, to, flags))
WRAP(int, link, "link", AT_FDCWD, from, (const char *from, const char *to), (from, to))
WRAP(int, fsync, "fsync", file, NULL, (int file), (file))
WRAP(int, fdatasync, "fsync", file, NULL, (int file), (file))
WRAP(int, flock, "flock", file, NULL, (int file, int operation), (file, operation))
WRAP(int, ftruncate, "ftruncate", file, NULL, (int file, off_t size), (file, size))
WRAP(int, ftruncate64, "ftruncate", file, NULL, (int file, off64_t size), (file, size))
WRAP(ssize_t, write, "write", file, NULL, (int file, const void *from, size_t size),
     (file, from, size))
WRAP(ssize_t, writev, "write", file, NULL, (int file, const struct iovec *from, int count),
     (file, from, count))
WRAP(ssize_t, pwrite, "write", file, NULL, (int file, const void *from, size_t size, off_t at),
     (file, from, size, at))
WRAP(ssize_t, pwrite64, "write", file, NULL,
     (int file, const void *from, size_t size, off64_t at), (file, from, size, at))
WRAP(ssize_t, pwritev, "write", file, NULL,
     (int file, const struct iovec *from, int count, off_t at), (file, from, count, at))
WRAP(ssize_t, pwritev64, "write", file, NULL,
     (int file, const struct iovec *from, int count, off64_t at), (file, from, count, at))
WRAP(ssize_t, read, "read", file, NULL, (int file, void *to, size_t size), (file, to, size))
WRAP(ssize_t, pread, "read", file, NULL, (int file, void *to, size_t size, off_t at),
     (file, to, size, at))
WRAP(ssize_t, pread64, "read", file, NULL, (int file, void *to, size_t size, off64_t at),
     (file, to, size, at))
