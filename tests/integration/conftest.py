"""Fixtures: a Redis for tests of the store alone, and an API without a worker for tests of requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.api import create_app
from orchestrator.api.middleware import Edge
from orchestrator.models import key_format
from orchestrator.settings import Settings, create_secret_file
from orchestrator.store import Store, open_store
from tests.harness import RedisServer, Stack, bearer


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis without an API or a worker."""
    made = RedisServer(tmp_path_factory.mktemp("redis"))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def settings(server: RedisServer, tmp_path: Path) -> Settings:
    """Defaults with that Redis, emptied; a module that needs other values overrides this and copies it."""
    client = server.client()
    client.flushall()
    client.close()
    return Settings(state_dir=tmp_path, redis_url=server.url)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    """An empty store."""
    made = open_store(settings)
    yield made
    made.redis.close()


@pytest.fixture
def own_api(settings: Settings) -> Iterator[tuple[Edge, dict[str, str]]]:
    """An API in the test's own process, for tests that halt it or count its calls; and its administrator's headers."""
    create_secret_file(settings.secret_path)
    key = create_secret_file(settings.admin_key_path, key_format.PREFIX)
    made: Any = create_app(settings.model_copy(update={"rate_limit": "off"}))
    yield made, bearer(key)
    made.app.state.parts.service.policy.stop()  # its lifespan has not run, but a submission starts a helper


@pytest.fixture(scope="module")
def api_settings() -> dict[str, Any]:
    """Settings of a module's ``api`` beyond the tests' defaults; for modules to override."""
    return {}


@pytest.fixture(scope="module")
def api(engine: None, tmp_path_factory: pytest.TempPathFactory, api_settings: dict[str, Any]) -> Iterator[Stack]:
    """A stack without a worker: what is queued stays queued."""
    made = Stack(tmp_path_factory.mktemp("api"), **api_settings)
    try:
        yield made.start(workers=0)
    finally:
        made.stop()
