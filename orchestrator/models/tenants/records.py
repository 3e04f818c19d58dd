"""Records of tenants and service accounts, and the requests that make and change them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from orchestrator.models import Name
from orchestrator.models.frozen import Frozen
from orchestrator.models.tenants.allowed import Allowed

DEFAULT_TENANT = "default"  # always exists, and is never disabled or deleted
MOST_TENANTS, MOST_ACCOUNTS, MOST_KEYS = 10_000, 200, 1000  # of an installation; the other two of a tenant
State = Literal["active", "disabled"]
Description = Field("", max_length=200)


class NewTenant(Frozen):
    """The request for a new tenant."""

    id: Name
    description: str = Description


class TenantChange(Frozen):
    """The fields of a tenant that change. A disabled tenant's keys and tokens are refused."""

    description: str | None = Field(None, max_length=200)
    state: State | None = None


class Tenant(NewTenant):
    """A tenant. A tenant in state ``deleting`` is refused like a disabled tenant until all of its data is deleted."""

    state: Literal["active", "disabled", "deleting"] = "active"
    created_at: datetime | None = Field(None, description="Null for the default tenant.")
    created_by: str | None = None


class NewServiceAccount(Frozen):
    """The request for a new service account of a tenant. ``allowed`` bounds all of its keys."""

    name: Name
    description: str = Description
    allowed: Allowed = Allowed()


class ServiceAccountChange(Frozen):
    """The fields of a service account that change. A disabled account's keys are refused."""

    description: str | None = Field(None, max_length=200)
    allowed: Allowed | None = None
    state: State | None = None


class ServiceAccount(NewServiceAccount):
    """A service account: the owner of API keys that belong to no person."""

    tenant: Name
    state: State = "active"
    created_at: datetime
    created_by: str | None = None
