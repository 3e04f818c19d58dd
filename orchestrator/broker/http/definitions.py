"""The definitions of the built-in server's tools. Operators usually name the server ``http``."""

from __future__ import annotations

from typing import Any

from orchestrator.models.tools import Hints, Schema, Tool

LONGEST_URL = 8192  # characters
MOST_HEADERS = 32  # of a request

_URL = {"type": "string", "maxLength": LONGEST_URL, "description": "Absolute, http or https."}
_HEADERS = {
    "type": "object",
    "additionalProperties": {"type": "string"},
    "maxProperties": MOST_HEADERS,
    "description": "Headers of the request.",
}
_BODY = {
    "type": ["string", "object", "array"],
    "description": "A string is sent as it is, in UTF-8; an object or array as JSON.",
}
_OUTPUT: Schema = {
    "type": "object",
    "properties": {
        "status": {"type": "integer"},
        "url": {"type": "string", "description": "After redirects."},
        "headers": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "Names in lower case.",
        },
        "text": {"type": ["string", "null"], "description": "The body, if it is text."},
        "base64": {"type": ["string", "null"], "description": "The body, if it is not."},
        "from_cache": {"type": "boolean"},
    },
    "required": ["status", "url", "headers", "text", "base64", "from_cache"],
}


def _input(properties: dict[str, Any], *required: str) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


_GET = _input({"url": _URL, "headers": _HEADERS}, "url")
_POST = _input({"url": _URL, "body": _BODY, "headers": _HEADERS}, "url", "body")
PARAMETERS = {"get": tuple(_GET["properties"]), "post": tuple(_POST["properties"])}


def tools(server: str) -> tuple[Tool, ...]:
    """The tools of a server of this name."""
    return (
        Tool(
            server=server,
            name="get",
            title="HTTP GET",
            description="Fetch a URL of a host that the tenant allows; follows redirects. Any status is a result.",
            input_schema=_GET,
            output_schema=_OUTPUT,
            hints=Hints(read_only=True, destructive=False, idempotent=True, open_world=True),
        ),
        Tool(
            server=server,
            name="post",
            title="HTTP POST",
            description="Send a body to a URL of a host that the tenant allows. Any status is a result.",
            input_schema=_POST,
            output_schema=_OUTPUT,
            hints=Hints(read_only=False, destructive=True, idempotent=False, open_world=True),
        ),
    )
