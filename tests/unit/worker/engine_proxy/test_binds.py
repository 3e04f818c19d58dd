"""Mounts: the directories of the lease, and nothing that was put in their place for a moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import eventually
from worker.engine_proxy.binds import look, refuse_changes
from worker.engine_proxy.calls import Refused
from worker.host.hostdirs import HostDir, HostDirs


@pytest.fixture
def lease(tmp_path: Path) -> HostDir:
    """A lease of an earlier tick of the file system's clock, as at any start of a container."""
    made = HostDirs(tmp_path / "sandboxes", "w", 100_000, 10).lease()
    probe = tmp_path / "probe"

    def has_ticked() -> bool:
        probe.write_text("x")
        return probe.stat().st_ctime_ns > max(path.stat().st_ctime_ns for path in [made.path, *sources(made)])

    eventually(has_ticked, "the clock ticks")
    return made


def sources(lease: HostDir) -> list[Path]:
    return [lease.inputs, lease.identity, lease.identity / "hosts"]


def test_unchanged_lease_is_accepted(lease: HostDir) -> None:
    (lease.inputs / "data").write_text("x")
    refuse_changes(look(lease.path, sources(lease)), look(lease.path, sources(lease)))


@pytest.mark.parametrize("name", [".", "inputs", "identity", "identity/hosts"])
def test_link_in_place_of_any_name_is_refused(lease: HostDir, name: str) -> None:
    path = lease.path / name
    path.rename(moved := lease.path.parent / "moved")
    with pytest.raises(Refused, match="No such file"):
        look(lease.path, sources(lease))
    path.symlink_to(moved)
    with pytest.raises(Refused, match="neither a directory nor a file"):
        look(lease.path, sources(lease))


def test_link_in_place_of_a_directory_above_a_mount_is_refused(lease: HostDir) -> None:
    """Also where that directory itself is not mounted."""
    hosts = lease.identity / "hosts"
    assert look(lease.path, [hosts])
    lease.identity.rename(moved := lease.path.parent / "moved")
    lease.identity.symlink_to(moved)
    with pytest.raises(Refused, match="neither a directory nor a file"):
        look(lease.path, [hosts])


@pytest.mark.parametrize("name", [".", "inputs", "identity", "identity/hosts"])
def test_link_for_a_moment_is_found(lease: HostDir, name: str) -> None:
    """Every name is as before, by device and inode; only the times of change differ."""
    path = lease.path / name
    before = look(lease.path, sources(lease))
    path.rename(moved := lease.path.parent / "moved")
    path.symlink_to("/")
    path.unlink()
    moved.rename(path)
    after = look(lease.path, sources(lease))
    assert [one._replace(changed_ns=0) for one in before] == [one._replace(changed_ns=0) for one in after]
    with pytest.raises(Refused, match="Changed while"):
        refuse_changes(before, after)
