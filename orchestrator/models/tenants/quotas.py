"""Quotas of tenants and API keys. A null quota is no bound; the installation's own bounds always apply."""

from __future__ import annotations

from pydantic import Field

from orchestrator.models import RequestedLimits
from orchestrator.models.tenants.allowed import Allowed


class KeyQuotas(Allowed):
    """The quotas of an API key within those of its tenant, and the names that it may use."""

    queued: int | None = Field(None, ge=0, description="Most executions queued at once.")
    running: int | None = Field(
        None,
        ge=0,
        description="Most executions on workers at once; further executions stay queued, and delay no others.",
    )
    stored_bytes: int | None = Field(
        None, ge=0, description="Bytes of its executions' records, output and artifacts, until they are deleted."
    )
    submissions_per_second: float | None = Field(
        None,
        gt=0,
        le=1_000_000,
        description="Submissions accepted a second, in bursts of at most one second's number.",
    )
    executions_per_day: int | None = Field(None, ge=0, description="Submissions accepted a day (UTC).")
    cpu_seconds_per_day: float | None = Field(
        None,
        ge=0,
        le=1e9,
        description="CPU seconds used a day (UTC); `limits.cpu_seconds` of queued and active executions are reserved.",
    )
    tool_calls_per_day: int | None = Field(
        None, ge=0, description="Calls of tool servers a day (UTC), by programs and by clients."
    )
    limits: RequestedLimits = Field(RequestedLimits(), description="The largest limits of one execution.")


class TenantQuotas(KeyQuotas):
    """The quotas of a tenant, and its weight among tenants."""

    weight: int | None = Field(
        None, ge=1, le=100, description="The tenant's share of busy workers, against 1 of a tenant without a weight."
    )


def overlaid(base: KeyQuotas, own: KeyQuotas | None) -> dict[str, object]:
    """The fields of ``base``, replaced by the fields that are set in ``own``, also to null."""
    fields = {name: getattr(base, name) for name in type(base).model_fields}
    return fields | ({} if own is None else {name: getattr(own, name) for name in own.model_fields_set})
