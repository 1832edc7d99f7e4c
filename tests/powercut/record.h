/* The journal, the lock, and which descriptors and paths are of interest. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* The same numbers stand in journal.rs. */
enum op { START = 1, CREATE, MKDIR, WRITE, TRUNCATE, ZERO, SYNC, SYNC_ALL, RENAME, UNLINK, LINK,
          MARK, HINT, UNSUPPORTED };

struct head {
    uint64_t seq;
    uint32_t op, name, name2, data;
    uint64_t inode, parent, parent2, offset;
};

/* A name as the directory that holds it knows it. */
struct place {
    uint64_t parent;
    char name[NAME_MAX + 1];
};

enum { NOT_OURS, OURS, MARKS };
enum { MAX_FD = 65536 };

struct file {
    uint64_t inode;
    int kind, append, sync;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct file files[MAX_FD];
static char root[PATH_MAX], marks[PATH_MAX + 8];
static size_t root_len;
static int journal = -1;
static uint64_t seq, syncs, die_at_sync;

static void give_up(const char *why) {
    dprintf(2, "powercut: %s: %s\n", why, strerror(errno));
    _exit(98);
}

static void put(const void *bytes, size_t len) {
    for (const char *at = bytes; len > 0;) {
        long n = syscall(SYS_write, journal, at, len);
        if (n <= 0) give_up("the journal cannot be written");
        at += n;
        len -= (size_t)n;
    }
}

static void record(struct head head, const char *name, const char *name2, const void *data) {
    head.seq = seq++;
    head.name = name ? (uint32_t)strlen(name) : 0;
    head.name2 = name2 ? (uint32_t)strlen(name2) : 0;
    put(&head, sizeof head);
    put(name, head.name);
    put(name2, head.name2);
    put(data, head.data);
}

static void unsupported(const char *what) {
    record((struct head){.op = UNSUPPORTED}, what, NULL, NULL);
}

__attribute__((constructor)) static void start(void) {
    const char *directory = getenv("POWERCUT_ROOT"), *path = getenv("POWERCUT_JOURNAL");
    const char *die = getenv("POWERCUT_DIE_AT_SYNC");
    struct stat st;
    if (!directory || !path) return;
    if (!realpath(directory, root) || stat(root, &st)) give_up("POWERCUT_ROOT");
    root_len = strlen(root);
    snprintf(marks, sizeof marks, "%s.marks", root);
    if (die) die_at_sync = strtoull(die, NULL, 10);
    journal = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC,
                           0644);
    if (journal < 0) give_up("POWERCUT_JOURNAL");
    record((struct head){.op = START, .inode = st.st_ino}, NULL, NULL, NULL);
}

/* Enters the lock; errno of the call made inside is the caller's to see. */
static void enter(void) { pthread_mutex_lock(&lock); }

static long leave(long result) {
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

static int below_root(const char *path) {
    return journal >= 0 && !strncmp(path, root, root_len) &&
           (path[root_len] == '/' || path[root_len] == 0);
}

static int full_path(int dir, const char *path, char *full) {
    char link[64], base[PATH_MAX];
    if (path[0] == '/') return snprintf(full, PATH_MAX, "%s", path) < PATH_MAX;
    if (dir == AT_FDCWD) {
        if (!getcwd(base, sizeof base)) return 0;
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
        ssize_t n = readlink(link, base, sizeof base - 1);
        if (n <= 0) return 0;
        base[n] = 0;
    }
    return snprintf(full, PATH_MAX, "%s/%s", base, path) < PATH_MAX;
}

/* Where a path lies; false where that is not below the root. */
static int locate(int dir, const char *path, struct place *place) {
    char full[PATH_MAX], parent[PATH_MAX];
    struct stat st;
    if (journal < 0 || !path || !full_path(dir, path, full)) return 0;
    size_t len = strlen(full);
    while (len > 1 && full[len - 1] == '/') full[--len] = 0;
    char *slash = strrchr(full, '/');
    if (!slash || strlen(slash + 1) > NAME_MAX) return 0;
    strcpy(place->name, slash + 1);
    *slash = 0;
    if (!realpath(full[0] ? full : "/", parent) || !below_root(parent)) return 0;
    if (!strcmp(place->name, ".") || !strcmp(place->name, "..")) unsupported("a path to dots");
    if (stat(parent, &st)) return 0;
    place->parent = st.st_ino;
    return 1;
}

static struct file *file_of(int fd) {
    struct stat st;
    if (journal < 0 || fd < 0 || fd >= MAX_FD || files[fd].kind == NOT_OURS) return NULL;
    /* The C library closes some of its own by no name that is taken here. */
    if (fstat(fd, &st) || st.st_ino != files[fd].inode) files[fd].kind = NOT_OURS;
    return files[fd].kind == NOT_OURS ? NULL : &files[fd];
}

static int is_marks(int dir, const char *path) {
    char full[PATH_MAX];
    return journal >= 0 && path && full_path(dir, path, full) && !strcmp(full, marks);
}
