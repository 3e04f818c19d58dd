"""The supervisor: each end is followed by a restart, after a growing pause, up to a bound, and is reported."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pytest

from orchestrator.cli.commands.local.embedded.restarts import Patience, Row
from orchestrator.cli.commands.local.embedded.supervisor import Service, Supervisor
from orchestrator.cli.commands.local.processes import Process
from orchestrator.cli.console import CommandFailed
from orchestrator.host.supervision import Supervised, read_report, remarks
from orchestrator.settings import inherited_environment
from tests.harness import eventually

QUICK = Patience(first_seconds=0.01, longest_seconds=0.02, most_in_a_row=3)
SLEEP = "import time; time.sleep(600)"


class Started:
    """A process that runs ``code``, with what starts it."""

    def __init__(self, directory: Path, code: str = SLEEP) -> None:
        self.process, self.code, self.starts, self.failures = Process("napper", directory), code, 0, 0
        self.pid = -1

    def start(self) -> list[str]:
        if self.failures:
            self.failures -= 1
            raise CommandFailed("no room")
        self.starts += 1
        command = [sys.executable, "-c", self.code]
        self.pid = self.process.start(command, inherited_environment(), self.process.pid_file.parent)
        return []


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    made = Started(tmp_path)
    yield made
    made.process.stop(0)
    # `mayfly up` leaves the child to the system; here it would stay, ended and unreaped, for all tests of this lane.
    if made.pid > 0:
        with suppress(ChildProcessError):  # the supervisor has reaped it
            os.waitpid(made.pid, 0)


def supervise(started: Started, tmp_path: Path, until: str) -> Supervised:
    """Supervise until the report has that state after an end; the report."""
    supervisor = Supervisor(tmp_path, {"napper": Service(started.process, started.start)}, nullcontext, QUICK)

    def reached() -> Supervised | None:
        supervisor.step(0.05)
        (found,) = read_report(tmp_path)
        return found if found.state == until and found.ended_at else None

    return eventually(reached, f"the process is {until}")


def test_killed_process_is_started_again(started: Started, tmp_path: Path) -> None:
    started.start()
    before = started.pid
    os.kill(before, signal.SIGKILL)
    eventually(lambda: started.process.pid() is None, "the process is dead before it is watched")
    found = supervise(started, tmp_path, "running")
    assert (found.restarts, found.reason) == (1, "ended by signal 9 (SIGKILL)")
    assert started.process.pid() not in (None, before)
    assert remarks([found]).startswith("napper running, 1 restart, ended last at 20")


def test_process_that_keeps_ending_is_given_up(started: Started, tmp_path: Path) -> None:
    started.code = "raise SystemExit(3)"
    started.start()
    found = supervise(started, tmp_path, "given up")
    assert (found.restarts, started.starts, found.reason) == (3, 4, "ended with exit code 3")


def test_process_that_refuses_this_host_is_not_restarted(started: Started, tmp_path: Path) -> None:
    started.code = f"raise SystemExit({os.EX_CONFIG})"
    started.start()
    eventually(lambda: started.process.pid() is None, "the process has ended before it is watched")
    found = supervise(started, tmp_path, "given up")
    assert (found.restarts, started.starts) == (0, 1)


def test_failed_start_is_repeated(started: Started, tmp_path: Path) -> None:
    started.failures = 2
    found = supervise(started, tmp_path, "running")
    assert (found.restarts, found.reason) == (1, "not started: no room")


def test_process_that_another_command_has_started_is_left_alone(started: Started, tmp_path: Path) -> None:
    @contextmanager
    def locked() -> Iterator[None]:  # what `up` did before it gave the lock
        if started.process.pid() is None:
            started.start()
        yield

    supervisor = Supervisor(tmp_path, {"napper": Service(started.process, started.start)}, locked, QUICK)

    def watched() -> bool:
        supervisor.step(0.05)
        return read_report(tmp_path)[0].state == "running"

    eventually(watched, "the supervisor watches the other command's process")
    assert (started.starts, read_report(tmp_path)[0].restarts) == (1, 0)


def test_pauses_grow_to_a_bound_and_end() -> None:
    row = Row(Patience(first_seconds=1, longest_seconds=5, most_in_a_row=5, stable_seconds=60))
    assert [row.pause(0) for _ in range(7)] == [1, 2, 4, 5, 5, None, None]
    assert [row.pause(60), row.pause(59)] == [1, 2]


def test_damaged_report_counts_as_none(tmp_path: Path) -> None:
    assert read_report(tmp_path) == ()
    (tmp_path / "supervisor.json").write_bytes(b"[{}")
    assert read_report(tmp_path) == ()
