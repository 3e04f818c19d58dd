"""The ``mayfly`` command, over :mod:`mayfly`. A command's module is imported when that command is called.

``COMMANDS`` has the module of each command: the imports of ``run`` determine how soon a program starts.
"""

from __future__ import annotations

import atexit
import gc
from typing import Annotated, Any

import typer

from orchestrator import __version__
from orchestrator.cli.console import Commands
from orchestrator.cli.lazy import LazyCommands

COMMANDS = {
    "run": "orchestrator.cli.commands.executions.running:run",
    "submit": "orchestrator.cli.commands.executions.running:submit",
    "ls": "orchestrator.cli.commands.executions.reading:ls",
    "show": "orchestrator.cli.commands.executions.reading:show",
    "logs": "orchestrator.cli.commands.executions.reading:logs",
    "cancel": "orchestrator.cli.commands.executions.reading:cancel",
    "environments": "orchestrator.cli.commands.executions.reading:environments",
    "workers": "orchestrator.cli.commands.workers:workers",
    "version": "orchestrator.cli.commands.executions.reading:version",
    "up": "orchestrator.cli.commands.local.up:up",
    "down": "orchestrator.cli.commands.local.up:down",
    "status": "orchestrator.cli.commands.local.embedded.status:status",
    "events": "orchestrator.cli.commands.events:events",
    "bench": "orchestrator.cli.commands.bench:bench",
    "doctor": "orchestrator.cli.commands.local.doctor:doctor",
    "engine": "orchestrator.cli.commands.local.up:engine",
    "host": "orchestrator.cli.commands.hosts.group:host",
    "images": "orchestrator.cli.commands.local.images:images",
    "keys": "orchestrator.cli.commands.keys:keys",
    "tenants": "orchestrator.cli.commands.tenants:tenants",
    "login": "orchestrator.cli.commands.identity.login:login",
    "logout": "orchestrator.cli.commands.identity.login:logout",
    "users": "orchestrator.cli.commands.identity.users:users",
    "admin": "orchestrator.cli.commands.identity.admin:admin",
    "switches": "orchestrator.cli.commands.switches:switches",
    "quotas": "orchestrator.cli.commands.quotas:quotas",
    "usage": "orchestrator.cli.commands.usage:usage",
    "backup": "orchestrator.cli.commands.backup.group:backup",
    "smoke": "orchestrator.cli.commands.smoke:smoke",
    "upgrade": "orchestrator.cli.commands.upgrade.group:upgrade",
    "audit": "orchestrator.cli.commands.audit:audit",
    "tools": "orchestrator.cli.commands.tools.group:tools",
    "mcp": "orchestrator.cli.commands.agents.mcp:mcp",
}
ALLOCATIONS_BETWEEN_COLLECTIONS = 50_000  # imports make lasting objects: collections would take a tenth of a start


class Mayfly(Commands):
    """All commands."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = LazyCommands(COMMANDS)


gc.set_threshold(ALLOCATIONS_BETWEEN_COLLECTIONS)
atexit.register(gc.freeze)  # the interpreter's last collections would waste a fifth of a command's time
app = typer.Typer(
    cls=Mayfly,
    name="mayfly",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Runs untrusted code: one container for each execution, destroyed afterwards.",
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
    """Parse the options before the command's name."""
