"""Every documented route and every tool of agents, by every role, on own, foreign and unknown resources."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from orchestrator.api import check_actions, create_app
from orchestrator.identity import SCOPES
from orchestrator.identity.authorization import ACTIONS, AGENTS, ROLES, ROUTES, Action
from orchestrator.mcp.definitions import TOOLS
from orchestrator.models import Artifact
from orchestrator.settings import Settings, create_secret_file
from orchestrator.store import Store, open_store
from tests.builders.mcp_calls import Agent, messages_of
from tests.builders.records import claimed, result, submit
from tests.harness import Stack, bearer, eventually

MARKER = "content-of-the-tenant"
PATH = f"{MARKER}.txt"
ID = "/api/v1/executions/{id}"
BODIES: dict[str, Any] = {
    "POST /api/v1/executions": {"environment": "python", "code": "1"},
    "POST /api/v1/executions/batch": {"executions": [{"environment": "python", "code": "1"}]},
    f"POST {ID}/tool-results/{{call_id}}": {"result": 1},
    "POST /api/v1/tools/{server}/{tool}/calls": {"timeout_seconds": 0.01},
    "POST /api/v1/api-keys": {"name": "made", "scopes": ["mcp"]},
}
TASKS: dict[str, Any] = {"extensions": {"io.modelcontextprotocol/tasks": {}}}


@pytest.fixture(scope="module")
def records(api: Stack) -> Iterator[Store]:
    """The store of the API."""
    store = open_store(Settings(state_dir=api.directory / "state", redis_url=api.redis.url))
    with closing(store.redis):
        yield store


def ended(store: Store, tenant: str) -> str:
    """An execution that has ended, with output and a file."""
    return end(store, submit(store, tenant=tenant))


def end(store: Store, id: str) -> str:
    claim = claimed(store, id)
    store.records.start(claim, store.now(), [("stdout", MARKER.encode(), False)])
    writer = store.blobs.artifact_writer(id, claim.attempt)
    writer.write(MARKER.encode())
    writer.commit()
    digest = hashlib.sha256(MARKER.encode()).hexdigest()
    left = Artifact(path=PATH, size=len(MARKER), media_type="text/plain", sha256=digest)
    store.records.commit(claim, result().model_copy(update={"artifacts": (left,), "stdout_bytes": len(MARKER)}))
    return id


def has(scopes: frozenset[str], needed: str) -> bool:
    """Whether scopes fulfil a cell of the table, read apart from the code that decides."""
    every = scopes | ({*SCOPES} - {"worker"} if "admin" in scopes else set())
    words = [word if word in "|&" else str(word in every) for word in needed.split()]
    return bool(words) and bool(eval(" ".join(words).replace("|", "or").replace("&", "and")))


def send(api: Stack, headers: dict[str, str], route: str, id: str, tenant: str | None = None) -> httpx2.Response:
    method, path = route.split(" ")
    filled = path.replace("/tenants/{id}", "/tenants/-").replace("{id}", id).replace("{path}", PATH)
    if route == "DELETE /api/v1/tenants/{id}":
        filled = f"/api/v1/tenants/{tenant or id}"  # no test deletes its own
    for name in ("call_id", "server", "tool", "name", "session"):
        filled = filled.replace(f"{{{name}}}", "none")
    params = {"tenant": tenant} if tenant else {}
    if method in ("POST", "PUT", "PATCH"):
        return api.client.request(method, filled, json=BODIES.get(route, {}), headers=headers, params=params)
    return api.client.request(method, filled, headers=headers, params=params)


def refusal(answer: httpx2.Response, id: str) -> Any:
    """An answer without what always differs."""
    return answer.status_code, {**answer.json(), "request_id": "", "detail": answer.json()["detail"].replace(id, "ID")}


def test_the_document_and_the_tools_are_the_table(api: Stack) -> None:
    paths = api.client.get("/openapi.json").json()["paths"]
    documented = {
        f"{method.upper()} {path}"
        for path, many in paths.items()
        for method, one in many.items()
        if one.get("security")
    }
    assert documented == {route for route in ROUTES if not route.endswith("/mcp")}
    assert {tool.name for tool in TOOLS} == {name for name in AGENTS if "/" not in name}


def forgotten() -> None:
    """A route that its author forgot in the table."""


def test_a_route_that_is_not_in_the_table_does_not_start(tmp_path: Any) -> None:
    create_secret_file(tmp_path / "secret")
    app: FastAPI = create_app(Settings(state_dir=tmp_path)).app
    app.add_api_route("/api/v1/secrets", forgotten)
    with pytest.raises(RuntimeError, match="GET /api/v1/secrets"):
        check_actions(app)


@pytest.mark.parametrize("role", ROLES)
def test_routes_match_the_table(api: Stack, records: Store, role: str) -> None:
    scopes, mine, other = ROLES[role], f"t-{secrets.token_hex(6)}", f"t-{secrets.token_hex(6)}"
    key = api.new_key(*scopes, tenant=mine)
    headers, own, foreign = bearer(key["secret"]), ended(records, mine), ended(records, other)
    reached = set()
    for route in sorted(ROUTES, key=lambda route: route.startswith("DELETE")):
        if route.endswith("/mcp"):
            continue
        action, unknown = ACTIONS[ROUTES[route]], secrets.token_hex(16)
        missing = send(api, headers, route, unknown)
        if not has(scopes, action.own) and not has(scopes, action.every):
            answers = [missing, send(api, headers, route, own), send(api, headers, route, foreign)]
            assert [answer.status_code for answer in answers] == [403] * 3, (route, [a.text for a in answers])
            assert {answer.json()["code"] for answer in answers} == {"forbidden"}
            continue
        assert missing.status_code not in (401, 403), (route, missing.text)
        if ID in route:
            check_execution(api, headers, route, action, scopes, own, foreign, missing, unknown)
            reached |= set() if has(scopes, action.every) else {route}
    if reached:
        log = {"type": "cross_tenant_access", "limit": "200"}
        eventually(
            lambda: [
                event
                for event in api.client.get("/api/v1/security-events", params=log).json()["items"]
                if (event["data"]["key"], event["data"]["owned_by"]) == (key["id"], other)
            ],
            f"an event of {role}",
        )


def check_execution(
    api: Stack,
    headers: dict[str, str],
    route: str,
    action: Action,
    scopes: frozenset[str],
    own: str,
    foreign: str,
    missing: httpx2.Response,
    unknown: str,
) -> None:
    """A route of an execution that the role may use: own and foreign match the table, and nothing of it leaks."""
    answer = send(api, headers, route, foreign)
    if has(scopes, action.every):
        assert answer.status_code in (200, 409), (route, answer.text)
        assert MARKER not in answer.text, route
        if route == f"GET {ID}":
            assert (answer.json()["state"], answer.json()["stdout_bytes"]) == ("succeeded", len(MARKER))
    else:
        assert refusal(answer, foreign) == refusal(missing, unknown), route
        assert answer.status_code == 404, route
    answer = send(api, headers, route, own)
    assert answer.status_code in (200, 204, 409), (route, answer.text)
    if route in (f"GET {ID}", f"GET {ID}/stdout", f"GET {ID}/artifacts/{{path}}"):
        assert (MARKER in answer.text) == has(scopes, action.own), route


def test_submitting_alone_shows_no_output(api: Stack, records: Store) -> None:
    """Neither to a caller that waits nor to one that repeats its submission."""
    tenant, body = f"t-{secrets.token_hex(6)}", {"environment": "python", "code": "1"}
    again = {"Idempotency-Key": "k"}
    writer, reader = (api.headers_of(tenant, "executions:write", *more) | again for more in ((), ("executions:read",)))
    refused = api.client.post("/api/v1/executions", json=body, headers={**writer, "Prefer": "wait=1"})
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert "executions:write and executions:read" in refused.json()["detail"]
    unhurried = {**writer, "Prefer": "wait=0"}
    id = end(records, api.client.post("/api/v1/executions", json=body, headers=unhurried).json()["id"])
    shown = [api.client.post("/api/v1/executions", json=body, headers=headers) for headers in (writer, reader)]
    assert [(answer.status_code, answer.json()["id"], MARKER in answer.text) for answer in shown] == [
        (202, id, False), (202, id, True),
    ]  # fmt: skip
    assert [answer.json()["state"] for answer in shown] == ["succeeded"] * 2
    waited = api.client.post("/api/v1/executions", json=body, headers={**reader, "Prefer": "wait=1"})
    assert (waited.status_code, waited.json()["stdout"]) == (200, MARKER)


@pytest.mark.parametrize("role", ROLES)
def test_lists_of_a_named_tenant_match_the_table(api: Stack, records: Store, role: str) -> None:
    scopes, other = ROLES[role], f"t-{secrets.token_hex(6)}"
    headers, id = api.headers_of(f"t-{secrets.token_hex(6)}", *scopes), ended(records, other)
    for route in ("GET /api/v1/executions", "GET /api/v1/tool-servers"):
        answer = send(api, headers, route, "", other)
        nowhere = send(api, headers, route, "", "t-nowhere")
        if has(scopes, ACTIONS[ROUTES[route]].every):
            assert (answer.status_code, nowhere.status_code) == (200, 200)
            assert MARKER not in answer.text
            assert route.endswith("servers") or [item["id"] for item in answer.json()["items"]] == [id]
        else:
            assert refusal(answer, "x") == refusal(nowhere, "x")
            assert answer.status_code == 403


@pytest.mark.parametrize("role", ROLES)
def test_tools_of_agents_match_the_table(api: Stack, records: Store, role: str) -> None:
    scopes, mine = ROLES[role] | {"mcp"}, f"t-{secrets.token_hex(6)}"
    agent = Agent(api, headers=api.headers_of(mine, *scopes), capabilities=TASKS)
    own, foreign, unknown = ended(records, mine), ended(records, f"t-{secrets.token_hex(6)}"), secrets.token_hex(16)
    for name, action in ((name, ACTIONS[row]) for name, row in AGENTS.items() if name != "notifications/cancelled"):
        answers = {id: ask(agent, name, id) for id in (own, foreign, unknown)}
        if not has(scopes, action.own) and not has(scopes, action.every):
            assert all("forbidden: " in text for text in answers.values()), (name, answers)
            continue
        assert "forbidden" not in answers[own], (name, answers)
        assert "not_found" not in answers[own], (name, answers)
        assert name == "resources/list" or MARKER not in answers[foreign], name
        assert foreign not in answers[own], name
        if "execution_id" in str(arguments_of(name, own)) or name.startswith("tasks/") or name == "resources/read":
            expected = not has(scopes, action.every)
            assert ("not_found" in answers[foreign]) == expected, (name, answers)
            if expected:
                assert answers[foreign].replace(foreign, unknown) == answers[unknown], name


def arguments_of(name: str, id: str) -> dict[str, Any]:
    arguments: dict[str, dict[str, Any]] = {
        "execute_code": {"code": "1", "wait_seconds": 0},
        "get_execution": {"execution_id": id},
        "read_output": {"execution_id": id, "artifact": PATH},
        "cancel_execution": {"execution_id": id},
        "resources/read": {"uri": f"mayfly://executions/{id}/stdout"},
    }
    return arguments.get(name, {"taskId": id} if name.startswith("tasks/") else {})


def ask(agent: Agent, name: str, id: str) -> str:
    """The text of an answer to an agent."""
    method, params = (name, arguments_of(name, id)) if "/" in name else ("tools/call", {})
    answer = agent.request(method, params or {"name": name, "arguments": arguments_of(name, id)})
    return answer.text if answer.status_code != 200 else str(messages_of(answer)[-1])
