"""``mayfly tenants``: tenants, and the service accounts that own their API keys."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.connection import connect
from orchestrator.cli.console import Commands, Json, print_json, print_table

tenants = typer.Typer(cls=Commands, no_args_is_help=True, help="Make, disable and delete tenants.")
accounts = typer.Typer(cls=Commands, no_args_is_help=True, help="Service accounts, which own API keys.")
tenants.add_typer(accounts, name="accounts")
Id = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's name.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The service account's name.")]
Of = Annotated[str | None, typer.Option("--tenant", help="Tenant of the account. Default: the key's own.")]
Description = Annotated[str, typer.Option("--description", help="Words for people.")]


@tenants.command("list")
def list_tenants(json: Json = False) -> None:
    """List tenants."""
    with connect() as client:
        found = client.tenants()
    if json:
        return print_json({"items": found})
    rows = [(one["id"], one["state"], (one["created_at"] or "")[:19], one["description"]) for one in found]
    return print_table(("TENANT", "STATE", "CREATED", "DESCRIPTION"), rows)


tenants.command("ls", hidden=True)(list_tenants)


@tenants.command()
def create(id: Id, description: Description = "", json: Json = False) -> None:
    """Make a tenant."""
    with connect() as client:
        made = client.create_tenant(id, description)
    print_json(made) if json else typer.echo(f"{made['id']} {made['state']}")


@tenants.command()
def disable(id: Id) -> None:
    """Refuse a tenant's keys and tokens from now on. Accepted executions continue."""
    _set_state(id, "disabled")


@tenants.command()
def enable(id: Id) -> None:
    """Accept a disabled tenant's keys and tokens again."""
    _set_state(id, "active")


@tenants.command()
def delete(id: Id) -> None:
    """Refuse a tenant at once, and delete its executions, keys, blobs and tool servers."""
    with connect() as client:
        client.delete_tenant(id)
    typer.echo(f"{id} deleting")


@accounts.command("list")
def list_accounts(tenant: Of = None, json: Json = False) -> None:
    """List the service accounts of a tenant."""
    with connect() as client:
        found = client.service_accounts(tenant)
    if json:
        return print_json({"items": found})
    rows = [(one["name"], one["tenant"], one["state"], one["description"]) for one in found]
    return print_table(("NAME", "TENANT", "STATE", "DESCRIPTION"), rows)


@accounts.command("create")
def create_account(
    name: Name,
    tenant: Of = None,
    description: Description = "",
    environment: Annotated[
        list[str] | None, typer.Option("--environment", help="Only these environments. May be repeated.")
    ] = None,
    tool: Annotated[list[str] | None, typer.Option("--tool", help="Only these tools: server.tool or server.*")] = None,
    json: Json = False,
) -> None:
    """Make a service account. Its keys may use no other names than the account."""
    allowed = {"environments": environment, "tools": tool}
    options = {"description": description, "allowed": {field: names for field, names in allowed.items() if names}}
    with connect() as client:
        made = client.create_service_account(name, tenant, options)
    print_json(made) if json else typer.echo(f"{made['name']} of tenant {made['tenant']}")


@accounts.command("disable")
def disable_account(name: Name, tenant: Of = None) -> None:
    """Refuse the keys of a service account from now on."""
    _set_account_state(name, tenant, "disabled")


@accounts.command("enable")
def enable_account(name: Name, tenant: Of = None) -> None:
    """Accept the keys of a disabled service account again."""
    _set_account_state(name, tenant, "active")


@accounts.command("delete")
def delete_account(name: Name, tenant: Of = None) -> None:
    """Delete a service account and its keys."""
    with connect() as client:
        client.delete_service_account(name, tenant)
    typer.echo(f"{name} deleted")


def _set_state(id: str, state: str) -> None:
    with connect() as client:
        typer.echo(f"{id} {client.change_tenant(id, {'state': state})['state']}")


def _set_account_state(name: str, tenant: str | None, state: str) -> None:
    with connect() as client:
        typer.echo(f"{name} {client.change_service_account(name, {'state': state}, tenant)['state']}")
