"""Restarts the processes of `mayfly up` that end.

Theory of operation. The supervisor watches each process by a pidfd, which becomes readable when the process ends. It
starts a process again under the installation's lock, which ``up`` and ``down`` have while they work; under the lock it
looks at the pid file again, so a process that another command has started meanwhile is left alone. ``down`` ends the
supervisor first. A process that keeps ending is restarted after growing pauses, and at last given up
(:mod:`.restarts`); so is one whose exit code says that a restart is useless. The next ``up`` begins anew.

The supervisor needs no cleanup at its own end: the processes continue, and ``up`` starts another supervisor.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import structlog

from orchestrator.cli.commands.local.embedded.restarts import USUAL, Patience, Row
from orchestrator.cli.commands.local.processes import Process
from orchestrator.cli.console import CommandFailed
from orchestrator.errors import MayflyError
from orchestrator.host.supervision import Supervised, write_report

log = structlog.get_logger()


class Service(NamedTuple):
    """A process, and the call that starts it and returns lines about that.

    The call raises :class:`CommandFailed`, :class:`MayflyError` or ``OSError``.
    """

    process: Process
    start: Callable[[], list[str]]


class Supervisor:
    """Watches the processes of one installation."""

    def __init__(
        self,
        directory: Path,
        services: Mapping[str, Service],
        locked: Callable[[], AbstractContextManager[None]],
        patience: Patience = USUAL,
    ) -> None:
        """``locked`` locks the installation; the report goes to ``directory``."""
        self._directory = directory
        self._locked = locked
        self._watched = {name: _Watched(name, service, patience) for name, service in services.items()}
        self._report()

    def run(self) -> None:
        """Watch, until a signal ends this process."""
        while True:
            self.step(None)

    def step(self, most_seconds: float | None) -> None:
        """Wait for an end or for the time of a restart, at most ``most_seconds``; handle all that there are."""
        for watched in self._watched.values():
            watched.open()
        handles = {one.handle: one for one in self._watched.values() if one.handle is not None}
        now = time.monotonic()
        pauses = [max(0.0, one.due - now) for one in self._watched.values() if one.due is not None]
        waits = [*pauses, *([] if most_seconds is None else [most_seconds])]
        for handle in select.select(list(handles), [], [], min(waits, default=None))[0]:
            handles[handle].note_end()
            self._report()
        for watched in self._watched.values():
            if watched.due is not None and watched.due <= time.monotonic():
                watched.restart(self._locked)
                self._report()

    def _report(self) -> None:
        with suppress(OSError):  # a full disk must not end the supervisor
            write_report(self._directory, [one.report for one in self._watched.values()])


class _Watched:
    """One process: ``handle`` while it runs, ``due`` (monotonic) while it waits for its restart, neither once it is
    given up.
    """

    def __init__(self, name: str, service: Service, patience: Patience) -> None:
        self._service, self._row = service, Row(patience)
        self._since = time.monotonic()
        self.handle: int | None = None
        self.due: float | None = None
        self.report = Supervised(name=name, state="running")

    def open(self) -> None:
        """Open the pidfd of a process that has none."""
        if self.handle is not None or self.report.state != "running":
            return
        pid = self._service.process.pid()
        with suppress(ProcessLookupError):
            self.handle = None if pid is None else os.pidfd_open(pid)
        if self.handle is None or self._service.process.pid() != pid:
            self.note_end()

    def note_end(self) -> None:
        """Decide about the restart of a process that has ended."""
        status = None if self.handle is None else _status(self.handle)
        if self.handle is not None:
            os.close(self.handle)
            self.handle = None
        self._postpone(_how(status), is_useless=status == os.EX_CONFIG)

    def restart(self, locked: Callable[[], AbstractContextManager[None]]) -> None:
        """Start the process, unless another command has started it."""
        restarts = self.report.restarts
        try:
            with locked():
                if self._service.process.pid() is None:
                    self._service.start()
                    restarts += 1
        except (CommandFailed, MayflyError, OSError) as error:
            self._since = time.monotonic()
            return self._postpone(f"not started: {error}", is_useless=False)
        self._since, self.due = time.monotonic(), None
        self.report = self.report.model_copy(update={"state": "running", "restarts": restarts})
        log.info("supervisor.restarted", process=self.report.name, pid=self._service.process.pid())
        return None

    def _postpone(self, reason: str, *, is_useless: bool) -> None:
        pause = None if is_useless else self._row.pause(time.monotonic() - self._since)
        self.due = None if pause is None else time.monotonic() + pause
        state = "given up" if pause is None else "waiting"
        changes = {"state": state, "reason": reason, "ended_at": datetime.now(UTC)}
        self.report = self.report.model_copy(update=changes)
        if pause is None:
            log.error("supervisor.gave_up", process=self.report.name, reason=reason, restarts=self.report.restarts)
        else:
            log.warning("supervisor.ended", process=self.report.name, reason=reason, pause_seconds=pause)


def _status(handle: int) -> int | None:
    """The exit code of an ended child, negative for a signal; ``None`` for a process that is no child."""
    try:
        ended = os.waitid(os.P_PIDFD, handle, os.WEXITED)
    except ChildProcessError:
        return None
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def _how(status: int | None) -> str:
    if status is None:
        return "ended"
    if status >= 0:
        return f"ended with exit code {status}"
    return f"ended by signal {-status} ({signal.Signals(-status).name})"
