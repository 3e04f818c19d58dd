"""Programs with artifacts other than plain files with plain names."""

from __future__ import annotations

from tests.hostile.cases import LIMITS, MIB, attack, ended

THEME = "artifacts"
REJECTED = {"events": "artifact_rejected"}

attack(
    THEME,
    "symbolic links",
    """
os.chdir("/output")
open("real", "w").write("real")
os.symlink("/etc/passwd", "passwd"), os.symlink("/proc/1/environ", "environ"), os.symlink("/", "root")
os.symlink("nowhere", "dangling"), os.symlink("loop", "loop"), os.symlink("../inputs/main.py", "program")
os.symlink("real", "inside"), os.symlink("/proc/self/fd/0", "descriptor")
""",
    kept={"real": 4},
    rejected=dict.fromkeys(
        ("passwd", "environ", "root", "dangling", "loop", "program", "inside", "descriptor"), "symlink"
    ),
    **REJECTED,
    aims_at="accounts",
)
attack(
    THEME,
    "hard links",
    """
os.chdir("/output")
open("one", "w").write("same")
for number in range(20): os.link("one", f"link{number:02}")
for name, target in {"input": "/inputs/main.py", "image": "/etc/hostname", "tmp": "/tmp/x"}.items():
    open("/tmp/x", "w").close()
    attempt(name, lambda: os.link(target, name))
""",
    kept={"one": 4, **{f"link{number:02}": 4 for number in range(20)}},
    probes=dict.fromkeys(("input", "image", "tmp"), ("EXDEV", "EPERM", "EROFS")),
)
attack(
    THEME,
    "pipes, sockets and devices",
    """
import socket, stat
os.chdir("/output")
os.mkfifo("pipe")
socket.socket(socket.AF_UNIX).bind("socket")
attempt("device", lambda: os.mknod("device", stat.S_IFCHR | 0o666, os.makedev(1, 3)))
open("file", "w").write("x")
""",
    kept={"file": 1},
    rejected={"pipe": "fifo", "socket": "socket"},
    probes={"device": "EPERM"},
    **REJECTED,
    hardened={"probes": {"device": "done"}, "rejected": {"pipe": "fifo", "socket": "socket", "device": "device"}},
    because="gVisor makes device files for anyone, on file systems that do not open them",
)
attack(
    THEME,
    "sparse files",
    """
for number in range(8):
    with open(f"/output/{number}", "wb") as file: file.truncate(33 * 2**20)
""",
    rejected={str(number): "too_large" for number in range(1, 8)},
    **REJECTED,
    aims_at="state",
    seconds=40,
)
attack(
    THEME,
    "nested deep",
    """
os.chdir("/output")
for number in range(300):
    os.mkdir("d"), os.chdir("d")
    if number in (5, 299): open("file", "w").write("x")
""",
    kept={"d/" * 6 + "file": 1},
    rejected={"/".join("d" * 32): "too_deep"},
    **REJECTED,
)
attack(
    THEME,
    "bad names",
    r"""
os.chdir("/output")
for name in (b"line\nbreak", b"escape\x1b[31m", b"bell\a", b"not utf-8 \xff\xfe",
             b"null\xc0\x80", b"c1\xc2\x9b31m", b"tab\t"):
    open(name, "w").write("x")
os.mkdir(b"in\nside"), open(b"in\nside/file", "w").write("x")
open("good", "w").write("x")
""",
    kept={"good": 1},
    rejected={r"line\nbreak": "bad_name", r"escape\x1b[31m": "bad_name"},
    **REJECTED,
    aims_at="log",
)
attack(
    THEME,
    "names that mean something elsewhere",
    r"""
os.chdir("/output")
for name in ("...", "-rf", "--help", "back\\slash", "%2e%2e", "a b", "<script>alert(1)</script>", "CON", "nul.txt",
             "~root", "$(id)", "`id`", "quote'\"", ";rm", "*", "?", "[x]", "ünïcödé", ".hidden", "http:", "a" * 200,
             "\u202egpj.exe", "#", "&"):
    if "/" in name: name = name.replace("/", "_")
    open(name, "w").write("x")
""",
    maybe="artifact_rejected",
)
attack(
    THEME,
    "names that are too long",
    """
os.chdir("/output")
open("x" * 255, "w").write("x")
for _ in range(5):
    os.mkdir("y" * 250), os.chdir("y" * 250)
open("z", "w").write("x")
""",
    kept={"x" * 255: 1},
    **REJECTED,
)
attack(
    THEME,
    "thousands of files",
    "for number in range(6000): open(f'/output/{number:04}', 'w').close()",
    limits={**LIMITS, "memory_bytes": 256 * MIB},
    rejected={"1000": "too_many"},
    **REJECTED,
    aims_at="state",
    seconds=40,
)
attack(
    THEME,
    "closed to the collector",
    """
os.chdir("/output")
open("closed", "w").write("x"), os.chmod("closed", 0)
os.mkdir("box"), open("box/file", "w").write("x"), os.chmod("box", 0)
open("open", "w").write("x")
""",
    kept={"open": 1},
    rejected={"closed": "unreadable", "box": "unreadable"},
    **REJECTED,
)
attack(
    THEME,
    "changing while they are collected",
    """
for _ in range(4):
    if os.fork() == 0:
        os.setsid()
        for number in range(1, 65):
            try: signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError): pass
        while True:
            try:
                with open("/output/moving", "w") as file: file.write("x" * 10000)
                os.truncate("/output/moving", 5), os.unlink("/output/moving")
                os.symlink("/etc/passwd", "/output/moving")
                os.unlink("/output/moving")
            except OSError: pass
open("/output/still", "w").write("still")
time.sleep(0.3)
os._exit(0)
""",
    absent=("root:",),
    maybe="artifact_rejected",
    stdout=(),
)
attack(
    THEME,
    "a directory that is swapped for a link",
    """
os.makedirs("/output/a/b"), open("/output/a/b/file", "w").write("x")
if os.fork() == 0:
    os.setsid()
    while True:
        try:
            os.rename("/output/a", "/tmp/a")
        except OSError: pass
        try:
            os.rename("/output/a", "/output/c"), os.symlink("/etc", "/output/a")
            os.unlink("/output/a"), os.rename("/output/c", "/output/a")
        except OSError: pass
time.sleep(0.2)
os._exit(0)
""",
    maybe="artifact_rejected",
)
attack(
    THEME,
    "poisoned after the end",
    """
open("/output/result", "w").write("true")
if os.fork() == 0:
    os.setsid()
    held = open("/output/result", "r+")
    while os.getppid() != 1: time.sleep(0.001)
    while True:
        held.seek(0), held.write("fake"), held.flush()
os._exit(3)
""",
    **ended("nonzero_exit", exit_code=3),
    kept={"result": 4},
    aims_at="result",
)
attack(
    THEME,
    "patterns that never end",
    """
for number in range(300): open("/output/" + "a" * 240 + str(number), "w").close()
""",
    artifacts=(*("*a" * 13 + "b" * 900 + f"{number}/**" for number in range(32)), "*a" * 16 + "b"),
    kept={},
    seconds=20,
)
attack(
    THEME,
    "the output directory itself",
    """
attempt("remove", lambda: os.rmdir("/output"))
attempt("rename", lambda: os.rename("/output", "/tmp/o"))
attempt("replace", lambda: os.symlink("/etc", "/output"))
open("/output/kept", "w").write("kept")
""",
    probes={
        "remove": ("EBUSY", "EROFS", "EACCES"),
        "rename": ("EBUSY", "EROFS", "EXDEV", "EACCES"),
        "replace": ("EEXIST", "EROFS", "EACCES"),
    },
    kept={"kept": 4},
)
attack(
    THEME,
    "readable and not to be searched",
    """
os.makedirs("/output/box"), open("/output/box/file", "w").write("x"), open("/output/open", "w").write("x")
os.makedirs("/work/crate"), open("/work/crate/file", "w").write("x"), open("/work/left", "w").write("x")
os.chmod("/output/box", 0o400), os.chmod("/work/crate", 0o400)
os._exit(5)
""",
    **ended("nonzero_exit", "artifact_rejected", exit_code=5),
    kept={"open": 1, "left": 1},
    rejected={"box": "unreadable", "crate": "unreadable"},
)
attack(
    THEME,
    "the output directory is not to be searched",
    """
open("/output/lost", "w").write("x"), open("/work/left", "w").write("x")
os.chmod("/output", 0o400)
os._exit(5)
""",
    **ended("nonzero_exit", "artifact_rejected", exit_code=5),
    kept={"left": 1},
    rejected={"": "unreadable"},
)
attack(
    THEME,
    "slow patterns on next to no processor",
    """
for number in range(300): open("/output/" + "a" * 240 + str(number), "w").close()
""",
    limits={**LIMITS, "cpu_cores": 0.02, "wall_seconds": 20},
    artifacts=(*("*a" * 13 + "b" * 900 + f"{number}/**" for number in range(32)), "*a" * 16 + "b"),
    kept={},
    seconds=60,
    hardened={"limits": {**LIMITS, "cpu_cores": 0.2, "wall_seconds": 20}},
    because="gVisor itself needs more of a processor than that to make 300 files in this time",
)
