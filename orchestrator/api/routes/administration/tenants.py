"""Routes of tenants: their records and usage."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from orchestrator.api.bodies import JsonBody, body_of
from orchestrator.api.dependencies import Caller, PartsIn
from orchestrator.models import Frozen
from orchestrator.models.tenants.records import NewTenant, Tenant, TenantChange
from orchestrator.models.tenants.usage import UsageDimension, UsageReport

router = APIRouter(prefix="/api/v1", tags=["tenants"])
NewTenantIn = Annotated[NewTenant, Depends(JsonBody(NewTenant))]
TenantChangeIn = Annotated[TenantChange, Depends(JsonBody(TenantChange))]
TenantPath = Annotated[
    str, Path(pattern=r"^(-|[a-z0-9][a-z0-9._-]{0,62})$", description="A tenant's name; `-`: the key's own tenant.")
]
First = Annotated[date | None, Query(alias="from", description="First day (UTC). Default: 30 days until `to`.")]
Last = Annotated[date | None, Query(alias="to", description="Last day, included. Default: today.")]
By = Annotated[UsageDimension, Query(description="The dimension that each item sums up.")]
Limit = Annotated[int, Query(ge=1, le=200)]
Cursor = Annotated[str | None, Query(max_length=512)]


class TenantList(Frozen):
    """One page of tenants, by name."""

    items: list[Tenant]
    next_cursor: str | None


@router.get("/tenants", response_model=TenantList)
def list_tenants(parts: PartsIn, caller: Caller, limit: Limit = 50, cursor: Cursor = None) -> TenantList:
    """List all tenants with the scope `admin`, otherwise the caller's own tenant."""
    items, next_cursor = parts.tenants.page(caller, limit, cursor)
    return TenantList(items=items, next_cursor=next_cursor)


@router.post("/tenants", status_code=201, response_model=Tenant, openapi_extra=body_of(NewTenant))
def create_tenant(caller: Caller, new: NewTenantIn, parts: PartsIn) -> Tenant:
    """Create a tenant. The same request gives the same tenant again."""
    return parts.tenants.create(caller, new)


@router.get("/tenants/{id}", response_model=Tenant)
def tenant(id: TenantPath, parts: PartsIn, caller: Caller) -> Tenant:
    """Show a tenant. Another tenant needs the scope `admin`."""
    return parts.tenants.get(caller, id)


@router.patch("/tenants/{id}", response_model=Tenant, openapi_extra=body_of(TenantChange))
def change_tenant(id: TenantPath, caller: Caller, change: TenantChangeIn, parts: PartsIn) -> Tenant:
    """Change a tenant. The next request of a disabled tenant is refused; its accepted executions continue."""
    return parts.tenants.change(caller, id, change)


@router.delete("/tenants/{id}", status_code=202, response_model=Tenant)
def delete_tenant(id: TenantPath, parts: PartsIn, caller: Caller) -> Tenant:
    """Delete a tenant: its requests are refused at once, its executions cancelled, then all of its data is deleted.

    The tenant is found until all data is deleted.
    """
    return parts.tenants.delete(caller, id)


@router.get("/tenants/{id}/usage", response_model=UsageReport)
def usage(
    id: TenantPath, parts: PartsIn, caller: Caller, first: First = None, last: Last = None, by: By = "day"
) -> UsageReport:
    """Sum up the resources that the tenant's ended executions used. Another tenant's needs the scope `admin`."""
    return parts.usage.read(caller, id, first, last, by)
