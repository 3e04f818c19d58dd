"""Removes the remains of sandboxes whose broker was killed: bundles and cgroups, without processes.

Every sandbox's processes keep a lock on a file of its bundle; a bundle whose lock is free belongs to no process.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import structlog

from orchestrator.broker.sandboxes.configuration import GROUP

LOCK = "lock"
ENDING_SECONDS = 5.0
YOUNG_SECONDS = 60.0  # the sandbox of such a young bundle may still start
log = structlog.get_logger()


def sweep(bundles: Path, cgroups: Path, young_seconds: float = YOUNG_SECONDS) -> list[str]:
    """Remove bundles that no process uses, and their cgroups; the names of the bundles."""
    found = sorted(bundles.iterdir()) if bundles.is_dir() else []
    unused = [bundle for bundle in found if not is_used(bundle, young_seconds)]
    return [bundle.name for bundle in unused if remove(bundle, cgroups)]


def is_used(bundle: Path, young_seconds: float = YOUNG_SECONDS) -> bool:
    """Whether a process of the sandbox runs, or may still start."""
    try:
        descriptor = os.open(bundle / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if time.time() - os.fstat(descriptor).st_mtime < young_seconds:
            return True
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def remove(bundle: Path, cgroups: Path, seconds: float = ENDING_SECONDS) -> bool:
    """Remove a bundle whose processes have been killed, and its cgroups; false if a cgroup is left.

    The configuration, which has secrets, is removed at once; the rest stays for the next sweep while a cgroup is left.
    """
    (bundle / "config.json").unlink(missing_ok=True)
    if os.geteuid() != 0:
        _kill(bundle)
    deadline = time.monotonic() + seconds
    while left := [directory for directory in cgroups_of(cgroups, bundle.name) if not _rmdir(directory)]:
        if time.monotonic() > deadline:
            log.warning("tools.cgroup_left", cgroup=str(left[0]))
            return False
        time.sleep(0.02)  # the kernel takes a moment to end killed processes, and reports it nowhere
    shutil.rmtree(bundle, ignore_errors=True)
    return True


def _kill(bundle: Path) -> None:
    """End a rootless container, which survives crun. A container of root ends with its pid namespace."""
    command = ["crun", "--root", str(bundle / "state"), "--cgroup-manager=disabled", "delete", "--force", bundle.name]
    if (bundle / "state" / bundle.name).is_dir():
        with suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(command, check=False, capture_output=True, timeout=ENDING_SECONDS)


def cgroups_of(root: Path, name: str) -> list[Path]:
    """A sandbox's cgroups, of each version and controller, the innermost first."""
    places = [place for place in (root / GROUP / name, *root.glob(f"*/{GROUP}/{name}")) if place.is_dir()]
    # Unlike `Path.rglob`, a walk passes over a group that goes meanwhile.
    inner = [Path(above, name) for place in places for above, names, _ in os.walk(place) for name in names]
    return sorted((*places, *inner), reverse=True)


def _rmdir(directory: Path) -> bool:
    try:
        directory.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
