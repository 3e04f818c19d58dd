"""A FastMCP server in code mode over Mayfly, and its client; prints the answers to the given programs as JSON.

Run in the environment of the adapters; ``sys.argv[1]`` is a list of programs in JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from fastmcp import Client, FastMCP
from fastmcp.exceptions import ToolError
from fastmcp.experimental.transforms.code_mode import CodeMode
from mayfly_fastmcp import MayflySandboxProvider

provider = MayflySandboxProvider(limits={"wall_seconds": 20})
server = FastMCP("Shop", transforms=[CodeMode(sandbox_provider=provider, max_tool_calls=30)])


@server.tool
def price(item: str) -> dict[str, Any]:
    """The price of an item."""
    if item == "nothing":
        raise ToolError("there is no item 'nothing'")
    return {"item": item, "price": len(item)}


@server.tool
async def stock(item: str, at_least: int = 0) -> bool:
    """Whether there is enough of an item."""
    await asyncio.sleep(0)
    return len(item) > at_least


async def main() -> None:
    answers = []
    async with Client(server) as client:
        names = sorted(tool.name for tool in await client.list_tools())
        for code in json.loads(sys.argv[1]):
            result = await client.call_tool("execute", {"code": code}, raise_on_error=False)
            text = "".join(block.text for block in result.content if block.type == "text")
            answers.append({"error": result.is_error, "text": text})
    inputs = await provider.run("return [a + 1, await twice(a)]", inputs={"a": 2}, external_functions={"twice": twice})
    print(json.dumps({"tools": names, "answers": answers, "inputs": inputs}))


def twice(number: int) -> int:
    return 2 * number


asyncio.run(main())
