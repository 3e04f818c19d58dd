"""What becomes of an attempt that the platform spoilt: another one, or the end as ``errored``.

Without Redis it is the janitor's matter.
"""

from __future__ import annotations

import json
from typing import Any

import structlog

from orchestrator import metrics, queue
from orchestrator.errors import (
    HandedBack,
    MayflyError,
    SpecificationRejected,
    SpecificationTampered,
    StoreUnavailable,
    WeakContainer,
)
from orchestrator.settings import Settings
from orchestrator.states import Reason, errored
from orchestrator.store import Store
from orchestrator.store.records import Claim
from worker.held import Held
from worker.watch import weak_container

log = structlog.get_logger()


class Faults:
    """Settles attempts that cannot go on. Thread-safe."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._most = settings.max_attempts

    def settle(self, claim: Claim, held: Held, error: MayflyError) -> None:
        """Give the execution to another worker, or end it, because of ``error``."""
        about = {"execution": claim.id, "attempt": claim.attempt, "code": error.code, "detail": error.message}
        log.warning("attempt.failed", **about)
        try:
            if isinstance(error, SpecificationTampered):
                detail = f"{error.message} Somebody but the API writes to Redis: see who can, then change its password."
                self.tell(claim, {"kind": "queue_tampering", "detail": detail, "attribution": "host"})
            if isinstance(error, WeakContainer):
                self.tell(claim, weak_container(error.message))
            self._settle(claim, held, error)
        except StoreUnavailable:
            metrics.store_errors.inc()
            log.warning("attempt.left", execution=claim.id, attempt=claim.attempt)

    def tell(self, claim: Claim, event: dict[str, Any]) -> None:
        """An event outside of a session: no program ran, or the kernel told of it after the end."""
        try:
            self._store.output.append(claim.id, claim.attempt, [("security", json.dumps(event).encode(), True)])
        except StoreUnavailable as error:
            metrics.store_errors.inc()
            log.warning("security_event.lost", execution=claim.id, kind=event["kind"], detail=error.message)

    def _settle(self, claim: Claim, held: Held, error: MayflyError) -> None:
        records = self._store.records
        if held.cancelled:
            records.end(claim.id, records.cancelled(claim.id), error.message, claim.attempt)
        elif isinstance(error, HandedBack) and self._may_repeat(held, error):
            if records.requeue(claim.id, claim.attempt, handed_back=True):
                queue.put_back(self._store, claim.id)
        elif self._may_repeat(held, error) and (spoilt := records.faults(claim.id, claim.attempt)) < self._most:
            if records.requeue(claim.id, claim.attempt):
                queue.put_back_later(self._store, claim.id, self._settings.retry_pause(spoilt))
        else:
            records.end(claim.id, errored(getattr(error, "reason", Reason.INTERNAL)), error.message, claim.attempt)

    @staticmethod
    def _may_repeat(held: Held, error: MayflyError) -> bool:
        return not isinstance(error, SpecificationRejected) and (held.may_repeat or not held.started)
