/*
 * Loaded first into every process of a sandbox (ld.so.preload): two calls of the C library that would otherwise behave
 * differently from an ordinary machine. The library is for convenience alone: security does not depend on it.
 *
 * statx without AT_NO_AUTOMOUNT. GNU ls and stat set that flag in every call. gVisor refuses it, also in newfstatat, to
 * which libc would fall back. Nothing is mounted in a sandbox by looking at it, so without the flag nothing differs.
 *
 * rename and renameat of a regular file between /work, /tmp and /output, which are mounts of their own, so that the
 * kernel answers EXDEV. As with mv(1), the file is copied then, with its mode and times, and the old name removed.
 *
 * Compiled by tcc without any header, so the constants and structures of the kernel's interface are written out here.
 */
#if defined(__x86_64__)
enum { SYS_renameat = 264, SYS_statx = 332 };
#elif defined(__aarch64__)
enum { SYS_renameat = 38, SYS_statx = 291 };
#endif
enum { AT_FDCWD = -100, AT_EMPTY_PATH = 0x1000, AT_NO_AUTOMOUNT = 0x800 };
enum { O_WRONLY = 01, O_CREAT = 0100, O_EXCL = 0200, O_NONBLOCK = 04000, O_CLOEXEC = 02000000 };
#if defined(__aarch64__)
enum { O_NOFOLLOW = 0100000 };
#else
enum { O_NOFOLLOW = 0400000 };
#endif
enum { ENOENT = 2, EXDEV = 18, ELOOP = 40, S_IFMT = 0170000, S_IFREG = 0100000, STATX_BASIC_STATS = 0x7ff };

struct times { long long seconds; long nanoseconds; };
struct statx_time { long long seconds; unsigned nanoseconds; int reserved; };
struct statx {
    unsigned mask, block_size;
    unsigned long long attributes;
    unsigned links, uid, gid;
    unsigned short mode, spare;
    unsigned long long inode, size, blocks, attributes_mask;
    struct statx_time accessed, born, changed, modified;
    unsigned char rest[128];
};

long syscall(long number, ...);
int *__errno_location(void);
int openat(int directory, const char *path, int flags, ...);
int close(int file);
long sendfile(int to, int from, void *offset, unsigned long count);
int fchmod(int file, unsigned mode);
int futimens(int file, const struct timespec *times);
int unlinkat(int directory, const char *path, int flags);

int statx(int directory, const char *path, int flags, unsigned mask, struct statx *found)
{
    return syscall(SYS_statx, directory, path, flags & ~AT_NO_AUTOMOUNT, mask, found);
}

/* Whether all bytes, the mode and the times of one open file are in the other. */
static int copied(int from, int to, const struct statx *about)
{
    struct times times[2] = {
        {about->accessed.seconds, about->accessed.nanoseconds},
        {about->modified.seconds, about->modified.nanoseconds},
    };
    long count;

    do
        count = sendfile(to, from, 0, 1 << 30);
    while (count > 0);
    return count == 0 && fchmod(to, about->mode & 07777) == 0 && futimens(to, (void *)times) == 0;
}

static int move_by_copy(int from_directory, const char *from, int to_directory, const char *to)
{
    struct statx about;
    int source, target, error;

    source = openat(from_directory, from, O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (source < 0) {
        if (*__errno_location() == ELOOP) /* a symbolic link: it stays where it is */
            *__errno_location() = EXDEV;
        return -1;
    }
    if (statx(source, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &about) || (about.mode & S_IFMT) != S_IFREG) {
        close(source);
        *__errno_location() = EXDEV;
        return -1;
    }
    target = -1;
    if (unlinkat(to_directory, to, 0) == 0 || *__errno_location() == ENOENT)
        target = openat(to_directory, to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (target >= 0 && copied(source, target, &about) && unlinkat(from_directory, from, 0) == 0) {
        close(target);
        close(source);
        return 0;
    }
    error = *__errno_location();
    if (target >= 0) {
        unlinkat(to_directory, to, 0);
        close(target);
    }
    close(source);
    *__errno_location() = error;
    return -1;
}

int renameat(int from_directory, const char *from, int to_directory, const char *to)
{
    int result = syscall(SYS_renameat, from_directory, from, to_directory, to);

    if (result == 0 || *__errno_location() != EXDEV)
        return result;
    return move_by_copy(from_directory, from, to_directory, to);
}

int rename(const char *from, const char *to)
{
    return renameat(AT_FDCWD, from, AT_FDCWD, to);
}
