"""``mayfly workers``: the live workers, and their drains."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from mayfly import Client
from mayfly.results import Document
from orchestrator.cli.connection import connect
from orchestrator.cli.console import CommandFailed, Commands, Json, print_json, print_table

workers = typer.Typer(cls=Commands, invoke_without_command=True, help="List live workers; drain them.")
POLL_SECONDS = 0.5


@workers.callback()
def listed(context: typer.Context, json: Json = False) -> None:
    """List live workers, unless a command follows."""
    if context.invoked_subcommand is None:
        _list(json)


@workers.command("list")
def list_(json: Json = False) -> None:
    """List live workers. Needs the scope fleet:read."""
    _list(json)


@workers.command("drain")
def drain(
    id: Annotated[str, typer.Argument(metavar="ID", help="The worker's id, as `mayfly workers list` prints it.")],
    undo: Annotated[bool, typer.Option("--undo", help="End the drain: the worker takes executions again.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until its executions have ended.")] = False,
    json: Json = False,
) -> None:
    """Have a worker finish its executions, take no more, and remove its warm containers. Needs fleet:write."""
    with connect() as client:
        answer = client.drain_worker(id, undo=undo)
        if wait and not undo:
            _await_drained(client, id)
    if json:
        return print_json(answer)
    typer.echo(f"{id} {'takes executions again' if undo else 'is drained' if wait else 'is draining'}")
    return None


def is_drained(worker: Document) -> bool:
    """Whether a worker takes no more executions, and has neither executions nor warm containers left."""
    return (
        bool(worker["draining"])
        and not worker["executions"]
        and not worker["busy"]
        and not any(worker["pool"].values())
    )


def _await_drained(client: Client, id: str) -> None:
    """Wait for the end of a drain. Raises :class:`CommandFailed` if the worker ends, or another operator undoes it."""
    has_begun = False
    while True:
        worker = next((one for one in client.workers() if one["id"] == id), None)
        if worker is None:
            raise CommandFailed(f"Worker {id} is not alive any more.")
        if is_drained(worker):
            return
        if has_begun and not worker["draining"]:
            raise CommandFailed(f"The drain of {id} was undone.")
        has_begun = bool(worker["draining"])
        time.sleep(POLL_SECONDS)


def _list(json: bool) -> None:
    with connect() as client:
        found = client.workers()
    if json:
        return print_json({"items": found})
    print_table(
        ("ID", "HOST", "VERSION", "SLOTS", "RUNNING", "WARM", "HITS", "STATE", "HEARTBEAT", "ENGINE", "ENVIRONMENTS"),
        [
            (
                w["id"], w["host"], w.get("version"), w["slots"], w["busy"], sum(w["pool"].values()),
                _share(w["warm_starts"], w["cold_starts"]), _state(w), f"{w['heartbeat_age_seconds']:.1f} s ago",
                w["engine"], [offer["name"] for offer in w["environments"]],
            )
            for w in found
        ],
    )  # fmt: skip
    return None


def _state(worker: Document) -> str:
    if not worker["draining"]:
        return "troubled" if worker["trouble"] else "working"
    return "drained" if is_drained(worker) else "draining"


def _share(hits: int, misses: int) -> str:
    return f"{100 * hits // (hits + misses)}%" if hits + misses else "-"
