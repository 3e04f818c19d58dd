"""Whether Redis has room for another execution.

With ``noeviction`` a Redis that is full refuses every write, the ends of executions that run among them. So submissions
are refused before that. How full it is, is asked at most twice a second; what comes meanwhile fits into the rest.
"""

from __future__ import annotations

import time
from typing import Any

from orchestrator.errors import StoreFull
from orchestrator.store.connection import StoreConnection

KNOWN_SECONDS = 0.5


class Room:
    """How much of its memory Redis has used. Thread-safe: at worst two ask at once."""

    def __init__(self, connection: StoreConnection, share: float) -> None:
        self._redis: Any = connection
        self._share = share
        self._until, self._left_bytes = 0.0, float("inf")

    def check(self, size_bytes: int) -> None:
        """Raise :class:`StoreFull` if so many more bytes would be too many, :class:`StoreUnavailable` without Redis."""
        if time.monotonic() >= self._until:
            said = self._redis.info("memory")
            most = int(said.get("maxmemory", 0))
            self._left_bytes = self._share * most - int(said["used_memory"]) if most else float("inf")
            self._until = time.monotonic() + KNOWN_SECONDS
        if size_bytes > self._left_bytes:
            raise StoreFull()
        self._left_bytes -= size_bytes
