"""Stops a worker from taking what it cannot launch.

Failed launches are counted for each isolation. When some have failed one after the other, a *trial* decides: a
container of an environment's own limits, for no execution. If that fails too, nothing of that isolation is taken until
a later trial succeeds, after pauses that grow. So neither can a program's limits stop a worker, nor does a host that is
broken use up the attempts of everything that is queued.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from orchestrator import metrics
from orchestrator.errors import MayflyError
from orchestrator.models import ISOLATIONS, Isolation

FAILURES = 3
LEAST_SECONDS, MOST_SECONDS = 1.0, 60.0
log = structlog.get_logger()


@dataclass(frozen=True)
class Open:
    """Nothing is launched: why, until when (monotonic) at least, and how long the next pause is."""

    detail: str
    until: float
    pause_seconds: float


class Breaker:
    """What this worker cannot launch now. Thread-safe. ``trial`` raises :class:`MayflyError` when it fails."""

    def __init__(self, trial: Callable[[Isolation], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._trial = trial
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: Counter[Isolation] = Counter()
        self._trying: set[Isolation] = set()
        self._open: dict[Isolation, Open] = {}

    def blocks(self, isolation: Isolation) -> bool:
        """Whether nothing of that isolation shall be launched."""
        return isolation in self._open

    def trouble(self) -> list[str]:
        """What is wrong, for an operator."""
        return [f"launches of isolation {isolation!r} fail: {entry.detail}" for isolation, entry in self._open.items()]

    def succeeded(self, isolation: Isolation) -> None:
        """A launch did what it should."""
        if self._failures[isolation]:
            self._failures[isolation] = 0

    def failed(self, isolation: Isolation) -> None:
        """A launch did not; the caller's thread makes a trial if it was not the first."""
        with self._lock:
            self._failures[isolation] += 1
            if self._failures[isolation] < FAILURES or isolation in self._open:
                return
        self.try_again(isolation)

    def hasten(self) -> None:
        """Something changed, such as the engine: what is blocked is due for a trial."""
        with self._lock:
            self._open = {isolation: replace(entry, until=0.0) for isolation, entry in self._open.items()}

    def look(self) -> None:
        """Make the trials that are due."""
        for isolation in ISOLATIONS:
            entry = self._open.get(isolation)
            if entry is not None and self._clock() >= entry.until:
                self.try_again(isolation)

    def try_again(self, isolation: Isolation) -> None:
        """Make a trial, unless another thread is at it."""
        with self._lock:
            if isolation in self._trying:
                return
            self._trying.add(isolation)
        failure = None
        try:
            self._trial(isolation)
        except MayflyError as error:
            failure = error.message
        with self._lock:
            self._trying.discard(isolation)
            self._failures[isolation] = 0
            before = self._open.pop(isolation, None)
            if failure is not None:
                pause = min(MOST_SECONDS, 2 * before.pause_seconds) if before else LEAST_SECONDS
                self._open[isolation] = Open(failure, self._clock() + pause, pause)
        metrics.launches_blocked.labels(isolation).set(failure is not None)
        if failure is not None:
            log.error("launches.blocked", isolation=isolation, detail=failure, pause_seconds=pause)
        elif before is not None:
            log.info("launches.resumed", isolation=isolation)
