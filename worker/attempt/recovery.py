"""Retries or ends executions whose attempt on this worker has no result.

:mod:`orchestrator.retry` decides. If Redis is unavailable, the janitor recovers the execution later.
"""

from __future__ import annotations

import structlog

from orchestrator import metrics, queue, retry
from orchestrator.errors import (
    HandedBack,
    MayflyError,
    SpecificationRejected,
    SpecificationTampered,
    StoreUnavailable,
    WeakContainer,
)
from orchestrator.models.security import SecurityEvent
from orchestrator.retry import Cause
from orchestrator.settings import Settings
from orchestrator.states import Reason, State, errored
from orchestrator.store import Store
from orchestrator.store.executions.records import Claim
from orchestrator.store.steps import SECURITY
from worker.attempt.attempt import Attempt
from worker.attempt.security_events import weak_container

log = structlog.get_logger()


class Recovery:
    """Requeues or ends executions whose attempt has no result. Thread-safe."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings

    def requeue_or_end(self, claim: Claim, attempt: Attempt, error: MayflyError) -> None:
        """Requeue or end the execution, because of ``error``."""
        about = {"execution": claim.id, "attempt": claim.attempt, "code": error.code, "detail": error.message}
        log.warning("attempt.failed", **about)
        try:
            if isinstance(error, SpecificationTampered):
                detail = f"{error.message} Another client writes to Redis: find it, then change the password."
                self.report(claim, SecurityEvent("queue_tampering", detail, "host"))
            if isinstance(error, WeakContainer):
                self.report(claim, weak_container(error.message))
            self._apply(claim, attempt, error)
        except StoreUnavailable:
            metrics.store_errors.inc()
            log.warning("attempt.left", execution=claim.id, attempt=claim.attempt)

    def report(self, claim: Claim, event: SecurityEvent) -> None:
        """Record a security event outside of a session: no program ran, or the kernel reported it after the end."""
        try:
            self._store.output.append(claim.id, claim.attempt, [("security", event, SECURITY)])
        except StoreUnavailable as error:
            metrics.store_errors.inc()
            log.warning("security_event.lost", execution=claim.id, kind=event.kind, detail=error.message)

    def _apply(self, claim: Claim, attempt: Attempt, error: MayflyError) -> None:
        records, reason = self._store.records, getattr(error, "reason", Reason.INTERNAL)
        decision = retry.decide(
            _cause(error),
            reason,
            attempt=claim.attempt,
            spoilt=records.faults(claim.id, claim.attempt),
            started=attempt.started,
            may_repeat=attempt.may_repeat,
            cancelled=attempt.cancelled,
            most=self._settings.max_attempts,
        )
        if isinstance(decision, retry.End):
            ended = records.cancelled(claim.id) if decision.state is State.CANCELLED else errored(reason)
            records.end(claim.id, ended, error.message, claim.attempt)
        elif records.requeue(claim.id, claim.attempt, handed_back=not decision.counts):
            queue.put_back_after(self._store, claim.id, self._settings.retry_pause(decision.pauses))


def _cause(error: MayflyError) -> Cause:
    match error:
        case SpecificationRejected():
            return Cause.REJECTED
        case HandedBack():
            return Cause.DRAINED
    return Cause.FAULT
