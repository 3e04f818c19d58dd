"""The boundary between tools and the protocol."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from mcp_types import CallToolRequestParams, CallToolResult
from prometheus_client import REGISTRY

from orchestrator.mcp.server import Tools


def test_internal_error_is_counted_and_stays_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    async def break_down(*call: object) -> CallToolResult:
        raise RuntimeError("/srv/canary")

    def count() -> float:
        return REGISTRY.get_sample_value("mayfly_requests_refused_total", {"code": "internal"}) or 0.0

    monkeypatch.setattr(Tools, "_called", break_down)
    unused: Any = None
    before = count()
    result = asyncio.run(Tools(unused).call_tool(unused, CallToolRequestParams(name="list_environments")))
    assert result.is_error and "canary" not in result.model_dump_json()
    assert count() == before + 1
