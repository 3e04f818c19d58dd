"""The ``mayfly`` command, over :mod:`orchestrator.client`. A command's module is imported when that command is called.

``COMMANDS`` says where each one is: what ``run`` imports decides how soon a program starts.
"""

from __future__ import annotations

import gc
from typing import Annotated, Any

import typer

from orchestrator import __version__
from orchestrator.cli.console import Commands
from orchestrator.cli.lazy import LazyCommands

COMMANDS = {
    "run": "orchestrator.cli.running:run",
    "submit": "orchestrator.cli.running:submit",
    "ls": "orchestrator.cli.reading:ls",
    "show": "orchestrator.cli.reading:show",
    "logs": "orchestrator.cli.reading:logs",
    "cancel": "orchestrator.cli.reading:cancel",
    "environments": "orchestrator.cli.reading:environments",
    "workers": "orchestrator.cli.reading:workers",
    "version": "orchestrator.cli.reading:version",
    "up": "orchestrator.cli.local:up",
    "down": "orchestrator.cli.local:down",
    "events": "orchestrator.cli.events:events",
    "bench": "orchestrator.cli.bench:bench",
    "doctor": "orchestrator.cli.doctor:doctor",
    "engine": "orchestrator.cli.local:engine",
    "keys": "orchestrator.cli.keys:keys",
}
ALLOCATIONS_BETWEEN_COLLECTIONS = 50_000  # imports make much that lasts: looking for garbage is a tenth of a start


class Mayfly(Commands):
    """All commands."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = LazyCommands(COMMANDS)


gc.set_threshold(ALLOCATIONS_BETWEEN_COLLECTIONS)
app = typer.Typer(
    cls=Mayfly,
    name="mayfly",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Runs code that nobody trusts: one container, one execution, then gone.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mayfly {__version__}")
        raise typer.Exit


@app.callback()
def mayfly(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print this command's version.")
    ] = False,
) -> None:
    """Parse what stands before the command's name."""
