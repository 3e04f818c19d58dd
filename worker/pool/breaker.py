"""A circuit breaker: stops a worker from taking executions that it cannot launch.

Failed launches are counted for each isolation. After consecutive failures a *trial* decides: a container with an
environment's default limits, without an execution. If the trial fails too, no execution of that isolation is taken
until a later trial succeeds, with growing pauses. So a program's limits cannot stop a worker, and a broken host does
not use up the attempts of all queued executions.

A retry library (stamina) would not make this module shorter: such a library repeats a call, whereas the breaker makes
no calls and decides when the next trial is due.
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
    """An open breaker: the reason, the earliest time of the next trial (monotonic), and the length of the next
    pause.
    """

    detail: str
    until: float
    pause_seconds: float


class Breaker:
    """The isolations that this worker cannot launch now. Thread-safe. ``trial`` raises :class:`MayflyError` on
    failure.
    """

    def __init__(self, trial: Callable[[Isolation], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._trial = trial
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: Counter[Isolation] = Counter()
        self._trying: set[Isolation] = set()
        self._open: dict[Isolation, Open] = {}

    def blocks(self, isolation: Isolation) -> bool:
        """Whether launches of that isolation are blocked."""
        return isolation in self._open

    def trouble(self) -> list[str]:
        """The reasons of blocked isolations, for an operator."""
        return [f"launches of isolation {isolation!r} fail: {entry.detail}" for isolation, entry in self._open.items()]

    def succeeded(self, isolation: Isolation) -> None:
        """Record a successful launch."""
        if self._failures[isolation]:
            self._failures[isolation] = 0

    def failed(self, isolation: Isolation) -> None:
        """Record a failed launch; from the second consecutive failure the caller's thread makes a trial."""
        with self._lock:
            self._failures[isolation] += 1
            if self._failures[isolation] < FAILURES or isolation in self._open:
                return
        self.try_again(isolation)

    def hasten(self) -> None:
        """Make blocked isolations due for a trial, after a change such as a restart of the engine."""
        with self._lock:
            self._open = {isolation: replace(entry, until=0.0) for isolation, entry in self._open.items()}

    def look(self) -> None:
        """Make the due trials."""
        for isolation in ISOLATIONS:
            entry = self._open.get(isolation)
            if entry is not None and self._clock() >= entry.until:
                self.try_again(isolation)

    def try_again(self, isolation: Isolation) -> None:
        """Make a trial, unless another thread is making it."""
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
