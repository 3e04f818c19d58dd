"""Removes old backups, and the remains of interrupted backups. Runs with the lease of a backup."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from orchestrator.backup.catalogue import Entry, entries, interrupted, object_names
from orchestrator.backup.manifest import SUMMARY, place
from orchestrator.backup.targets import Target


class Kept(NamedTuple):
    """The bounds of retention: a backup stays while it is among the newest, or younger than ``days``."""

    newest: int
    days: float


class Removed(NamedTuple):
    """The ids of removed backups, and the number of removed files."""

    backups: tuple[str, ...]
    files: int


def expired(found: Sequence[Entry], kept: Kept, now: datetime) -> list[str]:
    """Ids of the backups that are too old. ``found`` is in order of age, oldest first; the newest usable backup stays.

    Damaged backups count neither as newest nor as too old.
    """
    usable = [entry.summary for entry in found if entry.summary is not None and entry.fault is None]
    young = now - timedelta(days=kept.days)
    return [summary.id for summary in usable[: -max(1, kept.newest)] if summary.snapshot_at < young]


def prune(target: Target, public_key: str, kept: Kept, now: datetime, check: Callable[[], None]) -> Removed:
    """Remove backups that are too old, interrupted backups, and objects that no backup needs.

    Summaries are removed first, so an interrupted removal leaves no backup that looks complete. ``check`` raises once
    the lease is lost: another backup may then be in progress, and its files look like those of an interrupted backup.
    """
    check()
    sizes = target.sizes("backups/")
    found = entries(target, public_key, sizes)
    removed = expired(found, kept, now)
    for id in removed:
        target.delete(place(id, SUMMARY))
    target.flush()
    gone = tuple(place(id, "") for id in (*removed, *interrupted(sizes)))
    needed: set[str] = set()
    for entry in found:
        if entry.id not in removed:
            needed |= object_names(target, entry)
    unwanted = [name for name in sizes if name.startswith(gone)]
    unwanted += [name for name in target.sizes("objects/") if name not in needed]
    for name in unwanted:
        check()
        target.delete(name)
    return Removed(tuple(removed), len(unwanted))
