"""Background processes known by a pid file, and the ports that they listen on.

A pid may be reused, so the file also has the start time of that process (field 22 of ``/proc/PID/stat``, in clock ticks
since boot) and the boot it was started in. A process is signalled through a pidfd that was opened before the
comparison, so that no other process can ever be signalled.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from orchestrator.cli.console import CommandFailed
from orchestrator.cli.verdict import MISTAKE

KILL_SECONDS = 10.0
LOG_BYTES = 4096
POLL_SECONDS = 0.1
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Identity(NamedTuple):
    """The unique identity of a process on this machine: pid, start time and boot."""

    pid: int
    started: int
    boot: str


class Process:
    """One background process, recorded in ``pid_file``, with its output in ``log_file``."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.pid_file = directory / f"{name}.pid"
        self.log_file = directory / f"{name}.log"

    def start(
        self, command: Sequence[str], environment: dict[str, str], directory: Path, pass_fds: Sequence[int] = ()
    ) -> int:
        """Start it in a session of its own, detached from this terminal, with the descriptors ``pass_fds``; return its
        pid.
        """
        self.pid_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            child = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment,
                cwd=directory,
                pass_fds=pass_fds,
            )
        started = start_time(child.pid)
        identity = Identity(child.pid, -1 if started is None else started, boot_id())
        child.returncode = 0  # the process continues after this command, which does not wait for it
        partial = self.pid_file.with_suffix(".partial")
        partial.write_text(json.dumps(identity._asdict()) + "\n", encoding="ascii")
        partial.replace(self.pid_file)
        return child.pid

    def pid(self) -> int | None:
        """Its pid while it runs, else ``None``."""
        identity = self._remembered()
        return identity.pid if identity and _is(identity) else None

    def stop(self, grace_seconds: float) -> str | None:
        """End it: SIGTERM, and SIGKILL after ``grace_seconds``. Returns how it ended, ``None`` if it did not run."""
        how = None
        identity = self._remembered()
        if identity is not None:
            how = end(identity.pid, grace_seconds, lambda: _is(identity))
        self.pid_file.unlink(missing_ok=True)
        return how

    def last_words(self) -> str:
        """The end of its log."""
        try:
            with self.log_file.open("rb") as log:
                log.seek(max(0, self.log_file.stat().st_size - LOG_BYTES))
                lines = log.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return "\n".join(lines[-15:])

    def _remembered(self) -> Identity | None:
        try:
            return Identity(**json.loads(self.pid_file.read_text(encoding="ascii")))
        except (FileNotFoundError, ValueError, TypeError):
            return None


def start_time(pid: int) -> int | None:
    """A process's start time in clock ticks since boot; ``None`` if it is gone, or dead and not yet reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat[stat.rindex(")") + 2 :].split()  # the process's name, in parentheses, may have any characters
    return None if fields[0] in ("Z", "X") else int(fields[19])


def _is(identity: Identity) -> bool:
    return identity.boot == boot_id() and start_time(identity.pid) == identity.started


def end(pid: int, grace_seconds: float, is_meant: Callable[[], bool]) -> str | None:
    """End a process: SIGTERM, and SIGKILL after ``grace_seconds``. Returns how it ended, ``None`` without a process.

    ``is_meant`` is called after the pidfd was opened; ``False`` means that the pid now belongs to another process.
    """
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return None
    try:
        if not is_meant():
            return None
        for number, seconds, how in (
            (signal.SIGTERM, grace_seconds, "stopped"),
            (signal.SIGKILL, KILL_SECONDS, f"killed: the process was still running {grace_seconds:g} s after SIGTERM"),
        ):
            signal.pidfd_send_signal(handle, number)
            if select.select([handle], [], [], seconds)[0]:
                return how
    except ProcessLookupError:
        return "stopped"
    finally:
        os.close(handle)
    return "left running: the process survived SIGKILL"


def boot_id() -> str:
    """The id of the machine's current boot."""
    return BOOT_ID.read_text(encoding="ascii").strip()


def until(seconds: float, condition: Callable[[], bool]) -> bool:
    """Wait for a condition; ``False`` after that time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def free_port(host: str, port: int, what: str, variable: str) -> int:
    """The port, or a free port for 0. Raises :class:`CommandFailed` if another program listens on it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CommandFailed(
                f"The {what} cannot listen on {host}:{port}: {error.strerror}.\n"
                f"  End the program that has this port, or choose another: {variable}={port + 1} make up",
                MISTAKE,
            ) from error
        return int(probe.getsockname()[1])
