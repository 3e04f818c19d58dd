"""Workers that exist only as heartbeats in Redis."""

from __future__ import annotations

from orchestrator.models.fleet import WorkerStatus
from orchestrator.store import Store
from orchestrator.store.platform.fleet import Beat


def heartbeat(store: Store, id: str, *executions: str) -> Beat:
    """One heartbeat of a worker that has those executions."""
    status = WorkerStatus(
        id=id, host="h", driver="docker", runtimes={}, environments=(), slots=1, busy=0, pool={},
        executions=executions, engine="e",
    )  # fmt: skip
    return store.fleet.heartbeat(status)
