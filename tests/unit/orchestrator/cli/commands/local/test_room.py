"""`mayfly up` starts nothing on a disk without room."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.cli.commands.local.up import IMAGES_BYTES, check_room
from orchestrator.cli.console import CommandFailed
from orchestrator.environments import load_environments
from orchestrator.settings import Settings

LEAST = 1000


@pytest.mark.parametrize(
    ("images", "blobs", "built", "lacking"),
    [
        (LEAST, LEAST, True, None),
        (LEAST - 1, LEAST, True, "images"),
        (LEAST, LEAST - 1, True, "blobs"),
        (LEAST + IMAGES_BYTES, LEAST, False, None),
        (LEAST + IMAGES_BYTES - 1, LEAST, False, "images"),
    ],
)
def test_each_disk_needs_room_and_unbuilt_images_more(
    images: int, blobs: int, built: bool, lacking: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = {tmp_path / "images": images, tmp_path / "blobs": blobs}
    for place in free:
        place.mkdir()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free[path]))
    settings = Settings(images_dir=tmp_path / "images", blob_dir=tmp_path / "blobs", disk_free_bytes=LEAST)
    for name in load_environments(settings.environments_dirs):
        if built or name != "python":
            (settings.images_path / f"{name}.json").touch()
    if lacking is None:
        check_room(settings)
    else:
        with pytest.raises(CommandFailed, match=f"^{tmp_path / lacking} has .* nothing was started"):
            check_room(settings)
