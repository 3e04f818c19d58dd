"""Definitions of tools from MCP servers. Pure."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from orchestrator.models.tools import Hints, Tool

MOST_TOOLS = 1000
MOST_DESCRIPTION = 16 * 1024  # characters
MOST_SCHEMA = 256 * 1024


def tool(server: str, definition: dict[str, Any]) -> Tool | None:
    """The tool of one JSON definition of ``tools/list``; None for an unusable definition."""
    given = definition.get("annotations")
    annotations: dict[str, Any] = given if isinstance(given, dict) else {}
    hints = Hints(
        read_only=annotations.get("readOnlyHint") is True,
        destructive=annotations.get("destructiveHint") is not False,
        idempotent=annotations.get("idempotentHint") is True,
        open_world=annotations.get("openWorldHint") is not False,
    )
    title = definition.get("title") or annotations.get("title")
    try:
        made = Tool(
            server=server,
            name=definition["name"],
            title=_text(title, 200),
            description=_text(definition.get("description"), MOST_DESCRIPTION),
            input_schema=definition["inputSchema"],
            output_schema=definition.get("outputSchema"),
            hints=hints,
        )
        fits = len(made.model_dump_json()) <= 2 * MOST_SCHEMA + MOST_DESCRIPTION
    except (KeyError, TypeError, ValueError, RecursionError, ValidationError):
        return None
    return made if fits else None


def _text(value: object, most: int) -> str:
    return value[:most].encode(errors="replace").decode() if isinstance(value, str) else ""
