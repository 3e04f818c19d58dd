"""The connections of one API process: their number, and the eviction of waiting connections.

At the bound, a new connection evicts the connection that has waited longest for its request's headers. So half-sent
requests, idle connections and bodies of refused requests, from any number of addresses, lock out no other client.

If every connection has a request in progress, addresses share the table evenly: the address with most connections loses
its newest connection to an address that has at least two fewer. So a few addresses, whose requests may last minutes,
lock out no other address, while a single address, such as a proxy's, may use the whole table.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from typing import NamedTuple, Protocol

from orchestrator import metrics
from orchestrator.api.door.floods import Floods, FloodSource
from orchestrator.errors import MayflyError, TooManyConnections, TooManyFromAddress
from orchestrator.settings import Settings


class TableConnection(Protocol):
    """A connection in the table."""

    def evict(self) -> None:
        """Close the connection, which has no request in progress, and leave the table."""

    def refuse(self, error: MayflyError) -> None:
        """Refuse the request in progress, with an answer if none has begun, and leave the table."""


class Bounds(NamedTuple):
    """The bounds on connections, in all and from one address, and on the time and the rate of reading answers."""

    connections: int
    per_address: int
    stall_seconds: float
    answer_rate: float

    @classmethod
    def of(cls, settings: Settings) -> Bounds:
        """The bounds of an installation's settings."""
        rate = settings.answer_rate
        return cls(settings.connections, settings.address_connections, settings.stall_seconds, rate)


class ConnectionTable:
    """The connections of one process, counted by address. Used only by the event loop's thread."""

    def __init__(self, bounds: Bounds, floods: Floods | None = None) -> None:
        """``floods``: ``None`` reports none."""
        self.bounds, self._floods = bounds, floods
        self.lingering = 0
        self._connections: dict[str, dict[TableConnection, None]] = defaultdict(dict)  # by address, the oldest first
        self._count = 0
        self._waiting: OrderedDict[TableConnection, None] = OrderedDict()  # the longest wait first

    def enter(self, address: str, connection: TableConnection) -> None:
        """Add a connection; at the bound it replaces another connection.

        Raises :class:`TooManyFromAddress`, and :class:`TooManyConnections` if no connection may be evicted.
        """
        count = len(self._connections.get(address, ()))
        if count >= self.bounds.per_address:
            raise TooManyFromAddress(bound=self.bounds.per_address)
        if self._count >= self.bounds.connections:
            self._evict_for(count)
        self._connections[address][connection] = None
        self._count += 1
        metrics.connections.set(self._count)

    def _evict_for(self, count: int) -> None:
        """Evict a connection for an address that has ``count`` connections. Raises :class:`TooManyConnections`."""
        if self._waiting:
            self._waiting.popitem(last=False)[0].evict()
            return
        most = max(self._connections.values(), key=len)
        if count + 1 >= len(most):
            raise TooManyConnections(bound=self.bounds.connections)
        next(reversed(most)).refuse(TooManyFromAddress())

    def leave(self, address: str, connection: TableConnection) -> None:
        """Remove a connection."""
        del self._connections[address][connection]
        if not self._connections[address]:
            del self._connections[address]
        self._count -= 1
        metrics.connections.set(self._count)

    def note(self, address: str, code: str) -> None:
        """Record a refused or cut request or connection."""
        if self._floods is not None:
            self._floods.note(FloodSource(address), code)

    def note_waiting(self, connection: TableConnection) -> None:
        """Record that a connection waits for a request's headers, or for the rest of a refused body."""
        self._waiting.setdefault(connection)

    def note_active(self, connection: TableConnection) -> None:
        """Record that a connection's headers are complete, or that it was closed."""
        self._waiting.pop(connection, None)
