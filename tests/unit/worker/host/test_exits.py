"""Exit codes from the kernel, of processes that are not ours to wait for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from worker.host.exits import ExitWatch, unreaped_code

# The middle process reaps its child a moment after the child ended; we only hold the child's pidfd.
MIDDLE = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {child!r}], stdin=sys.stdin)
print(child.pid, flush=True)
child.wait()
"""
# The same, upon a signal only.
NEGLIGENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {child!r}], stdin=subprocess.DEVNULL)
print(child.pid, flush=True)
sys.stdin.readline()
child.wait()
print("reaped", flush=True)
sys.stdin.read()
"""
WAITS = "import sys; sys.stdin.read(); {end}"


def kernel_keeps_exit_codes() -> bool:
    major, minor = (int(part) for part in os.uname().release.split(".")[:2])
    return (major, minor) >= (6, 15)


def grandchild(end: str) -> tuple[subprocess.Popen[bytes], int]:
    middle = subprocess.Popen(
        [sys.executable, "-c", MIDDLE.format(child=WAITS.format(end=end))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert middle.stdout is not None
    return middle, int(middle.stdout.readline())


def own_cgroup(pid: int) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text().splitlines()[0].split(":")[-1]


@pytest.mark.parametrize(
    ("end", "code"), [("sys.exit(7)", 7), ("pass", 0), ("import os; os.kill(os.getpid(), 9)", None)]
)
def test_the_exit_code_of_a_grandchild(end: str, code: int | None) -> None:
    middle, pid = grandchild(end)
    watch = ExitWatch.open(pid, own_cgroup(pid))
    if watch is None:
        assert not kernel_keeps_exit_codes()
    else:
        assert watch.wait(0) is None  # it still runs
    middle.communicate(timeout=20)
    if watch is not None:
        assert watch.wait(20) == code
        watch.close()
        watch.close()


@pytest.mark.parametrize(
    ("end", "code"), [("sys.exit(7)", 7), ("pass", 0), ("import os; os.kill(os.getpid(), 9)", 137)]
)
def test_exit_code_of_an_unreaped_process_is_read(end: str, code: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", NEGLIGENT.format(child=WAITS.format(end=end))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        pidfd = os.pidfd_open(pid)
        assert unreaped_code(pid, pidfd, 20) == code
        parent.stdin.write(b"\n")
        parent.stdin.flush()
        assert parent.stdout.readline() == b"reaped\n"
        assert unreaped_code(pid, pidfd, 20) is None
        assert unreaped_code(os.getpid(), pidfd, 20) is None  # the pid is another's by now
        os.close(pidfd)
    pidfd = os.pidfd_open(os.getpid())
    assert unreaped_code(os.getpid(), pidfd, 0) is None  # it still runs
    os.close(pidfd)


def test_another_containers_process_is_not_watched() -> None:
    assert ExitWatch.open(os.getpid(), "of-another-container") is None


def test_ended_process_is_not_watched() -> None:
    middle, pid = grandchild("pass")
    middle.communicate(timeout=20)
    assert ExitWatch.open(pid, "") is None
