"""The use cases of OIDC issuers: administrators declare and remove issuers while Mayfly runs."""

from __future__ import annotations

from orchestrator.audit import Writer
from orchestrator.identity import Principal
from orchestrator.identity.issuers.declared import DeclaredIssuers, ShownIssuer, id_of
from orchestrator.models.issuers import Issuer


class IssuerCases:
    """Reads and changes issuers. Thread-safe."""

    def __init__(self, issuers: DeclaredIssuers, audit: Writer) -> None:
        self._issuers, self._audit = issuers, audit
        self.page, self.get, self.all, self.exist = issuers.page, issuers.get, issuers.all, issuers.exist

    def declare(self, principal: Principal, issuer: Issuer) -> ShownIssuer:
        """Declare an issuer, or replace its declaration. Raises as :meth:`DeclaredIssuers.put` does."""
        return self._issuers.put(issuer, self._entry(principal, "declare", id_of(issuer.issuer)))

    def remove(self, principal: Principal, id: str) -> None:
        """Remove an issuer, whose tokens are refused at once. Raises as :meth:`DeclaredIssuers.remove` does."""
        self._issuers.remove(id, self._entry(principal, "remove", id))

    def _entry(self, principal: Principal, change: str, id: str) -> str:
        return self._audit.entry(principal, f"issuer.{change}", f"issuer/{id}")
