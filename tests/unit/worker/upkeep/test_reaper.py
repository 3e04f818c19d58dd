"""A container that cannot be destroyed blocks no other, and a directory in use stays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

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


def test_own_directory_stays_while_it_is_in_use(tmp_path: Path) -> None:
    host_dirs = HostDirs(tmp_path / "sandboxes", "worker", 200_000, 10)
    driver = Directories(tmp_path / "containers", "worker")
    launcher = Launcher(driver, host_dirs, load_environments([]), "worker")
    lease = host_dirs.lease()
    assert reap(driver, launcher, host_dirs, "worker", set) == 0
    assert lease.path.exists()
    host_dirs.mine.discard(lease.path.name)
    assert reap(driver, launcher, host_dirs, "worker", set) == 1
    assert not lease.path.exists()
