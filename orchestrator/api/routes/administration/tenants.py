"""Routes of tenants: usage, and quotas of tenants and API keys."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from orchestrator.api.bodies import JsonBody, body_of
from orchestrator.api.dependencies import Caller, PartsIn
from orchestrator.models.tenants.quotas import KeyQuotas, TenantQuotas
from orchestrator.models.tenants.usage import UsageDimension, UsageReport
from orchestrator.service.quotas import ShownKeyQuotas, ShownTenantQuotas

router = APIRouter(prefix="/api/v1", tags=["tenants"])
TenantQuotasIn = Annotated[TenantQuotas, Depends(JsonBody(TenantQuotas))]
KeyQuotasIn = Annotated[KeyQuotas, Depends(JsonBody(KeyQuotas))]
KeyPath = Annotated[str, Path(max_length=64, description="The id of an API key.")]
TenantPath = Annotated[
    str, Path(pattern=r"^(-|[a-z0-9][a-z0-9._-]{0,62})$", description="A tenant's name; `-`: the key's own tenant.")
]
First = Annotated[date | None, Query(alias="from", description="First day (UTC). Default: 30 days until `to`.")]
Last = Annotated[date | None, Query(alias="to", description="Last day, included. Default: today.")]
By = Annotated[UsageDimension, Query(description="What each item is the sum of.")]


@router.get("/tenants/{id}/usage", response_model=UsageReport)
def usage(
    id: TenantPath, parts: PartsIn, caller: Caller, first: First = None, last: Last = None, by: By = "day"
) -> UsageReport:
    """Sum up the resources that the tenant's ended executions used. Another tenant's needs the scope `admin`."""
    return parts.usage.read(caller, id, first, last, by)


@router.get("/tenants/{id}/quotas", response_model=ShownTenantQuotas)
def tenant_quotas(id: TenantPath, parts: PartsIn, caller: Caller) -> ShownTenantQuotas:
    """Show the tenant's quotas and their current use. Another tenant's needs the scope `admin`."""
    return parts.quotas.of_tenant(caller, id)


@router.put("/tenants/{id}/quotas", response_model=ShownTenantQuotas, openapi_extra=body_of(TenantQuotas))
def put_tenant_quotas(id: TenantPath, caller: Caller, quotas: TenantQuotasIn, parts: PartsIn) -> ShownTenantQuotas:
    """Replace the tenant's quotas, in force with the next submission. Fields left out are those of the settings."""
    return parts.quotas.put_tenant(caller, id, quotas)


@router.get("/api-keys/{id}/quotas", response_model=ShownKeyQuotas)
def key_quotas(id: KeyPath, parts: PartsIn, caller: Caller) -> ShownKeyQuotas:
    """Show an API key's quotas within those of its tenant, and their current use."""
    return parts.quotas.of_key(id)


@router.put("/api-keys/{id}/quotas", response_model=ShownKeyQuotas, openapi_extra=body_of(KeyQuotas))
def put_key_quotas(id: KeyPath, caller: Caller, quotas: KeyQuotasIn, parts: PartsIn) -> ShownKeyQuotas:
    """Replace the quotas of an API key, in force with the next submission."""
    return parts.quotas.put_key(caller, id, quotas)
