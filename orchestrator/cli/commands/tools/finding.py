"""``mayfly tools list`` and ``mayfly tools search``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from orchestrator.cli.connection import connect
from orchestrator.cli.console import Json, print_json, print_table

Server = Annotated[str | None, typer.Option("--server", metavar="NAME", help="Only tools of this server.")]
PAGE = 200


class Detail(StrEnum):
    """The level of detail."""

    NAMES = "names"
    SIGNATURES = "signatures"
    DEFINITIONS = "definitions"


class Language(StrEnum):
    """The notation of signatures."""

    PYTHON = "python"
    JAVASCRIPT = "javascript"


def list_tools(server: Server = None, json: Json = False) -> None:
    """List the tools that programs may call."""
    with connect() as client:
        found = client.search_tools(server=server, limit=PAGE)
    if json:
        return print_json(found.document)
    print_table(
        ("TOOL", "SERVER", "NAME", "DESCRIPTION"), [(t.spelling, t.server, t.name, t.description) for t in found.items]
    )
    if found.total > len(found.items):
        typer.echo(f"{found.total - len(found.items)} more: choose a server, or use `mayfly tools search`.")
    return None


def search(
    query: Annotated[str, typer.Argument(help="Words of the task, or a tool's name.")],
    server: Server = None,
    detail: Annotated[Detail, typer.Option("--detail", help="Level of detail.")] = Detail.SIGNATURES,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=PAGE, help="At most this many.")] = 10,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1, help="At most this many tokens.")] = None,
    language: Annotated[Language, typer.Option("--language", help="The notation of signatures.")] = Language.PYTHON,
    json: Json = False,
) -> None:
    """Search the tools that programs may call, as a model does."""
    with connect() as client:
        found = client.search_tools(
            query, server=server, detail=detail, limit=limit, max_tokens=max_tokens, language=language
        )
    if json:
        return print_json(found.document)
    typer.echo(found.text)
    return None
