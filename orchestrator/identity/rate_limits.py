"""The rate limit of requests for each principal."""

from __future__ import annotations

import math
import time
from typing import Any

from limits import RateLimitItem, parse
from limits.errors import StorageError
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from orchestrator.errors import RateLimited, StoreFull, StoreUnavailable
from orchestrator.identity import Principal
from orchestrator.store import Store


class _Storage(RedisStorage):
    """Counts over the store's connections, of which each thread has one; of the URL, only the scheme is used."""

    def __init__(self, store: Store) -> None:
        self._connection = store.redis
        super().__init__("redis://", store.redis.connection_pool, wrap_exceptions=True)

    def get_connection(self, readonly: bool = False) -> Any:
        return self._connection


class RateLimiter:
    """A sliding window for each principal, shared by all API processes through Redis."""

    def __init__(self, store: Store, rate: str) -> None:
        self._item: RateLimitItem | None = None if rate == "off" else parse(rate)
        if self._item is not None:
            self._limiter = SlidingWindowCounterRateLimiter(_Storage(store))

    @property
    def counts(self) -> bool:
        """Whether a limit is configured."""
        return self._item is not None

    def take(self, principal: Principal, headers: dict[str, str]) -> None:
        """Count one request, and add the remaining number to ``headers``. Raises :class:`RateLimited`."""
        if self._item is None:
            return
        try:
            allowed = self._limiter.hit(self._item, principal.id)
            stats = self._limiter.get_window_stats(self._item, principal.id)
        except StoreFull:  # reading, and deleting to free memory, stay possible
            return
        except StorageError as error:
            raise StoreUnavailable() from error
        reset = max(1, math.ceil(stats.reset_time - time.time()))
        headers["RateLimit"] = f'"default";r={stats.remaining};t={reset}'
        headers["RateLimit-Policy"] = f'"default";q={self._item.amount};w={self._item.get_expiry()}'
        if not allowed:
            seconds, most = self._item.get_expiry(), self._item.amount
            message = f"More than {most} requests within {seconds} s; wait for the time in Retry-After."
            raise RateLimited(reset, message, bound=most)
