"""The check that lets in the principals of tokens, and the compare-and-set of records."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from orchestrator.audit import Writer
from orchestrator.errors import NotFound, TenantDisabled, Unauthenticated
from orchestrator.identity import Principal
from orchestrator.identity.tenants import Records
from orchestrator.models.tenants.records import Tenant, TenantChange
from orchestrator.service.administration.tenants import TenantCases
from orchestrator.store import Store, keys

ADMIN = Principal(id="key:admin", tenant="default", scopes=frozenset({"admin"}))
PERSON = Principal(id="oidc:https://issuer#p", tenant="t", scopes=frozenset({"executions:read"}))


@pytest.fixture
def tenants(store: Store) -> TenantCases:
    return TenantCases(Records(store), Writer(b"secret"))


def test_token_of_an_unknown_tenant_is_refused_unless_its_issuer_may_create_tenants(
    store: Store, tenants: TenantCases
) -> None:
    with pytest.raises(Unauthenticated):
        tenants.admit(PERSON, may_create=False)
    assert store.redis.xlen(keys.AUDIT) == 0
    tenants.admit(PERSON, may_create=True)
    assert tenants.get(ADMIN, "t").created_by == PERSON.id
    assert store.redis.xlen(keys.AUDIT) == 1
    tenants.admit(PERSON, may_create=False)
    tenants.admit(ADMIN, may_create=False)


def test_token_of_a_disabled_or_deleted_tenant_is_refused_with_the_next_request(tenants: TenantCases) -> None:
    tenants.admit(PERSON, may_create=True)
    tenants.change(ADMIN, "t", TenantChange(state="disabled"))
    with pytest.raises(TenantDisabled):
        tenants.admit(PERSON, may_create=True)
    tenants.change(ADMIN, "t", TenantChange(state="active"))
    tenants.admit(PERSON, may_create=True)
    assert tenants.delete(ADMIN, "t").state == "deleting"
    with pytest.raises(Unauthenticated):
        tenants.admit(PERSON, may_create=True)
    assert tenants.change(ADMIN, "t", TenantChange(state="active")).state == "deleting", "it does not come back"


def test_only_administrators_make_tenants_by_naming_them(tenants: TenantCases) -> None:
    with pytest.raises(NotFound):
        tenants.ensure(PERSON.model_copy(update={"scopes": frozenset({"tenant:admin"})}), "u")
    tenants.ensure(ADMIN, "u")
    assert tenants.get(ADMIN, "u").state == "active"


def test_malformed_record_is_refused(store: Store, tenants: TenantCases) -> None:
    store.redis.hset(keys.TENANTS, "t", "a[")
    with pytest.raises(Unauthenticated):
        tenants.admit(PERSON, may_create=True)


def test_concurrent_changes_lose_none(store: Store, tenants: TenantCases) -> None:
    records = Records(store)
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda number: records.put(b"", Tenant(id="t", description=str(number)), ""), range(8)))
    assert made.count(True) == 1
    raw = records.tenant("t").raw
    assert records.put(raw, Tenant(id="t", description="new"), "")
    assert not records.put(raw, Tenant(id="t", description="newer"), "")
    assert tenants.get(ADMIN, "t").description == "new"
