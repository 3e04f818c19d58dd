"""Whether Redis has room for another execution.

With ``noeviction`` a Redis that is full refuses what needs memory. So submissions are refused before that, and sooner
those of a tenant that has its share. How full it is, is asked at most twice a second; what comes meanwhile fits into
the rest. What was accepted ends in any case: :mod:`worker.attempt.output`.
"""

from __future__ import annotations

import time
from typing import Any

from orchestrator.errors import StoreFull
from orchestrator.store.connection import StoreConnection

KNOWN_SECONDS = 0.5


class Room:
    """How much of its memory Redis has used. Thread-safe: at worst two ask at once."""

    def __init__(self, connection: StoreConnection, share: float, tenant_share: float) -> None:
        """``share``: of ``maxmemory``, that submissions may fill; ``tenant_share``: of that, what one tenant may."""
        self._redis: Any = connection
        self._share, self._tenant_share = share, tenant_share
        self._until, self._left_bytes = 0.0, float("inf")
        self.tenant_bytes: int | None = None  # most that one tenant's executions may take; None: there is no bound

    def check(self, size_bytes: int) -> None:
        """Raise :class:`StoreFull` if so many more bytes would be too many, :class:`StoreUnavailable` without Redis."""
        if time.monotonic() >= self._until:
            said = self._redis.info("memory")
            most = int(said.get("maxmemory", 0))
            self._left_bytes = self._share * most - int(said["used_memory"]) if most else float("inf")
            self.tenant_bytes = int(self._tenant_share * self._share * most) if most else None
            self._until = time.monotonic() + KNOWN_SECONDS
        if size_bytes > self._left_bytes:
            raise StoreFull()
        self._left_bytes -= size_bytes
