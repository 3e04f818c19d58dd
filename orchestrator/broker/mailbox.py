"""Threads between the broker's event loop and Redis: one takes calls, one settles their outcomes.

Both handle all calls and outcomes that arrived during their last round trip, so that a busy broker needs few round
trips. The event loop never waits for Redis.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import NamedTuple

import structlog
from redis.exceptions import RedisError

from orchestrator import metrics
from orchestrator.errors import StoreUnavailable
from orchestrator.models.tools import ToolOutcome
from orchestrator.store.malformed import MALFORMED
from orchestrator.store.tools.brokers import LEASE_SECONDS
from orchestrator.store.tools.calls import UNDECLARED, Calls, Taken, Upstream

WAIT_SECONDS = 1.0
RETRY_SECONDS = 0.2
MOST_TOGETHER = 100
MOST_BYTES_TOGETHER = 16 * 2**20
FAILURES = (RedisError, *MALFORMED)  # of keys with another type, and of outcomes that are not text
log = structlog.get_logger()


class Outcome(NamedTuple):
    """The outcome of a call, to be settled. ``until`` ends its retries (monotonic seconds) after a first failure."""

    id: str
    outcome: ToolOutcome
    until: float | None = None


class Mailbox:
    """``rooms`` gives the free capacity of each served upstream; ``on_taken`` counts calls as begun, and passes them
    to the event loop. Both run in a thread, one at a time, so that no upstream gets more calls than its capacity.
    """

    def __init__(
        self,
        calls: Calls,
        broker: str,
        rooms: Callable[[], Mapping[Upstream, int]],
        on_taken: Callable[[Taken], None],
    ) -> None:
        self._calls, self._broker, self._rooms, self._on_taken = calls, broker, rooms, on_taken
        self._taking = threading.Lock()
        self._more = threading.Event()  # calls were left for lack of capacity
        self._outcomes: SimpleQueue[Outcome | None] = SimpleQueue()
        self._stopping = threading.Event()
        self._wanted = threading.Semaphore(0)
        self._until = math.inf  # when a stopped mailbox no longer waits for Redis: then the broker's lease has ended
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for name, target in (("take", self._take_rung), ("take-more", self._take_wanted), ("settle", self._settle))
        ]

    def start(self) -> None:
        """Begin to take and settle."""
        for thread in self._threads:
            thread.start()

    def stop_taking(self) -> None:
        """Take no more calls. Returns when those that were being taken have been handed over."""
        self._stopping.set()
        self._wanted.release()
        with self._taking:
            pass

    def stop(self) -> None:
        """Settle the remaining outcomes, and end: within the seconds of a lease, even without Redis."""
        self.stop_taking()
        self._until = time.monotonic() + LEASE_SECONDS
        self._outcomes.put(None)
        with suppress(StoreUnavailable, RedisError):  # then no thread waits for calls either
            self._calls.wake(self._broker)
        for thread in self._threads:
            thread.join()

    def room(self) -> None:
        """Take the calls that were left, after capacity became free."""
        if self._more.is_set():
            self._more.clear()
            self._wanted.release()

    def look(self) -> None:
        """Take all waiting calls, for example of an upstream that has just connected."""
        self._wanted.release()

    def settle(self, id: str, outcome: ToolOutcome) -> None:
        """Enqueue the outcome of a call for settling."""
        self._outcomes.put(Outcome(id, outcome))

    def _take_rung(self) -> None:
        while not self._stopping.is_set():
            try:
                if self._calls.wait(self._broker, WAIT_SECONDS):
                    self._take()
            except (StoreUnavailable, *FAILURES) as error:
                self._failed(error)

    def _take_wanted(self) -> None:
        while not self._stopping.is_set():
            self._wanted.acquire()
            while self._wanted.acquire(blocking=False):
                pass
            try:
                self._take()
            except (StoreUnavailable, *FAILURES) as error:
                self._failed(error)
                self._wanted.release()

    def _failed(self, error: Exception) -> None:
        """Pause after a failure, before the next attempt to take calls; readiness reports an unavailable Redis."""
        if not isinstance(error, StoreUnavailable):
            metrics.broker_failures.labels("take").inc()
            log.error("broker.failed", part="take", exc_info=error)
        self._stopping.wait(RETRY_SECONDS)

    def _take(self) -> None:
        with self._taking:
            if self._stopping.is_set():
                return
            self._more.clear()
            rooms = self._rooms()
            taken = self._calls.take(self._broker, rooms)
            if taken is None:  # the lease ended, which the heartbeat handles
                return
            counts: Counter[Upstream] = Counter()
            for call, _ in taken.calls:
                name = Upstream(call.tenant, call.server)
                counts[name if name in rooms else UNDECLARED] += 1
            if any(counts[name] >= room for name, room in rooms.items()):
                self._more.set()
            if taken.calls or taken.cancelled or taken.lost:
                self._on_taken(taken)

    def _settle(self) -> None:
        """Settle outcomes until ``stop``. A failed outcome is retried alone, so that it does not delay the others."""
        ended, failed = False, list[Outcome]()
        while not ended or failed:
            together = self._gathered(RETRY_SECONDS if failed else None)
            ended = ended or None in together
            outcomes = [one for one in together if one is not None]
            failed = [one for again in failed for one in self._settled([again])] + self._settled(outcomes)

    def _gathered(self, seconds: float | None) -> list[Outcome | None]:
        """The waiting outcomes; waits up to ``seconds`` for the first."""
        together: list[Outcome | None] = []
        size = 0
        try:
            while len(together) < MOST_TOGETHER and size < MOST_BYTES_TOGETHER:
                together.append(self._outcomes.get_nowait() if together else self._outcomes.get(timeout=seconds))
                last = together[-1]
                size += len(last.outcome.result or "") if last else 0
        except Empty:
            pass
        return together

    def _settled(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Settle calls, as soon as Redis is available; returns the outcomes to retry."""
        if not outcomes:
            return []
        while True:
            try:
                mine = self._calls.settle(self._broker, [(one.id, one.outcome) for one in outcomes])
            except StoreUnavailable:
                if time.monotonic() > self._until:
                    return _retried(outcomes, self._until)
                time.sleep(RETRY_SECONDS)
            except FAILURES:
                metrics.broker_failures.labels("settle").inc()
                log.exception("broker.failed", part="settle", count=len(outcomes))
                return _retried(outcomes, time.monotonic() + LEASE_SECONDS)
            else:
                if not all(mine):
                    log.info("tools.outcomes_unwanted", count=mine.count(False))
                return []


def _retried(outcomes: Sequence[Outcome], until: float) -> list[Outcome]:
    """The outcomes whose retries have not ended; the retries of an outcome begin with its first failure."""
    begun = [one if one.until else one._replace(until=until) for one in outcomes]
    lost = [one.id for one in begun if (one.until or 0.0) <= time.monotonic()]
    if lost:
        metrics.tool_outcomes_lost.inc(len(lost))
        log.error("tools.outcomes_lost", calls=lost)
    return [one for one in begun if one.id not in lost]
