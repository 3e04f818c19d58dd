"""The conformance suite's tools for tasks, on Mayfly's server: calls of these tools become programs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel.server import Server

from orchestrator.mcp.parts import Parts
from orchestrator.mcp.server import make_server

Context = ServerRequestContext[Any, Any]
WALL_SECONDS = 100


def program_of(tool: str, arguments: dict[str, Any]) -> str | None:
    """The program that does what a tool of the suite does; ``None`` for a tool that is no task."""
    match tool:
        case "slow_compute":
            return f"import time\ntime.sleep({int(arguments.get('seconds', 0))})\nprint('done')"
        case "failing_job":
            return "import time\ntime.sleep(1)\nraise SystemExit(3)"
    return None


async def as_program(ctx: Context, call_next: CallNext) -> HandlerResult:
    """Middleware: a call of one of the suite's tools is a call of ``execute_code``."""
    params = dict(ctx.params or {})
    given = params.get("arguments") or {}
    if ctx.method != "tools/call":
        return await call_next(ctx)
    if params.get("name") == "greet":
        content = [{"type": "text", "text": f"Hello, {given.get('name')}!"}]
        return {"content": content, "resultType": "complete"}
    code = program_of(str(params.get("name")), given)
    if code is None:
        return await call_next(ctx)
    arguments = {"code": code, "mode": "script", "limits": {"wall_seconds": WALL_SECONDS}}
    return await call_next(replace(ctx, params={**params, "name": "execute_code", "arguments": arguments}))


def make_task_server(parts: Parts) -> Server[Any]:
    """Mayfly's server with the suite's tools for tasks."""
    server = make_server(parts)
    server.middleware = [*server.middleware, as_program]
    return server
