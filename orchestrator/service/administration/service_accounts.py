"""The use cases of service accounts, which own API keys."""

from __future__ import annotations

from datetime import UTC, datetime

from orchestrator.audit import Writer
from orchestrator.errors import AlreadyExists, NotFound
from orchestrator.identity import Principal
from orchestrator.identity.tenants import Records, changed_meanwhile
from orchestrator.models.tenants.records import NewServiceAccount, ServiceAccount, ServiceAccountChange
from orchestrator.service.administration.keys import KeyCases
from orchestrator.service.administration.tenants import MOST_TRIES
from orchestrator.service.administration.usage import tenant_of


class ServiceAccounts:
    """Reads and changes the service accounts of tenants; ``-`` is the principal's own tenant. Thread-safe."""

    def __init__(self, records: Records, keys: KeyCases, audit: Writer) -> None:
        self._records, self._keys, self._audit = records, keys, audit

    def page(
        self, principal: Principal, tenant: str, limit: int, cursor: str | None
    ) -> tuple[list[ServiceAccount], str | None]:
        """A tenant's service accounts, and the cursor of the next. Raises :class:`ValidationFailed`."""
        return self._records.accounts(tenant_of(principal, "service_account.read", tenant), limit, cursor)

    def get(self, principal: Principal, tenant: str, name: str) -> ServiceAccount:
        """A service account. Raises :class:`NotFound`."""
        return self._found(tenant_of(principal, "service_account.read", tenant), name)[1]

    def create(self, principal: Principal, tenant: str, new: NewServiceAccount) -> ServiceAccount:
        """A new service account; the same account for a repeated request.

        Raises :class:`AlreadyExists`, :class:`TooManyRecords`, and :class:`NotFound` for an unknown tenant.
        """
        tenant = tenant_of(principal, "service_account.change", tenant)
        made = ServiceAccount(**dict(new), tenant=tenant, created_at=datetime.now(UTC), created_by=principal.id)
        if self._records.put(b"", made, self._entry(principal, "create", tenant, new.name)):
            return made
        found = self._found(tenant, new.name)[1]
        if NewServiceAccount(**{name: getattr(found, name) for name in NewServiceAccount.model_fields}) != new:
            raise AlreadyExists(f"There is a service account {new.name!r}, and it differs.")
        return found

    def change(self, principal: Principal, tenant: str, name: str, change: ServiceAccountChange) -> ServiceAccount:
        """Change the given fields. Raises :class:`NotFound` and :class:`Forbidden`."""
        tenant = tenant_of(principal, "service_account.change", tenant)
        self._keys.check_account(principal, tenant, name)
        fields = {field: value for field, value in change if value is not None}
        for _ in range(MOST_TRIES):
            raw, before = self._found(tenant, name)
            after = before.model_copy(update=fields)
            if after == before or self._records.put(raw, after, self._entry(principal, "change", tenant, name)):
                return after
        raise changed_meanwhile()

    def delete(self, principal: Principal, tenant: str, name: str) -> None:
        """Remove a service account and its keys. Raises :class:`NotFound` and :class:`Forbidden`."""
        tenant = tenant_of(principal, "service_account.change", tenant)
        self._keys.check_account(principal, tenant, name)
        if not self._records.remove_account(tenant, name, self._entry(principal, "delete", tenant, name)):
            raise NotFound(f"There is no service account {name!r}.")

    def _found(self, tenant: str, name: str) -> tuple[bytes, ServiceAccount]:
        raw, record = self._records.account(tenant, name)
        if record is None:
            raise NotFound(f"There is no service account {name!r}.")
        return raw, record

    def _entry(self, principal: Principal, change: str, tenant: str, name: str) -> str:
        resource = f"service-account/{tenant}/{name}"
        return self._audit.entry(principal, f"service_account.{change}", resource, owner=tenant)
