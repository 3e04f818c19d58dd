"""Programs that call the kernel by the entries of other architectures, which a filter for one would misread.

``entry_probe.c`` has the entries. A filter is inherited by whatever a program starts, so each is tried in every kind of
process that there is. That they exist on a machine, and would be taken without the filter, shows
``test_seccomp.py::test_other_system_call_entries_exist``.
"""

from __future__ import annotations

import struct
from pathlib import Path

from tests.hostile.cases import attack, ended
from tests.hostile.tripwires import KILLED

THEME = "entries"
PROBE = Path(__file__).with_name("entry_probe.c").read_text(encoding="utf-8")
VSYSCALL = Path(__file__).with_name("vsyscall_probe.c").read_text(encoding="utf-8")
KINDS = ("child", "grandchild", "vforked", "thread", "executed", "grandchild of an executed")
INVALID = "signal 4"  # SIGILL: the processor has no such instruction there, which AMD's and Intel's differ in
ENTRIES = {
    **dict.fromkeys(
        (
            *("int 0x80", "int 0x80, another number", "x32", "x32, a number of its own"),
            *("int 0x80 from 32-bit code", "a 32-bit program"),
        ),
        "SIGSYS",
    ),
    **dict.fromkeys(("syscall from 32-bit code", "sysenter from 32-bit code", "sysenter"), ("SIGSYS", INVALID)),
    "an x32 program": ("SIGSYS", "missing"),  # few kernels execute them
}
DENIED = (
    "system call number {}, which is forbidden: it came by the entry for {}, which is closed; the process was killed"
)
EACH_DENIED = tuple(
    DENIED.format(number, entry) for number, entry in ((252, "i386"), (1, "i386"), (231, "x32"), (545, "x32"))
)
BOTH_DENIED = (DENIED.format(20, "i386"), DENIED.format(39, "x32"))  # getpid
OWN_ENTRIES = "gVisor's own kernel answers, or has no such entry; no call reaches the host's kernel by it"
# A thread that ends in 32-bit code has some releases of gVisor end their own sandbox; the first four are tried there.
FEWER = {
    "source": PROBE.replace("(int)(sizeof names / sizeof *names)", "4"),
    "details": (),
    "events": "",
}
# The answers of gVisor differ by release and platform; none may give more than gVisor's kernel gives anyway.
ANYTHING = ("SIGSYS", "missing", "entered", INVALID, "signal 11", "signal 5", "exit 1")

ANSWERED = ("SIGSYS", "SIGSEGV", "SIGILL", "SIGTRAP", "done", "-38", "-14", "-9", *map(str, range(1, 64)))

for kind in KINDS:
    attack(
        THEME,
        kind,
        PROBE,
        environment="c",
        args=(kind,),
        probes=dict(ENTRIES),
        details=EACH_DENIED,
        **KILLED,
        hardened={**FEWER, "probes": dict.fromkeys([*ENTRIES][:4], ANYTHING)},
        because=OWN_ENTRIES,
    )

attack(
    THEME,
    "daemon",
    PROBE,
    environment="c",
    args=("daemon",),
    probes=dict.fromkeys(ENTRIES, "left"),
    details=EACH_DENIED,
    **KILLED,
    hardened={**FEWER, "probes": dict.fromkeys([*ENTRIES][:4], "left")},
    because=OWN_ENTRIES,
)

attack(
    THEME,
    "the page of vsyscalls",  # three calls that tell the time, of which the filter allows each, and nothing else
    VSYSCALL,
    environment="c",
    probes={
        **dict.fromkeys(("gettimeofday", "time", "getcpu"), ("answered", "SIGSEGV")),
        **dict.fromkeys(("between", "beyond"), "SIGSEGV"),
    },
)

MACHINE_CODE = """
import mmap
def enter(code):
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(bytes.fromhex(code))
    return ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
INT80 = "b814000000cd80c3"      # mov eax, 20 (getpid); int 0x80; ret
X32 = "b8270000400f05c3"        # mov eax, 0x40000000 + 39 (getpid); syscall; ret
"""

attack(
    THEME,
    "from a fork of a warm interpreter, and its threads",
    MACHINE_CODE
    + """
import threading
def in_thread(code):
    thread = threading.Thread(target=enter, args=(code,))
    thread.start(), thread.join()
for name, code in (("int 0x80", INT80), ("x32", X32)):
    sacrifice(name, lambda: enter(code))
    sacrifice(f"{name} in a thread", lambda: in_thread(code))
""",
    probes=dict.fromkeys(("int 0x80", "x32", "int 0x80 in a thread", "x32 in a thread"), "SIGSYS"),
    details=BOTH_DENIED,
    **KILLED,
    hardened={
        "probes": dict.fromkeys(("int 0x80", "x32", "int 0x80 in a thread", "x32 in a thread"), ANSWERED),
        "details": (), "events": "",
    },
    because=OWN_ENTRIES,
)  # fmt: skip

attack(
    THEME,
    "the program itself",
    MACHINE_CODE + "print('before', flush=True)\nenter(INT80)\nprint('after')",
    **ended("security_violation", "seccomp_violation", signal="SIGSYS", exit_code=159),
    stdout=("before",),
    absent=("after",),
    details=(DENIED.format(20, "i386"),),
    hardened={
        "state": "succeeded", "reason": None, "signal": None, "exit_code": 0, "events": "", "absent": (), "details": (),
    },
    because=OWN_ENTRIES,
)  # fmt: skip


def elf32(machine: int, code: bytes) -> bytes:
    """A static 32-bit program."""
    at, head = 0x8048000, 52 + 32
    size = head + len(code)
    header = struct.pack("<16sHHIIIIIHHHHHH", b"\x7fELF\1\1\1", 2, machine, 1, at + head, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    return header + struct.pack("<8I", 1, 0, at, at, size, size, 5, 4096) + code


I386 = elf32(3, bytes.fromhex("b8fc000000bb4d000000cd800f0b"))  # exit_group(77), by int 0x80

attack(
    THEME,
    "a 32-bit program that the shell starts",
    'cp /inputs/i386 . && chmod +x i386\n./i386 2>/dev/null; echo "{\\"alone\\": \\"$?\\","\n'
    './i386 2>/dev/null | cat; echo "\\"in a pipe\\": \\"${PIPESTATUS[0]}\\"}"',
    environment="bash",
    files={"i386": I386},
    stdout=('"alone": "159"', '"in a pipe": "159"'),
    details=(DENIED.format(252, "i386"),),
    artifacts=(),
    **KILLED,
    hardened={"stdout": (), "details": (), "events": ""},
    because=OWN_ENTRIES,
)

attack(
    THEME,
    "a 32-bit program that Node.js starts",
    """
const fs = require('fs'), { spawnSync } = require('child_process');
fs.copyFileSync('/inputs/i386', '/work/other'); fs.chmodSync('/work/other', 0o755);
const ran = spawnSync('/work/other');
console.log(JSON.stringify({ ended: String(ran.signal ?? ran.status ?? ran.error.code) }));
""",
    environment="node",
    files={"i386": I386},
    artifacts=(),
    probes={"ended": "SIGSYS"},
    details=(DENIED.format(252, "i386"),),
    **KILLED,
    hardened={
        "probes": {"ended": ("SIGSYS", "77", "127", "ENOEXEC", "SIGSEGV", "SIGILL")},
        "details": (),
        "events": "",
    },
    because=OWN_ENTRIES,
)
