"""Which API the command line talks to, and with which key."""

from __future__ import annotations

import os
from pathlib import Path

from orchestrator.cli.client import Client
from orchestrator.settings import Settings

STATE_DIR = ".mayfly"
URL_FILE = "url"


def state_dir(settings: Settings) -> Path:
    """The installation's directory: the one set, else the nearest ``.mayfly`` upward, else a new one right here."""
    if "state_dir" in settings.model_fields_set:
        return settings.state_dir.absolute()
    here = Path.cwd()
    for directory in (here, *here.parents):
        found = directory / STATE_DIR
        if found.is_dir() and _trusted(found):
            return found
    return here / STATE_DIR


def located(settings: Settings) -> Settings:
    """The settings with the state directory found by :func:`state_dir`."""
    return settings.model_copy(update={"state_dir": state_dir(settings)})


def api_of(settings: Settings) -> tuple[str, str]:
    """URL and API key: those that are set, else what ``mayfly up`` left.

    The local installation's key is sent to no other URL than its own.
    """
    settings = located(settings)
    own_url = _read(settings.state_dir / URL_FILE)
    url = settings.url if "url" in settings.model_fields_set or not own_url else own_url
    if settings.token:
        return url, settings.token
    local = url.rstrip("/") == (own_url or type(settings).model_fields["url"].default).rstrip("/")
    if local or "admin_key_file" in settings.model_fields_set:
        return url, settings.admin_key() or ""
    return url, ""


def connect(patience_seconds: float = 15.0) -> Client:
    """A client for the API these settings name."""
    return Client(*api_of(Settings()), patience_seconds=patience_seconds)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (FileNotFoundError, PermissionError):
        return ""


def _trusted(directory: Path) -> bool:
    """Whether it is ours: another user's directory further up must not decide where our programs go."""
    return directory.stat().st_uid in (0, os.geteuid())
