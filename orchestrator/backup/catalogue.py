"""The backups in a target, by their unencrypted parts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import IO, NamedTuple

from pydantic import ValidationError

from orchestrator.backup.errors import BackupError, Damaged
from orchestrator.backup.manifest import FORMAT, OBJECTS, SUMMARY, Summary, found_ids, is_signed, place
from orchestrator.backup.targets import Target

LONGEST_SUMMARY = 2**20


class Entry(NamedTuple):
    """A complete backup. ``fault`` is what makes it unusable, as far as names and sizes show."""

    id: str
    summary: Summary | None
    fault: str | None


def entries(target: Target, public_key: str | None, sizes: Mapping[str, int]) -> list[Entry]:
    """Every complete backup, oldest first. With ``public_key``, backups of other installations have a fault."""
    found = [_entry(target, id, public_key, sizes) for id, is_complete in found_ids(sizes).items() if is_complete]
    return sorted(found, key=lambda entry: entry.summary.snapshot_at.timestamp() if entry.summary else 0.0)


def interrupted(sizes: Mapping[str, int]) -> list[str]:
    """Ids of incomplete backups: interrupted backups, and a backup in progress."""
    return [id for id, is_complete in found_ids(sizes).items() if not is_complete]


def chosen(target: Target, id: str | None, public_key: str | None) -> Summary:
    """The backup with an id; ``None``: the newest. Raises :class:`BackupError` without a usable backup."""
    sizes = target.sizes("backups/")
    found = entries(target, public_key, sizes)
    wanted = [entry for entry in found if id is None or entry.id == id]
    if not wanted:
        left = " It was interrupted before its end." if id in interrupted(sizes) else ""
        raise BackupError(f"The target has no backup {id}.{left}" if id else "The target has no backup.")
    _, summary, fault = wanted[-1]
    if summary is None or fault is not None:
        raise Damaged(f"Backup {wanted[-1].id} cannot be used: {fault}.")
    return summary


def object_names(target: Target, entry: Entry) -> set[str]:
    """The names of the objects that a backup needs. Raises :class:`Damaged`: without the list all objects stay."""
    stream: IO[bytes]
    with target.open(place(entry.id, OBJECTS)) as stream:
        data = stream.read()
    part = None if entry.summary is None else entry.summary.parts.get(OBJECTS)
    if part is None or hashlib.sha256(data).hexdigest() != part.sha256:
        raise Damaged(f"The list of objects of backup {entry.id} is damaged. Remove that backup's directory yourself.")
    return set(data.decode("ascii").splitlines())


def _entry(target: Target, id: str, public_key: str | None, sizes: Mapping[str, int]) -> Entry:
    stream: IO[bytes]
    with target.open(place(id, SUMMARY)) as stream:
        text = stream.read(LONGEST_SUMMARY)
    try:
        summary = Summary.model_validate_json(text)
    except ValidationError:
        return Entry(id, None, "its summary is not readable by this version")
    wrong = [name for name, part in summary.parts.items() if sizes.get(place(id, name)) != part.size]
    if summary.format != FORMAT or summary.id != id:
        return Entry(id, summary, "its summary is of another backup or format")
    if public_key is not None and not is_signed(summary, public_key):
        return Entry(id, summary, "it was not made by this installation")
    if wrong:
        return Entry(id, summary, f"{', '.join(wrong)} is missing or cut off")
    return Entry(id, summary, None)
