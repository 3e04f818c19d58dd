"""Lists of a server that sends their pages as events, or on a pipe: of any size within the bound, and at no pace."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from orchestrator.broker.declared.secrets import Secret
from orchestrator.broker.links import bounded_http, mcp_link
from orchestrator.broker.links.bounded_stdio import Command, LastWords, bounded_stdio
from orchestrator.broker.links.bounds import CATALOGUE_BYTES, Pace
from orchestrator.broker.links.definitions import tool
from orchestrator.broker.links.link import LinkFailed
from orchestrator.broker.links.opening import Opener
from orchestrator.models.tool_servers import ToolServer
from orchestrator.models.tools import Tool
from tests.builders.tools.hostile_server import TOOLS, HostileServer, definition

DESCRIPTION = "x" * 16_000
MOST_BYTES = 64 * 1024  # of a call


@pytest.fixture
def paced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the pieces that were read at a pace."""
    found: list[int] = []

    class Noted(Pace):
        async def keep(self, count: int = 1) -> None:
            found.append(count)

    monkeypatch.setattr(bounded_http, "Pace", Noted)
    return found


def listed(definitions: int) -> int:
    """The number of further tools in the list of a server."""
    unused: Any = None

    async def names() -> list[str]:
        opener = Opener(MOST_BYTES, lambda tenant, server: Secret(tenants=("t",)), unused)
        async with opener.open("t", ToolServer(name="s", url=server.url)) as link:
            return [one.name for one in await link.list_tools()]

    server = HostileServer([definition(f"t{n}", None, DESCRIPTION) for n in range(definitions)], streams=True)
    try:
        return len(asyncio.run(names())) - len(TOOLS)
    finally:
        server.stop()


def test_large_page_of_events_is_read_at_no_pace(paced: list[int]) -> None:
    assert listed(CATALOGUE_BYTES // 2 // len(DESCRIPTION)) == CATALOGUE_BYTES // 2 // len(DESCRIPTION)
    assert sum(paced) < MOST_BYTES


def test_page_of_events_beyond_the_bound_is_refused(paced: list[int]) -> None:
    with pytest.raises(LinkFailed, match=f"more than {CATALOGUE_BYTES} bytes"):
        listed(CATALOGUE_BYTES // len(DESCRIPTION) + 1)


def test_other_calls_continue_between_the_definitions_of_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = 0
    seen: list[int] = []

    def turn() -> None:
        nonlocal turns
        turns += 1
        asyncio.get_running_loop().call_soon(turn)

    def noted(server: str, given: dict[str, Any]) -> Tool | None:
        if not seen:
            turn()
        seen.append(turns)
        return tool(server, given)

    monkeypatch.setattr(mcp_link, "definition_to_tool", noted)
    assert listed(3) == 3
    assert sorted(set(seen)) == seen


PIPE = """
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    answer = {"jsonrpc": "2.0", "id": request.get("id")}
    if request["method"] == "tools/list":
        definition = {"name": "t", "description": "x" * %d, "inputSchema": {"type": "object"}}
        answer["result"] = {"tools": [definition]}
    elif request["method"] == "initialize":
        version = request["params"]["protocolVersion"]
        answer["result"] = {
            "protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}
        }
    else:
        answer["error"] = {"code": -32601, "message": "no"}
    if "id" in request:
        kind, text = %r, json.dumps(answer)
        if kind == "id last":
            text = json.dumps(dict(reversed(answer.items())))
        elif kind == "cut off" and request["method"] == "tools/list":
            text = text[:-1]
        print(text, flush=True)
"""


@pytest.mark.parametrize(
    ("kind", "size", "expected"),
    [
        ("id first", CATALOGUE_BYTES - 1000, "listed"),
        ("id first", CATALOGUE_BYTES, "refused"),
        ("id last", CATALOGUE_BYTES - 1000, "listed"),
        ("id last", CATALOGUE_BYTES, "refused"),
        ("cut off", CATALOGUE_BYTES, "refused"),  # unparsed
    ],
)
def test_page_on_a_pipe_has_the_bound_of_a_list(kind: str, size: int, expected: str) -> None:
    words = LastWords()

    async def listed_on_a_pipe() -> str:
        command = Command((sys.executable, "-I", "-c", PIPE % (size, kind)), {})
        transport = bounded_stdio(command, 16 * 2**20, words, lambda: None)
        try:
            async with mcp_link.opened(transport, "s", 60, 16 * 2**20, lambda: None) as link:
                return "listed" if [one.name for one in await link.list_tools()] == ["t"] else "nothing"
        except LinkFailed as failure:
            return "refused" if f"more than {CATALOGUE_BYTES} bytes" in str(failure) else str(failure)

    assert asyncio.run(listed_on_a_pipe()) == expected, str(words)
