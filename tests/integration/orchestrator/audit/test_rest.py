"""The audit log over REST and the command: what is written, who sees it, and what a verification finds."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from orchestrator.store import keys
from tests.builders.mcp_calls import Agent
from tests.harness import Stack, bearer, eventually, logged

ADMIN = "key:admin"
SERVER = {"url": "http://127.0.0.1:1/mcp"}


def entries(api: Stack, headers: dict[str, str] | None = None, **params: Any) -> list[dict[str, Any]]:
    answer = api.client.get("/api/v1/audit", params={"limit": 1000, **params}, headers=headers)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def mayfly(api: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", "audit", *words],
        env=os.environ | api.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def put_server(api: Stack) -> str:
    assert api.client.put("/api/v1/tool-servers/files", json=SERVER, params={"tenant": "t"}).status_code == 200
    return "tool-server/files"


def remove_server(api: Stack) -> str:
    put_server(api)
    assert api.client.delete("/api/v1/tool-servers/files", params={"tenant": "t"}).status_code == 204
    return "tool-server/files"


def create_key(api: Stack) -> str:
    return f"api-key/{api.new_key('executions:read', tenant='t')['id']}"


def revoke_key(api: Stack) -> str:
    id = api.new_key("executions:read", tenant="t")["id"]
    assert api.client.delete(f"/api/v1/api-keys/{id}").status_code == 204
    return f"api-key/{id}"


def set_quotas(api: Stack) -> str:
    assert api.client.put("/api/v1/tenants/t/quotas", json={"queued": 7}).status_code == 200
    return "tenant/t"


def set_key_quotas(api: Stack) -> str:
    resource = create_key(api)
    assert (
        api.client.put(f"/api/v1/api-keys/{resource.partition('/')[2]}/quotas", json={"queued": 7}).status_code == 200
    )
    return resource


CHANGES = {
    "tenant.quotas": set_quotas,
    "key.quotas": set_key_quotas,
    "tool_server.declare": put_server,
    "tool_server.remove": remove_server,
    "key.create": create_key,
    "key.revoke": revoke_key,
}


@pytest.mark.parametrize("action", CHANGES)
def test_change_is_in_the_log_before_its_answer(api: Stack, action: str) -> None:
    resource = CHANGES[action](api)
    entry = entries(api, action=action)[-1]
    known = {name: entry[name] for name in ("principal", "tenant", "resource", "outcome", "address")}
    assert known == {
        "principal": ADMIN, "tenant": "default", "resource": resource, "outcome": "done", "address": "127.0.0.1",
    }  # fmt: skip
    assert entry["owner"] == "t"
    assert entry["request_id"]


def test_failed_change_is_not_in_the_log(api: Stack) -> None:
    before = len(entries(api))
    assert api.client.delete("/api/v1/tool-servers/absent").status_code == 404
    assert api.client.delete("/api/v1/api-keys/absent").status_code == 404
    assert api.client.post("/api/v1/workers/absent/drain").status_code == 404
    assert api.client.delete("/api/v1/workers/absent/drain").status_code == 404
    assert len(entries(api)) == before


def test_refusals_are_in_the_log_at_milestones(api: Stack) -> None:
    key = api.new_key("executions:read", tenant="t")
    for _ in range(3):
        assert api.client.post("/api/v1/executions", json={}, headers=bearer(key["secret"])).status_code == 403
        assert api.client.get("/api/v1/executions", headers=bearer("mfk_wrong")).status_code == 401

    def refused() -> list[tuple[Any, ...]]:
        found = entries(api, since="2026-01-01T00:00:00Z")
        return [
            (entry.get("principal"), entry["action"], entry["code"], entry["count"])
            for entry in found
            if entry["outcome"] == "refused"
        ]

    wanted = [(f"key:{key['id']}", "execution.submit", "forbidden", 1), (None, "authenticate", "unauthenticated", 1)]
    eventually(lambda: sorted(refused(), key=str) == sorted(wanted, key=str), "both refusals are in the log once")


def test_submissions_are_no_entries_by_default(api: Stack) -> None:
    assert api.submit(environment="python", code="1").status_code == 202
    assert [entry for entry in entries(api, action="execution.submit") if entry["outcome"] == "done"] == []


def test_submissions_are_entries_by_setting(engine: None, tmp_path: Path) -> None:
    stack = Stack(tmp_path, audit_submissions=True)
    try:
        stack.start(workers=0)
        headers = stack.headers_of("t", "executions:write") | {"Idempotency-Key": "k"}
        body = {"environment": "python", "code": "1"}
        ids = {stack.client.post("/api/v1/executions", json=body, headers=headers).json()["id"] for _ in range(2)}
        assert stack.client.post("/api/v1/executions", json={}, headers=headers).status_code == 422
        [entry] = entries(stack, action="execution.submit")
        assert [entry["resource"]] == [f"execution/{id}" for id in ids], "once, though it was sent twice"
        assert (entry["tenant"], entry["owner"], entry["outcome"]) == ("t", "t", "done")
        assert entry["principal"].startswith("key:")
        eventually(lambda: sealed(stack), "the log is sealed")
        assert mayfly(stack, "verify").returncode == 0
    finally:
        stack.stop()


def test_name_of_a_revoked_key_is_nowhere_and_its_entries_stay(api: Stack) -> None:
    """People stand in the log by id: what names them is erased with the key."""
    name = f"jane-{secrets.token_hex(8)}"
    wanted = {"name": name, "tenant": "t", "scopes": ["executions:read"]}
    key = api.client.post("/api/v1/api-keys", json=wanted, headers={"Idempotency-Key": name[5:]}).json()
    assert api.client.post("/api/v1/executions", json={}, headers=bearer(key["secret"])).status_code == 403
    refused_entries(api, f"key:{key['id']}", 1)
    assert everything_in_redis(api).count(name.encode()) == 1, "the control"
    assert api.client.delete(f"/api/v1/api-keys/{key['id']}").status_code == 204
    assert name.encode() not in everything_in_redis(api)
    resources = {entry.get("resource") for entry in entries(api)}
    assert f"api-key/{key['id']}" in resources
    assert len(refused_entries(api, f"key:{key['id']}", 1)) == 1


def everything_in_redis(api: Stack) -> bytes:
    """Every key and value, as Redis writes a copy; not compressed."""
    with closing[Any](api.redis.client()) as client:
        client.config_set("rdbcompression", "no")
        return b"\n".join(name + (client.dump(name) or b"") for name in {*client.scan_iter()})


def by_rest(api: Stack, headers: dict[str, str], id: str) -> None:
    read, cancel = f"/api/v1/executions/{id}/stdout", f"/api/v1/executions/{id}/cancel"
    assert api.client.get(read, headers=headers).status_code in (403, 404)
    assert api.client.post(cancel, headers=headers).status_code in (403, 404)


def by_agent(api: Stack, headers: dict[str, str], id: str) -> None:
    agent = Agent(api, headers=headers)
    agent.error("read_output", execution_id=id)
    agent.error("cancel_execution", execution_id=id)


def refused_entries(api: Stack, principal: str, number: int) -> list[dict[str, Any]]:
    def found() -> list[dict[str, Any]]:
        made = entries(api, principal=principal)
        return made if len(made) == number else []

    return eventually(found, "the refusals are audited")


@pytest.mark.parametrize("tenant", ["t", "u"])
def test_refusals_of_agents_are_audited_as_those_over_rest(api: Stack, tenant: str) -> None:
    """Of a key without the scopes, and of a key with the scopes of another tenant."""
    body = {"environment": "python", "code": "1"}
    owner = api.headers_of("t", "executions:write")
    id = api.client.post("/api/v1/executions", json=body, headers=owner).json()["id"]
    scopes = ("executions:write", "executions:read") if tenant == "u" else ()
    number = 1 if tenant == "u" else 2  # requests for other tenants' executions are counted together
    found = []
    for ask in (by_rest, by_agent):
        key = api.new_key("mcp", *scopes, tenant=tenant)
        ask(api, bearer(key["secret"]), id)
        made = refused_entries(api, f"key:{key['id']}", number)
        assert all(entry["request_id"] for entry in made)
        volatile = ("id", "position", "time", "request_id", "principal", "stored")
        shown = [{name: value for name, value in entry.items() if name not in volatile} for entry in made]
        found.append(sorted(shown, key=str))
    assert found[0] == found[1]
    assert {entry["address"] for entry in found[0]} == {"127.0.0.1"}
    assert {entry["code"] for entry in found[0]} == {"forbidden" if tenant == "t" else "not_found"}


def test_refusal_of_a_narrowed_key_is_audited(api: Stack) -> None:
    wanted = {"name": "n", "tenant": "t", "scopes": ["executions:write"], "quotas": {"environments": ["node"]}}
    key = api.client.post("/api/v1/api-keys", json=wanted).json()
    body = {"environment": "python", "code": "1"}
    assert api.client.post("/api/v1/executions", json=body, headers=bearer(key["secret"])).status_code == 403
    [entry] = refused_entries(api, f"key:{key['id']}", 1)
    assert (entry["action"], entry["code"]) == ("execution.submit", "not_allowed_by_key")


def test_tenant_sees_its_own_entries_and_may_not_verify(api: Stack) -> None:
    put_server(api)
    auditor = api.headers_of("t", "audit:read")
    other = api.headers_of("u", "audit:read")
    assert {entry.get("owner") for entry in entries(api, auditor) if entry["outcome"] == "done"} == {"t"}
    assert "tool-server/files" not in {entry["resource"] for entry in entries(api, other)}
    assert all("stored" not in entry for entry in entries(api, auditor))
    assert api.client.get("/api/v1/audit/seals", headers=auditor).status_code == 403
    assert api.client.get("/api/v1/audit", headers=api.headers_of("t", "executions:read")).status_code == 403


def test_pages_together_are_the_log(api: Stack) -> None:
    put_server(api)
    whole = entries(api)
    pages: list[str] = []
    cursor: str | None = None
    while True:
        answer = api.client.get("/api/v1/audit", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        pages += [item["id"] for item in answer["items"]]
        if (cursor := answer.get("next_cursor")) is None:
            break
    assert pages == [item["id"] for item in whole]


def sealed(api: Stack) -> bool:
    done = mayfly(api, "verify", "--json")
    assert done.stdout, done.stderr
    return bool(json.loads(done.stdout)["unsealed"] == 0)


def logged_heads(api: Stack) -> list[dict[str, Any]]:
    return [line for line in logged(api.directory / "api.log") if line["event"] == "audit.sealed"]


def test_command_lists_and_exports(api: Stack) -> None:
    resource = create_key(api)
    listed = mayfly(api, "ls").stdout.splitlines()
    assert resource in listed[-1]
    for format, path in {"json": ("resource",), "cloudevents": ("subject",), "ocsf": ("resources", 0, "uid")}.items():
        found: Any = json.loads(mayfly(api, "export", "--format", format).stdout.splitlines()[-1])
        for step in path:
            found = found[step]
        assert found == resource


def drop_last(api: Stack) -> None:
    with closing[Any](api.redis.client()) as client:
        [(position, _)] = client.xrevrange(keys.AUDIT, count=1)
        client.xdel(keys.AUDIT, position)


def change_last(api: Stack) -> None:
    with closing[Any](api.redis.client()) as client:
        [(_, fields)] = client.xrevrange(keys.AUDIT, count=1)
        drop_last(api)
        client.xadd(keys.AUDIT, {b"d": fields[b"d"].replace(b"key:admin", b"key:other")})


@pytest.mark.parametrize("tamper", [drop_last, change_last])
def test_verification_finds_changes_by_a_writer_to_redis(api: Stack, tamper: Callable[[Stack], None]) -> None:
    create_key(api)
    eventually(lambda: sealed(api), "the log is sealed")
    before = len(json.loads(mayfly(api, "verify", "--json").stdout)["faults"])
    tamper(api)
    done = mayfly(api, "verify")
    assert done.returncode == 1
    assert "sealed up to" in done.stdout
    eventually(lambda: sealed(api), "the log is sealed again")
    after = json.loads(mayfly(api, "verify", "--json").stdout)["faults"]
    assert len(after) > before


def test_head_of_a_log_line_must_be_in_the_chain(api: Stack) -> None:
    create_key(api)
    eventually(lambda: sealed(api), "the log is sealed")
    found = eventually(lambda: logged_heads(api), "the head is logged")[-1]
    head = f"{found['position']}:{found['head']}"
    known = json.loads(mayfly(api, "verify", "--json", "--head", head).stdout)["faults"]
    other = json.loads(mayfly(api, "verify", "--json", "--head", head[:-1] + "g").stdout)["faults"]
    assert len(other) == len(known) + 1


def test_entry_of_any_bytes_breaks_no_list(api: Stack) -> None:
    with closing[Any](api.redis.client()) as client:
        client.xadd(keys.AUDIT, {b"d": b'\xff {"id":"x","action":"any.bytes","outcome":"done"}'})
    assert [entry["id"] for entry in entries(api, action="any.bytes")] == ["x"]


@pytest.mark.parametrize("path", ["/api/v1/audit", "/api/v1/audit/seals"])
@pytest.mark.parametrize("cursor", ["9" * 20 + "-0", f"0-{2**64}", "1", "1-1-1", "+"])
def test_cursor_that_redis_does_not_take_is_refused(api: Stack, path: str, cursor: str) -> None:
    answer = api.client.get(path, params={"cursor": cursor})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_cursor")
    assert api.client.get(path, params={"cursor": f"{2**62 - 1}-{2**64 - 1}"}).json()["items"] == []
