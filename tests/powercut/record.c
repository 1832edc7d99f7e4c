/* Writes down, in order, what a process does to the files below one directory.
 *
 * Loaded before the C library. POWERCUT_ROOT names the directory (a real path, without links),
 * POWERCUT_JOURNAL the file the records are appended to. What the process writes to
 * "$POWERCUT_ROOT.marks" becomes a mark in the journal. With POWERCUT_DIE_AT_SYNC=n the process
 * ends, like one that was killed, in place of its n-th sync.
 *
 * Each call is made and recorded under one lock, so that the order of the records is the order
 * in which the calls took effect. Calls go to the kernel by number: the names of the C library
 * are the ones taken here. A call that the replay could not follow is recorded as such. */
#include "record.h"

/* Offsets have 64 bits under either name. */
_Static_assert(sizeof(off_t) == 8, "off_t");
#define SAME(name, of) extern __typeof(of) name __attribute__((alias(#of)));

static int real_open(int dir, const char *path, int flags, mode_t mode) {
    return (int)syscall(SYS_openat, dir, path, flags, mode);
}

static int note_open(int dir, const char *path, int flags, mode_t mode) {
    struct place place;
    struct stat before, st;
    enter();
    int ours = locate(dir, path, &place);
    int existed = ours && !fstatat(dir, path, &before, 0);
    int fd = real_open(dir, path, flags, mode);
    int error = errno;
    if (fd >= MAX_FD) give_up("too many open files");
    if (fd >= 0 && fstat(fd, &st)) give_up("fstat");
    if (fd >= 0) files[fd] = (struct file){st.st_ino, is_marks(dir, path) ? MARKS : NOT_OURS, 0, 0};
    /* The root itself lies in a directory that is not ours, and is synced all the same. */
    char full[PATH_MAX], resolved[PATH_MAX];
    int is_root = fd >= 0 && journal >= 0 && full_path(dir, path, full) &&
                  realpath(full, resolved) && !strcmp(resolved, root);
    if (fd >= 0 && (ours || is_root)) {
        files[fd] = (struct file){st.st_ino, OURS, flags & O_APPEND, flags & O_DSYNC};
        if ((flags & O_TMPFILE) == O_TMPFILE) unsupported("O_TMPFILE");
        if (ours && !existed)
            record((struct head){.op = CREATE, .parent = place.parent, .inode = st.st_ino},
                   place.name, NULL, NULL);
        else if ((flags & O_TRUNC) && before.st_size > 0)
            record((struct head){.op = TRUNCATE, .inode = st.st_ino}, NULL, NULL, NULL);
    }
    errno = error;
    return (int)leave(fd);
}

#define TAKE_MODE(flags, mode)                                                                    \
    mode_t mode = 0;                                                                              \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                        \
        va_list list;                                                                             \
        va_start(list, flags);                                                                    \
        mode = (mode_t)va_arg(list, int);                                                         \
        va_end(list);                                                                             \
    }

int open(const char *path, int flags, ...) {
    TAKE_MODE(flags, mode)
    return note_open(AT_FDCWD, path, flags, mode);
}
SAME(open64, open)

int openat(int dir, const char *path, int flags, ...) {
    TAKE_MODE(flags, mode)
    return note_open(dir, path, flags, mode);
}
SAME(openat64, openat)

int __open_2(const char *path, int flags) { return note_open(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return note_open(AT_FDCWD, path, flags, 0); }

int creat(const char *path, mode_t mode) {
    return note_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
SAME(creat64, creat)

int close(int fd) {
    enter();
    if (fd >= 0 && fd < MAX_FD) files[fd] = (struct file){0};
    return (int)leave(syscall(SYS_close, fd));
}

static int copied(int from, int to) {
    if (from >= 0 && from < MAX_FD && to >= 0 && to < MAX_FD) files[to] = files[from];
    return to;
}

int dup(int fd) {
    enter();
    return (int)leave(copied(fd, (int)syscall(SYS_dup, fd)));
}

int dup3(int fd, int to, int flags) {
    enter();
    return (int)leave(copied(fd, (int)syscall(SYS_dup3, fd, to, flags)));
}

int dup2(int fd, int to) { return fd == to ? fd : dup3(fd, to, 0); }

static int note_fcntl(int fd, int command, void *argument) {
    enter();
    int result = (int)syscall(SYS_fcntl, fd, command, argument);
    if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) copied(fd, result);
    return (int)leave(result);
}

int fcntl(int fd, int command, ...) {
    va_list list;
    va_start(list, command);
    void *argument = va_arg(list, void *);
    va_end(list);
    return note_fcntl(fd, command, argument);
}
SAME(fcntl64, fcntl)

/* Where the next byte goes: at the end, at `offset`, or where the descriptor stands. */
static uint64_t write_offset(int fd, const struct file *file, off_t offset) {
    struct stat st;
    if (file->append && !fstat(fd, &st)) return (uint64_t)st.st_size;
    return (uint64_t)(offset >= 0 ? offset : syscall(SYS_lseek, fd, 0, SEEK_CUR));
}

static void wrote(const struct file *file, uint64_t offset, const struct iovec *parts, int count,
                  long written) {
    for (int i = 0; i < count && written > 0; i++) {
        size_t len = parts[i].iov_len < (size_t)written ? parts[i].iov_len : (size_t)written;
        struct head head = {.op = file->kind == MARKS ? MARK : WRITE, .data = (uint32_t)len,
                            .inode = file->inode, .offset = offset};
        if (len > 0) record(head, NULL, NULL, parts[i].iov_base);
        offset += len;
        written -= (long)len;
    }
    if (file->sync) record((struct head){.op = SYNC, .inode = file->inode}, NULL, NULL, NULL);
}

static ssize_t note_write(int fd, const struct iovec *parts, int count, off_t offset) {
    enter();
    struct file *file = file_of(fd);
    uint64_t at = file ? write_offset(fd, file, offset) : 0;
    long written = offset >= 0 ? syscall(SYS_pwritev, fd, parts, count, offset, 0)
                               : syscall(SYS_writev, fd, parts, count);
    int error = errno;
    if (file && written > 0) wrote(file, at, parts, count, written);
    errno = error;
    return leave(written);
}

ssize_t write(int fd, const void *data, size_t len) {
    struct iovec part = {(void *)data, len};
    return note_write(fd, &part, 1, -1);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset) {
    struct iovec part = {(void *)data, len};
    return note_write(fd, &part, 1, offset);
}
SAME(pwrite64, pwrite)

ssize_t writev(int fd, const struct iovec *parts, int count) {
    return note_write(fd, parts, count, -1);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    return note_write(fd, parts, count, offset);
}
SAME(pwritev64, pwritev)

static void changed(const struct file *file, enum op op, uint64_t offset, const void *data,
                    uint32_t len) {
    struct head head = {.op = op, .inode = file->inode, .offset = offset, .data = len};
    if (file->kind == OURS) record(head, NULL, NULL, data);
}

int ftruncate(int fd, off_t len) {
    enter();
    struct file *file = file_of(fd);
    long result = syscall(SYS_ftruncate, fd, len);
    if (file && !result) changed(file, TRUNCATE, (uint64_t)len, NULL, 0);
    return (int)leave(result);
}
SAME(ftruncate64, ftruncate)

int truncate(const char *path, off_t len) {
    struct place place;
    struct stat st;
    enter();
    int ours = locate(AT_FDCWD, path, &place);
    long result = syscall(SYS_truncate, path, len);
    if (ours && !result && !stat(path, &st))
        changed(&(struct file){.kind = OURS, .inode = st.st_ino}, TRUNCATE, (uint64_t)len, NULL, 0);
    return (int)leave(result);
}
SAME(truncate64, truncate)

int fallocate(int fd, int mode, off_t offset, off_t len) {
    struct stat st;
    enter();
    struct file *file = file_of(fd);
    long result = syscall(SYS_fallocate, fd, mode, offset, len);
    if (file && !result) {
        uint64_t bytes = (uint64_t)len;
        if (mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE))
            changed(file, ZERO, (uint64_t)offset, &bytes, sizeof bytes);
        else if (mode == 0 && !fstat(fd, &st))
            changed(file, TRUNCATE, (uint64_t)st.st_size, NULL, 0);
        else if (mode != FALLOC_FL_KEEP_SIZE)
            unsupported("a mode of fallocate");
    }
    return (int)leave(result);
}
SAME(fallocate64, fallocate)

int posix_fallocate(int fd, off_t offset, off_t len) {
    return fallocate(fd, 0, offset, len) ? errno : 0;
}
SAME(posix_fallocate64, posix_fallocate)

static int note_sync(long number, int fd) {
    enter();
    struct file *file = file_of(fd);
    if (file && file->kind == OURS && ++syncs == die_at_sync) _exit(99);
    long result = syscall(number, fd);
    if (file && !result) changed(file, SYNC, 0, NULL, 0);
    return (int)leave(result);
}

int fsync(int fd) { return note_sync(SYS_fsync, fd); }
int fdatasync(int fd) { return note_sync(SYS_fdatasync, fd); }

int syncfs(int fd) {
    enter();
    struct file *file = file_of(fd);
    long result = syscall(SYS_syncfs, fd);
    if (file && !result) changed(file, SYNC_ALL, 0, NULL, 0);
    return (int)leave(result);
}

void sync(void) {
    enter();
    syscall(SYS_sync);
    if (journal >= 0) record((struct head){.op = SYNC_ALL}, NULL, NULL, NULL);
    leave(0);
}

/* It starts to write back and flushes no cache of the disk: no promise, only a hint. */
int sync_file_range(int fd, off_t offset, off_t len, unsigned flags) {
    enter();
    struct file *file = file_of(fd);
    long result = syscall(SYS_sync_file_range, fd, offset, len, flags);
    if (file && !result) changed(file, HINT, 0, NULL, 0);
    return (int)leave(result);
}

int renameat2(int dir, const char *path, int dir2, const char *path2, unsigned flags) {
    struct place from, to;
    enter();
    int leaves = locate(dir, path, &from), comes = locate(dir2, path2, &to);
    long result = syscall(SYS_renameat2, dir, path, dir2, path2, flags);
    int error = errno;
    if (!result && (leaves || comes)) {
        if (!leaves || !comes) unsupported("a rename across the root");
        if (flags & ~1u) unsupported("a flag of renameat2");
        record((struct head){.op = RENAME, .parent = from.parent, .parent2 = to.parent},
               from.name, to.name, NULL);
    }
    errno = error;
    return (int)leave(result);
}

int renameat(int dir, const char *path, int dir2, const char *path2) {
    return renameat2(dir, path, dir2, path2, 0);
}

int rename(const char *path, const char *path2) {
    return renameat2(AT_FDCWD, path, AT_FDCWD, path2, 0);
}

int unlinkat(int dir, const char *path, int flags) {
    struct place place;
    enter();
    int ours = locate(dir, path, &place);
    long result = syscall(SYS_unlinkat, dir, path, flags);
    int error = errno;
    if (ours && !result)
        record((struct head){.op = UNLINK, .parent = place.parent}, place.name, NULL, NULL);
    errno = error;
    return (int)leave(result);
}

int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

/* remove() of the C library does not come by the names above. */
int remove(const char *path) {
    int result = unlink(path);
    return result && errno == EISDIR ? rmdir(path) : result;
}

int mkdirat(int dir, const char *path, mode_t mode) {
    struct place place;
    struct stat st;
    enter();
    int ours = locate(dir, path, &place);
    long result = syscall(SYS_mkdirat, dir, path, mode);
    int error = errno;
    if (ours && !result && !fstatat(dir, path, &st, 0))
        record((struct head){.op = MKDIR, .parent = place.parent, .inode = st.st_ino},
               place.name, NULL, NULL);
    errno = error;
    return (int)leave(result);
}

int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int linkat(int dir, const char *path, int dir2, const char *path2, int flags) {
    struct place from, to;
    struct stat st;
    enter();
    int known = locate(dir, path, &from), comes = locate(dir2, path2, &to);
    long result = syscall(SYS_linkat, dir, path, dir2, path2, flags);
    int error = errno;
    if (comes && !result && !fstatat(dir2, path2, &st, AT_SYMLINK_NOFOLLOW)) {
        if (!known) unsupported("a link across the root");
        record((struct head){.op = LINK, .parent = to.parent, .inode = st.st_ino}, to.name, NULL,
               NULL);
    }
    errno = error;
    return (int)leave(result);
}

int link(const char *path, const char *path2) {
    return linkat(AT_FDCWD, path, AT_FDCWD, path2, 0);
}

int symlinkat(const char *target, int dir, const char *path) {
    struct place place;
    enter();
    if (locate(dir, path, &place)) unsupported("symlink");
    return (int)leave(syscall(SYS_symlinkat, target, dir, path));
}

int symlink(const char *target, const char *path) { return symlinkat(target, AT_FDCWD, path); }

/* Writes through a mapping come by no call. */
void *mmap(void *address, size_t len, int protection, int flags, int fd, off_t offset) {
    if (fd >= 0 && (flags & MAP_SHARED) && (protection & PROT_WRITE)) {
        enter();
        if (file_of(fd)) unsupported("a writable shared mapping");
        leave(0);
    }
    return (void *)syscall(SYS_mmap, address, len, protection, flags, fd, offset);
}
SAME(mmap64, mmap)

static void refuse(int fd, const char *what) {
    enter();
    if (file_of(fd)) unsupported(what);
    leave(0);
}

ssize_t copy_file_range(int fd, off_t *at, int to, off_t *to_at, size_t len, unsigned flags) {
    refuse(to, "copy_file_range");
    return syscall(SYS_copy_file_range, fd, at, to, to_at, len, flags);
}

ssize_t sendfile(int to, int fd, off_t *at, size_t len) {
    refuse(to, "sendfile");
    return syscall(SYS_sendfile, to, fd, at, len);
}
SAME(sendfile64, sendfile)

ssize_t splice(int fd, off_t *at, int to, off_t *to_at, size_t len, unsigned flags) {
    refuse(to, "splice");
    return syscall(SYS_splice, fd, at, to, to_at, len, flags);
}

/* Streams open and write inside of the C library, where no name can be taken. */
static FILE *note_fopen(const char *name, const char *path, const char *mode) {
    struct place place;
    enter();
    if (strpbrk(mode, "wa+") && locate(AT_FDCWD, path, &place)) unsupported(name);
    leave(0);
    FILE *(*real)(const char *, const char *) =
        (FILE * (*)(const char *, const char *)) dlsym(RTLD_NEXT, name);
    return real(path, mode);
}

FILE *fopen(const char *path, const char *mode) { return note_fopen("fopen", path, mode); }
FILE *fopen64(const char *path, const char *mode) { return note_fopen("fopen64", path, mode); }

FILE *fdopen(int fd, const char *mode) {
    if (strpbrk(mode, "wa+")) refuse(fd, "fdopen");
    FILE *(*real)(int, const char *) = (FILE * (*)(int, const char *)) dlsym(RTLD_NEXT, "fdopen");
    return real(fd, mode);
}
