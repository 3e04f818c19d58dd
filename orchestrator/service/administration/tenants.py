"""The use cases of tenants: creation, changes, deletion, and the check of a token's tenant."""

from __future__ import annotations

from datetime import UTC, datetime

from orchestrator.audit import Writer
from orchestrator.errors import AlreadyExists, DefaultTenant, NotFound
from orchestrator.identity import Principal
from orchestrator.identity.authorization import authorize, reach
from orchestrator.identity.tenants import LETTERS, Records, Stored, changed_meanwhile, check_state
from orchestrator.models.tenants.records import DEFAULT_TENANT, NewTenant, Tenant, TenantChange

OWN = "-"  # no tenant has that name
MOST_TRIES = 10


class TenantCases:
    """Reads and changes tenants. Thread-safe."""

    def __init__(self, records: Records, audit: Writer) -> None:
        self._records, self._audit = records, audit

    def page(self, principal: Principal, limit: int, cursor: str | None) -> tuple[list[Tenant], str | None]:
        """The tenants that the principal may see, and the cursor of the next. Raises :class:`ValidationFailed`."""
        if (only := reach(principal, "tenant.read")) is not None:
            return [self.get(principal, only)], None
        return self._records.tenants(limit, cursor)

    def get(self, principal: Principal, id: str) -> Tenant:
        """A tenant, ``-`` for the principal's own. Raises :class:`NotFound`."""
        return self._found(principal, "tenant.read", id)[1]

    def create(self, principal: Principal, new: NewTenant) -> Tenant:
        """A new tenant; the same for a repeated request. Raises :class:`AlreadyExists`, :class:`TooManyRecords`."""
        authorize(principal, "tenant.change", new.id)
        if self._create(principal, new):
            return self.get(principal, new.id)
        found = self.get(principal, new.id)
        if found.description != new.description or found.state == "deleting":
            raise AlreadyExists(f"There is a tenant {new.id!r}, and it differs.")
        return found

    def ensure(self, principal: Principal, id: str) -> None:
        """Create an absent tenant that an administrator names.

        Raises :class:`NotFound` for other principals, and :class:`AlreadyExists` for the name of a deleted tenant.
        """
        if self._records.tenant(id).record is None:
            authorize(principal, "tenant.change", id, f"tenant {id!r}")
            if self._records.was_deleted(id):
                raise AlreadyExists(
                    f"Tenant {id!r} was deleted, and its usage and audit log are kept: choose another name, or create "
                    "the tenant itself, which continues them."
                )
            self._create(principal, NewTenant(id=id))

    def change(self, principal: Principal, id: str, change: TenantChange) -> Tenant:
        """Change the given fields. Raises :class:`NotFound` and :class:`DefaultTenant`."""
        fields = change.model_dump(exclude_none=True)
        return self._changed(principal, id, "tenant.change", fields)

    def delete(self, principal: Principal, id: str) -> Tenant:
        """Refuse a tenant from now on; the janitor deletes all its resources.

        Raises :class:`NotFound` and :class:`DefaultTenant`.
        """
        return self._changed(principal, id, "tenant.delete", {"state": "deleting"})

    def admit(self, principal: Principal, may_create: bool) -> None:
        """Admit the principal of a valid token; ``may_create``: its issuer may create tenants by naming them, except
        deleted ones.

        Raises :class:`Unauthenticated` for an unknown tenant, and :class:`TenantDisabled`.
        """
        found = self._records.tenant(principal.tenant)
        if found.record is None and may_create and not found.raw and not self._records.was_deleted(principal.tenant):
            self._create(principal, NewTenant(id=principal.tenant))
            return
        check_state(b"" if found.record is None else LETTERS[found.record.state])

    def _create(self, principal: Principal, new: NewTenant) -> bool:
        made = Tenant(**new.model_dump(), created_at=datetime.now(UTC), created_by=principal.id)
        entry = self._audit.entry(principal, "tenant.create", f"tenant/{new.id}", owner=new.id)
        return new.id != DEFAULT_TENANT and self._records.put(b"", made, entry)

    def _changed(self, principal: Principal, id: str, action: str, fields: dict[str, object]) -> Tenant:
        for _ in range(MOST_TRIES):
            raw, before = self._found(principal, "tenant.change", id)
            if before.id == DEFAULT_TENANT and fields.get("state", "active") != "active":
                raise DefaultTenant
            if before.state == "deleting" or not fields:
                return before
            after = Tenant.model_validate(before.model_dump() | fields)
            entry = self._audit.entry(principal, action, f"tenant/{before.id}", owner=before.id)
            if self._records.put(raw, after, entry):
                return after
        raise changed_meanwhile()

    def _found(self, principal: Principal, action: str, id: str) -> tuple[bytes, Tenant]:
        named = principal.tenant if id == OWN else id
        authorize(principal, action, named)
        stored: Stored[Tenant] = self._records.tenant(named)
        if stored.record is None:
            raise NotFound(f"There is no tenant {named!r}.")
        return stored.raw, stored.record
