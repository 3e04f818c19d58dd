"""The check that lets in the principals of tokens, and the compare-and-set of records."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from orchestrator.audit import Writer
from orchestrator.errors import AlreadyExists, NotFound, TenantDisabled, Unauthenticated, ValidationFailed
from orchestrator.identity import Principal
from orchestrator.identity.tenants import Records
from orchestrator.models.tenants.records import NewTenant, ServiceAccount, Tenant, TenantChange
from orchestrator.queries import cursors
from orchestrator.service.administration.tenants import TenantCases
from orchestrator.store import Store, keys, scripts

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


def test_deleted_tenant_comes_back_only_on_purpose(store: Store, tenants: TenantCases) -> None:
    tenants.admit(PERSON, may_create=True)
    tenants.delete(ADMIN, "t")
    assert store.redis.script(scripts.PURGE)(args=["t", "", 60]) == 1
    with pytest.raises(Unauthenticated):
        tenants.admit(PERSON, may_create=True)
    with pytest.raises(AlreadyExists, match="was deleted"):
        tenants.ensure(ADMIN, "t")
    assert store.redis.hlen(keys.TENANTS) == 0
    store.redis.zadd(keys.TENANTS_DELETED, {"long-ago": store.now() - 1})
    tenants.create(ADMIN, NewTenant(id="t"))
    tenants.admit(PERSON, may_create=False)
    tenants.delete(ADMIN, "t")
    assert store.redis.script(scripts.PURGE)(args=["t", "", 60]) == 1
    assert store.redis.zrange(keys.TENANTS_DELETED, 0, -1) == [b"t"], "those without usage are forgotten"


def test_only_administrators_make_tenants_by_naming_them(tenants: TenantCases) -> None:
    with pytest.raises(NotFound):
        tenants.ensure(PERSON.model_copy(update={"scopes": frozenset({"tenant:admin"})}), "u")
    tenants.ensure(ADMIN, "u")
    assert tenants.get(ADMIN, "u").state == "active"


def test_pages_have_every_tenant_and_account_once(store: Store) -> None:
    records, names = Records(store), [f"t{number}" for number in range(5)]
    for name in names:
        assert records.put(b"", Tenant(id=name), "")
        assert records.put(b"", ServiceAccount(name=name, tenant="t0", created_at=datetime.now(UTC)), "")

    def pages(read: Callable[[int, str | None], tuple[list[Any], str | None]]) -> list[list[Any]]:
        found: list[list[Any]] = []
        cursor: str | None = None
        while not found or cursor is not None:
            items, cursor = read(2, cursor)
            found.append(items)
        return found

    assert [[tenant.id for tenant in page] for page in pages(records.tenants)] == [
        ["default", "t0"], ["t1", "t2"], ["t3", "t4"],
    ]  # fmt: skip
    accounts = pages(partial(records.accounts, "t0"))
    assert [[account.name for account in page] for page in accounts] == [["t0", "t1"], ["t2", "t3"], ["t4"]]


def test_forged_cursors_are_refused(store: Store) -> None:
    records = Records(store)
    for read, about in ((records.tenants, "tenants"), (partial(records.accounts, "t0"), "accounts t0")):
        with pytest.raises(ValidationFailed):
            read(2, cursors.closed(cursors.list_id(about), "half of a pair: \ud800"))


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
