"""Programs, and the end that each of them comes to."""

from __future__ import annotations

from typing import Any

MIB = 2**20
SYSCALL_UNSHARE = 272  # x86-64


PROGRAMS: list[tuple[str, dict[str, Any], str, str | None, str | None, dict[str, Any]]] = [
    ("success", {"code": "print('fine')"}, "succeeded", None, None, {"exit_code": 0, "stdout": "fine\n"}),
    ("exit code", {"code": "import sys; sys.exit(3)"}, "failed", "nonzero_exit", "user", {"exit_code": 3}),
    ("exception", {"code": "1/0"}, "failed", "nonzero_exit", "user", {"exit_code": 1}),
    # An exit code that looks like a signal is an exit code.
    ("exit 137", {"code": "import os; os._exit(137)"}, "failed", "nonzero_exit", "user", {"exit_code": 137}),
    (
        "signal",
        {"code": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"},
        "failed",
        "signalled",
        "user",
        {"exit_code": 139, "signal": "SIGSEGV"},
    ),
    (
        "wall time",
        {"code": "import time\nprint('before', flush=True)\ntime.sleep(30)", "limits": {"wall_seconds": 3}},
        "failed",
        "timed_out",
        "user",
        {"stdout": "before\n"},
    ),
    (
        "wall time, ignoring every signal",
        {
            "code": "import signal, time\nfor n in range(1, 32):\n    try: signal.signal(n, signal.SIG_IGN)\n"
            "    except OSError: pass\nprint('deaf', flush=True)\ntime.sleep(30)",
            "limits": {"wall_seconds": 3},
        },
        "failed",
        "timed_out",
        "user",
        {"stdout": "deaf\n"},
    ),
    (
        "cpu time in two processes",
        {
            "code": "import os\nos.fork()\nwhile True: pass",
            "limits": {"cpu_seconds": 0.5, "cpu_cores": 2, "wall_seconds": 60},
        },
        "failed",
        "cpu_exceeded",
        "user",
        {},
    ),
    (
        "memory",
        {"code": "b = bytearray(200 * 2**20)\nprint('never')", "limits": {"memory_bytes": 96 * MIB}},
        "failed",
        "oom_killed",
        "user",
        {"stdout": ""},
    ),
    (
        "memory in a child",
        {
            "code": "import os, sys\nif os.fork() == 0:\n    b = bytearray(200 * 2**20)\n"
            "_, status = os.wait()\nsys.exit(1 if status else 0)",
            "limits": {"memory_bytes": 96 * MIB},
        },
        "failed",
        "oom_killed",
        "user",
        {"exit_code": 1},
    ),
    (
        "processes",
        {
            "code": "import subprocess, sys\nps = [subprocess.Popen([sys.executable, '-c', 'input()'],"
            " stdin=subprocess.PIPE) for _ in range(40)]",
            "limits": {"processes": 8},
        },
        "failed",
        "pids_exceeded",
        "user",
        {},
    ),
    (
        "disk in many files",
        {
            "code": "for n in range(64): open(f'/work/{n}', 'wb').write(bytes(2**20))",
            "limits": {"disk_bytes": 4 * MIB},
        },
        "failed",
        "disk_exceeded",
        "user",
        {"exit_code": 1},
    ),
    (
        "inodes",
        {"code": "for n in range(10**6): open(f'/tmp/{n}', 'w').close()", "limits": {"cpu_seconds": 30}},
        "failed",
        "disk_exceeded",
        "user",
        {"exit_code": 1},
    ),
    (
        "output",
        {"code": "while True: print('x' * 1000)", "limits": {"output_bytes": 10_000}},
        "failed",
        "output_exceeded",
        "user",
        {"stdout_truncated": True},
    ),
    (
        "forbidden system call",
        {"code": f"import ctypes\nctypes.CDLL(None).syscall({SYSCALL_UNSHARE}, 0)"},
        "failed",
        "security_violation",
        "policy",
        {"exit_code": 159, "signal": "SIGSYS"},
    ),
    (
        "compile error",
        {"environment": "c", "code": "int main(void) { return nonsense; }"},
        "failed",
        "compile_failed",
        "user",
        {},
    ),
    (
        "compiled program",
        {"environment": "c", "code": '#include <stdio.h>\nint main(void) { puts("compiled"); return 0; }'},
        "succeeded",
        None,
        None,
        {"stdout": "compiled\n", "artifacts": []},
    ),
]
