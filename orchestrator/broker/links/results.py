"""Results of tools as plain data, for programs. Pure.

The data is the structured content, if present; else the single text, parsed if an output schema declares JSON; else the
list of blocks. A schema that wraps every result as ``{"result": …}`` is unwrapped.

The answer of a tool with an output schema is checked against the schema, before it is unwrapped and before personal
data is replaced, so that a program can rely on the types of its stubs. The check is bounded. With an invalid schema, or
a schema whose check takes too long, results pass unchecked, since they are untrusted data in any case.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from orchestrator.broker.links.link import failed
from orchestrator.models.tools import Schema, Tool, ToolOutcome
from orchestrator.tools.arguments import result_mistake

MOST_ERROR_CHARACTERS = 4096  # of the text with which a tool reports its own error


def outcome(tool: Tool, result: dict[str, Any], most_bytes: int, filtered: Callable[[str], str] | None) -> ToolOutcome:
    """The outcome for the JSON result of ``tools/call``. ``filtered`` replaces personal data in texts."""
    blocks = result.get("content")
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        return failed("tool_result_invalid", f"The answer of {tool.full_name} is not the result of a tool.")
    if result.get("isError"):
        text = "\n".join(str(block.get("text", "")) for block in blocks if block.get("type") == "text")
        text = (filtered(text) if filtered else text).strip()[:MOST_ERROR_CHARACTERS]
        return failed("tool_failed", _encodable(text) or f"{tool.full_name} reported an error without a text.")
    structured = result.get("structuredContent")
    try:
        value = plain(tool.output_schema, structured, blocks)
        if tool.output_schema is not None:
            answer = value if structured is None else structured
            if mistake := result_mistake(tool.output_schema, answer):
                return failed(
                    "tool_result_invalid",
                    f"The result of {tool.full_name} breaks the tool's own output schema: {_encodable(mistake)}. The "
                    "tool may have done its work; report the result to the authors of its server.",
                )
        text = json.dumps(_mapped(value, filtered) if filtered else value, ensure_ascii=False, allow_nan=False)
        size = len(text.encode())
    except (ValueError, RecursionError):
        return failed("tool_result_invalid", f"The result of {tool.full_name} cannot be expressed in JSON.")
    if size > most_bytes:
        return too_large(tool, most_bytes)
    return ToolOutcome(result=text)


def too_large(tool: Tool, most_bytes: int) -> ToolOutcome:
    """The outcome of a call whose result exceeds the bound."""
    return failed(
        "tool_result_too_large",
        f"The result of {tool.full_name} is larger than {most_bytes} bytes; ask for less, for example for a page.",
    )


def plain(schema: Schema | None, structured: object, blocks: list[dict[str, Any]]) -> object:
    """The result as plain data."""
    if structured is not None:
        return structured["result"] if isinstance(structured, dict) and wraps(schema, structured) else structured
    texts = [block.get("text") for block in blocks if block.get("type") == "text"]
    if len(blocks) == len(texts) == 1 and isinstance(texts[0], str):
        return _parsed(texts[0]) if schema is not None else texts[0]
    return [{name: value for name, value in block.items() if name not in ("annotations", "_meta")} for block in blocks]


def wraps(schema: Schema | None, structured: dict[str, Any]) -> bool:
    """Whether the schema declares a value wrapped in ``{"result": …}``."""
    if structured.keys() != {"result"} or schema is None:
        return False
    properties = schema.get("properties")
    return isinstance(properties, dict) and properties.keys() == {"result"}


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _mapped(value: object, function: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return function(value)
    if isinstance(value, list):
        return [_mapped(item, function) for item in value]
    if isinstance(value, dict):
        return {function(name): _mapped(item, function) for name, item in value.items()}
    return value


def _encodable(text: str) -> str:
    return text.encode(errors="replace").decode()
