"""Progress of calls whose execution waits in the queue."""

from __future__ import annotations

import pytest

from tests.builders.mcp_calls import ERAS, Agent
from tests.harness import Stack


@pytest.mark.parametrize("era", ERAS)
def test_progress_of_a_queued_execution_has_its_place(api: Stack, era: str) -> None:
    tenant = f"place-{era}"
    headers = api.headers_of(tenant, "mcp", "executions:read", "executions:write")
    for priority in ("high", "default", "low"):  # the last one comes after the agent's
        body = {"environment": "python", "code": "1", "priority": priority}
        assert api.client.post("/api/v1/executions", json=body, headers=headers).status_code == 202
    arguments = {"code": "1", "wait_seconds": 2}
    params = {"name": "execute_code", "arguments": arguments, "_meta": {"progressToken": "token"}}
    *notes, answer = Agent(api, era, headers).messages("tools/call", params)
    assert [note["params"]["message"] for note in notes] == [
        "queued",
        "queued, 2 ahead",
        "queued; the call's wait is over",
    ]
    assert answer["result"]["structuredContent"]["state"] == "queued"
