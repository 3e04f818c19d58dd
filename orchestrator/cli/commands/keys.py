"""``mayfly keys``: API keys."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.connection import connect
from orchestrator.cli.console import Commands, Json, note, print_json, print_table

keys = typer.Typer(cls=Commands, no_args_is_help=True, help="Make, list and revoke API keys.")
DEFAULT_SCOPES = ["executions:write", "executions:read", "blobs:write"]


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="Description of the key.")],
    scope: Annotated[list[str] | None, typer.Option("--scope", help="Scope of the key. May be repeated.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Whose executions it sees.")] = None,
    json: Json = False,
) -> None:
    """Make a key and print its secret, which is shown this once."""
    with connect() as client:
        made = client.create_key(name, scope or DEFAULT_SCOPES, tenant)
    if json:
        return print_json(made.document)
    note(f"key {made.id} of tenant {made.tenant}, for {', '.join(made.scopes)}; it is not shown again:")
    typer.echo(made.secret)
    return None


@keys.command("ls")
def ls(json: Json = False) -> None:
    """List keys, without their secrets."""
    with connect() as client:
        document = client.document("api-keys")
    if json:
        return print_json(document)
    rows = [(k["id"], k["name"], k["tenant"], k["scopes"], k["created_at"][:19]) for k in document["items"]]
    print_table(("ID", "NAME", "TENANT", "SCOPES", "CREATED"), rows)
    return None


@keys.command()
def revoke(id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, not its secret.")]) -> None:
    """Make a key stop working at once."""
    with connect() as client:
        client.revoke_key(id)
    typer.echo(f"{id} revoked")
