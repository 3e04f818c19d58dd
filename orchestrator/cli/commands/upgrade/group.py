"""``mayfly upgrade``: check whether the data can be migrated, migrate, and go back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from orchestrator.backup.errors import BackupError
from orchestrator.cli.commands.local.stack import Stack
from orchestrator.cli.connection import located, server_settings
from orchestrator.cli.console import CommandFailed, Commands, Json, human_bytes, print_json, print_table
from orchestrator.cli.verdict import MISTAKE
from orchestrator.errors import MayflyError
from orchestrator.migrations.applying import PATIENCE_SECONDS, MigrationRefused
from orchestrator.migrations.checking import Report, check
from orchestrator.migrations.upgrading import opened
from orchestrator.migrations.upgrading import upgrade as upgrade_data
from orchestrator.settings import Settings
from orchestrator.store.platform.schema import NUMBER

SHOWN_LINES = 10
upgrade = typer.Typer(cls=Commands, no_args_is_help=True, help="Migrate the data to this version, and back.")
Wait = Annotated[
    float,
    typer.Option("--wait", metavar="SECONDS", help="Longest wait for running processes of the old schema to end."),
]


@upgrade.command("check")
def check_upgrade(json: Json = False) -> None:
    """Print versions, schemas, room and running processes. Exits with 1 if the data cannot be migrated now."""
    with _failures(), opened(_settings()) as context:
        report, logged = check(context), context.store.schema.logged()[-SHOWN_LINES:]
    if json:
        print_json(_document(report, logged))
    else:
        _print(report, logged)
    if report.refusals:
        raise typer.Exit(1)


@upgrade.command()
def apply(wait: Wait = PATIENCE_SECONDS) -> None:
    """Migrate the data to the schema of this version. Repeat the command if it was interrupted."""
    _migrate(NUMBER, wait)


@upgrade.command()
def back(
    to: Annotated[int, typer.Option("--to", min=1, help="The schema of the version to return to.")] = NUMBER - 1,
    wait: Wait = PATIENCE_SECONDS,
) -> None:
    """Migrate the data back to the schema of an earlier version, which can then be started."""
    if to > NUMBER:
        raise CommandFailed(
            f"This version has schema {NUMBER}; only `mayfly upgrade apply` of a later one makes {to}.", MISTAKE
        )
    _migrate(to, wait)


def _migrate(wanted: int, wait: float) -> None:
    settings = _settings()
    with _failures(), Stack(settings).locked():
        found = upgrade_data(settings, wanted, typer.echo, wait)
    typer.echo(f"The data has schema {wanted}{'' if found != wanted else ', as before'}.")


def _settings() -> Settings:
    return located(server_settings())


def _document(report: Report, logged: list[tuple[int, str]]) -> dict[str, Any]:
    processes = [process._asdict() for process in report.processes]
    refusals = [refusal._asdict() for refusal in report.refusals]
    steps = [{"time": _time(seconds), "step": text} for seconds, text in logged]
    return {**report._asdict(), "processes": processes, "refusals": refusals, "log": steps}


def _print(report: Report, logged: list[tuple[int, str]]) -> None:
    typer.echo(f"Version     {report.version}")
    begun = f", and a migration to {report.target} has begun" if report.target is not None else ""
    typer.echo(f"Schema      {report.found}{begun}; this version has {report.wanted}")
    free = "no bound" if report.redis_free_bytes is None else f"{human_bytes(report.redis_free_bytes)} free"
    typer.echo(f"Redis       {free}; {human_bytes(report.redis_needed_bytes)} needed")
    for name, size in report.disk_free_bytes.items():
        typer.echo(f"Disk        {name}: {human_bytes(size)} free")
    for name in report.migrations:
        typer.echo(f"Migration   {name}")
    print_table(("KIND", "VERSION", "SCHEMA", "ID"), [(p.kind, p.version, p.schema, p.id) for p in report.processes])
    for seconds, text in logged:
        typer.echo(f"{_time(seconds)}  {text}")
    if report.refusals:
        typer.echo("\n".join(f"{refusal.code}: {refusal.message}" for refusal in report.refusals))
    elif report.found == report.wanted and report.target is None:
        typer.echo("Nothing to migrate.")
    else:
        typer.echo("Ready. Make a backup, then type: mayfly upgrade apply")


def _time(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except (MigrationRefused, BackupError, OSError, MayflyError) as error:
        raise CommandFailed(str(error)) from error
