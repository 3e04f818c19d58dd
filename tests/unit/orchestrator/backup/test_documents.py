"""Names, signatures and retention of backups, which are pure."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.audit.chain import Seal
from orchestrator.backup.catalogue import Entry
from orchestrator.backup.creation.retention import Kept, expired
from orchestrator.backup.creation.schedule import next_due
from orchestrator.backup.errors import BackupError
from orchestrator.backup.files import chosen_settings, place_of
from orchestrator.backup.manifest import Keys, OwnFile, Part, Summary, found_ids, is_signed
from orchestrator.settings import Settings

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def summary(id: str, days_ago: float = 0) -> Summary:
    moment = NOW - timedelta(days=days_ago)
    return Summary(
        id=id, snapshot_at=moment, finished_at=moment, version="1", parts={"redis.age": Part(sha256="0", size=1)},
        files=1, bytes=1, new_objects=1, new_bytes=1, audit=Seal(), recipients=("age1",),
    )  # fmt: skip


def test_signature_covers_every_field_and_names_the_installation() -> None:
    keys, others = Keys.of(b"a secret"), Keys.of(b"another secret")
    made = keys.sign(summary("a"))
    assert is_signed(made, keys.public_key)
    assert not is_signed(made, others.public_key)
    assert not is_signed(made, "nonsense")
    assert not is_signed(made.model_copy(update={"files": 2}), keys.public_key)
    assert not is_signed(made.model_copy(update={"parts": {}}), keys.public_key)
    assert is_signed(Summary.model_validate_json(made.model_dump_json()), keys.public_key)


def test_object_names_do_not_disclose_the_content() -> None:
    digest = "ab" * 32
    names = {Keys.of(secret).object_name(digest) for secret in (b"one", b"other", b"one")}
    assert len(names) == 2
    assert not any(digest in name for name in names)


def test_backup_without_summary_is_not_complete() -> None:
    names = {"backups/b/redis.age": 1, "backups/b/backup.json": 1, "backups/a/redis.age": 1, "objects/aa/aa": 1}
    assert found_ids(names) == {"a": False, "b": True}


@pytest.mark.parametrize(
    ("kept", "removed"),
    [
        (Kept(2, 0), ["old", "older"]),
        (Kept(1, 0), ["old", "older", "young"]),
        (Kept(0, 0), ["old", "older", "young"]),  # the newest always stays
        (Kept(1, 5), ["old", "older"]),
        (Kept(1, 15), ["older"]),
        (Kept(9, 0), []),
    ],
)
def test_backup_expires_unless_new_or_young(kept: Kept, removed: list[str]) -> None:
    ages = {"older": 20, "old": 10, "young": 3, "new": 1}
    found = [Entry(id, summary(id, days), None) for id, days in ages.items()]
    assert sorted(expired(found, kept, NOW)) == sorted(removed)


def test_damaged_backup_counts_neither_as_new_nor_as_old() -> None:
    found = [Entry("good", summary("good", 9), None), Entry("bad", summary("bad", 8), "cut off"), Entry("x", None, "?")]
    assert expired(found, Kept(1, 0), NOW) == []


def test_backup_is_due_after_the_time_since_the_last() -> None:
    hour = timedelta(hours=1)
    assert next_due(None, hour, NOW) == 0
    assert next_due(NOW - timedelta(minutes=50), hour, NOW) == 600
    assert next_due(NOW - timedelta(hours=9), hour, NOW) == 0


def test_own_file_goes_nowhere_else_than_its_setting(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    inside = OwnFile(role="tool_secrets_dir", name="a.toml", data="")
    assert place_of(settings, inside) == tmp_path / "tool-secrets" / "a.toml"
    for wrong in ({"name": "../a.toml"}, {"name": "/etc/a.toml"}, {"name": ".."}, {"role": "environments_dirs/7"}):
        with pytest.raises(BackupError, match="names no place"):
            place_of(settings, inside.model_copy(update=wrong))
    with pytest.raises(BackupError, match="MAYFLY_ISSUERS_FILE"):
        place_of(settings, OwnFile(role="issuers_file", name="", data=""))


def test_chosen_settings_are_named_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MAYFLY_")]:
        monkeypatch.delenv(name)
    settings = Settings(token="mfk_secret", redis_url="redis://mayfly:secret@redis:6379/0", slots=3)
    assert chosen_settings(settings) == {"MAYFLY_SLOTS": "3"}
