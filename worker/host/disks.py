"""Checks that this host's disks, and the API where that has the contents, have room for another execution's files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from orchestrator.errors import BlobsUnavailable
from orchestrator.host.posture.facts import existing

LEAST_FILES = 1000


class Disks:
    """Watches file systems; ``places`` gives a path on each, and ``least_bytes`` must be free on each. ``contents``
    raises :class:`BlobsUnavailable` while contents elsewhere cannot be stored.
    """

    def __init__(
        self,
        places: Callable[[], Mapping[str, Path]],
        least_bytes: int,
        contents: Callable[[], None] = lambda: None,
    ) -> None:
        self._places, self._contents = places, contents
        self._least_bytes = least_bytes
        self.trouble: list[str] = []

    def look(self) -> None:
        """Check all disks; afterwards ``trouble`` names each full disk with its free and its required bytes."""
        found = [message for name, path in self._places().items() if (message := self._trouble_of(name, path))]
        try:
            self._contents()
        except BlobsUnavailable as error:
            found.append(f"blobs: {error.message}")
        self.trouble = found

    def _trouble_of(self, name: str, path: Path) -> str | None:
        path = existing(path)
        try:
            found = os.statvfs(path)
        except OSError as error:
            return f"{name} ({path}): {error.strerror}"
        free = found.f_bavail * found.f_frsize
        if free < self._least_bytes:
            return f"{name} ({path}): {free} bytes are free, {self._least_bytes} are needed"
        if found.f_files and found.f_favail < LEAST_FILES:
            return f"{name} ({path}): only {found.f_favail} more files fit"
        return None
