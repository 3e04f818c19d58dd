"""The rows of the census (``census.py``): calls, the created object, its accounting, its bound, and the evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Row(NamedTuple):
    """``calls`` by name; ``classes`` by the call that has them, with ``"; "`` between the names of each."""

    calls: str
    classes: Mapping[str, str]
    makes: str
    charged: str
    bound: str
    tests: tuple[str, ...]


SANDBOX = "the sandbox"
NOTHING = ("nothing", "–", "–")
MEMORY = "`limits.memory_bytes`"
DESCRIPTORS = "1,024 descriptors a process, `limits.processes`"
BY_CALL = ("tests/hostile/test_seccomp.py::test_every_call_ends_as_listed",)
CONTROLLED = ("tests/hostile/controls/test_controls.py::test_weakened_field_is_observed",)
DISK = ("surface: the host's disk: flushing it, and reading it past the page cache",)
FLUSHES = (*DISK, "tests/hostile/controls/test_flushes.py::test_a_program_flushes_no_disk")
SHARE = ("surface: the agent's share of the processor",)
FILTERS = ("surface: filters of sockets, which are compiled into memory of the kernel",)
PAGES = ("surface: pages in common with other sandboxes",)
LOCKS = ("surface: locks of open files, leases and signals to an owner",)
TERMINAL_AND_SIZES = (
    "TCGETS; TCSETS; TCSETSW; TCSETSF; TIOCGPGRP; TIOCSPGRP; TIOCGSID; TIOCOUTQ; TIOCGWINSZ; FIONREAD; FIOQSIZE; "
    "SIOCATMARK"
)
INTERFACES = (
    "SIOCGIFNAME; SIOCGIFCONF; SIOCGIFFLAGS; SIOCGIFADDR; SIOCGIFBRDADDR; SIOCGIFNETMASK; SIOCGIFMTU; SIOCGIFHWADDR; "
    "SIOCGIFINDEX"
)
ADVICE = (
    "MADV_NORMAL; MADV_RANDOM; MADV_SEQUENTIAL; MADV_DONTNEED; MADV_FREE; MADV_REMOVE; MADV_DONTFORK; MADV_DOFORK; "
    "MADV_NOHUGEPAGE; MADV_DONTDUMP; MADV_DODUMP; MADV_WIPEONFORK; MADV_KEEPONFORK; MADV_DONTNEED_LOCKED; "
    "MADV_GUARD_INSTALL; MADV_GUARD_REMOVE"
)
FILE_ADVICE = "NORMAL; RANDOM; SEQUENTIAL; WILLNEED; NOREUSE"
SET_OPTIONS = (
    "SO_REUSEADDR; SO_DONTROUTE; SO_BROADCAST; SO_SNDBUF; SO_RCVBUF; SO_KEEPALIVE; "
    "SO_OOBINLINE; SO_LINGER; SO_REUSEPORT; SO_PASSCRED; SO_RCVLOWAT; SO_RCVTIMEO_OLD; "
    "SO_SNDTIMEO_OLD; SO_RCVTIMEO_NEW; SO_SNDTIMEO_NEW"
)
GET_OPTIONS = (
    "SO_TYPE; SO_ERROR; SO_PRIORITY; SO_PEERCRED; SO_SNDLOWAT; SO_PEERNAME; SO_ACCEPTCONN; "
    "SO_PROTOCOL; SO_DOMAIN; SO_PEERGROUPS"
)

ROWS = (
    # Memory
    Row(
        "brk mprotect mremap munmap",
        {"mmap": "without MAP_HUGETLB", "madvise": "MADV_POPULATE_READ; MADV_POPULATE_WRITE"},
        "pages, page tables, areas of memory. Huge pages of the host's own pool are charged to no cgroup",
        SANDBOX,
        f"{MEMORY}; 65,530 areas a process",
        ("exhaustion: memory", *PAGES),
    ),
    Row("", {"madvise": ADVICE}, *NOTHING, PAGES),
    Row(
        "",
        {"madvise": "MADV_HUGEPAGE"},
        "transparent huge pages; work for `khugepaged`, a thread of the host's kernel",
        SANDBOX,
        f"{MEMORY}; the thread's own pace (`khugepaged/pages_to_scan`)",
        PAGES,
    ),
    Row(
        "",
        {"madvise": "MADV_WILLNEED", "fadvise64": FILE_ADVICE},
        "pages of the image in the page cache, as reading does",
        "the sandbox that reads first",
        MEMORY,
        DISK,
    ),
    Row("msync", {}, "nothing: no file that lies on a disk can be mapped for writing", "–", "–", CONTROLLED),
    Row("pkey_alloc pkey_free pkey_mprotect", {}, "one of 16 keys of its own memory", "–", "16 a process", BY_CALL),
    # Files
    Row(
        "creat",
        {"open": "without O_DIRECT", "openat": "without O_DIRECT"},
        "an open file; names and inodes of tmpfs; the page cache of the image, which all sandboxes share",
        SANDBOX,
        f"{DESCRIPTORS}; size and inodes of each tmpfs",
        ("flooding: disk", "flooding: inodes", *DISK),
    ),
    Row(
        "dup dup2 dup3 pidfd_open",
        {"fcntl": "F_DUPFD; F_DUPFD_CLOEXEC"},
        "a descriptor, or an open file",
        SANDBOX,
        DESCRIPTORS,
        CONTROLLED,
    ),
    Row(
        "pipe",
        {"pipe2": "without O_NOTIFICATION_PIPE", "fcntl": "F_SETPIPE_SZ; F_GETPIPE_SZ"},
        "a pipe and its pages",
        SANDBOX,
        f"{MEMORY}; pages of pipes for each uid (`fs.pipe-user-pages-soft`), which is the sandbox's own",
        ("exhaustion: memory in pipes and sockets", "surface: a pipe of the kernel's notifications"),
    ),
    Row(
        "copy_file_range fallocate ftruncate link linkat mkdir mkdirat mknod mknodat preadv pread64 pwrite64 "
        "pwritev read readv rename renameat renameat2 rmdir sendfile symlink symlinkat truncate unlink "
        "unlinkat write writev",
        {"preadv2": "without RWF_DONTCACHE", "pwritev2": "without RWF_DONTCACHE"},
        "pages and inodes of tmpfs. Reading the image again after its pages were evicted reads the disk of the host",
        SANDBOX,
        f"{MEMORY}, `limits.disk_bytes`, 16,384 inodes; reads of the image: see SECURITY.md",
        ("exhaustion: memory in files", "flooding: disk in files without a name", *DISK),
    ),
    Row(
        "access chdir chmod chown close close_range faccessat faccessat2 fchdir fchmod fchmodat fchown "
        "fchownat fgetxattr flistxattr fstat fstatfs getcwd getdents getdents64 getxattr lchown lgetxattr "
        "listxattr llistxattr lseek lstat newfstatat readlink readlinkat stat statfs statx umask utime "
        "utimensat utimes",
        {},
        "names in the kernel's cache, also of files that do not exist",
        SANDBOX,
        MEMORY,
        CONTROLLED,
    ),
    Row(
        "",
        {
            "fcntl": "F_GETFD; F_SETFD; F_GETFL; F_SETFL without O_DIRECT and O_ASYNC; F_GETOWN; F_GETSIG; F_GETLEASE; "
            "F_DUPFD_QUERY; F_GET_SEALS",
            "ioctl": f"{TERMINAL_AND_SIZES}; FIONBIO; FIONCLEX; FIOCLEX; {INTERFACES}",
        },
        "nothing; the interfaces are those of its own network, which has none but a loopback",
        "–",
        "–",
        LOCKS,
    ),
    Row(
        "",
        {"fcntl": "F_NOTIFY"},
        "128 bytes for each open directory; one list of the kernel for all",
        "no cgroup",
        DESCRIPTORS,
        BY_CALL,
    ),
    Row(
        "flock",
        {"fcntl": "F_GETLK; F_SETLK; F_SETLKW"},
        "a lock, 192 bytes. On event descriptors and name spaces (`/proc/self/ns`) all of the host lock the same inode",
        "no cgroup",
        "2,000 for each program, none on what the host shares, which the worker holds: see SECURITY.md",
        (
            "surface: two processes and a database: locks of an ordinary program",
            "neighbours: locks on the image's files",
            "surface: a hundred thousand locks",
            "surface: locks that reach other sandboxes, on an event descriptor, without waiting",
            "surface: locks that reach other sandboxes, on a range of a name space",
        ),
    ),
    Row(
        "fsync fdatasync sync syncfs fadvise64",
        {},
        "nothing, and nothing is done (of `fadvise64`: with "
        "POSIX_FADV_DONTNEED); the kernel would flush disks of the host",
        "–",
        "–",
        FLUSHES,
    ),
    # Waiting and time
    Row(
        "epoll_create epoll_create1 timerfd_create",
        {},
        "an open file, with 256 bytes beside it",
        "the open file: the sandbox; 256 bytes: no cgroup",
        f"{DESCRIPTORS}: at most 67 MB",
        CONTROLLED,
    ),
    Row(
        "eventfd eventfd2 signalfd signalfd4",
        {},
        "an open file, with 64 bytes beside it",
        "the open file: the sandbox; 64 bytes: no cgroup",
        f"{DESCRIPTORS}: at most 17 MB",
        CONTROLLED,
    ),
    Row("epoll_ctl", {}, "a watch", SANDBOX, "number for each uid (`fs.epoll.max_user_watches`)", BY_CALL),
    Row(
        "inotify_init inotify_init1",
        {"inotify_add_watch": "without IN_ACCESS, IN_OPEN and IN_CLOSE_NOWRITE"},
        "an open file, watches and events. The files of name spaces (`/proc/self/ns`) are the same for all of the host; "
        "no program can change them, so no event of them can be watched",
        SANDBOX,
        "number for each uid (`fs.inotify.max_user_instances`, `max_user_watches`), 16,384 events each",
        ("neighbours: watches on what all sandboxes read",),
    ),
    Row(
        "epoll_pwait epoll_pwait2 epoll_wait inotify_rm_watch timerfd_gettime timerfd_settime",
        {},
        *NOTHING,
        BY_CALL,
    ),
    Row(
        "poll ppoll pselect6 select",
        {},
        "for as long as the call waits, a place in the queue of each descriptor: at most 72 KB",
        "no cgroup",
        "1,024 descriptors a call, `limits.processes`: at most 18 MB",
        BY_CALL,
    ),
    Row("timer_create", {}, "a timer and its signal", SANDBOX, "signals for each uid (RLIMIT_SIGPENDING)", BY_CALL),
    Row(
        "alarm clock_getres clock_gettime clock_nanosleep getitimer gettimeofday nanosleep setitimer time "
        "timer_delete timer_getoverrun timer_gettime timer_settime times",
        {},
        *NOTHING,
        BY_CALL,
    ),
    # Processes
    Row(
        "fork vfork",
        {"clone": "without a name space"},
        "a process or thread",
        SANDBOX,
        "`limits.processes` (cgroup)",
        ("exhaustion: fork bomb", "exhaustion: threads", "privileges: namespaces by clone"),
    ),
    Row("execve execveat", {}, "a memory map, in place of the old one", SANDBOX, MEMORY, BY_CALL),
    Row(
        "futex",
        {},
        "nothing of its own; a place in a table that all of the host share. On pages of the image, a wake-up counts "
        "waiting threads of all sandboxes",
        "–",
        "one place for each thread that waits; see SECURITY.md",
        ("tests/e2e/sandbox/test_host_figures.py::test_pages_of_the_image_show_other_sandboxes",),
    ),
    Row(
        "arch_prctl exit exit_group getegid geteuid getgid getgroups getpgid getpgrp getpid getppid "
        "getpriority getresgid getresuid getrlimit getrusage getsid gettid getuid capget rseq restart_syscall "
        "sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getparam sched_getscheduler "
        "sched_yield set_robust_list set_tid_address setpgid setsid wait4 waitid getcpu getrandom sysinfo "
        "uname",
        {
            "personality": "the usual one; asking",
            "prlimit64": "asking, of itself; its own but CORE",
            "setrlimit": "its own but CORE",
            "prctl": "PDEATHSIG, DUMPABLE, NAME, TIMERSLACK; CHILD_SUBREAPER, NO_NEW_PRIVS, THP_DISABLE; "
            "KEEPCAPS, CAPBSET, CAP_AMBIENT; GET_SECCOMP",
        },
        *NOTHING,
        BY_CALL,
    ),
    Row(
        "",
        {"setpriority": "a process but the agent", "sched_setaffinity": "a process but the agent"},
        "nothing; the agent keeps its share of the processor",
        "–",
        "the sandbox's share (cgroup)",
        SHARE,
    ),
    Row(
        "capset setfsgid setfsuid setgid setgroups setregid setresgid setresuid setreuid setuid",
        {},
        "nothing: without a capability no identity can be taken",
        "–",
        "–",
        ("privileges: how the kernel treats it",),
    ),
    Row(
        "seccomp",
        {},
        "a filter, compiled into memory of the kernel",
        "no cgroup",
        "for the agent, which installs two; with the second the program can install none",
        ("kernel: a filter of its own that allows everything",),
    ),
    # Signals
    Row(
        "rt_sigqueueinfo rt_tgsigqueueinfo kill tgkill tkill pidfd_send_signal",
        {},
        "a signal that waits",
        SANDBOX,
        "number for each uid (RLIMIT_SIGPENDING)",
        ("neighbours: processes and signals",),
    ),
    Row(
        "pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigreturn rt_sigsuspend rt_sigtimedwait sigaltstack",
        {},
        *NOTHING,
        BY_CALL,
    ),
    # Sockets
    Row(
        "bind listen accept accept4",
        {"socket": "AF_UNIX", "socketpair": "AF_UNIX"},
        "a socket, and an open file",
        SANDBOX,
        DESCRIPTORS,
        ("exhaustion: memory in pipes and sockets",),
    ),
    Row(
        "connect",
        {},
        "a connection that waits: two sockets, and a buffer of 832 bytes",
        "2,304 bytes: the sandbox; the buffer: no cgroup",
        f"{MEMORY}: of it, 36 % beside it; see SECURITY.md",
        ("surface: connections that are never accepted",),
    ),
    Row(
        "sendmmsg sendmsg sendto",
        {},
        "buffers, and descriptors on their way; for as long as `sendmsg` waits, its control message: at most 128 KB",
        "the sandbox; the control message: no cgroup",
        f"{MEMORY}, the socket's buffer; 1,024 descriptors on their way for each uid; control messages: "
        "`net.core.optmem_max` and `limits.processes`, at most 33 MB",
        ("exhaustion: memory in pipes and sockets",),
    ),
    Row(
        "getpeername getsockname recvfrom recvmmsg recvmsg shutdown",
        {"getsockopt": f"{SET_OPTIONS}; {GET_OPTIONS}", "setsockopt": SET_OPTIONS},
        *NOTHING,
        FILTERS,
    ),
    # With a loopback
    Row(
        "",
        {"socket": "TCP and UDP"},
        "a socket of the host's TCP and UDP, and its buffers; rows in tables that all "
        "networks of the host share (ports, connections, `tcp_mem`, orphans)",
        "sockets: the sandbox; buffers: it with cgroup v2, no cgroup with v1",
        "with cgroup v1 64 MB of buffers (`LOOPBACK_BUFFER_BYTES`); 4,096 sockets, beyond which the program is ended; "
        "4,096 closed connections that wait; see SECURITY.md",
        ("tests/unit/worker/sandbox/test_profile.py::test_only_a_loopback_has_tcp_and_udp_sockets",),
    ),
    Row(
        "",
        {"setsockopt": "TCP; IP; IPv6", "getsockopt": "TCP; IP; IPv6; TCP, asking"},
        *NOTHING,
        ("tests/unit/worker/sandbox/test_profile.py::test_only_a_loopback_has_tcp_and_udp_sockets",),
    ),
)

MOUNTS = (
    ("/", "the image: an overlay of this sandbox alone, over files that all sandboxes of the host read", "yes", "no"),
    ("/inputs", "the inputs, from the lease's directory", "no", "no"),
    ("/run/identity", "names of users and groups, from the lease's directory", "no", "no"),
    (
        "/etc/hosts, /etc/hostname, /etc/resolv.conf",
        "the same: the engine's own, in its directory on disk, are mounted "
        "over; without an engine they are the image's",
        "no",
        "no",
    ),
    ("/work, /tmp, /output", "a tmpfs each, with a size and a number of inodes", "no", "yes"),
    ("/dev/shm", "a tmpfs, bounded by memory", "no", "yes"),
    ("/dev", "a tmpfs with six devices; its owner is root", "no", "no"),
    ("/dev/mqueue, /dev/pts", "queues of this sandbox (their number is 0) and terminals (covered)", "no", "no"),
    (
        "/proc, /sys, /sys/fs/cgroup",
        "the kernel's own, of this sandbox's name spaces, in part covered and read-only",
        "no",
        "its own processes' files",
    ),
)
FILES = (
    (
        "`/proc/self/oom_score_adj`",
        "the order in which the kernel ends processes; can only be raised, and is at its highest",
    ),
    ("`/proc/self/loginuid`", "nothing: the agent has set it, and that can be done once"),
    ("`/proc/self/comm`, `coredump_filter`, `timerslack_ns`, `clear_refs`, `sched`, `mem`", "its own process"),
    ("`/proc/self/autogroup`", "the niceness of its own session among others of this sandbox"),
    (
        "`/proc/self/uid_map`, `gid_map`, `setgroups`, `timens_offsets`, `attr/*`",
        "nothing without a name space or a capability",
    ),
)
