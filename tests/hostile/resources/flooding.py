"""Programs that fill whatever can be filled: disk, inodes, output, descriptors, and tables of the kernel."""

from __future__ import annotations

from tests.hostile.cases import LIMITS, MIB, attack, ended

THEME = "flooding"
LITTLE_DISK = {**LIMITS, "disk_bytes": 4 * MIB}

attack(
    THEME,
    "disk",
    """
for number in range(64):
    with open(f"/work/{number}", "wb") as file: file.write(bytes(2**20))
""",
    limits=LITTLE_DISK,
    **ended("disk_exceeded", "disk_limit"),
    aims_at="state",
)

attack(
    THEME,
    "disk in a child",
    """
def fill():
    for number in range(64):
        with open(f"/tmp/{number}", "wb") as file: file.write(bytes(2**20))
sacrifice("fill", fill)
""",
    limits=LITTLE_DISK,
    probes={"fill": "ENOSPC"},
    events="disk_limit",
    aims_at="state",
)

attack(
    THEME,
    "disk in files without a name",
    """
held = []
def fill():
    for number in range(64):
        held.append(open("/tmp/x", "wb+"))
        os.unlink("/tmp/x")
        held[-1].write(bytes(2**20)), held[-1].flush()
attempt("unlinked", fill)
""",
    limits=LITTLE_DISK,
    probes={"unlinked": "ENOSPC"},
    aims_at="state",
    events="",
)

attack(
    THEME,
    "disk at once",
    """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
attempt("sparse", lambda: open("/work/sparse", "wb").truncate(2**40))
attempt("fallocate", lambda: os.posix_fallocate(os.open("/work/f", os.O_RDWR | os.O_CREAT), 0, 2**40))
def seek():
    with open("/work/far", "wb") as file:
        file.seek(2**40), file.write(b"x")
attempt("far end", seek)
""",
    probes={"sparse": "EFBIG", "fallocate": ("EFBIG", "ENOSPC"), "far end": "EFBIG"},
    aims_at="state",
)

attack(
    THEME,
    "inodes",
    "for number in range(10**6): open(f'/tmp/{number}', 'w').close()",
    limits={**LIMITS, "memory_bytes": 256 * MIB},
    **ended("disk_exceeded", "disk_limit"),
    aims_at="state",
    hardened=ended("timed_out", "timeout", limits={**LIMITS, "wall_seconds": 2}),
    because="gVisor ignores nr_inodes; time and memory bound it there",
)

attack(
    THEME,
    "inodes in a child, by directories and links",
    """
def fill():
    for number in range(10**6):
        os.mkdir(f"/output/{number}"), os.symlink("x", f"/output/{number}/link")
sacrifice("fill", fill)
""",
    limits={**LIMITS, "memory_bytes": 256 * MIB},
    artifacts=("none",),
    probes={"fill": "ENOSPC"},
    events="disk_limit",
    aims_at="state",
    hardened=ended("timed_out", "timeout", limits={**LIMITS, "wall_seconds": 2}, probes={}),
    because="gVisor ignores nr_inodes; time and memory bound it there",
)

attack(  # what it takes of Redis: tests/e2e/faults/test_full_redis.py
    THEME,
    "output in single bytes, by turns",
    "while True: os.write(1, b'x'), os.write(2, b'y')",
    limits={**LIMITS, "output_bytes": 20_000},
    **ended("output_exceeded", "output_limit"),
    aims_at="state",
)

attack(
    THEME,
    "output",
    "while True: os.write(1, b'x' * 4096)",
    limits={**LIMITS, "output_bytes": 65536},
    **ended("output_exceeded", "output_limit"),
    aims_at="state",
)

attack(
    THEME,
    "output on stderr by a child",
    """
if os.fork() == 0:
    while True: os.write(2, b'x' * 4096)
signal.pause()
""",
    limits={**LIMITS, "output_bytes": 65536},
    **ended("output_exceeded", "output_limit"),
    aims_at="state",
)

attack(
    THEME,
    "output in single bytes",
    "for _ in range(4000): os.write(1, b'x')",
    stdout=("x" * 4000,),
    aims_at="state",
)

attack(
    THEME,
    "descriptors",
    """
def take():
    held = []
    while True: held.append(os.open("/dev/null", os.O_RDONLY))
attempt("open", take)
import resource
attempt("raise the limit", lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (10**6, 10**6)))
""",
    probes={"open": "EMFILE", "raise the limit": "ValueError"},
    aims_at="descriptors",
)

attack(
    THEME,
    "descriptors in children",
    """
def take():
    held = []
    while True: held += os.pipe()
theirs, ours = os.pipe()
for _ in range(8):
    if os.fork() == 0:
        forget_children()
        os.write(ours, outcome(take).encode() + b" ")
        signal.pause()
results = b""
while len(results) < 8 * 7: results += os.read(theirs, 100)
print(results.decode())
""",
    stdout=("EMFILE " * 8,),
    aims_at="descriptors",
)

attack(
    THEME,
    "timers, watches and queued signals",
    """
def timers():
    event = (ctypes.c_int * 16)()
    event[2], event[3] = 0, 1
    made = ctypes.c_int()
    for _ in range(20000): call(222, 0, event, ctypes.byref(made))
def watches():
    for number in range(20000):
        made = libc.inotify_init1(0)
        if made < 0: raise OSError(ctypes.get_errno(), "")
def signals():
    signal.pthread_sigmask(signal.SIG_BLOCK, [40])
    info = (ctypes.c_int * 32)()
    info[0], info[2] = 40, -1
    for _ in range(20000): call(129, os.getpid(), 40, info)
sacrifice("timers", timers)
sacrifice("watches", watches)
sacrifice("signals", signals)
""",
    limits=LIMITS,
    probes={"timers": ("EAGAIN", "done"), "watches": "EMFILE", "signals": ("EAGAIN", "done")},
    aims_at="memory",
)

attack(
    THEME,
    "terminals",
    """
def take():
    held = []
    while True: held.append(os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY))
attempt("ptmx", take)
""",
    probes={"ptmx": ("EACCES", "ENOENT", "EPERM", "EIO", "ENOSPC", "EMFILE")},
    aims_at="terminals",
)

attack(
    THEME,
    "file locks",
    """
import fcntl, struct
files = [os.open(f"/work/{number}", os.O_RDWR | os.O_CREAT) for number in range(500)]
taken = 0
def take():
    global taken
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        for file in files:
            fcntl.fcntl(file, fcntl.F_SETLK, struct.pack("hhqqi", fcntl.F_WRLCK, 0, taken // 500 * 2, 1, 0))
            taken += 1
attempt("locks", take)
print("locks", taken)
open("/work/state", "w").write(str(taken))
""",
    **ended("security_violation", "seccomp_violation"),
    hardened={
        "state": "succeeded",
        "reason": None,
        "events": "",
        "probes": {"locks": ("done", "ENOLCK", "ENOMEM")},
    },
    because="gVisor's kernel has the locks, in the sandbox's own memory",
    aims_at="memory",
)
