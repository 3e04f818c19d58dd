"""A connection for each thread, however many threads come and go."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from orchestrator.settings import Settings
from orchestrator.store import open_store
from tests.harness import RedisServer

THREADS = 150  # more than redis-py's pool would make connections


def test_threads_that_have_ended_use_up_no_connections(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    server.start()
    store = open_store(Settings(state_dir=tmp_path, redis_url=server.url))
    heard: list[Any] = []
    for _ in range(THREADS):
        thread = threading.Thread(target=lambda: heard.append(store.redis.send("PING")))
        thread.start()
        thread.join()
    assert heard == [b"PONG"] * THREADS
    assert store.redis.info("clients")["connected_clients"] < THREADS / 2
    store.redis.close()
    server.stop()
