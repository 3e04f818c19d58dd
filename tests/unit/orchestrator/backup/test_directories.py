"""A directory of backups: files are there whole or not at all."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator.audit.chain import Seal
from orchestrator.backup.catalogue import chosen, entries
from orchestrator.backup.errors import BackupError, Damaged
from orchestrator.backup.manifest import SUMMARY, Keys, Summary, place
from orchestrator.backup.targets import open_target


class Broken(io.BytesIO):
    """A source that fails behind its first bytes."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell():
            raise OSError(5, "Input/output error")
        return super().read(10)


def test_failed_write_leaves_the_earlier_file(tmp_path: Path) -> None:
    target = open_target(str(tmp_path / "backups"))
    target.put("backups/a/x", io.BytesIO(b"the first"))
    with pytest.raises(BackupError, match="Input/output"):
        target.put("backups/a/x", Broken(b"the second, longer"))
    target.flush()
    with target.open("backups/a/x") as stored:
        assert stored.read() == b"the first"
    assert target.sizes("backups/") == {"backups/a/x": 9}
    assert (tmp_path / "backups").stat().st_mode & 0o777 == 0o700


def test_removed_backup_leaves_no_directory(tmp_path: Path) -> None:
    target = open_target(str(tmp_path))
    target.put("backups/a/x", io.BytesIO(b"1"))
    target.put("backups/b/x", io.BytesIO(b"1"))
    target.delete("backups/a/x")
    target.delete("backups/a/x")
    assert [path.name for path in (tmp_path / "backups").iterdir()] == ["b"]
    with pytest.raises(Damaged, match="missing"):
        target.open("backups/a/x")
    assert target.sizes("none/") == {}


def test_backups_of_one_second_are_in_order_of_their_moments(tmp_path: Path) -> None:
    """Ids of one second end at random."""
    target, keys = open_target(str(tmp_path)), Keys.of(b"a secret")
    for number, id in enumerate(("20260101T000000Z-c", "20260101T000000Z-a", "20260101T000000Z-b")):
        moment = datetime(2026, 1, 1, microsecond=number, tzinfo=UTC)
        made = Summary(
            id=id, snapshot_at=moment, finished_at=moment, version="1", parts={}, files=0, bytes=0, new_objects=0,
            new_bytes=0, audit=Seal(), recipients=(),
        )  # fmt: skip
        target.put(place(id, SUMMARY), io.BytesIO(keys.sign(made).model_dump_json().encode()))
    found = entries(target, keys.public_key, target.sizes("backups/"))
    assert [(entry.id[-1], entry.fault) for entry in found] == [("c", None), ("a", None), ("b", None)]
    assert chosen(target, None, None).id.endswith("b")
