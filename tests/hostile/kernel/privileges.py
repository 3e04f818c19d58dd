"""Programs that reach for namespaces, mounts, other processes and the machine itself."""

from __future__ import annotations

from tests.hostile.cases import attack
from tests.hostile.tripwires import DENIED, OWN_KERNEL, REFUSED, trip

THEME = "privileges"

trip(
    THEME,
    "namespaces",
    """
sacrifice("unshare user", lambda: call(272, 0x10000000))
sacrifice("unshare all", lambda: call(272, 0x7E020000))
sacrifice("setns", lambda: call(308, os.open("/proc/self/ns/net", os.O_RDONLY), 0))
sacrifice("setns by pidfd", lambda: call(308, os.pidfd_open(os.getpid()), 0x40000000))
""",
    *("unshare user", "unshare all", "setns", "setns by pidfd"),
    hardened={
        "events": "",
        "probes": {
            "unshare user": ("0", *REFUSED),
            "unshare all": ("0", *REFUSED),
            "setns": REFUSED,
            "setns by pidfd": REFUSED,
        },
    },
    because="gVisor has user namespaces of its own, inside its kernel, and gives them to anyone",
)

attack(
    THEME,
    "namespaces by clone",
    """
FLAGS = {"user": 0x10000000, "mount": 0x20000, "net": 0x40000000, "pid": 0x20000000, "ipc": 0x8000000, "uts": 0x4000000,
         "cgroup": 0x2000000}
def cloned(flags):
    made = call(56, flags | signal.SIGCHLD, 0, 0, 0, 0)
    if made == 0: os._exit(0)
    os.waitpid(made, 0)
    return "cloned"
for name, flag in FLAGS.items():
    sacrifice(name, lambda: cloned(flag))
sacrifice("with time", lambda: call(435, (ctypes.c_uint64 * 8)(0x80), 64))
sacrifice("clone3", lambda: call(435, (ctypes.c_uint64 * 8)(0x10000000), 64))
""",
    probes={
        **dict.fromkeys(("user", "mount", "net", "pid", "ipc", "uts", "cgroup"), "EPERM"),
        "with time": "ENOSYS",
        "clone3": "ENOSYS",
    },
    **DENIED,
    hardened={
        "events": "",
        "probes": {
            **dict.fromkeys(("user", "mount", "net", "pid", "ipc", "uts", "cgroup"), ("cloned", *REFUSED)),
            "with time": REFUSED,
            "clone3": REFUSED,
        },
    },
    because="gVisor has namespaces of its own, inside its kernel, and gives some of them to anyone",
)

trip(
    THEME,
    "mounts by the old calls",
    """
sacrifice("mount", lambda: call(165, b"none", b"/tmp", b"tmpfs", 0, 0))
sacrifice("bind", lambda: call(165, b"/proc", b"/tmp", b"", 4096, 0))
sacrifice("remount root", lambda: call(165, b"none", b"/", b"", 32, 0))
sacrifice("umount", lambda: call(166, b"/proc/kcore", 2))
sacrifice("pivot_root", lambda: call(155, b"/tmp", b"/tmp"))
sacrifice("chroot", lambda: call(161, b"/tmp"))
""",
    *("mount", "bind", "remount root", "umount", "pivot_root", "chroot"),
    aims_at="mounts",
)

trip(
    THEME,
    "mounts by the new calls",
    """
sacrifice("fsopen", lambda: call(430, b"tmpfs", 0))
sacrifice("fsconfig", lambda: call(431, 0, 0, 0, 0, 0))
sacrifice("fsmount", lambda: call(432, 0, 0, 0))
sacrifice("fspick", lambda: call(433, -100, b"/", 0))
sacrifice("open_tree", lambda: call(428, -100, b"/", 1))
sacrifice("move_mount", lambda: call(429, -100, b"/tmp", -100, b"/work", 0))
sacrifice("mount_setattr", lambda: call(442, -100, b"/", 0, (ctypes.c_uint64 * 4)(), 32))
""",
    *("fsopen", "fsconfig", "fsmount", "fspick", "open_tree", "move_mount", "mount_setattr"),
    aims_at="mounts",
)

trip(
    THEME,
    "other processes' memory",
    """
sacrifice("attach", lambda: call(101, 16, 1, 0, 0))
sacrifice("seize", lambda: call(101, 0x4206, 1, 0, 0))
sacrifice("peek", lambda: call(101, 1, 1, 0, 0))
sacrifice("process_vm_readv", lambda: call(310, 1, 0, 0, 0, 0, 0))
sacrifice("process_vm_writev", lambda: call(311, 1, 0, 0, 0, 0, 0))
sacrifice("process_madvise", lambda: call(440, os.pidfd_open(1), 0, 0, 4, 0))
sacrifice("kcmp", lambda: call(312, 1, 1, 0, 0, 0))
""",
    *("attach", "seize", "peek", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp"),
    hardened={
        "events": "",
        "probes": {
            **dict.fromkeys(("attach", "seize", "peek", "process_madvise", "kcmp"), REFUSED),
            **dict.fromkeys(("process_vm_readv", "process_vm_writev"), ("0", *REFUSED)),
        },
    },
    because=OWN_KERNEL + "; reading nothing of a process is nothing it refuses",
)

trip(
    THEME,
    "a debugger of its own child",
    """
sacrifice("traceme", lambda: call(101, 0, 0, 0, 0))
""",
    "traceme",
    hardened={"events": "", "probes": {"traceme": ("0", *REFUSED)}},
    because="gVisor emulates ptrace between processes of one sandbox",
)

trip(
    THEME,
    "the machine itself",
    """
sacrifice("reboot", lambda: call(169, 0xFEE1DEAD - 2**32, 672274793, 0, 0))
sacrifice("kexec_load", lambda: call(246, 0, 0, 0, 0))
sacrifice("init_module", lambda: call(175, b"x", 1, b""))
sacrifice("finit_module", lambda: call(313, 0, b"", 0))
sacrifice("delete_module", lambda: call(176, b"ext4", 0))
sacrifice("swapon", lambda: call(167, b"/tmp/swap", 0))
sacrifice("swapoff", lambda: call(168, b"/tmp/swap"))
sacrifice("acct", lambda: call(163, b"/tmp/acct"))
sacrifice("clock_settime", lambda: call(227, 0, (ctypes.c_long * 2)(0, 0)))
sacrifice("settimeofday", lambda: call(164, (ctypes.c_long * 2)(0, 0), 0))
sacrifice("adjtimex", lambda: call(159, (ctypes.c_char * 256)(1)))
sacrifice("iopl", lambda: call(172, 3))
sacrifice("ioperm", lambda: call(173, 0, 8, 1))
sacrifice("quotactl", lambda: call(179, 0, 0, 0, 0))
""",
    *("reboot", "kexec_load", "init_module", "finit_module", "delete_module", "swapon", "swapoff", "acct"),
    *("clock_settime", "settimeofday", "adjtimex", "iopl", "ioperm", "quotactl"),
    aims_at="clock",
)

trip(
    THEME,
    "files by handle",
    """
handle = (ctypes.c_char * 136)()
handle[0:4] = (128).to_bytes(4, "little")
sacrifice("name", lambda: call(303, -100, b"/etc/hostname", handle, ctypes.byref(ctypes.c_int()), 0))
root = (ctypes.c_char * 136)()
root[0:16] = (8).to_bytes(4, "little") + (1).to_bytes(4, "little") + (2).to_bytes(8, "little")
sacrifice("open", lambda: call(304, os.open("/etc/hostname", os.O_RDONLY), root, 0))
""",
    *("name", "open"),
    aims_at="accounts",
)

attack(
    THEME,
    "how the kernel treats it",
    """
sacrifice("no randomisation", lambda: call(135, 0x0040000))
sacrifice("all memory executable", lambda: call(135, 0x0400000))
sacrifice("ambient capability", lambda: call(157, 47, 2, 21, 0, 0))
sacrifice("securebits", lambda: call(157, 28, 1, 0, 0, 0))
sacrifice("memory map", lambda: call(157, 35, 1, 0, 0, 0))
header, everything = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(*[0xFFFFFFFF] * 6)
sacrifice("capset", lambda: call(126, header, everything))
sacrifice("setuid", lambda: os.setuid(0))
sacrifice("setgid", lambda: os.setgid(0))
sacrifice("setgroups", lambda: os.setgroups([0]))
sacrifice("nice", lambda: os.nice(-5) or "same")
sacrifice("real time", lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)))
sacrifice("hostname", lambda: call(170, b"evil", 4))
sacrifice("domain", lambda: call(171, b"evil", 4))
sacrifice("kernel log", lambda: call(103, 3, (ctypes.c_char * 64)(), 64))
sacrifice("fanotify", lambda: call(300, 0, 0))
""",
    probes=dict.fromkeys(
        (
            *("no randomisation", "all memory executable", "ambient capability", "securebits", "memory map", "capset"),
            *("setuid", "setgid", "setgroups", "nice", "real time", "hostname", "domain", "kernel log", "fanotify"),
        ),
        ("EPERM", "EACCES", "PermissionError"),
    ),
    **DENIED,
    aims_at="sysctls",
    hardened={
        "events": "",
        "probes": {
            **dict.fromkeys(
                ("no randomisation", "all memory executable", "ambient capability", "securebits"), "EINVAL"
            ),
            **dict.fromkeys(("memory map", "capset", "setuid", "setgid", "setgroups", "hostname", "domain"), "EPERM"),
            "real time": "EINVAL",
            "fanotify": "ENOSYS",
            "nice": "-5",
            "kernel log": "64",
        },
    },
    because="gVisor's niceness counts for nothing outside of it, and its kernel log is made up",
)

attack(
    THEME,
    "terminals and consoles",
    """
import fcntl
for path in ("/dev/tty", "/dev/console", "/dev/tty0", "/dev/ttyS0"):
    attempt(path, lambda: fcntl.ioctl(os.open(path, os.O_RDWR), 0x5412, b"x"))
attempt("stdin", lambda: fcntl.ioctl(0, 0x5412, b"x"))
""",
    probes={
        "/dev/tty": ("ENXIO", "ENOENT"),
        "/dev/console": "ENOENT",
        "/dev/tty0": "ENOENT",
        "/dev/ttyS0": "ENOENT",
        "stdin": "EPERM",
    },
    **DENIED,
    aims_at="terminals",
    hardened={
        "events": "",
        "probes": {
            **dict.fromkeys(("/dev/console", "/dev/tty0", "/dev/ttyS0"), "ENOENT"),
            "/dev/tty": "EIO",
            "stdin": "ENOTTY",
        },
    },
    because="gVisor's /dev/tty answers otherwise where there is no terminal",
)
