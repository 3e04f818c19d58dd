"""Connections to Redis, and the boundary where its errors become ours."""

from __future__ import annotations

from typing import Any

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.retry import Retry

from orchestrator.errors import StoreUnavailable

# redis-py's annotations leave open whether a reply is bytes or text, so callers hold a client as ``Any``.
UNAVAILABLE = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.BusyLoadingError,
    exceptions.OutOfMemoryError,
    exceptions.ReadOnlyError,
)


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
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except UNAVAILABLE as error:
            raise StoreUnavailable() from error

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> StorePipeline:
        return StorePipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


def connect(url: str, timeout_seconds: float) -> StoreConnection:
    """A client for the store; nothing is sent yet. One retry covers a connection that died while idle."""
    pool = redis.ConnectionPool.from_url(
        url,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        retry=Retry(NoBackoff(), 1),
    )
    return StoreConnection(connection_pool=pool)


def connect_plain(url: str, timeout_seconds: float) -> redis.Redis:
    """A client that raises redis-py's own errors, as RQ expects; ``timeout_seconds`` must exceed any blocking pop."""
    return redis.Redis.from_url(url, socket_timeout=timeout_seconds, socket_connect_timeout=5)
