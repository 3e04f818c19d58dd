"""``mayfly usage``: the usage of a tenant."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from orchestrator.cli.connection import connect
from orchestrator.cli.console import Json, human_bytes, print_json, print_table

TITLES = ("EXECUTIONS", "WALL", "CPU", "OUTPUT", "ARTIFACTS", "TOOL CALLS", "TOKENS RETURNED", "WITHHELD")


def usage(
    tenant: Annotated[str | None, typer.Option("--tenant", help="Another tenant; needs the scope admin.")] = None,
    first: Annotated[str | None, typer.Option("--from", help="First day (UTC), as 2026-01-31.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last day, included. Default: today.")] = None,
    by: Annotated[Literal["day", "key", "environment"], typer.Option("--by", help="The grouping of the sums.")] = "day",
    json: Json = False,
) -> None:
    """Print the usage of a tenant's executions, by default on each of the last 30 days."""
    with connect() as client:
        report = client.usage(tenant, first=first, last=last, by=by)
    if json:
        return print_json(report)
    rows = [(row["name"], *_cells(row)) for row in report["items"]]
    print_table((by.upper(), *TITLES), [*rows, ("total", *_cells(report["total"]))])
    return None


def _cells(amounts: dict[str, float]) -> tuple[str, ...]:
    seconds = (f"{amounts[name]:.3f} s" for name in ("wall_seconds", "cpu_seconds"))
    sizes = (human_bytes(int(amounts[name])) for name in ("output_bytes", "artifact_bytes"))
    counts = (str(amounts[name]) for name in ("tool_calls", "tokens_returned", "tokens_withheld"))
    return str(amounts["executions"]), *seconds, *sizes, *counts
