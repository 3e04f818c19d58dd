"""The connections of one API process: their number, and the eviction of waiting connections.

At the bound, a new connection evicts the connection that has waited longest for its request's headers: half-sent
requests, idle connections and bodies of refused requests, from any number of addresses, lock out no other client.

Where each connection has a request that is being read or answered, the addresses share the table evenly: the address
that has most loses its newest connection to one that has fewer, even with the one it gets. So a few addresses, whose
requests may be held back for minutes, keep no other out, and an address alone, such as a proxy's, has all of the table.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from typing import NamedTuple, Protocol

from orchestrator import metrics
from orchestrator.api.door.floods import Floods, FloodSource
from orchestrator.errors import MayflyError, TooManyConnections, TooManyFromAddress
from orchestrator.settings import Settings


class Guest(Protocol):
    """A connection in the table."""

    def give_way(self) -> None:
        """End and leave the table: no request is in progress."""

    def refuse(self, error: MayflyError) -> None:
        """Answer the request that is in progress, as far as that can be done, and leave the table."""


class Bounds(NamedTuple):
    """The bounds on connections, in all and from one address, and on the time a reader may stall."""

    connections: int
    per_address: int
    stall_seconds: float

    @classmethod
    def of(cls, settings: Settings) -> Bounds:
        """The bounds of an installation's settings."""
        return cls(settings.connections, settings.address_connections, settings.stall_seconds)


class ConnectionTable:
    """The connections of one process, counted by address. Used only by the event loop's thread."""

    def __init__(self, bounds: Bounds, floods: Floods) -> None:
        self.bounds, self._floods = bounds, floods
        self.lingering = 0
        self._guests: dict[str, dict[Guest, None]] = defaultdict(dict)  # by address, those that came first ahead
        self._count = 0
        self._waiting: OrderedDict[Guest, None] = OrderedDict()  # those that began first ahead

    def enter(self, address: str, guest: Guest) -> None:
        """Count one more, in place of another one if there are as many as may be.

        Raises :class:`TooManyFromAddress`, and :class:`TooManyConnections` if no other one has to make place.
        """
        count = len(self._guests.get(address, ()))
        if count >= self.bounds.per_address:
            raise TooManyFromAddress(bound=self.bounds.per_address)
        if self._count >= self.bounds.connections:
            self._make_place(count)
        self._guests[address][guest] = None
        self._count += 1
        metrics.connections.set(self._count)

    def _make_place(self, count: int) -> None:
        """End a connection for one of an address that has ``count`` others. Raises :class:`TooManyConnections`."""
        if self._waiting:
            self._waiting.popitem(last=False)[0].give_way()
            return
        most = max(self._guests.values(), key=len)
        if count + 1 >= len(most):
            raise TooManyConnections(bound=self.bounds.connections)
        next(reversed(most)).refuse(TooManyFromAddress())

    def leave(self, address: str, guest: Guest) -> None:
        """Remove a connection from the count."""
        del self._guests[address][guest]
        if not self._guests[address]:
            del self._guests[address]
        self._count -= 1
        metrics.connections.set(self._count)

    def note(self, address: str, code: str) -> None:
        """Record a refused or cut request or connection."""
        self._floods.note(FloodSource(address), code)

    def waits(self, connection: Guest) -> None:
        """Record that a connection waits for a request's headers, or for the rest of a refused body."""
        self._waiting.setdefault(connection)

    def waits_no_longer(self, connection: Guest) -> None:
        """Record that a connection's headers are complete, or that it was closed."""
        self._waiting.pop(connection, None)
