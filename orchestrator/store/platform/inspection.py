"""Facts about Redis, for the checks of a host's posture."""

from __future__ import annotations

from typing import Any

from redis import exceptions

from orchestrator.errors import StoreUnavailable
from orchestrator.host.posture import RedisFacts
from orchestrator.store.connection import connect

ASKED = ("bind", "port", "tls-port", "protected-mode")


def inspect_redis(url: str, timeout_seconds: float) -> RedisFacts:
    """Ask Redis. Raises :class:`StoreUnavailable` when it does not answer."""
    connection: Any = connect(url, timeout_seconds)
    try:
        info = connection.info("memory") | connection.info("persistence")
        try:
            config = connection.config_get(*ASKED)
        except exceptions.ResponseError:  # renamed, or forbidden to this user
            config = {}
    except exceptions.ResponseError as error:  # Redis requires another password
        raise StoreUnavailable() from error
    finally:
        connection.close()
    return RedisFacts(info, config, _answers_without_password(url, timeout_seconds))


def _answers_without_password(url: str, timeout_seconds: float) -> bool:
    scheme, _, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    stranger: Any = connect(f"{scheme}://{place.rpartition('@')[2]}{slash}{path}", timeout_seconds)
    try:
        return bool(stranger.ping())
    except (StoreUnavailable, exceptions.ResponseError):  # Redis requires a password
        return False
    finally:
        stranger.close()
