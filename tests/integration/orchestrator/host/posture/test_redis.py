"""The findings about a real Redis. A Redis that listens on every address runs in a network namespace of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from orchestrator.errors import StoreUnavailable
from orchestrator.host.posture import check_redis
from orchestrator.settings import Settings
from orchestrator.store.platform.inspection import inspect_redis
from tests.harness import Process, eventually

ISOLATED = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
DURABLE = ("--appendonly", "yes", "--maxmemory-policy", "noeviction", "--maxmemory", "100mb")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Starts a Redis that is reached through a Unix socket; its URL. ``word`` is its password."""
    started: list[Process] = []

    def start(*options: str, word: str = "") -> str:
        path = tmp_path / "redis.sock"
        asked = ["--requirepass", word] if word else []
        command = ["redis-server", "--unixsocket", str(path), "--save", "", "--dir", str(tmp_path), *asked, *options]
        started.append(Process([*ISOLATED, *command], {}, tmp_path / "redis.log"))
        url = f"unix://:{word}@{path}" if word else f"unix://{path}"
        eventually(lambda: _answers(url), "redis answers")
        return url

    yield start
    for process in started:
        process.stop()


def _answers(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        try:
            return bool(client.ping())
        except redis.exceptions.ConnectionError:
            return False


def statuses(url: str) -> dict[str, str]:
    settings = Settings(redis_url=url)
    return {finding.name: finding.status for finding in check_redis(settings, inspect_redis(url, 5))}


def test_redis_open_on_every_address_is_reported(server: Callable[..., str]) -> None:
    found = statuses(server("--bind", "0.0.0.0", "--protected-mode", "no", *DURABLE))
    assert found["redis listeners"] == "broken"
    assert found["redis durability"] == found["redis eviction"] == "ok"


def test_redis_with_a_password_is_closed(server: Callable[..., str]) -> None:
    found = statuses(server("--bind", "0.0.0.0", "--protected-mode", "no", *DURABLE, word="secret"))
    assert set(found.values()) == {"ok"}


def test_redis_without_a_port_is_closed(server: Callable[..., str]) -> None:
    assert set(statuses(server("--port", "0", *DURABLE)).values()) == {"ok"}


def test_redis_without_persistence_is_reported(server: Callable[..., str]) -> None:
    forgetful = ("--appendonly", "no", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    found = statuses(server("--port", "0", "--unixsocketperm", "777", *forgetful))
    assert found["redis durability"] == found["redis eviction"] == found["redis socket"] == "broken"


def test_redis_without_a_memory_bound_is_reported(server: Callable[..., str]) -> None:
    found = statuses(server("--port", "0", "--appendonly", "yes", "--maxmemory-policy", "noeviction"))
    assert (found["redis memory"], found["redis eviction"]) == ("weak", "ok")


def test_redis_that_hides_its_configuration_is_reported(server: Callable[..., str]) -> None:
    assert statuses(server("--rename-command", "CONFIG", "", *DURABLE))["redis listeners"] == "weak"


def test_inaccessible_redis_is_unavailable(server: Callable[..., str], tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        inspect_redis(f"unix://{tmp_path}/nowhere.sock", 1)
    url = server("--port", "0", word="secret")
    with pytest.raises(StoreUnavailable):
        inspect_redis(url.replace("secret", "wrong"), 5)
