"""The lease of a backup or a migration, kept by a thread until its end."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from orchestrator.backup.errors import BackupError
from orchestrator.errors import StoreUnavailable
from orchestrator.store.platform.deletions import Deletions

LEASE_SECONDS = 60
RENEWALS = 6  # of a lease within LEASE_SECONDS
LOST = (
    "Redis lost the backup's lease or was unavailable for too long, so files may have been deleted; "
    "begin the backup again."
)


class BackupLease:
    """Pauses deletions until the context ends. If the backup is killed, deletions resume after LEASE_SECONDS.

    ``lost`` is the message for a lost lease: what may have happened meanwhile, and the remedy.
    """

    def __init__(self, deletions: Deletions, backup: str, lost: str = LOST) -> None:
        self._deletions, self._backup, self._lost = deletions, backup, lost
        self._ended = threading.Event()
        self._renewed_at = time.monotonic()
        self._is_lost = False
        self._thread = threading.Thread(target=self._run, name="backup-lease", daemon=True)

    def __enter__(self) -> Self:
        """Raises :class:`BackupError` while another backup is made, and :class:`StoreUnavailable`."""
        if not self._deletions.pause(self._backup, LEASE_SECONDS):
            raise BackupError(
                f"Another backup or a migration is running, or was killed less than {LEASE_SECONDS} s ago."
            )
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        with suppress(StoreUnavailable):  # then the lease expires
            self._deletions.resume(self._backup)

    def check(self) -> None:
        """Renew the lease. Raises :class:`BackupError` if it had ended: then files may have been deleted."""
        self._renew()
        if self._is_lost:
            raise BackupError(self._lost)

    def _renew(self) -> None:
        began = time.monotonic()
        is_mine = self._deletions.renew(self._backup, LEASE_SECONDS)
        self._is_lost |= not is_mine or began - self._renewed_at >= LEASE_SECONDS
        self._renewed_at = began

    def _run(self) -> None:
        while not self._ended.wait(LEASE_SECONDS / RENEWALS):
            with suppress(StoreUnavailable):  # the next renewal measures the outage
                self._renew()
