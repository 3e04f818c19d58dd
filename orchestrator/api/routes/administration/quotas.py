"""Routes of the quotas of tenants and of API keys."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from orchestrator.api.bodies import JsonBody, body_of
from orchestrator.api.dependencies import Caller, PartsIn
from orchestrator.api.routes.administration.keys import KeyPath
from orchestrator.api.routes.administration.tenants import TenantPath
from orchestrator.models.tenants.quotas import KeyQuotas, TenantQuotas
from orchestrator.service.administration.quotas import ShownKeyQuotas, ShownTenantQuotas

router = APIRouter(prefix="/api/v1", tags=["quotas"])
OF_TENANT, OF_KEY = "/tenants/{id}/quotas", "/api-keys/{id}/quotas"
TenantQuotasIn = Annotated[TenantQuotas, Depends(JsonBody(TenantQuotas))]
KeyQuotasIn = Annotated[KeyQuotas, Depends(JsonBody(KeyQuotas))]


@router.get(OF_TENANT, response_model=ShownTenantQuotas)
def tenant_quotas(id: TenantPath, parts: PartsIn, caller: Caller) -> ShownTenantQuotas:
    """Show the tenant's quotas and their current use. Another tenant's needs the scope `admin`."""
    return parts.quotas.of_tenant(caller, id)


@router.put(OF_TENANT, response_model=ShownTenantQuotas, openapi_extra=body_of(TenantQuotas))
def put_tenant_quotas(id: TenantPath, caller: Caller, quotas: TenantQuotasIn, parts: PartsIn) -> ShownTenantQuotas:
    """Replace the tenant's quotas, in force with the next submission. Omitted fields follow the settings."""
    return parts.quotas.put_tenant(caller, id, quotas)


@router.get(OF_KEY, response_model=ShownKeyQuotas)
def key_quotas(id: KeyPath, parts: PartsIn, caller: Caller) -> ShownKeyQuotas:
    """Show an API key's quotas within those of its tenant, and their current use."""
    return parts.quotas.of_key(caller, id)


@router.put(OF_KEY, response_model=ShownKeyQuotas, openapi_extra=body_of(KeyQuotas))
def put_key_quotas(id: KeyPath, caller: Caller, quotas: KeyQuotasIn, parts: PartsIn) -> ShownKeyQuotas:
    """Replace the quotas of an API key, in force with the next submission."""
    return parts.quotas.put_key(caller, id, quotas)
