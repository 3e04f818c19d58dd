"""The counters behind :mod:`orchestrator.anomaly`, and the active alarms.

The counting itself is part of the scripts that end attempts and append security events, so that each is counted exactly
once. Buckets of time are numbered by Redis's clock, which all workers share.
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
    """The first and the last bucket in which a series was unusual."""

    began: int
    last: int


class Rates:
    """Reads the counters. Thread-safe."""

    def __init__(self, connection: StoreConnection) -> None:
        self._redis: Any = connection

    def bucket(self) -> int:
        """The number of the current bucket."""
        seconds, _ = self._redis.time()
        return int(seconds) // BUCKET_SECONDS

    def since(self, bucket: int) -> int:
        """The first bucket that counted: ``bucket``, unless an earlier call has set it."""
        found = self._redis.set(keys.RATES_SINCE, bucket, nx=True, get=True)
        return bucket if found is None else int(found)

    def read(self, buckets: Iterable[int]) -> list[dict[Series, int]]:
        """The counts of each bucket."""
        with self._redis.pipeline(transaction=False) as pipe:
            for bucket in buckets:
                pipe.hgetall(f"{keys.RATES}{bucket}")
            return [{_series(field): int(count) for field, count in row.items()} for row in pipe.execute()]

    def alarms(self) -> dict[Series, Alarm]:
        """The active alarms."""
        rows = self._redis.hgetall(keys.ALARMS)
        return {_series(field): Alarm(*json.loads(value)) for field, value in rows.items()}

    def keep(self, series: Series, alarm: Alarm) -> None:
        """Record that a series is unusual."""
        self._redis.hset(keys.ALARMS, _field(series), json.dumps(alarm))

    def clear(self, series: Series) -> None:
        """Record that a series is usual again."""
        self._redis.hdel(keys.ALARMS, _field(series))


def _field(series: Series) -> str:
    return f"{series.dimension}|{series.what}|{series.name}"


@lru_cache(maxsize=2 * MOST_SERIES)  # one shared object per series, since an hour of counters refers to it 366 times
def _series(field: bytes) -> Series:
    dimension, what, name = field.decode().split("|", 2)
    return Series(dimension, name, what)
