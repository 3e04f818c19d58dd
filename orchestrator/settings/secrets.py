"""Secrets in files."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from orchestrator.models import key_format


def create_secret_file(path: Path, prefix: str = "") -> str:
    """Write a new random secret with mode 600 unless the file exists; returns the file's content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text(encoding="ascii").strip()
    value = key_format.new_secret() if prefix == key_format.PREFIX else prefix + secrets.token_urlsafe(32)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(value + "\n")
    return value
