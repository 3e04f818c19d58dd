"""Programs that reach for the agent with all that they share with it: a kernel, users, a page of memory."""

from __future__ import annotations

from tests.hostile.cases import attack, ended

THEME = "reach"
CLOSED = ("EACCES", "EPERM")
NOTHING_GAINED = {"name": "sandbox", "capabilities": "", "ids": "True", "executed": "True", "gained": ""}

attack(
    THEME,
    "stop it, and have others signal it",
    """
import fcntl
for number in (19, 20, 21, 22, 18, 9):
    attempt(f"kill {number}", lambda: os.kill(1, number))
F_SETSIG = 10
def when_there_is_input(number):
    reader, writer = os.pipe()
    fcntl.fcntl(reader, fcntl.F_SETOWN, 1)
    fcntl.fcntl(reader, F_SETSIG, number)
    fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    os.write(writer, b"x")
def sibling(number):  # its end is signalled to the parent of its creator
    if call(56, 0x8000 | number, 0, 0, 0, 0) == 0: os._exit(0)
    time.sleep(0.1)
def orphan(number):  # its end is signalled to the first process
    if call(56, number, 0, 0, 0, 0) == 0: time.sleep(0.05)
def by_a_child_of_the_agent(action):
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid(), time.sleep(0.05), outcome(action)
        os._exit(0)
    os.wait()
for number in (19, 9):
    outcome(lambda: when_there_is_input(number))
    by_a_child_of_the_agent(lambda: sibling(number))
    by_a_child_of_the_agent(lambda: orphan(number))
time.sleep(0.3)
probes = {"signalled": ",".join(name for name, value in probes.items() if value not in ("EPERM", "ESRCH"))}
print("still here", flush=True)
open("/output/kept", "w").write("kept")
""",
    stdout=("still here",),
    kept={"kept": 4},
    probes={"signalled": ",".join(f"kill {number}" for number in (19, 20, 21, 22, 18, 9))},  # and the kernel drops it
    maybe="seccomp_violation",
    seconds=20,
    hardened={"probes": {"signalled": ""}, "maybe": ""},
    because="in gVisor the agent has another uid; elsewhere the kernel drops what the first process does not want",
)
attack(
    THEME,
    "trace it, read its memory and write to its descriptors",
    """
import re
rooms = [int(one, 16) for one in re.findall("^[0-9a-f]+", open("/proc/self/maps").read(), re.M)]  # its own are forked
local, remote = ctypes.create_string_buffer(8), (ctypes.c_uint64 * 2)(rooms[0], 8)
mine = (ctypes.c_uint64 * 2)(ctypes.addressof(local), 8)
for name, request in (("attach", 16), ("seize", 0x4206), ("kill", 8), ("peek", 1)):
    sacrifice(name, lambda: call(101, request, 1, 0, 0))
sacrifice("read", lambda: call(310, 1, mine, 1, remote, 1, 0))
sacrifice("write", lambda: call(311, 1, mine, 1, remote, 1, 0))
for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
    attempt(f"memory {flags}", lambda: os.open("/proc/1/mem", flags))
    attempt(f"memory of its thread {flags}", lambda: os.open("/proc/1/task/1/mem", flags))
opened = []
for number in range(64):
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
        for path in (f"/proc/1/fd/{number}", f"/proc/1/task/1/fd/{number}"):
            try: end = os.open(path, flags | os.O_NONBLOCK)
            except OSError: continue
            theirs, ours = os.fstat(end), [os.fstat(one) for one in (0, 1, 2)]
            if (theirs.st_dev, theirs.st_ino) not in [(one.st_dev, one.st_ino) for one in ours]: opened.append(number)
            os.close(end)
probes["not the program's own pipes"] = ",".join(map(str, opened))
print("still here")
""",
    stdout=("still here",),
    probes={
        **dict.fromkeys(("attach", "seize", "kill", "peek", "read", "write"), "SIGSYS"),
        **dict.fromkeys((f"memory {flags}" for flags in range(3)), CLOSED),
        **dict.fromkeys((f"memory of its thread {flags}" for flags in range(3)), CLOSED),
        "not the program's own pipes": "",
    },
    events="seccomp_violation",
    hardened={
        "events": "",
        "probes": {
            **dict.fromkeys(("attach", "seize", "kill", "peek", "read", "write"), ("EPERM", "ESRCH", "EIO", "ENOSYS")),
            **dict.fromkeys((f"memory {flags}" for flags in range(3)), (*CLOSED, "ENOENT")),
            **dict.fromkeys((f"memory of its thread {flags}" for flags in range(3)), (*CLOSED, "ENOENT")),
            "not the program's own pipes": "",
        },
    },
    because="gVisor's own kernel refuses, without killing",
    seconds=20,
)
attack(
    THEME,
    "become it",
    """
import pwd, subprocess
try: its = pwd.getpwnam("agent").pw_uid
except KeyError: its = 0
probes["name"] = pwd.getpwuid(os.getuid()).pw_name
def sets(): return ",".join(line.split()[1] for line in open("/proc/self/status") if line.startswith("Cap"))
probes["capabilities"] = sets().strip("0,")
probes["ids"] = str(set(os.getresuid() + os.getresgid() + tuple(os.getgroups())) == {os.getuid()})
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
def reach(where):
    for name, action in (
        ("setuid", lambda: os.setuid(its)), ("seteuid", lambda: os.seteuid(its)),
        ("setreuid", lambda: os.setreuid(its, its)), ("setresuid", lambda: os.setresuid(its, its, its)),
        ("setgid", lambda: os.setgid(its)), ("setresgid", lambda: os.setresgid(its, its, its)),
        ("setgroups", lambda: os.setgroups([its])), ("kill", lambda: os.kill(1, 9)),
        ("capset", lambda: call(126, header, (ctypes.c_uint32 * 6)(*[0xE0] * 3, 0, 0, 0))),
        ("ambient", lambda: call(157, 47, 2, 7, 0, 0)), ("bounding", lambda: call(157, 24, 7, 0, 0)),
        ("memory", lambda: os.open("/proc/1/mem", os.O_RDWR)),
    ):
        if where and name in ("capset", "ambient", "bounding"): continue  # they count in that name space alone
        attempt(where + name, action)
reach("")
with open("/proc/self/exe", "rb") as source, open("/work/self", "wb") as target: target.write(source.read())
os.chmod("/work/self", 0o6755)
attempt("give away", lambda: os.chown("/work/self", its, its))
attempt("file capabilities", lambda: os.setxattr("/work/self", "security.capability",
        bytes.fromhex("01000002e0000000e00000000000000000000000")))
printed = subprocess.run(["/work/self", "-c", "import os; print(os.getresuid() + os.getresgid());"
                       "print([l.split()[1] for l in open('/proc/self/status') if l.startswith('Cap')])"],
                      capture_output=True, text=True).stdout.split("\\n")
probes["executed"] = str(printed[0] == str(os.getresuid() + os.getresgid()) and not printed[1].strip("[]'0, "))
if its and outcome(lambda: call(272, 0x10000000)) == "0":
    for line in (f"0 {its} 1", f"{its} {its} 1", f"0 0 4294967295"):
        def write():
            with open("/proc/self/uid_map", "w") as file: file.write(line)
        attempt("map " + line.replace(str(its), "its"), write)
    reach("in a name space: ")
gained = {name for name, value in probes.items() if value == "done"}
kept = ("name", "capabilities", "ids", "executed")
probes = {name: probes[name] for name in kept} | {"gained": ",".join(sorted(gained))}
print("still here", flush=True)
""",
    stdout=("still here",),
    probes={**NOTHING_GAINED, "gained": "kill"},  # and the kernel drops it
    seconds=20,
    hardened={"probes": NOTHING_GAINED},
    because="in gVisor the agent has another uid; elsewhere the kernel drops what the first process does not want",
)
for what, semaphores in (
    ("that is woken by no call there is", "struct.pack('<III', 0, 1, 0x7F)"),
    ("that waits where it is to wake", "struct.pack('<III', 0, 1, 129)"),
    ("that is full", "struct.pack('<III', 2**31 - 1, 1, 128)"),
    ("of noise", "os.urandom(32)"),
):
    attack(
        THEME,
        f"share a semaphore with it {what}",
        f"""
import struct
pages = [line.split("-", 1) for line in open("/proc/self/maps") if " rw-s " in line]
pages = [int(start, 16) for start, end in pages if int(end.split()[0], 16) - int(start, 16) == 4096]
shared = ({semaphores}).ljust(64, b"\\0") + struct.pack("<III", 1, 0, 128)  # its own, and the token that it takes
for page in pages: ctypes.memmove(page, shared, len(shared))
print(len(pages), "page", flush=True)
# Its own thread waits for that semaphore, too; an interpreter that it becomes has none.
end = "import os, time; time.sleep(0.5); open('/output/kept', 'w').write('kept'); print('still here'); os.sys.exit(7)"
os.execv(sys.executable, [sys.executable, "-c", end])
""",
        **ended("nonzero_exit", exit_code=7),
        kept={"kept": 4},
        stdout=("1 page", "still here"),
    )
