"""Connections to Redis, and the boundary where its errors become ours."""

from __future__ import annotations

from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.exceptions import BusyLoadingError, ConnectionError, OutOfMemoryError, ReadOnlyError, TimeoutError
from redis.retry import Retry

from orchestrator.errors import StoreUnavailable

UNAVAILABLE = (ConnectionError, TimeoutError, BusyLoadingError, OutOfMemoryError, ReadOnlyError)


class StorePipeline(Pipeline):
    """A pipeline whose failures to reach Redis are :class:`StoreUnavailable`."""

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        try:
            return super().execute(raise_on_error)
        except UNAVAILABLE as error:
            raise StoreUnavailable() from error


class StoreConnection(redis.Redis):
    """A client whose failures to reach Redis are :class:`StoreUnavailable`. Thread-safe, as redis-py's is."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            return super().execute_command(*args, **options)
        except UNAVAILABLE as error:
            raise StoreUnavailable() from error

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> StorePipeline:
        return StorePipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


def connect(url: str, timeout_seconds: float) -> StoreConnection:
    """A client for the store; nothing is sent yet. One retry covers a connection that died while idle."""
    return StoreConnection.from_url(
        url,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        retry=Retry(NoBackoff(), 1),
        health_check_interval=0,
    )


def connect_plain(url: str, timeout_seconds: float) -> redis.Redis:
    """A client that raises redis-py's own errors, as RQ expects; ``timeout_seconds`` must exceed any blocking pop."""
    return redis.Redis.from_url(url, socket_timeout=timeout_seconds, socket_connect_timeout=5)
