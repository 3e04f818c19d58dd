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
DESCRIPTORS = "1,024 descriptors per process, `limits.processes`"
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
        "pages, page tables, memory mappings. Huge pages of the host's pool would be charged to no cgroup",
        SANDBOX,
        f"{MEMORY}; 65,530 mappings per process",
        ("exhaustion: memory", *PAGES),
    ),
    Row("", {"madvise": ADVICE}, *NOTHING, PAGES),
    Row(
        "",
        {"madvise": "MADV_HUGEPAGE"},
        "transparent huge pages; work for `khugepaged`, a kernel thread of the host",
        SANDBOX,
        f"{MEMORY}; the scan rate of `khugepaged` (`khugepaged/pages_to_scan`)",
        PAGES,
    ),
    Row(
        "",
        {"madvise": "MADV_WILLNEED", "fadvise64": FILE_ADVICE},
        "pages of the image in the page cache, as a read does",
        "the first sandbox that reads the page",
        MEMORY,
        DISK,
    ),
    Row("msync", {}, "nothing: no file on a disk can be mapped writable", "–", "–", CONTROLLED),
    Row(
        "pkey_alloc pkey_free pkey_mprotect",
        {},
        "a protection key of the process's own memory",
        "–",
        "16 per process",
        BY_CALL,
    ),
    # Files
    Row(
        "creat",
        {"open": "without O_DIRECT", "openat": "without O_DIRECT"},
        "an open file; names and inodes of tmpfs; the page cache of the image, which all sandboxes share",
        SANDBOX,
        f"{DESCRIPTORS}; bytes and inodes of each tmpfs",
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
        f"{MEMORY}; pipe pages per uid (`fs.pipe-user-pages-soft`), and each sandbox has its own uid",
        ("exhaustion: memory in pipes and sockets", "surface: a pipe of the kernel's notifications"),
    ),
    Row(
        "copy_file_range fallocate ftruncate link linkat mkdir mkdirat mknod mknodat preadv pread64 pwrite64 "
        "pwritev read readv rename renameat renameat2 rmdir sendfile symlink symlinkat truncate unlink "
        "unlinkat write writev",
        {"preadv2": "without RWF_DONTCACHE", "pwritev2": "without RWF_DONTCACHE"},
        "pages and inodes of tmpfs. A read of the image whose pages were evicted reads the host's disk",
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
        "entries in the kernel's cache of file names (dentries), also for absent files",
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
        "nothing; the only interface is the loopback of the sandbox's own network namespace",
        "–",
        "–",
        LOCKS,
    ),
    Row(
        "",
        {"fcntl": "F_NOTIFY"},
        "128 bytes for each open directory, in a list that the whole host shares",
        "no cgroup",
        DESCRIPTORS,
        BY_CALL,
    ),
    Row(
        "flock",
        {"fcntl": "F_GETLK; F_SETLK; F_SETLKW"},
        "a lock, 192 bytes. Event descriptors share one inode on the whole host; so do namespaces in `/proc/self/ns`",
        "no cgroup",
        "2,000 per program; none on shared inodes, since the worker locks these itself: see SECURITY.md",
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
        "nothing: the call returns success without effect (`fadvise64`: with POSIX_FADV_DONTNEED). The kernel would "
        "flush disks of the host",
        "–",
        "–",
        FLUSHES,
    ),
    # Waiting and time
    Row(
        "epoll_create epoll_create1 timerfd_create",
        {},
        "an open file, and 256 bytes more",
        "the open file: the sandbox; 256 bytes: no cgroup",
        f"{DESCRIPTORS}: at most 67 MB",
        CONTROLLED,
    ),
    Row(
        "eventfd eventfd2 signalfd signalfd4",
        {},
        "an open file, and 64 bytes more",
        "the open file: the sandbox; 64 bytes: no cgroup",
        f"{DESCRIPTORS}: at most 17 MB",
        CONTROLLED,
    ),
    Row(
        "epoll_ctl",
        {},
        "a watch. For a watch of an epoll descriptor the kernel searches all connected descriptors under a lock of the "
        "whole host",
        SANDBOX,
        f"watches per uid (`fs.epoll.max_user_watches`), {MEMORY}; time of the lock: see SECURITY.md",
        BY_CALL,
    ),
    Row(
        "inotify_init inotify_init1",
        {"inotify_add_watch": "without IN_ACCESS, IN_OPEN and IN_CLOSE_NOWRITE"},
        "an open file, watches and events. The files of namespaces (`/proc/self/ns`) are the same for the whole host; "
        "no program can change these files, so a watch of them receives no event",
        SANDBOX,
        "instances and watches per uid (`fs.inotify.max_user_instances`, `max_user_watches`); 16,384 events each",
        ("neighbours: watches on what all sandboxes read",),
    ),
    Row(
        "epoll_pwait epoll_pwait2 epoll_wait inotify_rm_watch timerfd_gettime",
        {},
        *NOTHING,
        BY_CALL,
    ),
    Row(
        "timerfd_settime",
        {},
        "with TFD_TIMER_CANCEL_ON_SET, an entry in a list that the kernel walks when the host's clock is set",
        SANDBOX,
        DESCRIPTORS,
        BY_CALL,
    ),
    Row(
        "poll ppoll pselect6 select",
        {},
        "until the call returns, an entry in the wait queue of each descriptor: at most 72 KB",
        "no cgroup",
        "1,024 descriptors per call, `limits.processes`: at most 18 MB",
        BY_CALL,
    ),
    Row("timer_create", {}, "a timer and its signal", SANDBOX, "pending signals per uid (RLIMIT_SIGPENDING)", BY_CALL),
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
        {"clone": "without new namespaces"},
        "a process or thread",
        SANDBOX,
        "`limits.processes` (cgroup)",
        ("exhaustion: fork bomb", "exhaustion: threads", "privileges: namespaces by clone"),
    ),
    Row(
        "execve execveat",
        {},
        "a new address space, in place of the old. Before Linux 6.14, for a file of unknown format, a process of the "
        "host that loads a module",
        "the address space: the sandbox; the process: no cgroup",
        f"{MEMORY}; one such process for each of `limits.processes`, 50 in all: see SECURITY.md",
        (
            *BY_CALL,
            "tests/unit/orchestrator/host/posture/test_posture.py::test_resource_shared_by_the_host_has_its_finding",
        ),
    ),
    Row(
        "futex",
        {},
        "no object; an entry in a hash table that the whole host shares. On a page of the image, a wake-up counts the "
        "waiting threads of all sandboxes",
        "–",
        "one entry for each waiting thread: see SECURITY.md",
        ("tests/e2e/sandbox/test_host_figures.py::test_pages_of_the_image_show_other_sandboxes",),
    ),
    Row(
        "arch_prctl exit exit_group getegid geteuid getgid getgroups getpgid getpgrp getpid getppid "
        "getresgid getresuid getrlimit getrusage getsid gettid getuid capget rseq restart_syscall "
        "sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getparam sched_getscheduler "
        "sched_yield set_robust_list set_tid_address setpgid setsid wait4 waitid getcpu getrandom sysinfo "
        "uname",
        {
            "personality": "Linux (0); query",
            "prlimit64": "query of the caller's limits; the caller's limits except CORE",
            "setrlimit": "the caller's limits except CORE",
            "prctl": "PDEATHSIG, DUMPABLE, NAME, TIMERSLACK; CHILD_SUBREAPER, NO_NEW_PRIVS, THP_DISABLE; "
            "KEEPCAPS, CAPBSET, CAP_AMBIENT; GET_SECCOMP",
        },
        *NOTHING,
        BY_CALL,
    ),
    Row(
        "",
        {"getpriority": "of a process or group"},
        "nothing; for a user, the time of the answer would show whether the host has processes of that user",
        "–",
        "–",
        ("neighbours: the other's uid",),
    ),
    Row(
        "",
        {"setpriority": "a process other than the agent", "sched_setaffinity": "a process other than the agent"},
        "nothing; the agent keeps its share of CPU time",
        "–",
        "the sandbox's CPU share (cgroup)",
        SHARE,
    ),
    Row(
        "capset setfsgid setfsuid setgid setgroups setregid setresgid setresuid setreuid setuid",
        {},
        "nothing: changing to another uid or gid needs a capability",
        "–",
        "–",
        ("privileges: how the kernel treats it",),
    ),
    Row(
        "seccomp",
        {},
        "a filter, compiled into kernel memory",
        "no cgroup",
        "two, both installed by the agent; the second keeps the program from installing more",
        ("kernel: a filter of its own that allows everything",),
    ),
    # Signals
    Row(
        "rt_sigqueueinfo rt_tgsigqueueinfo kill tgkill tkill pidfd_send_signal",
        {},
        "a pending signal",
        SANDBOX,
        "pending signals per uid (RLIMIT_SIGPENDING)",
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
        "a connection before `accept`: two sockets, and a buffer of 832 bytes",
        "2,304 bytes: the sandbox; the buffer: no cgroup",
        f"{MEMORY}; the uncounted buffers reach 36 % of it: see SECURITY.md",
        ("surface: connections that are never accepted",),
    ),
    Row(
        "sendmmsg sendmsg sendto",
        {},
        "buffers, and descriptors in flight; until `sendmsg` returns, its control message: at most 128 KB",
        "the sandbox; the control message: no cgroup",
        f"{MEMORY}, the socket's buffer; 1,024 descriptors in flight per uid; control messages: `net.core.optmem_max` "
        "and `limits.processes`, at most 33 MB; the kernel's search for cycles of descriptors: see SECURITY.md",
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
        "a TCP or UDP socket of the host's kernel, and its buffers; entries in tables that all network namespaces of "
        "the host share (ports, connections, `tcp_mem`, orphans)",
        "sockets: the sandbox; buffers: the sandbox with cgroup v2, no cgroup with v1",
        "with cgroup v1 64 MB of buffers (`LOOPBACK_BUFFER_BYTES`); 4,096 sockets, beyond which the worker ends the "
        "program; 4,096 closed connections in TIME_WAIT: see SECURITY.md",
        ("tests/unit/worker/sandbox/test_profile.py::test_only_a_loopback_has_tcp_and_udp_sockets",),
    ),
    Row(
        "",
        {"setsockopt": "TCP; IP; IPv6", "getsockopt": "TCP; IP; IPv6; TCP query"},
        *NOTHING,
        ("tests/unit/worker/sandbox/test_profile.py::test_only_a_loopback_has_tcp_and_udp_sockets",),
    ),
)

MOUNTS = (
    ("/", "the image: this sandbox's own overlay, over files that all sandboxes of the host read", "yes", "no"),
    ("/inputs", "the inputs, from the lease's directory", "no", "no"),
    ("/run/identity", "names of users and groups, from the lease's directory", "no", "no"),
    (
        "/etc/hosts, /etc/hostname, /etc/resolv.conf",
        "these files of the lease's directory, over those of the engine on disk; without an engine, the image's files",
        "no",
        "no",
    ),
    ("/work, /tmp, /output", "one tmpfs each, with a bound on bytes and inodes", "no", "yes"),
    ("/dev/shm", "a tmpfs, bounded by `limits.memory_bytes`", "no", "yes"),
    ("/dev", "a tmpfs with six devices, owned by root", "no", "no"),
    ("/dev/mqueue, /dev/pts", "message queues of this sandbox (at most 0), and terminals (masked)", "no", "no"),
    (
        "/proc, /sys, /sys/fs/cgroup",
        "the kernel's files for this sandbox's namespaces, some of them masked or read-only",
        "no",
        "files of its own processes",
    ),
)
FILES = (
    (
        "`/proc/self/oom_score_adj`, `oom_adj`",
        "the order of processes for the out-of-memory killer; the value can only be raised, and is at its maximum",
    ),
    ("`/proc/self/loginuid`", "none: the value can be set once, and the agent has set it"),
    ("`/proc/self/comm`, `coredump_filter`, `timerslack_ns`, `clear_refs`, `sched`, `mem`", "on the process itself"),
    ("`/proc/self/autogroup`", "the priority of its session among the sessions of this sandbox"),
    (
        "`/proc/self/uid_map`, `gid_map`, `projid_map`, `setgroups`, `timens_offsets`, `attr/*`",
        "none without a new namespace or a capability",
    ),
)
