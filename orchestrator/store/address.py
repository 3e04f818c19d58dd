"""The address of Redis: fixed, or the current primary according to Sentinels.

redis-py has no URLs for Sentinels. The format is that of ``limits``, RedisVL, LangChain and docket::

    redis+sentinel://[user:password@]host[:port][,host[:port]…]/name[/database][?option=value…]

The hosts are Sentinels; ``name`` is their name for the primary. User, password, database and options are for Redis
itself; those for the Sentinels are the options ``sentinel_username`` and ``sentinel_password``. ``rediss+sentinel``
encrypts connections to both. Each new connection first asks a Sentinel for the primary.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import redis
import redis.asyncio
from redis import sentinel
from redis.asyncio import sentinel as asyncio_sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry

# redis-py has no annotations for these.
_parse: Any = parse_url
_Pool: Any = sentinel.SentinelConnectionPool
_AsyncPool: Any = asyncio_sentinel.SentinelConnectionPool
_AsyncManager: Any = asyncio_sentinel.Sentinel
PORT = 26379
SCHEMES = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}


class Sentinels(NamedTuple):
    """The Sentinels, the primary's name, and the options of connections to both."""

    hosts: tuple[tuple[str, int], ...]
    name: str
    own_options: dict[str, Any]
    options: dict[str, Any]


def sentinels_of(url: str) -> Sentinels | None:
    """The Sentinels that a URL names; ``None`` if it names Redis itself. Raises ``ValueError``."""
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES:
        return None
    place, _, query = rest.partition("?")
    place, _, path = place.partition("/")
    user, at, members = place.rpartition("@")
    name, _, database = path.partition("/")
    if not name:
        raise ValueError("A URL of Sentinels needs the primary's name: redis+sentinel://host:26379,host:26379/name")
    if database and not database.isdecimal():
        raise ValueError(f"In a URL of Sentinels the primary's name is followed by a number, not {database!r}.")
    options = _parse(f"{SCHEMES[scheme]}://{user}{at}/{database}?{query}")
    own = {name: options.pop(f"sentinel_{name}") for name in ("username", "password") if f"sentinel_{name}" in options}
    if options.pop("connection_class", None) is not None:
        options["ssl"] = True
        own |= {name: value for name, value in options.items() if name.startswith("ssl")}
    return Sentinels(tuple(_member(member) for member in members.split(",")), name, own, options)


def pool_of(url: str, **options: Any) -> redis.ConnectionPool:
    """Connections to the primary, opened later. ``options`` are redis-py's; the URL's options take precedence."""
    found = sentinels_of(url)
    if found is None:
        return redis.ConnectionPool.from_url(url, **options)
    own = _patience(found, options) | {"retry": Retry(NoBackoff(), 0)}
    manager: Any = _Manager(found.hosts, sentinel_kwargs=own)  # type: ignore[no-untyped-call]
    kind = _EncryptedConnection if found.options.get("ssl") else _Connection
    rest = {name: value for name, value in found.options.items() if name != "ssl"}
    pool: redis.ConnectionPool = _Pool(found.name, manager, **{**options, **rest, "connection_class": kind})
    return pool


def async_pool_of(url: str, **options: Any) -> redis.asyncio.ConnectionPool:
    """The same for asyncio."""
    found = sentinels_of(url)
    if found is None:
        return redis.asyncio.ConnectionPool.from_url(url, **options)
    own = _patience(found, options) | {"retry": AsyncRetry(NoBackoff(), 0)}
    manager = _AsyncManager(found.hosts, sentinel_kwargs=own)
    pool: redis.asyncio.ConnectionPool = _AsyncPool(found.name, manager, **{**options, **found.options})
    return pool


def _member(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError(f"In a URL of Sentinels {text!r} is no host.")
    return parts.hostname, parts.port or PORT


def _patience(found: Sentinels, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of connections to Sentinels, with a time-out for all together of at most that of Redis."""
    seconds = options["socket_connect_timeout"] / len(found.hosts)
    return {**found.own_options, "socket_timeout": seconds, "socket_connect_timeout": seconds}


class _Manager(sentinel.Sentinel):
    """Asks the last responsive Sentinel first. Thread-safe."""

    def discover_master(self, service_name: str) -> Any:
        # redis-py swaps entries of a list that threads share, in which two concurrent swaps may lose a Sentinel.
        one = copy.copy(self)
        one.sentinels = list(self.sentinels)
        try:
            return sentinel.Sentinel.discover_master(one, service_name)  # type: ignore[no-untyped-call]
        finally:
            self.sentinels = one.sentinels


class _Asking:
    """Asks Sentinels for the primary after a broken connection, where redis-py would reconnect to the old address."""

    def send_packed_command(self: Any, command: Any, check_health: bool = True) -> None:
        self.connect()
        super().send_packed_command(command, check_health)  # type: ignore[misc]


class _Connection(_Asking, sentinel.SentinelManagedConnection):
    """A connection to the primary."""


class _EncryptedConnection(_Asking, sentinel.SentinelManagedSSLConnection):
    """A connection to the primary, by TLS."""
