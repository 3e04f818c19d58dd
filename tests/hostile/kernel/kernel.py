"""Programs that ask the kernel for interfaces no sandboxed program needs. Numbers are those of x86-64."""

from __future__ import annotations

from tests.hostile.cases import LIMITS, attack, ended
from tests.hostile.tripwires import DENIED, DESCRIPTOR, KILLED, OWN_KERNEL, REFUSED, trip

THEME = "kernel"

attack(
    THEME,
    "a tripwire in the program itself",
    "print('before', flush=True)\ncall(272, 0)\nprint('after')",
    **ended("security_violation", "seccomp_violation", signal="SIGSYS", exit_code=159),
    stdout=("before",),
    absent=("after",),
    hardened={"state": "succeeded", "reason": None, "signal": None, "exit_code": 0, "events": "", "absent": ()},
    because=OWN_KERNEL,
)

attack(
    THEME,
    "a tripwire in a thread",
    "import threading\nthreading.Thread(target=call, args=(272, 0)).start()\ntime.sleep(1)\nprint('after')",
    **ended("security_violation", "seccomp_violation", signal="SIGSYS", exit_code=159),
    absent=("after",),
    hardened={"state": "succeeded", "reason": None, "signal": None, "exit_code": 0, "events": "", "absent": ()},
    because=OWN_KERNEL,
)

attack(
    THEME,
    "a tripwire in a grandchild, while the program says all is well",
    """
if os.fork() == 0:
    if os.fork() == 0: outcome(lambda: call(272, 0)), os._exit(0)
    os.wait()
    os._exit(0)
os.wait()
print("all is well")
""",
    stdout=("all is well",),
    **KILLED,
    hardened={"events": ""},
    because=OWN_KERNEL,
)

attack(
    THEME,
    "a hundred tripwires",
    """
for _ in range(100):
    if os.fork() == 0: outcome(lambda: call(272, 0)), os._exit(0)
    os.wait()
print("done")
""",
    stdout=("done",),
    limits=LIMITS,
    **KILLED,
    aims_at="log",
    hardened={"events": ""},
    because=OWN_KERNEL,
)

trip(
    THEME,
    "keyrings",
    """
sacrifice("add_key", lambda: call(248, b"user", b"mayfly", b"payload", 7, -3))
sacrifice("request_key", lambda: call(249, b"user", b"mayfly", 0, -3))
sacrifice("session", lambda: call(250, 1, 0, 0, 0))
sacrifice("user session", lambda: call(250, 0, -5, 1, 0))
""",
    *("add_key", "request_key", "session", "user session"),
    aims_at="keys",
)

trip(
    THEME,
    "io_uring",
    """
sacrifice("enter", lambda: call(426, 3, 1, 0, 0, 0, 0))
sacrifice("register", lambda: call(427, 3, 0, 0, 0))
""",
    *("enter", "register"),
    hardened={"events": "", "probes": {"enter": REFUSED, "register": REFUSED}},
    because="gVisor has a small io_uring of its own; none of its requests reaches the host's",
)

attack(
    THEME,
    "a ring of io_uring",  # not a tripwire: every Node.js asks for one, and continues without
    """
sacrifice("setup", lambda: call(425, 8, (ctypes.c_char * 120)()))
""",
    probes={"setup": "ENOSYS"},
    hardened={"probes": {"setup": (*DESCRIPTOR, *REFUSED)}},
    because="gVisor has a small io_uring of its own; none of its requests reaches the host's",
)

trip(
    THEME,
    "bpf, perf and page faults",
    """
sacrifice("bpf", lambda: call(321, 0, (ctypes.c_char * 120)(), 120))
sacrifice("perf", lambda: call(298, (ctypes.c_char * 120)(), 0, -1, -1, 0))
sacrifice("userfaultfd", lambda: call(323, 1))
""",
    *("bpf", "perf", "userfaultfd"),
)

trip(
    THEME,
    "segments of the processor",
    """
sacrifice("modify_ldt", lambda: call(154, 1, (ctypes.c_int * 4)(0, 0, 0xFFFFF, 0x51), 16))
""",
    "modify_ldt",
)

attack(
    THEME,
    "files without a name",
    """
sacrifice("memfd_create", lambda: call(319, b"x", 0))
sacrifice("memfd_secret", lambda: call(447, 0))
sacrifice("run one", lambda: os.execve(os.memfd_create("x"), ["x"], {}))
""",
    probes={"memfd_create": "EPERM", "memfd_secret": "EPERM", "run one": "EPERM"},
    **DENIED,
    hardened={
        "events": "",
        "probes": {"memfd_create": DESCRIPTOR, "memfd_secret": REFUSED, "run one": ("ENOEXEC", *REFUSED)},
    },
    because="a file without a name lies in gVisor's own memory, which the sandbox's limit bounds",
)

attack(
    THEME,
    "moving pages between pipes",
    """
left, right = os.pipe()
sacrifice("splice", lambda: call(275, os.open("/etc/hostname", os.O_RDONLY), 0, right, 0, 1, 0))
sacrifice("tee", lambda: call(276, left, right, 1, 0))
sacrifice("vmsplice", lambda: call(278, right, 0, 0, 0))
""",
    probes={"splice": "EPERM", "tee": "EPERM", "vmsplice": "EPERM"},
    **DENIED,
    hardened={
        "events": "",
        "probes": {"splice": ("1", *REFUSED), "tee": ("EAGAIN", "0", *REFUSED), "vmsplice": ("0", *REFUSED)},
    },
    because="gVisor copies the bytes itself; no page of the host's moves",
)

attack(
    THEME,
    "System V and POSIX queues",
    """
sacrifice("shmget", lambda: call(29, 77, 4096, 0o1666))
sacrifice("msgget", lambda: call(68, 77, 0o1666))
sacrifice("semget", lambda: call(64, 77, 1, 0o1666))
sacrifice("mq_open", lambda: call(240, b"mayfly", 0o102, 0o600, 0))
attempt("queue as a file", lambda: open("/dev/mqueue/mayfly", "w"))
""",
    probes={
        "shmget": "EPERM",
        "msgget": "EPERM",
        "semget": "EPERM",
        "mq_open": "EPERM",
        "queue as a file": ("EACCES", "EMFILE", "ENOSPC", "ENOENT"),
    },
    **DENIED,
    aims_at="sysv",
    hardened={
        "events": "",
        "probes": {
            **dict.fromkeys(("shmget", "msgget", "semget", "mq_open"), ("0", "1", *DESCRIPTOR, *REFUSED)),
            "queue as a file": ("EACCES", "ENOENT", "EROFS", "EPERM"),
        },
    },
    because="gVisor has queues and segments of its own, which are reachable only in this sandbox",
)

attack(
    THEME,
    "a filter of its own that allows everything",
    """
class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]
allow = (ctypes.c_uint64 * 1)(0x7FFF000000000006)
program = Filter(1, ctypes.cast(allow, ctypes.c_void_p))
def loosened():
    try: call(317, 1, 0, ctypes.byref(program))
    except OSError: pass
    call(272, 0)
sacrifice("unshare after it", loosened)
""",
    probes={"unshare after it": "SIGSYS"},
    **KILLED,
    hardened={"events": "", "probes": {"unshare after it": ("done", *REFUSED)}},
    because=OWN_KERNEL,
)

attack(
    THEME,
    "a child that never leaves the kernel",
    """
#include <unistd.h>
#include <stdio.h>
int main(void) {
    puts("stuck");
    fflush(stdout);
    if (vfork() == 0) for (;;) pause();  /* the parent is in D until the child ends */
    return 0;
}
""",
    environment="c",
    limits={"wall_seconds": 2},
    **ended("timed_out", "timeout"),
    stdout=("stuck",),
)
