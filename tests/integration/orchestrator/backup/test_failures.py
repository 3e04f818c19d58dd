"""Backups of installations in which something is wrong: refused, or complete all the same; never cut short."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest

from orchestrator.backup.creation.creating import Creator
from orchestrator.backup.creation.hold import Hold
from orchestrator.backup.creation.retention import Kept
from orchestrator.backup.errors import BackupError
from orchestrator.backup.manifest import SUMMARY, place
from orchestrator.store import keys, open_store
from tests.builders.backups.installations import Backups, Source, contents_of, ended, prepare, seal_entries
from tests.harness import RedisServer


def numbered(server: RedisServer, database: int) -> RedisServer:
    """The same server, with another database."""
    other = RedisServer(server.directory)
    other.url = f"{server.url}?db={database}"
    return other


def test_backup_of_a_numbered_database_is_restored_into_another(
    source: Source, backups: Backups, empty: RedisServer, tmp_path: Path
) -> None:
    """Database 0 of the same Redis is another program's."""
    settings = source.settings.model_copy(update={"redis_url": f"{source.settings.redis_url}?db=3"})
    store = open_store(settings)
    id = ended(store, b"of database 3")
    seal_entries(settings, store, 2)
    store.redis.close()
    made = backups.create(settings).summary
    found = backups.verify(settings, made.id)
    assert (found.executions, found.audit_entries, found.faults) == ({"succeeded": 1}, 2, ())
    there = backups.settings(tmp_path / "other", numbered(empty, 5))
    backups.restore(there, made.id)
    values, restored = contents_of(settings)[1], contents_of(there)[1]
    assert restored.keys() == values.keys()
    assert keys.execution(id).encode() in restored


def test_blob_directory_that_cannot_be_listed_fails_the_backup(
    source: Source, backups: Backups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel refuses nothing to root, so the refusal is made here."""
    directory = source.settings.blobs_path / "artifacts" / source.ended[0]
    listed = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path) == directory:
            raise PermissionError(13, "Permission denied", str(directory))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError):
        backups.create(source.settings)
    assert not [name for name in backups.target.sizes("backups/") if name.endswith(SUMMARY)]


def test_missing_blob_directory_fails_the_backup_of_executions(
    source: Source, backups: Backups, empty: RedisServer, tmp_path: Path
) -> None:
    settings = source.settings.model_copy(update={"blob_dir": tmp_path / "not-mounted"})
    with pytest.raises(BackupError, match="MAYFLY_BLOB_DIR"):
        backups.create(settings)
    fresh = backups.settings(tmp_path / "fresh-state", empty)
    prepare(fresh)
    other = Backups(tmp_path / "fresh-state", str(tmp_path / "other-backups"))
    assert Creator(fresh, other.target).create(Kept(9, 0)).summary.files == 0


def test_lost_lease_is_not_taken_again(source: Source) -> None:
    """As after a fail-over to a replica that had not got it."""
    with Hold(source.store.deletions, "one") as hold:
        hold.check()
        source.store.redis.delete(keys.BACKUP)
        for _ in range(2):
            with pytest.raises(BackupError, match="begin the backup again"):
                hold.check()
        assert not source.store.deletions.are_paused()
        assert source.store.deletions.pause("another", 60)
    assert source.store.deletions.are_paused(), "the end of one backup does not end the other's pause"


def test_retention_removes_nothing_without_the_lease(source: Source, backups: Backups) -> None:
    """Another backup may be made then, whose files look like those of an interrupted one."""
    first = backups.create(source.settings).summary
    creator, target = Creator(source.settings, backups.target), backups.target
    put = target.put

    def lose_lease_at_the_end(name: str, stream: Any) -> None:
        put(name, stream)
        if name.endswith(SUMMARY):
            put("backups/20990101T000000Z-abcdef/redis.age", stream)
            source.store.redis.set(keys.BACKUP, "20990101T000000Z-abcdef", ex=60)

    target.put = lose_lease_at_the_end  # type: ignore[method-assign]
    with pytest.raises(BackupError, match="begin the backup again"):
        creator.create(Kept(1, 0))
    left = target.sizes("backups/").keys()
    assert {place(first.id, SUMMARY), "backups/20990101T000000Z-abcdef/redis.age"} <= left


def test_retention_stops_when_the_lease_ends(source: Source, backups: Backups) -> None:
    """In the middle of its removals: at most the one that runs ends."""
    for name in "abc":
        backups.target.put(f"objects/{name}/{name}", io.BytesIO(b"unneeded"))
    creator, target = Creator(source.settings, backups.target), backups.target
    delete, deleted = target.delete, []

    def lose_lease(name: str) -> None:
        delete(name)
        deleted.append(name)
        source.store.redis.delete(keys.BACKUP)

    target.delete = lose_lease  # type: ignore[method-assign]
    with pytest.raises(BackupError, match="begin the backup again"):
        creator.create(Kept(1, 0))
    assert len(deleted) == 1
