"""``list_environments``: what a program can be run in, in few tokens."""

from __future__ import annotations

import json
from typing import Any

from mcp_types import CallToolResult, ContentBlock, TextContent

from orchestrator.environments import Environment
from orchestrator.mcp.budget.explain import importable
from orchestrator.mcp.parts import Caller, Parts
from orchestrator.models.fleet import WorkerStatus

MOST_DESCRIPTION = 300


async def list_environments(parts: Parts, caller: Caller) -> CallToolResult:
    """Every environment: what it has, where it is served, its default and maximal limits."""
    caller.principal.require("executions:read")
    workers = await parts.threads.run(caller.tenant, parts.operation.workers)
    listed = [_described(one, workers) for one in parts.service.environments.values()]
    structured = {"environments": listed}
    if caller.carrier == "text":
        shown = json.dumps(listed, ensure_ascii=False, separators=(",", ":"))
    else:
        shown = "\n".join(f"{one['name']}: {one['description']}" for one in listed)
    content: list[ContentBlock] = [TextContent(type="text", text=shown)]
    return CallToolResult(content=content, structured_content=structured)


def _described(environment: Environment, workers: list[WorkerStatus]) -> dict[str, Any]:
    offers = [worker for worker in workers for offer in worker.environments if offer.name == environment.name]
    defaults, maxima = environment.defaults, environment.maxima
    return {
        "name": environment.name,
        "description": environment.description[:MOST_DESCRIPTION],
        "modes": ["cell", "script"] if environment.cell else ["script"],
        "packages": list(importable(environment.packages)),
        "isolation": sorted({tier for worker in offers for tier in worker.runtimes}),
        "limits_default_max": {
            name: [_short(value), _short(getattr(maxima, name))] for name, value in defaults.model_dump().items()
        },
    }


def _short(value: float) -> float:
    """A number without a fraction that is none."""
    return int(value) if value == int(value) else value
