"""The tool server ``http`` behind the interface of every tool server: a connection that lists and calls tools."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from orchestrator.broker.http import definitions
from orchestrator.broker.http.failures import CallFailed
from orchestrator.broker.http.server import HttpTools
from orchestrator.broker.links import results
from orchestrator.models.hosts import HttpPolicy
from orchestrator.models.tool_servers import ToolServer
from orchestrator.models.tools import Tool, ToolOutcome

LARGE_CHARACTERS = 2**17  # larger bodies are encoded and filtered in a thread, so that other calls need not wait


class HttpLink:
    """One tenant's use of the server. ``filtered`` makes a filter of personal data for each result, or None.

    ``breaks`` is false: failures of one host must not refuse calls to other hosts.
    """

    breaks = False

    def __init__(
        self,
        http: HttpTools,
        most_bytes: int,
        tenant: str,
        server: ToolServer,
        filtered: Callable[[], Callable[[str], str] | None] = lambda: None,
    ) -> None:
        self._http, self._most_bytes, self._tenant, self._filtered = http, most_bytes, tenant, filtered
        self._name, self._policy = server.name, HttpPolicy(hosts=server.hosts or ())

    async def list_tools(self) -> tuple[Tool, ...]:
        return definitions.tools(self._name)

    async def call(self, tool: Tool, arguments: dict[str, Any], seconds: float) -> ToolOutcome:
        try:
            result = await self._http.fetch(self._tenant, self._policy, tool.name, arguments, seconds)
        except CallFailed as failed:
            return ToolOutcome(failure=failed.failure)
        large = len(result["text"] or result["base64"] or "") > LARGE_CHARACTERS
        wrapped = tool, {"content": [], "structuredContent": result}, self._most_bytes, self._filtered()
        if large:
            return await asyncio.to_thread(results.outcome, *wrapped)
        return results.outcome(*wrapped)

    async def changed(self, most_seconds: float) -> None:
        await asyncio.sleep(most_seconds)  # its tools are fixed
