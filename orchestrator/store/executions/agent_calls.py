"""The running calls of agents whose client has a session, so that ``notifications/cancelled`` finds their execution.

A session is nothing but a part of a call's name. One hash for each tenant has a field for each running call, and for
each cancellation whose call has not come yet: both are requests of their own, which any API process may take in any
order. Bounded in number and time; nothing else depends on it.
"""

from __future__ import annotations

import hashlib

from orchestrator.store import keys, scripts
from orchestrator.store.connection import StoreConnection

MOST_CALLS = 4096  # of one tenant, each of less than 200 bytes
CANCELLATION_SECONDS = 10.0  # how long a cancellation waits for its call


class AgentCalls:
    """The running calls of every tenant. Thread-safe."""

    def __init__(self, connection: StoreConnection, most: int = MOST_CALLS) -> None:
        self._redis, self._most = connection, most
        self._join = connection.script(scripts.JOIN_CALL)

    def begin(self, tenant: str, call: str, execution: str, seconds: float) -> bool:
        """Keep a call for ``seconds``; whether its cancellation came first. A tenant with too many calls keeps none."""
        return bool(self._joined(tenant, call, execution, seconds))

    def cancel(self, tenant: str, call: str) -> str | None:
        """The execution of a call, which is forgotten; ``None`` where the call has not come, or has ended."""
        return self._joined(tenant, call, "", CANCELLATION_SECONDS) or None

    def end(self, tenant: str, call: str) -> None:
        """Forget a call."""
        self._redis.hdel(keys.tenant_calls(tenant), _field(call))

    def _joined(self, tenant: str, call: str, execution: str, seconds: float) -> str:
        key = keys.tenant_calls(tenant)
        found: bytes = self._join(keys=[key], args=[_field(call), execution, seconds, self._most])
        return found.decode()


def _field(call: str) -> str:
    """A field of bounded length for the name of a call, which a client chose."""
    return hashlib.sha256(call.encode(errors="surrogatepass")).hexdigest()[:32]
