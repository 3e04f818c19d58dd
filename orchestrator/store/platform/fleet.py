"""The status of workers: one hash each, expiring with the worker's lease."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from orchestrator import __version__, features
from orchestrator.errors import StoreUnavailable
from orchestrator.models.fleet import FIRST_LEVEL, WorkerStatus
from orchestrator.store import keys, scripts
from orchestrator.store.connection import StoreConnection
from orchestrator.store.malformed import MALFORMED, report_malformed

OFFER_SECONDS = 2.0


class Beat(NamedTuple):
    """The answer to a heartbeat: whether the lease still existed, and whether an operator requested a drain."""

    known: bool
    drain: bool


class Census(NamedTuple):
    """The workers with a valid lease: readable statuses, and the ids of workers with an unreadable status."""

    workers: list[WorkerStatus]
    unreadable: frozenset[str]


class Fleet:
    """The workers that are alive. Thread-safe."""

    def __init__(self, connection: StoreConnection, lease_seconds: float) -> None:
        self._redis: Any = connection
        self._lease_seconds = lease_seconds
        self._beat = connection.script(scripts.BEAT)
        self._drain = connection.script(scripts.DRAIN)
        self._forget = connection.script(scripts.FORGET_WORKER)
        self._offered: tuple[float, frozenset[str]] = 0.0, frozenset()  # until when, monotonic

    def heartbeat(self, status: WorkerStatus) -> Beat:
        """Renew a worker's lease, or start it."""
        known, drain = self._beat(
            keys=[keys.worker(status.id), keys.WORKERS],
            args=[
                status.id,
                status.model_dump_json(),
                int(self._lease_seconds * 1000),
                __version__,
                int(status.draining),
                features.LEVEL,
            ],
        )
        return Beat(bool(known), bool(drain))

    def leave(self, id: str) -> None:
        """Remove a worker at its orderly end."""
        with self._redis.pipeline() as pipe:
            pipe.delete(keys.worker(id))
            pipe.srem(keys.WORKERS, id)
            pipe.execute()

    def drain(self, id: str, audit: str = "", *, undo: bool = False) -> bool:
        """Request the start, or the end, of a worker's drain, and append to the audit log; ``False`` if the worker is
        not alive.
        """
        return bool(self._drain(keys=[keys.worker(id)], args=[0 if undo else 1, audit]))

    def offered(self, wanted: str) -> frozenset[str]:
        """Lanes of the live workers, cached for a moment."""
        until, offered = self._offered
        if time.monotonic() >= until or wanted not in offered:
            offered = frozenset(
                lane for worker in self.alive() for lane in features.lanes(worker.runtimes, worker.level)
            )
            self._offered = time.monotonic() + OFFER_SECONDS, offered
        return offered

    def alive(self) -> list[WorkerStatus]:
        """Every worker with a valid lease and a readable status; removes workers with an expired lease."""
        return self.census().workers

    def leased(self) -> set[str]:
        """The ids of all workers with a valid lease, including unreadable statuses."""
        workers, unreadable = self.census()
        return {worker.id for worker in workers} | unreadable

    def census(self) -> Census:
        """Every worker with a valid lease; removes workers with an expired lease.

        A malformed status is reported and its worker counted as unreadable: its lease is still valid. Raises
        :class:`StoreUnavailable`.
        """
        try:
            ids = sorted(self._redis.smembers(keys.WORKERS))
        except ResponseError as error:  # no worker may be presumed dead for that reason
            report_malformed("workers", error)
            message = "The key of the set of workers has another type; the next heartbeat replaces it."
            raise StoreUnavailable(message) from error
        with self._redis.pipeline(transaction=False) as pipe:
            for id in ids:
                pipe.hmget(_worker_key(id), "status", "lease", "version", "level")
                pipe.pttl(_worker_key(id))
            answers = pipe.execute(raise_on_error=False)
        workers, unreadable = [], set()
        for id, found, left in zip(ids, answers[::2], answers[1::2], strict=True):
            if isinstance(left, int) and (left < 0 or found == [None] * 4):
                with suppress(StoreUnavailable):  # Redis may refuse writes; the live workers can still be read
                    self._forget(keys=[_worker_key(id), keys.WORKERS], args=[id])
                continue
            try:
                status, lease, version, level = found
                fields: dict[str, Any] = json.loads(status)
                fields["heartbeat_age_seconds"] = max(0, int(lease or 0) - left) / 1000
                fields["version"] = (version or b"").decode(errors="replace")
                fields["level"] = int(level or FIRST_LEVEL)
                worker = WorkerStatus.model_validate(fields)
                if worker.id != id.decode():
                    raise ValueError("the status of another worker")
            except MALFORMED as error:
                report_malformed("worker status", f"{id[:64]!r}: {type(error).__name__}: {str(found)[:64]}")
                unreadable.add(id.decode(errors="replace"))
            else:
                workers.append(worker)
        return Census(workers, frozenset(unreadable))


def _worker_key(id: bytes) -> bytes:
    return keys.worker("").encode() + id
