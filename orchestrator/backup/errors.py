"""Failures of backups. Each message names the remedy."""

from __future__ import annotations


class BackupError(Exception):
    """A backup cannot be made, read or restored."""


class Damaged(BackupError):
    """A part of a backup is missing or damaged."""


class Occupied(BackupError):
    """The installation to restore into is not empty."""
