"""Entries of the audit log that a tenant sees."""

from __future__ import annotations

import pytest

from orchestrator.audit import AuditEntry, Outcome
from orchestrator.identity import Principal
from orchestrator.queries.audit import audit_query


@pytest.mark.parametrize(
    ("outcome", "tenant", "owner", "seen"),
    [
        ("done", "mine", "mine", "own, all"),
        ("done", "mine", None, "own, all"),
        ("done", "other", "mine", "own, all"),
        ("done", "mine", "other", "all"),  # an administrator of the installation, who is a user of this tenant
        ("done", "other", "other", "all"),
        ("done", "other", None, "all"),
        ("refused", "mine", "mine", "own, all"),
        ("refused", "mine", None, "own, all"),
        ("refused", "other", "mine", "all"),
        ("refused", "mine", "other", "all"),
        ("refused", None, None, "all"),
    ],
)
def test_tenant_sees_no_action_on_another_tenants_resource(
    outcome: Outcome, tenant: str | None, owner: str | None, seen: str
) -> None:
    entry = AuditEntry(id="x", action="key.create", outcome=outcome, tenant=tenant, owner=owner)
    callers = {"own": ("audit:read",), "all": ("audit:read", "fleet:read")}
    found = []
    for name, scopes in callers.items():
        caller = Principal(id="key:x", tenant="mine", scopes=frozenset(scopes))
        if audit_query(caller, None, None, None, None).wanted(entry):
            found.append(name)
    assert ", ".join(found) == seen
