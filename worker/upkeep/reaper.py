"""What nobody owns is destroyed: containers, and host directories with their uids.

A container of this installation belongs to the worker its label names. It may be destroyed when that worker is this one
and does not answer for it, or when the worker's lease has run out. Nothing without the installation's label is touched.
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
    """Destroy what nobody owns; return how much it was. ``alive`` gives the workers whose lease holds.

    Leases and containers are listed before it is asked who is alive and what this worker answers for, so one that is
    just being made, maybe by a worker that has just come, is never taken for an orphan. Containers go first, and
    directories only after all of them, since a directory is the lease of a uid. One that cannot be destroyed keeps no
    other from it; they come in any order, so that workers who reap at once do not all begin with the same. Raises
    :class:`RuntimeUnavailable` when the engine does not answer or one is left, and what ``alive`` raises.
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
        if path in directories or (owner != worker and owner in living):
            continue
        host_dirs.release(path, owner)
        metrics.reaped.labels("directory").inc()
        reaped += 1
    return reaped
