"""Directories of inputs are leased, filled and removed, and no name is left behind."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from orchestrator.models import StoredFile
from worker.host.hostdirs import HostDirs


@pytest.fixture
def host_dirs(tmp_path: Path) -> HostDirs:
    return HostDirs(tmp_path, "a worker", 1000, 2)


def no_blob(_: str, __: Path) -> bool:
    return False


def test_plain_inputs_are_removed_without_a_walk(
    host_dirs: HostDirs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "rmtree", None)
    lease = host_dirs.lease()
    lease.write([StoredFile(path="main.py", content="print(1)"), StoredFile(path="ä", content="")], no_blob)
    assert (lease.inputs / "main.py").read_text() == "print(1)"
    assert host_dirs.leases() == [(lease.path, "a worker")]
    host_dirs.release(lease.path)
    assert list(tmp_path.iterdir()) == []


def test_other_inputs_and_tools_are_removed_too(host_dirs: HostDirs, tmp_path: Path) -> None:
    lease = host_dirs.lease()
    lease.write([StoredFile(path="main.py", content="1"), StoredFile(path="a/b/c.txt", content="c")], no_blob)
    lease.write_tools({"x/y.md": "y"})
    assert (lease.inputs / "a/b/c.txt").read_text() == "c"
    host_dirs.release(lease.path)
    assert list(tmp_path.iterdir()) == []
    host_dirs.release(lease.path)


def test_a_released_uid_is_leased_again_once_it_is_forgotten(host_dirs: HostDirs) -> None:
    first, second = host_dirs.lease(), host_dirs.lease()
    assert {first.uid, second.uid} == {1000, 1001}
    assert host_dirs.mine == {"1000", "1001"}
    host_dirs.release(first.path)
    host_dirs.mine.discard(first.path.name)
    assert host_dirs.lease().uid == first.uid


def test_a_directory_of_another_owner_stays(host_dirs: HostDirs) -> None:
    lease = host_dirs.lease()
    host_dirs.release(lease.path, owner="another worker")
    assert host_dirs.leases() == [(lease.path, "a worker")]
