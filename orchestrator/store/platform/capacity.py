"""The check whether Redis has memory for another execution.

With ``noeviction`` a full Redis refuses commands that need memory. So submissions are refused earlier, and even earlier
those of a tenant at its share. The used memory is read at most twice a second; the submissions in between fit into the
reserve.

For each execution that was accepted and has not ended, :data:`RESERVED_BYTES` are reserved for its claim and its end:
neither submissions nor output (``lua/functions/room_left.lua``) may fill them. So every accepted execution has memory
for both.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from orchestrator.errors import StoreFull
from orchestrator.store import keys
from orchestrator.store.accounting import RESERVED_BYTES
from orchestrator.store.connection import StoreConnection

KNOWN_SECONDS = 0.5


def used_bytes(memory: Mapping[str, Any]) -> int:
    """The part of ``maxmemory`` that is used, by ``INFO memory``. Redis does not count what waits for its append-only
    file or for its replicas, which a busy disk or a slow replica makes many megabytes.
    """
    return int(memory["used_memory"]) - int(memory["mem_not_counted_for_evict"])


class Capacity:
    """The memory used by Redis. Thread-safe: at worst two threads query it at once."""

    def __init__(self, connection: StoreConnection, share: float, tenant_share: float) -> None:
        """``share``: the part of ``maxmemory`` that submissions may fill; ``tenant_share``: one tenant's part of
        that.
        """
        self._redis: Any = connection
        self._share, self._tenant_share = share, tenant_share
        self._until, self._left_bytes = 0.0, float("inf")
        self.tenant_bytes: int | None = None  # bound of one tenant's executions; None: no bound

    def accept(self, size_bytes: int) -> None:
        """Check for a submission (:meth:`check`), and reserve the memory of its claim and end."""
        self.check(size_bytes + RESERVED_BYTES)

    def check(self, size_bytes: int) -> None:
        """Raise :class:`StoreFull` if that many more bytes exceed the bound, :class:`StoreUnavailable` without
        Redis.
        """
        if time.monotonic() >= self._until:
            with self._redis.pipeline(transaction=False) as pipe:
                memory, *accepted = pipe.info("memory").zcard(keys.QUEUED).zcard(keys.ACTIVE).execute()
            most = int(memory.get("maxmemory", 0))
            used = used_bytes(memory) + RESERVED_BYTES * sum(accepted)
            self._left_bytes = self._share * most - used if most else float("inf")
            self.tenant_bytes = int(self._tenant_share * self._share * most) if most else None
            self._until = time.monotonic() + KNOWN_SECONDS
        if size_bytes > self._left_bytes:
            raise StoreFull()
        self._left_bytes -= size_bytes
