"""A directory of backups: files are there whole or not at all."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from orchestrator.backup.errors import BackupError, Damaged
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
