"""``mayfly doctor``: every setting with its source, and everything the host needs."""

from __future__ import annotations

import sys
from typing import Annotated, Any
from urllib.parse import urlsplit, urlunsplit

import typer

from orchestrator.cli.checks import all_checks
from orchestrator.cli.connection import api_of, located
from orchestrator.cli.console import print_json, print_table
from orchestrator.settings import PREFIX, Settings

SECRET_FIELDS = frozenset({"token"})
EFFECTIVE = {  # what an empty setting stands for
    "blob_dir": "blobs_path",
    "images_dir": "images_path",
    "sandbox_dir": "sandboxes_path",
    "secret_file": "secret_path",
    "admin_key_file": "admin_key_path",
    "redis_url": "effective_redis_url",
}
COLOURS = {"ok": typer.colors.GREEN, "note": typer.colors.YELLOW, "missing": typer.colors.RED}


def doctor(json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False) -> None:
    """Print every setting and where it comes from, and check what this host needs; exit 1 if something is missing."""
    settings = Settings()
    here = located(settings)
    rows = setting_rows(settings)
    checks = list(all_checks(here, *api_of(settings)))
    if json:
        titles = ("name", "value", "source")
        print_json(
            {
                "settings": [dict(zip(titles, row, strict=True)) for row in rows],
                "checks": [check._asdict() for check in checks],
            }
        )
    else:
        print_table(("SETTING", "VALUE", "SOURCE"), rows)
        typer.echo()
        width = max(len(check.name) for check in checks)
        for check in checks:
            mark = typer.style(f"{check.status:<8}", fg=COLOURS[check.status] if sys.stdout.isatty() else None)
            typer.echo(f"{mark}{check.name:<{width}}  {check.detail}")
    if any(check.status == "missing" for check in checks):
        raise typer.Exit(1)


def setting_rows(settings: Settings) -> list[tuple[str, str, str]]:
    """Each setting's variable, value and source. Secrets are named, never shown."""
    rows = []
    here = located(settings)
    for field in type(settings).model_fields:
        value = getattr(settings, field) or getattr(here, EFFECTIVE.get(field, field))
        source = settings.source(field)
        if field == "state_dir" and source == "default":
            value = here.state_dir
            source = "default" if value.parent == settings.state_dir.absolute().parent else "found upward from here"
        rows.append((PREFIX + field.upper(), shown(field, value), source))
    return rows


def shown(field: str, value: Any) -> str:
    """A setting's value without what must stay secret: tokens, and passwords in URLs."""
    if value is None or value == "":
        return ""
    if field in SECRET_FIELDS:
        return "(secret, set)"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    parts = urlsplit(text) if "://" in text else None
    if parts is not None and parts.password:
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:(secret)@{host}"))
    return text
