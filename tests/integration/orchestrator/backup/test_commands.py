"""`mayfly backup`: exit codes, messages, and the schedule's process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from orchestrator.backup.creation.creating import Creator, Made
from orchestrator.backup.creation.retention import Kept
from orchestrator.backup.creation.schedule import Schedule
from orchestrator.settings import PREFIX, Settings
from tests.builders.backups.installations import Backups, Source
from tests.harness import ROOT, Process, RedisServer, eventually


def variables(settings: Settings) -> dict[str, str]:
    return {
        f"{PREFIX}STATE_DIR": str(settings.state_dir),
        f"{PREFIX}REDIS_URL": settings.redis_url,
        f"{PREFIX}BLOBS_URL": settings.blobs_url,
        f"{PREFIX}BACKUP_TARGET": settings.backup_target,
        f"{PREFIX}BACKUP_RECIPIENTS": json.dumps(settings.backup_recipients),
    }


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "orchestrator.cli", "backup", *words]


def mayfly(settings: Settings, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words),
        cwd=ROOT,
        env=os.environ | variables(settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_commands_make_list_verify_and_restore(
    source: Source, backups: Backups, empty: RedisServer, tmp_path: Path
) -> None:
    identity = ("--identity", str(backups.identity))
    assert mayfly(source.settings, "list", "--max-age", "1d").returncode == 1
    made = mayfly(source.settings, "create", "--json")
    assert made.returncode == 0, made.stderr
    document = json.loads(made.stdout)
    listed = mayfly(source.settings, "list", "--max-age", "1d", "--public-key", document["public_key"])
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.split("\t")[0] == document["id"]
    assert listed.stdout.endswith("complete\n")
    head = f"{document['audit']['position']}:{document['audit']['head']}"
    assert head in listed.stdout
    verified = mayfly(source.settings, "verify", *identity)
    assert (verified.returncode, verified.stdout.splitlines()[-1]) == (0, "All of it can be restored.")
    there = backups.settings(tmp_path / "other", empty)
    restored = mayfly(there, "restore", document["id"], *identity)
    assert restored.returncode == 0, restored.stderr
    assert restored.stdout.startswith(f"Restored {document['id']}: ")
    again = mayfly(there, "restore", *identity)
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)
    assert "not empty" in again.stderr


def test_backup_without_its_contents_is_refused(
    source: Source, backups: Backups, empty: RedisServer, tmp_path: Path
) -> None:
    """Contents in a bucket are not copied, so nothing is written that only looks like a backup, or like a restore."""
    backups.create(source.settings)
    before = sorted(Path(source.settings.backup_target).rglob("*"))
    there = backups.settings(tmp_path / "other", empty)
    for settings, words in ((source.settings, ["create"]), (there, ["restore", "--identity", str(backups.identity)])):
        refused = mayfly(settings.model_copy(update={"blobs_url": "s3://bucket/prefix"}), *words)
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
        assert "s3://bucket/prefix" in refused.stderr
    assert sorted(Path(source.settings.backup_target).rglob("*")) == before
    with closing(empty.client()) as client:
        assert client.dbsize() == 0
    assert mayfly(there, *words).returncode == 0  # the control


def test_damage_and_wrong_options_exit_with_one_line(source: Source, backups: Backups, tmp_path: Path) -> None:
    made = backups.create(source.settings).summary
    identity = ("--identity", str(backups.identity))
    other = tmp_path / "other.txt"
    assert mayfly(source.settings, "keygen", str(other)).stdout.startswith("age1")
    for words in (
        ("verify", "--identity", str(other)),
        ("verify", "20000101T000000Z-000000", *identity),
        ("verify", "--identity", str(tmp_path / "none")),
        ("restore", *identity, "--public-key", "bm9uZQ=="),
        ("create", "--target", "ftp://host"),
        ("keygen", str(other)),
    ):
        refused = mayfly(source.settings, *words)
        assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1), words
        assert refused.stderr.startswith("mayfly: "), words
    target = Path(backups.address)
    next(path for path in (target / "objects").rglob("*") if path.is_file()).unlink()
    damaged = mayfly(source.settings, "verify", *identity)
    assert damaged.returncode == 1
    assert "is missing" in damaged.stdout
    (target / "backups" / made.id / "redis.age").unlink()
    listed = mayfly(source.settings, "list", "--max-age", "1d")
    assert listed.returncode == 1
    assert "redis.age is missing or cut off" in listed.stdout


@pytest.fixture
def scheduled(source: Source, backups: Backups, tmp_path: Path) -> Iterator[Process]:
    process = Process(command("schedule", "--every", "1h"), variables(source.settings), tmp_path / "schedule.log")
    yield process
    process.stop(signal.SIGKILL)


def test_schedule_makes_a_backup_and_ends_by_signal(scheduled: Process, source: Source, backups: Backups) -> None:
    eventually(lambda: "audit head" in scheduled.log.read_text(), "the first backup is made", 60)
    assert scheduled.stop(signal.SIGTERM) == 0
    assert backups.verify(source.settings).faults == ()
    assert not source.store.deletions.are_paused()


def test_schedule_continues_after_a_failure(source: Source, backups: Backups) -> None:
    Path(backups.address).write_text("in the way of the directory")
    stopped, made = threading.Event(), []

    def collect(one: Made) -> None:
        made.append(one.summary.id)
        if len(made) == 2:
            stopped.set()

    loop = Schedule(Creator(source.settings, backups.target), backups.target, timedelta(seconds=1), Kept(9, 0), stopped)
    with capture_logs() as lines:
        thread = threading.Thread(target=loop.run, args=(collect,))
        thread.start()
        eventually(lambda: any(line["event"] == "backup.failed" for line in lines), "a failure is logged")
        Path(backups.address).unlink()
        eventually(lambda: not thread.is_alive(), "two backups are made", 60)
    assert len(set(made)) == 2
