"""How waiting requests learn that something happened, without polling.

Each API process has one subscription to every execution's wake channel. A listener registers first and reads the store
then, so nothing falls between; when the subscription breaks, every listener is woken and reads again.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import redis.asyncio
import redis.exceptions

from orchestrator.states import TERMINAL
from orchestrator.store import keys

RECONNECT_SECONDS = 0.5
PREFIX = keys.WAKE.encode()


class Listener:
    """Woken by what happens to one execution."""

    def __init__(self, only_ends: bool) -> None:
        self.only_ends = only_ends
        self.event = asyncio.Event()

    async def wait(self, timeout_seconds: float) -> bool:
        """Wait to be woken; ``False`` when the time is over."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self.event.wait()
        except TimeoutError:
            return False
        self.event.clear()
        return True


class Wakeups:
    """The subscription and its listeners, on one event loop."""

    def __init__(self, url: str) -> None:
        self._redis = redis.asyncio.Redis.from_url(url, socket_connect_timeout=RECONNECT_SECONDS * 4)
        self._listeners: dict[bytes, set[Listener]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Subscribe, and keep subscribed."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End the subscription."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._redis.aclose()

    @contextmanager
    def listen(self, id: str, *, only_ends: bool) -> Iterator[Listener]:
        """A listener for one execution: for its end only, or for output too."""
        listener, key = Listener(only_ends), id.encode()
        self._listeners[key].add(listener)
        try:
            yield listener
        finally:
            self._listeners[key].discard(listener)
            if not self._listeners[key]:
                del self._listeners[key]

    async def _run(self) -> None:
        ends = {state.value.encode() for state in TERMINAL}
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.psubscribe(PREFIX + b"*")
                    self._wake_all()
                    async for message in pubsub.listen():
                        id = message["channel"].removeprefix(PREFIX)
                        for listener in self._listeners.get(id, ()):
                            if not listener.only_ends or message["data"] in ends:
                                listener.event.set()
            except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
                self._wake_all()
                await asyncio.sleep(RECONNECT_SECONDS)

    def _wake_all(self) -> None:
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.event.set()
