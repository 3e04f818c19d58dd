"""``mayfly quotas``: the quotas of tenants and API keys."""

from __future__ import annotations

import json as json_module
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from orchestrator.cli.connection import connect
from orchestrator.cli.console import Commands, Json, fail_usage, print_json, print_table

quotas = typer.Typer(cls=Commands, no_args_is_help=True, help="Show and set the quotas of tenants and API keys.")
Tenant = Annotated[str | None, typer.Option("--tenant", help="A tenant; default: the key's own.")]
Key = Annotated[str | None, typer.Option("--key", help="The id of an API key, in place of a tenant.")]
# By quota, the amounts of `use` that it bounds.
USES = {
    "queued": "queued",
    "running": "running",
    "executions_per_day": "executions_today",
    "cpu_seconds_per_day": "cpu_seconds_today",
    "tool_calls_per_day": "tool_calls_today",
    "stored_bytes": "stored_bytes",
}


@quotas.command()
def show(tenant: Tenant = None, key: Key = None, json: Json = False) -> None:
    """Print quotas, and their current use."""
    with connect() as client:
        shown = client.quotas(tenant, key=key)
    return print_json(shown) if json else _print(shown)


@quotas.command("set")
def set_(
    values: Annotated[list[str], typer.Argument(metavar="NAME=VALUE…", help="Values are JSON; null: no bound.")],
    tenant: Tenant = None,
    key: Key = None,
    replace: Annotated[bool, typer.Option("--replace", help="Remove the quotas that are not named.")] = False,
    json: Json = False,
) -> None:
    """Set quotas, in force with the next submission. Needs the scope admin."""
    changes = dict(map(_pair, values))
    with connect() as client:
        before = {} if replace else client.quotas(tenant, key=key)["quotas"]
        shown = client.set_quotas({**before, **changes}, tenant=tenant, key=key)
    return print_json(shown) if json else _print(shown)


def _pair(text: str) -> tuple[str, Any]:
    name, given, value = text.partition("=")
    if not given:
        fail_usage(typer.BadParameter(f"{text!r} is no NAME=VALUE, such as queued=100"), "mayfly quotas set")
    try:
        return name, json_module.loads(value)
    except ValueError:
        names = [part for part in value.split(",") if part]  # `environments=python,node`
        return name, names


def _print(shown: Mapping[str, Any]) -> None:
    rows = [
        (name, "-" if value is None else value, shown["use"].get(USES.get(name, ""), ""))
        for name, value in shown["quotas"].items()
        if name != "limits"
    ]
    limits = [(f"limits.{name}", value, "") for name, value in shown["quotas"]["limits"].items() if value is not None]
    print_table(("QUOTA", "BOUND", "IN USE"), [*rows, *limits])
