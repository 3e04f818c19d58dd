"""Removes a container of Docker Engine, and the remains of its runtime.

A runtime that is killed while it creates or starts a container leaves the container's cgroups behind, unknown to the
engine: runsc works inside the new cgroups, and records them only afterwards. So the cgroups of a container are removed
here, once the engine has removed the container.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import structlog

from orchestrator import metrics
from worker.drivers.docker.engine import Engine
from worker.host import killing

log = structlog.get_logger()


@dataclass(frozen=True)
class DockerOwned:
    """The handle of a container that the engine lists, this worker's or another one's."""

    name: str
    worker: str
    id: str
    engine: Engine
    cgroup_root: Path

    def destroy(self) -> None:
        remove(self.engine, self.cgroup_root, self.id)


def remove(engine: Engine, cgroup_root: Path, id: str) -> None:
    """End the remaining processes of a container, and remove the container. Raises :class:`RuntimeUnavailable`.
    Idempotent.
    """
    killing.kill_all(cgroup_root, id)
    engine.remove(id)
    remove_cgroups(cgroup_root, id)


def remove_cgroups(cgroup_root: Path, id: str) -> None:
    """Remove the cgroups that a runtime left after its container was removed; a failure is counted and logged."""
    left = killing.directories(cgroup_root, id)
    if not left:
        return
    hierarchies = [str(place) for place in left]
    try:
        done, detail = killing.removed(cgroup_root, id, killing.KILL_SECONDS), "a process is left in it"
    except OSError as error:  # a worker that may not write cgroups
        done, detail = False, str(error)
    if done:
        metrics.reaped.labels("cgroup").inc()
        log.info("reaped.cgroup", container=id, directories=hierarchies)
    else:
        metrics.cleanup_failures.inc()
        log.warning("cgroup.not_removed", container=id, directories=hierarchies, detail=detail)
