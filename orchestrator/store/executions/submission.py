"""The acceptance of executions: record, place in the queue, counters and quotas in one script."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from orchestrator import errors
from orchestrator.models import Specification
from orchestrator.models.fleet import ENVIRONMENT, ISOLATION, SUBMISSIONS
from orchestrator.store import keys, scripts
from orchestrator.store.accounting import microseconds
from orchestrator.store.allowance import UNBOUNDED, Allowance, StaleQuotas, feature_off, quota_exceeded, read_switch
from orchestrator.store.connection import StoreConnection
from orchestrator.store.executions.claims import Envelope, Idempotency, QueueBounds
from orchestrator.store.tools.caller_calls import output_schemas

IDEMPOTENCY_SECONDS = 24 * 3600
NOT_SHOWN = {"files", "env", "args", "stdin", "entrypoint", "artifacts", "traceparent", "tools", "created_at"}
flat = chain.from_iterable


class Submissions:
    """Accepts executions. Thread-safe."""

    def __init__(self, connection: StoreConnection) -> None:
        self._submit = connection.script(scripts.SUBMIT)

    def submit(
        self,
        specification: Specification,
        spec: bytes,
        signature: str,
        envelope: Envelope,
        bounds: QueueBounds,
        idempotency: Idempotency | None,
        reply_to: str | None = None,
        stdin_bytes: int | None = None,
        submitter: Mapping[str, str | None] | None = None,
        allowance: Allowance = UNBOUNDED,
        audit_entry: str = "",
    ) -> tuple[str, datetime | None]:
        """Store and queue an execution in one step; returns its id and time, or the id of the key's earlier execution.

        ``stdin_bytes``: the bound of a streamed standard input; ``submitter``: fields that name the principal;
        ``audit_entry`` is appended to the audit log. Raises :class:`FeatureOff`,
        :class:`QueueFull`, :class:`TenantQueueFull`, :class:`TenantStoreFull`, :class:`QuotaExceeded`,
        :class:`StaleQuotas` and :class:`IdempotencyConflict`; then nothing was written.
        """
        id, tenant = specification.id, specification.tenant
        key = (submitter or {}).get("key_id") or ""
        record = _record(specification, spec, signature, envelope, reply_to, stdin_bytes, submitter or {})
        names = [
            keys.execution(id), keys.tenant_index(tenant), keys.tenant_counters(tenant), keys.QUEUED, keys.stream(id),
            envelope.queue_key, envelope.queues_key,
        ]  # fmt: skip
        if idempotency:
            names += [keys.idempotency(tenant, idempotency.key), keys.tenant_idempotency(tenant)]
        answer = self._submit(
            keys=names,
            args=[
                id, bounds.all, bounds.tenant, idempotency.digest if idempotency else "", IDEMPOTENCY_SECONDS,
                tenant, envelope.lane, "" if bounds.tenant_bytes is None else bounds.tenant_bytes,
                key, allowance.tenant.version, allowance.key.version, microseconds(specification.limits.cpu_seconds),
                *allowance.arguments(), audit_entry, SUBMISSIONS, ISOLATION + specification.isolation,
                ENVIRONMENT + specification.environment, *flat(record.items()),
            ],
        )  # fmt: skip
        match answer:
            case [b"ok", created]:
                return id, datetime.fromtimestamp(float(created), UTC)
            case [b"off", feature, state]:
                raise feature_off(read_switch(feature, state))
            case [b"full"]:
                raise errors.QueueFull(bound=bounds.all)
            case [b"tenant"]:
                raise errors.TenantQueueFull(bound=bounds.tenant)
            case [b"store"]:
                raise errors.TenantStoreFull(bound=bounds.tenant_bytes)
            case [b"quotas", of_tenant, of_key]:
                raise StaleQuotas((of_tenant, of_key))
            case [b"quota", of, quota, bound, used, wait]:
                raise quota_exceeded(of, quota, bound, used, wait)
            case [b"seen", seen]:
                digest, _, earlier = seen.decode().partition(" ")
                if idempotency is None or digest != idempotency.digest:
                    raise errors.IdempotencyConflict()
                return earlier, None
        raise AssertionError(answer)


def _record(
    specification: Specification,
    spec: bytes,
    signature: str,
    envelope: Envelope,
    reply_to: str | None,
    stdin_bytes: int | None,
    submitter: Mapping[str, str | None],
) -> dict[str, Any]:
    """The fields of a new record."""
    shown = specification.model_dump(mode="json", exclude=NOT_SHOWN, exclude_defaults=True)
    view = json.dumps(
        {name: value for name, value in {**shown, **submitter}.items() if value is not None}, separators=(",", ":")
    )
    record: dict[str, Any] = {"view": view, "spec": spec, "signature": signature}
    record |= {"tenant": specification.tenant, "environment": specification.environment}
    record |= {"isolation": envelope.lane, "queue": envelope.queue_key}  # both as older versions requeue it, too
    record |= {"reply_to": reply_to} if reply_to else {}
    record |= {} if stdin_bytes is None else {"stdin_room": stdin_bytes}
    record |= {"tool_outputs": outputs} if (outputs := output_schemas(specification.tools)) else {}
    return record
