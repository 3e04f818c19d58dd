"""Monitors the host of a worker: its engine, its disks, and orphaned containers.

The state of the engine is learned from periodic probes and from failed launches. Each time the engine returns the host
is checked again, since it may be another engine.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Lock

import redis
import structlog

from orchestrator import metrics
from orchestrator.errors import MayflyError
from orchestrator.store.malformed import MALFORMED
from worker.drivers.base import Driver
from worker.host.disks import Disks
from worker.host.hostdirs import HostDirs
from worker.pool.launcher import Launcher
from worker.upkeep.admission import Admission, Refused
from worker.upkeep.reaper import reap

CARE_SECONDS = 1.5  # between two checks of the engine and of orphans
log = structlog.get_logger()


class HostMonitor:
    """The host monitor of one worker.

    ``alive`` returns the live workers; ``on_engine`` is called when the engine has returned, ``on_refused`` when
    admission refuses this host.
    """

    def __init__(
        self,
        worker: str,
        driver: Driver,
        launcher: Launcher,
        host_dirs: HostDirs,
        admission: Admission,
        space: Disks,
        alive: Callable[[], set[str]],
        on_engine: Callable[[], None],
        on_refused: Callable[[], None],
    ) -> None:
        self._worker, self._driver, self._launcher, self._host_dirs = worker, driver, launcher, host_dirs
        self._admission, self._space, self._alive = admission, space, alive
        self._on_engine, self._on_refused = on_engine, on_refused
        self.refused: Refused | None = None
        self.engine: str | None = None
        self._looks = 0
        self._looking = Lock()

    @property
    def fit(self) -> bool:
        """Whether the engine answers and the disks have room."""
        return self.engine is not None and not self._space.trouble

    @property
    def trouble(self) -> tuple[str, ...]:
        """The reasons why this worker takes no executions."""
        return (*self._space.trouble, *self._launcher.breaker.trouble())

    def run(self, stopped: Event) -> None:
        """Monitor the host until ``stopped``."""
        while not stopped.wait(CARE_SECONDS if self.engine else CARE_SECONDS / 2):
            self.look_at_engine()
            if self.engine:
                self._reap()
            self.look_at_host()  # last: an API that does not answer delays it

    def look_at_engine(self) -> None:
        """Probe the engine and check admission; concurrent callers share the result of one probe.

        So all slots whose launch failed while the engine hangs wait for the same answer.
        """
        before = self._looks
        with self._looking:
            if self._looks == before:
                self._ask_engine()
                self._looks += 1

    def _ask_engine(self) -> None:
        try:
            self._launcher.refresh()
            engine = self._driver.version()
            if self.engine is None:  # it may be another engine than before
                self._admission.check_all()
        except Refused as refused:
            self.refused = refused
            self._on_refused()
        except MayflyError as error:
            if self.engine is not None:
                log.error("engine.unavailable", detail=error.message)
            self.engine = None
        else:
            if self.engine is None:
                log.info("engine.available", engine=engine)
                self._launcher.breaker.hasten()
                self._on_engine()
            self.engine = engine

    def look_at_host(self) -> None:
        """Check the disks, and make due trials of blocked launches."""
        before = self._space.trouble
        self._space.look()
        metrics.disks_full.set(len(self._space.trouble))
        if self._space.trouble != before:
            log.error("disks.full", places=self._space.trouble) if self._space.trouble else log.info("disks.free")
        if self.engine:
            self._launcher.breaker.look()

    def _reap(self) -> None:
        try:
            reap(self._driver, self._launcher, self._host_dirs, self._worker, self._alive)
        except (MayflyError, redis.exceptions.RedisError, OSError, *MALFORMED) as error:
            log.warning("reaping.failed", error=type(error).__name__, detail=str(error))
