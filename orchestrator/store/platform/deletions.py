"""The pause of deletions during a backup.

A backup reads Redis first, at one moment, and files afterwards; files that a record of that moment names must still be
there. So while the lease of a backup is valid, no process deletes files. A deletion removes a record first and asks
then: if no backup was being made at that time, the record was removed before any later backup reads Redis.
"""

from __future__ import annotations

from typing import Any

from orchestrator.store import keys, scripts
from orchestrator.store.connection import StoreConnection


class Deletions:
    """The lease of a backup, of which there is one at a time. Thread-safe."""

    def __init__(self, connection: StoreConnection) -> None:
        self._redis: Any = connection
        self._lead = connection.script(scripts.LEAD)
        self._keep = connection.script(scripts.KEEP_LEASE)

    def pause(self, backup: str, seconds: int) -> bool:
        """Take the lease for so many seconds; ``False`` if another backup has it."""
        return bool(self._lead(keys=[keys.BACKUP], args=[backup, seconds]))

    def renew(self, backup: str, seconds: int) -> bool:
        """Renew the lease of that backup; ``False`` if it has none. A lost lease is not taken again."""
        return bool(self._keep(keys=[keys.BACKUP], args=[backup, seconds]))

    def resume(self, backup: str) -> None:
        """End the lease of that backup."""
        self._keep(keys=[keys.BACKUP], args=[backup, 0])

    def are_paused(self) -> bool:
        """Whether a backup is being made."""
        return bool(self._redis.exists(keys.BACKUP))
