"""The same backups in a bucket, on a server that speaks S3's protocol."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.backup.catalogue import entries
from orchestrator.backup.errors import BackupError, Damaged
from orchestrator.backup.targets import open_target
from tests.builders.backups.installations import Backups, Source, contents_of, ended
from tests.builders.backups.s3 import bucket_server, variables
from tests.harness import RedisServer, free_port

MULTIPART_BYTES = 12 * 2**20  # sent in several parts


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the server, with a bucket ``backups``."""
    with bucket_server("backups", tmp_path_factory.mktemp("s3")) as url:
        yield url


@pytest.fixture
def backups(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backups:
    for name, value in variables(endpoint).items():
        monkeypatch.setenv(name, value)
    return Backups(tmp_path, f"s3://backups/{tmp_path.name}")


def test_bucket_has_backups_as_a_directory_has(
    source: Source, backups: Backups, empty: RedisServer, tmp_path: Path
) -> None:
    ended(source.store, os.urandom(MULTIPART_BYTES))
    first = backups.create(source.settings).summary
    assert backups.verify(source.settings).faults == ()
    ended(source.store, b"a new artifact")
    second = backups.create(source.settings).summary
    assert (second.files - first.files, second.new_objects) == (1, 1)
    backups.restore(backups.settings(tmp_path / "other", empty))
    assert contents_of(backups.settings(tmp_path / "other", empty))[0] == contents_of(source.settings)[0]
    third = backups.create(source.settings, keep=1)
    assert third.removed.backups == (first.id, second.id)
    found = entries(backups.target, None, backups.target.sizes("backups/"))
    assert [entry.id for entry in found] == [third.summary.id]
    assert backups.verify(source.settings).faults == ()


def test_missing_object_of_a_bucket_is_found(source: Source, backups: Backups) -> None:
    backups.create(source.settings)
    name = next(iter(backups.target.sizes("objects/")))
    backups.target.delete(name)
    (fault, *_) = backups.verify(source.settings).faults
    assert name in fault
    with pytest.raises(Damaged, match="missing"):
        backups.target.open("objects/none")


def test_bucket_that_does_not_answer_fails_the_backup(
    source: Source, backups: Backups, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    elsewhere = Backups(source.settings.state_dir, backups.address)
    with pytest.raises(BackupError, match="s3://"):
        elsewhere.create(source.settings)
    assert not source.store.deletions.are_paused()


def test_target_of_another_kind_is_refused() -> None:
    with pytest.raises(BackupError, match="neither a directory"):
        open_target("ftp://host/path")
    with pytest.raises(BackupError, match="MAYFLY_BACKUP_TARGET"):
        open_target("")
