"""Usage of tenants: counted by the scripts that end executions, read here.

One hash for each tenant and day has an array of integers for each API key and each environment. Redis removes it after
400 days.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgpack

from orchestrator.store import keys, scripts
from orchestrator.store.accounting import USAGE
from orchestrator.store.connection import StoreConnection
from orchestrator.store.malformed import MALFORMED, report_malformed

DAY_SECONDS = 86400
KEY, ENVIRONMENT = "k", "e"  # prefixes of names of series


class Counted(NamedTuple):
    """One series of a day: its amounts are in the order of :data:`orchestrator.store.accounting.USAGE`."""

    day: int
    kind: str
    name: str
    amounts: tuple[int, ...]


class Usages:
    """Reads usage, and counts tokens. Thread-safe."""

    def __init__(self, connection: StoreConnection) -> None:
        self._redis: Any = connection
        self._add_tokens = connection.script(scripts.ADD_TOKENS)

    def today(self) -> int:
        """The current day by Redis's clock, in days since the epoch."""
        seconds, _ = self._redis.time()
        return int(seconds) // DAY_SECONDS

    def add_tokens(self, id: str, returned: int, withheld: int) -> None:
        """Add the tokens of an agent's answer to an execution and its tenant; without effect if it was deleted."""
        self._add_tokens(keys=[keys.execution(id)], args=[returned, withheld])

    def read(self, tenant: str, days: Iterable[int]) -> list[Counted]:
        """Every series of a tenant on those days. Malformed series are skipped."""
        days = tuple(days)
        with self._redis.pipeline(transaction=False) as pipe:
            for day in days:
                pipe.hgetall(keys.tenant_usage(f"{tenant}:{day}"))
            rows = pipe.execute(raise_on_error=False)  # of keys of a wrong type
        return [
            counted
            for day, row in zip(days, rows, strict=True)
            if isinstance(row, dict)
            for series, packed in row.items()
            if (counted := _counted(day, series, packed))
        ]


def _counted(day: int, series: bytes, packed: bytes) -> Counted | None:
    try:
        name, amounts = series.decode(), msgpack.unpackb(packed)
        return Counted(day, name[:1], name[1:], tuple(int(amount) for amount in amounts)[: len(USAGE)])
    except (*MALFORMED, ValueError, TypeError, msgpack.UnpackException) as error:
        report_malformed("usage", f"{type(error).__name__}: {error}")
        return None
