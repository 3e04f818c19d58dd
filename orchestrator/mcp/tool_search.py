"""``search_tools``: the tools that a program may call, in the tokens that the model has for them."""

from __future__ import annotations

from functools import partial

from mcp_types import CallToolResult, ContentBlock, TextContent

from orchestrator.mcp import budget
from orchestrator.mcp.arguments import SearchTools
from orchestrator.mcp.parts import Caller, Parts


async def search_tools(parts: Parts, caller: Caller, arguments: SearchTools) -> CallToolResult:
    """The best tools for a query, as text alone: structured content would cost its tokens again."""
    settings = parts.settings
    most = min(arguments.max_tokens or settings.mcp_output_tokens, settings.mcp_most_output_tokens)
    call = partial(parts.tools.search, caller.principal, arguments, count=budget.count, max_tokens=most)
    _, found = await parts.threads.run(caller.tenant, call)
    content: list[ContentBlock] = [TextContent(type="text", text=found.text)]
    return CallToolResult(content=content)
