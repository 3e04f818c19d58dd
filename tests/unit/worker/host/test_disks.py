"""Whether a host's disks have room."""

from __future__ import annotations

import shutil
from pathlib import Path

from worker.host.disks import Disks


def test_a_disk_with_room_is_no_trouble(tmp_path: Path) -> None:
    space = Disks(lambda: {"blobs": tmp_path, "inputs": tmp_path / "not" / "yet"}, 1)
    space.look()
    assert space.trouble == []


def test_a_full_one_is_named(tmp_path: Path) -> None:
    space = Disks(lambda: {"blobs": tmp_path / "not" / "yet"}, 2**60)
    space.look()
    (said,) = space.trouble
    assert said.startswith(f"blobs ({tmp_path}): ")
    assert said.endswith(f"{2**60} are needed")
    assert abs(int(said.split()[2]) - shutil.disk_usage(tmp_path).free) < 2**30
