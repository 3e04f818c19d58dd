"""The ``mayfly`` command. :class:`orchestrator.cli.client.Client` is also the Python SDK."""

from __future__ import annotations

import typer

from orchestrator.cli import local, reading, running
from orchestrator.cli.bench import bench
from orchestrator.cli.console import Commands
from orchestrator.cli.doctor import doctor
from orchestrator.cli.events import events
from orchestrator.cli.keys import keys

app = typer.Typer(
    cls=Commands,
    name="mayfly",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Runs code that nobody trusts: one container, one execution, then gone.",
)
for command in (running.run, running.submit):
    app.command()(command)
for reader in (
    reading.ls, reading.show, reading.logs, reading.cancel, reading.environments, reading.workers, reading.version,
):  # fmt: skip
    app.command()(reader)
for starter in (local.up, local.down):
    app.command()(starter)
app.command()(events)
app.command()(bench)
app.command()(doctor)
app.add_typer(local.engine, name="engine", hidden=True)
app.add_typer(keys, name="keys")
