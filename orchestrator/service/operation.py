"""The use cases of operators: workers, queues, readiness."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from orchestrator import queue
from orchestrator.audit import Writer
from orchestrator.errors import MayflyError, NotFound
from orchestrator.host.supervision import read_report, remarks
from orchestrator.identity import Principal
from orchestrator.models.fleet import WorkerStatus
from orchestrator.store import Store, keys


class Readiness(NamedTuple):
    """The checks, each ``ok`` or its failure, and further remarks for an operator."""

    checks: dict[str, str]
    details: dict[str, str]

    @property
    def is_ready(self) -> bool:
        """Whether executions can run now."""
        return all(value == "ok" for value in self.checks.values())


class Operation:
    """Reads the state of the installation, over one store. Thread-safe."""

    def __init__(self, store: Store, audit: Writer, state_dir: Path, lacking: tuple[str, ...] = ()) -> None:
        """``state_dir`` has the report of the supervisor of `mayfly up`, where there is one."""
        self._store, self._audit, self._state_dir, self._lacking = store, audit, state_dir, lacking

    def workers(self) -> list[WorkerStatus]:
        """Every live worker."""
        return self._store.fleet.alive()

    def drain(self, principal: Principal, id: str, *, undo: bool = False) -> None:
        """Drain a worker, or end its drain: a draining worker finishes its executions, takes no more and removes its
        warm containers. Raises :class:`NotFound`.
        """
        action = "fleet.undrain" if undo else "fleet.drain"
        if not self._store.fleet.drain(id, self._audit.entry(principal, action, f"worker/{id}"), undo=undo):
            raise NotFound(f"There is no live worker {id!r}.")

    def depths(self) -> dict[str, int]:
        """The number of queued executions, by priority."""
        return queue.depths(self._store)

    def counts(self) -> dict[str, int]:
        """The number of queued and active executions."""
        return self._store.records.counts()

    def readiness(self) -> Readiness:
        """Whether Redis answers, blobs can be written, and a worker with a working engine is alive."""
        checks: dict[str, str] = {}
        details: dict[str, str] = {}
        unconfined = {"api": self._lacking} if self._lacking else {}
        if restarts := remarks(read_report(self._state_dir)):
            details["restarts"] = restarts
        try:
            self._store.redis.ping()
            checks["redis"] = "ok"
            if restoring := self._store.redis.get(keys.RESTORING):
                backup = restoring.decode(errors="replace")
                checks["restore"] = f"the restore of backup {backup} has not ended; if it was interrupted, run it again"
            if off := sorted(self._store.switches.off()):
                details["switched_off"] = ", ".join(off)
            alive = self.workers()
            able = any(worker.engine != "unavailable" and not worker.trouble for worker in alive)
            checks["workers"] = "ok" if able else "no live worker takes executions"
            if troubled := [f"{worker.id}: {reason}" for worker in alive for reason in worker.trouble]:
                details["trouble"] = "; ".join(troubled)
            if reduced := [worker.id for worker in alive if worker.attribution == "reduced"]:
                details["attribution"] = f"reduced, the kernel's audit records cannot be read on: {', '.join(reduced)}"
            unconfined |= {worker.id: worker.lacking for worker in alive if worker.lacking}
            self._store.own_blobs.check_writable()
            checks["blobs"] = "ok"
        except MayflyError as error:
            checks[error.code] = error.message
        if unconfined:
            details["confinement"] = "; ".join(f"{name} lacks {', '.join(parts)}" for name, parts in unconfined.items())
        return Readiness(checks, details)
