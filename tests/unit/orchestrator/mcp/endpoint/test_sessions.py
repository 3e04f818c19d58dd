"""The names of sessions that cancellations and calls have in Redis are bounded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from mcp.server.lowlevel.server import Server

from orchestrator.identity import Principal
from orchestrator.mcp.endpoint.legacy import MOST_SESSION, LegacyEndpoint
from orchestrator.mcp.parts import Caller
from orchestrator.service.agent_calls import call_of
from tests.builders.mcp_calls import LEGACY


@pytest.mark.parametrize(
    ("session", "is_known"), [("s", True), ("s" * MOST_SESSION, True), ("s" * (MOST_SESSION + 1), False), ("", False)]
)
def test_cancellation_of_a_session_with_a_longer_name_is_not_stored(session: str, is_known: bool) -> None:
    cancelled: list[str] = []

    async def run(tenant: str, call: Callable[[], Any]) -> Any:
        return call()

    parts: Any = SimpleNamespace(
        agent_calls=SimpleNamespace(cancel=lambda principal, call: cancelled.append(call)),
        threads=SimpleNamespace(run=run),
    )
    message = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
    statuses: list[int] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": json.dumps(message).encode(), "more_body": False}

    async def send(sent: Any) -> None:
        statuses.append(sent.get("status", 0))

    headers = {"accept": "*/*", "content-type": "application/json", "mcp-session-id": session}
    lines = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": "/mcp", "headers": lines, "state": {}}
    caller = Caller(Principal(id="key:k", key_id="k", tenant="t", scopes=frozenset()), lambda: None)
    server: Server[Any] = Server("test")
    asyncio.run(LegacyEndpoint(server, parts).handle(LEGACY, caller, scope, receive, send))
    assert statuses[0] == 202
    assert cancelled == ([call_of(session, 7)] if is_known else [])
