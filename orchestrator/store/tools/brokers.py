"""Leases of brokers and of the upstreams that they share.

Each upstream is served by one broker at a time. A heartbeat renews the broker's lease, ends those of dead brokers, and
gives the broker its share of the upstreams that no live broker serves. Calls that a dead broker had taken are queued
again if their tool is idempotent; the other calls fail with ``tool_outcome_unknown`` and are not repeated.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from orchestrator.models.tools import ToolFailure
from orchestrator.store import keys, scripts
from orchestrator.store.connection import StoreConnection
from orchestrator.store.tools.calls import Upstream

LEASE_SECONDS = 5.0
OUTCOME_UNKNOWN = ToolFailure(
    code="tool_outcome_unknown",
    message="The broker was lost during the call; the tool may have done its work. Check before you call it again.",
)


class Service(NamedTuple):
    """The answer to a heartbeat: whether the lease was still valid, the broker's share (a number of upstreams), and
    the upstreams that it serves.
    """

    known: bool
    share: int
    upstreams: frozenset[Upstream]


class Brokers:
    """The brokers that are alive. Thread-safe."""

    def __init__(self, connection: StoreConnection) -> None:
        self._redis: Any = connection
        self._serve = connection.script(scripts.SERVE_UPSTREAMS)
        self._leave = connection.script(scripts.LEAVE_UPSTREAMS)

    def heartbeat(
        self, broker: str, released: Iterable[Upstream] = (), lease_seconds: float = LEASE_SECONDS
    ) -> Service:
        """Renew the lease, or begin it; give up the ``released`` upstreams and take over free ones.

        If the lease had ended, the broker has lost its calls, and must abandon them.
        """
        args = [broker, int(lease_seconds * 1000), OUTCOME_UNKNOWN.model_dump_json(), *map(str, released)]
        known, share, mine = self._serve(args=args)
        return Service(bool(known), share, frozenset(map(Upstream.parse, mine)))

    def leave(self, broker: str) -> None:
        """End the lease of a broker at its orderly end."""
        self._leave(args=[broker])

    def alive(self) -> list[str]:
        """The ids of the brokers with a valid lease."""
        ids = [id.decode(errors="replace") for id in self._redis.zrange(keys.TOOL_BROKERS, 0, -1)]
        return [id for id in ids if self._redis.exists(keys.tool_broker(id))]
