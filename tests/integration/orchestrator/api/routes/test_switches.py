"""Feature switches over REST and the command line."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.store import keys
from tests.builders.mcp_calls import Agent
from tests.harness import Stack, eventually

WHY = "an advisory"


def switch(api: Stack, feature: str, enabled: bool, **more: Any) -> dict[str, Any]:
    answer = api.client.put(f"/api/v1/switches/{feature}", json={"enabled": enabled, **more})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def states(api: Stack) -> dict[str, bool]:
    items = api.client.get("/api/v1/switches").json()["items"]
    return {item["feature"]: item["enabled"] for item in items}


@pytest.fixture(autouse=True)
def all_on(api: Stack) -> Iterator[None]:
    """A failed test leaves no feature off."""
    yield
    with api.redis.client() as redis:
        redis.delete(keys.SWITCHES)


@pytest.mark.parametrize("feature", ["submissions", "environment:bash", "isolation:standard"])
def test_feature_is_refused_while_off(api: Stack, feature: str) -> None:
    headers = {"Idempotency-Key": secrets.token_hex(8)}
    body: dict[str, Any] = {"environment": "sh", "code": "echo"}
    earlier = api.submit(headers=headers, **body).json()["id"]
    queued = api.client.get("/api/v1/queues").json()["queued"]
    off = switch(api, feature, False, reason=WHY)
    assert (off["enabled"], off["reason"], off["changed_by"]) == (False, WHY, "key:admin")
    answer = api.submit(**body)
    problem = answer.json()
    assert (answer.status_code, problem["code"], answer.headers["retry-after"]) == (503, "feature_off", "60")
    assert (feature in problem["detail"], problem["detail"].endswith(WHY)) == (True, True)
    assert api.client.get("/api/v1/queues").json()["queued"] == queued
    assert api.submit(headers=headers, **body).json()["id"] == earlier, "a repeated request changes nothing"
    assert (api.submit(environment="python", code="1").status_code == 202) is (feature == "environment:bash")
    assert api.client.get("/readyz").json()["details"]["switched_off"] == feature
    switch(api, feature, True)
    assert api.submit(**body).status_code == 202
    assert "switched_off" not in api.client.get("/readyz").json()["details"]
    assert set(states(api).values()) == {True}


def test_agents_are_refused_within_a_second(api: Stack) -> None:
    agent = Agent(api)
    assert "result" in agent.request("tools/list").json()
    switch(api, "mcp", False, reason=WHY)
    answer = eventually(lambda: (got := agent.request("tools/list")).status_code == 503 and got, "agents are refused")
    assert (answer.json()["code"], WHY in answer.json()["detail"]) == ("feature_off", True)
    switch(api, "mcp", True)
    eventually(lambda: agent.request("tools/list").status_code == 200, "agents are served")


def test_only_operators_change_switches(api: Stack) -> None:
    for scopes, reads, changes in (
        (("executions:write", "tenant:admin"), 403, 403), (("fleet:read",), 200, 403), (("fleet:write",), 403, 200),
    ):  # fmt: skip
        headers = api.headers_of("t", *scopes)
        assert api.client.get("/api/v1/switches", headers=headers).status_code == reads
        body = {"enabled": True}
        assert api.client.put("/api/v1/switches/tools", json=body, headers=headers).status_code == changes
    answer = api.client.put("/api/v1/switches/environment:cobol", json={"enabled": False})
    assert (answer.status_code, "environment:python-data" in answer.json()["detail"]) == (404, True)
    assert api.client.put("/api/v1/switches/tools", json={"enabled": False, "reason": "x" * 501}).status_code == 422


def test_each_change_is_audited(api: Stack) -> None:
    resource = "feature/warm-pool"
    switch(api, "warm-pool", False)
    switch(api, "warm-pool", True)
    items = api.client.get("/api/v1/audit", params={"limit": 1000}).json()["items"]
    assert [item["action"] for item in items if item.get("resource") == resource] == ["switch.off", "switch.on"]


def test_value_that_another_writer_left_is_off(api: Stack) -> None:
    with api.redis.client() as redis:
        redis.hset(keys.SWITCHES, "environment:node", b"\xff{")
    assert states(api)["environment:node"] is False
    assert api.submit(environment="node", code="1").json()["code"] == "feature_off"
    switch(api, "environment:node", True)
    assert api.submit(environment="node", code="1").status_code == 202


def test_key_of_another_type_refuses_nothing(api: Stack) -> None:
    with api.redis.client() as redis:
        redis.set(keys.SWITCHES, "x")
    assert api.submit(environment="python", code="1").status_code == 202
    assert api.client.get("/readyz").json()["code"] == "not_ready", "since there is no worker"
    assert Agent(api).request("tools/list").status_code == 200
    assert switch(api, "tools", False)["enabled"] is False
    assert states(api)["tools"] is False


def test_command_switches_off_and_on(api: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in api.env.items():
        monkeypatch.setenv(name, value)

    def called(*words: str) -> str:
        done = CliRunner().invoke(app, ["switches", *words])
        assert done.exit_code == 0, done.output
        return done.output

    assert called("off", "tools", "--reason", WHY).split()[:2] == ["tools", "off"]
    assert next(line for line in called("ls").splitlines() if line.startswith("tools")).endswith(WHY)
    assert json.loads(called("on", "tools", "--json"))["enabled"] is True
    listed = [one["feature"] for one in json.loads(called("ls", "--json"))["items"]]
    assert listed[:3] == ["submissions", "mcp", "tools"]
    assert CliRunner().invoke(app, ["switches", "off", "toools"]).exit_code == 2
