"""A container or directory that cannot be removed blocks no other, and a directory in use stays."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

import pytest
import structlog
from prometheus_client import REGISTRY

from orchestrator.environments import load_environments
from orchestrator.errors import RuntimeUnavailable
from tests.chaos.installations.directories import Container, Directories
from worker.drivers.base import Owned
from worker.host.hostdirs import HostDirs
from worker.pool.launcher import Launcher
from worker.upkeep.reaper import reap


class StuckContainer(Container):
    """It does not go."""

    def destroy(self) -> None:
        raise RuntimeUnavailable("It does not go.")


class Stuck(Directories):
    """One of whose containers does not go."""

    stuck = "stuck"

    def owned(self) -> Sequence[Owned]:
        return [StuckContainer(path) if path.name == self.stuck else Container(path) for path in self._root.glob("*/*")]


class BusyDirectories(HostDirs):
    """One of whose directories is in use, for example by a mount."""

    busy: Path | None = None

    def release(self, path: Path, owner: str | None = None) -> None:
        if path == self.busy:
            raise OSError(errno.EBUSY, "In use", str(path))
        super().release(path, owner)


def failures() -> float:
    """The removals that failed in this process."""
    return REGISTRY.get_sample_value("mayfly_cleanup_failures_total") or 0.0


def test_stuck_container_blocks_no_other_and_keeps_directories(tmp_path: Path) -> None:
    for name in ("first", "stuck", "third", "fourth"):
        (tmp_path / "containers" / "dead" / name).mkdir(parents=True)
    dead = HostDirs(tmp_path / "sandboxes", "dead", 200_000, 10)
    lease = dead.lease()
    driver = Stuck(tmp_path / "containers", "worker")
    host_dirs = HostDirs(tmp_path / "sandboxes", "worker", 200_000, 10)
    launcher = Launcher(driver, host_dirs, load_environments([]), "worker")
    with pytest.raises(RuntimeUnavailable):
        reap(driver, launcher, host_dirs, "worker", set)
    assert [one.name for one in driver.owned()] == ["stuck"]
    assert lease.path.exists()  # it is the lease of a uid, which may be the one that is left
    driver.stuck = ""
    assert reap(driver, launcher, host_dirs, "worker", set) == 2
    assert driver.owned() == []
    assert not lease.path.exists()


def test_busy_directory_blocks_no_other_and_is_reported(tmp_path: Path) -> None:
    dead = HostDirs(tmp_path / "sandboxes", "dead", 200_000, 10)
    paths = sorted(dead.lease().path for _ in range(3))
    driver = Directories(tmp_path / "containers", "worker")
    host_dirs = BusyDirectories(tmp_path / "sandboxes", "worker", 200_000, 10)
    launcher = Launcher(driver, host_dirs, load_environments([]), "worker")
    host_dirs.busy = paths[0]
    before = failures()
    with structlog.testing.capture_logs() as logs:
        assert reap(driver, launcher, host_dirs, "worker", set) == 2
    assert [path for path in paths if path.exists()] == [paths[0]]
    assert failures() == before + 1
    [reported] = [one for one in logs if one["event"] == "directory.not_removed"]
    assert (reported["owner"], str(paths[0]) in reported["detail"]) == ("dead", True)
    host_dirs.busy = None
    assert reap(driver, launcher, host_dirs, "worker", set) == 1
    assert not paths[0].exists()


def test_file_among_the_directories_blocks_no_directory(tmp_path: Path) -> None:
    dead = HostDirs(tmp_path / "sandboxes", "dead", 200_000, 10)
    lease = dead.lease()
    (file := tmp_path / "sandboxes" / "0").write_text("not a lease")
    before = failures()
    driver = Directories(tmp_path / "containers", "worker")
    host_dirs = HostDirs(tmp_path / "sandboxes", "worker", 200_000, 10)
    launcher = Launcher(driver, host_dirs, load_environments([]), "worker")
    assert reap(driver, launcher, host_dirs, "worker", set) == 1
    assert not lease.path.exists()
    assert (file.read_text(), failures()) == ("not a lease", before), "it is left alone"


def test_used_directory_of_this_worker_stays(tmp_path: Path) -> None:
    host_dirs = HostDirs(tmp_path / "sandboxes", "worker", 200_000, 10)
    driver = Directories(tmp_path / "containers", "worker")
    launcher = Launcher(driver, host_dirs, load_environments([]), "worker")
    lease = host_dirs.lease()
    assert reap(driver, launcher, host_dirs, "worker", set) == 0
    assert lease.path.exists()
    host_dirs.mine.discard(lease.path.name)
    assert reap(driver, launcher, host_dirs, "worker", set) == 1
    assert not lease.path.exists()
