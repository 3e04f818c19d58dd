"""Checks a program's call of a tool that the client of its execution fulfils, as a broker checks those of servers."""

from __future__ import annotations

import json
import time

from orchestrator.models import Specification
from orchestrator.models.tools import CALLER, CallerTool, Tool, ToolCall, ToolFailure
from orchestrator.tools.arguments import check, unknown_tool

MOST_CHECK_SECONDS = 2.0  # of CPU time, for one attempt; the last check may take a second more
COSTLY = ToolFailure(
    code="tool_denied",
    message=f"The checks of this execution's arguments took {MOST_CHECK_SECONDS:g} s of the host's CPU time, the most "
    "that they may. Define simpler schemas, or pass smaller arguments.",
)


class CallerCalls:
    """Checks the calls of one attempt, within a bounded CPU time: client and program choose what a check costs.

    Used by one thread.
    """

    def __init__(self, specification: Specification) -> None:
        self._specification = specification
        self._seconds = 0.0

    def checked(self, call: ToolCall) -> ToolCall | ToolFailure:
        """See :func:`checked`."""
        if self._seconds >= MOST_CHECK_SECONDS:
            return COSTLY
        began = time.thread_time()
        try:
            return checked(self._specification, call)
        finally:
            self._seconds += time.thread_time() - began


def checked(specification: Specification, call: ToolCall) -> ToolCall | ToolFailure:
    """The call with the arguments that were checked; or why it is not made. Takes up to a second of CPU time."""
    own = [own_tool(tool) for tool in specification.tools if isinstance(tool, CallerTool)]
    tool = next((tool for tool in own if tool.name == call.tool), None)
    if tool is None:
        return unknown_tool(f"{CALLER}.{call.tool}", own)
    arguments = check(tool, call.arguments)
    if isinstance(arguments, ToolFailure):
        return arguments
    return call.model_copy(update={"arguments": json.dumps(arguments, separators=(",", ":"))})


def own_tool(tool: CallerTool) -> Tool:
    """A tool of the caller as a tool of the server ``caller``."""
    return Tool(
        server=CALLER,
        name=tool.name,
        description=tool.description,
        input_schema=tool.input_schema,
        output_schema=tool.output_schema,
    )
