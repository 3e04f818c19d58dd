"""Connections to Redis, and the translation of its errors."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakSet

import hiredis
import redis
import redis.asyncio
from redis import exceptions
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.retry import Retry

from orchestrator.errors import StoreFull, StoreUnavailable
from orchestrator.store.address import async_pool_of, pool_of

# redis-py's annotations do not distinguish replies in bytes and text, so callers annotate a client as ``Any``.
UNAVAILABLE = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.BusyLoadingError,
    exceptions.OutOfMemoryError,
    exceptions.ReadOnlyError,
)
# Redis's codes for which redis-py has no class: it has too few replicas, or a full disk, to take a write; its primary
# is away; or another client's script does not end.
REFUSALS = re.compile(r"(?:^|: )(?:NOREPLICAS|MISCONF|MASTERDOWN|BUSY) ")


def unavailable(error: exceptions.RedisError) -> StoreUnavailable | None:
    """The :class:`StoreUnavailable` for an error of an unavailable or busy Redis; ``None`` for a wrong command."""
    if isinstance(error, exceptions.OutOfMemoryError):
        return StoreFull()
    return StoreUnavailable() if isinstance(error, UNAVAILABLE) or REFUSALS.search(str(error)) else None


class StorePipeline(Pipeline):
    """A pipeline over its thread's connection, whose failures to reach Redis are :class:`StoreUnavailable`."""

    def __init__(self, store: StoreConnection, transaction: bool) -> None:
        super().__init__(store.connection_pool, store.response_callbacks, transaction, None)
        self._store = store

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        self.connection = self.connection or self._store.own()  # which redis-py's pool, not knowing it, does not take
        try:
            return super().execute(raise_on_error)
        except exceptions.RedisError as error:
            if ours := unavailable(error):
                raise ours from error
            raise


class StoreConnection(redis.Redis):
    """A client whose failures to reach Redis are :class:`StoreUnavailable`. Thread-safe, as redis-py's is.

    Each thread has a connection of its own: redis-py's pool, hooks and retries would double the time of a command, and
    a pool grows with the largest number of concurrent threads.
    """

    def __init__(self, connection_pool: redis.ConnectionPool) -> None:
        super().__init__(connection_pool=connection_pool)
        self._threads = threading.local()
        self._connections: WeakSet[Any] = WeakSet()

    def script(self, text: str) -> Script:
        """A script, to be called repeatedly; sends nothing yet."""
        return Script(self, text)

    def send(self, *command: Any) -> Any:
        """Send one command over this thread's connection; returns Redis's raw answer.

        After a broken connection, possibly while idle, the command is sent once more over a new connection. A command
        that times out may still be executed, and is not repeated. Raises :class:`StoreUnavailable`.
        """
        packed = [hiredis.pack_command(command)]  # redis-py looks at each part first, in Python
        return self._exchange(packed, lambda connection: connection.read_response())

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command, as above; returns redis-py's parsed answer."""
        parse: Callable[..., Any] = self.parse_response
        packed = self.own().pack_command(*args)
        return self._exchange(packed, lambda connection: parse(connection, args[0], **options))

    def _exchange(self, packed: list[bytes], read: Callable[[Any], Any]) -> Any:
        connection = self.own()
        for again in (True, False):
            try:
                connection.send_packed_command(packed, check_health=False)
                return read(connection)
            except exceptions.ResponseError as error:
                if ours := unavailable(error):
                    raise ours from error
                raise
            except UNAVAILABLE as error:
                connection.disconnect()
                if not again or isinstance(error, exceptions.TimeoutError):
                    raise StoreUnavailable() from error
        raise AssertionError

    def own(self) -> Any:
        """This thread's connection, opened at the first command and closed with the thread."""
        connection = getattr(self._threads, "connection", None)
        if connection is None:
            pool = self.connection_pool  # which would also count connections of ended threads, up to a bound
            connection = self._threads.connection = pool.connection_class(**pool.connection_kwargs)
            self._connections.add(connection)
        return connection

    def close(self) -> None:
        for connection in list(self._connections):
            connection.disconnect()
        super().close()

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> StorePipeline:
        return StorePipeline(self, transaction)


class Script:
    """A Lua script, called by its digest."""

    def __init__(self, connection: StoreConnection, text: str) -> None:
        self._connection = connection
        self._text = text
        self._digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, keys: Sequence[Any] = (), args: Sequence[Any] = ()) -> Any:
        """Run it. Raises :class:`StoreUnavailable`."""
        try:
            return self._connection.send("EVALSHA", self._digest, len(keys), *keys, *args)
        except exceptions.NoScriptError:
            return self._connection.send("EVAL", self._text, len(keys), *keys, *args)


def connect(url: str, timeout_seconds: float) -> StoreConnection:
    """A client for the store; nothing is sent yet. One retry covers a connection that died while idle."""
    options = {"socket_timeout": timeout_seconds, "socket_connect_timeout": timeout_seconds}
    return StoreConnection(connection_pool=pool_of(url, **options, retry=Retry(NoBackoff(), 1)))


def connect_plain(url: str, timeout_seconds: float) -> redis.Redis:
    """A client that raises redis-py's own errors, as RQ expects; ``timeout_seconds`` must exceed any blocking pop."""
    return redis.Redis.from_pool(pool_of(url, socket_timeout=timeout_seconds, socket_connect_timeout=5))


def connect_async(url: str, timeout_seconds: float) -> redis.asyncio.Redis:
    """A client for asyncio that raises redis-py's own errors. Each call has its own time-out."""
    return redis.asyncio.Redis.from_pool(async_pool_of(url, socket_connect_timeout=timeout_seconds))
