"""Programs that use kernel objects charged to no container, or shared by the whole host. Numbers are of x86-64.

The census (``census.py``) has the object that each call makes, the accounting of its memory, and its bound.
"""

from __future__ import annotations

from typing import Any

from tests.hostile.cases import LIMITS, MIB, attack, ended
from tests.hostile.tripwires import DENIED, OWN_KERNEL, REFUSED

THEME = "surface"

attack(
    THEME,
    "filters of sockets, which are compiled into memory of the kernel",
    """
import socket, struct
left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
code = (ctypes.c_uint64 * 1)(0xFFFFFFFF00000006)  # take all bytes
program = struct.pack("HP", 1, ctypes.addressof(code))
OPTIONS = {"attach": 26, "detach": 27, "lock": 44, "attach bpf": 50, "reuseport": 51, "reuseport bpf": 52}
for name, option in OPTIONS.items():
    value = program if option in (26, 51) else struct.pack("i", 0)
    attempt(name, lambda: left.setsockopt(socket.SOL_SOCKET, option, value))
attempt("get filter", lambda: left.getsockopt(socket.SOL_SOCKET, 26, 1000))
attempt("time stamps", lambda: left.setsockopt(socket.SOL_SOCKET, 29, 1))
attempt("forced buffer", lambda: left.setsockopt(socket.SOL_SOCKET, 33, 2**28))
for name in ("SO_REUSEADDR", "SO_SNDBUF", "SO_RCVBUF", "SO_PASSCRED", "SO_KEEPALIVE"):
    attempt(name, lambda: left.setsockopt(socket.SOL_SOCKET, getattr(socket, name), 1))
left.settimeout(1), left.send(b"x"), right.recv(1)
""",
    probes={
        **dict.fromkeys(("attach", "detach", "lock", "attach bpf", "reuseport", "reuseport bpf"), "EPERM"),
        **dict.fromkeys(("get filter", "time stamps", "forced buffer"), "ENOPROTOOPT"),
        **dict.fromkeys(("SO_REUSEADDR", "SO_SNDBUF", "SO_RCVBUF", "SO_PASSCRED", "SO_KEEPALIVE"), "done"),
    },
    **DENIED,
    aims_at="memory",
    hardened={
        "events": "",
        "probes": {
            **dict.fromkeys(
                (
                    "attach",
                    "detach",
                    "lock",
                    "attach bpf",
                    "reuseport",
                    "reuseport bpf",
                    "time stamps",
                    "forced buffer",
                ),
                ("done", "ENOPROTOOPT", *REFUSED),
            ),
            "get filter": ("b''", "ENOPROTOOPT", *REFUSED),
            **dict.fromkeys(("SO_REUSEADDR", "SO_SNDBUF", "SO_RCVBUF", "SO_PASSCRED", "SO_KEEPALIVE"), "done"),
        },
    },
    because=OWN_KERNEL,
)

OTHERS_SHARE = """
before = os.getpriority(os.PRIO_PROCESS, 1)
attempt("priority", lambda: os.setpriority(os.PRIO_PROCESS, 1, 19))
attempt("low word", lambda: call(141, 0, 2**32 + 1, 19))
attempt("of a group", lambda: os.setpriority(os.PRIO_PGRP, 0, 19))
attempt("of a user", lambda: os.setpriority(os.PRIO_USER, os.getuid(), 19))
attempt("processors", lambda: os.sched_setaffinity(1, {0}))
attempt("policy", lambda: os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0)))
attempt("parameters", lambda: call(142, 1, (ctypes.c_int * 1)(0)))
attempt("attributes", lambda: call(314, 1, (ctypes.c_char * 48)(48), 0))
attempt("disk priority", lambda: call(251, 1, 1, 0x6000))
attempt("its own", lambda: os.setpriority(os.PRIO_PROCESS, os.getpid(), 5))
attempt("its own processors", lambda: os.sched_setaffinity(os.getpid(), os.sched_getaffinity(0)))
"""
SHARES = ("priority", "low word", "of a group", "of a user", "processors", "policy", "parameters", "disk priority")

attack(
    THEME,
    "the agent's share of the processor",
    OTHERS_SHARE
    + """
attempt("limits", lambda: call(302, 1, 7, (ctypes.c_uint64 * 2)(0, 0), 0))
probes["unchanged"] = str(os.getpriority(os.PRIO_PROCESS, 1) == before)
""",
    probes={
        **dict.fromkeys((*SHARES, "limits"), "EPERM"),
        "attributes": "ENOSYS",
        "unchanged": "True",
        "its own": "done",
        "its own processors": "done",
    },
    **DENIED,
    hardened={
        "source": OTHERS_SHARE,
        "events": "",
        "probes": {
            **dict.fromkeys((*SHARES, "attributes"), ("done", "0", *REFUSED)),
            "its own": "done",
            "its own processors": "done",
        },
    },
    because="gVisor's priorities and processors count for nothing outside of it",
)

attack(
    THEME,
    "locks of open files, leases and signals to an owner",
    """
import fcntl, struct
file = open("/work/locked", "w+")
wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 1, 0)
for name, command in {"get": 36, "set": 37, "wait": 38}.items():
    attempt(name, lambda: fcntl.fcntl(file, command, wanted) and None)
attempt("lease", lambda: fcntl.fcntl(file, 1024, fcntl.F_WRLCK))
attempt("owner", lambda: fcntl.fcntl(file, fcntl.F_SETOWN, 1))
attempt("signal", lambda: fcntl.fcntl(file, 10, 9))
attempt("asynchronous", lambda: fcntl.fcntl(file, fcntl.F_SETFL, os.O_ASYNC))
attempt("seals", lambda: fcntl.fcntl(file, 1033, 1))
attempt("range", lambda: fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB))
attempt("whole", lambda: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB))
""",
    probes={
        **dict.fromkeys(("get", "set", "wait", "lease"), "EPERM"),
        **dict.fromkeys(("owner", "signal", "asynchronous", "seals"), "EINVAL"),
        **dict.fromkeys(("range", "whole"), "done"),
    },
    **DENIED,
    hardened={
        "events": "",
        "probes": {
            **dict.fromkeys(
                ("get", "set", "wait", "lease", "owner", "signal", "asynchronous", "seals"), ("done", "0", *REFUSED)
            ),
            **dict.fromkeys(("range", "whole"), "done"),
        },
    },
    because=OWN_KERNEL,
)

attack(
    THEME,
    "a pipe of the kernel's notifications",
    """
attempt("with notifications", lambda: os.pipe2(os.O_EXCL) and None)
attempt("ordinary", lambda: os.pipe2(os.O_CLOEXEC) and None)
""",
    probes={"with notifications": "EPERM", "ordinary": "done"},
    hardened={"probes": {"with notifications": REFUSED, "ordinary": "done"}},
    because=OWN_KERNEL,
)

attack(
    THEME,
    "what stands in the way of a lock that would reach other sandboxes",
    """
import fcntl, struct
files = [os.eventfd(0), libc.epoll_create1(0), libc.timerfd_create(1, 0)]
files += [os.open(f"/proc/self/ns/{name}", os.O_RDONLY) for name in ("user", "time")]
wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 7, 1, 0)
seen = {struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_GETLK, wanted))[1:] for file in files}
print("in the way", *seen)
""",
    stdout=("in the way (0, 0, 0, -1)",),
    hardened={
        "source": """
import fcntl, struct
wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 7, 1, 0)
attempt("event descriptor", lambda: fcntl.fcntl(os.eventfd(0), fcntl.F_GETLK, wanted) and None)
""",
        "probes": {"event descriptor": ("done", "ENOLCK", *REFUSED)},
        "stdout": (),
    },
    because="gVisor's kernel has the locks, and one for each sandbox",
)


def without_waiting(lock: str, file: str, kind: str) -> str:
    """Ask for a lock, which is refused, or released at once."""
    return f"[fcntl.{lock}(file := {file}, fcntl.{kind} | fcntl.LOCK_NB), fcntl.{lock}(file, fcntl.LOCK_UN)]"


SHARED_LOCKS = {
    "an event descriptor, without waiting": without_waiting("flock", "os.eventfd(0)", "LOCK_SH"),
    "a range of an event descriptor, without waiting": without_waiting("lockf", "os.eventfd(0)", "LOCK_EX"),
    "a name space, without waiting": without_waiting("flock", "os.open('/proc/self/ns/user', 0)", "LOCK_EX"),
    "a range of a name space, given up at once": without_waiting(
        "lockf", "os.open('/proc/self/ns/user', 0)", "LOCK_SH"
    ),
    "an epoll descriptor": "fcntl.flock(libc.epoll_create1(0), fcntl.LOCK_EX)",
    "a timer descriptor": "fcntl.lockf(libc.timerfd_create(1, 0), fcntl.LOCK_EX)",
    "a range of a name space": "fcntl.lockf(os.open('/proc/self/ns/time', os.O_RDONLY), fcntl.LOCK_SH)",
}
for name, lock in SHARED_LOCKS.items():
    attack(
        THEME,
        f"locks that reach other sandboxes, on {name}",
        f"import contextlib, fcntl\nwith contextlib.suppress(OSError): {lock}\ntime.sleep(10)\nprint('unharmed')",
        **ended("security_violation", "seccomp_violation"),
        absent=("unharmed",),
        seconds=9.0,  # before it would be unharmed
        hardened={
            "source": f"import fcntl\nattempt('lock', lambda: {lock} and None)",
            "state": "succeeded",
            "reason": None,
            "events": "",
            "probes": {"lock": ("done", "ENOLCK", *REFUSED)},
            "stdout": (),
        },
        because="gVisor's kernel has the locks, and one for each sandbox",
    )

LOCKS_IN_THE_SANDBOX: dict[str, Any] = {
    "source": "import fcntl\nattempt('lock', lambda: fcntl.lockf(open('/work/x', 'w'), fcntl.LOCK_EX))",
    "state": "succeeded",
    "reason": None,
    "events": "",
    "probes": {"lock": "done"},
}
IN_SANDBOX_MEMORY = "gVisor's kernel has the locks, in the sandbox's own memory"

attack(
    THEME,
    "a hundred thousand locks",
    """
import fcntl
file = open("/work/locked", "w")
for number in range(10**5): fcntl.lockf(file, fcntl.LOCK_EX, 1, 2 * number)
time.sleep(10)
print("unharmed")
""",
    **ended("security_violation", "seccomp_violation"),
    absent=("unharmed",),
    seconds=10.0,
    hardened=LOCKS_IN_THE_SANDBOX,
    because=IN_SANDBOX_MEMORY,
)

attack(
    THEME,
    "locks of many processes, each of which is set in front of all others",
    """
import fcntl
for process in range(50):
    if not os.fork():
        file, at = open(f"/work/{process}", "w"), 2**40
        while True: fcntl.lockf(file, fcntl.LOCK_EX, 1, at := at - 2)
time.sleep(10)
print("unharmed")
""",
    **ended("security_violation", "seccomp_violation"),
    absent=("unharmed",),
    aims_at="memory",
    seconds=10.0,
    hardened=LOCKS_IN_THE_SANDBOX,
    because=IN_SANDBOX_MEMORY,
)

attack(
    THEME,
    "pages in common with other sandboxes",
    """
import mmap
area = mmap.mmap(-1, 2**16)
address = ctypes.addressof(ctypes.c_char.from_buffer(area))
attempt("merge", lambda: call(28, address, 2**16, 12))
attempt("merge all", lambda: call(157, 67, 1, 0, 0, 0))
for name, advice in {"cold": 20, "page out": 21, "collapse": 25, "poison": 100, "soft offline": 101}.items():
    attempt(name, lambda: call(28, address, 2**16, advice))
attempt("huge pages of the host", lambda: call(9, 0, 2**21, 3, 0x40022, -1, 0) and None)
attempt("a name for memory", lambda: call(157, 0x53564D41, 0, address, 2**16, b"name"))
attempt("not needed", lambda: call(28, address, 2**16, 4))
""",
    probes={
        **dict.fromkeys(("merge", "merge all", "a name for memory"), "EPERM"),
        **dict.fromkeys(("cold", "page out", "collapse", "poison", "soft offline"), "EINVAL"),
        "huge pages of the host": "ENOMEM",
        "not needed": "0",
    },
    **DENIED,
    aims_at="memory",
    hardened={
        "events": "",
        "probes": {
            **dict.fromkeys(
                ("merge", "merge all", "a name for memory", "cold", "page out", "collapse", "poison", "soft offline"),
                ("0", *REFUSED),
            ),
            "huge pages of the host": ("done", "ENOMEM", *REFUSED),
            "not needed": "0",
        },
    },
    because=OWN_KERNEL,
)

attack(
    THEME,
    "the host's disk: flushing it, and reading it past the page cache",
    """
import fcntl
def flush(path, how):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        for _ in range(1000): how(descriptor)
    finally: os.close(descriptor)
PLACES = ("/", "/etc/hostname", "/etc/resolv.conf", "/usr/bin/python3", "/inputs", "/run/identity", "/work")
for how in (os.fsync, os.fdatasync, lambda one: call(306, one)):
    for path in filter(os.path.exists, PLACES): flush(path, how)
attempt("all disks", os.sync)
def blocks_read(): return int(open("/proc/self/io").read().partition("\\nread_bytes: ")[2].split()[0])
library = max((entry.path for entry in os.scandir("/usr/lib/x86_64-linux-gnu") if entry.is_file()), key=os.path.getsize)
file = os.open(library, os.O_RDONLY)
def read():
    before = blocks_read()
    while os.read(file, 2**20): pass
    os.lseek(file, 0, 0)
    return blocks_read() - before
read()
os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
probes["read again"] = str(read())
attempt("direct", lambda: os.open(library, os.O_RDONLY | os.O_DIRECT))
attempt("direct later", lambda: fcntl.fcntl(file, fcntl.F_SETFL, os.O_DIRECT))
attempt("direct by a structure", lambda: call(437, -100, library.encode(), (ctypes.c_uint64 * 3)(os.O_DIRECT), 24))
attempt("uncached", lambda: os.preadv(file, [bytearray(4096)], 0, 0x80))
attempt("where it lies on the disk", lambda: fcntl.ioctl(file, 0xC020660B, bytes(32)))
""",
    probes={
        "all disks": "done",
        "read again": "0",
        **dict.fromkeys(("direct", "direct later"), "EINVAL"),
        "direct by a structure": "ENOSYS",
        "uncached": "ENOTSUP",
        "where it lies on the disk": "ENOTTY",
    },
    hardened={
        "source": """
for path in ("/", "/etc/hostname", "/usr/bin/python3", "/inputs"):
    descriptor = os.open(path, os.O_RDONLY)
    attempt(path, lambda: os.fsync(descriptor))
""",
        "probes": dict.fromkeys(("/", "/etc/hostname", "/usr/bin/python3", "/inputs"), ("done", *REFUSED)),
    },
    because="gVisor's gofer has the files, and does not flush a file opened for reading",
    aims_at="state",
)

attack(
    THEME,
    "mounts from the host's disk",
    """
MEMORY = {"tmpfs", "devtmpfs", "devpts", "mqueue", "proc", "sysfs", "cgroup", "cgroup2"}
on_top = {}  # the last mount at a place covers those before it
for line in open("/proc/self/mountinfo"):
    before, _, after = line.partition(" - ")
    on_top[before.split()[4]] = after.split()[0]
probes["image"] = str(on_top.pop("/") not in MEMORY)
probes["others"] = " ".join(sorted(place for place, kind in on_top.items() if kind not in MEMORY))
probes["inputs"] = str("/inputs" in on_top and "/run/identity" in on_top)
""",
    probes={"image": "True", "others": "", "inputs": "True"},
    hardened={"source": "probes['own'] = str(os.path.ismount('/inputs'))", "probes": {"own": "True"}},
    because="gVisor's gofer has the files, and shows its own types of mounts",
)

attack(
    THEME,
    "who it says it is to the audit log",
    """
def write(path, text):
    with open(path, "w") as file: file.write(text)
probes["set"] = str(open("/proc/self/loginuid").read() == str(os.getuid()))
attempt("another", lambda: write("/proc/self/loginuid", "0"))
attempt("none", lambda: write("/proc/self/loginuid", str(2**32 - 1)))
attempt("its own", lambda: write("/proc/self/loginuid", str(os.getuid())))
sacrifice("in a child", lambda: write("/proc/self/loginuid", "0"))
attempt("the agent's", lambda: write("/proc/1/loginuid", "0"))
""",
    probes={
        "set": "True",
        **dict.fromkeys(("another", "none", "its own", "in a child"), "EPERM"),
        "the agent's": "EACCES",
    },
    hardened={
        "source": "probes['there'] = str(os.path.exists('/proc/self/loginuid'))",
        "probes": {"there": "False"},
    },
    because="gVisor's kernel has no audit log",
)

attack(
    THEME,
    "connections that are never accepted",
    """
import socket
def pile(listeners):
    held = []
    for number in range(listeners):
        server = socket.socket(socket.AF_UNIX)
        server.bind(f"\\0{number}"), server.listen(4096), held.append(server)
        try:
            while True:
                with socket.socket(socket.AF_UNIX) as client: client.setblocking(False), client.connect(f"\\0{number}")
        except BlockingIOError: pass
pile(1000)
""",
    limits={**LIMITS, "memory_bytes": 96 * MIB},
    **ended("oom_killed", "oom_killed"),
    aims_at="memory",
    hardened={
        "state": "succeeded",
        "reason": None,
        "events": "",
        "source": """
import socket
server = socket.socket(socket.AF_UNIX)
server.bind("\\0x"), server.listen(8)
def pile():
    while True:
        with socket.socket(socket.AF_UNIX) as client: client.setblocking(False), client.connect("\\0x")
attempt("one listener", pile)
""",
        "probes": {"one listener": ("EAGAIN", "ECONNREFUSED")},
    },
    because="gVisor's queues are short, and lie in the sandbox's own memory",
)

attack(
    THEME,
    "two processes and a database: locks of an ordinary program",
    """
import sqlite3
connection = sqlite3.connect("/work/database", isolation_level=None)
connection.execute("create table t (x)")
connection.execute("begin immediate")
theirs, ours = os.pipe()
def other(statement):
    child = os.fork()
    if child == 0:
        forget_children()
        second = sqlite3.connect("/work/database", timeout=0, isolation_level=None)
        try: second.execute(statement)
        except sqlite3.OperationalError as error: os.write(ours, str(error).encode())
        else: os.write(ours, b"written")
        os._exit(0)
    os.waitpid(child, 0)
    return os.read(theirs, 100).decode()
probes["while it is locked"] = other("insert into t values (1)")
connection.execute("insert into t values (2)"), connection.execute("commit")
probes["afterwards"] = other("insert into t values (3)")
probes["rows"] = str([row[0] for row in connection.execute("select x from t order by x")])
""",
    probes={"while it is locked": "database is locked", "afterwards": "written", "rows": "[2, 3]"},
)
