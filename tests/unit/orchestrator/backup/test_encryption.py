"""Encryption: only an identity reads, damage is found, and no failed write passes for a good one."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from orchestrator.backup.encryption import Identities, Recipients, write_identity
from orchestrator.backup.errors import BackupError, Damaged

DATA = os.urandom(300_000)


class FullDisk(io.BytesIO):
    """A disk that fails when it has so many bytes."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room

    def write(self, data: bytes) -> int:  # type: ignore[override]
        if self.tell() + len(data) > self._room:
            raise OSError(28, "No space left on device")
        return super().write(data)


def encrypted(recipients: Recipients, data: bytes = DATA) -> bytes:
    stored = io.BytesIO()
    made = recipients.encrypt(io.BytesIO(data), stored)
    assert (made.clear.size, made.stored.size) == (len(data), len(stored.getvalue()))
    return stored.getvalue()


def test_every_recipient_reads_and_no_other(tmp_path: Path) -> None:
    names = [write_identity(tmp_path / name) for name in ("one", "two", "other")]
    stored = encrypted(Recipients(names[:2]))
    for name in ("one", "two"):
        clear = io.BytesIO()
        found = Identities(tmp_path / name).decrypt(io.BytesIO(stored), clear)
        assert clear.getvalue() == DATA
        assert found.stored.size == len(stored)
    with pytest.raises(Damaged, match="this identity"):
        Identities(tmp_path / "other").decrypt(io.BytesIO(stored), io.BytesIO())
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("at", [5, 150, 70_000, -1])
@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_damage_is_found_wherever_it_is(tmp_path: Path, at: int, damage: str) -> None:
    stored = bytearray(encrypted(Recipients([write_identity(tmp_path / "one")])))
    stored[at] ^= 1
    with pytest.raises(Damaged):
        Identities(tmp_path / "one").decrypt(io.BytesIO(stored if damage == "flipped" else stored[:at]), io.BytesIO())


@pytest.mark.parametrize("size", [0, 10, 4 * 2**16 + 10])
def test_write_that_fails_at_the_end_is_not_lost(tmp_path: Path, size: int) -> None:
    """Of the last write, which is still buffered at the end: a header has 166 bytes, and its random part varies."""
    recipients = Recipients([write_identity(tmp_path / "one")])
    with pytest.raises(OSError, match="No space left"):
        recipients.encrypt(io.BytesIO(DATA[:size]), FullDisk(size + 100))
    stored = encrypted(recipients, DATA[:size])
    if size:
        with pytest.raises(OSError, match="No space left"):
            Identities(tmp_path / "one").decrypt(io.BytesIO(stored), FullDisk(size - 1))


def test_keys_that_are_none_are_refused(tmp_path: Path) -> None:
    for wrong in ([], ["age1nonsense"], ["AGE-SECRET-KEY-1"]):
        with pytest.raises(BackupError, match="MAYFLY_BACKUP_RECIPIENTS"):
            Recipients(wrong)
    (tmp_path / "empty").write_text("# nothing\n")
    (tmp_path / "wrong").write_text("a password\n")
    for name in ("empty", "wrong"):
        with pytest.raises(BackupError, match="identity of age"):
            Identities(tmp_path / name)
    write_identity(tmp_path / "one")
    with pytest.raises(FileExistsError):
        write_identity(tmp_path / "one")
