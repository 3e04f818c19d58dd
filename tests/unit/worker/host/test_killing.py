"""The writes of a kill to a cgroup's files, and the cases in which it reports failure."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from worker.host import killing

V1 = {
    "freezer/docker/x/cgroup.procs": "0\n0\n",
    "freezer/docker/x/freezer.state": "THAWED",
    "cpu/docker/x/cpu.cfs_quota_us": "1000",
    "cpu/docker/x/cpu.shares": "64",
}
V2 = {
    "cgroup.controllers": "cpu memory pids",
    "docker/x/cgroup.procs": "0\n",
    "docker/x/cpu.max": "1000 100000",
    "docker/x/cpu.weight": "3",
}
LIFTED = {
    "cpu/docker/x/cpu.cfs_quota_us": "-100",  # written over what stood there
    "cpu/docker/x/cpu.shares": "1024",
    "docker/x/cpu.max": "max",
    "docker/x/cpu.weight": "100",
}


def laid_out(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize("files", [V1, V2], ids=["v1", "v2"])
def test_processes_outside_the_workers_view_are_left_to_the_engine(tmp_path: Path, files: dict[str, str]) -> None:
    root = laid_out(tmp_path, files)
    began = time.monotonic()
    assert not killing.kill_all(root, "x", 60)
    assert time.monotonic() - began < 30, "it does not wait for what it cannot end"


@pytest.mark.parametrize("files", [V1, V2], ids=["v1", "v2"])
def test_kill_lifts_the_cpu_quota(tmp_path: Path, files: dict[str, str]) -> None:
    root = laid_out(tmp_path, files)
    assert not killing.kill_all(root, "x", 60), "the files have no process that it can signal"
    for name in files.keys() & LIFTED.keys():
        assert (root / name).read_text().startswith(LIFTED[name][:2])


def test_empty_cgroup_counts_as_killed_and_missing_cgroup_does_not(tmp_path: Path) -> None:
    root = laid_out(tmp_path, {**V1, "freezer/docker/x/cgroup.procs": ""})
    assert killing.kill_all(root, "x")
    assert (root / "cpu/docker/x/cpu.cfs_quota_us").read_text() == "1000", "nothing is lifted for nobody"
    assert not killing.is_gone(root, "x")
    assert killing.is_gone(root, "y")
    assert not killing.kill_all(root, "y")


def test_freezer_is_always_thawed(tmp_path: Path) -> None:
    root = laid_out(tmp_path, V1)
    killing.kill_all(root, "x")
    assert (root / "freezer/docker/x/freezer.state").read_text() == "THAWED"


def test_processes_are_frozen_while_they_are_listed_and_signalled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that none of them forks a process that is missing in the list."""
    root = laid_out(tmp_path, V1)
    state = root / "freezer/docker/x/freezer.state"
    states: list[str] = []
    monkeypatch.setattr(killing, "_send", lambda _: states.append(state.read_text()))
    assert not killing.kill_all(root, "x")
    assert states == ["FROZEN"]
