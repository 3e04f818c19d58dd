"""``mayfly backup``: make, list, verify and restore backups."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.backup.catalogue import Entry, chosen, entries, interrupted
from orchestrator.backup.creation.creating import Creator, Made
from orchestrator.backup.creation.retention import Kept
from orchestrator.backup.creation.schedule import Schedule
from orchestrator.backup.encryption import Identities, write_identity
from orchestrator.backup.errors import BackupError
from orchestrator.backup.restoration.reading import Reader
from orchestrator.backup.restoration.restoring import restore as restore_backup
from orchestrator.backup.restoration.verifying import verify_backup
from orchestrator.backup.targets import Target, open_target
from orchestrator.cli.commands.events import duration
from orchestrator.cli.commands.local.stack import Stack
from orchestrator.cli.connection import located, server_settings
from orchestrator.cli.console import CommandFailed, Commands, Json, complain, human_bytes, note, print_json, print_table
from orchestrator.errors import MayflyError
from orchestrator.logs import configure_logging
from orchestrator.settings import Settings

backup = typer.Typer(cls=Commands, no_args_is_help=True, help="Make, list, verify and restore backups.")
Where = Annotated[
    str, typer.Option("--target", metavar="DIRECTORY|s3://BUCKET/PREFIX", help="Instead of MAYFLY_BACKUP_TARGET.")
]
Identity = Annotated[
    Path, typer.Option("--identity", metavar="FILE", help="The identity of age that the backup was encrypted to.")
]
Id = Annotated[str | None, typer.Argument(metavar="[ID]", help="The backup; without it, the newest.")]
Keep = Annotated[int, typer.Option("--keep", min=1, help="Number of newest backups to keep.")]
Days = Annotated[float, typer.Option("--days", help="Also keep all younger backups.")]
PublicKey = Annotated[
    str | None,
    typer.Option("--public-key", help="Accept only backups of the installation with this key, as `create` prints it."),
]


@backup.command()
def keygen(file: Annotated[Path, typer.Argument(help="New file of the identity. Keep it off this host.")]) -> None:
    """Make an identity of age, as age-keygen does, and print the public key for MAYFLY_BACKUP_RECIPIENTS."""
    with _failures():
        typer.echo(write_identity(file))


@backup.command()
def create(target: Where = "", keep: Keep = 7, days: Days = 0.0, json: Json = False) -> None:
    """Make a backup of the running installation, and remove backups that are too old."""
    with _failures():
        settings, place = _opened(target)
        creator = Creator(settings, place)
        made = creator.create(Kept(keep, days), note)
    if json:
        return print_json(_document(made, creator.keys.public_key))
    typer.echo(_text(made))
    typer.echo(f"Signed with {creator.keys.public_key}.")
    return None


@backup.command("list")
def list_backups(
    target: Where = "",
    max_age: Annotated[
        str | None, typer.Option("--max-age", metavar="26h", help="Exit with 1 if no usable backup is younger.")
    ] = None,
    public_key: PublicKey = None,
    json: Json = False,
) -> None:
    """List complete backups, oldest first. Interrupted backups are only counted."""
    since = None if max_age is None else datetime.now(UTC) - _duration(max_age)
    with _failures():
        _, place = _opened(target)
        sizes = place.sizes("backups/")
        found = entries(place, public_key, sizes)
    left = interrupted(sizes)
    if json:
        print_json({"items": [_shown(entry) for entry in found], "interrupted": left})
    else:
        columns = ("ID", "SNAPSHOT", "FILES", "BYTES", "NEW", "AUDIT HEAD", "STATE")
        print_table(columns, [_row(entry) for entry in found])
        if left:
            complain(f"{len(left)} interrupted or unfinished: {', '.join(left)}; the next backup removes them.")
    times = [entry.summary.snapshot_at for entry in found if entry.summary is not None and entry.fault is None]
    if since is not None and not any(time > since for time in times):
        raise CommandFailed(f"No usable backup is younger than {max_age}.")


@backup.command()
def verify(
    identity: Identity, id: Id = None, target: Where = "", public_key: PublicKey = None, json: Json = False
) -> None:
    """Restore a backup into a fresh Redis, and compare; read every file. Exits with 1 if anything is wrong."""
    with _failures():
        settings, place = _opened(target)
        reader = Reader(place, chosen(place, id, public_key), Identities(identity))
        found = verify_backup(reader, settings, note)
    if json:
        print_json(found._asdict())
    else:
        states = ", ".join(f"{count} {state}" for state, count in found.executions.items()) or "none"
        typer.echo(
            f"{found.id}: {found.keys} keys, {found.files} files, executions: {states}; "
            f"{found.audit_entries} audit entries; {found.seconds:.1f} s."
        )
        typer.echo("\n".join(found.faults) or "All of it can be restored.")
    if found.faults:
        raise typer.Exit(1)


@backup.command()
def restore(identity: Identity, id: Id = None, target: Where = "", public_key: PublicKey = None) -> None:
    """Restore a backup into this installation, which must be empty and not running. Then start it."""
    with _failures():
        settings, place = _opened(target)
        reader = Reader(place, chosen(place, id, public_key), Identities(identity))
        stack = Stack(settings)
        with stack.locked(), stack.redis_alone():
            done = restore_backup(reader, settings, note)
    typer.echo(
        f"Restored {reader.summary.id}: {done.keys} keys, {done.files} files. The backup is of "
        f"{reader.summary.snapshot_at:%Y-%m-%d %H:%M:%S} UTC, {timedelta(seconds=round(done.outage_seconds))} ago; "
        "executions that were accepted later are unknown."
    )
    if done.images:
        typer.echo(f"Images to build (`make images`, or `mayfly up`): {', '.join(sorted(done.images))}.")


@backup.command()
def schedule(
    every: Annotated[str, typer.Option("--every", metavar="6h", help="Time between two backups: 15m, 6h, 1d.")] = "6h",
    target: Where = "",
    keep: Keep = 28,
    days: Days = 0.0,
) -> None:
    """Make backups at intervals until SIGTERM, with a log line each. Run it as a service, or `create` by a timer."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with _failures():
        settings, place = _opened(target)
        configure_logging(settings.log_level)
        loop = Schedule(Creator(settings, place), place, _duration(every), Kept(keep, days), stopped)
        loop.run(lambda made: _print_line(_text(made)))


def _opened(target: str) -> tuple[Settings, Target]:
    settings = located(server_settings())
    return settings, open_target(target or settings.backup_target)


def _duration(text: str) -> timedelta:
    found = duration(text)
    if not found:
        raise typer.BadParameter(f"{text!r} is not a time such as 15m, 6h or 1d")
    return found


def _document(made: Made, public_key: str) -> dict[str, Any]:
    removed = made.removed._asdict()
    return {**made.summary.model_dump(mode="json"), "public_key": public_key, "removed": removed}


def _text(made: Made) -> str:
    summary, removed = made
    old = f"; removed {', '.join(removed.backups)}" if removed.backups else ""
    return (
        f"{summary.id}: {summary.files} files, {human_bytes(summary.bytes)}; new: {summary.new_objects}, "
        f"{human_bytes(summary.new_bytes)}; audit head {summary.audit.position}:{summary.audit.head}{old}"
    )


def _shown(entry: Entry) -> dict[str, Any]:
    document = entry.summary.model_dump(mode="json") if entry.summary else {"id": entry.id}
    return {**document, "fault": entry.fault}


def _row(entry: Entry) -> tuple[Any, ...]:
    state = entry.fault or "complete"
    if (summary := entry.summary) is None:
        return (entry.id, None, None, None, None, None, state)
    head = f"{summary.audit.position}:{summary.audit.head}"
    new = human_bytes(summary.new_bytes)
    return (
        entry.id,
        f"{summary.snapshot_at:%Y-%m-%dT%H:%M:%SZ}",
        summary.files,
        human_bytes(summary.bytes),
        new,
        head,
        state,
    )


def _print_line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except (BackupError, OSError, MayflyError) as error:
        raise CommandFailed(str(error)) from error
