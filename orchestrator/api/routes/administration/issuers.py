"""Routes of OIDC issuers, whose access tokens are accepted."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response

from orchestrator.api.bodies import JsonBody, body_of
from orchestrator.api.dependencies import Caller, PartsIn
from orchestrator.api.routes.administration.tenants import Cursor, Limit
from orchestrator.identity.issuers.declared import ShownIssuer
from orchestrator.models import Frozen
from orchestrator.models.issuers import Issuer

router = APIRouter(prefix="/api/v1/issuers", tags=["issuers"])
IssuerIn = Annotated[Issuer, Depends(JsonBody(Issuer))]
IssuerPath = Annotated[str, Path(max_length=64, description="The id of an issuer.")]


class IssuerList(Frozen):
    """One page of issuers, by URL."""

    items: list[ShownIssuer]
    next_cursor: str | None


@router.get("", response_model=IssuerList)
def list_issuers(parts: PartsIn, caller: Caller, limit: Limit = 50, cursor: Cursor = None) -> IssuerList:
    """The issuers of the settings, and those that administrators have declared."""
    items, next_cursor = parts.issuer_cases.page(limit, cursor)
    return IssuerList(items=items, next_cursor=next_cursor)


@router.put("", response_model=ShownIssuer, openapi_extra=body_of(Issuer))
def declare_issuer(caller: Caller, wanted: IssuerIn, parts: PartsIn) -> ShownIssuer:
    """Declare an issuer, or replace the declaration of that URL; in force with the next request."""
    return parts.issuer_cases.declare(caller, wanted)


@router.get("/{id}", response_model=ShownIssuer)
def issuer(id: IssuerPath, parts: PartsIn, caller: Caller) -> ShownIssuer:
    """Show an issuer."""
    return parts.issuer_cases.get(id)


@router.delete("/{id}", status_code=204)
def remove_issuer(id: IssuerPath, parts: PartsIn, caller: Caller) -> Response:
    """Remove an issuer. Its tokens are refused from the next request on."""
    parts.issuer_cases.remove(caller, id)
    return Response(status_code=204)
