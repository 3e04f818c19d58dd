"""Principals, and the scopes and limits they have."""

from __future__ import annotations

from pydantic import Field

from orchestrator.models import Isolation, Name
from orchestrator.models.frozen import Frozen
from orchestrator.models.tools import Grant

SCOPES = (
    "executions:write", "executions:read", "blobs:write", "fleet:read", "fleet:write", "security:read", "audit:read",
    "admin", "metrics", "mcp",
)  # fmt: skip
DEFAULT_TENANT = "default"
MOST_NAMES = 64  # in each list of a narrowing


class Narrowing(Frozen):
    """The names that a principal may use in submissions. An empty list allows everything.

    ``tools`` are patterns: ``server.tool``, ``server.*`` or ``*``.
    """

    environments: tuple[Name, ...] = Field((), max_length=MOST_NAMES)
    isolation: tuple[Isolation, ...] = Field((), max_length=2)
    tools: tuple[Grant, ...] = Field((), max_length=MOST_NAMES)
    mounts: tuple[Name, ...] = Field((), max_length=MOST_NAMES)


class Principal(Frozen):
    """The authenticated caller of a request.

    ``id`` is stable, as the records name it: ``key:<id>``, ``user:<id>`` or ``oidc:<issuer>#<subject>``.
    """

    id: str
    key_id: str | None = None
    tenant: str
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str]
    limits: Narrowing = Narrowing()

    @property
    def name(self) -> str:
        """The key's id; of a principal without a key its own."""
        return self.key_id or self.id
