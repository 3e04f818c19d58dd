"""``mayfly switches``: features that operators turn off and on."""

from __future__ import annotations

from typing import Annotated

import typer

from mayfly.results import Document
from orchestrator.cli.connection import connect
from orchestrator.cli.console import Commands, Json, print_json, print_table

switches = typer.Typer(cls=Commands, no_args_is_help=True, help="Switch features off and on, without a restart.")
Feature = Annotated[str, typer.Argument(help="A feature, as `mayfly switches ls` names it.")]


@switches.command("ls")
def ls(json: Json = False) -> None:
    """Print every feature that can be switched off, and its state."""
    with connect() as client:
        found = client.switches()
    return print_json({"items": found}) if json else _print(found)


@switches.command("off")
def off(
    feature: Feature,
    reason: Annotated[str | None, typer.Option("--reason", help="Refused callers see it.")] = None,
    json: Json = False,
) -> None:
    """Switch a feature off. Needs the scope fleet:write."""
    _set(feature, False, reason, json)


@switches.command("on")
def on(feature: Feature, json: Json = False) -> None:
    """Switch a feature on again. Needs the scope fleet:write."""
    _set(feature, True, None, json)


def _set(feature: str, enabled: bool, reason: str | None, json: bool) -> None:
    with connect() as client:
        changed = client.set_switch(feature, enabled=enabled, reason=reason)
    return print_json(changed) if json else _print([changed])


def _print(found: list[Document]) -> None:
    rows = [
        (one["feature"], "on" if one["enabled"] else "off", one["changed_at"] or "", one["changed_by"] or "",
         one["reason"] or "")
        for one in found
    ]  # fmt: skip
    print_table(("FEATURE", "STATE", "SINCE", "BY", "REASON"), rows)
