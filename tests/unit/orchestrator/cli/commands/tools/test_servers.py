"""The line of a declaration in ``mayfly tools servers``."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.cli.commands.tools.servers import place
from orchestrator.models.tool_servers import ToolServer


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"url": "https://mcp.example.org/"}, "https://mcp.example.org/"),
        ({"command": ("server", "--stdio")}, "server --stdio"),
        ({"environment": "time"}, "time"),
        ({"hosts": ("a.example", "*.b.example")}, "fetches from a.example, *.b.example"),
        ({"hosts": ()}, "fetches from no host"),
    ],
)
def test_place_of_a_server(fields: dict[str, Any], shown: str) -> None:
    assert place(ToolServer(name="x", **fields).model_dump(mode="json")) == shown
