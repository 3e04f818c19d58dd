"""Programs that come with variables which interpreters, the loader and libc obey.

A submission chooses its program's variables. They are to reach that program, its compiler and what the two start, and
neither the agent, which is an interpreter and forks theirs, nor what it does after them.
``tests/e2e/programs/test_variables.py`` has what a program itself makes of each.
"""

from __future__ import annotations

import struct

from tests.hostile.cases import LIMITS, attack, ended
from tests.hostile.tripwires import DENIED

THEME = "variables"
OWN = ("agent", "artifacts", "channel", "ending", "execution", "fresh", "identity", "interpreter", "live_output")
# And what the agent imports when its program has ended.
LATE = ("main_program", "program", "working_directory", "fnmatch", "posixpath")
LIE = "open('/output/lied', 'a').write(__name__ + ' ')"
KEEP = "open('/output/kept', 'w').write('kept')\n"
ALL = {
    "GCONV_PATH": "/work",
    "GLIBC_TUNABLES": "glibc.malloc.check=3:glibc.malloc.arena_max=1:glibc.nothing=1",
    "IFS": "/",
    "LANG": "../../work",
    "LC_ALL": "en_US.ISO-8859-1",
    "LD_AUDIT": "/work/none.so",
    "LD_BIND_NOW": "1",
    "LD_LIBRARY_PATH": "/work",
    "LD_PRELOAD": "/work/none.so:/proc/self/mem",
    "LD_PROFILE": "libc.so.6",
    "LD_PROFILE_OUTPUT": "/work",
    "LOCPATH": "/work",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_PERTURB_": "7",
    "NLSPATH": "/work/%N",
    "PATH": "/work",
    "TMPDIR": "/proc/1",
    "TZ": ":/proc/self/mem",
    "TZDIR": "/proc/1/root",
}


def library(code: bytes) -> bytes:
    """A shared library that runs ``code`` when it is loaded: one segment, which may do all."""
    segment, dynamic, head = struct.Struct("<IIQQQQQQ"), struct.Struct("<qQ"), 64 + 2 * 56
    entries = 6
    at_code = head + entries * dynamic.size + 24 + 8
    tables = head + entries * dynamic.size  # an empty symbol, then the names
    rows = [(12, at_code), (5, tables + 24), (6, tables), (10, 8), (11, 24), (0, 0)]
    size = at_code + len(code)
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 3, 62, 1, 0, 64, 0, 0, 64, segment.size, 2, 64, 0, 0)
    segments = segment.pack(1, 7, 0, 0, 0, size, size, 4096) + segment.pack(
        2, 6, head, head, head, entries * dynamic.size, entries * dynamic.size, 8
    )
    return header + segments + b"".join(dynamic.pack(*row) for row in rows) + bytes(32) + code


def by_path(before: str, path: bytes, after: str) -> bytes:
    """Machine code in hex that has rdi point at a path, which stands behind all."""
    rest = bytes.fromhex(after)
    return bytes.fromhex(before + "488d3d") + struct.pack("<i", len(rest)) + rest + path + b"\0"


# xor esi, esi; mov eax, 83 (mkdir); syscall; ret
SHUT = library(by_path("", b"/work/shut", "31f6b8530000000f05c3"))
# mov eax, 62 (kill); mov rdi, -1; mov esi, 9; syscall; ret
KILLS = library(bytes.fromhex("b83e00000048c7c7ffffffffbe090000000f05c3"))


# mov eax, 1 (write); mov edi, 1; lea rsi, itself; mov edx, 256; syscall; all over again
PRINTS = library(bytes.fromhex("b801000000bf01000000488d35efffffffba000100000f05ebe6"))


def nest() -> bytes:
    """mkdir("d"), chdir("d") three thousand times, then chdir("/work")."""
    name, work = b"d\0", b"/work\0"
    loop = bytes.fromhex("488d3d00000000bec0010000b8530000000f05488d3d00000000b8500000000f05ffcb")
    begin = bytes.fromhex("53bbb80b0000")
    back = bytes.fromhex("75") + struct.pack("b", -(len(loop) + 2))
    end = bytes.fromhex("488d3d00000000b8500000000f055bc3")
    code = bytearray(begin + loop + back + end)
    at = len(code)  # of the name; the path follows
    for place, target in ((len(begin), at), (len(begin) + 19, at), (len(begin + loop + back), at + len(name))):
        code[place + 3 : place + 7] = struct.pack("<i", target - (place + 7))
    return bytes(code) + name + work


attack(
    THEME,
    "modules that are called like the agent's",
    KEEP + "sys.exit(7)",
    files={f"lies/{name}.py": LIE for name in (*OWN, *LATE)},
    env={"PYTHONPATH": "/work/lies", "PYTHONSTARTUP": "/work/lies/agent.py"},
    **ended("nonzero_exit", exit_code=7),
    artifacts=("kept", "lied"),
    kept={"kept": 4},
    aims_at="result",
)

attack(
    THEME,
    "all of Python's",
    KEEP + "print(__debug__, flush=True)\nsys.exit(7)",
    env={
        **ALL,
        "PYTHONBREAKPOINT": "os.abort",
        "PYTHONDEVMODE": "1",
        "PYTHONMALLOC": "debug",
        "PYTHONOPTIMIZE": "2",
        "PYTHONPATH": "/proc/1/root:/work",
        "PYTHONPYCACHEPREFIX": "/tmp/cache",
        "PYTHONSAFEPATH": "1",
        "PYTHONTRACEMALLOC": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "0",
        "PYTHONWARNINGS": "error",
    },
    limits=LIMITS,
    **ended("nonzero_exit", exit_code=7),
    stdout=("False",),
    artifacts=("kept",),
    kept={"kept": 4},
    aims_at="result",
)

attack(
    THEME,
    "no interpreter where it is looked for",
    "print('never')",
    env={"PYTHONHOME": "/inputs", "PYTHONPLATLIBDIR": "none"},
    **ended("nonzero_exit", exit_code=1),
    absent=("never",),
)

attack(
    THEME,
    "a C library of its own",
    "print('never')",
    files={"libc.so.6": "not even a library"},
    env={"LD_LIBRARY_PATH": "/work"},
    **ended("nonzero_exit", exit_code=127),
    absent=("never",),
)

attack(
    THEME,
    "a library that kills all, loaded before any other",
    KEEP + "print('still here')",
    files={"kills.so": KILLS},
    env={"LD_PRELOAD": "/work/kills.so", "LD_AUDIT": "/work/kills.so"},
    stdout=("still here",),
    artifacts=("kept",),
    kept={"kept": 4},
)

for title, code, left in (
    ("shuts a directory", SHUT, {"shut": "unreadable"}),
    ("nests them without end", library(nest()), {}),
):
    attack(
        THEME,
        f"a library in the compiler that {title}",
        '#include <stdio.h>\nint main(void) { puts("ran"); return 0; }',
        environment="c",
        files={"in.so": code},
        env={"LD_PRELOAD": "/work/in.so"},
        stdout=("ran",),
        rejected=left,
        events="artifact_rejected",
        aims_at="result",
    )

attack(
    THEME,
    "a library in the compiler that prints without end",
    "int main(void) { return 0; }",
    environment="c",
    files={"in.so": PRINTS},
    env={"LD_PRELOAD": "/work/in.so"},
    **ended("output_exceeded", "output_limit"),
    limits={**LIMITS, "output_bytes": 2**16},
)

attack(
    THEME,
    "all of a compiler's",
    '#include "lies.h"\n#include <stdio.h>\nint main(void) { puts(WORD); return 7; }',
    environment="c",
    files={"lies/lies.h": '#define WORD "ran"'},
    env={**ALL, "CPATH": "/work/lies", "C_INCLUDE_PATH": "/proc/1/fd", "LIBRARY_PATH": "/work", "TCC_OPTIONS": "-run"},
    **ended("nonzero_exit", exit_code=7),
    stdout=("ran",),
)

attack(
    THEME,
    "all of the shell's",
    'echo "here is $0"\nprintf kept > /output/kept\nexit 7',
    environment="bash",
    files={"first.sh": "kill -9 -1; kill -9 1; exec 9>/proc/1/fd/1; echo first"},
    env={
        **{name: value for name, value in ALL.items() if name != "PATH"},
        "BASHOPTS": "extdebug:expand_aliases",
        "BASH_ENV": "/work/first.sh",
        "CDPATH": "/proc/1",
        "ENV": "/work/first.sh",
        "PS4": "$(echo traced >> /output/trace)",
        "SHELLOPTS": "xtrace:verbose",
    },
    **ended("nonzero_exit", exit_code=7),
    stdout=("first", "here is /work/main.sh"),
    artifacts=("kept",),
    kept={"kept": 4},
)

attack(
    THEME,
    "all of Node.js's",
    "require('fs').writeFileSync('/output/kept', 'kept');\nconsole.log(globalThis.hooked);\nprocess.exitCode = 7;",
    environment="node",
    files={"hook.js": "globalThis.hooked = 'hooked'; try { process.kill(-1, 'SIGKILL') } catch {}"},
    env={
        **ALL,
        "NODE_EXTRA_CA_CERTS": "/proc/1/mem",
        "NODE_OPTIONS": "--require /work/hook.js",
        "NODE_PATH": "/proc/1/cwd",
        "NODE_V8_COVERAGE": "/tmp/coverage",
        "OPENSSL_CONF": "/work/hook.js",
        "UV_THREADPOOL_SIZE": "9",
    },
    **ended("nonzero_exit", exit_code=7),
    stdout=("hooked",),
    artifacts=("kept",),
    kept={"kept": 4},
)

attack(
    THEME,
    "a debugger's port",
    "console.log('ran')",
    environment="node",
    env={"NODE_OPTIONS": "--inspect=0.0.0.0:9229"},
    stdout=("ran",),
    **{**DENIED, "events": "network_attempt"},
    hardened={"events": ""},
    because="gVisor gives a socket that nothing outside the sandbox can reach",
)

MANY = {f"V{number}": "\U0001f600" * 4096 for number in range(256)}  # 4 MB, twice what a command may bring

attack(
    THEME,
    "more than a command may bring",
    "echo never",
    environment="bash",
    env=MANY,
    **ended("nonzero_exit", exit_code=127),
    absent=("never",),
)

attack(
    THEME,
    "more than a command may bring, to a fork",
    "print(len(os.environ) >= 256)\nattempt('child', lambda: os.execv('/bin/true', ['true']))",
    env=MANY,
    limits=LIMITS,
    stdout=("True",),
    probes={"child": ("E2BIG", "ENAMETOOLONG")},
)
