"""``mayfly doctor``: every setting with its source, and everything the host needs."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from orchestrator.cli.commands.local.checks import all_checks, security_findings
from orchestrator.cli.commands.local.stack import Stack
from orchestrator.cli.connection import Configuration, api_of, located, server_settings
from orchestrator.cli.console import fail_usage, print_json, print_table
from orchestrator.host.posture import Finding
from orchestrator.settings import PREFIX, Settings
from orchestrator.settings.profiles import NAMES, differences

SECRET_FIELDS = frozenset({"token"})
EFFECTIVE = {  # the effective values of empty settings
    "blob_dir": "blobs_path",
    "images_dir": "images_path",
    "sandbox_dir": "sandboxes_path",
    "oci_dir": "oci_path",
    "secret_file": "secret_path",
    "admin_key_file": "admin_key_path",
    "token_keys_file": "token_keys_path",
    "redis_url": "effective_redis_url",
}
DERIVED = frozenset({"installation", "uid_first"})  # derived by `mayfly up` from the state directory
PASSWORDS = re.compile(r"(://[^/@:]*:)[^/]*(?=@)|(password=)[^&]*")  # in URLs
COLOURS = {
    "ok": typer.colors.GREEN,
    "note": typer.colors.YELLOW,
    "missing": typer.colors.RED,
    "weak": typer.colors.YELLOW,
    "broken": typer.colors.RED,
}


def doctor(
    security: Annotated[
        bool, typer.Option("--security", help="Can this host keep Mayfly's promises? Each finding with its remedy.")
    ] = False,
    profile: Annotated[
        str | None,
        typer.Option("--profile", metavar="|".join(NAMES), help="Do the settings follow it? Each difference."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Print every setting with its source, and check this host's requirements; exit 1 if a requirement is missing."""
    settings = server_settings()
    if profile is not None:
        return _print_differences(settings, profile, json)
    here = Stack(located(settings)).as_started()
    findings = list(security_findings(here))
    if security:
        return _print_findings(findings, json)
    rows = setting_rows(settings)
    checks = list(all_checks(here, *api_of(Configuration.from_environment())))
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
        _print_marked([(check.status, check.name, check.detail) for check in checks])
        counts = Counter(finding.status for finding in findings)
        typer.echo(f"\nSecurity: {counts['broken']} broken, {counts['weak']} weak; see `mayfly doctor --security`")
    if any(check.status == "missing" for check in checks):
        raise typer.Exit(1)
    return None


def _print_differences(settings: Settings, profile: str, json: bool) -> None:
    if profile not in NAMES:
        message = f"there is no profile {profile!r}; there are {', '.join(NAMES)}"
        fail_usage(typer.BadParameter(message), "mayfly doctor")
    found = [one._replace(here=PASSWORDS.sub(r"\1\2(secret)", one.here)) for one in differences(settings, profile)]
    if json:
        print_json({"profile": profile, "differences": [difference._asdict() for difference in found]})
    elif found:
        print_table(("SETTING", "HERE", profile.upper(), "WHY"), found)
    else:
        typer.echo(f"Every setting follows the profile {profile!r}.")
    if found:
        raise typer.Exit(1)


def _print_findings(findings: list[Finding], json: bool) -> None:
    broken = [finding for finding in findings if finding.status == "broken"]
    if json:
        print_json({"findings": [finding._asdict() for finding in findings], "broken": len(broken)})
    else:
        rows: list[tuple[str, str, str]] = []
        for finding in findings:
            breaks = f" (promise {finding.promise} of SPECIFICATION.md)" if finding.promise else ""
            rows.append((finding.status, finding.name, finding.detail + breaks))
            if finding.remedy:
                rows.append(("", "", f"  remedy: {finding.remedy}"))
        _print_marked(rows)
    if broken:
        raise typer.Exit(1)


def _print_marked(rows: Sequence[tuple[str, str, str]]) -> None:
    width = max(len(name) for _, name, _ in rows)
    for status, name, detail in rows:
        mark = typer.style(f"{status:<8}", fg=COLOURS.get(status) if sys.stdout.isatty() else None)
        typer.echo(f"{mark}{name:<{width}}  {detail}")


def setting_rows(settings: Settings) -> list[tuple[str, str, str]]:
    """Each setting's variable, value and source. Secrets are named, never shown."""
    rows = []
    here = Stack(located(settings)).as_started()
    for field in type(settings).model_fields:
        value = getattr(settings, field) or getattr(here, EFFECTIVE.get(field, field))
        source = settings.source(field)
        if field in DERIVED and source == "default":
            value, source = getattr(here, field), "from the state directory's path"
        elif field == "state_dir" and source == "default":
            value = here.state_dir
            source = "default" if value.parent == settings.state_dir.absolute().parent else "found upward from here"
        rows.append((PREFIX + field.upper(), shown(field, value), source))
    return rows


def shown(field: str, value: Any) -> str:
    """A setting's value without its secrets: tokens, and passwords in URLs."""
    if value is None or value == "":
        return ""
    if field in SECRET_FIELDS:
        return "(secret, set)"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return PASSWORDS.sub(r"\1\2(secret)", text)
