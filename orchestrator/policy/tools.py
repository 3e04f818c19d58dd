"""Checks the tools of a submission: patterns, and the definitions of tools that its client fulfils."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

from orchestrator.models.tools import CALLER, CallerTool, Granted, Schema
from orchestrator.tools.checking.bounded import UnusableSchema, check_schema
from orchestrator.tools.checking.steps import Steps

SCHEMA_BYTES = 64 * 1024  # of one schema as JSON
DEFINITIONS_BYTES = 256 * 1024  # of all definitions of a submission
REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
LITERAL = ("const", "default", "enum", "example", "examples")  # keywords whose values are not schemas


class ToolProblem(NamedTuple):
    """One mistake in the tools of a submission."""

    field: str
    message: str
    code: str
    bound: float | None = None


def tool_problems(tools: tuple[Granted, ...]) -> Iterator[ToolProblem]:
    """Every mistake in the tools of a submission. Schemas are read only after all have passed the size bounds, and
    reading all of them takes at most the steps of one check (:class:`Steps`).
    """
    total = 0
    for tool in tools:
        if isinstance(tool, CallerTool):
            total += len(tool.description.encode()) + sum(_size(schema) for _, schema in _schemas(tool))
    if total > DEFINITIONS_BYTES:
        message = f"the definitions have {total} bytes together; at most {DEFINITIONS_BYTES} are accepted"
        yield ToolProblem("tools", message, "tool_schema_too_large", DEFINITIONS_BYTES)
        return
    names: set[str] = set()
    steps = Steps()
    for position, tool in enumerate(tools):
        field = f"tools.{position}"
        if isinstance(tool, str):
            if tool.partition(".")[0] == CALLER:
                message = f"{CALLER!r} is the server of the tools that are defined here, which need no pattern"
                yield ToolProblem(field, message, "invalid_tool")
            continue
        if tool.name in names:
            yield ToolProblem(f"{field}.name", f"{tool.name!r} is defined twice", "duplicate_tool")
        names.add(tool.name)
        for part, schema in _schemas(tool):
            size = _size(schema)
            with steps.shared():
                message = "" if size > SCHEMA_BYTES else schema_problem(schema, of_object=part == "inputSchema")
            if size > SCHEMA_BYTES:
                message = f"has {size} bytes as JSON; at most {SCHEMA_BYTES} are accepted"
                yield ToolProblem(f"{field}.{part}", message, "tool_schema_too_large", SCHEMA_BYTES)
            elif message:
                yield ToolProblem(f"{field}.{part}", message, "invalid_tool_schema")


def schema_problem(schema: Schema, *, of_object: bool) -> str:
    """The mistake in a JSON Schema, or nothing; ``of_object``: the schema must describe an object, as for arguments."""
    if of_object and schema.get("type") != "object":
        return "must have the type 'object': arguments are passed by name"
    try:
        check_schema(schema, _references(schema))
    except UnusableSchema as error:
        return f"cannot be used: {error}"
    return ""


def _size(schema: Schema) -> int:
    return len(json.dumps(schema, separators=(",", ":")))


def _schemas(tool: CallerTool) -> Iterator[tuple[str, Schema]]:
    yield "inputSchema", tool.input_schema
    if tool.output_schema is not None:
        yield "outputSchema", tool.output_schema


def _references(schema: object) -> Iterator[str]:
    """Every reference within a schema, which nests no deeper than ``check_schema`` allows."""
    if isinstance(schema, list):
        for item in schema:
            yield from _references(item)
    elif isinstance(schema, dict):
        for name, value in schema.items():
            if name in REFERENCES and isinstance(value, str):
                yield value
            elif name not in LITERAL:
                yield from _references(value)
