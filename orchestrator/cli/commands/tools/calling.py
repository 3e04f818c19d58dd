"""``mayfly tools call``: a direct call of a tool."""

from __future__ import annotations

import json as json_text
from typing import Annotated, Any

import typer

from orchestrator.cli.connection import connect
from orchestrator.cli.console import CommandFailed, Json, print_json
from orchestrator.cli.verdict import MISTAKE


def call(
    tool: Annotated[str, typer.Argument(metavar="SERVER.TOOL", help="The tool's full name.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=VALUE...]", help="Arguments; a value that is not JSON is text."),
    ] = None,
    arguments_json: Annotated[str, typer.Option("--arguments", help="All arguments, as a JSON object.")] = "{}",
    json: Json = False,
) -> None:
    """Call a tool, and print its result."""
    server, dot, name = tool.partition(".")
    if not dot or not server or not name:
        raise CommandFailed(f"{tool!r} is not SERVER.TOOL.", MISTAKE)
    given = _object(arguments_json) | dict(map(_pair, arguments or []))
    with connect() as client:
        result = client.call_tool(server, name, given)
    if json or not isinstance(result, str):
        return print_json(result)
    typer.echo(result)
    return None


def _object(text: str) -> dict[str, Any]:
    try:
        value = json_text.loads(text)
    except ValueError as error:
        raise CommandFailed(f"--arguments is not JSON: {error}", MISTAKE) from error
    if not isinstance(value, dict):
        raise CommandFailed("--arguments is not a JSON object.", MISTAKE)
    return value


def _pair(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise CommandFailed(f"{text!r} is not NAME=VALUE.", MISTAKE)
    try:
        return name, json_text.loads(value)
    except ValueError:
        return name, value
