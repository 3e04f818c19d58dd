"""Bundles of sandboxes whose broker was killed."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from orchestrator.broker.sandboxes.leftovers import LOCK, remove, sweep


def bundle(directory: Path, name: str, age_seconds: float = 3600.0) -> Path:
    made = directory / name
    made.mkdir(parents=True)
    (made / "config.json").write_text("secret")
    lock = made / LOCK
    lock.touch()
    moment = lock.stat().st_mtime - age_seconds
    os.utime(lock, (moment, moment))
    return made


def test_bundle_without_processes_is_removed(tmp_path: Path) -> None:
    bundles, cgroups = tmp_path / "bundles", tmp_path / "cgroups"
    unused, young, used = bundle(bundles, "a"), bundle(bundles, "b", 0), bundle(bundles, "c")
    for place in ("memory/mayfly-tools/a/inner", "mayfly-tools/a", "pids/mayfly-tools/c"):
        (cgroups / place).mkdir(parents=True)
    with (used / LOCK).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert sweep(bundles, cgroups) == ["a"]
    assert not unused.exists()
    assert young.exists()
    assert (used / "config.json").exists()
    assert sorted(path.name for path in cgroups.glob("**/mayfly-tools/*")) == ["c"]
    assert sweep(bundles, cgroups) == ["c"]
    assert sweep(bundles, cgroups, young_seconds=0) == ["b"]
    assert sweep(tmp_path / "nothing", cgroups) == []


def test_bundle_without_a_lock_is_removed(tmp_path: Path) -> None:
    (bundle(tmp_path / "bundles", "a") / LOCK).unlink()
    assert sweep(tmp_path / "bundles", tmp_path) == ["a"]


def test_bundle_stays_without_its_secrets_as_long_as_its_cgroup_does(tmp_path: Path) -> None:
    made, cgroup = bundle(tmp_path / "bundles", "a"), tmp_path / "cgroups" / "memory" / "mayfly-tools" / "a"
    cgroup.mkdir(parents=True)
    (cgroup / "tasks").touch()  # a file in an ordinary directory keeps it from being removed, as a process does
    assert not remove(made, tmp_path / "cgroups", seconds=0.1)
    assert made.exists()
    assert not (made / "config.json").exists()
    (cgroup / "tasks").unlink()
    assert remove(made, tmp_path / "cgroups", seconds=0.1)
    assert not made.exists()
