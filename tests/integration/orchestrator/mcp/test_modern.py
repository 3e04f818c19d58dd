"""Self-contained requests that are malformed, or whose headers and bodies differ: each is refused, and nothing runs."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from tests.builders.mcp_calls import MODERN, NAMESPACE, Agent
from tests.harness import Stack

PARSE, INVALID, MISMATCH, UNSUPPORTED = -32700, -32600, -32020, -32022
VERSION = f"{NAMESPACE}/protocolVersion"
CALL = {"name": "execute_code", "arguments": {"code": "1", "wait_seconds": 0}}


@pytest.fixture
def agent(api: Stack) -> Agent:
    return Agent(api, headers=api.headers_of("modern", "mcp", "executions:read", "executions:write"))


def sent(agent: Agent, body: Any, without: tuple[str, ...] = (), **changed: str) -> httpx2.Response:
    """A call with a body of its own, and with headers that are changed or left out."""
    _, headers = agent.message("tools/call", CALL)
    named = {name.replace("_", "-").lower(): value for name, value in changed.items()}
    kept = {name: value for name, value in headers.items() if name.lower() not in (*without, *named)}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return agent.stack.client.post(
        "/mcp", content=content, headers={"Content-Type": "application/json", **kept, **named}
    )


def runs(agent: Agent) -> int:
    """The executions of the agent's tenant."""
    found = agent.stack.client.get("/api/v1/executions", headers=agent.headers).json()["items"]
    return len(found)


def with_meta(body: dict[str, Any], **changed: Any) -> dict[str, Any]:
    params = body["params"]
    return {**body, "params": {**params, "_meta": {**params["_meta"], **changed}}}


def test_refused_messages_run_nothing(agent: Agent) -> None:
    body, _ = agent.message("tools/call", CALL)
    unnamed = {**body, "params": {name: value for name, value in body["params"].items() if name != "_meta"}}
    deep = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":' + b'{"a":' * 20_000 + b"1" + b"}" * 20_001
    cases: list[tuple[Any, dict[str, Any], int, int]] = [
        ([body], {}, 400, INVALID),
        ([body] * 1000, {}, 400, INVALID),
        ({"jsonrpc": "2.0", "id": 1, "result": {}}, {}, 400, INVALID),
        ({**body, "id": None}, {}, 400, INVALID),
        ({**body, "id": [7]}, {}, 400, INVALID),
        ({**body, "id": "x" * 201}, {}, 400, INVALID),
        ({**body, "id": 2**64}, {}, 400, INVALID),
        ({**body, "jsonrpc": "1.0"}, {}, 400, INVALID),
        ({**body, "params": []}, {}, 400, INVALID),
        (b"{", {}, 400, PARSE),
        (b"\xff", {}, 400, PARSE),
        (deep, {}, 400, PARSE),
        (b'{"jsonrpc":"2.0","method":"tools/call","id":' + b"9" * 5000 + b"}", {}, 400, PARSE),
        (body, {"Mcp_Method": "tools/list"}, 400, MISMATCH),
        (body, {"Mcp_Name": "get_execution"}, 400, MISMATCH),
        (body, {"Mcp_Name": "=?base64?%%?="}, 400, MISMATCH),
        (body, {"without": ("mcp-method",)}, 400, MISMATCH),
        (body, {"without": ("mcp-name",)}, 400, MISMATCH),
        (body, {"MCP_Protocol_Version": "2031-01-01"}, 400, MISMATCH),
        (with_meta(body, **{VERSION: "2031-01-01"}), {"MCP_Protocol_Version": "2031-01-01"}, 400, UNSUPPORTED),
        (with_meta(body, **{VERSION: 7}), {}, 400, MISMATCH),
    ]
    before = runs(agent)
    for number, (content, options, status, code) in enumerate(cases):
        answer = sent(agent, content, **options)
        found = (number, answer.status_code, answer.json()["error"]["code"])
        assert found == (number, status, code), answer.text
        assert len(answer.content) < 600
    assert sent(agent, unnamed).status_code == 400
    for name in ("clientInfo", "clientCapabilities"):
        assert sent(agent, with_meta(body, **{f"{NAMESPACE}/{name}": 7})).status_code == 400
    assert runs(agent) == before
    # The control: the same call as it should be.
    assert sent(agent, body).json()["result"]["structuredContent"]["state"] == "queued"
    assert runs(agent) == before + 1


def test_routing_header_that_comes_twice_is_refused(agent: Agent) -> None:
    body, headers = agent.message("tools/call", CALL)
    twice = [*headers.items(), ("Mcp-Name", "execute_code")]
    answer = agent.stack.client.post("/mcp", json=body, headers=twice)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, MISMATCH)


def test_notifications_are_acknowledged_and_stop_nothing(agent: Agent) -> None:
    cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
    answer = sent(agent, cancelled)
    assert (answer.status_code, answer.content) == (202, b"")
    wrong = sent(agent, cancelled, MCP_Protocol_Version="2031-01-01")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, UNSUPPORTED)
    malformed = sent(agent, {"jsonrpc": "2.0", "method": 7})
    assert (malformed.status_code, malformed.json()["error"]["code"]) == (400, INVALID)


def test_unknown_method_is_not_found_in_this_era(agent: Agent) -> None:
    for method in ("sessions/steal", "initialize"):
        answer = agent.request(method)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, -32601)
    assert agent.result("server/discover")["supportedVersions"] == [MODERN]


def test_progress_token_of_another_type_gets_no_progress(agent: Agent) -> None:
    for token in ([1], {"a": 1}, 1.5):
        body, _ = agent.message("tools/call", {**CALL, "_meta": {"progressToken": token}})
        answer = sent(agent, body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32602)
