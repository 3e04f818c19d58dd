"""Resources and prompts as tools; a server's own tools of the same names take precedence."""

from __future__ import annotations

from typing import Any

import mcp_types as types
import pytest

from orchestrator.broker.links import offered
from orchestrator.broker.links.definitions import tool as definition_to_tool
from orchestrator.broker.upstreams.catalogue import selected
from orchestrator.models.tool_servers import ToolServer
from orchestrator.models.tools import Tool

ALL = types.ServerCapabilities(resources=types.ResourcesCapability(), prompts=types.PromptsCapability())
ARGUMENTS: dict[str, dict[str, Any]] = {
    "resources/list": {"cursor": "2"},
    "resources/read": {"uri": "file:///a"},
    "prompts/list": {},
    "prompts/get": {"name": "review", "arguments": {"code": "x"}},
}
RESULT = {"content": [{"type": "text", "text": "x"}], "nextCursor": "3", "_meta": {}}


def catalogue(*own: str) -> dict[str, Tool]:
    """The tools of a server that has resources, prompts and its own tools, as its catalogue shows them."""
    listed = [definition_to_tool("s", {"name": name, "inputSchema": {"type": "object"}}) for name in own]
    server = ToolServer(name="s", url="http://s/mcp", hints={"resources/list": {"idempotent": False}})
    found = [one for one in listed if one] + list(offered.tools("s", ALL))
    return {one.name: Tool.model_validate_json(one.model_dump_json()) for one in selected(server, found)}


@pytest.mark.parametrize("name", list(ARGUMENTS))
def test_shown_definition_is_the_one_that_is_called(name: str) -> None:
    arguments = ARGUMENTS[name]
    ours, own = catalogue()[name], catalogue(name)[name]
    assert offered.request(ours, arguments).method == name
    assert offered.content(ours, RESULT)["structuredContent"] == {"content": RESULT["content"], "next_cursor": "3"}
    assert ours.description and not own.description, "the server's own definition is shown"
    called = offered.request(own, arguments)
    assert isinstance(called, types.CallToolRequest)
    assert (called.params.name, called.params.arguments) == (name, arguments)
    assert offered.content(own, RESULT) == RESULT
