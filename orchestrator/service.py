"""The use cases: what clients do with executions. Every look-up goes through the caller's tenant."""

from __future__ import annotations

import base64
import hashlib
import math
import secrets
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from orchestrator import metrics, queue
from orchestrator.characters import character_at
from orchestrator.environments import Environments
from orchestrator.errors import (
    AlreadyFinished,
    IsolationUnavailable,
    NotFound,
    PayloadTooLarge,
    PolicyViolation,
    StillRunning,
    StoreUnavailable,
    ValidationFailed,
)
from orchestrator.identity import Principal
from orchestrator.models import (
    Artifact,
    CloudEvent,
    Execution,
    Isolation,
    PolicyReport,
    Specification,
    Stdin,
)
from orchestrator.models.security import PolicyFindings, SecurityEvent
from orchestrator.models.submission import Submission
from orchestrator.policy.static import StaticPolicy
from orchestrator.policy.submission import inline_bytes, specify
from orchestrator.queries import events
from orchestrator.queries.listing import Page, page_of
from orchestrator.settings import Settings
from orchestrator.states import TERMINAL, Reason, State, cancelled
from orchestrator.store import Store
from orchestrator.store.content.stdin import UNREAD_BYTES, Received
from orchestrator.store.executions.records import Idempotency, QueueBounds
from orchestrator.store.executions.sealing import seal
from orchestrator.store.output import Entry
from orchestrator.store.shown import decode_pushed_result

INLINE_FILE_BYTES = 64 * 1024
INLINE_OUTPUT_BYTES = 2**20


class Service:
    """The use cases, over one store. Thread-safe."""

    def __init__(self, store: Store, environments: Environments, settings: Settings) -> None:
        self.store = store
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
        """Accept an execution, under ``id`` if one is given; return it as it was queued.

        With the key of an earlier submission that one is returned, as it is now. ``reply_to`` names an API process that
        is to be told how it ended (:meth:`ended`).

        Raises :class:`ValidationFailed`, :class:`IsolationUnavailable`, :class:`PolicyViolation`, :class:`QueueFull`,
        :class:`TenantQueueFull`, :class:`StoreFull`, :class:`TenantStoreFull`, :class:`IdempotencyConflict`; then
        nothing was queued.
        """
        tenant = principal.tenant
        specification = specify(
            submission,
            self.environments,
            id=id or new_id(),
            tenant=tenant,
            created_at=datetime.now(UTC),
            max_input_bytes=self.settings.input_bytes,
            traceparent=traceparent,
        )
        self._check_isolation(specification.isolation)
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
        self.store.capacity.accept(2 * len(sealed))
        idempotency = None
        if idempotency_key is not None:
            idempotency = Idempotency(idempotency_key, hashlib.sha256(body).hexdigest())
        accepted, created_at = self.store.records.submit(
            specification,
            sealed,
            signature,
            queue.envelope(specification),
            self._bounds._replace(tenant_bytes=self.store.capacity.tenant_bytes),
            idempotency,
            reply_to,
            self.settings.input_bytes - input_bytes if submission.stdin.stream else None,
        )
        if created_at is None:
            return self.get(principal, accepted)
        metrics.submitted.labels(specification.environment, specification.priority).inc()
        return Execution.queued(specification.model_copy(update={"created_at": created_at}))

    def get(self, principal: Principal, id: str) -> Execution:
        """One execution with its output as text. Raises :class:`NotFound`."""
        return self._with_output(*self.store.records.read(id, principal.tenant))

    def ended(self, id: str, answer: bytes) -> Execution:
        """The same of one that has ended, from the result that was pushed to this process.

        Raises what is in :data:`MALFORMED` for an answer that is none of Mayfly's.
        """
        return self._with_output(*decode_pushed_result(id, answer))

    def _with_output(self, execution: Execution, begun: list[Entry]) -> Execution:
        id = execution.id
        if State(execution.state) not in TERMINAL and execution.attempt == 0:
            return execution
        out, err = self._output(execution, begun)
        # While it runs the record knows no totals yet; afterwards they count what was dropped beyond the bound too.
        out_bytes, err_bytes = max(execution.stdout_bytes, len(out)), max(execution.stderr_bytes, len(err))
        return execution.model_copy(
            update={
                "stdout": shortened(out, out_bytes),
                "stderr": shortened(err, err_bytes),
                "stdout_bytes": out_bytes,
                "stderr_bytes": err_bytes,
                "stdout_truncated": out_bytes > min(len(out), INLINE_OUTPUT_BYTES),
                "stderr_truncated": err_bytes > min(len(err), INLINE_OUTPUT_BYTES),
                "artifacts": tuple(with_url(id, artifact) for artifact in execution.artifacts),
            }
        )

    def _output(self, execution: Execution, begun: list[Entry]) -> tuple[bytes, bytes]:
        """Both outputs; what lies outside of Redis and is gone counts as missing. Raises :class:`NotFound`."""
        id, attempt, ended = execution.id, execution.attempt, State(execution.state) in TERMINAL
        try:
            out, err = self.store.output.bytes_of(id, attempt, "stdout", "stderr", begun=begun, ended=ended)
        except NotFound:
            if not self.store.records.exist([id]):
                raise
            there = [entry for entry in self.store.output.entries(id, begun) if entry.attempt == attempt]
            out, err = (b"".join(entry.data for entry in there if entry.type == type) for type in ("stdout", "stderr"))
        return out, err

    def output(self, principal: Principal, id: str, type: str) -> bytes:
        """The exact bytes of ``stdout`` or ``stderr``, as far as they were kept. Raises :class:`NotFound`."""
        execution = self.store.records.get(id, principal.tenant)
        ended = State(execution.state) in TERMINAL
        return self.store.output.bytes_of(id, execution.attempt, type, ended=ended)[0]

    def page(
        self,
        principal: Principal,
        limit: int,
        cursor: str | None,
        filters: dict[str, str | None],
        labels: Iterable[str],
    ) -> Page:
        """A tenant's executions, newest first, without output and findings. A cursor of another list is refused."""
        if resolved := self.environments.resolve(filters.get("environment") or ""):
            filters = {**filters, "environment": resolved.name}
        return page_of(self.store, principal.tenant, limit, cursor, filters, labels)

    def cancel(self, principal: Principal, id: str) -> Execution:
        """Ask for an execution's end; with ``fleet:write`` any tenant's. The answer carries no output.

        Raises :class:`AlreadyFinished` and :class:`NotFound`, and :class:`Forbidden` without either scope.
        """
        operator = principal.has("fleet:write")
        if not operator:
            principal.require("executions:write")
        records = self.store.records
        execution = records.get(id, None if operator else principal.tenant)
        own = execution.tenant == principal.tenant and principal.has("executions:write")
        reason = Reason.CANCELLED_BY_USER if own else Reason.CANCELLED_BY_OPERATOR
        if records.end(id, cancelled(reason), "It was cancelled before it started.", None, (State.QUEUED,)):
            queue.withdraw(self.store, execution)
        elif records.request_cancel(id, reason) in TERMINAL:
            raise AlreadyFinished()
        return records.get(id, None)

    def append_stdin(self, principal: Principal, id: str, chunk: bytes, offset: int | None, last: bool) -> Received:
        """Add a chunk to a standard input that is streamed (:meth:`StreamedStdin.append` has the rules and errors)."""
        if len(chunk) > UNREAD_BYTES:
            raise PayloadTooLarge(f"A chunk has at most {UNREAD_BYTES} bytes; this one has {len(chunk)}.")
        if chunk:
            self.store.capacity.check(len(chunk))
        return self.store.stdin.append(id, principal.tenant, chunk, offset, last)

    def delete(self, principal: Principal, id: str) -> None:
        """Remove a finished execution with output and artifacts. Raises :class:`StillRunning`, :class:`NotFound`."""
        execution = self.store.records.get(id, principal.tenant)
        if State(execution.state) not in TERMINAL:
            raise StillRunning()
        if not self.store.records.delete(id, execution.tenant):
            raise NotFound(f"There is no execution {id!r}.")  # somebody else was faster
        self.store.blobs.delete_artifacts(id)
        self.store.records.deleted(id)

    def artifact(self, principal: Principal, id: str, path: str) -> tuple[Artifact, Path]:
        """An artifact and where its bytes lie. Raises :class:`NotFound`."""
        execution = self.store.records.get(id, principal.tenant)
        for artifact in execution.artifacts:
            if artifact.path == path:
                return artifact, self.store.blobs.artifact_path(id, execution.attempt, artifact.sha256)
        raise NotFound(f"Execution {id!r} has no artifact {path!r}.")

    def events(self, principal: Principal, id: str) -> list[CloudEvent]:
        """State changes and security events, oldest first."""
        execution = self.store.records.get(id, principal.tenant)
        entries = list(self.store.output.entries(id))
        if not entries:  # it has gone meanwhile: each has its first state at least
            raise NotFound(f"There is no execution {id!r}.")
        return events.of_execution(execution, entries)

    def _inspected(self, specification: Specification, submission: Submission) -> PolicyReport | None:
        """What the static policy found. Raises :class:`PolicyViolation`, which is a security event too."""
        tenant = specification.tenant
        try:
            return self.policy.check(
                specification, submission.code is not None, lambda blob: self.store.blobs.path(tenant, blob)
            )
        except PolicyViolation as refused:
            findings, omitted = few_findings(refused.report)
            with suppress(StoreUnavailable):  # then it is in the log lines; the refusal stands
                evidence = PolicyFindings(findings, omitted)
                event = SecurityEvent("policy_violation", refused.message, evidence=evidence)
                self.store.security.add(event, tenant=tenant, source="api", environment=specification.environment)
            raise

    def _outside(self, tenant: str, file: Any) -> Any:
        """Large contents go to a blob, so that Redis holds little of each execution."""
        if file.content is None or len(file.content) <= INLINE_FILE_BYTES:
            return file
        content = base64.b64decode(file.content) if file.encoding == "base64" else file.content.encode()
        reference, _ = self.store.blobs.put(tenant, [content])
        return file.model_copy(update={"content": None, "encoding": "utf-8", "blob": reference})

    def _stdin_outside(self, tenant: str, stdin: str | Stdin) -> str | Stdin:
        """The same for a standard input."""
        given = Stdin(content=stdin) if isinstance(stdin, str) else stdin
        kept = self._outside(tenant, given)
        return stdin if kept is given else kept

    def _check_blobs(self, tenant: str, submission: Submission, inline_bytes: int) -> int:
        """All bytes of a submission, those of its blobs too. Raises :class:`ValidationFailed`."""
        total = inline_bytes
        blobs = [(f"files.{position}.blob", file.blob) for position, file in enumerate(submission.files)]
        for field, blob in [*blobs, ("stdin.blob", submission.stdin.blob)]:
            if blob is None:
                continue
            path = self.store.blobs.path(tenant, blob)
            if path is None:
                message = "there is no such blob; upload it with PUT /api/v1/blobs first"
                raise ValidationFailed([(field, message)], "unknown_blob")
            total += path.stat().st_size
        if total > self.settings.input_bytes:
            message = f"inputs and stdin have {total} bytes together, at most {self.settings.input_bytes} are taken"
            raise ValidationFailed([("files", message)], "inputs_too_large")
        return total

    def _check_isolation(self, isolation: Isolation) -> None:
        """Refuse what no live worker has; while there is none at all, `standard` waits for the first."""
        offered = self.store.fleet.offered(isolation)
        if isolation not in offered and (offered or isolation != "standard"):
            raise IsolationUnavailable(
                f"No live worker offers isolation {isolation!r}; offered are: {', '.join(sorted(offered)) or 'none'}."
            )


def new_id() -> str:
    """An id that no execution has."""
    return secrets.token_hex(16)


def few_findings(report: PolicyReport) -> tuple[list[dict[str, str | int | None]], int]:
    """A few of a policy's findings, short enough for a security event, and how many more there are."""
    few = report.findings[:20]
    shown: list[dict[str, str | int | None]] = [
        {"rule": f.rule, "file": f.file[-200:], "line": f.line, "column": f.column} for f in few
    ]
    return shown, len(report.findings) - len(few) + report.omitted


def with_url(id: str, artifact: Artifact) -> Artifact:
    """The artifact with the address of its bytes."""
    return artifact.model_copy(update={"url": f"/api/v1/executions/{id}/artifacts/{quote(artifact.path)}"})


def shortened(data: bytes, seen_bytes: int) -> str:
    """Output as text: whole, or head and tail, of whole characters, with how much is missing between them."""
    if seen_bytes <= len(data) <= INLINE_OUTPUT_BYTES:
        return data.decode(errors="replace")
    half = INLINE_OUTPUT_BYTES // 2
    head, tail = data, b""
    if len(data) > INLINE_OUTPUT_BYTES:
        head, tail = data[: character_at(data, half)[0]], data[character_at(data, len(data) - half)[1] :]
    missing = seen_bytes - len(head) - len(tail)
    note = f"\n[… {missing} bytes missing …]\n"
    return head.decode(errors="replace") + note + tail.decode(errors="replace")
