"""What workers say of themselves: one hash each, gone when its lease runs out."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any, NamedTuple

from pydantic import Field

from orchestrator.errors import StoreUnavailable
from orchestrator.models import Frozen
from orchestrator.store import keys, scripts
from orchestrator.store.connection import StoreConnection


class EnvironmentOffer(Frozen):
    """An environment as one worker has it."""

    name: str
    image: str
    size_bytes: int


class WorkerStatus(Frozen):
    """One heartbeat. ``heartbeat_age_seconds`` is filled in by the reader.

    ``attribution`` is where the worker reads what the kernel denied: ``audit``, ``kernel log``, or ``reduced`` where it
    can read neither and has to infer.
    """

    id: str
    host: str
    driver: str
    runtimes: dict[str, str]
    environments: tuple[EnvironmentOffer, ...]
    slots: int
    busy: int
    pool: dict[str, int] = Field(description="Warm containers that wait now, by environment.")
    warm_starts: int = Field(0, description="Sandboxes taken from the warm pool since this worker started.")
    cold_starts: int = Field(0, description="Sandboxes that had to be made while their execution waited.")
    executions: tuple[str, ...]
    engine: str
    attribution: str = "reduced"
    draining: bool = False
    weaker: tuple[str, ...] = Field((), description="Findings of a broken promise that its operator accepted.")
    trouble: tuple[str, ...] = Field((), description="Why it takes nothing, or nothing of an isolation, for now.")
    heartbeat_age_seconds: float = 0.0


OFFER_SECONDS = 2.0


class Beat(NamedTuple):
    """What a worker hears back: whether its lease was there still, and whether an operator asked it to drain."""

    known: bool
    drain: bool


class Fleet:
    """The workers that are alive. Thread-safe."""

    def __init__(self, connection: StoreConnection, lease_seconds: float) -> None:
        self._redis: Any = connection
        self._lease_seconds = lease_seconds
        self._beat = connection.script(scripts.BEAT)
        self._forget = connection.script(scripts.FORGET_WORKER)
        self._offered: tuple[float, frozenset[str]] = 0.0, frozenset()  # until when, monotonic

    def heartbeat(self, status: WorkerStatus) -> Beat:
        """Renew a worker's lease, or begin one."""
        known, drain = self._beat(
            keys=[keys.worker(status.id), keys.WORKERS],
            args=[status.id, status.model_dump_json(), int(self._lease_seconds * 1000)],
        )
        return Beat(bool(known), bool(drain))

    def leave(self, id: str) -> None:
        """A worker ended in good order."""
        with self._redis.pipeline() as pipe:
            pipe.delete(keys.worker(id))
            pipe.srem(keys.WORKERS, id)
            pipe.execute()

    def drain(self, id: str) -> bool:
        """Ask a worker to take no more; ``False`` if it is not alive."""
        if not self._redis.exists(keys.worker(id)):
            return False
        self._redis.hset(keys.worker(id), "drain", 1)
        return True

    def offered(self, wanted: str) -> frozenset[str]:
        """Isolation tiers of the live workers. What one had a moment ago is taken to be there still."""
        until, offered = self._offered
        if time.monotonic() >= until or wanted not in offered:
            offered = frozenset(tier for worker in self.alive() for tier in worker.runtimes)
            self._offered = time.monotonic() + OFFER_SECONDS, offered
        return offered

    def alive(self) -> list[WorkerStatus]:
        """Every worker whose lease holds; forgets those whose lease ran out."""
        ids = sorted(id.decode() for id in self._redis.smembers(keys.WORKERS))
        with self._redis.pipeline(transaction=False) as pipe:
            for id in ids:
                pipe.hmget(keys.worker(id), "status", "lease")
                pipe.pttl(keys.worker(id))
            answers = pipe.execute()
        workers = []
        for id, (status, lease), left in zip(ids, answers[::2], answers[1::2], strict=True):
            if status is None or left < 0:
                with suppress(StoreUnavailable):  # it may take no writes; who is alive can be told nevertheless
                    self._forget(keys=[keys.worker(id), keys.WORKERS], args=[id])
                continue
            said: dict[str, Any] = json.loads(status)
            said["heartbeat_age_seconds"] = max(0, int(lease or 0) - left) / 1000
            workers.append(WorkerStatus.model_validate(said))
        return workers
