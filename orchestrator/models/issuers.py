"""OIDC issuers whose access tokens are accepted, as operators configure them."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from orchestrator.models import Name
from orchestrator.models.frozen import Frozen

Role = Literal["admin", "operator", "developer", "auditor", "tenant_admin"]
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if not parts.hostname or (parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK)):
        raise ValueError("is no https URL; http is for loopback addresses")
    if parts.query or parts.fragment or parts.username:
        raise ValueError("has a query, a fragment or a user; an issuer has none")
    return url


class Issuer(Frozen):
    """One issuer. Claims are named, or given as JSON Pointers (RFC 6901), such as ``/realm_access/roles``.

    The tenant is either fixed or a claim. Values of claims give roles only if they are listed, so that an issuer can
    give only roles that the operator has named.
    """

    issuer: Annotated[str, AfterValidator(_checked_url)]
    audience: str = Field(min_length=1)
    tenant: Name | None = None
    tenant_claim: str | None = None
    tenants: tuple[Name, ...] = Field((), description="The tenants that the claim may name; empty: all that exist.")
    create_tenants: bool = Field(False, description="Whether tenants that the claim names are created.")
    roles_claim: str = "roles"
    roles: dict[str, Role] = Field(default_factory=dict, description="Value of the claim to role.")
    groups_claim: str = "groups"
    groups: dict[str, Role] = Field(default_factory=dict, description="Value of the claim to role.")
    client_id: str | None = Field(None, description="The client id of `mayfly login` at the issuer; published.")
    plain_tokens: bool = Field(
        False,
        description="Whether access tokens without the type `at+jwt` count, as Keycloak makes them.",
    )

    @model_validator(mode="after")
    def _one_tenant(self) -> Issuer:
        if (self.tenant is None) == (self.tenant_claim is None):
            raise ValueError("needs either tenant or tenant_claim")
        return self


def value_of(claims: Any, expression: str) -> Any:
    """The value of a claim, by its name or JSON Pointer; ``None`` without it."""
    names = [expression] if not expression.startswith("/") else expression[1:].split("/")
    for name in names:
        if not isinstance(claims, dict):
            return None
        claims = claims.get(name.replace("~1", "/").replace("~0", "~") if expression.startswith("/") else name)
    return claims
