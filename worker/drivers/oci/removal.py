"""Removes a container of an OCI runtime, and the remains of its runtime; the system's errors become ours.

A runtime that was killed while it started a container has no record of the cgroups it had made; the worker removes
those cgroups itself.
"""

from __future__ import annotations

import errno
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from orchestrator import metrics
from orchestrator.errors import RuntimeUnavailable
from orchestrator.host import oci
from orchestrator.host.rootfs import release
from orchestrator.settings import Settings
from worker.host import cgroups, killing

END_SECONDS = 10.0
log = structlog.get_logger()


@dataclass(frozen=True)
class OciOwned:
    """The handle of a container by its bundle, this worker's or another one's."""

    bundle: Path
    settings: Settings
    own_bundles: Path

    @property
    def name(self) -> str:
        return self.bundle.name

    @property
    def worker(self) -> str:
        return self.bundle.parent.name

    def destroy(self) -> None:
        with translated("remove"):
            delete(self.settings, self.bundle)
            remove(self.settings, self.bundle)
            if self.bundle.parent != self.own_bundles:
                _remove_empty(self.bundle.parent)


def delete(settings: Settings, bundle: Path) -> None:
    """Have the runtime remove its part of a container. Raises :class:`RuntimeUnavailable` if the container remains."""
    runtime = oci.left(settings, bundle)
    if runtime is None:
        return
    if not oci.delete(runtime, bundle.name) or not killing.removed(settings.cgroup_root, bundle.name, END_SECONDS):
        raise RuntimeUnavailable(f"The runtime {runtime.name} did not remove its container.")


def remove(settings: Settings, bundle: Path) -> None:
    """Remove what the driver made for a container, after its runtime has removed the container. Raises ``OSError``.
    Idempotent.
    """
    if oci.unified_mount(settings.cgroup_root) is None:  # on a hybrid host, crun makes a directory in its place
        _remove(settings.cgroup_root / "unified" / cgroups.OURS / bundle.name)
    release(bundle / "root")
    _remove(bundle)


@contextmanager
def translated(call: str) -> Iterator[None]:
    """Translate the system's errors into Mayfly's."""
    try:
        yield
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        metrics.engine_errors.labels(call).inc()
        log.warning("engine.failed", call=call, detail=str(error)[:1000])
        raise RuntimeUnavailable(f"The container runtime failed to {call}.") from error


def _remove(directory: Path) -> None:
    """Remove a directory, possibly concurrently with other workers."""
    while directory.exists():
        with suppress(FileNotFoundError):
            shutil.rmtree(directory)


def _remove_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise
