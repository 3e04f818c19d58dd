"""Receives messages of other processes: cancellations, and new standard input for the executions of this worker.

Messages may be lost: the next bookkeeping finds a missed cancellation, and the feeder's own reads find missed input.
"""

from __future__ import annotations

import threading
from typing import Any

import redis
import structlog

from orchestrator import metrics
from orchestrator.store import keys
from orchestrator.store.malformed import execution_id
from worker.attempt.runner import Runner

PAUSE_SECONDS = 1.0
log = structlog.get_logger()


class MessageListener:
    """The subscriptions of one worker. Used by one thread, except :meth:`wake`."""

    def __init__(self, connection: redis.Redis, worker: str, runner: Runner) -> None:
        self._connection: Any = connection
        self._runner = runner
        self._fed = keys.stdin_wake(worker)

    def run(self, stopped: threading.Event) -> None:
        """Dispatch messages until ``stopped`` is set, across outages of Redis."""
        while not stopped.is_set():
            try:
                self._receive(stopped)
            except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
                stopped.wait(PAUSE_SECONDS)
            except redis.exceptions.RedisError as error:  # such as a Redis user without the right to subscribe
                metrics.store_errors.inc()
                log.warning("subscription.failed", error=type(error).__name__, detail=str(error))
                stopped.wait(PAUSE_SECONDS)

    def _receive(self, stopped: threading.Event) -> None:
        with self._connection.pubsub(ignore_subscribe_messages=True) as pubsub:
            pubsub.subscribe(keys.CANCEL, self._fed)
            while not stopped.is_set():
                message = pubsub.get_message(timeout=PAUSE_SECONDS)
                if message is not None and not stopped.is_set():
                    self._dispatch(message["data"], fed=message["channel"] == self._fed.encode())

    def wake(self) -> None:
        """Wake :meth:`run`, so that it sees ``stopped`` at once; without Redis it does within ``PAUSE_SECONDS``."""
        try:
            self._connection.publish(self._fed, b"")
        except redis.exceptions.RedisError as error:
            log.warning("redis.unreachable", detail=str(error))

    def _dispatch(self, data: object, *, fed: bool) -> None:
        """Process a message: new standard input for an execution, or its cancellation."""
        id = execution_id(data, "fed message" if fed else "cancel message")
        if id is not None:
            self._runner.feed(id) if fed else self._runner.cancel(id)
