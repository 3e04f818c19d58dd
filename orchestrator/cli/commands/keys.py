"""``mayfly keys``: API keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from orchestrator.cli.connection import connect
from orchestrator.cli.console import Commands, Json, note, print_json, print_table

keys = typer.Typer(cls=Commands, no_args_is_help=True, help="Make, list and revoke API keys.")
SECONDS_A_DAY = 86400
COLUMNS = (
    "id", "name", "tenant", "service_account", "scopes", "created_at", "expires_at", "last_used_at",
)  # fmt: skip
DEFAULT_SCOPES = ["executions:write", "executions:read", "blobs:write", "mcp"]


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="Description of the key.")],
    scope: Annotated[list[str] | None, typer.Option("--scope", help="Scope of the key. May be repeated.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Tenant whose executions it sees.")] = None,
    service_account: Annotated[
        str | None, typer.Option("--service-account", help="Service account that owns the key.")
    ] = None,
    days: Annotated[float | None, typer.Option("--days", help="Days until it expires. Default: never.")] = None,
    environment: Annotated[
        list[str] | None, typer.Option("--environment", help="Only these environments. May be repeated.")
    ] = None,
    isolation: Annotated[list[str] | None, typer.Option("--isolation", help="Only these tiers.")] = None,
    tool: Annotated[list[str] | None, typer.Option("--tool", help="Only these tools: server.tool or server.*")] = None,
    mount: Annotated[list[str] | None, typer.Option("--mount", help="Only these mounts.")] = None,
    json: Json = False,
) -> None:
    """Make a key and print its secret, which is shown only once."""
    allowed = {"environments": environment, "isolation": isolation, "tools": tool, "mounts": mount}
    wanted = {
        "service_account": service_account,
        "expires_in": None if days is None else days * SECONDS_A_DAY,
        "quotas": {field: names for field, names in allowed.items() if names},
    }
    with connect() as client:
        asked = {field: value for field, value in wanted.items() if value}
        made = client.create_key(name, scope or DEFAULT_SCOPES, tenant, asked)
    if json:
        return print_json(made.document)
    note(f"key {made.id} of tenant {made.tenant}, for {', '.join(made.scopes)}; it is not shown again:")
    typer.echo(made.secret)
    return None


@keys.command("list")
def list_keys(json: Json = False) -> None:
    """List keys, without their secrets."""
    with connect() as client:
        found = client.keys()
    if json:
        return print_json({"items": [key.document for key in found]})
    rows = [tuple(_shown(key.document, field) for field in COLUMNS) for key in found]
    print_table([column.upper().replace("_AT", "").replace("_", " ") for column in COLUMNS], rows)
    return None


keys.command("ls", hidden=True)(list_keys)


def _shown(key: Mapping[str, Any], field: str) -> Any:
    value = key.get(field)
    return (value or "never")[:19] if field.endswith("_at") else value or ""


@keys.command()
def revoke(id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, not its secret.")]) -> None:
    """Make a key stop working at once."""
    with connect() as client:
        client.revoke_key(id)
    typer.echo(f"{id} revoked")
