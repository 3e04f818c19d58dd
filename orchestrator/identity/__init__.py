"""Principals, and the scopes and limits they have."""

from __future__ import annotations

from pydantic import Field

from orchestrator.models.frozen import Frozen
from orchestrator.models.tenants.allowed import Allowed

SCOPES = (
    "executions:write", "executions:read", "blobs:write", "fleet:read", "fleet:write", "security:read", "audit:read",
    "tenant:admin", "admin", "metrics", "mcp",
)  # fmt: skip


# Scopes that the administrator of a tenant may give to its keys: none reaches beyond the tenant.
TENANT_SCOPES = frozenset(SCOPES) - {"fleet:read", "fleet:write", "admin", "metrics"}
REFUSAL = "This key or token is not valid here: it is unknown, expired, revoked, or made for something else."


class Principal(Frozen):
    """The authenticated caller of a request.

    ``id`` is stable, as the records name it: ``key:<id>``, ``user:<id>`` or ``oidc:<issuer>#<subject>``.
    """

    id: str
    key_id: str | None = None
    tenant: str
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str]
    allowed: Allowed | None = Field(None, description="The bounds of the service account that owns the key.")

    @property
    def name(self) -> str:
        """The key's id; of a principal without a key its own."""
        return self.key_id or self.id
