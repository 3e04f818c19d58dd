"""A queued execution tells its owner why it waits, over REST and the command line."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.store import keys
from tests.harness import Stack


def reason(api: Stack, id: str) -> str:
    return str(api.show(id)["wait_reason"])


def test_queued_execution_has_its_reason_and_an_ended_one_none(api: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    submitted = api.submit(environment="python", code="1").json()
    id = submitted["id"]
    assert "wait_reason" not in submitted
    assert reason(api, id) == "No worker is alive."
    for name in ("MAYFLY_URL", "MAYFLY_TOKEN"):
        monkeypatch.setenv(name, api.env[name])
    assert "No worker is alive." in CliRunner().invoke(app, ["show", id]).stdout
    with api.redis.client() as redis:
        redis.zadd(keys.RETRYING, {id: 4e9})
        assert reason(api, id).startswith("A fault of the platform spoilt its last attempt")
        redis.zadd(keys.key_held("admin"), {id: 1})
        assert reason(api, id).startswith("Its API key has as many executions")
        redis.delete(keys.key_held("admin"))
    off = {"enabled": False, "reason": "an advisory"}
    api.client.put("/api/v1/switches/environment:python", json=off)
    assert reason(api, id) == "The operator has switched off 'environment:python': an advisory"
    api.client.put("/api/v1/switches/environment:python", json={"enabled": True})
    assert api.client.post(f"/api/v1/executions/{id}/cancel").status_code == 202
    assert "wait_reason" not in api.show(id)
