"""A pause in a program: its process is found on the host, and the test ends it when it has seen what it waits for."""

from __future__ import annotations

import os
import secrets
import signal
from contextlib import suppress
from pathlib import Path

from tests.harness import eventually


class Pause:
    """A minute's sleep in a program of runc or crun, known by its number of seconds."""

    def __init__(self) -> None:
        self._seconds = f"60.{secrets.randbelow(10**9):09}"
        self.code = f"__import__('subprocess').run(['sleep', '{self._seconds}'])"

    def processes(self) -> list[int]:
        """The processes that sleep; none before and after the pause."""
        found = []
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = process.read_bytes().split(b"\0")
            except OSError:  # the process has ended
                continue
            if words[-2:-1] == [self._seconds.encode()]:
                found.append(int(process.parent.name))
        return found

    def begun(self) -> None:
        """Wait until the program has come to it."""
        eventually(self.processes, "the program pauses")

    def end(self) -> None:
        """Continue the program after it has reached its pause."""
        self.begun()
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
