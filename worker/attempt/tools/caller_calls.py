"""Checks a program's call of a tool that the client of its execution fulfils, as a broker checks those of servers."""

from __future__ import annotations

import json

from orchestrator.models import Specification
from orchestrator.models.tools import CALLER, CallerTool, Tool, ToolCall, ToolFailure
from orchestrator.tools.arguments import check, unknown_tool
from worker.attempt.tools.cost import COSTLY, Cost


class CallerCalls:
    """Checks the calls of one attempt. Used by one thread."""

    def __init__(self, specification: Specification, cost: Cost) -> None:
        self._specification, self._cost = specification, cost

    def checked(self, call: ToolCall) -> ToolCall | ToolFailure:
        """See :func:`checked`."""
        if self._cost.is_used_up:
            return COSTLY
        with self._cost.charged():
            return checked(self._specification, call)


def checked(specification: Specification, call: ToolCall) -> ToolCall | ToolFailure:
    """The call with the checked arguments, or its failure. Takes up to a second of CPU time."""
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
