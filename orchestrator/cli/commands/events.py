"""``mayfly events``: security events, live."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from mayfly.results import Document
from orchestrator.cli.connection import connect
from orchestrator.cli.console import Json, json_text, note, print_json
from orchestrator.logs import printable

PATIENCE_SECONDS = 300.0  # a follower must survive an upgrade of the API
DURATION = re.compile(r"(\d{1,5})([smhd])", re.ASCII)
TELLING = ("process", "syscall", "family", "path", "why", "count")  # fields that an event's sentence may omit
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def events(
    id: Annotated[
        str | None, typer.Argument(metavar="ID", help="Only events of this execution, with its states.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow new events until interrupted.")] = False,
    kind: Annotated[str | None, typer.Option("--kind", metavar="KIND", help="Only events of this kind.")] = None,
    since: Annotated[
        str,
        typer.Option(
            "--since", metavar="TIME", help="Only events since then: 30s, 15m, 2h, 7d or 2026-01-31T12:00:00Z."
        ),
    ] = "1d",
    json: Json = False,
) -> None:
    """Print security events, oldest first; operators see those of every tenant. With ID, all events of an execution.

    With -f and --json each event is one line.
    """
    if id is not None and (follow or kind):
        raise typer.BadParameter("with ID neither -f nor --kind; `mayfly logs -f ID` follows an execution")
    with connect(PATIENCE_SECONDS if follow else 15.0) as client:
        events = client.events(id) if id is not None else client.watch(kind=kind, since=begin(since), follow=follow)
        found = (event.document for event in events)
        if json and not follow:
            return print_json({"items": list(found)})
        number = 0
        for number, event in enumerate(found, 1):  # noqa: B007 - counts
            sys.stdout.write((json_text(event) if json else line(event)) + "\n")
            sys.stdout.flush()
    if not number:
        note(
            f"No events since {since} ago; --since looks further back."
            if DURATION.fullmatch(since)
            else "None since then."
        )
    return None


def begin(since: str) -> str:
    """A time in the API's format: a duration is subtracted from now; the API checks any other text."""
    ago = duration(since)
    if ago is None:
        return since
    return (datetime.now(UTC) - ago).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def duration(text: str) -> timedelta | None:
    """A time such as 15m, 2h or 7d; ``None`` for other text."""
    found = DURATION.fullmatch(text)
    return timedelta(**{UNITS[found[2]]: int(found[1])}) if found else None


def line(event: Document) -> str:
    """One event as a line of text. Programs choose parts of it, so control characters are escaped."""
    data = event.get("data") or {}
    kind = str(event["type"]).rpartition(".")[2]
    detail = data.get("detail") or f"attempt {data.get('attempt')}"
    more = ", ".join(f"{name} {data[name]}" for name in TELLING if data.get(name) not in (None, ""))
    text = f"{detail} ({more})" if more else detail
    return printable(f"{str(event['time'])[:19]}Z  {kind:<19}  {event.get('subject') or '-':<32}  {text}")
