"""Backups of installations in which something is wrong: refused, or complete all the same; never cut short."""

from __future__ import annotations

import io
import os
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from orchestrator.backup.creation import lease
from orchestrator.backup.creation.creating import Creator
from orchestrator.backup.creation.lease import BackupLease
from orchestrator.backup.creation.retention import Kept
from orchestrator.backup.errors import BackupError, Damaged
from orchestrator.backup.manifest import CONTENTS, SUMMARY, Keys, place
from orchestrator.backup.restoration.restoring import restore
from orchestrator.backup.restoration.transfer import copy
from orchestrator.identity.tenants import Records
from orchestrator.janitor.janitor import Janitor
from orchestrator.janitor.purging import finish
from orchestrator.models.tenants.records import Tenant
from orchestrator.store import keys, open_store
from orchestrator.store.connection import connect
from tests.builders.backups.installations import BLOB, Backups, Source, contents_of, ended, prepare, seal_entries
from tests.harness import RedisServer, eventually


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


def test_backup_follows_no_link_in_the_blob_directory(source: Source, backups: Backups, tmp_path: Path) -> None:
    """A worker that was taken over may place one, and the backup reads what no worker may."""
    before = backups.create(source.settings).summary.files
    (tmp_path / "key").write_bytes(b"the admin's key")
    link = source.settings.blobs_path / "artifacts" / source.ended[0] / "1" / "link"
    link.symlink_to(tmp_path / "key")
    assert backups.create(source.settings).summary.files == before
    link.unlink()
    link.write_bytes(b"a file")  # the control
    assert backups.create(source.settings).summary.files == before + 1


@pytest.mark.parametrize(("mode", "expected"), [(0o2770, (0o2770, 0o660)), (0o700, (0o755, 0o600))])
def test_group_may_write_restored_files_of_a_shared_directory(
    source: Source, backups: Backups, empty: RedisServer, tmp_path: Path, mode: int, expected: tuple[int, int]
) -> None:
    """API and worker may be two users, and the command a third."""
    made = backups.create(source.settings).summary
    there = backups.settings(tmp_path / "other", empty)
    there.blobs_path.mkdir(parents=True)
    there.blobs_path.chmod(mode)
    earlier = os.umask(0o022)  # as root has it
    try:
        backups.restore(there, made.id)
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(earlier)
    found = {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in there.blobs_path.rglob("*")}
    assert found == {(True, expected[0]), (False, expected[1])}


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
    with BackupLease(source.store.deletions, "one") as hold:
        hold.check()
        source.store.redis.delete(keys.BACKUP)
        for _ in range(2):
            with pytest.raises(BackupError, match="begin the backup again"):
                hold.check()
        assert not source.store.deletions.are_paused()
        assert source.store.deletions.pause("another", 60)
    assert source.store.deletions.are_paused(), "the end of one backup does not end the other's pause"


def test_lease_is_renewed_while_the_backup_is_made(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEWALS", 600)  # one in a tenth of a second
    redis = source.store.redis
    with BackupLease(source.store.deletions, "one"):
        redis.expire(keys.BACKUP, 30)
        eventually(lambda: redis.ttl(keys.BACKUP) > 30, "the lease has its whole time again")


def test_retention_removes_nothing_without_the_lease(
    source: Source, backups: Backups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another backup may be made then, whose files look like those of an interrupted one."""
    first = backups.create(source.settings).summary
    creator, target = Creator(source.settings, backups.target), backups.target
    put = target.put

    def lose_lease_at_the_end(name: str, stream: Any) -> None:
        put(name, stream)
        if name.endswith(SUMMARY):
            put("backups/20990101T000000Z-abcdef/redis.age", stream)
            source.store.redis.set(keys.BACKUP, "20990101T000000Z-abcdef", ex=60)

    monkeypatch.setattr(target, "put", lose_lease_at_the_end)
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


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_broken_description_of_an_image_fails_the_backup_with_its_name(
    source: Source, backups: Backups, text: str
) -> None:
    source.settings.images_path.mkdir(parents=True)
    (source.settings.images_path / "python.json").write_text(text)
    with pytest.raises(BackupError, match=r"python\.json"):
        backups.create(source.settings)


def test_refusal_of_redis_fails_the_backup(source: Source, backups: Backups) -> None:
    """As an attacker with Redis's password can cause; a schedule tries again."""
    source.store.redis.delete(keys.AUDIT_SEALS)
    source.store.redis.set(keys.AUDIT_SEALS, "of another type")
    with pytest.raises(BackupError, match="WRONGTYPE"):
        backups.create(source.settings)


def test_names_that_are_none_of_ours_are_backed_up(source: Source, backups: Backups) -> None:
    (source.settings.blobs_path / "blobs" / "default" / ("z" * 64)).write_bytes(b"strange")
    source.store.redis.hset(b"mayfly:execution:\xff", "state", "queued")
    made = backups.create(source.settings).summary
    found = backups.verify(source.settings, made.id)
    assert (found.files, found.faults) == (6, ())
    assert found.executions == {"queued": 2, "succeeded": 2}


def test_file_cut_off_after_a_backup_is_restored_whole(
    source: Source, backups: Backups, empty: RedisServer, tmp_path: Path
) -> None:
    """The object of the earlier backup has the content that the file's name says."""
    backups.create(source.settings)
    (path,) = (source.settings.blobs_path / "blobs" / "default").iterdir()
    path.write_bytes(BLOB[:3])
    made = backups.create(source.settings).summary
    assert backups.verify(source.settings, made.id).faults == ()
    there = backups.settings(tmp_path / "other", empty)
    backups.restore(there, made.id)
    assert (there.blobs_path / "blobs" / "default" / path.name).read_bytes() == BLOB


def test_file_cut_off_before_its_first_backup_is_reported_and_restored(
    source: Source, backups: Backups, empty: RedisServer, tmp_path: Path
) -> None:
    (path,) = (source.settings.blobs_path / "blobs" / "default").iterdir()
    path.write_bytes(BLOB[:3])
    made = backups.create(source.settings).summary
    (fault,) = backups.verify(source.settings, made.id).faults
    assert path.name in fault
    there = backups.settings(tmp_path / "other", empty)
    backups.restore(there, made.id)
    assert (there.blobs_path / "blobs" / "default" / path.name).read_bytes() == BLOB[:3]


def test_restore_refuses_a_summary_that_does_not_agree_with_its_contents(
    source: Source, backups: Backups, empty: RedisServer, tmp_path: Path
) -> None:
    there = backups.settings(tmp_path / "other", empty)
    first, second = (backups.create(source.settings).summary for _ in range(2))
    changed = backups.reader(first.id)
    changed.summary = first.model_copy(update={"files": 99})
    with pytest.raises(Damaged, match="not signed"):
        restore(changed, there)
    parts = {**second.parts, CONTENTS: first.parts[CONTENTS]}
    mixed = backups.reader(second.id)
    mixed.summary = Keys.of(source.settings.secret()).sign(second.model_copy(update={"parts": parts}))
    with backups.target.open(place(first.id, CONTENTS)) as stream:
        backups.target.put(place(second.id, CONTENTS), stream)
    with pytest.raises(Damaged, match=f"those of backup {first.id}"):
        restore(mixed, there)
    assert contents_of(there) == ({}, {})


def test_restore_into_a_small_or_closed_redis_names_the_remedy(source: Source, empty: RedisServer) -> None:
    with closing(connect(empty.url, 60.0)) as there:
        there.config_set("maxmemory", "1")
        with pytest.raises(BackupError, match=r"its maxmemory must exceed \d+ bytes"):
            copy(source.store.redis, there)
        there.config_set("maxmemory", "0")
        there.execute_command("ACL", "SETUSER", "default", "-restore")
        with pytest.raises(BackupError, match="needs the command RESTORE"):
            copy(source.store.redis, there)


def test_purge_keeps_the_files_of_a_tenant_that_is_not_being_deleted(source: Source) -> None:
    source.store.redis.sadd(keys.TENANTS_DELETING, "default")
    finish(source.store, "default", source.settings)
    assert not source.store.redis.sismember(keys.TENANTS_DELETING, "default")
    assert len(list((source.settings.blobs_path / "blobs" / "default").iterdir())) == 1


def test_files_of_a_deleted_tenant_wait_for_the_end_of_a_backup(source: Source) -> None:
    records, settings = Records(source.store), source.settings.model_copy(update={"audit_days": 2000})
    records.put(b"", Tenant(id="gone", state="deleting"), "")
    source.store.own_blobs.put("gone", [BLOB])
    files = source.settings.blobs_path / "blobs" / "gone"
    with BackupLease(source.store.deletions, "one"):
        finish(source.store, "gone", settings)
        assert [path.read_bytes() for path in files.iterdir()] == [BLOB]
        assert records.tenant("gone").record is not None, "the next round finds the tenant again"
    finish(source.store, "gone", settings)
    assert not files.exists()
    taken_until = source.store.redis.zscore(keys.TENANTS_DELETED, "gone")
    assert taken_until - source.store.now() > 1999 * 86400, "the name is taken as long as the audit log is kept"


def test_janitor_deletes_no_files_after_a_backup_has_begun(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins between the janitor's first question and its deletions."""
    store = source.store
    settings = source.settings.model_copy(update={"retention_seconds": 1.0})
    writer = store.blobs.artifact_writer("f" * 32, 1)
    writer.write(b"of no record")
    writer.commit()
    files = [path for path in settings.blobs_path.rglob("*") if path.is_file()]
    for path in (*files, settings.blobs_path / "artifacts" / ("f" * 32)):
        os.utime(path, (1, 1))
    recount = store.records.recount

    def begin() -> int:
        assert store.deletions.pause("one", 60)
        return recount()

    with monkeypatch.context() as patch:
        patch.setattr(store.records, "recount", begin)
        Janitor(store, settings).round(store.now())
    assert [path for path in files if not path.exists()] == []
    store.deletions.resume("one")
    Janitor(store, settings).round(store.now())
    left = {path for path in files if path.exists()}
    assert {path for path in files if "f" * 32 in path.parts or path.parts[-3] == "blobs"} & left == set()
