"""The use cases of executions. Every look-up is restricted to the caller's tenant.

:mod:`orchestrator.queries` has the queries; :mod:`orchestrator.service.composition` composes all use cases.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pybase64

from orchestrator import features, metrics, queue
from orchestrator.audit import Writer
from orchestrator.environments import Environment, Environments
from orchestrator.errors import (
    AlreadyFinished,
    FeatureUnavailable,
    IsolationUnavailable,
    LimitAboveQuota,
    Mistake,
    NotAllowed,
    NotFound,
    PayloadTooLarge,
    PolicyViolation,
    QuotaExceeded,
    StoreUnavailable,
    ValidationFailed,
)
from orchestrator.identity import Principal
from orchestrator.identity.authorization import authorize, reach
from orchestrator.models import ISOLATIONS, Execution, PolicyReport, Specification, Stdin
from orchestrator.models.security import PolicyFindings, SecurityEvent
from orchestrator.models.submission import Submission
from orchestrator.policy.allowed import may_use
from orchestrator.policy.quotas import bounded
from orchestrator.policy.static import StaticPolicy
from orchestrator.policy.submission import inline_bytes, specify
from orchestrator.queries.listing import metadata_of
from orchestrator.queries.results import Results
from orchestrator.settings import Settings
from orchestrator.states import TERMINAL, Reason, State, cancelled
from orchestrator.store import Store
from orchestrator.store.allowance import Allowance, StaleQuotas
from orchestrator.store.content.blobs import BlobWriter
from orchestrator.store.content.stdin import UNREAD_BYTES, Received
from orchestrator.store.executions.records import Idempotency, QueueBounds
from orchestrator.store.executions.sealing import seal

INLINE_FILE_BYTES = 64 * 1024
MOST_CHANGES = 10  # of quotas during one submission
CHUNK_BYTES = UNREAD_BYTES  # of standard input in one request, at most


class Service:
    """The use cases that change executions, over one store. Thread-safe."""

    def __init__(
        self, store: Store, environments: Environments, settings: Settings, results: Results, audit: Writer
    ) -> None:
        self._store, self._results, self._audit = store, results, audit
        self.environments = environments
        self.settings = settings
        self.policy = StaticPolicy(settings, environments)
        self._key = settings.secret()
        self._bounds = QueueBounds(settings.queue_limit, math.ceil(settings.tenant_queue_share * settings.queue_limit))

    def submit(
        self,
        principal: Principal,
        submission: Submission,
        *,
        id: str | None = None,
        body: bytes = b"",
        idempotency_key: str | None = None,
        traceparent: str | None = None,
        reply_to: str | None = None,
    ) -> Execution:
        """Accept an execution, under ``id`` if given; returns the queued execution.

        With the Idempotency-Key of an earlier submission the earlier execution is returned, in its current state.
        ``reply_to`` names the API process to which the result is pushed (:meth:`Results.pushed`).

        Raises :class:`ValidationFailed`, :class:`IsolationUnavailable`, :class:`FeatureUnavailable`,
        :class:`PolicyViolation`, :class:`QueueFull`, :class:`TenantQueueFull`, :class:`StoreFull`,
        :class:`TenantStoreFull`, :class:`IdempotencyConflict`, :class:`QuotaExceeded`, :class:`NotAllowed`,
        :class:`LimitAboveQuota`; then the execution was not queued.
        """
        tenant, key = principal.tenant, principal.key_id or ""
        id = id or new_id()
        quotas = self._store.quotas
        for _ in range(MOST_CHANGES):
            allowance = quotas.known(tenant, key)
            try:
                fitted = bounded(submission, self.environments, allowance.named(), allowance.bounds(principal.allowed))
                return self._submit(principal, fitted, allowance, id, body, idempotency_key, traceparent, reply_to)
            except StaleQuotas as stale:
                quotas.learn(tenant, key, stale.current)
            except (QuotaExceeded, NotAllowed, LimitAboveQuota) as refused:
                if isinstance(refused, QuotaExceeded) or not quotas.refresh(tenant, key):
                    metrics.quota_refusals.labels(refused.quota, refused.of).inc()
                    raise
        raise StoreUnavailable("The quotas changed repeatedly during this submission. Try again a little later.")

    def _submit(
        self,
        principal: Principal,
        submission: Submission,
        allowance: Allowance,
        id: str,
        body: bytes,
        idempotency_key: str | None,
        traceparent: str | None,
        reply_to: str | None,
    ) -> Execution:
        tenant = principal.tenant
        specification = specify(
            submission,
            self.environments,
            id=id,
            tenant=tenant,
            created_at=datetime.now(UTC),
            max_input_bytes=self.settings.input_bytes,
            traceparent=traceparent,
        )
        self._check_lane(specification)
        input_bytes = self._check_blobs(tenant, submission, inline_bytes(specification.files, specification.stdin))
        report = self._inspected(specification, submission)
        specification = specification.model_copy(
            update={
                "files": tuple(self._outside(tenant, file) for file in specification.files),
                "stdin": self._stdin_outside(tenant, specification.stdin),
                "policy": report,
            }
        )
        sealed, signature = seal(specification, self._key)
        self._store.capacity.accept(2 * len(sealed))
        submitter = {"principal": principal.id, "key_id": principal.key_id}
        idempotency = None
        if idempotency_key is not None:
            idempotency = Idempotency(idempotency_key, hashlib.sha256(body).hexdigest())
        entry = ""
        if self.settings.audit_submissions:
            entry = self._audit.entry(principal, "execution.submit", f"execution/{id}", owner=tenant)
        accepted, created_at = self._store.records.submit(
            specification,
            sealed,
            signature,
            queue.envelope(specification),
            self._bounds._replace(tenant_bytes=self._store.capacity.tenant_bytes),
            idempotency,
            reply_to,
            self.settings.input_bytes - input_bytes if submission.stdin.stream else None,
            submitter,
            allowance,
            entry,
        )
        if created_at is None:
            return self._results.repeated(principal, accepted)
        metrics.submitted.labels(specification.environment, specification.priority).inc()
        return Execution.queued(specification, created_at=created_at, **submitter)

    def environments_of(self, principal: Principal) -> list[Environment]:
        """The environments that the principal may use."""
        bounds = self._store.quotas.bounds(principal.tenant, principal.key_id, principal.allowed)
        return [declared for declared in self.environments.values() if may_use(bounds, declared.name)]

    def ahead(self, principal: Principal, id: str) -> int | None:
        """The number of the tenant's executions ahead of a queued execution (:func:`orchestrator.queue.ahead`).

        Raises :class:`NotFound`.
        """
        return queue.ahead(self._store, self._store.records.get(id, principal.tenant))

    def cancel(self, principal: Principal, id: str) -> Execution:
        """Request an execution's end; with ``fleet:write``, of any tenant. The answer is without output.

        Raises :class:`AlreadyFinished` and :class:`NotFound`, and :class:`Forbidden` without either scope.
        """
        records = self._store.records
        execution = records.get(id, reach(principal, "execution.cancel"))
        shown = authorize(principal, "execution.cancel", execution.tenant, f"execution {id!r}")
        reason = Reason.CANCELLED_BY_USER if shown == "whole" else Reason.CANCELLED_BY_OPERATOR
        if records.end(id, cancelled(reason), "The execution was cancelled before it started.", None, (State.QUEUED,)):
            queue.withdraw(self._store, execution)
        elif records.request_cancel(id, reason) in TERMINAL:
            raise AlreadyFinished()
        cancelled_one = records.get(id, None)
        return cancelled_one if shown == "whole" else metadata_of(cancelled_one)

    def count_tokens(self, id: str, returned: int, withheld: int) -> None:
        """Count an answer to an agent on the record. Without memory in Redis, or without Redis, the count is lost."""
        metrics.mcp_tokens.labels("returned").inc(returned)
        metrics.mcp_tokens.labels("withheld").inc(withheld)
        with suppress(StoreUnavailable):
            self._store.usages.add_tokens(id, returned, withheld)

    def append_stdin(self, principal: Principal, id: str, chunk: bytes, offset: int | None, last: bool) -> Received:
        """Add a chunk to a standard input that is streamed (:meth:`StreamedStdin.append` has the rules and errors)."""
        if len(chunk) > CHUNK_BYTES:
            message = f"A chunk has at most {CHUNK_BYTES} bytes; this chunk has {len(chunk)}."
            raise PayloadTooLarge(message, bound=CHUNK_BYTES)
        if chunk:
            self._store.capacity.check(len(chunk))
        return self._store.stdin.append(id, principal.tenant, chunk, offset, last)

    def blob_writer(self, tenant: str) -> BlobWriter:
        """A blob that is written piece by piece. Raises :class:`BlobsUnavailable` and :class:`BlobsFull`."""
        return self._store.own_blobs.writer(tenant)

    def delete(self, principal: Principal, id: str) -> None:
        """Remove a finished execution with output and artifacts. Raises :class:`StillRunning`, :class:`NotFound`."""
        execution = self._store.records.get(id, principal.tenant)
        if not self._store.records.delete(id, execution.tenant):
            raise NotFound(f"There is no execution {id!r}.")  # a concurrent request has deleted it
        self._store.delete_files(id)

    def _inspected(self, specification: Specification, submission: Submission) -> PolicyReport | None:
        """The report of the static policy. Raises :class:`PolicyViolation`, and then writes a security event."""
        tenant = specification.tenant
        try:
            return self.policy.check(
                specification, submission.code is not None, lambda blob: self._store.own_blobs.open(tenant, blob)
            )
        except PolicyViolation as refused:
            findings, omitted = few_findings(refused.report)
            with suppress(StoreUnavailable):  # then the event is only in the log lines; the program is refused
                evidence = PolicyFindings(findings, omitted)
                event = SecurityEvent("policy_violation", refused.message, evidence=evidence)
                self._store.security.add(event, tenant=tenant, source="api", environment=specification.environment)
            raise

    def _outside(self, tenant: str, file: Any) -> Any:
        """Move large contents to a blob, so that an execution takes little memory of Redis."""
        if file.content is None or len(file.content) <= INLINE_FILE_BYTES:
            return file
        is_base64 = file.encoding == "base64"
        content = pybase64.b64decode(file.content, validate=True) if is_base64 else file.content.encode()
        reference, _ = self._store.own_blobs.put(tenant, [content])
        return file.model_copy(update={"content": None, "encoding": "utf-8", "blob": reference})

    def _stdin_outside(self, tenant: str, stdin: str | Stdin) -> str | Stdin:
        """Move a large standard input to a blob."""
        given = Stdin(content=stdin) if isinstance(stdin, str) else stdin
        kept = self._outside(tenant, given)
        return stdin if kept is given else kept

    def _check_blobs(self, tenant: str, submission: Submission, inline_bytes: int) -> int:
        """The total bytes of a submission, including its blobs. Raises :class:`ValidationFailed`."""
        total = inline_bytes
        blobs = [(f"files.{position}.blob", file.blob) for position, file in enumerate(submission.files)]
        for field, blob in [*blobs, ("stdin.blob", submission.stdin.blob)]:
            if blob is None:
                continue
            found = self._store.own_blobs.open(tenant, blob)
            if found is None:
                message = "there is no such blob; upload it with PUT /api/v1/blobs first"
                raise ValidationFailed([(field, message)], "unknown_blob")
            total += found.size
            found.close()
        most = self.settings.input_bytes
        if total > most:
            message = f"inputs and stdin have {total} bytes together, at most {most} are taken"
            raise ValidationFailed([Mistake("files", message, most)], "inputs_too_large")
        return total

    def _check_lane(self, specification: Specification) -> None:
        """Refuse an isolation, or features, that no live worker offers; without live workers, `standard` waits."""
        isolation, lane = specification.isolation, features.lane_of(specification)
        offered = self._store.fleet.offered(lane)
        if lane in offered or (not offered and isolation == "standard"):
            return
        if isolation in offered:
            used = ", ".join(features.used(specification))
            raise FeatureUnavailable(f"Every live worker with isolation {isolation!r} is older than these: {used}.")
        tiers = ", ".join(sorted(offered.intersection(ISOLATIONS))) or "none"
        raise IsolationUnavailable(f"No live worker offers isolation {isolation!r}; offered are: {tiers}.")


def new_id() -> str:
    """A new random id."""
    return secrets.token_hex(16)


def few_findings(report: PolicyReport) -> tuple[list[dict[str, str | int | None]], int]:
    """The first findings of a policy report, short enough for a security event, and the number of further findings."""
    few = report.findings[:20]
    shown: list[dict[str, str | int | None]] = [
        {"rule": f.rule, "file": f.file[-200:], "line": f.line, "column": f.column} for f in few
    ]
    return shown, len(report.findings) - len(few) + report.omitted
