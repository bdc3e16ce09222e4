/* A disk that forgets on power loss, as an LD_PRELOAD library for one single-threaded process.
 *
 * Of every file below $POWER_SHIM_DIR it remembers each write and truncation since the file's last fsync, and of every
 * folder each name made, removed or renamed since the folder's last fsync. power_cut() takes all that back, newest
 * first, and ends the process with 99. With $POWER_SHIM_KEEP percent, each forgotten write is then done again with that
 * chance, sometimes only its first sectors: disks write back in any order. A file's name is kept apart from its content.
 *
 *   $POWER_SHIM_CUT_AT n   the power fails instead of the n-th change or sync of a file or folder below the directory
 *   $POWER_SHIM_SEED       for what is kept
 *   power_cut()            the power fails now
 *   power_operations()     how many changes and syncs there were
 *
 * Shared memory (-shm) does not outlive a power cut: the caller removes it afterwards. Writes through mmap are not seen.
 * Everything needed is declared here, so that no header has to be installed. Linux, 64 bit.
 */

typedef unsigned long size_t_;
typedef long ssize_t_;
typedef long off_t_;

extern void *dlsym(void *, const char *);
extern void *malloc(size_t_);
extern void *realloc(void *, size_t_);
extern void free(void *);
extern char *strdup(const char *);
extern char *strrchr(const char *, int);
extern char *strstr(const char *, const char *);
extern int strcmp(const char *, const char *);
extern int strncmp(const char *, const char *, size_t_);
extern size_t_ strlen(const char *);
extern void *memcpy(void *, const void *, size_t_);
extern int sprintf(char *, const char *, ...);
extern char *getenv(const char *);
extern int atoi(const char *);
extern off_t_ lseek(int, off_t_, int);
extern ssize_t_ pread(int, void *, size_t_, off_t_);
extern int access(const char *, int);
extern char *realpath(const char *, char *);
extern void abort(void);
extern void _exit(int);

#define REAL(name, type) ((type)real(#name))
#define CREATE 0100
#define TRUNCATE 01000
#define READ_WRITE 2
#define MAX_FD 4096

typedef int (*open_type)(const char *, int, unsigned);
typedef int (*openat_type)(int, const char *, int, unsigned);
typedef ssize_t_ (*write_type)(int, const void *, size_t_);
typedef ssize_t_ (*pwrite_type)(int, const void *, size_t_, off_t_);
typedef int (*truncate_type)(int, off_t_);
typedef int (*fd_type)(int);
typedef int (*path_type)(const char *);
typedef int (*rename_type)(const char *, const char *);

/* One change of a file's content: `old` is what stood at `at`, `fresh` what was written; size_before restores growth. */
struct change {
    off_t_ at, size_before, size_after;
    size_t_ old_length, fresh_length;
    char *old, *fresh;
    struct change *previous, *next;
};

struct file {
    char *path;
    int fd; /* our own; closing it would drop SQLite's locks, so it stays open */
    struct change *first, *last;
    struct file *next;
};

/* One change of a folder: `path` was made (hidden 0), or what stood there waits under `hidden`, or came from `from`. */
struct name {
    char *folder, *path, *from, *hidden;
    struct name *previous;
};

static struct file *files, *by_fd[MAX_FD];
static char *folder_by_fd[MAX_FD];
static struct name *names;
static long operations, hidden_count;
static unsigned long long random_state;

static void *real(const char *name) {
    void *found = dlsym((void *)-1L, name);
    if (!found)
        abort();
    return found;
}

static int is_below(const char *path) {
    static char root[4096];
    if (!root[0]) {
        const char *named = getenv("POWER_SHIM_DIR");
        if (!named || !realpath(named, root))
            return 0;
    }
    size_t_ length = strlen(root);
    return path[0] == '/' && !strncmp(path, root, length) && (path[length] == '/' || !path[length]);
}

static int is_tracked(const char *path) {
    return is_below(path) && !strstr(path, "-shm");
}

static long setting(const char *name) {
    const char *text = getenv(name);
    return text ? atoi(text) : 0;
}

static unsigned chance(unsigned below) {
    if (!random_state)
        random_state = 0x9E3779B97F4A7C15ULL ^ ((unsigned long long)setting("POWER_SHIM_SEED") * 0xD1342543DE82EF95ULL);
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)((random_state >> 33) % below);
}

static char *folder_of(const char *path) {
    char *folder = strdup(path);
    *strrchr(folder, '/') = 0;
    return folder;
}

/* --- the cut --- */

static void take_back(struct file *file) {
    for (struct change *change = file->last; change; change = change->previous) {
        if (change->old_length)
            REAL(pwrite64, pwrite_type)(file->fd, change->old, change->old_length, change->at);
        REAL(ftruncate64, truncate_type)(file->fd, change->size_before);
    }
}

static void do_some_again(struct file *file, unsigned keep) {
    for (struct change *change = file->first; change; change = change->next) {
        if (chance(100) >= keep)
            continue;
        if (!change->fresh) {
            REAL(ftruncate64, truncate_type)(file->fd, change->size_after);
            continue;
        }
        size_t_ length = change->fresh_length;
        if (!chance(4))
            length = length / 512 ? 512 * chance((unsigned)(length / 512)) : length;
        REAL(pwrite64, pwrite_type)(file->fd, change->fresh, length, change->at);
    }
}

static void take_back_names(void) {
    for (struct name *name = names; name; name = name->previous) {
        if (name->from)
            REAL(rename, rename_type)(name->path, name->from);
        else if (!name->hidden)
            REAL(unlink, path_type)(name->path);
        if (name->hidden)
            REAL(rename, rename_type)(name->hidden, name->path);
    }
}

static void drop_hidden(void) {
    for (struct name *name = names; name; name = name->previous)
        if (name->hidden)
            REAL(unlink, path_type)(name->hidden);
}

void power_cut(void) {
    unsigned keep = (unsigned)setting("POWER_SHIM_KEEP");
    for (struct file *file = files; file; file = file->next) {
        take_back(file);
        if (keep)
            do_some_again(file, keep);
    }
    if (keep && chance(100) < keep)
        drop_hidden();
    else
        take_back_names();
    _exit(99);
}

long power_operations(void) {
    return operations;
}

static void one_more(void) {
    operations++;
    if (operations == setting("POWER_SHIM_CUT_AT"))
        power_cut();
}

/* --- what is remembered --- */

static struct file *file_of(int fd) {
    return fd >= 0 && fd < MAX_FD ? by_fd[fd] : 0;
}

static void remember(struct file *file, off_t_ at, const void *fresh, size_t_ length, off_t_ size_after) {
    struct change *change = malloc(sizeof *change);
    change->at = at;
    change->size_before = lseek(file->fd, 0, 2);
    change->size_after = size_after;
    off_t_ end = fresh ? at + (off_t_)length : change->size_before;
    if (end > change->size_before)
        end = change->size_before;
    change->old_length = end > at ? (size_t_)(end - at) : 0;
    change->old = malloc(change->old_length + 1);
    if (change->old_length && pread(file->fd, change->old, change->old_length, at) != (ssize_t_)change->old_length)
        abort();
    change->fresh_length = length;
    change->fresh = fresh ? memcpy(malloc(length + 1), fresh, length) : 0;
    change->previous = file->last;
    change->next = 0;
    if (file->last)
        file->last->next = change;
    else
        file->first = change;
    file->last = change;
}

static void forget(struct file *file) {
    while (file->first) {
        struct change *change = file->first;
        file->first = change->next;
        free(change->old);
        free(change->fresh);
        free(change);
    }
    file->last = 0;
}

static void remember_name(const char *path, const char *from, char *hidden) {
    struct name *name = malloc(sizeof *name);
    name->folder = folder_of(path);
    name->path = strdup(path);
    name->from = from ? strdup(from) : 0;
    name->hidden = hidden;
    name->previous = names;
    names = name;
}

static void forget_names(const char *folder) {
    struct name **place = &names;
    while (*place) {
        struct name *name = *place;
        if (strcmp(name->folder, folder)) {
            place = &name->previous;
            continue;
        }
        if (name->hidden)
            REAL(unlink, path_type)(name->hidden);
        *place = name->previous;
    }
}

static void move_files(const char *from, const char *to) {
    for (struct file *file = files; file; file = file->next)
        if (!strcmp(file->path, from))
            file->path = strdup(to);
}

/* Out of sight, but to be had again until the folder is synced. */
static char *hide(const char *path) {
    char *hidden = malloc(strlen(path) + 40);
    char *folder = folder_of(path);
    sprintf(hidden, "%s/.power-shim-%ld", folder, ++hidden_count);
    free(folder);
    if (REAL(rename, rename_type)(path, hidden))
        abort();
    move_files(path, hidden);
    return hidden;
}

static struct file *file_at(const char *path) {
    for (struct file *file = files; file; file = file->next)
        if (!strcmp(file->path, path))
            return file;
    int fd = REAL(open64, open_type)(path, READ_WRITE, 0);
    if (fd < 0)
        return 0;
    struct file *file = malloc(sizeof *file);
    file->path = strdup(path);
    file->fd = fd;
    file->first = file->last = 0;
    file->next = files;
    return files = file;
}

static void opened(int fd, const char *path) {
    if (fd < 0 || fd >= MAX_FD)
        return;
    char slash[4200];
    sprintf(slash, "%s/.", path);
    if (access(slash, 0)) {
        by_fd[fd] = file_at(path);
        folder_by_fd[fd] = 0;
    } else {
        by_fd[fd] = 0;
        folder_by_fd[fd] = strdup(path);
    }
}

/* --- what is intercepted --- */

static int open_tracked(const char *path, int flags, unsigned mode) {
    int is_new = access(path, 0) != 0;
    if (is_new && flags & CREATE)
        one_more();
    int fd = REAL(open64, open_type)(path, flags & ~TRUNCATE, mode);
    if (fd < 0)
        return fd;
    if (is_new)
        remember_name(path, 0, 0);
    opened(fd, path);
    struct file *file = file_of(fd);
    if (file && flags & TRUNCATE) {
        one_more();
        remember(file, 0, 0, 0, 0);
        REAL(ftruncate64, truncate_type)(fd, 0);
    }
    return fd;
}

int open64(const char *path, int flags, unsigned mode) {
    return is_tracked(path) ? open_tracked(path, flags, mode) : REAL(open64, open_type)(path, flags, mode);
}

int open(const char *path, int flags, unsigned mode) {
    return open64(path, flags, mode);
}

int openat64(int at, const char *path, int flags, unsigned mode) {
    return is_tracked(path) ? open_tracked(path, flags, mode) : REAL(openat64, openat_type)(at, path, flags, mode);
}

int openat(int at, const char *path, int flags, unsigned mode) {
    return openat64(at, path, flags, mode);
}

ssize_t_ pwrite64(int fd, const void *bytes, size_t_ length, off_t_ at) {
    struct file *file = file_of(fd);
    if (file) {
        one_more();
        remember(file, at, bytes, length, 0);
    }
    return REAL(pwrite64, pwrite_type)(fd, bytes, length, at);
}

ssize_t_ pwrite(int fd, const void *bytes, size_t_ length, off_t_ at) {
    return pwrite64(fd, bytes, length, at);
}

ssize_t_ write(int fd, const void *bytes, size_t_ length) {
    struct file *file = file_of(fd);
    if (file) {
        one_more();
        remember(file, lseek(fd, 0, 1), bytes, length, 0);
    }
    return REAL(write, write_type)(fd, bytes, length);
}

int ftruncate64(int fd, off_t_ size) {
    struct file *file = file_of(fd);
    if (file) {
        one_more();
        remember(file, size, 0, 0, size);
    }
    return REAL(ftruncate64, truncate_type)(fd, size);
}

int ftruncate(int fd, off_t_ size) {
    return ftruncate64(fd, size);
}

static int sync_fd(int fd, const char *call) {
    int is_folder = fd >= 0 && fd < MAX_FD && folder_by_fd[fd];
    struct file *file = file_of(fd);
    if (!file && !is_folder)
        return ((fd_type)real(call))(fd);
    one_more();
    if (file)
        forget(file);
    else
        forget_names(folder_by_fd[fd]);
    return 0; /* the machine stays up, so the page cache is disk enough */
}

int fsync(int fd) {
    return sync_fd(fd, "fsync");
}

int fdatasync(int fd) {
    return sync_fd(fd, "fdatasync");
}

int unlink(const char *path) {
    if (!is_tracked(path) || access(path, 0))
        return REAL(unlink, path_type)(path);
    one_more();
    remember_name(path, 0, hide(path));
    return 0;
}

int rename(const char *from, const char *to) {
    if (!is_tracked(from) || !is_tracked(to) || access(from, 0))
        return REAL(rename, rename_type)(from, to);
    one_more();
    char *hidden = access(to, 0) ? 0 : hide(to);
    remember_name(to, from, hidden);
    int outcome = REAL(rename, rename_type)(from, to);
    move_files(from, to);
    return outcome;
}

int close(int fd) {
    if (fd >= 0 && fd < MAX_FD) {
        by_fd[fd] = 0;
        folder_by_fd[fd] = 0;
    }
    return REAL(close, fd_type)(fd);
}
