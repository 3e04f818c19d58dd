"""Warm containers: started ahead, taken once, never given back.

One background thread both destroys used containers and starts new ones, so that neither stands in an execution's way;
it destroys first, since that frees memory and uids. When more containers wait to be destroyed than there are slots,
``discard`` destroys in the caller's thread instead: the backlog is bounded by work, not by memory. ``take`` never waits
for a warm container; it starts a cold one in the caller's thread. Making the next container costs more CPU than a
short program does, so it begins when the execution that took one has ended, or a moment later if that goes on.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable

import structlog

from orchestrator import metrics
from orchestrator.environments import Environment, Environments
from orchestrator.errors import MayflyError, WeakContainer
from orchestrator.models import Isolation, Limits
from worker.launcher import Launcher, Lease

RETRY_SECONDS = 2.0
COURTESY_SECONDS = 0.1
log = structlog.get_logger()


class Pool:
    """Warm containers of the default limits and ``standard`` isolation, by environment.

    ``on_weak`` hears what was wrong with a container that was made weaker than asked.
    """

    def __init__(
        self,
        launcher: Launcher,
        environments: Environments,
        size_of: Callable[[str], int],
        backlog: int,
        on_weak: Callable[[str], None],
    ) -> None:
        self._launcher = launcher
        self._on_weak = on_weak
        self._found_weak: set[str] = set()
        self._environments = environments
        self._size_of = size_of
        self._backlog = backlog
        self._warm: dict[str, deque[Lease]] = defaultdict(deque)
        self._doomed: deque[Lease] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._not_before = 0.0  # monotonic: when the next container may be made
        self._thread = threading.Thread(target=self._tend, name="pool", daemon=True)

    def start(self) -> None:
        """Begin to fill the pool in the background."""
        self._thread.start()

    def wake(self) -> None:
        """Look again what is missing: the engine is back, or has other images."""
        with self._changed:
            self._changed.notify()

    def sizes(self) -> dict[str, int]:
        """Warm containers waiting, by environment."""
        with self._changed:
            return {name: len(waiting) for name, waiting in self._warm.items()}

    def take(self, environment: Environment, isolation: Isolation, limits: Limits) -> tuple[Lease, bool]:
        """A sandbox for good, and whether it was warm.

        Raises what :meth:`Launcher.launch` raises.
        """
        while lease := self._pop(environment, isolation, limits):
            if _alive(lease):
                try:
                    self._fit(lease, limits)
                except MayflyError as error:
                    log.warning("pool.adjust_failed", container=lease.name, detail=error.message)
                else:
                    metrics.pool_leases.labels(environment.name, "hit").inc()
                    return lease, True
            self.discard(lease)
        metrics.pool_leases.labels(environment.name, "miss").inc()
        return self._launcher.launch(environment, isolation, limits), False

    def discard(self, lease: Lease) -> None:
        """Destroy a container that has been used, or cannot be."""
        with self._changed:
            if not self._closed and len(self._doomed) < self._backlog:
                self._doomed.append(lease)
                self._not_before = 0.0
                self._changed.notify()
                return
        self._launcher.destroy(lease)

    def close(self) -> None:
        """Destroy everything that waits, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        for waiting in (self._doomed, *self._warm.values()):
            while waiting:
                self._launcher.destroy(waiting.popleft())

    def _pop(self, environment: Environment, isolation: Isolation, limits: Limits) -> Lease | None:
        if isolation != "standard" or limits.disk_bytes != environment.defaults.disk_bytes:
            return None  # a tmpfs keeps the size it was mounted with
        with self._changed:
            waiting = self._warm[environment.name]
            lease = waiting.popleft() if waiting else None
            self._report(environment.name)
            self._not_before = time.monotonic() + COURTESY_SECONDS
            self._changed.notify()
            return lease

    def _fit(self, lease: Lease, limits: Limits) -> None:
        adjustable = ("memory_bytes", "cpu_cores", "processes")
        if any(getattr(limits, name) != getattr(lease.limits, name) for name in adjustable):
            self._launcher.driver.adjust(lease.sandbox, limits)
        lease.limits = limits

    def _tend(self) -> None:
        while True:
            with self._changed:
                while not self._closed and not self._doomed and (pause := self._pause()) != 0:
                    self._changed.wait(pause)
                if self._closed:
                    return
                doomed = self._doomed.popleft() if self._doomed else None
                wanted = self._wanted()
            if doomed is not None:
                self._launcher.destroy(doomed)
            elif wanted is not None:
                self._add(wanted)

    def _pause(self) -> float | None:
        """Seconds until the next container should be made; ``None`` while none is missing."""
        return None if self._wanted() is None else max(0.0, self._not_before - time.monotonic())

    def _add(self, environment: Environment) -> None:
        try:
            lease = self._launcher.launch(environment, "standard", environment.defaults)
        except MayflyError as error:
            log.warning("pool.launch_failed", environment=environment.name, detail=error.message)
            if isinstance(error, WeakContainer) and environment.name not in self._found_weak:
                self._found_weak.add(environment.name)  # told once until one is as it should be
                self._on_weak(error.message)
            with self._changed:
                self._not_before = time.monotonic() + RETRY_SECONDS
            return
        self._found_weak.discard(environment.name)
        with self._changed:
            self._warm[environment.name].append(lease)
            self._report(environment.name)

    def _wanted(self) -> Environment | None:
        """The environment that is furthest below its size, of those whose image is here."""
        missing = {
            name: self._size_of(name) - len(self._warm[name])
            for name in self._launcher.images
            if self._size_of(name) > len(self._warm[name])
        }
        return self._environments[max(missing, key=missing.__getitem__)] if missing else None

    def _report(self, environment: str) -> None:
        metrics.pool_size.labels(environment).set(len(self._warm[environment]))


def _alive(lease: Lease) -> bool:
    """A waiting agent says nothing: bytes or the end of the stream mean that something is wrong with it."""
    return lease.sandbox.receive(0) is None
