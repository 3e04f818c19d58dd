"""Backups of a real Redis and real files: complete, incremental, encrypted, consistent, and verified."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from orchestrator.backup.catalogue import entries, interrupted
from orchestrator.backup.creation.creating import Creator
from orchestrator.backup.creation.lease import BackupLease
from orchestrator.backup.creation.retention import Kept
from orchestrator.backup.encryption import write_identity
from orchestrator.backup.errors import BackupError, Damaged, Occupied
from orchestrator.backup.manifest import CONTENTS, REDIS, SUMMARY, Keys
from orchestrator.backup.restoration.restoring import restore
from orchestrator.janitor.janitor import Janitor
from orchestrator.settings import Settings
from orchestrator.store import keys, open_store
from tests.builders.backups.installations import (
    BLOB,
    Backups,
    Source,
    contents_of,
    ended,
    prepare,
    redis_in,
    seal_entries,
)
from tests.builders.records import claimed
from tests.harness import ROOT, RedisServer

YEAR = 365 * 86400.0


def target_of(backups: Backups) -> Path:
    return Path(backups.address)


def blob_object(source: Source) -> str:
    """The name of the object with the uploaded blob."""
    return Keys.of(source.settings.secret()).object_name(hashlib.sha256(BLOB).hexdigest())


def test_restored_installation_equals_the_backed_up_one(
    source: Source, backups: Backups, empty: RedisServer, tmp_path: Path
) -> None:
    made = backups.create(source.settings)
    there = backups.settings(tmp_path / "other", empty)
    done = backups.restore(there, made.summary.id)
    files, values = contents_of(source.settings)
    moved = {keys.QUEUED.encode(), keys.EXPIRY.encode(), *(keys.execution(id).encode() for id in source.ended)}
    found_files, found = contents_of(there)
    assert found_files == files
    assert found.keys() == values.keys()
    assert {name for name in values if found[name] != values[name]} <= moved  # by the time of the outage
    assert done.files == len(files) == 5
    names = ("secret", "api-key", "token-keys", "tool-servers/one.toml")
    for name in names:
        assert (there.state_dir / name).read_bytes() == (source.settings.state_dir / name).read_bytes()
        assert (there.state_dir / name).stat().st_mode & 0o077 == 0
    with closing(open_store(there).redis):
        store = open_store(there)
        restored = store.records.get(source.ended[0], "default")
        assert restored.state == "succeeded"
        assert [
            (there.blobs_path / f"artifacts/{restored.id}/{restored.attempt}/{one.sha256}").read_bytes()
            for one in restored.artifacts
        ] == [b"the same", b"only here"]
        assert claimed(store, source.queued[0]).id == source.queued[0]
        store.redis.close()


def test_server_cannot_read_its_backup(source: Source, backups: Backups, tmp_path: Path) -> None:
    made = backups.create(source.settings)
    stored = b"".join(path.read_bytes() for path in target_of(backups).rglob("*") if path.is_file())
    secret = (source.settings.state_dir / "secret").read_bytes().strip()
    for clear in (secret, b"only here", b"an uploaded blob", source.ended[0].encode(), b"REDIS0"):
        assert clear not in stored
    other = tmp_path / "other.txt"
    write_identity(other)
    with pytest.raises(Damaged, match="identity"):
        backups.reader(made.summary.id, other).contents()


def test_backup_without_recipient_is_refused(source: Source, backups: Backups) -> None:
    settings = source.settings.model_copy(update={"backup_recipients": []})
    with pytest.raises(BackupError, match="MAYFLY_BACKUP_RECIPIENTS"):
        Creator(settings, backups.target)
    assert not target_of(backups).exists()


def test_second_backup_stores_only_new_files(source: Source, backups: Backups) -> None:
    first = backups.create(source.settings).summary
    assert (first.files, first.new_objects) == (5, 4)  # one of the artifacts is there twice
    objects = {path: path.stat().st_mtime_ns for path in (target_of(backups) / "objects").rglob("*") if path.is_file()}
    ended(source.store, b"a new artifact")
    second = backups.create(source.settings).summary
    assert (second.files, second.new_objects) == (6, 1)
    assert {path: path.stat().st_mtime_ns for path in objects} == objects
    assert backups.verify(source.settings, first.id).faults == ()
    assert backups.verify(source.settings, second.id).faults == ()


def test_verification_counts_and_finds_no_fault(source: Source, backups: Backups) -> None:
    backups.create(source.settings)
    found = backups.verify(source.settings)
    assert found.faults == ()
    assert found.executions == {"queued": 2, "succeeded": 2}
    assert (found.audit_entries, found.files) == (5, 5)
    assert found.keys >= len(contents_of(source.settings)[1])


@pytest.mark.parametrize("part", ["object", REDIS, CONTENTS])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_verification_finds_every_kind_of_damage(source: Source, backups: Backups, part: str, damage: str) -> None:
    made = backups.create(source.settings).summary
    folder = target_of(backups) / "backups" / made.id
    path = target_of(backups) / blob_object(source) if part == "object" else folder / part
    data = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        data[-8] ^= 1
        path.write_bytes(data[:-4] if damage == "cut" else data)
    try:
        faults = backups.verify(source.settings).faults
    except Damaged:
        return
    assert len(faults) == 1
    assert faults[0].startswith("blobs/")


def test_verification_finds_a_lost_artifact_and_a_changed_audit_log(source: Source, backups: Backups) -> None:
    next((source.settings.blobs_path / "artifacts" / source.ended[0]).glob("*/*")).unlink()
    first = source.store.redis.xrange(keys.AUDIT, count=1)[0][0]
    source.store.redis.xdel(keys.AUDIT, first)
    made = backups.create(source.settings).summary
    faults = backups.verify(source.settings, made.id).faults
    assert len(faults) == 2
    assert "of an execution is missing" in faults[0]
    assert "5 were sealed, 4 are there" in faults[1]


def test_replaced_backup_of_another_installation_is_refused(source: Source, backups: Backups, tmp_path: Path) -> None:
    own = Keys.of(source.settings.secret()).public_key
    backups.create(source.settings)
    with redis_in(tmp_path / "forger") as server:
        forger = Backups(tmp_path / "state", str(tmp_path / "forged"))
        settings = backups.settings(tmp_path / "forger-state", server)
        prepare(settings)
        with pytest.raises(BackupError, match="another installation"):
            backups.create(settings)
        made = Creator(settings, forger.target).create(Kept(1, 0)).summary
    os.replace(tmp_path / "forged" / "backups" / made.id, target_of(backups) / "backups" / made.id)
    found = entries(backups.target, own, backups.target.sizes("backups/"))
    assert [entry.fault is None for entry in found] == [True, False]


def test_restore_refuses_a_target_that_is_not_empty(
    source: Source, backups: Backups, empty: RedisServer, tmp_path: Path
) -> None:
    backups.create(source.settings)
    before = contents_of(source.settings)
    with pytest.raises(Occupied, match="keys in Redis"):
        backups.restore(source.settings)
    assert contents_of(source.settings) == before
    there = backups.settings(tmp_path / "other", empty)
    prepare(there)
    with pytest.raises(Occupied, match="secret"):
        backups.restore(there)
    assert contents_of(there) == ({}, {})


def test_old_backups_go_with_the_objects_that_only_they_need(source: Source, backups: Backups) -> None:
    backups.create(source.settings)
    lost = ended(source.store, b"short-lived")
    old = backups.create(source.settings).summary
    source.store.records.delete(lost, "default")
    source.store.delete_files(lost)
    made = [backups.create(source.settings, keep=2) for _ in range(2)]
    assert made[0].removed.backups
    assert made[1].removed.backups == (old.id,)
    assert made[1].removed.files == 5  # its four parts, and one object
    found = entries(backups.target, None, backups.target.sizes("backups/"))
    assert [entry.id for entry in found] == [one.summary.id for one in made]
    for one in made:
        assert backups.verify(source.settings, one.summary.id).faults == ()


def test_interrupted_backup_is_not_listed_and_the_next_removes_its_files(source: Source, backups: Backups) -> None:
    good = backups.create(source.settings).summary
    bad = backups.create(source.settings).summary
    (target_of(backups) / "backups" / bad.id / SUMMARY).unlink()
    sizes = backups.target.sizes("backups/")
    assert [entry.id for entry in entries(backups.target, None, sizes)] == [good.id]
    assert interrupted(sizes) == [bad.id]
    with pytest.raises(BackupError, match="interrupted"):
        backups.reader(bad.id)
    backups.create(source.settings)
    assert not (target_of(backups) / "backups" / bad.id).exists()


def expire_all(settings: Settings, source: Source) -> None:
    """A round of a janitor that finds all ended executions due."""
    janitor = Janitor(source.store, settings)
    janitor.round(source.store.now() + YEAR)


def test_deletions_wait_for_the_end_of_a_backup(source: Source, backups: Backups) -> None:
    """Everything that deletes files runs between the reading of Redis and that of files."""
    settings = source.settings.model_copy(update={"retention_seconds": 0.001})
    paths = [source.settings.blobs_path / "artifacts" / id for id in source.ended]
    creator = Creator(source.settings, backups.target)
    inside: list[bool] = []
    read_files = creator._files

    def delete_first() -> Any:
        source.store.records.delete(source.ended[0], "default")  # as the API does for a client
        source.store.delete_files(source.ended[0])
        expire_all(settings, source)
        inside.extend(path.exists() for path in paths)
        return read_files()

    creator._files = delete_first  # type: ignore[method-assign]
    made = creator.create(Kept(9, 0)).summary
    assert inside == [True, True]
    assert backups.verify(source.settings, made.id).faults == ()
    expire_all(settings, source)
    assert [path.exists() for path in paths] == [False, False]


def test_backup_whose_pause_has_ended_is_not_completed(source: Source, backups: Backups) -> None:
    creator = Creator(source.settings, backups.target)
    read_files = creator._files

    def lose_lease() -> Any:
        assert source.store.redis.set(keys.BACKUP, "another", ex=60)
        return read_files()

    creator._files = lose_lease  # type: ignore[method-assign]
    with pytest.raises(BackupError, match="unavailable for too long"):
        creator.create(Kept(9, 0))
    assert entries(backups.target, None, backups.target.sizes("backups/")) == []


def test_only_one_backup_is_made_at_a_time(source: Source, backups: Backups) -> None:
    with BackupLease(source.store.deletions, "other"):
        with pytest.raises(BackupError, match="Another backup"):
            backups.create(source.settings)
        assert 0 < source.store.redis.ttl(keys.BACKUP) <= 60  # a killed one ends by itself
    assert not source.store.deletions.are_paused()
    backups.create(source.settings)
    assert not source.store.deletions.are_paused()


def test_backup_under_load_has_every_file_of_every_record(source: Source, backups: Backups) -> None:
    """While executions end and are deleted."""
    stopped, round_ended = threading.Event(), threading.Semaphore(0)

    def load() -> None:
        store = open_store(source.settings)
        there: list[str] = []
        while not stopped.is_set():
            there.append(ended(store, f"of execution {len(there)}".encode(), b"the same"))
            if len(there) % 2:
                store.records.delete(there[-2] if len(there) > 1 else there[-1], "default")
                store.delete_files(there[-2] if len(there) > 1 else there[-1])
            round_ended.release()
        store.redis.close()

    thread = threading.Thread(target=load)
    thread.start()
    try:
        succeeded = 0
        for _ in range(3):
            for _ in range(10):
                assert round_ended.acquire(timeout=60)
            summary = backups.create(source.settings).summary
            found = backups.verify(source.settings, summary.id)
            assert found.faults == ()
            assert found.executions["succeeded"] > succeeded
            succeeded = found.executions["succeeded"]
    finally:
        stopped.set()
        thread.join()


def test_queue_and_retention_wait_for_the_outage(
    source: Source, backups: Backups, empty: RedisServer, tmp_path: Path
) -> None:
    """A restore long after the backup neither expires the queue nor deletes every result."""
    for index in (keys.QUEUED, keys.EXPIRY):
        for id in source.store.redis.zrange(index, 0, -1):
            source.store.redis.zincrby(index, -YEAR, id)
    reader_of = backups.create(source.settings).summary
    earlier = Keys.of(source.settings.secret()).sign(
        reader_of.model_copy(update={"snapshot_at": reader_of.snapshot_at.replace(year=2000)})
    )
    there = backups.settings(tmp_path / "other", empty)
    reader = backups.reader(reader_of.id)
    reader.summary = earlier
    assert restore(reader, there).outage_seconds > 25 * YEAR
    store = open_store(there)
    janitor = Janitor(store, there)
    janitor.round(store.now())
    states = {id: store.records.get(id, None).state for id in (*source.ended, *source.queued)}
    assert sorted(states.values()) == ["queued", "queued", "succeeded", "succeeded"]
    store.redis.close()


def test_audit_head_is_in_the_backup(source: Source, backups: Backups) -> None:
    seal_entries(source.settings, source.store, 2)
    summary = backups.create(source.settings).summary
    assert summary.audit.entries == 7
    (seal,) = source.store.redis.xrevrange(keys.AUDIT_SEALS, "+", "-", 1)
    assert summary.audit.position == seal[0].decode()


def test_user_of_few_rights_needs_two_more_commands(source: Source, backups: Backups) -> None:
    """The user of docs/redis.md."""
    rules = re.search(r"^user mayfly (on .*?)\n```", (ROOT / "docs" / "redis.md").read_text(), re.MULTILINE | re.DOTALL)
    assert rules is not None
    words = rules[1].replace("\\\n", " ").split()
    owner: Any = source.store.redis
    owner.execute_command("ACL", "SETUSER", "mayfly", *words)
    url = source.settings.redis_url.replace("unix://", "unix://mayfly:PASSWORD@")
    settings = source.settings.model_copy(update={"redis_url": url})
    with pytest.raises(BackupError, match="REPLCONF and SYNC"):
        backups.create(settings)
    owner.execute_command("ACL", "SETUSER", "mayfly", "+sync", "+replconf")
    made = backups.create(settings).summary
    assert backups.verify(settings, made.id).faults == ()
