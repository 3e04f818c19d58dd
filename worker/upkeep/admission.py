"""Admission of this host: a worker takes no work on a host that cannot keep a promise, except with ``--accept-weaker``.

Checks that need neither engine nor Redis run first. The others run each time the engine returns, since it may be
another engine; until they have run, the worker takes no executions.
"""

from __future__ import annotations

import threading
import time

import structlog

from orchestrator.host import posture
from orchestrator.host.posture import Finding
from orchestrator.models.security import BrokenPromises, SecurityEvent
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.platform.inspection import inspect_redis
from worker.drivers.base import Driver

HINT = "See `mayfly doctor --security`. To start nevertheless: --accept-weaker, or MAYFLY_ACCEPT_WEAKER=true."
log = structlog.get_logger()


class Refused(Exception):
    """This host cannot keep Mayfly's promises, so the worker takes no work."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("\n".join([str(self.__doc__), *posture.lines(findings), HINT]))
        self.names = [finding.name for finding in findings]


class Admission:
    """Checks the host. ``weaker`` names the findings that an operator accepted. Thread-safe."""

    def __init__(self, settings: Settings, driver: Driver, store: Store, worker: str) -> None:
        self._settings, self._driver, self._store, self._worker = settings, driver, store, worker
        self._lock = threading.Lock()
        self.weaker: tuple[str, ...] = ()

    def check_host(self) -> None:
        """Run the checks that need neither engine nor Redis. Raises :class:`Refused`."""
        self._judge(posture.check_host(self._settings))

    def check_all(self) -> None:
        """Run all checks, and report accepted findings.

        Raises :class:`Refused`, and :class:`MayflyError` when the engine or Redis does not answer.
        """
        settings = self._settings
        begun = time.monotonic()
        with self._lock:
            redis = inspect_redis(settings.effective_redis_url, settings.redis_timeout_seconds)
            findings = [
                *posture.check_host(settings),
                *posture.check_engine(settings, self._driver.facts()),
                *posture.check_redis(settings, redis),
            ]
            weaker = self._judge(findings)
            if weaker and weaker != self.weaker:
                self._report([finding for finding in findings if finding.status == "broken"])
            self.weaker = weaker
        names = [finding.name for finding in findings if finding.status == "weak"]
        log.info("posture.checked", weak=names, weaker=list(weaker), seconds=round(time.monotonic() - begun, 3))

    def _judge(self, findings: list[Finding]) -> tuple[str, ...]:
        broken = [finding for finding in findings if finding.status == "broken"]
        if broken and not self._settings.accept_weaker:
            raise Refused(broken)
        return tuple(finding.name for finding in broken)

    def _report(self, broken: list[Finding]) -> None:
        details = "; ".join(f"{finding.name}: {finding.detail} (remedy: {finding.remedy})" for finding in broken)
        detail = f"This worker was started with --accept-weaker on a host that cannot keep every promise. {details}"
        evidence = BrokenPromises([finding.name for finding in broken])
        event = SecurityEvent("runtime_degraded", detail, "host", evidence)
        self._store.security.add(event, tenant=None, source=f"worker:{self._worker}")
