"""Tools in Redis: calls between workers and brokers, declared servers, and catalogues."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.store.connection import StoreConnection
from orchestrator.store.tools.brokers import Brokers
from orchestrator.store.tools.caller_calls import CallerCalls
from orchestrator.store.tools.calls import Calls, CallsPerDay
from orchestrator.store.tools.catalogues import Catalogues
from orchestrator.store.tools.servers import Servers
from orchestrator.store.tools.shapes import Shapes


@dataclass(frozen=True)
class Tools:
    """The parts of the store that belong to tools."""

    calls: Calls
    caller_calls: CallerCalls
    brokers: Brokers
    catalogues: Catalogues
    servers: Servers
    shapes: Shapes


def tools_of(connection: StoreConnection, share: float, tenant_share: float, calls_per_day: CallsPerDay) -> Tools:
    """The parts over one client. ``share``: the part of Redis's ``maxmemory`` that calls and results may fill;
    ``tenant_share``: that of one tenant's executions, catalogues and shapes.
    """
    return Tools(
        Calls(connection, share, calls_per_day),
        CallerCalls(connection, share),
        Brokers(connection),
        Catalogues(connection, share, tenant_share),
        Servers(connection),
        Shapes(connection, share, tenant_share),
    )
