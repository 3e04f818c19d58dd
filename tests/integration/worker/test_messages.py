"""A cancellation reaches the worker by a message, without the worker's bookkeeping, which takes longer."""

from __future__ import annotations

import threading
from typing import Any, cast

from orchestrator.store import Store, keys
from orchestrator.store.connection import connect_plain
from tests.harness import RedisServer, eventually
from worker.messages import MessageListener

ID = "0123456789abcdef" * 2


class Runner:
    """Takes the messages of an execution."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, str]] = []
        self.is_taken = threading.Semaphore(0)

    def cancel(self, id: str) -> None:
        self._take("cancel", id)

    def feed(self, id: str) -> None:
        self._take("feed", id)

    def _take(self, what: str, id: str) -> None:
        self.taken.append((what, id))
        self.is_taken.release()


def test_messages_reach_the_runner_after_malformed_messages(server: RedisServer, store: Store) -> None:
    runner, stopped = Runner(), threading.Event()
    connection = connect_plain(server.url, 2)
    listener = MessageListener(connection, "w", cast(Any, runner))
    thread = threading.Thread(target=listener.run, args=[stopped])
    thread.start()
    try:
        fed = keys.stdin_wake("w")
        eventually(lambda: store.redis.publish(fed, b"no id") == 1, "the worker is subscribed")
        eventually(lambda: store.redis.publish(keys.CANCEL, b"no id") == 1, "to cancellations, too")
        for channel in (fed, keys.CANCEL):
            for message in (b"\xff" * 32, ID):
                store.redis.publish(channel, message)
        for _ in range(2):
            assert runner.is_taken.acquire(timeout=60)
    finally:
        stopped.set()
        listener.wake()
        thread.join(60)
        connection.close()
    assert runner.taken == [("feed", ID), ("cancel", ID)]
