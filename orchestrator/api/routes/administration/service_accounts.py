"""Routes of service accounts, which own API keys."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response

from orchestrator.api.bodies import JsonBody, body_of
from orchestrator.api.dependencies import Caller, PartsIn
from orchestrator.api.routes.administration.tenants import Cursor, Limit, TenantPath
from orchestrator.models import Frozen
from orchestrator.models.tenants.records import NewServiceAccount, ServiceAccount, ServiceAccountChange

router = APIRouter(prefix="/api/v1/tenants/{id}/service-accounts", tags=["tenants"])
NewIn = Annotated[NewServiceAccount, Depends(JsonBody(NewServiceAccount))]
ChangeIn = Annotated[ServiceAccountChange, Depends(JsonBody(ServiceAccountChange))]
NamePath = Annotated[str, Path(max_length=63)]


class ServiceAccountList(Frozen):
    """One page of a tenant's service accounts, by name."""

    items: list[ServiceAccount]
    next_cursor: str | None


@router.get("", response_model=ServiceAccountList)
def list_service_accounts(
    id: TenantPath, parts: PartsIn, caller: Caller, limit: Limit = 50, cursor: Cursor = None
) -> ServiceAccountList:
    """List the service accounts of a tenant."""
    items, next_cursor = parts.service_accounts.page(caller, id, limit, cursor)
    return ServiceAccountList(items=items, next_cursor=next_cursor)


@router.post("", status_code=201, response_model=ServiceAccount, openapi_extra=body_of(NewServiceAccount))
def create_service_account(id: TenantPath, caller: Caller, new: NewIn, parts: PartsIn) -> ServiceAccount:
    """Create a service account. The same request gives the same account again."""
    return parts.service_accounts.create(caller, id, new)


@router.get("/{name}", response_model=ServiceAccount)
def service_account(id: TenantPath, name: NamePath, parts: PartsIn, caller: Caller) -> ServiceAccount:
    """Show a service account."""
    return parts.service_accounts.get(caller, id, name)


@router.patch("/{name}", response_model=ServiceAccount, openapi_extra=body_of(ServiceAccountChange))
def change_service_account(
    id: TenantPath, name: NamePath, caller: Caller, change: ChangeIn, parts: PartsIn
) -> ServiceAccount:
    """Change a service account. The next request with a key of a disabled account is refused."""
    return parts.service_accounts.change(caller, id, name, change)


@router.delete("/{name}", status_code=204)
def delete_service_account(id: TenantPath, name: NamePath, parts: PartsIn, caller: Caller) -> Response:
    """Delete a service account and its keys, at once."""
    parts.service_accounts.delete(caller, id, name)
    return Response(status_code=204)
