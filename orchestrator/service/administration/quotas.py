"""The use cases of quotas: tenants read their own quotas, administrators set all."""

from __future__ import annotations

from pydantic import Field

from orchestrator import queue
from orchestrator.audit import Writer
from orchestrator.identity import Principal
from orchestrator.models.frozen import Frozen
from orchestrator.models.tenants.quotas import KeyQuotas, TenantQuotas
from orchestrator.service.administration.keys import KeyCases
from orchestrator.service.administration.tenants import TenantCases
from orchestrator.service.administration.usage import tenant_of
from orchestrator.store import Store
from orchestrator.store.platform.quotas import Use


class ShownUse(Frozen):
    """The current use of quotas."""

    queued: int
    running: int
    executions_today: int
    cpu_seconds_today: float
    cpu_seconds_reserved: float = Field(description="`limits.cpu_seconds` of the queued and running executions.")
    tool_calls_today: int
    stored_bytes: int


class ShownTenantQuotas(Frozen):
    """A tenant's effective quotas, with the installation's defaults, and their current use."""

    tenant: str
    quotas: TenantQuotas
    use: ShownUse


class ShownKeyQuotas(Frozen):
    """An API key's effective quotas, and their current use."""

    key: str
    quotas: KeyQuotas
    use: ShownUse


class QuotaCases:
    """Reads and replaces quotas, over one store. Thread-safe."""

    def __init__(self, store: Store, tenants: TenantCases, api_keys: KeyCases, audit: Writer) -> None:
        self._store, self._quotas = store, store.quotas
        self._tenants, self._api_keys, self._audit = tenants, api_keys, audit

    def of_tenant(self, principal: Principal, tenant: str) -> ShownTenantQuotas:
        """A tenant's quotas, ``-`` for the principal's own. Raises :class:`Forbidden` for another tenant without the
        scope ``admin``.
        """
        tenant = tenant_of(principal, "tenant.read", tenant)
        use = _shown(self._quotas.use_of_tenant(tenant))
        return ShownTenantQuotas(tenant=tenant, quotas=self._quotas.of_tenant(tenant), use=use)

    def put_tenant(self, principal: Principal, tenant: str, quotas: TenantQuotas) -> ShownTenantQuotas:
        """Replace a tenant's quotas, from the next submission and claim on. Omitted fields have the settings' defaults.
        Creates an absent tenant.
        """
        tenant = tenant_of(principal, "tenant.change", tenant)
        self._tenants.ensure(principal, tenant)
        entry = self._audit.entry(principal, "tenant.quotas", f"tenant/{tenant}", owner=tenant)
        self._quotas.put_tenant(tenant, quotas, entry)
        return self.of_tenant(principal, tenant)

    def of_key(self, principal: Principal, id: str) -> ShownKeyQuotas:
        """An API key's quotas. Raises :class:`NotFound`."""
        self._api_keys.owner(principal, "key.read", id)
        return ShownKeyQuotas(key=id, quotas=self._quotas.of_key(id), use=_shown(self._quotas.use_of_key(id)))

    def put_key(self, principal: Principal, id: str, quotas: KeyQuotas) -> ShownKeyQuotas:
        """Replace an API key's quotas, in the same way. Raises :class:`NotFound`."""
        owner = self._api_keys.owner(principal, "key.change", id)
        entry = self._audit.entry(principal, "key.quotas", f"api-key/{id}", owner=owner)
        self._quotas.put_key(id, quotas, entry)
        queue.release(self._store, id)
        return self.of_key(principal, id)


def _shown(use: Use) -> ShownUse:
    return ShownUse(
        queued=use.queued,
        running=use.active,
        executions_today=use.accepted,
        cpu_seconds_today=use.cpu_microseconds / 1e6,
        cpu_seconds_reserved=use.reserved_microseconds / 1e6,
        tool_calls_today=use.tool_calls,
        stored_bytes=use.stored_bytes,
    )
