"""Principals, with their scopes and bounds."""

from __future__ import annotations

from pydantic import Field

from orchestrator.models.frozen import Frozen
from orchestrator.models.tenants.allowed import Allowed

SCOPES = (
    "executions:write", "executions:read", "blobs:write", "fleet:read", "fleet:write", "security:read", "audit:read",
    "tenant:admin", "admin", "metrics", "mcp", "worker",
)  # fmt: skip


# The scopes that a tenant's administrator may give to keys: these apply within the tenant only.
TENANT_SCOPES = frozenset(SCOPES) - {"fleet:read", "fleet:write", "admin", "metrics", "worker"}
REFUSAL = "This key or token is not valid here: it is unknown, expired, revoked, or made for another purpose."


class Principal(Frozen):
    """The authenticated caller of a request.

    ``id`` is stable, and stands in records: ``key:<id>``, ``user:<id>`` or ``oidc:<issuer>#<subject>``.
    """

    id: str
    key_id: str | None = None
    tenant: str
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str]
    allowed: Allowed | None = Field(None, description="The bounds of the service account that owns the key.")
    may_create_tenant: bool = Field(False, description="Whether its issuer's tokens create their absent tenant.")

    @property
    def name(self) -> str:
        """The id of the principal's key, or the principal's id without a key."""
        return self.key_id or self.id
