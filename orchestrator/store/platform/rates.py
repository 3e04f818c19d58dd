"""The counters behind :mod:`orchestrator.anomaly`, and which alarms are on.

The counting itself is part of the scripts that end attempts and append security events, so that nothing is counted
twice or forgotten. Buckets of time are numbered by Redis's clock, which is one for all workers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from orchestrator.anomaly import BUCKET_SECONDS, MOST_SERIES, Series
from orchestrator.store import keys
from orchestrator.store.connection import StoreConnection


class Alarm(NamedTuple):
    """Since which bucket a series has been unusual, and which was the last in which it was."""

    began: int
    last: int


class Rates:
    """Reads the counters. Thread-safe."""

    def __init__(self, connection: StoreConnection) -> None:
        self._redis: Any = connection

    def bucket(self) -> int:
        """The number of the bucket that fills now."""
        seconds, _ = self._redis.time()
        return int(seconds) // BUCKET_SECONDS

    def since(self, bucket: int) -> int:
        """The first bucket that counted: ``bucket``, unless an earlier call has set it."""
        found = self._redis.set(keys.RATES_SINCE, bucket, nx=True, get=True)
        return bucket if found is None else int(found)

    def read(self, buckets: Iterable[int]) -> list[dict[Series, int]]:
        """What each of the buckets counted."""
        with self._redis.pipeline(transaction=False) as pipe:
            for bucket in buckets:
                pipe.hgetall(f"{keys.RATES}{bucket}")
            return [{_series(field): int(count) for field, count in row.items()} for row in pipe.execute()]

    def alarms(self) -> dict[Series, Alarm]:
        """The alarms that are on."""
        rows = self._redis.hgetall(keys.ALARMS)
        return {_series(field): Alarm(*json.loads(value)) for field, value in rows.items()}

    def keep(self, series: Series, alarm: Alarm) -> None:
        """Note that a series is unusual."""
        self._redis.hset(keys.ALARMS, _field(series), json.dumps(alarm))

    def clear(self, series: Series) -> None:
        """Note that a series is as usual again."""
        self._redis.hdel(keys.ALARMS, _field(series))


def _field(series: Series) -> str:
    return f"{series.dimension}|{series.what}|{series.name}"


@lru_cache(maxsize=2 * MOST_SERIES)  # one object for each, as whoever holds an hour of counters holds it 366 times
def _series(field: bytes) -> Series:
    dimension, what, name = field.decode().split("|", 2)
    return Series(dimension, name, what)
