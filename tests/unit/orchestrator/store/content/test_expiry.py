"""Removal of expired blobs from a directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.store.content.directory import DirectoryBlobs


def test_blob_that_cannot_be_removed_keeps_no_other(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path)
    for number in range(3):
        blobs.put("t", [b"%d" % number])
    first, *others = (tmp_path / "blobs" / "t").iterdir()
    first.unlink()
    first.mkdir()  # which `unlink` refuses, also for root
    for path in (first, *others):
        os.utime(path, (1, 1))
    with pytest.raises(OSError, match=first.name):
        blobs.expire(3600)
    assert list((tmp_path / "blobs" / "t").iterdir()) == [first]
