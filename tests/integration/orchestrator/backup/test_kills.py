"""A backup and a restore that are killed at each step: nothing half-made counts, and both can be repeated."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from orchestrator.backup.catalogue import entries
from orchestrator.backup.restoration.marker import Marker
from orchestrator.settings import Settings
from orchestrator.store import keys
from tests.builders.backups.installations import Backups, Source, contents_of, ended
from tests.harness import ROOT, RedisServer, eventually

STRIDES = [pytest.param(7, id="some"), pytest.param(1, id="each")]


class Killed:
    """The process that is killed at steps."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def at(self, step: int) -> str:
        """Run up to that step; the end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{step}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A directory whose name is short, as those of sockets must be: pytest's are longer in a lane."""
    with tempfile.TemporaryDirectory(prefix="mayfly-kills-") as name:
        yield Path(name)


@contextmanager
def killed(action: str, settings: Settings, backups: Backups, temporary: Path, keep: int = 2) -> Iterator[Killed]:
    """``temporary``: its TMPDIR."""
    given = settings.model_dump(mode="json", include=settings.model_fields_set)
    task = {"action": action, "settings": given, "identity": str(backups.identity), "keep": keep}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.builders.backups.kills", json.dumps(task)],
        cwd=ROOT, env={**os.environ, "TMPDIR": str(temporary)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        yield Killed(process)


def servers_below(directory: Path) -> list[int]:
    """Redis servers of backups whose process is gone."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline", "name"])
        if "redis" in process.info["name"] and any(str(directory) in word for word in process.info["cmdline"] or ())
    ]


@pytest.mark.parametrize("stride", STRIDES)
def test_killed_backup_is_never_listed(stride: int, source: Source, backups: Backups, temporary: Path) -> None:
    complete = [backups.create(source.settings).summary.id]
    with killed("create", source.settings, backups, temporary) as process:
        step, end = 1, "killed"
        while end == "killed":
            ended(source.store, f"new for step {step}".encode())
            end = process.at(step)
            found = entries(backups.target, None, backups.target.sizes("backups/"))
            assert [entry.fault for entry in found] == [None] * len(found), step
            complete = [entry.id for entry in found]
            assert complete, step
            assert backups.verify(source.settings, complete[-1]).faults == (), step
            source.store.redis.delete(keys.BACKUP)  # which a minute would have ended
            step += stride
        assert end == "done"
        assert step > 20
    for id in complete:
        assert backups.verify(source.settings, id).faults == ()
    left = {path.parent.name for path in (Path(backups.address) / "backups").rglob("*") if path.is_file()}
    assert left == set(complete)


@pytest.mark.parametrize("stride", STRIDES)
def test_killed_restore_is_marked_and_can_be_repeated(
    stride: int, source: Source, backups: Backups, empty: RedisServer, tmp_path: Path, temporary: Path
) -> None:
    made = backups.create(source.settings).summary
    expected = contents_of(source.settings)
    there = backups.settings(tmp_path / "other", empty)
    with empty.client() as client, killed("restore", there, backups, temporary) as process:
        step, end, marked = 1, "killed", 0
        while end == "killed":
            client.flushall()
            shutil.rmtree(there.state_dir, ignore_errors=True)
            end = process.at(step)
            begun = Marker(there.state_dir, client).found()
            untouched = contents_of(there) == ({}, {})
            if end == "killed" and not begun:
                assert untouched or is_complete(there, source, expected), step
            if begun:
                assert begun == {made.id}
                marked += 1
                assert process.at(10**9) == "done", step
            elif untouched:
                assert process.at(10**9) == "done", step
            assert is_complete(there, source, expected), step
            assert Marker(there.state_dir, client).found() == set()
            step += stride
        assert end == "done"
        assert marked > 3
    eventually(lambda: servers_below(temporary) == [], "no Redis of a killed restore is left")
    left = [path for path in temporary.rglob("*") if path.is_file() and b"REDIS" in path.read_bytes()]
    assert left == [], "no clear snapshot is left"


def is_complete(there: Settings, source: Source, expected: tuple[dict[str, str], dict[bytes, bytes]]) -> bool:
    """Whether everything is there; the times by which executions wait and are kept have moved."""
    moved = {keys.QUEUED.encode(), keys.EXPIRY.encode(), *(keys.execution(id).encode() for id in source.ended)}
    files, values = contents_of(there)
    return (
        files == expected[0]
        and values.keys() == expected[1].keys()
        and {name for name in values if values[name] != expected[1][name]} <= moved
        and (there.state_dir / "secret").read_bytes() == (source.settings.state_dir / "secret").read_bytes()
    )


def test_restore_of_another_backup_is_refused_after_an_interruption(
    source: Source, backups: Backups, empty: RedisServer, tmp_path: Path
) -> None:
    backups.create(source.settings)
    later = backups.create(source.settings).summary
    there = backups.settings(tmp_path / "other", empty)
    with empty.client() as client:
        Marker(there.state_dir, client).set("an-earlier-one")
        client.set("of an earlier restore", 1)
        with pytest.raises(Exception, match="an-earlier-one was interrupted here"):
            backups.restore(there, later.id)
