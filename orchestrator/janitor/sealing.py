"""Seals the audit log, in a thread of its own, so that no round of the janitor delays a seal.

Every API process tries to add each seal; a script lets only one succeed.
"""

from __future__ import annotations

import threading
import time

import structlog
from redis.exceptions import RedisError

from orchestrator import metrics
from orchestrator.audit.log import AuditLog
from orchestrator.errors import StoreUnavailable
from orchestrator.store.malformed import MALFORMED

PAUSE_SECONDS = 0.5
TRIM_SECONDS = 600.0
log = structlog.get_logger()


class Sealer:
    """The thread."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sealer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after a last seal."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        due, leaving = 0.0, False
        while not leaving:
            leaving = self._stopped.wait(PAUSE_SECONDS)
            try:
                self._audit.seal()
                if time.monotonic() >= due:
                    due = time.monotonic() + TRIM_SECONDS
                    self._audit.trim(time.time())
            except StoreUnavailable:
                continue  # readiness already reports that
            except (RedisError, *MALFORMED) as error:  # of keys with a wrong type, which the janitor removes
                metrics.janitor_failures.inc()
                log.error("janitor.failed", part="seal", error=type(error).__name__, detail=str(error))
