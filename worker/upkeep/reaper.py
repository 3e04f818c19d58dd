"""Destroys orphans: containers, and host directories with their uids.

A container of this installation belongs to the worker that its label names. The reaper destroys a container of this
worker that is no longer in use, and a container of a worker whose lease has expired. It never touches containers
without the installation's label.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

import structlog

from orchestrator import metrics
from orchestrator.errors import RuntimeUnavailable
from worker.drivers.base import Driver
from worker.host.hostdirs import HostDirs
from worker.pool.launcher import Launcher

log = structlog.get_logger()


def reap(driver: Driver, launcher: Launcher, host_dirs: HostDirs, worker: str, alive: Callable[[], set[str]]) -> int:
    """Destroy orphans; returns their number. ``alive`` returns the workers with a valid lease.

    Leases and containers are listed before the live workers and this worker's containers, so a container in the making,
    even by a new worker, is never taken for an orphan. Directories are destroyed only after all containers, since a
    directory is the lease of a uid. A container or directory that cannot be destroyed does not stop the others; such a
    directory is counted and logged. The order is random, so that concurrent reapers do not all start with the same
    container. Raises :class:`RuntimeUnavailable` if the engine does not answer or a container is left, and the
    exceptions of ``alive``.
    """
    leases = host_dirs.leases()
    containers = list(driver.owned())
    living = alive()
    ours = set(launcher.live)
    directories = set(host_dirs.mine)
    reaped = 0
    left: RuntimeUnavailable | None = None
    secrets.SystemRandom().shuffle(containers)
    for container in containers:
        if container.name in ours or (container.worker != worker and container.worker in living):
            continue
        try:
            container.destroy()
        except RuntimeUnavailable as error:
            left = error
            continue
        metrics.reaped.labels("container").inc()
        log.info("reaped.container", container=container.name, worker=container.worker)
        reaped += 1
    if left is not None:
        raise left
    for path, owner in leases:
        if path.name in directories or (owner != worker and owner in living):
            continue
        try:
            host_dirs.release(path, owner)
        except OSError as error:
            metrics.cleanup_failures.inc()
            log.warning("directory.not_removed", owner=owner, detail=str(error))
            continue
        metrics.reaped.labels("directory").inc()
        reaped += 1
    return reaped
