"""Commands that look at executions and environments, and ``cancel``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mayfly import MayflyError
from mayfly.results import Document
from orchestrator import __version__
from orchestrator.cli.commands.executions.running import save_artifacts, stream
from orchestrator.cli.connection import connect
from orchestrator.cli.console import Json, human_bytes, print_json, print_table
from orchestrator.cli.verdict import explanation, left_out

Id = Annotated[str, typer.Argument(metavar="ID", help="The execution's id.")]
SHOWN_FINDINGS = 5
SHOWN_CHARACTERS = 200  # shown of a result
SHOWN = (
    "id", "state", "reason", "fault", "message", "environment", "isolation", "runtime", "start", "exit_code", "signal",
    "attempt", "security_events", "created_at", "started_at", "finished_at", "expires_at", "cancel_requested_at",
)  # fmt: skip


def ls(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=200, help="At most this many.")] = 20,
    state: Annotated[str | None, typer.Option("--state", help="Only executions in this state.")] = None,
    env: Annotated[str | None, typer.Option("--env", help="Only executions of this environment.")] = None,
    json: Json = False,
) -> None:
    """List executions, newest first."""
    with connect() as client:
        page = client.page(limit=limit, state=state, environment=env)
        found = list(page.items)
        # A page of a filtered list may be incomplete, since one request examines a bounded number of executions.
        while len(found) < limit and page.next_cursor:
            page = client.page(limit=limit - len(found), cursor=page.next_cursor, state=state, environment=env)
            found += page.items
    if json:
        return print_json({**page.document, "items": [execution.document for execution in found]})
    print_table(
        ("ID", "STATE", "REASON", "ENVIRONMENT", "EXIT", "CREATED"),
        [(e.id, e.state, e.reason, e.environment, e.exit_code, str(e.document["created_at"])[:19]) for e in found],
    )
    return None


def show(
    id: Id,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Save its artifacts here.")] = None,
    json: Json = False,
) -> None:
    """Show an execution's result; with --out save its artifacts."""
    with connect() as client:
        execution = client.get(id)
        complete = save_artifacts(client, execution, out) if out is not None else True
    if json:
        print_json(execution.document)
    else:
        document = execution.document
        rows = [(name, document[name]) for name in SHOWN if document.get(name) is not None]
        if why := explanation(execution) if execution.is_finished else document.get("wait_reason"):
            rows.append(("why", why))
        for group in ("limits", "usage", "timings"):
            values = document.get(group) or {}
            rows += [(f"{group}.{name}", _short(value)) for name, value in values.items() if value is not None]
        rows += _policy(execution.policy)
        rows += [("result", f"{result.source}: {result.text[:SHOWN_CHARACTERS]}") for result in execution.results]
        for artifact in execution.artifacts:
            rows.append(("artifact", f"{artifact.path} ({human_bytes(artifact.size)})"))
        rows += [("left out", line) for line in left_out(execution)]
        print_table(("FIELD", "VALUE"), rows)
    if not complete:
        raise typer.Exit(1)


def logs(
    id: Id,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow the output until the execution ends.")] = False,
    json: Json = False,
) -> None:
    """Print an execution's output, byte for byte."""
    with connect() as client:
        if json:
            return print_json((client.wait(id) if follow else client.get(id)).document)
        if follow:
            return stream(client, id)
        for name, target in (("stdout", sys.stdout), ("stderr", sys.stderr)):
            target.buffer.write(client.output(id, name))
            target.buffer.flush()
    return None


def cancel(id: Id, json: Json = False) -> None:
    """Cancel an execution; does nothing if it has ended."""
    with connect() as client:
        try:
            execution = client.cancel(id)
        except MayflyError as error:
            if error.code != "already_finished":
                raise
            execution = client.get(id)
    if json:
        print_json(execution.document)
    else:
        typer.echo(f"{id} {execution.state if execution.is_finished else 'is being cancelled'}")


def environments(json: Json = False) -> None:
    """List the environments."""
    with connect() as client:
        document = client.document("environments")
    if json:
        return print_json(document)
    print_table(
        ("NAME", "VERSION", "ALIASES", "ISOLATION", "IMAGE", "SIZE", "DESCRIPTION"),
        [
            (
                e["name"], e["version"], e["aliases"], e["isolation"], (e["image"] or "")[:19],
                human_bytes(e["size_bytes"]), e["description"],
            )
            for e in document["items"]
        ],
    )  # fmt: skip
    return None


def version(json: Json = False) -> None:
    """Print the versions of this command and of its API."""
    found: dict[str, object] = {"mayfly": __version__, "api": None}
    try:
        with connect() as client:
            found["api"] = client.versions()["versions"]
    except MayflyError:
        pass  # a failure is the moment at which users need the version
    if json:
        return print_json(found)
    spoken = found["api"] if isinstance(found["api"], list) else []
    typer.echo(f"mayfly {__version__} (API: {', '.join(v['version'] for v in spoken) or 'not reached'})")
    return None


def _policy(report: Document | None) -> list[tuple[str, object]]:
    """The first findings of the static policy, as rows."""
    if report is None:
        return []
    findings = report["findings"]
    count = len(findings) + report["omitted"]
    rows: list[tuple[str, object]] = [("policy", f"{report['mode']}, {count} finding{'s' * (count != 1)}")]
    for found in findings[:SHOWN_FINDINGS]:
        place = ":".join(str(part) for part in (found["file"], found["line"], found["column"]) if part is not None)
        rows.append(("finding", f"{place} {found['rule']}"))
    if count > SHOWN_FINDINGS:
        rows.append(("finding", f"and {count - SHOWN_FINDINGS} more; --json has them"))
    return rows


def _short(value: object) -> object:
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
