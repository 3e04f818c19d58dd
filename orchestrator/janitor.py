"""Puts back, expires, cleans up; one process at a time, by a lease in Redis.

Every API process tries each round; whoever holds ``mayfly:janitor`` does it. A round only uses the same compare-and-set
steps as everyone else, so two janitors at once would do no harm, only work.
"""

from __future__ import annotations

import math
import re
import secrets
import threading
import time

import structlog

from orchestrator import metrics, queue
from orchestrator.alarms import Alarms
from orchestrator.errors import MayflyError, StoreUnavailable
from orchestrator.settings import Settings
from orchestrator.states import Reason, State, errored
from orchestrator.store import Store, keys

UNSEEN_SECONDS = 5.0  # what was popped may be on its way to its claim for this long
BLOB_ROUNDS = 300
BATCH = 50  # of one script: a few look through a long queue in less than a millisecond
EXECUTION = re.compile(rb"[0-9a-f]{32}")  # an id; what else stands in Redis must not become a path
log = structlog.get_logger()


class Janitor:
    """The rounds, in a thread of their own."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._name = secrets.token_hex(8)
        self._stopped = threading.Event()
        self._rounds = 0
        self._alarms = Alarms(store) if settings.anomalies else None
        self._thread = threading.Thread(target=self._run, name="janitor", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the round that goes on."""
        self._stopped.set()
        self._thread.join()
        try:
            if self._store.redis.get(keys.JANITOR) == self._name.encode():
                self._store.redis.delete(keys.JANITOR)  # another process need not wait for it to run out
        except StoreUnavailable:
            log.info("janitor.left")

    def _run(self) -> None:
        while not self._stopped.wait(self._settings.janitor_seconds):
            try:
                if self._lease():
                    self.round(time.time())
            except StoreUnavailable:
                continue  # readiness already says so; the next round tries again
            except (MayflyError, OSError) as error:
                metrics.janitor_failures.inc()
                log.error("janitor.failed", error=type(error).__name__, detail=str(error))

    def round(self, now: float) -> None:
        """Everything once. ``now`` is in seconds since the epoch."""
        self._queued(now)
        self._active(now)
        self._expired(now)
        queue.sweep(self._store)
        for name, depth in queue.depths(self._store).items():
            metrics.queue_depth.labels(name).set(depth)
        if self._alarms:
            self._alarms.round()
        self._rounds += 1
        if self._rounds % BLOB_ROUNDS == 1:
            self._store.blobs.expire(self._settings.retention_seconds)

    def _lease(self) -> bool:
        seconds = max(1, math.ceil(3 * self._settings.janitor_seconds))
        if self._store.redis.set(keys.JANITOR, self._name, nx=True, ex=seconds):
            return True
        if self._store.redis.get(keys.JANITOR) != self._name.encode():
            return False
        return bool(self._store.redis.expire(keys.JANITOR, seconds))

    def _queued(self, now: float) -> None:
        expired = now - self._settings.queue_seconds
        for id in self._ids(keys.QUEUED, expired):
            message = f"It waited longer than {self._settings.queue_seconds:g} s in the queue."
            if self._end(id, Reason.QUEUE_EXPIRED, message, None):
                queue.withdraw(self._store, self._store.records.get(id, None))
        ids = self._ids(keys.QUEUED, now - UNSEEN_SECONDS)
        for first in range(0, len(ids), BATCH):
            metrics.janitor_actions.labels("put_back").inc(queue.put_back(self._store, *ids[first : first + BATCH]))

    def _active(self, now: float) -> None:
        """Executions whose worker is gone, or alive and no longer aware of them."""
        workers = {worker.id: set(worker.executions) for worker in self._store.fleet.alive()}
        for id in self._ids(keys.ACTIVE, now - self._settings.lease_seconds):  # a heartbeat may be older than a claim
            owner, attempt = self._store.redis.hmget(keys.execution(id), "worker", "attempt")
            if id in workers.get((owner or b"").decode(), ()):
                continue
            number = int(attempt or 0)
            if not self._store.records.get(id, None).retry:
                message = "The worker was lost, and the execution may not be started again."
                self._end(id, Reason.WORKER_LOST, message, number)
            elif self._store.records.faults(id, number) < self._settings.max_attempts:
                if self._store.records.requeue(id, number):
                    queue.put_back(self._store, id)
                    metrics.janitor_actions.labels("requeued").inc()
            else:
                message = f"The worker was lost in each of {number} attempts."
                self._end(id, Reason.WORKER_LOST, message, number)

    def _expired(self, now: float) -> None:
        for id in self._ids(keys.EXPIRY, now):
            tenant = self._store.redis.hget(keys.execution(id), "tenant")
            self._store.blobs.delete_artifacts(id)
            self._store.records.delete(id, (tenant or b"").decode())
            metrics.janitor_actions.labels("deleted").inc()

    def _end(self, id: str, reason: Reason, message: str, attempt: int | None) -> bool:
        from_states = (State.QUEUED,) if reason is Reason.QUEUE_EXPIRED else None
        done = self._store.records.end(id, errored(reason), message, attempt, from_states)
        if done:
            metrics.janitor_actions.labels(str(reason)).inc()
        return done

    def _ids(self, index: str, until: float) -> list[str]:
        found = self._store.redis.zrangebyscore(index, "-inf", until, 0, 1000)
        if strange := [id for id in found if not EXECUTION.fullmatch(id)]:
            self._store.redis.zrem(index, *strange)
            detail = (
                f"{len(strange)} entries of {index} are no executions, such as {strange[0][:64]!r}; they were removed. "
                "Somebody but Mayfly writes to Redis: see who can, then change its password."
            )
            self._store.security.add("queue_tampering", detail, tenant=None, source="janitor")
        return [id.decode() for id in found if EXECUTION.fullmatch(id)]
