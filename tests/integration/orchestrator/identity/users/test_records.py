"""Records of own users: bounded, and of an existing tenant."""

from __future__ import annotations

import pytest

from orchestrator.errors import NotFound, TooManyRecords, UserExists
from orchestrator.identity.tenants import Records
from orchestrator.identity.users import NewUser, User, records
from orchestrator.models.tenants.records import Tenant
from orchestrator.store import Store


@pytest.fixture
def users(store: Store) -> records.Users:
    return records.Users(store, b"a secret")


def create(users: records.Users, name: str, tenant: str = "default") -> User:
    wanted = NewUser(name=name, tenant=tenant, roles=("developer",), password="not stored")
    return users.create(wanted, "$argon2id$of-a-password", "key:admin", None, lambda id: "")


def test_user_of_an_absent_or_deleted_tenant_is_refused(store: Store, users: records.Users) -> None:
    """A user that the deletion of its tenant missed would be a user of the next tenant of that name."""
    tenants = Records(store)
    with pytest.raises(NotFound):
        create(users, "ann", "t")
    assert tenants.put(b"", Tenant(id="t"), "")
    assert create(users, "ann", "t").tenant == "t"
    assert tenants.put(tenants.tenant("t").raw, Tenant(id="t", state="deleting"), "")
    with pytest.raises(NotFound):
        create(users, "bob", "t")
    assert [user.name for user in users.page(10, None)[0]] == ["ann"]


def test_number_of_users_is_bounded(users: records.Users, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MOST_USERS", 2)
    first = create(users, "ann")
    create(users, "bob")
    with pytest.raises(TooManyRecords):
        create(users, "cid")
    users.delete(first.id, "")
    create(users, "cid")
    with pytest.raises(TooManyRecords):
        create(users, "cid")
    users.delete(users.page(10, None)[0][0].id, "")
    with pytest.raises(UserExists):
        create(users, "cid")
