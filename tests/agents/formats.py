"""The formats of the files of clients that the tests cannot run, as their vendors published them in November 2026.

Each format is a JSON Schema with the fields that a server's entry may have, and the form of a reference to a variable
(``None`` where the vendor documents none).
"""

from __future__ import annotations

from typing import Any, NamedTuple

Schema = dict[str, Any]
TEXT: Schema = {"type": "string", "minLength": 1}
TEXTS: Schema = {"type": "array", "items": TEXT}
MAP: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
FLAG: Schema = {"type": "boolean"}
ADDRESS: Schema = {"type": "string", "pattern": "^https?://.+"}
COMMAND: Schema = {"command": TEXT, "args": TEXTS, "env": MAP}
INPUT: Schema = {"type": {"const": "promptString"}, "id": TEXT, "description": TEXT, "password": FLAG, "default": TEXT}


class Format(NamedTuple):
    """A published format, and its source."""

    source: str
    schema: Schema
    reference: str | None = None


def exactly(properties: Schema, *required: str) -> Schema:
    """An object of these properties and no others."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def file_of(table: str, *entries: Schema, **more: Schema) -> Schema:
    """A file whose table has servers, each of one of these forms."""
    servers = {"type": "object", "minProperties": 1, "additionalProperties": {"oneOf": list(entries)}}
    return exactly({table: servers, **more}, table)


STDIO = exactly(COMMAND, "command")
FORMATS = {
    "claude-desktop": Format("modelcontextprotocol.io, Connect to local MCP servers", file_of("mcpServers", STDIO)),
    "cursor": Format(
        "cursor.com/docs/mcp",
        file_of(
            "mcpServers",
            exactly({**COMMAND, "type": {"const": "stdio"}, "envFile": TEXT}, "command"),
            exactly({"url": ADDRESS, "headers": MAP, "auth": MAP}, "url"),
        ),
        r"\$\{env:[A-Z_]+\}",
    ),
    "vs-code": Format(
        "code.visualstudio.com, MCP configuration reference",
        file_of(
            "servers",
            exactly({**COMMAND, "type": {"const": "stdio"}, "cwd": TEXT, "envFile": TEXT}, "type", "command"),
            exactly({"type": {"enum": ["http", "sse"]}, "url": ADDRESS, "headers": MAP}, "type", "url"),
            inputs={"type": "array", "items": exactly(INPUT, "type", "id", "description")},
        ),
        r"\$\{input:[a-z-]+\}",
    ),
    "windsurf": Format(
        "docs.devin.ai/desktop/cascade/mcp",
        file_of("mcpServers", STDIO, exactly({"serverUrl": ADDRESS, "headers": MAP}, "serverUrl")),
        r"\$\{env:[A-Z_]+\}",
    ),
    "devin": Format(
        "docs.devin.ai/cli/extensibility/mcp/configuration",
        file_of(
            "mcpServers",
            STDIO,
            exactly({"url": ADDRESS, "transport": {"enum": ["http", "sse"]}, "headers": MAP}, "url"),
        ),
    ),
    "zed": Format(
        "zed.dev/docs/ai/mcp, and crates/settings_content/src/project.rs of zed-industries/zed",
        file_of(
            "context_servers",
            exactly({**COMMAND, "enabled": FLAG, "remote": FLAG, "timeout": {"type": "integer"}}, "command"),
            exactly({"url": ADDRESS, "headers": MAP, "enabled": FLAG, "timeout": {"type": "integer"}}, "url"),
        ),
    ),
}
