"""Checks of free disk space."""

from __future__ import annotations

import shutil
from pathlib import Path

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
