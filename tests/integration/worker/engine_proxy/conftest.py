"""An engine proxy before the tests' engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.settings import Settings
from orchestrator.store import open_store
from tests.builders.sandboxes.proxied import Proxied
from tests.harness import RedisServer


@pytest.fixture(scope="module")
def proxied(
    engine: None, images: Path, server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxied]:
    """The host of a module, whose proxy writes events into the tests' Redis."""
    store = open_store(Settings(state_dir=tmp_path_factory.mktemp("state"), redis_url=server.url))
    with closing(store.redis), closing(Proxied(images, store.security)) as made:
        yield made
        assert made.driver.owned() == []
        assert list(made.settings.sandboxes_path.iterdir()) == []
