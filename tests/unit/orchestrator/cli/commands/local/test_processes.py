"""Pid files: the process that was started is found and ended, and never another."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from orchestrator.cli.commands.local.mounts import mount_points
from orchestrator.cli.commands.local.processes import Process, start_time
from orchestrator.settings import inherited_environment
from tests.harness import eventually

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)",
]


def test_started_found_and_stopped(tmp_path: Path) -> None:
    process = Process("nap", tmp_path)
    assert process.pid() is None
    pid = process.start(SLEEP, inherited_environment(), tmp_path)
    try:
        assert Process("nap", tmp_path).pid() == pid
        assert os.getsid(pid) == pid
    finally:
        assert Process("nap", tmp_path).stop(10) == "stopped"
    assert start_time(pid) is None
    assert process.pid() is None
    assert not process.pid_file.exists()
    assert process.stop(1) is None
    os.waitpid(pid, 0)


def test_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    process = Process("deaf", tmp_path)
    pid = process.start(STUBBORN, inherited_environment(), tmp_path)
    eventually(lambda: "deaf" in process.last_words(), "the process ignores SIGTERM")
    assert (process.stop(0.2) or "").startswith("killed")
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL


def test_zombie_is_not_reported_as_running(tmp_path: Path) -> None:
    process = Process("short", tmp_path)
    pid = process.start([sys.executable, "-c", "print('last words')"], inherited_environment(), tmp_path)
    eventually(lambda: process.pid() is None, "the process ends")  # though it is not reaped yet
    assert process.last_words() == "last words"
    os.waitpid(pid, 0)


def test_a_recycled_pid_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen(SLEEP) as bystander:
        process = Process("old", tmp_path)
        started = start_time(bystander.pid)
        assert started is not None
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        for identity in (
            {"pid": bystander.pid, "started": started - 1, "boot": boot},
            {"pid": bystander.pid, "started": started, "boot": "another boot"},
        ):
            process.pid_file.write_text(json.dumps(identity))
            assert process.pid() is None
            assert process.stop(1) is None
        assert bystander.poll() is None
        bystander.terminate()


def test_a_torn_pid_file_is_no_process(tmp_path: Path) -> None:
    process = Process("torn", tmp_path)
    for content in ("", "{", "17", '{"pid": 1}'):
        process.pid_file.write_text(content)
        assert process.pid() is None


def test_mount_points_are_read_from_the_kernel() -> None:
    points = mount_points()
    assert {"/", "/proc"} <= set(points)
    assert len(points) == len(Path("/proc/self/mounts").read_text().splitlines())
