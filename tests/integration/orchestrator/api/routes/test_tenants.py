"""Tenants and service accounts over REST and the command line: records, and what disabling and deleting do."""

from __future__ import annotations

import secrets
from contextlib import closing
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.models.tenants.records import MOST_KEYS
from orchestrator.settings import Settings
from orchestrator.states import Reason, cancelled
from orchestrator.store import keys, open_store
from tests.builders.people.own_users import USERS, OwnUsers
from tests.builders.records import claimed
from tests.harness import Stack, bearer, eventually

TENANTS, KEYS, SUBMIT = "/api/v1/tenants", "/api/v1/api-keys", "/api/v1/executions"
SCOPES = ("executions:read", "executions:write", "blobs:write")
PROGRAM: dict[str, Any] = {"environment": "python", "code": "1"}


@pytest.fixture(scope="module")
def api_settings() -> dict[str, Any]:
    return {"lease_seconds": 600.0}  # no worker renews the leases of these executions


@pytest.fixture
def tenant() -> str:
    return f"t-{secrets.token_hex(4)}"


def create(api: Stack, tenant: str, **fields: Any) -> dict[str, Any]:
    answer = api.client.post(TENANTS, json={"id": tenant, **fields})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def audited(api: Stack, tenant: str) -> list[tuple[str, str]]:
    items = api.client.get("/api/v1/audit", params={"limit": 1000}).json()["items"]
    return [(item["action"], item["resource"]) for item in items if item.get("owner") == tenant]


def status(api: Stack, headers: dict[str, str]) -> tuple[int, str | None]:
    answer = api.client.get(SUBMIT, headers=headers)
    return answer.status_code, answer.json().get("code")


def test_tenant_is_made_once_listed_changed_and_on_the_record(api: Stack, tenant: str) -> None:
    made = create(api, tenant, description="A school")
    assert (made["state"], made["created_by"], made["description"]) == ("active", "key:admin", "A school")
    assert create(api, tenant, description="A school") == made
    other = api.client.post(TENANTS, json={"id": tenant, "description": "another"})
    assert (other.status_code, other.json()["code"]) == (409, "already_exists")
    assert api.client.get(f"{TENANTS}/{tenant}").json() == made
    listed: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = api.client.get(TENANTS, params={"limit": 1, **({"cursor": cursor} if cursor else {})}).json()
        listed, cursor = listed + [item["id"] for item in page["items"]], page["next_cursor"]
    assert listed == sorted(listed)
    assert {"default", tenant} <= set(listed)
    changed = api.client.patch(f"{TENANTS}/{tenant}", json={"description": "A college"})
    assert changed.json() == {**made, "description": "A college"}
    for wrong in ({"state": "deleting"}, {"id": "x"}, {"state": "off"}):
        assert api.client.patch(f"{TENANTS}/{tenant}", json=wrong).status_code == 422, wrong
    assert api.client.get(f"{TENANTS}/t-unknown").json()["code"] == "not_found"
    assert audited(api, tenant) == [(f"tenant.{change}", f"tenant/{tenant}") for change in ("create", "change")]


def test_default_tenant_is_always_there(api: Stack) -> None:
    assert api.client.get(f"{TENANTS}/-").json()["id"] == "default"
    refusals = [
        api.client.delete(f"{TENANTS}/default"),
        api.client.patch(f"{TENANTS}/default", json={"state": "disabled"}),
    ]
    assert [(answer.status_code, answer.json()["code"]) for answer in refusals] == [(409, "default_tenant")] * 2


def test_disabled_tenant_is_refused_with_the_next_request(api: Stack, tenant: str) -> None:
    headers = api.headers_of(tenant, *SCOPES)
    accepted = api.submit(headers=headers, **PROGRAM).json()["id"]
    assert api.client.patch(f"{TENANTS}/{tenant}", json={"state": "disabled"}).json()["state"] == "disabled"
    assert status(api, headers) == (403, "tenant_disabled")
    assert api.client.get(f"{SUBMIT}/{accepted}").json()["state"] == "queued", "what was accepted continues"
    assert api.client.patch(f"{TENANTS}/{tenant}", json={"state": "active"}).status_code == 200
    assert status(api, headers) == (200, None)


def test_deleted_tenant_is_refused_at_once_and_leaves_no_data(api: Stack, tenant: str) -> None:
    key = api.new_key(*SCOPES, tenant=tenant)
    headers = bearer(key["secret"])
    assert api.client.post(f"{TENANTS}/{tenant}/service-accounts", json={"name": "ci"}).status_code == 201
    assert api.client.put(f"{TENANTS}/{tenant}/quotas", json={"queued": 100}).status_code == 200
    assert api.client.put("/api/v1/blobs", content=b"content", headers=headers).status_code == 201
    user = OwnUsers(api).create(tenant=tenant)
    ids = [api.submit(headers=headers, **PROGRAM).json()["id"] for _ in range(5)]
    answer = api.client.delete(f"{TENANTS}/{tenant}")
    assert (answer.status_code, answer.json()["state"]) == (202, "deleting")
    assert status(api, headers) == (401, "unauthenticated")
    again = api.client.post(KEYS, json={"name": "n", "tenant": tenant, "scopes": ["mcp"]})
    assert again.status_code in (404, 409), "a tenant takes no keys in deletion, and none is made for a deleted one"
    eventually(lambda: api.client.get(f"{TENANTS}/{tenant}").status_code == 404, "the tenant is gone")
    with closing(api.redis.client()) as redis:
        left = {key.decode() for key in redis.scan_iter(f"*{tenant}*", 1000)}
        fields = [redis.hexists(name, field) for name, field in (
            (keys.QUOTAS, f"t{tenant}"), (keys.TURNS, tenant), (keys.API_KEYS, key["id"]), (keys.TENANTS, tenant),
        )]  # fmt: skip
    assert {name.split(":")[1] for name in left} <= {"usage"}, left
    assert fields == [False] * 4
    eventually(lambda: api.client.get(f"{USERS}/{user.id}").status_code == 404, "the tenant's user is gone")
    assert [api.client.get(f"{SUBMIT}/{id}").status_code for id in ids] == [404] * 5
    blobs = api.directory / "state" / "blobs" / "blobs"
    eventually(lambda: not list(blobs.glob(f"{tenant}/*")), "its blobs are gone")
    actions = audited(api, tenant)
    begun = actions.index(("tenant.delete", f"tenant/{tenant}"))
    assert actions[begun + 1] == ("tenant.purge", f"tenant/{tenant}"), "its completion is on the record"
    assert actions.count(actions[begun + 1]) == 1
    key_body = {"name": "n", "tenant": tenant, "scopes": ["mcp"]}
    user_body = {"name": tenant, "tenant": tenant, "roles": ["auditor"], "password": "quite a long password"}
    for path, body in ((KEYS, key_body), (USERS, user_body)):
        refused = api.client.post(path, json=body)
        assert (refused.status_code, refused.json()["code"]) == (409, "already_exists"), "only on purpose"
    assert create(api, tenant)["state"] == "active"
    assert status(api, headers) == (401, "unauthenticated"), "a new tenant of that name has none of the old keys"


def test_tenant_with_a_running_execution_is_gone_after_its_end(api: Stack, tenant: str) -> None:
    """A worker that runs an execution during the deletion is asked to stop, and may still write its end."""
    headers = api.headers_of(tenant, *SCOPES)
    ids = [api.submit(headers=headers, **PROGRAM).json()["id"] for _ in range(2)]
    store = open_store(Settings(state_dir=api.directory / "state", redis_url=api.redis.url))
    with closing(store.redis), closing(store.redis.pubsub()) as worker:
        worker.subscribe(keys.CANCEL)
        claim = claimed(store, ids[0])
        store.records.start(claim, store.now(), [("stdout", b"x", False)])
        assert api.client.delete(f"{TENANTS}/{tenant}").status_code == 202
        eventually(
            lambda: (message := worker.get_message(timeout=1)) and message["data"] == claim.id.encode(),
            "the worker is asked to stop",
        )
        eventually(lambda: api.client.get(f"{SUBMIT}/{ids[1]}").status_code == 404, "the queued execution is gone")
        assert api.client.get(f"{TENANTS}/{tenant}").json()["state"] == "deleting"
        assert api.client.post(TENANTS, json={"id": tenant}).json()["code"] == "already_exists"
        assert store.records.end(claim.id, cancelled(Reason.CANCELLED_BY_OPERATOR), "", claim.attempt)
        eventually(lambda: api.client.get(f"{TENANTS}/{tenant}").status_code == 404, "the tenant is gone")
        assert not store.redis.exists(keys.execution(claim.id), keys.stream(claim.id), keys.tenant_index(tenant))
        assert store.records.recount() == 0, "nothing stays in use"
        usage = api.client.get(f"{TENANTS}/{tenant}/usage", params={"by": "key"}).json()
        assert usage["total"]["executions"] == 2, "its usage stays"


def test_service_accounts_bound_and_end_their_keys(api: Stack, tenant: str) -> None:
    create(api, tenant)
    accounts = f"{TENANTS}/{tenant}/service-accounts"
    body = {"name": "ci", "allowed": {"environments": ["python"]}}
    made = api.client.post(accounts, json=body).json()
    assert api.client.post(accounts, json=body).json() == made
    assert api.client.post(accounts, json={"name": "ci"}).json()["code"] == "already_exists"
    assert api.client.get(accounts).json() == {"items": [made], "next_cursor": None}
    wanted = {"name": "n", "tenant": tenant, "scopes": SCOPES, "service_account": "ci"}
    headers = bearer(api.client.post(KEYS, json=wanted).json()["secret"])
    free = api.headers_of(tenant, *SCOPES)
    refused = api.client.post(SUBMIT, json={**PROGRAM, "environment": "bash"}, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed_by_key")
    assert "is not among the names that this service account may use: python" in refused.json()["detail"]
    assert api.client.patch(f"{accounts}/ci", json={"allowed": {}}).status_code == 200
    assert api.submit(headers=headers, environment="bash", code=":").status_code == 202
    assert api.client.patch(f"{accounts}/ci", json={"state": "disabled"}).json()["state"] == "disabled"
    assert (status(api, headers), status(api, free)) == ((401, "unauthenticated"), (200, None))
    assert api.client.patch(f"{accounts}/ci", json={"state": "active"}).status_code == 200
    assert status(api, headers) == (200, None)
    assert api.client.delete(f"{accounts}/ci").status_code == 204
    assert (status(api, headers), status(api, free)) == ((401, "unauthenticated"), (200, None))
    assert api.client.post(accounts, json=body).status_code == 201
    assert status(api, headers) == (401, "unauthenticated"), "a new account of that name has none of the old keys"
    assert api.client.delete(f"{accounts}/unknown").json()["code"] == "not_found"
    assert api.client.post(f"{TENANTS}/t-unknown/service-accounts", json=body).status_code == 404
    changes = [action for action, resource in audited(api, tenant) if resource == f"service-account/{tenant}/ci"]
    names = ["create", "change", "change", "change", "delete", "create"]
    assert changes == [f"service_account.{name}" for name in names]


def test_tenants_administrator_reaches_its_own_tenant_alone(api: Stack, tenant: str) -> None:
    other = api.new_key(*SCOPES, tenant=f"{tenant}-other")
    headers = api.headers_of(tenant, "tenant:admin", "audit:read")
    send = api.client.request
    made = send("POST", KEYS, headers=headers, json={"name": "n", "scopes": ["executions:read"]})
    assert (made.status_code, made.json()["tenant"]) == (201, tenant)
    listed = send("GET", KEYS, headers=headers).json()["items"]
    assert {key["tenant"] for key in listed} == {tenant}
    assert [item["id"] for item in send("GET", TENANTS, headers=headers).json()["items"]] == [tenant]
    key = f"{KEYS}/{made.json()['id']}"
    assert send("PUT", f"{key}/quotas", headers=headers, json={"queued": 3}).status_code == 200
    assert send("POST", f"{TENANTS}/-/service-accounts", headers=headers, json={"name": "ci"}).status_code == 201
    foreign = f"{KEYS}/{other['id']}"
    fleet = f"{KEYS}/{api.new_key('fleet:read', tenant=tenant)['id']}"
    hosts = f"{TENANTS}/{tenant}/service-accounts/hosts"  # owns a key of the whole installation
    assert api.client.post(f"{TENANTS}/{tenant}/service-accounts", json={"name": "hosts"}).status_code == 201
    owned = {"name": "n", "tenant": tenant, "scopes": ["worker"], "service_account": "hosts"}
    assert api.client.post(KEYS, json=owned).status_code == 201
    refusals: list[tuple[str, str, Any, int]] = [
        ("POST", KEYS, {"name": "n", "tenant": f"{tenant}-other", "scopes": ["mcp"]}, 403),
        ("POST", KEYS, {"name": "n", "tenant": f"{tenant}-new", "scopes": ["mcp"]}, 403),
        ("POST", KEYS, {"name": "n", "scopes": ["admin"]}, 403),
        ("POST", KEYS, {"name": "n", "scopes": ["mcp", "fleet:read"]}, 403),
        ("DELETE", fleet, None, 403),
        ("PUT", f"{fleet}/quotas", {"queued": 1}, 403),
        ("PATCH", hosts, {"state": "disabled"}, 403),
        ("DELETE", hosts, None, 403),
        ("DELETE", foreign, None, 404),
        ("GET", f"{foreign}/quotas", None, 404),
        ("PUT", f"{foreign}/quotas", {}, 404),
        ("PUT", f"{TENANTS}/-/quotas", {"queued": None}, 403),
        ("PATCH", f"{TENANTS}/-", {"description": "x"}, 403),
        ("DELETE", f"{TENANTS}/-", None, 403),
        ("POST", TENANTS, {"id": f"{tenant}-new"}, 403),
        ("POST", f"{TENANTS}/{tenant}-other/service-accounts", {"name": "ci"}, 403),
    ]
    for method, path, body, expected in refusals:
        answer = send(method, path, headers=headers, json=body)
        assert answer.status_code == expected, (method, path, answer.text)
    eventually(
        lambda: ("key.change", f"api-key/{other['id']}") in audited(api, f"{tenant}-other"), "the attempt is on record"
    )
    assert status(api, bearer(other["secret"])) == (200, None)
    assert send("DELETE", key, headers=headers).status_code == 204
    assert status(api, bearer(made.json()["secret"])) == (401, "unauthenticated")


def test_a_tenant_has_a_bounded_number_of_keys(api: Stack, tenant: str) -> None:
    expired = api.client.post(KEYS, json={"name": "n", "tenant": tenant, "scopes": ["mcp"], "expires_in": 0.001})
    with closing(api.redis.client()) as redis:
        redis.sadd(keys.tenant_keys(tenant), *(f"k{number}" for number in range(MOST_KEYS - 1)))
        redis.hset(keys.API_KEY_DIGESTS, mapping={f"k{number}": f"k{number}" for number in range(MOST_KEYS - 1)})
        redis.mset({keys.api_key(f"k{number}"): "" for number in range(MOST_KEYS - 1)})
        new = {"name": "n", "tenant": tenant, "scopes": ["mcp"]}
        eventually(lambda: api.client.post(KEYS, json=new).status_code == 201, "the expired key makes room")
        assert not redis.hexists(keys.API_KEYS, expired.json()["id"])
    refused = api.client.post(KEYS, json=new)
    assert (refused.status_code, refused.json()["code"], refused.json()["bound"]) == (
        409, "too_many_records", MOST_KEYS,
    )  # fmt: skip


def test_command_administers_tenants(api: Stack, tenant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAYFLY_URL", str(api.client.base_url))
    monkeypatch.setenv("MAYFLY_TOKEN", api.client.headers["Authorization"].removeprefix("Bearer "))

    def mayfly(*words: str) -> str:
        called = CliRunner().invoke(app, ["tenants", *words])
        assert called.exit_code == 0, called.output
        return called.output

    assert mayfly("create", tenant, "--description", "A school") == f"{tenant} active\n"
    assert f"{tenant}\tactive" in mayfly("list")
    assert mayfly("disable", tenant) == f"{tenant} disabled\n"
    assert mayfly("enable", tenant) == f"{tenant} active\n"
    own = ("--tenant", tenant)
    assert mayfly("accounts", "create", "ci", *own, "--tool", "crm.*") == f"ci of tenant {tenant}\n"
    assert mayfly("accounts", "disable", "ci", *own) == "ci disabled\n"
    assert mayfly("accounts", "list", *own).startswith(f"ci\t{tenant}\tdisabled")
    assert mayfly("accounts", "enable", "ci", *own) == "ci active\n"
    assert mayfly("accounts", "delete", "ci", *own) == "ci deleted\n"
    assert mayfly("delete", tenant) == f"{tenant} deleting\n"
