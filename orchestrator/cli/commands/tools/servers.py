"""``mayfly tools servers``: the tenant's tool servers, and their declarations."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli.connection import connect
from orchestrator.cli.console import CommandFailed, Commands, Json, print_json, print_table
from orchestrator.cli.verdict import MISTAKE

servers = typer.Typer(
    cls=Commands, invoke_without_command=True, help="List tool servers; declare, accept and remove them."
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The server's name.")]
Tenant = Annotated[str | None, typer.Option("--tenant", help="Another tenant than the key's own.")]
DIGEST = 12  # characters shown


@servers.callback()
def listed(context: typer.Context, tenant: Tenant = None, json: Json = False) -> None:
    """List the tenant's tool servers, unless a command follows."""
    if context.invoked_subcommand is not None:
        return None
    with connect() as client:
        document = client.tool_servers(tenant=tenant)
    if json:
        return print_json(document)
    rows = [
        (shown["declaration"]["name"], shown["state"] or "unknown", str(shown["tools"]), shown["digest"][:DIGEST],
         place(shown["declaration"]), shown["detail"])
        for shown in document["items"]
    ]  # fmt: skip
    print_table(("NAME", "STATE", "TOOLS", "CATALOGUE", "AT", "DETAIL"), rows)
    return None


@servers.command("add")
def add(
    name: Name,
    url: Annotated[str | None, typer.Option("--url", help="URL of the server's MCP endpoint.")] = None,
    secret: Annotated[str | None, typer.Option("--secret", help="Name of a file of the broker's secrets.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", exists=True, dir_okay=False, help="TOML file with the declaration.")
    ] = None,
    tenant: Tenant = None,
    json: Json = False,
) -> None:
    """Declare a tool server, or replace its declaration."""
    declaration = _read(file) if file else {}
    declaration |= {key: value for key, value in (("url", url), ("secret", secret)) if value}
    with connect() as client:
        shown = client.declare_tool_server(name, declaration, tenant=tenant)
    if json:
        return print_json(shown)
    typer.echo(f"{name} declared; `mayfly tools servers` shows when it is ready")
    return None


@servers.command("rm")
def rm(name: Name, tenant: Tenant = None) -> None:
    """Remove a tool server."""
    with connect() as client:
        client.remove_tool_server(name, tenant=tenant)
    typer.echo(f"{name} removed")


@servers.command("changes")
def changes(name: Name, tenant: Tenant = None, json: Json = False) -> None:
    """Show the changes of a server's catalogue, the newest first."""
    with connect() as client:
        document = client.catalogue_changes(name, tenant=tenant)
    if json:
        return print_json(document)
    rows = [
        (change["at"][:19], change["after"][:DIGEST], _names(change["added"]), _names(change["removed"]),
         _names([new["name"] for _, new in change["changed"]]), str(change["left_out"]),
         "quarantined" if change["quarantined"] else "")
        for change in document["items"]
    ]  # fmt: skip
    print_table(("AT", "CATALOGUE", "ADDED", "REMOVED", "CHANGED", "MORE", ""), rows)
    return None


@servers.command("accept")
def accept(
    name: Name,
    digest: Annotated[
        str | None, typer.Argument(help="The catalogue's digest; default: the server's current one.")
    ] = None,
    tenant: Tenant = None,
) -> None:
    """Accept a quarantined catalogue, so that its tools can be called."""
    with connect() as client:
        if digest is None:
            found = client.tool_servers(tenant=tenant)["items"]
            digest = next((shown["digest"] for shown in found if shown["declaration"]["name"] == name), "")
        client.accept_catalogue(name, digest, tenant=tenant)
    typer.echo(f"{name}: catalogue {digest[:DIGEST]} accepted")


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CommandFailed(f"{file}: {error}", MISTAKE) from error


def place(declaration: dict[str, Any]) -> str:
    """The place of a declared server: a URL, a command, an image, or the hosts that it fetches from."""
    place = declaration["url"] or declaration["environment"] or " ".join(declaration["command"])
    return str(place or f"fetches from {_names(declaration['hosts'] or []) or 'no host'}")


def _names(names: list[str]) -> str:
    return ", ".join(names)
