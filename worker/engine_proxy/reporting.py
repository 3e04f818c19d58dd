"""Reports of refused calls: a log line and a count for each, and security events at 1, 10, 100 … within a minute.

A thread of its own writes the events, so that a Redis that is away delays no call. The proxy reads nothing from Redis.
"""

from __future__ import annotations

import queue
import threading
import time
from contextlib import suppress

import structlog

from orchestrator import metrics
from orchestrator.errors import StoreUnavailable
from orchestrator.models import SecurityKind
from orchestrator.models.security import Refusal, SecurityEvent
from orchestrator.store.security import SecurityLog, milestone
from worker.engine_proxy.calls import Refused

KIND: SecurityKind = "engine_call_refused"
SOURCE = "engine-proxy"
MOST_WAITING = 100
STOP_SECONDS = 3.0  # for waiting events at the end, less than any service manager's patience
log = structlog.get_logger()


class Reports:
    """Reports refused calls. Thread-safe."""

    def __init__(self, security: SecurityLog) -> None:
        self._security = security
        self._waiting: queue.Queue[Refused | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._write, name="reports", daemon=True)

    def start(self) -> None:
        """Start the thread that writes events."""
        self._thread.start()

    def stop(self, most_seconds: float = STOP_SECONDS) -> None:
        """Write the waiting events for at most this time, and end the thread; the others are lost, and logged."""
        until = time.monotonic() + most_seconds
        with suppress(queue.Full):
            self._waiting.put(None, timeout=most_seconds)
        self._thread.join(max(0.0, until - time.monotonic()))
        if self._thread.is_alive():
            log.warning("security_event.lost", kind=KIND, events=self._waiting.qsize())

    def add(self, refused: Refused, request: str) -> None:
        """Log and count a refused call, and leave its event to the thread."""
        metrics.engine_calls_refused.labels(refused.reason).inc()
        log.warning("engine_call.refused", reason=refused.reason, detail=refused.detail[:1000], request=request[:300])
        try:
            self._waiting.put_nowait(refused)
        except queue.Full:
            log.warning("security_event.lost", kind=KIND, reason=refused.reason)

    def _write(self) -> None:
        while (refused := self._waiting.get()) is not None:
            try:
                _, number = self._security.count(KIND, refused.reason)
                if milestone(number):
                    event = SecurityEvent(KIND, refused.detail, "host", Refusal(refused.reason), number)
                    self._security.add(event, tenant=None, source=SOURCE)
            except StoreUnavailable as error:
                log.warning("security_event.lost", kind=KIND, reason=refused.reason, detail=error.message)
