"""Makes backups on a schedule, in a process of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog

from orchestrator.backup.catalogue import entries
from orchestrator.backup.creation.creating import Creator, Made
from orchestrator.backup.creation.retention import Kept
from orchestrator.backup.errors import BackupError
from orchestrator.backup.targets import Target
from orchestrator.errors import MayflyError

LEAST_PAUSE_SECONDS, MOST_PAUSE_SECONDS = 1.0, 300.0  # after a failure
PAUSES = 10  # after failures, within the time between two backups
FAILURES = (BackupError, MayflyError, OSError)
log = structlog.get_logger()


def next_due(last: datetime | None, every: timedelta, now: datetime) -> float:
    """Seconds until the next backup is due; the last usable backup counts, of any process."""
    return 0.0 if last is None else max(0.0, (last + every - now).total_seconds())


class Schedule:
    """A loop until ``stopped`` is set. A failed backup is logged and tried again soon."""

    def __init__(
        self, creator: Creator, target: Target, every: timedelta, kept: Kept, stopped: threading.Event
    ) -> None:
        self._creator, self._target = creator, target
        self._every, self._kept = every, kept
        self._stopped = stopped

    def run(self, made: Callable[[Made], None]) -> None:
        """Make backups; ``made`` is called with each."""
        pause = self._every.total_seconds() / PAUSES
        pause = min(MOST_PAUSE_SECONDS, max(LEAST_PAUSE_SECONDS, pause))
        while True:
            try:
                if self._stopped.wait(next_due(self._last(), self._every, datetime.now(UTC))):
                    return
                made(self._creator.create(self._kept))
            except FAILURES as error:
                log.error("backup.failed", error=type(error).__name__, detail=str(error))
                if self._stopped.wait(pause):
                    return

    def _last(self) -> datetime | None:
        found = entries(self._target, self._creator.keys.public_key, self._target.sizes("backups/"))
        usable = [entry.summary.snapshot_at for entry in found if entry.summary is not None and entry.fault is None]
        return usable[-1] if usable else None
