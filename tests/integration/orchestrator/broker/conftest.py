"""Fixtures: brokers on an empty Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.builders.brokers import Brokers
from tests.harness import RedisServer


@pytest.fixture
def brokers_with(server: RedisServer, tmp_path: Path) -> Iterator[Callable[..., Brokers]]:
    """Makes an installation without an API; settings are keyword arguments."""

    def make(**settings: Any) -> Brokers:
        client = server.client()
        client.flushall()
        client.close()
        made = Brokers(tmp_path, server, **settings)
        ends.callback(made.stop)
        return made

    with ExitStack() as ends:
        yield make


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """An installation with one broker and the tool server ``test`` on a pipe, for tests that change neither."""
    directory = tmp_path_factory.mktemp("brokers")
    redis = RedisServer(directory)
    redis.start()
    made = Brokers(directory, redis)
    try:
        made.over_pipe()
        made.start()
        made.ready()
        yield made
    finally:
        made.stop()
        redis.stop()
