"""The running calls of agents whose client has a session, so that ``notifications/cancelled`` finds their execution.

A session is only a part of a call's name. One hash for each tenant has a field for each running call, and for each
cancellation that precedes its call: both are separate requests, which any API process may receive in any order. The
fields are bounded in number and time, and used only for cancellations.
"""

from __future__ import annotations

import hashlib

from orchestrator.store import keys, scripts
from orchestrator.store.connection import StoreConnection

MOST_CALLS = 4096  # of one tenant, each of less than 200 bytes
CANCELLATION_SECONDS = 10.0  # for which a cancellation waits for its call


class AgentCalls:
    """The running calls of every tenant. Thread-safe."""

    def __init__(self, connection: StoreConnection, most: int = MOST_CALLS) -> None:
        self._redis, self._most = connection, most
        self._join = connection.script(scripts.JOIN_CALL)

    def begin(self, tenant: str, call: str, execution: str, seconds: float) -> bool:
        """Record a call for ``seconds``; true if its cancellation came first. Beyond the bound, no call is recorded."""
        return bool(self._joined(tenant, call, execution, seconds))

    def cancel(self, tenant: str, call: str) -> str | None:
        """Remove a call, and return its execution; ``None`` for a call that has not begun, or has ended."""
        return self._joined(tenant, call, "", CANCELLATION_SECONDS) or None

    def end(self, tenant: str, call: str) -> None:
        """Forget a call."""
        self._redis.hdel(keys.tenant_calls(tenant), _field(call))

    def _joined(self, tenant: str, call: str, execution: str, seconds: float) -> str:
        key = keys.tenant_calls(tenant)
        found: bytes = self._join(keys=[key], args=[_field(call), execution, seconds, self._most])
        return found.decode()


def _field(call: str) -> str:
    """A field of bounded length for the name of a call, which contains a client's text."""
    return hashlib.sha256(call.encode(errors="surrogatepass")).hexdigest()[:32]
