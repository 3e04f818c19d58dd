"""The use cases of API keys: creation, lists and revocation, by administrators of all tenants or of one tenant."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from orchestrator.audit import Writer
from orchestrator.errors import Forbidden, NotFound, ValidationFailed
from orchestrator.identity import SCOPES, TENANT_SCOPES, Principal
from orchestrator.identity.api_keys import ApiKey, ApiKeys, NewKey, Request
from orchestrator.identity.authorization import authorize, reach
from orchestrator.service.administration.tenants import TenantCases


class KeyCases:
    """Creates and revokes API keys. Thread-safe."""

    def __init__(self, api_keys: ApiKeys, tenants: TenantCases, audit: Writer) -> None:
        self._keys, self._tenants, self._audit = api_keys, tenants, audit

    def create(self, principal: Principal, new: NewKey, idempotency_key: str | None) -> tuple[ApiKey, str]:
        """A new key and its secret; the same key for the same Idempotency-Key. If the key's tenant does not exist, an
        administrator of all tenants creates it with the key.

        Raises :class:`ValidationFailed`, :class:`Forbidden`, :class:`NotFound`, :class:`TooManyRecords` and
        :class:`IdempotencyConflict`.
        """
        tenant = new.tenant or principal.tenant
        authorize(principal, "key.change", tenant)
        if unknown := [scope for scope in new.scopes if scope not in SCOPES]:
            raise ValidationFailed([("scopes", f"{unknown[0]!r} is none of {', '.join(SCOPES)}")], "unknown_scope")
        _check_scopes(principal, new.scopes)
        self._tenants.ensure(principal, tenant)
        request = None
        if idempotency_key is not None:
            digest = hashlib.sha256(new.model_dump_json().encode()).hexdigest()
            request = Request(principal.id, idempotency_key, digest)

        def audit(id: str) -> str:
            return self._audit.entry(principal, "key.create", f"api-key/{id}", owner=tenant)

        return self._keys.create(new.model_copy(update={"tenant": tenant}), principal.id, request, audit)

    def page(self, principal: Principal, limit: int, cursor: str | None) -> tuple[list[ApiKey], str | None]:
        """Keys of the tenants that the principal administers, and the cursor of the next."""
        return self._keys.page(limit, cursor, reach(principal, "key.read"))

    def revoke(self, principal: Principal, id: str) -> None:
        """Revoke a key at once. Raises :class:`NotFound`."""
        tenant = self.owner(principal, "key.change", id)
        entry = self._audit.entry(principal, "key.revoke", f"api-key/{id}", owner=tenant)
        if not self._keys.revoke(id, tenant, entry):
            raise NotFound(f"There is no API key {id!r}.")

    def owner(self, principal: Principal, action: str, id: str) -> str:
        """The tenant of a key that the principal may name. Raises :class:`NotFound` and :class:`Forbidden`."""
        key = self._keys.get(id)
        authorize(principal, action, key.tenant, f"API key {id!r}")
        if action == "key.change":
            _check_scopes(principal, key.scopes)
        return key.tenant

    def check_account(self, principal: Principal, tenant: str, name: str) -> None:
        """Raise :class:`Forbidden` if a change of this service account changes keys that the principal may not."""
        for key in self._keys.of_account(tenant, name):
            _check_scopes(principal, key.scopes)


def _check_scopes(principal: Principal, scopes: Iterable[str]) -> None:
    """Raise :class:`Forbidden` for a tenant's administrator who makes or changes a key of the whole installation."""
    if reach(principal, "key.change") is not None and (beyond := set(scopes) - TENANT_SCOPES):
        message = f"A tenant's administrator has no keys with the scope {min(beyond)}, valid beyond the tenant."
        raise Forbidden(message)
