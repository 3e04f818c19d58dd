"""Access to the tools of agents by key, scope, tenant, host and origin; and the log of it."""

from __future__ import annotations

import json
import secrets
from typing import Any

import pytest

from tests.builders.mcp_calls import ERAS, Agent
from tests.harness import Stack, bearer, eventually

ALL = ("mcp", "executions:read", "executions:write")
UNKNOWN = "0" * 32


def agent(api: Stack, *scopes: str, tenant: str = "default", **more: Any) -> Agent:
    return Agent(api, headers=api.headers_of(tenant, *scopes), **more)


@pytest.fixture
def queued(api: Stack) -> str:
    """An execution of tenant ``default`` that no worker takes."""
    found = Agent(api).call("execute_code", code="print(1)", wait_seconds=0)
    id: str = found["structuredContent"]["execution_id"]
    return id


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("header", [{"Authorization": ""}, bearer("mfk_wrong"), {"Authorization": "Basic eDp5"}])
def test_request_without_a_valid_key_is_refused(api: Stack, era: str, header: dict[str, str]) -> None:
    answer = Agent(api, era, header).request("tools/list")
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer" + ' error="invalid_token"' * ("mfk_wrong" in str(header))


def test_key_without_the_scope_mcp_is_refused(api: Stack) -> None:
    answer = agent(api, "executions:read", "executions:write").request("tools/list")
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert agent(api, "mcp").request("tools/list").status_code == 200


def test_tools_need_the_scopes_of_their_rest_calls(api: Stack, queued: str) -> None:
    only, reader = agent(api, "mcp"), agent(api, "mcp", "executions:read")
    assert "executions:write" in only.error("execute_code", code="1")
    assert "executions:write" in reader.error("execute_code", code="1")
    assert "executions:write" in reader.error("cancel_execution", execution_id=queued)
    for tool in ("get_execution", "read_output"):
        assert "executions:read" in only.error(tool, execution_id=queued)
    assert "executions:read" in only.error("list_environments")
    assert reader.call("get_execution", execution_id=queued)["structuredContent"]["state"] == "queued"


def test_another_tenants_execution_is_not_found(api: Stack, queued: str) -> None:
    tenant = f"t-{secrets.token_hex(6)}"
    other = agent(api, *ALL, tenant=tenant, capabilities={"extensions": {"io.modelcontextprotocol/tasks": {}}})
    for tool in ("get_execution", "cancel_execution", "read_output"):
        found, unknown = other.error(tool, execution_id=queued), other.error(tool, execution_id=UNKNOWN)
        assert found.replace(queued, UNKNOWN) == unknown
        assert found.startswith("not_found: ")
    for method, params in (
        ("resources/read", {"uri": f"mayfly://executions/{queued}/stdout"}),
        ("tasks/get", {"taskId": queued}),
        ("tasks/cancel", {"taskId": queued}),
    ):
        answer = other.request(method, params)
        error = (json.loads(answer.text) if answer.text.startswith("{") else {})["error"]
        assert error["code"] == -32602
        assert "not_found" in error["message"]
    assert other.result("resources/list")["resources"] == []
    assert Agent(api).call("get_execution", execution_id=queued)["structuredContent"]["state"] == "queued"
    events = eventually(
        lambda: [
            item
            for item in api.client.get("/api/v1/security-events", params={"type": "cross_tenant_access"}).json()[
                "items"
            ]
            if item["data"].get("asked_by") == tenant
        ],
        "the access is reported",
    )
    assert events[0]["data"]["owned_by"] == "default"


@pytest.mark.parametrize("era", ERAS)
def test_only_listed_hosts_and_origins_are_served(api: Stack, era: str) -> None:
    caller = Agent(api, era)
    foreign = caller.request("tools/list", Origin="https://evil.example")
    assert (foreign.status_code, foreign.json()["code"]) == (403, "origin_refused")
    renamed = caller.request("tools/list", Host="evil.example")
    assert (renamed.status_code, renamed.json()["code"]) == (421, "host_refused")
    for name, value in (("Origin", "http://localhost:3000"), ("Host", "localhost"), ("Host", f"127.0.0.1:{api.port}")):
        assert caller.request("tools/list", None, **{name: value}).status_code == 200
    for host in ("localhost.evil.example", "localhost:80.evil.example", "127.0.0.1.evil.example:80"):
        assert caller.request("tools/list", Host=host).status_code == 421


def test_large_body_is_refused_and_other_methods_are_not_allowed(api: Stack) -> None:
    code = "#" * (4 * 2**20)
    body, headers = Agent(api).message("tools/call", {"name": "execute_code", "arguments": {"code": code}})
    answer = api.client.post("/mcp", json=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")
    typed = {**headers, "Content-Type": "application/json"}
    streamed = api.client.post("/mcp", content=iter([json.dumps(body).encode()]), headers=typed)
    assert (streamed.status_code, streamed.json()["code"]) == (413, "payload_too_large")
    for method in ("GET", "DELETE"):
        refused = api.client.request(method, "/mcp")
        assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


def test_planted_secrets_are_in_no_log_metric_or_error(api: Stack) -> None:
    canaries = {name: f"canary-{name}-{secrets.token_hex(8)}" for name in ("code", "env", "stdin", "file", "field")}
    key = api.new_key(*ALL)["secret"]
    caller = Agent(api, headers=bearer(key))
    sent: dict[str, Any] = {
        "code": f"print('{canaries['code']}')",
        "env": {"SECRET": canaries["env"]},
        "stdin": canaries["stdin"],
        "files": [{"path": "a", "content": canaries["file"]}],
    }
    answers = [
        caller.request("tools/call", {"name": "execute_code", "arguments": {**sent, "wait_seconds": 0}}).text,
        caller.error("execute_code", **sent, environment="none"),
        caller.error("execute_code", **{**sent, "args": canaries["field"]}),
        caller.error("execute_code", **{**sent, "limits": {"wall_seconds": canaries["field"]}}),
        caller.request("tools/call", {"name": "execute_code", "arguments": canaries["field"]}).text,
        caller.request("tools/call", {"name": 7, "arguments": sent}).text,
    ]
    log = (api.directory / "api.log").read_text()
    metrics = api.client.get("/metrics").text
    assert "mayfly_mcp_calls_total" in metrics
    for canary in (*canaries.values(), key):
        assert canary not in log
        assert canary not in metrics
        assert not [answer for answer in answers if canary in answer]
