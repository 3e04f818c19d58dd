"""An internal error of any method, in either era: counted, logged with its trace, and answered without it."""

from __future__ import annotations

import pytest

from orchestrator.store import keys
from tests.builders.mcp_calls import ERAS, Agent
from tests.harness import Stack, eventually, free_port

COUNT = 'mayfly_requests_refused_total{code="internal"} '


def internal_errors(api: Stack) -> float:
    lines = api.client.get("/metrics").text.splitlines()
    return sum(float(line.removeprefix(COUNT)) for line in lines if line.startswith(COUNT))


@pytest.mark.parametrize("version", ERAS)
def test_internal_error_of_a_method_is_counted_logged_and_kept_inside(api: Stack, version: str) -> None:
    tenant = f"broken-{free_port()}"
    agent = Agent(api, version, api.headers_of(tenant, "mcp", "executions:read"))
    client = api.redis.client()
    client.set(keys.tenant_index(tenant), "another type")  # which no list of executions expects
    client.close()
    log = api.directory / "api.log"
    before, read = internal_errors(api), len(log.read_text())
    answer = agent.request("resources/list")
    assert answer.json()["error"]["code"] == -32603
    assert "WRONGTYPE" not in answer.text
    eventually(lambda: internal_errors(api) == before + 1, "the error is counted")
    eventually(lambda: "ResponseError: WRONGTYPE" in log.read_text()[read:], "the trace is logged")
    assert "mcp.crashed" in log.read_text()[read:]
