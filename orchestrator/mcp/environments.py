"""``list_environments``: the environments with their packages and limits, within a bound of tokens."""

from __future__ import annotations

import json
from functools import partial
from typing import Any, NamedTuple

from mcp_types import CallToolResult, ContentBlock, TextContent

from orchestrator.environments import Environment
from orchestrator.mcp.budget import Carrier, count
from orchestrator.mcp.budget.explain import importable
from orchestrator.mcp.parts import Caller, Parts
from orchestrator.models.fleet import WorkerStatus

MOST_TOKENS = 2000
MOST_DESCRIPTION = 300
Listed = dict[str, Any]


class Detail(NamedTuple):
    """The detail of each listed environment: characters of the description, number of packages, limits or none."""

    description: int = MOST_DESCRIPTION
    packages: int = 1000
    limits: bool = True


DETAILS = (
    Detail(),
    Detail(packages=30),
    Detail(packages=10),
    Detail(100, 5),
    Detail(60, 0, False),
    Detail(0, 0, False),
)


async def list_environments(parts: Parts, caller: Caller) -> CallToolResult:
    """Every environment: its packages, its isolation tiers, its default and maximal limits."""
    workers = await parts.threads.run(caller.tenant, parts.operation.workers)
    allowed = await parts.threads.run(caller.tenant, partial(parts.service.environments_of, caller.principal))
    return within(allowed, workers, caller.carrier)


def within(environments: list[Environment], workers: list[WorkerStatus], carrier: Carrier) -> CallToolResult:
    """The list within :data:`MOST_TOKENS`: with less detail if it does not fit, then with fewer environments."""
    for detail in DETAILS:
        listed = [_described(one, workers, detail) for one in environments]
        if (found := _result(listed, 0, carrier)) is not None:
            return found
    kept = len(environments) // 2
    while kept and (found := _result(listed[:kept], len(listed) - kept, carrier)) is None:
        kept //= 2
    return found or _result([], len(listed), carrier) or CallToolResult(content=[])


def _result(listed: list[Listed], omitted: int, carrier: Carrier) -> CallToolResult | None:
    """The answer, or ``None`` beyond :data:`MOST_TOKENS`. The client's carrier (text or structure) has the details."""
    named = [{"name": one["name"]} for one in listed]
    structured: Listed = {"environments": named if carrier == "text" else listed}
    if carrier == "text":
        shown = _compact(listed)
    elif carrier == "structured":
        shown = ", ".join(one["name"] for one in listed)
    else:
        shown = "\n".join(f"{one['name']}: {one.get('description', '')}" for one in listed)
    if omitted:
        structured["omitted"] = omitted
        shown += f"\n[{omitted} more are not listed; execute_code takes their names, too]"
    if count(shown) + count(_compact(structured)) > MOST_TOKENS:
        return None
    content: list[ContentBlock] = [TextContent(type="text", text=shown)]
    return CallToolResult(content=content, structured_content=structured)


def _described(environment: Environment, workers: list[WorkerStatus], detail: Detail) -> Listed:
    packages = list(importable(environment.packages))
    found: Listed = {"name": environment.name}
    if detail.description:
        found["description"] = environment.description[: detail.description]
    found["modes"] = ["cell", "script"] if environment.cell else ["script"]
    if detail.packages:
        found["packages"] = packages[: detail.packages]
    if len(packages) > detail.packages:
        found["more_packages"] = len(packages) - detail.packages
    offers = [worker for worker in workers for offer in worker.environments if offer.name == environment.name]
    found["isolation"] = sorted({tier for worker in offers for tier in worker.runtimes})
    if detail.limits:
        maxima = environment.maxima
        found["limits_default_max"] = {
            name: [_short(value), _short(getattr(maxima, name))]
            for name, value in environment.defaults.model_dump().items()
        }
    return found


def _short(value: float) -> float:
    """A whole number without its decimal point."""
    return int(value) if value == int(value) else value


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
