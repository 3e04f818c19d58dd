"""API keys: shown once, expiring, idempotent, paginated, narrowed, and on the record."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from orchestrator.errors import IdempotencyConflict, NotFound, Unauthenticated
from orchestrator.identity.api_keys import ApiKeys, NewKey, Request
from orchestrator.identity.seals import Seals
from orchestrator.identity.tenants import Records
from orchestrator.identity.users import NewUser
from orchestrator.identity.users.records import Users
from orchestrator.models.key_format import PATTERN, new_secret
from orchestrator.models.tenants.quotas import KeyQuotas
from orchestrator.models.tenants.records import Tenant
from orchestrator.store import Store, keys
from tests.builders.mcp_calls import Agent
from tests.harness import Stack, bearer, eventually

KEYS = "/api/v1/api-keys"
SUBMIT = "/api/v1/executions"
SECRET = b"a secret"
WANTED = NewKey(name="n", tenant="t", scopes=("mcp",))


@pytest.fixture
def api_keys(store: Store) -> ApiKeys:
    Records(store).put(b"", Tenant(id="t"), "")
    return ApiKeys(store, None, SECRET)


def sealed(secret: str, record: str) -> str:
    """The record of a key as the API writes it."""
    return Seals(SECRET).seal("key", f"{hashlib.sha256(secret.encode()).hexdigest()} {record}")


def is_known(api_keys: ApiKeys, secret: str) -> bool:
    try:
        return bool(api_keys.authenticate(f"Bearer {secret}"))
    except Unauthenticated as refused:
        return not refused.wrong_key


def counted(store: Store, call: Callable[[], Any]) -> dict[str, int]:
    """The commands that Redis got during a call from clients, without those of scripts."""
    store.redis.config_resetstat()
    call()
    stats = store.redis.info("commandstats")
    return {name.removeprefix("cmdstat_"): value["calls"] for name, value in stats.items() if "config" not in name}


def test_keys_work_until_they_expire_and_redis_forgets_them_by_itself(store: Store, api_keys: ApiKeys) -> None:
    key, secret = api_keys.create(WANTED.model_copy(update={"expires_in": 0.5}))
    lasting, other = api_keys.create(WANTED)
    assert is_known(api_keys, secret)
    assert key.expires_at is not None
    assert 0.4 < (key.expires_at - key.created_at).total_seconds() < 0.6
    eventually(lambda: not is_known(api_keys, secret), "the key expires")
    assert (is_known(api_keys, other), lasting.expires_at) == (True, None)
    assert {found.id for found in api_keys.page(10, None)[0]} == {key.id, lasting.id}, "it is still listed"


def test_seal_of_a_key_is_checked_again_as_soon_as_its_record_changes(
    store: Store, api_keys: ApiKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, secret = api_keys.create(WANTED)
    opened, open_seal = list[bytes](), Seals.opened

    def counting(self: Seals, what: str, stored: bytes) -> bytes | None:
        opened.append(stored)
        return open_seal(self, what, stored)

    def scopes() -> frozenset[str]:
        return api_keys.authenticate(f"Bearer {secret}").scopes

    monkeypatch.setattr(Seals, "opened", counting)
    assert [scopes(), scopes()] == [{"mcp"}, {"mcp"}]
    assert len(opened) == 1
    changed = key.model_copy(update={"scopes": ("metrics",)}).model_dump_json()
    store.redis.hset(keys.API_KEYS, key.id, sealed(secret, changed))
    assert scopes() == {"metrics"}
    store.redis.hset(keys.API_KEYS, key.id, Seals(b"another").seal("key", changed))
    assert not is_known(api_keys, secret)
    store.redis.hset(keys.API_KEYS, key.id, sealed(secret, changed))
    assert api_keys.revoke(key.id, "t")
    assert not is_known(api_keys, secret)


def test_the_api_refuses_an_expired_key_that_redis_still_has(store: Store, api_keys: ApiKeys) -> None:
    key, secret = api_keys.create(WANTED.model_copy(update={"expires_in": 60}))
    past = key.model_copy(update={"expires_at": key.created_at})
    store.redis.hset(keys.API_KEYS, key.id, sealed(secret, past.model_dump_json()))
    assert not is_known(api_keys, secret)
    store.redis.hset(keys.API_KEYS, key.id, sealed(secret, key.model_dump_json()))
    assert is_known(api_keys, secret), "the control"


def test_use_is_noted_once_a_minute_by_the_script_that_finds_the_key(store: Store, api_keys: ApiKeys) -> None:
    key, secret = api_keys.create(WANTED)
    assert [found.last_used_at for found in api_keys.page(10, None)[0]] == [None]
    first = counted(store, lambda: is_known(api_keys, secret))
    again = counted(store, lambda: [is_known(api_keys, secret) for _ in range(20)])
    assert (first["hset"], first["evalsha"]) == (1, 1)
    assert (again.get("hset"), again["evalsha"]) == (None, 20), "one round trip for each request, and no writing"
    noted = int(store.redis.hget(keys.API_KEY_USES, key.id) or 0)
    store.redis.hset(keys.API_KEY_USES, key.id, noted - 60)
    is_known(api_keys, secret)
    assert int(store.redis.hget(keys.API_KEY_USES, key.id) or 0) >= noted
    used = api_keys.page(10, None)[0][0].last_used_at
    assert used is not None
    assert abs(used.timestamp() - noted) < 60


def test_mistyped_key_costs_no_look_up(store: Store, api_keys: ApiKeys) -> None:
    secret = new_secret()
    mistyped = secret[:-1] + ("a" if secret[-1] != "a" else "b")
    assert counted(store, lambda: is_known(api_keys, mistyped)) == {}
    assert "evalsha" in counted(store, lambda: is_known(api_keys, secret))


def test_the_same_request_gives_the_same_key_which_redis_alone_cannot_make(store: Store, api_keys: ApiKeys) -> None:
    request = Request("key:admin", "idem", "digest")
    key, secret = api_keys.create(WANTED, "key:admin", request)
    assert api_keys.create(WANTED, "key:admin", request) == (key, secret)
    assert len(api_keys.page(10, None)[0]) == 1
    remembered = store.redis.get(keys.api_key_request("key:admin", "idem")) or b""
    assert json.loads(remembered).keys() == {"id", "nonce", "digest"}
    assert secret.encode() not in remembered
    with pytest.raises(NotFound):  # its seal is another
        ApiKeys(store, None, b"another secret").create(WANTED, "key:admin", request)
    with pytest.raises(IdempotencyConflict):
        api_keys.create(WANTED, "key:admin", request._replace(digest="another"))
    assert api_keys.create(WANTED, "key:x", request._replace(principal="key:x"))[0].id != key.id
    api_keys.revoke(key.id, key.tenant)
    with pytest.raises(NotFound):
        api_keys.create(WANTED, "key:admin", request)
    assert not is_known(api_keys, secret), "a repeated request does not bring a revoked key back"


def test_records_of_a_version_without_seals_are_none(store: Store, api_keys: ApiKeys) -> None:
    key, secret = api_keys.create(WANTED)
    users, hash = Users(store, SECRET), "$argon2id$of-a-password"
    wanted = NewUser(name="ann", roles=("developer",), password="not stored")
    user = users.create(wanted, hash, "key:admin", None, lambda id: "")
    store.redis.hset(keys.API_KEYS, key.id, key.model_dump_json())
    store.redis.hset(keys.USERS, user.id, user.model_dump_json())
    assert not is_known(api_keys, secret)
    assert users.page(10, None) == ([], None)


def test_revoked_key_leaves_no_quotas(api_keys: ApiKeys, store: Store) -> None:
    key, _ = api_keys.create(WANTED)
    store.quotas.put_key(key.id, KeyQuotas(queued=1))
    assert store.redis.hexists(keys.QUOTAS, f"k{key.id}")
    api_keys.revoke(key.id, key.tenant)
    assert not store.redis.hexists(keys.QUOTAS, f"k{key.id}")


def test_pages_have_every_key_once(api_keys: ApiKeys) -> None:
    made = [api_keys.create(WANTED)[0].id for _ in range(7)]
    found, cursor = [], None
    while True:
        items, cursor = api_keys.page(3, cursor)
        found += [key.id for key in items]
        if cursor is None:
            break
        assert len(items) == 3
    assert found == made


def test_rest_creates_narrowed_keys_idempotently(api: Stack) -> None:
    body = {
        "name": "ci", "tenant": "t-rest", "service_account": "builder", "scopes": ["executions:write"],
        "quotas": {"environments": ["python"], "queued": 7}, "expires_in": 3600,
    }  # fmt: skip
    unknown = api.client.post(KEYS, json=body)
    assert (unknown.status_code, unknown.json()["code"]) == (422, "unknown_service_account")
    assert api.client.post("/api/v1/tenants/t-rest/service-accounts", json={"name": "builder"}).status_code == 201
    headers = {"Idempotency-Key": secrets.token_hex(8)}
    first, again = (api.client.post(KEYS, json=body, headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    conflict = api.client.post(KEYS, json={**body, "name": "other"}, headers=headers)
    assert (conflict.status_code, conflict.json()["code"]) == (422, "idempotency_conflict")
    made = first.json()
    assert (made["service_account"], made["created_by"]) == ("builder", "key:admin")
    quotas = api.client.get(f"{KEYS}/{made['id']}/quotas").json()["quotas"]
    assert quotas == KeyQuotas(environments=("python",), queued=7).model_dump(mode="json")
    cursor: str | None = ""
    listed: list[dict[str, Any]] = []
    while cursor is not None:
        page = api.client.get(KEYS, params={"limit": 1, **({"cursor": cursor} if cursor else {})}).json()
        listed, cursor = listed + page["items"], page["next_cursor"]
    assert [key for key in listed if key["id"] == made["id"]] == [
        {name: value for name, value in made.items() if name != "secret"}
    ]
    assert api.client.get(KEYS, params={"cursor": "x"}).json()["code"] == "invalid_cursor"
    wrong: list[dict[str, Any]] = [
        {"isolation": ["none"]}, {"tools": ["no pattern"]}, {"environments": ["A B"]}, {"other": []},
    ]  # fmt: skip
    for limits in wrong:
        assert api.client.post(KEYS, json={**body, "quotas": limits}).status_code == 422, limits


def test_narrowed_key_is_refused_by_rest_and_as_policy_to_a_model(api: Stack) -> None:
    scopes = ["executions:write", "executions:read", "mcp"]
    limits = {"environments": ["python"], "isolation": ["standard"], "tools": ["github.*"]}
    body = {"name": "n", "tenant": "t-narrow", "scopes": scopes, "quotas": limits}
    headers = bearer(api.client.post(KEYS, json=body).json()["secret"])
    program = {"environment": "python", "code": "1"}
    assert api.client.post(SUBMIT, json=program, headers=headers).status_code == 202
    for changed, field in (
        ({"environment": "nodejs"}, "environment"),
        ({"isolation": "hardened"}, "isolation"),
        ({"tools": ["*"]}, "tools"),
    ):
        refused = api.client.post(SUBMIT, json={**program, **changed}, headers=headers)
        found = refused.json()
        assert (refused.status_code, found["code"]) == (403, "not_allowed_by_key"), (changed, found)
        assert [mistake["field"] for mistake in found["errors"]] == [field]
        assert "is not among the names that this key may use: " in found["detail"]
        batch = api.client.post(f"{SUBMIT}/batch", json={"executions": [{**program, **changed}]}, headers=headers)
        assert [(one["status"], one["problem"]["code"]) for one in batch.json()] == [(403, "not_allowed_by_key")]
    names = [item["name"] for item in api.client.get("/api/v1/environments", headers=headers).json()["items"]]
    assert names == ["python"]
    call = api.client.post("/api/v1/tools/jira/search/calls", json={"timeout_seconds": 0.01}, headers=headers)
    assert (call.status_code, call.json()["code"]) == (403, "not_allowed_by_key")
    agent = Agent(api, headers=headers)
    text = agent.error("execute_code", code="1", environment="node")
    assert text.startswith("not_allowed_by_key: ")
    assert "python" in text
    assert "node" not in str(agent.call("list_environments"))


def test_the_record_names_principal_and_key(api: Stack) -> None:
    key = api.new_key("executions:write", "executions:read", tenant="t-record")
    headers = bearer(key["secret"])
    queued = api.client.post(SUBMIT, json={"environment": "python", "code": "1"}, headers=headers).json()
    expected = (f"key:{key['id']}", key["id"])
    assert (queued["principal"], queued["key_id"]) == expected
    read = api.client.get(f"{SUBMIT}/{queued['id']}", headers=headers).json()
    assert (read["principal"], read["key_id"]) == expected
    listed = api.client.get(SUBMIT, headers=headers).json()["items"]
    assert [(item["principal"], item["key_id"]) for item in listed] == [expected]
    with closing(api.redis.client()) as redis:
        used = int(redis.hget(keys.API_KEY_USES, key["id"]) or 0)
    assert used > 0


def mayfly(api: Stack, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orchestrator.cli", *words]
    env = os.environ | api.env | variables
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_command_creates_lists_and_revokes_keys_and_refuses_as_policy(api: Stack) -> None:
    assert mayfly(api, "tenants", "create", "t-cli").returncode == 0
    assert mayfly(api, "tenants", "accounts", "create", "ci", "--tenant", "t-cli").returncode == 0
    options = ["--service-account", "ci", "--days", "2", "--environment", "python", "--tool", "github.*"]
    made = mayfly(api, "keys", "create", "builder", "--tenant", "t-cli", *options)
    secret = made.stdout.strip()
    assert (made.returncode, PATTERN.fullmatch(secret) is not None) == (0, True), made
    refused = mayfly(api, "submit", "-c", "1", "--env", "node", MAYFLY_TOKEN=secret)
    assert refused.returncode == 126, refused
    assert "'node' is not among the names that this key may use: python" in refused.stderr
    shown = mayfly(api, "keys", "list")
    rows = [line.split("\t") for line in shown.stdout.splitlines()]
    assert shown.returncode == 0, shown.stderr
    [row] = [row for row in rows if row[2] == "t-cli"]
    assert (row[1], row[3]) == ("builder", "ci")
    assert row[6] > row[5]
    assert row[7] != "never"
    quotas = mayfly(api, "quotas", "show", "--key", row[0]).stdout
    assert "environments\tpython" in quotas
    assert "tools\tgithub.*" in quotas
    assert secret not in str(rows)
    assert mayfly(api, "keys", "revoke", row[0]).returncode == 0
    assert mayfly(api, "ls", MAYFLY_TOKEN=secret).returncode != 0
