"""``mayfly audit``: the audit log, its export, and its verification."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Literal

import typer

from mayfly import Client
from mayfly.results import Document
from orchestrator.audit.chain import Link, Seal, Verdict, verify
from orchestrator.audit.export import FORMATS
from orchestrator.cli.commands.events import begin
from orchestrator.cli.connection import connect
from orchestrator.cli.console import Commands, Json, json_text, print_json
from orchestrator.logs import printable

audit = typer.Typer(cls=Commands, no_args_is_help=True, help="Read, export and verify the audit log.")
Since = Annotated[
    str, typer.Option("--since", metavar="TIME", help="Only entries since then: 15m, 2h, 7d or 2026-01-31T12:00:00Z.")
]
LINE = "{time:.19}Z  {outcome:<7}  {principal:<24}  {action:<20}  {resource}"


@audit.command("ls")
def ls(since: Since = "1d", json: Json = False) -> None:
    """Print entries, oldest first."""
    with connect() as client:
        for item in entries(client, since=begin(since)):
            known = {"principal": "-", "resource": "-", **item}
            sys.stdout.write((json_text(item) if json else printable(LINE.format(**known))) + "\n")


@audit.command()
def export(
    since: Since = "400d",
    format: Annotated[Literal["json", "cloudevents", "ocsf"], typer.Option("--format", help="Of each line.")] = "json",
) -> None:
    """Print every entry as a line of JSON."""
    with connect() as client:
        for item in entries(client, since=begin(since)):
            sys.stdout.write(json_text(FORMATS[format](item)) + "\n")


@audit.command("verify")
def verify_log(
    head: Annotated[
        str | None,
        typer.Option(
            "--head",
            metavar="POSITION:HEAD",
            help="A head from a log line (audit.sealed) or a backup, which the chain must contain.",
        ),
    ] = None,
    public_key: Annotated[
        str | None,
        typer.Option("--public-key", help="The public key to verify with, instead of the key that the API gives."),
    ] = None,
    json: Json = False,
) -> None:
    """Verify that no entry was removed, changed or inserted. Exits with 1 if an entry was."""
    known = None if head is None else _head(head)
    with connect() as client:
        first = client.audit_seals(limit=1)
        key = public_key or first["public_key"]
        base = Seal(**first["base"]) if first["base"] else None
        sealed = list(seals(client))  # read before the entries: these seals do not cover entries appended meanwhile
        links = (Link(item["position"], item["stored"].encode()) for item in entries(client))
        found = verify(base, sealed, links, key, known)
    if json:
        print_json({**found._asdict(), "sealed": found.sealed.model_dump(), "public_key": key})
    else:
        typer.echo(_text(found, key))
    if found.faults:
        raise typer.Exit(1)


def entries(client: Client, since: str | None = None) -> Iterator[Document]:
    """Every entry, page by page."""
    return _pages(lambda cursor: client.audit(cursor=cursor, since=since))


def seals(client: Client) -> Iterator[Seal]:
    """Every seal, page by page."""
    return (Seal(**item) for item in _pages(lambda cursor: client.audit_seals(cursor=cursor)))


def _pages(ask: Callable[[str | None], Document]) -> Iterator[Document]:
    cursor = None
    while True:
        page = ask(cursor)
        yield from page["items"]
        cursor = page.get("next_cursor")
        if cursor is None:
            return


def _head(text: str) -> Seal:
    position, colon, head = text.partition(":")
    if not colon:
        raise typer.BadParameter("as in a log line: position, colon, head")
    return Seal(position=position, head=head)


def _text(found: Verdict, key: str) -> str:
    lines = [f"{found.entries} entries, sealed up to {found.sealed.position}, {found.unsealed} not sealed yet."]
    lines.append(f"Head {found.sealed.position}:{found.sealed.head}, public key {key}.")
    return "\n".join([*lines, *found.faults])
