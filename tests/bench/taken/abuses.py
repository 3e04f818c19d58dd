"""Abuses, as data: one tenant in one sandbox, or with one key, takes resources of the host beyond its limits.

After a refused call each program prints ``refused NAME`` and waits, so that the figures show the abuse and not the
creation of sandboxes. Most of these abuses succeeded in earlier versions; the figures show the remaining effects.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

WALL_SECONDS = 3.0
PRELUDE = """
import ctypes, errno, fcntl, itertools, mmap, os, signal, socket, struct, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def give_up(error):
    print("refused", errno.errorcode.get(error.errno, type(error).__name__), flush=True)
    time.sleep(60)
def children(count, work):
    for _ in range(count):
        try:
            if os.fork() == 0: work(), os._exit(0)
        except OSError as error: give_up(error)
def burn():
    while True: pass
def held(make):
    # as many as it is let, then wait
    kept = []
    try:
        while True: kept.append(make())
    except OSError as error: print("bounded", errno.errorcode.get(error.errno), len(kept), flush=True)
    time.sleep(60)
"""


@dataclass(frozen=True)
class Abuse:
    """One row of the table.

    ``does`` completes "one sandbox that …"; ``more`` are fields of the submission. ``client`` names a client's abuse
    (:mod:`tests.bench.taken.abuser`), without a program. ``once`` limits a dangerous abuse to one execution.
    """

    does: str
    code: str = ""
    isolation: str = "standard"
    more: dict[str, Any] = field(default_factory=dict)
    client: str | None = None
    once: bool = False

    def body(self) -> dict[str, Any]:
        """The submission."""
        limits = {"wall_seconds": WALL_SECONDS, "cpu_seconds": 60, **self.more.get("limits", {})}
        fields = {name: value for name, value in self.more.items() if name != "limits"}
        return {
            "environment": "python", "isolation": self.isolation, "code": PRELUDE + self.code, "limits": limits,
            "artifacts": [], **fields,
        }  # fmt: skip


# In order of the resource that each aims at.
ABUSES = {
    "cpu": Abuse("computes", "children(3, burn), burn()"),
    "forks": Abuse("forks without end", "while True:\n    try: os.fork()\n    except OSError: pass"),
    "lives": Abuse("starts and ends processes", "while True:\n    if os.fork() == 0: os._exit(0)\n    os.wait()"),
    "priority": Abuse(
        "tries to lower its agent's priority below 50 busy children",
        "try: os.setpriority(os.PRIO_PROCESS, 1, 19)\n"
        "except OSError as error: print('refused', errno.errorcode[error.errno], flush=True)\n"
        "children(50, burn)\nsignal.pause()",
        more={"limits": {"processes": 64}},
    ),
    "mappings": Abuse(
        "maps and unmaps memory in four threads",
        "def work():\n    while True:\n        with mmap.mmap(-1, 2**20) as one: one[0] = 1\n"
        "for _ in range(4): threading.Thread(target=work).start()",
    ),
    "timers": Abuse(
        "runs a hundred timers that fire constantly",
        """
class Event(ctypes.Structure):
    _fields_ = [("value", ctypes.c_void_p), ("number", ctypes.c_int), ("notify", ctypes.c_int),
                ("rest", ctypes.c_char * 48)]
signal.signal(signal.SIGUSR1, lambda *_: None)
short = struct.pack("4q", 0, 1, 0, 1)
for _ in range(100):
    timer = ctypes.c_int()
    event = Event(None, signal.SIGUSR1, 0)
    if libc.syscall(222, 1, ctypes.byref(event), ctypes.byref(timer)): give_up(OSError(ctypes.get_errno(), ""))
    libc.syscall(223, timer, 0, short, None)
while True: signal.pause()
""",
    ),
    "page tables": Abuse(
        "touches a page in every 2 MB",
        """
libc.mmap.restype = ctypes.c_void_p
address = libc.mmap(None, ctypes.c_size_t(2**40), 3, 0x4022, -1, ctypes.c_long(0))
for at in range(0, 2**40, 2**21): ctypes.c_char.from_address(address + at).value = b"x"
""",
    ),
    "sockets": Abuse(
        "fills sockets with messages",
        """
def one():
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    left.setblocking(False)
    try:
        while True: left.send(bytes(2**15))
    except BlockingIOError: return left, right
children(16, lambda: held(one))
signal.pause()
""",
    ),
    "cycles": Abuse(
        "has sockets in flight through themselves, and closes others",
        """
def one():
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    socket.send_fds(ends[0], [b"x"], [end.fileno() for end in ends])
    return ends
try: kept = [one() for _ in range(500)]
except OSError as error: give_up(error)
while True:
    for end in socket.socketpair(): end.close()
""",
    ),
    "connections": Abuse(
        "connects to its own Unix socket without accepting",
        """
server = socket.socket(socket.AF_UNIX)
server.bind("\\0mine"), server.listen(4096)
def one():
    client = socket.socket(socket.AF_UNIX)
    client.setblocking(False)
    client.connect("\\0mine")
    try:
        while True: client.send(bytes(2**15))
    except BlockingIOError: return client
children(16, lambda: held(one))
signal.pause()
""",
    ),
    "loopback": Abuse(
        "fills TCP connections to itself (loopback)",
        """
server = socket.create_server(("127.0.0.1", 0))
def one():
    client = socket.create_connection(server.getsockname())
    ends = client, server.accept()[0]
    for end in ends:
        end.setblocking(False)
        try:
            while True: end.send(bytes(2**16))
        except BlockingIOError: pass
    return ends
children(8, lambda: held(one))
signal.pause()
""",
        more={"loopback": True},
    ),
    "pipes": Abuse(
        "fills pipes of 1 MB",
        """
def one():
    reader, writer = os.pipe2(os.O_NONBLOCK)
    fcntl.fcntl(writer, 1031, 2**20)
    try:
        while True: os.write(writer, bytes(2**16))
    except BlockingIOError: return reader, writer
children(16, lambda: held(one))
signal.pause()
""",
    ),
    "descriptors": Abuse(
        "opens as many descriptors as permitted: epoll, eventfd, timerfd, inotify",
        """
import select
def work():
    makers = (select.epoll, lambda: os.eventfd(0), lambda: libc.timerfd_create(1, 0), lambda: libc.inotify_init())
    kept = []
    for number in range(1000):
        try: kept.append(makers[number % 4]())
        except OSError: break
    for one in kept[0::4]:
        for other in kept[1::4]:
            try: one.register(other)
            except OSError: pass
    time.sleep(60)
children(40, work)
signal.pause()
""",
    ),
    "names": Abuse(
        "looks up absent file names",
        """
def work(start):
    for number in itertools.count(start, 8):
        try: os.stat(f"/usr/lib/{number}" + "x" * 200)
        except OSError: pass
for start in range(7):
    if os.fork() == 0: work(start)
work(7)
""",
    ),
    "files": Abuse(
        "makes and removes files",
        "for n in itertools.count():\n    open(f'/work/{n % 5000}', 'w').close()\n    os.unlink(f'/work/{n % 5000}')",
    ),
    "locks": Abuse(
        "locks every second byte of a file",
        "file = os.open('/work/x', os.O_RDWR | os.O_CREAT)\n"
        "try:\n    for at in itertools.count(0, 2): os.lseek(file, at, 0), os.lockf(file, os.F_LOCK, 1)\n"
        "except OSError as error: give_up(error)",
    ),
    "shared locks": Abuse(
        "locks a hundred thousand ranges of an eventfd",
        "file = os.eventfd(0)\n"
        "try:\n    for at in range(0, 200_000, 2): fcntl.fcntl(file, 37, struct.pack('hhqqi4x', 1, 0, at, 1, 0))\n"
        "except OSError as error: give_up(error)\ntime.sleep(60)",
    ),
    "socket filter": Abuse(
        "attaches a filter to a socket",  # a single instruction, once: many filters locked up a kernel
        "left, _ = socket.socketpair()\nkept = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0))\n"
        "try: left.setsockopt(socket.SOL_SOCKET, 26, struct.pack('HxxxxxxQ', 1, ctypes.addressof(kept)))\n"
        "except OSError as error: give_up(error)",
        once=True,
    ),
    "flushes": Abuse(
        "flushes the host's disk",
        """
paths = [line.split()[4] for line in open("/proc/self/mountinfo")]
opened = []
for path in paths:
    try: opened.append(os.open(path, os.O_RDONLY))
    except OSError: pass
if not opened: give_up(OSError(errno.EACCES, ""))
refusals = set()
while True:
    for one in list(opened):
        try: os.fsync(one)
        except OSError as error:
            opened.remove(one), refusals.add(error.errno)
    if not opened: give_up(OSError(refusals.pop(), ""))
""",
    ),
    "rereading": Abuse(
        "evicts the image from the page cache and reads it again",
        """
paths = [os.path.join(at, name) for at, _, names in os.walk("/usr/lib") for name in names]
paths = [path for path in paths if os.path.isfile(path) and os.path.getsize(path) > 2**16]
while True:
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            try: os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            except OSError as error: give_up(error)
            while file.read(2**20): pass
""",
    ),
    "tripwires": Abuse(
        "lets the filter kill its children",
        "while True:\n    if os.fork() == 0: libc.syscall(272, 0), os._exit(0)\n    os.wait()",
    ),
    "denials": Abuse("makes refused and reported system calls", "while True: libc.socket(2, 0x80002, 0)"),
    "output": Abuse("prints pages", "while True: os.write(1, b'x' * 60_000)", more={"limits": {"output_bytes": 2**24}}),
    "bytes": Abuse(
        "prints single bytes to both streams in turn",
        "while True: os.write(1, b'x'), os.write(2, b'y')",
        more={"limits": {"output_bytes": 2**24}},
    ),
    "artifacts": Abuse(
        "writes thousands of small files to `/output`",
        "for n in range(8000):\n    open(f'/output/{n}', 'w').write('x')",
        more={"artifacts": ["**"]},
    ),
    "holes": Abuse(
        "leaves a sparse file of 63 MB",
        "os.truncate(os.open('/output/hole', os.O_CREAT | os.O_RDWR), 63 * 2**20)",
        more={"artifacts": ["**"]},
    ),
    "rejected": Abuse(
        "leaves links and pipes, which cannot be collected",
        "for n in range(4000): os.symlink('/etc/passwd', f'/output/{n}'), os.mkfifo(f'/work/{n}')",
        more={"artifacts": ["**"]},
    ),
    "uploads": Abuse("(a key) begins 10 uploads of 32 MB and stops", client="uploads"),
    "readers": Abuse("(a key) reads 16 MB of output 20 times, slowly", client="readers"),
    "followers": Abuse("(a key) follows 16 MB of output 20 times, slowly", client="followers"),
    "lists": Abuse("(a key) lists executions with filters that match none, with 10 clients", client="lists"),
    "headers": Abuse("(no key) sends 1 MB before the headers end, 20 times", client="headers"),
}
