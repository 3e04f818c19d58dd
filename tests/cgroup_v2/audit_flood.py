"""Measures floods of denied calls on hosts that keep audit records (``audit_enabled`` 1); prints a line of JSON each.

Run in the virtual machine alone: the switch is one for the whole host, and once it was on, every later process has an
audit context until the host is restarted.
"""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.harness import Stack, eventually

FLOOD_SECONDS = 120  # of time and CPU; a flood without lost records is ended long before
LOGS = Path("/var/log/audit")
FLOOD = """
import os
while True:
    try:
        os.memfd_create("x")
    except OSError:
        pass
"""
NEIGHBOUR = """
import os, time
plain, denied = [], []
end = time.monotonic() + 15
while time.monotonic() < end:
    began = time.monotonic()
    os.stat("/")
    between = time.monotonic()
    try:
        os.memfd_create("x")
    except OSError:
        pass
    plain.append(between - began)
    denied.append(time.monotonic() - between)
    time.sleep(0.02)
for found in (plain, denied):
    found.sort()
    print(found[len(found) // 2], found[-1])
"""
# Settings of an operator: the switch, options of auditctl, a daemon, and whether the daemon reads.
HOSTS: dict[str, tuple[int, list[str], str]] = {
    "on, auditd stopped, no wait": (1, ["-b", "8192", "--backlog_wait_time", "0"], "stopped"),
    "on, auditd stopped": (1, ["-b", "8192", "--backlog_wait_time", "2500"], "stopped"),
    "on, auditd, 20 records a second": (1, ["-b", "8192", "-r", "20"], "reads"),
    "on, auditd": (1, ["-b", "8192"], "reads"),
}
DEFAULTS = ["-D"], ["-r", "0"], ["-b", "64"], ["--backlog_wait_time", "15000"]


def auditctl(*words: str) -> str:
    """The output of auditctl. Raises ``CalledProcessError``."""
    return subprocess.run(["auditctl", *words], check=True, capture_output=True, text=True).stdout


def status() -> dict[str, int]:
    """The kernel's own figures: ``lost`` records, the ``backlog`` of records."""
    rows = (line.split() for line in auditctl("-s").splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


@contextmanager
def host(enabled: int, options: list[str], daemon: str) -> Iterator[None]:
    """An audited host, restored afterwards."""
    process = None
    for words in DEFAULTS:
        auditctl(*words)
    if daemon:
        process = subprocess.Popen(["auditd", "-n", "-s", "nochange"], stdin=subprocess.DEVNULL)
        pid = process.pid
        eventually(lambda: status()["pid"] == pid, "auditd is registered")
    auditctl("-e", str(enabled))
    if options[:2]:
        auditctl(*options[:2])
    if options[2:]:
        auditctl(*options[2:])
    if process is not None and daemon == "stopped":
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        auditctl("-e", "0")
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(60)
        for words in DEFAULTS:
            auditctl(*words)


def logged_bytes() -> int:
    """The bytes in the daemon's logs."""
    return sum(path.stat().st_size for path in LOGS.glob("audit.log*"))


def begun(stack: Stack, code: str, seconds: float) -> str:
    """The id of an execution that runs."""
    limits = {"wall_seconds": seconds, "cpu_seconds": seconds}
    id = str(stack.submit(environment="python", code=code, limits=limits).json()["id"])
    eventually(lambda: stack.show(id)["state"] not in ("queued", "starting"), "the execution runs", 60)
    return id


def ended(stack: Stack, id: str) -> dict[str, Any]:
    """The execution, once it has ended."""
    return eventually(lambda: (found := stack.show(id, wait=30))["finished_at"] and found, "the execution ends", 120)


def flooded(stack: Stack) -> dict[str, Any]:
    """Run a flood beside a neighbour that makes a denied call itself every 20 ms."""
    neighbour = begun(stack, NEIGHBOUR, 120)
    before, bytes_before = status(), logged_bytes()
    flood = ended(stack, begun(stack, FLOOD, FLOOD_SECONDS))
    after = status()
    beside = ended(stack, neighbour)
    plain, denied = (list(map(float, line.split())) for line in beside["stdout"].splitlines())
    events = stack.security(flood["id"])
    return {
        "reason": flood["reason"],
        "seconds": round(flood["usage"]["wall_seconds"], 2),
        "denials": max(event["count"] for event in events if event["kind"] == "seccomp_violation"),
        "lost": after["lost"] - before["lost"],
        "backlog": after["backlog"],
        "log_bytes": logged_bytes() - bytes_before,
        "neighbour": beside["state"],
        "plain_us": [round(1e6 * value, 1) for value in plain],
        "denied_us": [round(1e6 * value, 1) for value in denied],
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        stack = Stack(
            Path(directory), driver="oci", standard_runtime="crun", hardened_runtime="none", slots=2, lease_seconds=120
        )
        try:
            stack.start()
            for name, (enabled, options, daemon) in HOSTS.items():
                with host(enabled, options, daemon):
                    print(json.dumps({"host": name, **flooded(stack)}), flush=True)
        finally:
            stack.stop()


if __name__ == "__main__":
    main()
