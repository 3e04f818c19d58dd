"""The connections of one API process: how many there are, and which gives way to another.

When there are as many connections as may be, the one that has waited longest for its request's headers makes place for
the next: half-sent requests, idle connections and bodies of requests that were refused keep no other out, however many
addresses they come from. A connection whose request is being read or answered is never ended for another one.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import NamedTuple, Protocol

from orchestrator import metrics
from orchestrator.api.door.floods import Floods, FloodSource
from orchestrator.errors import TooManyConnections, TooManyFromAddress
from orchestrator.settings import Settings


class Guest(Protocol):
    """A connection, as the table knows it."""

    def give_way(self) -> None:
        """End and leave the table."""


class Bounds(NamedTuple):
    """How many connections there may be, in all and from one address, and how long a reader may stall."""

    connections: int
    per_address: int
    stall_seconds: float

    @classmethod
    def of(cls, settings: Settings) -> Bounds:
        """Those of an installation."""
        return cls(settings.connections, settings.address_connections, settings.stall_seconds)


class ConnectionTable:
    """The connections of one process, counted by address. For the event loop's thread alone."""

    def __init__(self, bounds: Bounds, floods: Floods) -> None:
        self.bounds, self._floods = bounds, floods
        self.lingering = 0
        self._by_address: Counter[str] = Counter()
        self._count = 0
        self._waiting: OrderedDict[Guest, None] = OrderedDict()  # those that began first ahead

    def enter(self, address: str) -> None:
        """Count one more, in place of the one that has waited longest if there are as many as may be.

        Raises :class:`TooManyFromAddress`, and :class:`TooManyConnections` if none of them waits.
        """
        if self._by_address[address] >= self.bounds.per_address:
            raise TooManyFromAddress()
        if self._count >= self.bounds.connections:
            if not self._waiting:
                raise TooManyConnections()
            self._waiting.popitem(last=False)[0].give_way()
        self._by_address[address] += 1
        self._count += 1
        metrics.connections.set(self._count)

    def leave(self, address: str) -> None:
        """One that was counted is gone."""
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]
        self._count -= 1
        metrics.connections.set(self._count)

    def note(self, address: str, code: str) -> None:
        """A request or a connection was refused, or cut."""
        self._floods.note(FloodSource(address), code)

    def waits(self, connection: Guest) -> None:
        """One waits for a request's headers, or for the rest of a body that nothing needs, or goes on waiting."""
        self._waiting.setdefault(connection)

    def waits_no_longer(self, connection: Guest) -> None:
        """The headers of its next request are complete, or it is gone."""
        self._waiting.pop(connection, None)
