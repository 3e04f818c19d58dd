"""Resources and prompts of MCP servers as tools, with the lists, searches, grants and calls of other tools. Pure.

A server with resources has the tools ``resources/list`` and ``resources/read``, a server with prompts ``prompts/list``
and ``prompts/get``. Tools of the server with the same names take precedence, as in its catalogue.
"""

from __future__ import annotations

from typing import Any

import mcp_types as types

from orchestrator.models.tools import Hints, Schema, Tool

_READS = Hints(read_only=True, destructive=False, idempotent=True, open_world=True)
_CURSOR = {"type": "string", "description": "The `next_cursor` of the last page."}
_LIST: Schema = {"type": "object", "properties": {"cursor": _CURSOR}, "additionalProperties": False}
_READ: Schema = {
    "type": "object",
    "properties": {"uri": {"type": "string", "description": "As `resources/list` has it."}},
    "required": ["uri"],
    "additionalProperties": False,
}
_GET: Schema = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "As `prompts/list` has it."},
        "arguments": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": ["name"],
    "additionalProperties": False,
}
RESOURCES = (
    ("resources/list", "List the resources of this server, a page at a time.", _LIST),
    ("resources/read", "Read a resource of this server.", _READ),
)
PROMPTS = (
    ("prompts/list", "List the prompts of this server, a page at a time.", _LIST),
    ("prompts/get", "Get a prompt of this server, filled in with arguments.", _GET),
)
SCHEMAS = {name: schema for name, _, schema in (*RESOURCES, *PROMPTS)}


def tools(server: str, capabilities: types.ServerCapabilities) -> tuple[Tool, ...]:
    """The tools for a server's resources and prompts."""
    offers = (*(RESOURCES if capabilities.resources else ()), *(PROMPTS if capabilities.prompts else ()))
    return tuple(
        Tool(server=server, name=name, description=description, input_schema=schema, hints=_READS)
        for name, description, schema in offers
    )


def is_offered(tool: Tool) -> bool:
    """Whether a tool is one of these, and not the server's own with the same name."""
    return SCHEMAS.get(tool.name) == tool.input_schema


def request(tool: Tool, arguments: dict[str, Any]) -> types.Request[Any, Any]:
    """The request for a call of a tool, including the tools for resources and prompts."""
    if not is_offered(tool):
        return types.CallToolRequest(params=types.CallToolRequestParams(name=tool.name, arguments=arguments))
    if tool.name == "resources/list":
        return types.ListResourcesRequest(params=types.PaginatedRequestParams(**arguments))
    if tool.name == "resources/read":
        return types.ReadResourceRequest(params=types.ReadResourceRequestParams(**arguments))
    if tool.name == "prompts/list":
        return types.ListPromptsRequest(params=types.PaginatedRequestParams(**arguments))
    return types.GetPromptRequest(params=types.GetPromptRequestParams(**arguments))


def content(tool: Tool, result: dict[str, Any]) -> dict[str, Any]:
    """The result in the form of ``tools/call``; for resources and prompts without fields of the protocol."""
    if not is_offered(tool):
        return result
    kept = {name: value for name, value in result.items() if name not in UNWANTED}
    if "nextCursor" in kept:
        kept["next_cursor"] = kept.pop("nextCursor")
    return {"content": [], "structuredContent": kept}


UNWANTED = frozenset({"_meta", "resultType", "ttlMs", "cacheScope"})
