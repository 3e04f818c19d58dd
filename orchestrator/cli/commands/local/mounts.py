"""The mounts of this mount namespace, read from ``/proc/self/mountinfo``."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Collection
from pathlib import Path

MOUNT_INFO = Path("/proc/self/mountinfo")
OCTAL = re.compile(r"\\([0-7]{3})")


def mount_points() -> list[str]:
    """Every mount point, in the order of mounting; a mount point with two mounts is listed twice."""
    lines = MOUNT_INFO.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    return [OCTAL.sub(lambda found: chr(int(found[1], 8)), line.split(" ")[4]) for line in lines]


def unmount_below(directory: str, keep: Collection[str]) -> None:
    """Unmount everything at or below a directory but ``keep``, the last mounted first; busy mounts are detached."""
    below = directory.rstrip("/") + "/"
    for point in reversed(mount_points()):
        if point not in keep and (point + "/").startswith(below):
            done = subprocess.run(["umount", point], check=False, capture_output=True)
            if done.returncode != 0:
                subprocess.run(["umount", "--lazy", point], check=False, capture_output=True)
