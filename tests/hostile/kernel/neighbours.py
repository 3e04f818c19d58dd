"""Two concurrent executions: one opens its end of a channel, the other searches for it.

``in_one`` shows that each channel exists where both ends are in one program.
"""

from __future__ import annotations

from tests.hostile.cases import attack
from tests.hostile.tripwires import REFUSED

THEME = "neighbours"
HOLD = "\nprint('holding', flush=True)\nsignal.pause()\n"
CHANNEL = {"aims_at": "bystander"}
LOCKED = ("/usr/bin/python3", "/etc/hostname", "/usr/lib/mayfly/environment.json", "/inputs/shared", "/dev/null")

attack(
    THEME,
    "shared memory and temporary files",
    """
for place in ("/dev/shm", "/tmp", "/work", "/output", "/dev/mqueue"):
    probes[place] = ",".join(name for name in os.listdir(place) if "mayfly" in name)
""",
    neighbour="""
for place in ("/dev/shm", "/tmp", "/work", "/output"): open(place + "/mayfly", "w").write("here")
"""
    + HOLD,
    probes=dict.fromkeys(("/dev/shm", "/tmp", "/work", "/output", "/dev/mqueue"), ""),
    in_one={**dict.fromkeys(("/dev/shm", "/tmp", "/work", "/output"), "mayfly"), "/dev/mqueue": ""},
    hardened={
        "probes": dict.fromkeys(("/dev/shm", "/tmp", "/work", "/output", "/dev/mqueue"), ""),
        "source": """
for place in ("/dev/shm", "/tmp", "/work", "/output", "/dev/mqueue"):
    try: probes[place] = ",".join(name for name in os.listdir(place) if "mayfly" in name)
    except OSError: probes[place] = ""
""",
    },
    because="gVisor has no /dev/mqueue",
    **CHANNEL,
)
attack(
    THEME,
    "abstract sockets",
    """
import socket
def connect():
    with socket.socket(socket.AF_UNIX) as client: client.connect("\\0mayfly")
attempt("connect", connect)
probes["listed"] = str("@mayfly" in open("/proc/net/unix").read())
""",
    neighbour="""
import socket
server = socket.socket(socket.AF_UNIX)
server.bind("\\0mayfly"), server.listen()
"""
    + HOLD,
    probes={"connect": "ECONNREFUSED", "listed": "False"},
    in_one={"connect": "done", "listed": ("True", "False")},
    **CHANNEL,
)
attack(
    THEME,
    "locks on the image's files",
    """
import fcntl
def take(path, kind):
    file = open(path, "rb")
    lock = fcntl.flock if kind == "flock" else fcntl.lockf
    lock(file, fcntl.LOCK_NB | (fcntl.LOCK_EX if kind == "flock" else fcntl.LOCK_SH))
for path in ("/usr/bin/python3", "/etc/hostname", "/usr/lib/mayfly/environment.json", "/inputs/shared", "/dev/null"):
    attempt(path, lambda: take(path, "flock"))
    attempt("range of " + path, lambda: take(path, "range"))
""",
    neighbour="""
import fcntl
held = []
for path in ("/usr/bin/python3", "/etc/hostname", "/usr/lib/mayfly/environment.json", "/inputs/shared", "/dev/null"):
    try: held.append(open(path, "rb")), fcntl.flock(held[-1], fcntl.LOCK_EX)
    except OSError: pass
"""
    + HOLD,
    files={"shared": "the same"},
    probes={
        "/usr/bin/python3": "done",
        "/etc/hostname": "done",
        "/usr/lib/mayfly/environment.json": ("done", "EACCES", "ENOENT"),
        "/inputs/shared": "done",
        "/dev/null": ("done", "ENOLCK"),
        **{f"range of {path}": ("done", "EACCES", "ENOENT", "ENOLCK") for path in LOCKED},
    },
    **CHANNEL,
)
attack(
    THEME,
    "the kernel's list of locks, with the ranges of all of them",
    """
listed = open("/proc/locks").read() if os.path.exists("/proc/locks") else ""
probes["seen"] = str("4815162342" in listed)
probes["lines"] = str(len(listed.splitlines()))
""",
    neighbour="""
import fcntl, struct
file = open("/work/locked", "w")
wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 4815162342, 1, 0)
outcome(lambda: fcntl.fcntl(file, 37, wanted))  # F_OFD_SETLK, which gVisor does not have
"""
    + HOLD,
    probes={"seen": "False", "lines": "0"},
    **CHANNEL,
)
attack(
    THEME,
    "watches on what all sandboxes read",
    """
import select
watch = libc.inotify_init1(os.O_NONBLOCK)
PATHS = (b"/usr/bin/python3", b"/usr/bin", b"/etc/hostname", b"/etc", b"/inputs/shared", b"/dev/null",
         b"/proc/self/ns/user", b"/proc/self/ns/time")
READING, ALL = 0x31, 0xFFF
def add(path, mask):
    if libc.inotify_add_watch(watch, path, mask) < 0: raise OSError(ctypes.get_errno(), "")
for name, mask in {"opened": 0x20, "read": 0x1, "closed": 0x10, "all": ALL}.items():
    attempt(name, lambda: [add(path, mask) for path in PATHS] and None)
attempt("changed", lambda: [add(path, ALL & ~READING) for path in PATHS] and None)
attempt("starts of containers", lambda: select.epoll().register(open("/proc/sys/kernel/hostname")))
time.sleep(0.7)
try: probes["seen"] = str(len(os.read(watch, 4096)) > 0)
except BlockingIOError: probes["seen"] = "False"
""",
    neighbour="""
print("holding", flush=True)
while True:
    for path in ("/usr/bin/python3", "/etc/hostname", "/inputs/shared"): open(path, "rb").read(10)
    for kind in os.listdir("/proc/self/ns"): os.close(os.open(f"/proc/self/ns/{kind}", os.O_RDONLY))
    os.listdir("/usr/bin"), os.listdir("/etc")
    time.sleep(0.02)
""",
    files={"shared": "the same"},
    probes={
        **dict.fromkeys(("opened", "read", "closed", "all", "starts of containers"), "EPERM"),
        "changed": "done",
        "seen": "False",
    },
    events="seccomp_violation",
    hardened={
        "events": "",
        "probes": {
            **dict.fromkeys(("opened", "read", "closed", "all", "changed", "starts of containers"), ("done", *REFUSED)),
            "seen": "False",
        },
    },
    because="gVisor's kernel has the watches, and files of its own for each sandbox",
    **CHANNEL,
)
attack(
    THEME,
    "times of the image's files",
    """
paths = [path for path in ("/usr/bin/python3", "/etc/hostname", "/usr/lib/os-release", "/etc") if os.path.exists(path)]
before = {path: os.stat(path).st_atime_ns for path in paths}
time.sleep(0.7)
probes["changed"] = ",".join(path for path, when in before.items() if os.stat(path).st_atime_ns != when)
""",
    neighbour="""
print("holding", flush=True)
while True:
    for path in ("/usr/bin/python3", "/etc/hostname", "/usr/lib/os-release"):
        try: open(path, "rb").read(10)
        except OSError: pass
    os.listdir("/etc"), time.sleep(0.02)
""",
    probes={"changed": ""},
    **CHANNEL,
)
attack(
    THEME,
    "processes and signals",
    """
probes["processes"] = str(sum(name.isdigit() and int(name) not in (1, os.getpid()) for name in os.listdir("/proc")))
reached = 0
own = set(map(int, os.listdir("/proc/self/task")))
for number in range(2, 3000):
    if number not in own:
        try: os.kill(number, signal.SIGKILL); reached += 1
        except ProcessLookupError: pass
        except PermissionError: reached += 1
probes["reached"] = str(reached)
attempt("all of its uid", lambda: os.kill(-1, 0))
""",
    neighbour="for _ in range(3):\n    if os.fork() == 0: signal.pause()" + HOLD,
    probes={"processes": "0", "reached": "0", "all of its uid": ("done", "ESRCH", "EPERM")},
    **CHANNEL,
)
attack(
    THEME,
    "System V, queues and keys",
    """
sacrifice("shm", lambda: call(29, 4711, 4096, 0))
sacrifice("queue", lambda: call(68, 4711, 0))
sacrifice("named queue", lambda: call(240, b"mayfly", 2, 0o600, 0))
sacrifice("key", lambda: call(249, b"user", b"mayfly", 0, 0))
""",
    neighbour="""
for number, arguments in ((29, (4711, 4096, 0o1666)), (68, (4711, 0o1666)), (240, (b"mayfly", 0o102, 0o666, 0)),
                          (248, (b"user", b"mayfly", b"here", 4, -4))):
    sacrifice("x", lambda: call(number, *arguments))
probes.clear()
"""
    + HOLD,
    probes={"shm": "EPERM", "queue": "EPERM", "named queue": "EPERM", "key": "SIGSYS"},
    events="seccomp_violation",
    hardened={
        "events": "",
        "probes": {
            "shm": "ENOENT",
            "queue": ("ENOENT", "ENOSYS"),
            "named queue": ("ENOSYS", "ENOENT"),
            "key": ("ENOSYS", "EPERM", "EACCES"),
        },
    },
    because="gVisor has segments and queues of its own, one set for each sandbox",
    aims_at="sysv",
)
attack(
    THEME,
    "the other's uid",
    """
probes["others"] = str(sum(
    os.stat(os.path.join(directory, name), follow_symlinks=False).st_uid not in (0, os.getuid())
    for place in ("/tmp", "/work", "/output", "/dev/shm", "/inputs", "/etc") for directory, _, names in os.walk(place)
    for name in names))
import resource
attempt("its processes", lambda: os.setpriority(os.PRIO_USER, os.getuid() + 1, 19))
attempt("whether it has any", lambda: os.getpriority(os.PRIO_USER, os.getuid() + 1))
attempt("its own", lambda: os.getpriority(os.PRIO_PROCESS, 0) == os.nice(0))
""",
    neighbour="open('/tmp/mine', 'w')\nopen('/dev/shm/mine', 'w')" + HOLD,
    probes={"others": "0", "its processes": "EPERM", "whether it has any": "EPERM", "its own": "True"},
    details=("getpriority",),
    events="seccomp_violation",
    **CHANNEL,
    hardened={
        "events": "",
        "details": (),
        "probes": {
            "others": "0",
            **dict.fromkeys(
                ("its processes", "whether it has any"), ("ESRCH", "EPERM", "EACCES", "ENOSYS", "done", "EINVAL", "20")
            ),
            "its own": "True",
        },
    },
    because="gVisor answers for its own processes only, and has no priorities of users",
)
attack(
    THEME,
    "taking the other's share of a core",
    """
for _ in range(6):
    if os.fork() == 0:
        while True: pass
time.sleep(0.5)
print("done", flush=True)
os._exit(0)
""",
    neighbour="print('holding', flush=True)\nwhile True: sum(range(1000)), time.sleep(0.01)\n",
    stdout=("done",),
    **CHANNEL,
)
attack(
    THEME,
    "terminals of the other",
    """
names = os.listdir("/dev/pts") if os.path.isdir("/dev/pts") else []
probes["terminals"] = ",".join(name for name in names if name.isdigit())
attempt("open", lambda: os.close(os.open("/dev/pts/0", os.O_RDWR)))
""",
    neighbour="try: held = [os.open('/dev/ptmx', os.O_RDWR) for _ in range(3)]\nexcept OSError: pass" + HOLD,
    probes={"terminals": "", "open": ("ENOENT", "EIO", "EACCES")},
    aims_at="terminals",
)
