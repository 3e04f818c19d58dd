"""``search_tools``: the tools that a program may call, within a number of tokens."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from mcp_types import CallToolResult, ContentBlock, TextContent

from orchestrator.mcp import budget
from orchestrator.mcp.arguments import SearchTools
from orchestrator.mcp.budget import Carrier
from orchestrator.mcp.parts import Caller, Parts

FEWEST_TOKENS = 50
COUNT_TOKENS = 12  # of the number of tools, in the structure and in the text


async def search_tools(parts: Parts, caller: Caller, arguments: SearchTools) -> CallToolResult:
    """The best tools for a query, as text in the part that the client's model reads, and the number of matches."""
    settings = parts.settings
    asked = max(FEWEST_TOKENS, arguments.max_tokens or settings.mcp_output_tokens)
    most = min(asked, settings.mcp_most_output_tokens)
    count = partial(cost, caller.carrier)
    call = partial(parts.tools.search, caller.principal, arguments, count=count, max_tokens=most - COUNT_TOKENS)
    _, found = await parts.threads.run(caller.tenant, call)
    return result_of(found.text, found.total, caller.carrier)


def cost(carrier: Carrier, text: str) -> int:
    """The tokens of a text in the parts that the client's model reads: plain text, structured content, or both."""
    plain = 0 if carrier == "structured" else budget.count(text)
    member = 0 if carrier == "text" else budget.count(json.dumps(text, ensure_ascii=False))
    return plain + member


def result_of(text: str, total: int, carrier: Carrier) -> CallToolResult:
    """The tool's result: ``total`` tools match."""
    structured: dict[str, Any] = {"total": total} if carrier == "text" else {"total": total, "tools": text}
    shown = f"{total} found" if carrier == "structured" else text
    content: list[ContentBlock] = [TextContent(type="text", text=shown)]
    return CallToolResult(content=content, structured_content=structured)
