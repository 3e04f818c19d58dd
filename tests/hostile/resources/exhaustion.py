"""Programs that take all the time, memory and processes there are, themselves or through a child."""

from __future__ import annotations

from tests.hostile.cases import HANGS, LIMITS, MIB, attack, ended

THEME = "exhaustion"
SMALL = {**LIMITS, "memory_bytes": 96 * MIB}
FEW = {**LIMITS, "processes": 12}
WHOLE_SANDBOX = "gVisor's sentry lies in the same cgroup and holds all memory: the kernel ends the whole sandbox"
OWN_PROCESSES = "what counts as a process is gVisor's own business: its threads hit the cgroup's limit, or none"

attack(
    THEME,
    "CPU",
    "while True: pass",
    limits={**LIMITS, "cpu_seconds": 0.4},
    **ended("cpu_exceeded", "timeout"),
)

attack(
    THEME,
    "CPU in children",
    """
for _ in range(3):
    if os.fork() == 0:
        while True: pass
signal.pause()
""",
    limits={**LIMITS, "cpu_seconds": 0.4},
    **ended("cpu_exceeded", "timeout"),
)

attack(
    THEME,
    "CPU in many short lives",
    """
while True:
    if os.fork() == 0:
        end = time.process_time() + 0.05
        while time.process_time() < end: pass
        os._exit(0)
    os.wait()
""",
    limits={**LIMITS, "cpu_seconds": 0.4},
    **ended("cpu_exceeded", "timeout"),
)

attack(
    THEME,
    "CPU, deaf to SIGXCPU",
    "signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
    limits={**LIMITS, "cpu_seconds": 0.4},
    **ended("cpu_exceeded", "timeout"),
)

attack(
    THEME,
    "memory",
    "held = []\nwhile True: held.append(bytearray(2**20))",
    limits=SMALL,
    **ended("oom_killed", "oom_killed"),
)

attack(
    THEME,
    "memory in a child",
    """
if os.fork() == 0:
    held = []
    while True: held.append(bytearray(2**20))
_, status = os.wait()
print("child ended by", os.WTERMSIG(status))
""",
    limits=SMALL,
    events="oom_killed",
    stdout=("child ended by 9",),
    hardened=ended("oom_killed", "oom_killed", stdout=()),
    because=WHOLE_SANDBOX,
)

attack(
    THEME,
    "memory in files",
    """
for place in ("/work", "/tmp", "/output"):
    for number in range(60):
        with open(f"{place}/{number}", "wb") as file: file.write(bytes(2**20))
""",
    limits=SMALL,
    **ended("oom_killed", "oom_killed"),
)

attack(
    THEME,
    "shared memory",
    """
with open("/dev/shm/big", "wb") as file:
    while True: file.write(bytes(2**20))
""",
    limits=SMALL,
    **ended("oom_killed", "oom_killed"),
    aims_at="files",
)

attack(
    THEME,
    "memory in pipes and sockets",
    """
import socket, fcntl
def fill():
    held = []
    while True:
        reader, writer = os.pipe2(os.O_NONBLOCK)
        held += [reader, writer]
        try: fcntl.fcntl(writer, 1031, 2**20)
        except OSError: pass
        try:
            while True: os.write(writer, bytes(2**16))
        except BlockingIOError: pass
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        left.setblocking(False)
        held += [left, right]
        try:
            while True: left.send(bytes(2**15))
        except BlockingIOError: pass
attempt("kernel memory", fill)
""",
    probes={"kernel memory": "EMFILE"},
    because="gVisor keeps pipes and sockets in memory of its own, up to the sandbox's limit",
    hardened={"probes": {"kernel memory": ("EMFILE", "ENOBUFS", "MemoryError")}},
)

attack(
    THEME,
    "fork bomb",
    """
while True:
    try: os.fork()
    except OSError: pass
""",
    limits={**FEW, **HANGS},
    **ended("timed_out", "timeout", "pids_limit"),
    hardened={"events": "timeout"},
    because=OWN_PROCESSES,
)

attack(
    THEME,
    "fork bomb of the shell",
    "bomb() { bomb | bomb & }; bomb\nwhile true; do true; done",
    environment="bash",
    limits={**FEW, **HANGS},
    **ended("timed_out", "timeout", "pids_limit"),
    hardened={"events": "timeout"},
    because=OWN_PROCESSES,
)

attack(
    THEME,
    "fork bomb in a daemon",
    """
full, refused = os.pipe()
if os.fork() == 0:
    os.setsid()
    reports = True
    while True:
        try: os.fork()
        except OSError:
            if reports: os.write(refused, b"x")
            reports = False
os.read(full, 1)
print("parent ends")
""",
    limits=FEW,
    stdout=("parent ends",),
    events="pids_limit",
    hardened={"events": ""},
    because=OWN_PROCESSES,
)

attack(
    THEME,
    "threads",
    """
import threading
while True: threading.Thread(target=signal.pause, daemon=True).start()
""",
    limits=FEW,
    **ended("pids_exceeded", "pids_limit", stdout=()),
    hardened={"reason": "nonzero_exit", "events": ""},
    because=OWN_PROCESSES,
)

attack(
    THEME,
    "zombies",
    """
def bury():
    for _ in range(10**4):
        if os.fork() == 0: os._exit(0)
attempt("zombies", bury)
""",
    limits=FEW,
    probes={"zombies": "EAGAIN"},
    events="pids_limit",
    hardened={"events": ""},
    because=OWN_PROCESSES,
)

attack(
    THEME,
    "the stack",
    "sys.setrecursionlimit(10**9)\nnest = []\nfor _ in range(10**6): nest = [nest]\nrepr(nest)",
    **ended("signalled", signal="SIGSEGV"),
    limits=LIMITS,
)

attack(
    THEME,
    "next to no processor",
    "while True: pass",
    limits={**LIMITS, "cpu_cores": 0.01, "wall_seconds": 2},
    **ended("timed_out", "timeout"),
    seconds=40,
)
