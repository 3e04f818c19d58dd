"""What a worker looks after beside its executions: its engine, its disks, and what nobody owns on its host.

Whether the engine answers is learned in two ways: by asking every now and then, and by whoever could not launch. Each
time it comes (back) the host is judged anew, since it may be another one.
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

CARE_SECONDS = 1.5  # between looks at the engine and at what nobody owns
log = structlog.get_logger()


class HostMonitor:
    """One worker's care for its host.

    ``alive`` tells the workers that are, ``on_engine`` hears that the engine is back, and ``on_refused`` that this host
    may not be worked on.
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
        """Whether there is an engine, and room."""
        return self.engine is not None and not self._space.trouble

    @property
    def trouble(self) -> tuple[str, ...]:
        """What keeps this host from work."""
        return (*self._space.trouble, *self._launcher.breaker.trouble())

    def run(self, stopped: Event) -> None:
        """Look after everything until ``stopped``."""
        while not stopped.wait(CARE_SECONDS if self.engine else CARE_SECONDS / 2):
            self.look_at_engine()
            self.look_at_host()
            if self.engine:
                self._reap()

    def look_at_engine(self) -> None:
        """Ask it, and whether this host may be worked on; what another thread is just told does as well.

        So however many cannot launch while the engine hangs, they wait for one answer.
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
            if self.engine is None:  # it may be another one than before
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
        """Its disks, and what could not be launched."""
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
