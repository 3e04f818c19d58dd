"""The interface of a connection to a tool server, the same for every way to reach the server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from orchestrator.models.tool_servers import ToolServer
from orchestrator.models.tools import Tool, ToolFailure, ToolOutcome


class LinkFailed(Exception):
    """The tool server cannot be reached, or does not answer as MCP has it."""


class Link(Protocol):
    """A connection to one tool server. Calls may be made at the same time."""

    async def list_tools(self) -> tuple[Tool, ...]:
        """Everything that can be called, unfiltered; hints are the server's own. Raises :class:`LinkFailed`."""

    async def call(self, tool: Tool, arguments: dict[str, Any], seconds: float) -> ToolOutcome:
        """One call, made once. Never raises, except when cancelled; then the server is asked to stop."""

    async def changed(self, most_seconds: float) -> None:
        """Returns when the tools may have changed, at the latest after ``most_seconds``. Raises :class:`LinkFailed`
        when the connection has ended.
        """


OpenLink = Callable[[str, ToolServer], AbstractAsyncContextManager[Link]]


def failed(code: str, message: str) -> ToolOutcome:
    """The outcome of a failed call."""
    return ToolOutcome(failure=ToolFailure(code=code, message=message))
