"""The interface of a connection to a tool server, the same for every way to reach the server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from orchestrator.models.tool_servers import ToolServer
from orchestrator.models.tools import Tool, ToolFailure, ToolOutcome


class LinkFailed(Exception):
    """The tool server cannot be reached, or its answer is not valid MCP."""


class Link(Protocol):
    """A connection to one tool server. Calls may be made at the same time."""

    async def list_tools(self) -> tuple[Tool, ...]:
        """All callable tools, unfiltered, with the server's own hints. Raises :class:`LinkFailed`."""

    async def call(self, tool: Tool, arguments: dict[str, Any], seconds: float) -> ToolOutcome:
        """Make one call, once. Never raises, except when cancelled; the server then gets a cancellation."""

    async def changed(self, most_seconds: float) -> None:
        """Wait until the tools may have changed, or for ``most_seconds``. Raises :class:`LinkFailed` at the end of the
        connection.
        """


OpenLink = Callable[[str, ToolServer], AbstractAsyncContextManager[Link]]


def failed(code: str, message: str) -> ToolOutcome:
    """The outcome of a failed call."""
    return ToolOutcome(failure=ToolFailure(code=code, message=message))
