"""The MCP server: each request finds its caller in the HTTP request, calls one tool, and is answered.

The library serves both eras of the protocol from one endpoint: self-contained requests (2026-07-28), and those behind
``initialize``, here without sessions. A tool's failure is a tool's result; nothing internal reaches a client.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import structlog
from mcp import MCPError
from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
)

from orchestrator import __version__, metrics
from orchestrator.errors import MayflyError
from orchestrator.mcp import executing
from orchestrator.mcp.answers import failure, refusal
from orchestrator.mcp.arguments import (
    ARGUMENTS,
    CancelExecution,
    ExecuteCode,
    GetExecution,
    parse,
)
from orchestrator.mcp.definitions import BY_NAME, TOOLS
from orchestrator.mcp.parts import Caller, Parts
from orchestrator.mcp.progress import Progress

INSTRUCTIONS = "Runs programs in sandboxes without network. Each call has a new one: what must stay, send again."
LIST_MS = 3_600_000  # the catalogue changes with a release only
Context = ServerRequestContext[Any, Any]
log = structlog.get_logger()


class Tools:
    """The handlers of the protocol's methods."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def list_tools(self, context: Context, params: PaginatedRequestParams | None) -> ListToolsResult:
        """All tools."""
        return ListToolsResult(tools=list(TOOLS))

    async def call_tool(self, context: Context, params: CallToolRequestParams) -> CallToolResult:
        """Call a tool; every error but an unknown name is the tool's result."""
        if params.name not in BY_NAME:
            known = ", ".join(BY_NAME)
            raise MCPError(INVALID_PARAMS, f"There is no tool {params.name[:100]!r}; the tools are: {known}.")
        began, outcome = time.monotonic(), "cancelled"
        try:
            result = await self._answered(context, params.name, params.arguments or {})
            outcome = "error" if result.is_error else "ok"
        finally:
            metrics.mcp_calls.labels(params.name, outcome).inc()
            metrics.mcp_seconds.labels(params.name).observe(time.monotonic() - began)
        return result

    async def _answered(self, context: Context, name: str, arguments: Mapping[str, Any]) -> CallToolResult:
        try:
            return await self._called(context, name, arguments)
        except MayflyError as error:
            metrics.refused.labels(error.code).inc()
            if error.status >= 500 and error.code == "internal":
                log.error("mcp.failed", tool=name, code=error.code, detail=error.message)
            return refusal(error)
        except Exception as error:
            log.error("mcp.crashed", tool=name, error=type(error).__name__, exc_info=error)
            return failure("An internal error of Mayfly occurred; it has been logged. The call may be repeated.")

    async def _called(self, context: Context, name: str, given: Mapping[str, Any]) -> CallToolResult:
        parts, caller = self._parts, caller_of(context)
        wants = context.meta is not None and context.meta.get("progress_token") is not None
        progress = Progress(context.session.report_progress if wants else None)
        match parse(ARGUMENTS[name], given):
            case ExecuteCode() as arguments:
                return await executing.execute_code(parts, caller, arguments, progress)
            case GetExecution() as arguments:
                return await executing.get_execution(parts, caller, arguments, progress)
            case CancelExecution() as arguments:
                return await executing.cancel_execution(parts, caller, arguments)
        return failure("not there yet")


def caller_of(context: Context) -> Caller:
    """The caller of this request, as the API authenticated it."""
    found: Caller = context.request.state.mcp_caller  # type: ignore[union-attr]
    return found


def make_server(parts: Parts) -> Server[Any]:
    """The server over the use cases."""
    tools = Tools(parts)
    server: Server[Any] = Server(
        "mayfly",
        version=__version__,
        title="Mayfly",
        instructions=INSTRUCTIONS,
        cache_hints={"tools/list": CacheHint(LIST_MS, "public"), "server/discover": CacheHint(LIST_MS, "public")},
        get_tool_input_schema=lambda name: BY_NAME[name].input_schema if name in BY_NAME else None,
        on_list_tools=tools.list_tools,
        on_call_tool=tools.call_tool,
    )
    server.middleware.clear()  # spans that nothing collects
    return server
