"""Wakes waiting requests by pub/sub, without polling.

Each API process has one pub/sub connection. The connection is always subscribed to the channel of all ends, and to the
other changes of an execution only while a client of this process follows the execution. A listener registers before it
reads the store, so it misses no change. Redis's confirmation of a subscription wakes the listener, which reads again,
so it misses no change before the subscription or during a lost connection. Redis pushes a small result to the process
of a waiting submission, which saves the read.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import redis.exceptions
import structlog
from redis.asyncio.client import PubSub

from orchestrator import metrics
from orchestrator.store import keys
from orchestrator.store.connection import connect_async

RECONNECT_SECONDS = 0.5
SILENT_SECONDS = 5.0
CONFIRM_SECONDS = 1.0  # the wait for Redis's confirmation of a subscription; a later confirmation wakes the listener
PREFIX, ENDED = keys.WAKE.encode(), keys.ENDED.encode()
log = structlog.get_logger()
AWAY = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError)


class Listener:
    """A listener for changes of one execution."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.answer = b""  # the ended execution's result, if it was pushed to this process

    async def wait(self, timeout_seconds: float) -> bool:
        """Wait for a wake-up; ``False`` after the time-out."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self.event.wait()
        except TimeoutError:
            return False
        self.event.clear()
        return True


class Wakeups:
    """The subscriptions and their listeners, on one event loop."""

    def __init__(self, url: str) -> None:
        self._redis = connect_async(url, RECONNECT_SECONDS * 4)
        self._pubsub: PubSub | None = None
        self._ends: dict[bytes, set[Listener]] = defaultdict(set)  # by id
        self._changes: dict[bytes, set[Listener]] = defaultdict(set)  # by channel
        self._task: asyncio.Task[None] | None = None
        self.draining = False
        self.name = secrets.token_hex(8)
        self._answers = f"{keys.ANSWERS}{self.name}".encode()

    def drain(self) -> None:
        """Drain: wake all listeners, so that waiting requests are answered with the current state before the process
        ends.
        """
        self.draining = True
        for listeners in (*self._ends.values(), *self._changes.values()):
            _wake(listeners)

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
    def ends(self, id: str) -> Iterator[Listener]:
        """A listener for the end of one execution."""
        with _registered(self._ends, id.encode()) as listener:
            yield listener

    @asynccontextmanager
    async def changes(self, name: str) -> AsyncIterator[Listener]:
        """A listener for all wake-ups of a name, such as an execution's id."""
        channel = PREFIX + name.encode()
        try:
            with _registered(self._changes, channel) as listener:
                if self._pubsub is not None:
                    with suppress(*AWAY):  # a lost connection is about to subscribe to all channels again
                        await self._pubsub.subscribe(channel)
                        await listener.wait(
                            CONFIRM_SECONDS
                        )  # otherwise the confirmation would make the caller read a second time
                yield listener
        finally:
            if channel not in self._changes and self._pubsub is not None:
                with suppress(*AWAY):
                    await self._pubsub.unsubscribe(channel)

    async def _run(self) -> None:
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await pubsub.subscribe(ENDED, self._answers)
                    self._pubsub = pubsub  # from here on, each new listener subscribes its own channel
                    if self._changes:
                        await pubsub.subscribe(*self._changes)
                    await self._listen(pubsub)
            except AWAY:
                await asyncio.sleep(RECONNECT_SECONDS)
            except Exception:  # waiting requests must survive the error: they read after the next subscription
                metrics.wakeup_failures.inc()
                log.exception("wakeups.failed")
                await asyncio.sleep(RECONNECT_SECONDS)
            finally:
                self._pubsub = None

    async def _listen(self, pubsub: PubSub) -> None:
        """Receive messages until the connection breaks, or a ping is not answered: Redis may hang, or its host may be
        gone.
        """
        asked = False
        while True:
            message = await pubsub.get_message(timeout=SILENT_SECONDS)
            if message is not None:
                asked = False
                self._dispatch(message["type"], message["channel"], message["data"])
            elif asked:
                raise redis.exceptions.TimeoutError("It is silent.")
            else:
                asked = True
                await pubsub.ping()

    def _dispatch(self, type: str, channel: bytes, data: bytes) -> None:
        if channel == self._answers:
            if type == "message":
                self._answer(data)
        elif channel != ENDED:
            _wake(self._changes.get(channel, ()))
        elif type == "message":
            _wake(self._ends.get(data, ()))
        else:  # a new subscription: the listener may have missed ends
            for listeners in self._ends.values():
                _wake(listeners)

    def _answer(self, data: bytes) -> None:
        id, _, answer = data.partition(b" ")
        for listener in self._ends.get(id, ()):
            listener.answer = answer
            listener.event.set()


@contextmanager
def _registered(listeners: dict[bytes, set[Listener]], key: bytes) -> Iterator[Listener]:
    listener = Listener()
    listeners[key].add(listener)
    try:
        yield listener
    finally:
        listeners[key].discard(listener)
        if not listeners[key]:
            del listeners[key]


def _wake(listeners: Iterable[Listener]) -> None:
    for listener in listeners:
        listener.event.set()
