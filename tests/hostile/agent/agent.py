"""Programs that go for the agent: the process that started them, and speaks for the sandbox."""

from __future__ import annotations

from tests.hostile.cases import HANGS, LIMITS, MIB, attack, ended

THEME = "agent"
CLOSED = ("EACCES", "EPERM")

attack(
    THEME,
    "kill it with every signal",
    """
for number in range(1, 65):
    try: os.kill(1, number)
    except OSError as error: print(number, errno.errorcode[error.errno])
time.sleep(0.1)
print("still here")
""",
    stdout=("still here",),
)
attack(
    THEME,
    "kill it by descriptor, by thread and by queue",
    """
info = (ctypes.c_int * 32)()
for number in (9, 19, 11, 15):
    attempt(f"pidfd {number}", lambda: signal.pidfd_send_signal(os.pidfd_open(1), number))
    attempt(f"tgkill {number}", lambda: call(234, 1, 1, number))
    info[0], info[2] = number, -1
    attempt(f"queue {number}", lambda: call(129, 1, number, info))
print("still here")
probes.clear()
""",
    stdout=("still here",),
)
attack(
    THEME,
    "drown it in SIGCHLD",
    """
info = (ctypes.c_int * 32)()
info[0], info[2] = int(signal.SIGCHLD), -1
for _ in range(5000):
    libc.syscall(62, 1, int(signal.SIGCHLD))
for _ in range(100):
    if os.fork() == 0:
        if os.fork(): os._exit(0)
        os._exit(0)
    os.wait()
print("still here")
""",
    stdout=("still here",),
    limits={**LIMITS, "processes": 200},
    seconds=20,
)
attack(
    THEME,
    "look into it",
    """
for name in ("mem", "environ", "maps", "auxv", "syscall", "stack", "personality", "io", "pagemap", "smaps"):
    attempt(name, lambda: open(f"/proc/1/{name}", "rb").read(1) and "read")
for name in ("fd", "map_files", "fdinfo", "ns/net"):
    def look():
        if "/" in name: return os.readlink(f"/proc/1/{name}") and "read"
        return os.listdir(f"/proc/1/{name}") and "listed"
    attempt(name, look)
for name in ("cwd", "root", "exe"):
    attempt(name, lambda: os.readlink(f"/proc/1/{name}"))
for name in ("fd/0", "fd/1", "fd/2", "root/etc/hostname", "cwd/x", "task/1/fd/1"):
    attempt(name, lambda: os.open(f"/proc/1/{name}", os.O_RDWR))
""",
    probes=dict.fromkeys(
        (
            *("mem", "environ", "maps", "auxv", "syscall", "stack", "personality", "io", "pagemap", "smaps"),
            *("fd", "map_files", "fdinfo", "ns/net", "cwd", "root", "exe"),
            *("fd/0", "fd/1", "fd/2", "root/etc/hostname", "cwd/x", "task/1/fd/1"),
        ),
        (*CLOSED, "ENOENT"),
    ),
    hardened={
        "probes": {
            **dict.fromkeys(("mem", "io", "cwd", "root", "exe", "root/etc/hostname", "cwd/x"), CLOSED),
            **dict.fromkeys(("environ", "maps", "auxv", "smaps"), "read"),
            **dict.fromkeys(("syscall", "stack", "personality", "pagemap", "map_files"), "ENOENT"),
            **dict.fromkeys(("fd", "fdinfo"), "listed"),
            **dict.fromkeys(("fd/0", "fd/1", "fd/2", "task/1/fd/1"), (*CLOSED, "ENXIO")),  # a socket is not opened
            "ns/net": "read",
        }
    },
    because="in gVisor some files of a process are there for all; nothing of the agent's is in them",
)
attack(
    THEME,
    "change it through its files",
    """
for name in ("oom_score_adj", "oom_adj", "clear_refs", "comm", "timerslack_ns", "coredump_filter", "attr/current",
             "attr/exec", "uid_map", "gid_map", "setgroups", "autogroup", "sched", "loginuid", "task/1/comm"):
    def write():
        with open(f"/proc/1/{name}", "w") as file: file.write("1000")
    attempt(name, write)
probes = {"written": ",".join(name for name, value in probes.items() if value == "done")}
""",
    probes={"written": ""},
)
attack(
    THEME,
    "starve it by its limits and its place in the queue",
    """
import resource
for name in ("NOFILE", "AS", "CPU", "NPROC", "FSIZE", "STACK"):
    attempt(name, lambda: resource.prlimit(1, getattr(resource, f"RLIMIT_{name}"), (0, 0)))
try:
    os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0))
except OSError: pass
try:
    os.setpriority(os.PRIO_PROCESS, 1, 19), os.sched_setaffinity(1, {0})
except OSError: pass
for _ in range(2):
    if os.fork() == 0:
        while True: pass
""",
    probes=dict.fromkeys(("NOFILE", "AS", "CPU", "NPROC", "FSIZE", "STACK"), (*CLOSED, "PermissionError")),
    limits={**LIMITS, "cpu_cores": 1.0},
    seconds=12,
    events="seccomp_violation",
    hardened={"events": ""},
    because="gVisor answers such calls itself, without a record",
)
attack(
    THEME,
    "leave it no process and no memory",
    """
import threading
held = []
try:
    while True: threading.Thread(target=signal.pause, daemon=True).start()
except RuntimeError: print("no more", flush=True)
for number in range(90):
    with open(f"/tmp/{number}", "wb") as file:
        try: file.write(bytes(2**19))
        except OSError: break
open("/output/kept", "w").write("kept")
os._exit(0)
""",
    limits={**LIMITS, "processes": 12, "memory_bytes": 160 * MIB},
    stdout=("no more",),
    kept={"kept": 4},
    events="pids_limit",
    hardened={"events": ""},
    because="gVisor's processes are no processes of the host",
)
attack(
    THEME,
    "fill its pipes, and read nothing",
    """
import fcntl
for end in (1, 2):
    try: fcntl.fcntl(end, 1031, 2**20)
    except OSError: pass
    os.set_blocking(end, False)
sent = 0
for _ in range(200):
    for end in (1, 2):
        try: sent += os.write(end, b"x" * 2**16)
        except BlockingIOError: time.sleep(0.001)
os._exit(0)
""",
    stdin="y" * 300_000,
    limits={**LIMITS, "output_bytes": 2 * MIB},
    **ended("output_exceeded", "output_limit"),
)
attack(
    THEME,
    "close and steal descriptors",
    """
os.closerange(0, 1024)
for number in range(64):
    try: os.open("/dev/null", os.O_RDWR)
    except OSError: break
sys.stdout = sys.stderr = None
os._exit(0)
""",
    stdout=(),
    exit_code=0,
)
attack(
    THEME,
    "read its own output, write its own input",
    """
print("to be stolen", flush=True)
reader = os.open("/proc/self/fd/1", os.O_RDONLY | os.O_NONBLOCK)
writer = os.open("/proc/self/fd/0", os.O_WRONLY | os.O_NONBLOCK)
try: os.write(writer, b"x" * 10), os.read(reader, 10)
except BlockingIOError: pass
print("mine")
""",
    stdin="input",
    stdout=("mine",),
)
attack(
    THEME,
    "search the interpreter it was forked from",
    """
import gc, inspect
found = []
for thing in gc.get_objects():
    kind = type(thing)
    if kind.__name__ in ("Channel", "Execution", "Process") and kind.__module__ in ("execution", "agent", "__main__"):
        found.append(kind.__name__)
for name in ("execution", "artifacts", "agent"):
    if name in sys.modules: found.append(name)
frame = sys._getframe()
while frame:
    for value in [*frame.f_locals.values(), *frame.f_globals.values()]:
        if type(value).__name__ == "Channel": found.append("channel")
    frame = frame.f_back
probes["objects"] = ",".join(sorted(set(found)))
probes["descriptors"] = ",".join(sorted(name for name in os.listdir("/proc/self/fd") if int(name) > 3))
""",
    probes={"objects": "", "descriptors": ""},
)
attack(
    THEME,
    "speak for it through what is left of its code",
    """
import gc
gc.unfreeze()
names = next(one for one in gc.get_referrers(os) if isinstance(one, dict) and "channel" in one)
forge = (b"X" + (60).to_bytes(4, "big") + b'{"exit_code": 0, "signal": null, "stopped": null}').ljust(65)
module = names["channel"]
channel = module.Channel()
for kind in (module.EXIT, module.READY, module.FILE):
    try: channel.put(kind, {"exit_code": 0, "path": "forged", "size": 1})
    except BaseException: pass
for end in range(3, 64):
    try: os.write(end, forge)
    except OSError: pass
sys.stdout.flush()
os._exit(9)
""",
    **ended("nonzero_exit", exit_code=9),
    kept={},
    aims_at="result",
)
attack(
    THEME,
    "remove its ground",
    """
for path in ("/work/inputs", "/work", "/tmp", "/output", "/inputs"):
    attempt(path, lambda: os.rmdir(path) if path != "/work/inputs" else os.unlink(path))
for path in ("/work", "/tmp", "/output"):
    os.chmod(path, 0)
""",
    probes={
        "/work/inputs": "done",
        "/work": ("EROFS", "EACCES", "EBUSY"),
        "/tmp": ("EROFS", "EACCES", "EBUSY"),
        "/output": ("EROFS", "EACCES", "EBUSY"),
        "/inputs": ("EROFS", "EACCES", "EBUSY"),
    },
    events="artifact_rejected",
)
attack(
    THEME,
    "wear its name",
    """
libc.prctl(15, b"\\x1b[31mPID1\\n", 0, 0, 0)
sys.argv[0] = "agent"
call(272, 0)
""",
    **ended("security_violation", "seccomp_violation", exit_code=159),
    aims_at="log",
    hardened={"state": "succeeded", "reason": None, "exit_code": 0, "events": ""},
    because="gVisor's own kernel answers, without killing",
)
attack(
    THEME,
    "never read a word",
    "signal.pause()",
    stdin="z" * 900_000,
    limits=HANGS,
    **ended("timed_out", "timeout"),
)
