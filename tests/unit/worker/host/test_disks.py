"""Checks of free disk space."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.errors import BlobsFull
from worker.host.disks import Disks


def test_a_disk_with_room_is_no_trouble(tmp_path: Path) -> None:
    space = Disks(lambda: {"blobs": tmp_path, "inputs": tmp_path / "not" / "yet"}, 1)
    space.look()
    assert space.trouble == []


def test_full_disk_is_named(tmp_path: Path) -> None:
    space = Disks(lambda: {"blobs": tmp_path / "not" / "yet"}, 2**60)
    space.look()
    (printed,) = space.trouble
    assert printed.startswith(f"blobs ({tmp_path}): ")
    assert printed.endswith(f"{2**60} are needed")
    assert abs(int(printed.split()[2]) - shutil.disk_usage(tmp_path).free) < 2**30


@pytest.mark.parametrize(("files", "left", "trouble"), [(10**6, 1000, 0), (10**6, 999, 1), (0, 0, 0)])
def test_disk_without_room_for_files_is_named(
    files: int, left: int, trouble: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems count no files: they have no bound of them."""
    found = SimpleNamespace(f_bavail=10**9, f_frsize=4096, f_files=files, f_favail=left)
    monkeypatch.setattr(os, "statvfs", lambda path: found)
    space = Disks(lambda: {"inputs": tmp_path}, 1)
    space.look()
    assert space.trouble == [f"inputs ({tmp_path}): only 999 more files fit"] * trouble


def test_full_disk_of_the_api_stops_the_worker_for_as_long(tmp_path: Path) -> None:
    full = [True]

    def check() -> None:
        if full:
            raise BlobsFull()

    space = Disks(lambda: {"inputs": tmp_path}, 1, check)
    space.look()
    assert space.trouble == [f"blobs: {BlobsFull().message}"]
    full.clear()
    space.look()
    assert space.trouble == []
